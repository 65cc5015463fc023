//! From bytes to the description of a frame.

use ipos_proto::synch::SYNCH_MAGIC;
use ipos_proto::{
    CONTROL_BLOCK_LEN, ConnectionInfo, ControlBlock, Ethernet, Frame, FrameType, HEADER_LEN,
    Header, Layer, MacAddr, Message, Trailer, WireError,
};
use serde_json::{Value, json};

use super::{Fields, packet, synch};

/// Offsets in the ipOS header.
const TYPE_AT: usize = 12;
const PROTOCOL_AT: usize = 13;
const CHECKSUM_AT: usize = 14;
/// IEEE 802.1Q and 802.1ad: four bytes, of which the last two say what follows.
const VLAN_TAGS: [u16; 2] = [0x8100, 0x88a8];

/// What a frame is a frame of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Ipos,
    Synch,
    Unknown,
}

/// All that there is to say about one frame.
#[derive(Debug)]
pub(super) struct Description {
    pub(super) protocol: Protocol,
    pub(super) fields: Fields,
}

impl Description {
    pub(super) fn new(protocol: Protocol, taken_as: &str) -> Self {
        let mut fields = Fields::new();
        fields.insert("taken_as".into(), taken_as.into());
        Self { protocol, fields }
    }

    /// Adds a layer.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        self.fields.insert(name.into(), value);
    }

    /// Adds the reason why the frame is malformed.
    pub(super) fn put_error(&mut self, layer: &str, offset: usize, reason: &str) {
        self.put(
            "error",
            json!({ "layer": layer, "offset": offset, "reason": reason }),
        );
    }

    pub(super) fn put_wire_error(&mut self, error: WireError) {
        let layer = error.layer().to_string();
        self.put_error(&layer, error.offset(), &error.kind().to_string());
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.fields.contains_key("error")
    }

    /// A few words for a heading.
    pub(super) fn title(&self) -> String {
        let (protocol, layer, field) = match self.protocol {
            Protocol::Ipos => ("ipOS", "header", "type_name"),
            Protocol::Synch => ("Synch", "synch", "kind_name"),
            Protocol::Unknown => ("unknown", "", ""),
        };
        let name = self
            .fields
            .get(layer)
            .and_then(|layer| layer.get(field)?.as_str());
        let malformed = self.is_malformed().then_some("malformed");
        let words = [Some(protocol), name, malformed];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Describes a captured Ethernet frame, with VLAN tags or without; `None` when it is neither ipOS nor Synch.
pub(super) fn captured(bytes: &[u8], ethertype: u16) -> Option<Description> {
    let (ethernet, rest) = untagged(bytes).ok()?;
    if ethernet.ethertype != ethertype {
        return synch::captured(bytes, &ethernet);
    }
    let mut description = Description::new(Protocol::Ipos, "Ethernet frame");
    description.put("ethernet", ethernet_fields(&ethernet));
    describe_ipos(&mut description, rest, bytes.len() - rest.len());
    Some(description)
}

/// An Ethernet frame's header, with the type that is behind its VLAN tags, and what follows them.
fn untagged(bytes: &[u8]) -> Result<(Ethernet, &[u8]), WireError> {
    let (mut ethernet, mut rest) = Ethernet::parse(bytes)?;
    while VLAN_TAGS.contains(&ethernet.ethertype)
        && let Some((&[_, _, high, low], inner)) = rest.split_first_chunk()
    {
        ethernet.ethertype = u16::from_be_bytes([high, low]);
        rest = inner;
    }
    Ok((ethernet, rest))
}

/// Describes bytes of which nobody has said what they are: an Ethernet frame, or bytes from the
/// ipOS header on, or a Synch message.
pub(super) fn given(bytes: &[u8], ethertype: u16) -> Description {
    if let Some(description) = captured(bytes, ethertype) {
        return description;
    }
    let header = Header::parse(bytes);
    // With a type and protocol of ours in their places, a header that does not verify is damaged.
    let [kind, protocol] = [TYPE_AT, PROTOCOL_AT].map(|at| bytes.get(at).copied());
    let looks_like_ours = kind.and_then(FrameType::from_u8).is_some()
        && protocol.and_then(ipos_proto::Protocol::from_u8).is_some();
    if header.is_ok() || looks_like_ours {
        let mut description = Description::new(Protocol::Ipos, "bytes from the ipOS header on");
        describe_ipos(&mut description, bytes, 0);
        return description;
    }
    if bytes.starts_with(&SYNCH_MAGIC) {
        let mut description = Description::new(Protocol::Synch, "Synch message");
        synch::describe(&mut description, bytes, 0);
        return description;
    }
    let mut description = Description::new(Protocol::Unknown, "Ethernet frame");
    let layer = Layer::Ethernet.to_string();
    let others = "and neither an ipOS header nor a Synch message is here either";
    match untagged(bytes) {
        Ok((ethernet, rest)) => {
            description.put("ethernet", ethernet_fields(&ethernet));
            let actual = ethernet.ethertype;
            let reason = format!("type must be {ethertype:#06x}, is {actual:#06x}; {others}");
            let type_at = (bytes.len() - rest.len()).saturating_sub(size_of::<u16>());
            description.put_error(&layer, type_at, &reason);
        }
        Err(error) => {
            let reason = format!("{}; {others}", error.kind());
            description.put_error(&layer, error.offset(), &reason);
        }
    }
    description
}

pub(super) fn ethernet_fields(ethernet: &Ethernet) -> Value {
    let Ethernet {
        destination,
        source,
        ethertype,
    } = ethernet;
    let text = |address: &MacAddr| address.to_string();
    json!({ "destination": text(destination), "source": text(source), "type": ethertype })
}

/// Describes what starts with an ipOS header, `base` bytes into what was given.
fn describe_ipos(description: &mut Description, bytes: &[u8], base: usize) {
    let header = Header::parse(bytes);
    if let Ok((header, _)) = &header {
        let checksum = bytes
            .get(CHECKSUM_AT..)
            .and_then(|field| field.first_chunk());
        let checksum = checksum.map(|field| u16::from_be_bytes(*field));
        description.put(
            "header",
            json!({
                "client_address": header.client.ip(),
                "client_port": header.client.port(),
                "destination": header.destination,
                "port": header.port,
                "type": header.frame_type as u8,
                "type_name": header.frame_type.to_string(),
                "protocol": header.protocol as u8,
                "protocol_name": header.protocol.to_string(),
                "checksum": checksum,
            }),
        );
    }
    match header.and_then(|_| Frame::parse(bytes)) {
        Ok(frame) => describe_message(description, &frame, base),
        Err(error) => description.put_wire_error(error.offset_by(base)),
    }
}

fn describe_message(description: &mut Description, frame: &Frame<'_>, base: usize) {
    match frame.message {
        Message::Endpoint { connection, .. } => {
            let first = connection.first();
            description.put(
                "connection_information",
                json!({ "first_server_address": first.ip(), "first_server_port": first.port() }),
            );
            if let ConnectionInfo::Tcp { control, .. } = connection {
                description.put("control_block", control_block(&control));
            }
        }
        Message::Packet(bytes) => packet::describe(description, bytes, base + HEADER_LEN),
        Message::Move { target, .. } | Message::Moved { target, .. } => {
            let fields = json!({ "port_b_address": target.ip(), "port": target.port() });
            description.put("named_server", fields);
        }
        Message::Acknowledgement { .. } | Message::Release { .. } | Message::Refuse { .. } => {}
    }
    if let Some(trailer) = frame.message.trailer() {
        description.put("trailer", trailer_fields(trailer));
    }
}

fn control_block(block: &ControlBlock) -> Value {
    let ControlBlock {
        state,
        flags,
        epoch,
        snd_wscale,
        rcv_wscale,
        dupacks,
        rxtshift,
        snd_mss,
        rcv_mss,
        iss,
        snd_una,
        snd_nxt,
        snd_max,
        snd_wnd,
        snd_wl1,
        snd_wl2,
        max_sndwnd,
        cwnd,
        ssthresh,
        recover,
        irs,
        rcv_nxt,
        rcv_wnd,
        rcv_adv,
        last_ack_sent,
        srtt,
        rttvar,
        rto,
        rtt_min,
        ts_recent,
        ts_recent_age,
        tsval,
        timer,
        timer_left,
        idle,
        rcv_up,
        oob_flags,
        oob_byte,
    } = *block;
    let [version, ..]: [u8; CONTROL_BLOCK_LEN] = block.to_bytes();
    let names = names(flags.iter_names().map(|(name, _)| name));
    // In pieces, since the macro recurses for every field.
    let mut all = Fields::new();
    let mut put = |fields: Value| {
        if let Value::Object(fields) = fields {
            all.extend(fields);
        }
    };
    put(json!({
        "version": version,
        "state": state as u8,
        "state_name": state.to_string(),
        "flags": flags.bits(),
        "flags_name": names,
        "epoch": epoch.raw(),
        "snd_wscale": snd_wscale,
        "rcv_wscale": rcv_wscale,
        "dupacks": dupacks,
        "rxtshift": rxtshift,
        "snd_mss": snd_mss,
        "rcv_mss": rcv_mss,
    }));
    put(json!({
        "iss": iss.raw(),
        "snd_una": snd_una.raw(),
        "snd_nxt": snd_nxt.raw(),
        "snd_max": snd_max.raw(),
        "snd_wnd": snd_wnd,
        "snd_wl1": snd_wl1.raw(),
        "snd_wl2": snd_wl2.raw(),
        "max_sndwnd": max_sndwnd,
        "cwnd": cwnd,
        "ssthresh": ssthresh,
        "recover": recover.raw(),
    }));
    put(json!({
        "irs": irs.raw(),
        "rcv_nxt": rcv_nxt.raw(),
        "rcv_wnd": rcv_wnd,
        "rcv_adv": rcv_adv.raw(),
        "last_ack_sent": last_ack_sent.raw(),
    }));
    put(json!({
        "srtt": srtt,
        "rttvar": rttvar,
        "rto": rto,
        "rtt_min": rtt_min,
        "ts_recent": ts_recent,
        "ts_recent_age": ts_recent_age,
        "tsval": tsval,
        "timer": timer as u8,
        "timer_name": timer.to_string(),
        "timer_left": timer_left,
        "idle": idle,
    }));
    put(json!({ "rcv_up": rcv_up.raw(), "oob_flags": oob_flags, "oob_byte": oob_byte }));
    all.into()
}

fn trailer_fields(trailer: &Trailer) -> Value {
    let Trailer {
        flags,
        epoch,
        rcv_nxt,
        incarnation,
        number,
        tag,
    } = *trailer;
    json!({
        "version": 1,
        "length": trailer.wire_len(),
        "flags": flags.bits(),
        "flags_name": names(flags.iter_names().map(|(name, _)| name)),
        "epoch": epoch.raw(),
        "rcv_nxt": rcv_nxt.raw(),
        "incarnation": incarnation,
        "number": number,
        "tag": tag.map(|tag| hex(&tag)),
    })
}

/// Names of flags as words.
pub(super) fn names(names: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<_> = names
        .map(|name| name.to_lowercase().replace('_', " "))
        .collect();
    words.join(", ")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
