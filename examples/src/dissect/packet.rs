//! The client's packet inside type 0x02.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use ipos_proto::Layer;
use serde_json::{Value, json};

use super::Fields;
use super::describe::{Description, names};

/// Describes an IPv4 packet, `base` bytes into what was given.
pub(super) fn describe(description: &mut Description, bytes: &[u8], base: usize) {
    match SlicedPacket::from_ip(bytes) {
        Ok(packet) => description.put("packet", packet_fields(&packet).into()),
        Err(error) => {
            let layer = Layer::Packet.to_string();
            description.put_error(&layer, base, &error.to_string());
        }
    }
}

fn packet_fields(packet: &SlicedPacket<'_>) -> Fields {
    let mut all = Fields::new();
    let mut put = |fields: Value| {
        if let Value::Object(fields) = fields {
            all.extend(fields);
        }
    };
    if let Some(NetSlice::Ipv4(ipv4)) = &packet.net {
        let header = ipv4.header();
        put(json!({
            "source": header.source_addr(),
            "destination": header.destination_addr(),
            "total_length": header.total_len(),
            "ttl": header.ttl(),
            "protocol": header.protocol().0,
        }));
    }
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = [
                (tcp.fin(), "FIN"),
                (tcp.syn(), "SYN"),
                (tcp.rst(), "RST"),
                (tcp.psh(), "PSH"),
                (tcp.ack(), "ACK"),
                (tcp.urg(), "URG"),
            ];
            put(json!({
                "source_port": tcp.source_port(),
                "destination_port": tcp.destination_port(),
                "sequence_number": tcp.sequence_number(),
                "acknowledgment_number": tcp.acknowledgment_number(),
                "flags": tcp.slice().get(13),
                "flags_name": names(flags.into_iter().filter(|flag| flag.0).map(|flag| flag.1)),
                "window": tcp.window_size(),
                "payload_length": tcp.payload().len(),
            }));
        }
        Some(TransportSlice::Udp(udp)) => put(json!({
            "source_port": udp.source_port(),
            "destination_port": udp.destination_port(),
            "payload_length": udp.payload().len(),
        })),
        _ => {}
    }
    all
}
