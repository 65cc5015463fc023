//! Synch messages.

use etherparse::{IpNumber, LaxNetSlice, LaxSlicedPacket, UdpSlice};
use ipos_proto::Ethernet;
use ipos_proto::synch::{
    Cookie, Identity, Listen, Object, Performance, Process, Record, SYNCH_MAGIC, State, Subject,
    SynchHeader, SynchMessage,
};
use serde_json::{Value, json};

use super::describe::{Description, Protocol, ethernet_fields, hex, names};

/// Describes an Ethernet frame that carries a Synch message; `None` when it does not.
pub(super) fn captured(frame: &[u8], ethernet: &Ethernet) -> Option<Description> {
    // Lax, since a capture may have cut the frame: the message then says where it ends.
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(LaxNetSlice::Ipv4(ipv4)) = &packet.net else {
        return None;
    };
    let payload = ipv4.payload();
    if payload.ip_number != IpNumber::UDP || payload.fragmented {
        return None;
    }
    let udp = UdpSlice::from_slice_lax(payload.payload).ok()?;
    let message = udp.payload();
    if !message.starts_with(&SYNCH_MAGIC) {
        return None;
    }
    let mut description = Description::new(Protocol::Synch, "Ethernet frame");
    description.put("ethernet", ethernet_fields(ethernet));
    let header = ipv4.header();
    description.put(
        "ip",
        json!({ "source": header.source_addr(), "destination": header.destination_addr() }),
    );
    description.put(
        "udp",
        json!({
            "source_port": udp.source_port(),
            "destination_port": udp.destination_port(),
            "length": udp.length(),
        }),
    );
    // Both slices are of `frame`, the message the later one.
    let base = message
        .as_ptr()
        .addr()
        .saturating_sub(frame.as_ptr().addr());
    describe(&mut description, message, base);
    Some(description)
}

/// Describes a Synch message, `base` bytes into what was given.
pub(super) fn describe(description: &mut Description, bytes: &[u8], base: usize) {
    let header = match SynchHeader::parse(bytes) {
        Ok((header, _)) => header,
        Err(error) => return description.put_wire_error(error.offset_by(base)),
    };
    let message = SynchMessage::parse(bytes);
    let SynchHeader {
        kind,
        flags,
        incarnation,
        sequence,
        part,
        parts,
        records_len,
    } = header;
    let tag = message.ok().and_then(|message| message.tag());
    let records: Vec<Value> = match &message {
        Ok(message) => message
            .records()
            .map(|record| record_fields(&record))
            .collect(),
        Err(_) => Vec::new(),
    };
    description.put(
        "synch",
        json!({
            "version": 1,
            "kind": kind as u8,
            "kind_name": kind.to_string(),
            "flags": flags.bits(),
            "flags_name": names(flags.iter_names().map(|(name, _)| name)),
            "incarnation": incarnation,
            "sequence_number": sequence,
            "part": part,
            "parts": parts,
            "records_length": records_len,
            "records": records,
            "tag": tag.map(|tag| hex(&tag)),
        }),
    );
    if let Err(error) = message {
        description.put_wire_error(error.offset_by(base));
    }
}

fn record_fields(record: &Record<'_>) -> Value {
    match record {
        Record::State(State {
            connections,
            cpu,
            free_memory,
            free_bandwidth,
        }) => json!({
            "record": "STATE",
            "connections": connections,
            "cpu": cpu,
            "free_memory": free_memory,
            "free_bandwidth": free_bandwidth,
        }),
        Record::Identity(Identity {
            name,
            port_b,
            hardware,
            port_a,
        }) => json!({
            "record": "IDENTITY",
            "name": name,
            "port_b_address": port_b,
            "port_b_hardware_address": hardware.to_string(),
            "port_a_addresses": port_a.as_slice(),
        }),
        Record::Listen(Listen {
            address,
            protocol,
            service,
        }) => json!({
            "record": "LISTEN",
            "address": address.ip(),
            "port": address.port(),
            "protocol": *protocol as u8,
            "protocol_name": protocol.to_string(),
            "service": service,
        }),
        Record::Process(Process { pid, address, name }) => json!({
            "record": "PROCESS",
            "process_id": pid,
            "address": address.ip(),
            "port": address.port(),
            "name": name,
        }),
        Record::Object(Object {
            id,
            address,
            shadow,
        }) => json!({
            "record": "OBJECT",
            "object_id": id,
            "address": address,
            "shadow_object_id": shadow.map(|shadow| shadow.id),
            "shadow_address": shadow.map(|shadow| shadow.address),
        }),
        Record::Cookie(Cookie {
            session,
            server,
            lifetime_ms,
        }) => json!({
            "record": "COOKIE",
            "action": "set",
            "session_id": hex(session),
            "server": server,
            "lifetime": lifetime_ms,
        }),
        Record::CookieRemoved(session) => json!({
            "record": "COOKIE",
            "action": "removed",
            "session_id": hex(session),
        }),
        Record::Performance(Performance {
            subject,
            cpu,
            memory,
        }) => {
            let (subject, id) = match *subject {
                Subject::Process(pid) => ("process", u64::from(pid)),
                Subject::Object(id) => ("object", id),
            };
            let record = "PERFORMANCE";
            json!({ "record": record, "subject": subject, "id": id, "cpu": cpu, "memory": memory })
        }
        Record::Stored(package) => json!({ "record": "STORED", "package": package }),
        // The crate may learn new records before this program does.
        other => json!({ "record": format!("{other:?}") }),
    }
}
