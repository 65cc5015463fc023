//! Frames for other servers.

use ipos_proto::{
    ENCAPSULATION_LEN, ETHERNET_LEN, Epoch, Ethernet, Frame, FrameType, Header, MacAddr, Message,
    SeqNum, TAG_LEN, Trailer, TrailerFlags,
};

use super::Device;
use crate::event::Port;
use crate::flow::Flow;
use crate::handover::Target;

impl Device {
    /// Tells a server that the connection whose packet it has sent is no more here (RELEASE), or is not known (of no epoch).
    /// The packet's sequence number tells which of several connections between the same ports is meant.
    pub(super) fn disown(&mut self, flow: &Flow, from: MacAddr, epoch: Epoch, at: Option<SeqNum>) {
        let Some(address) = self.members.by_hardware(from).map(|member| member.port_b) else {
            return;
        };
        let port = flow.endpoint.port();
        let to = Target {
            address,
            hardware: from,
            port,
        };
        let trailer = Some(self.trailer(epoch, at));
        self.send(to, flow, Message::Release { trailer });
    }

    /// The next trailer of this device.
    pub(super) fn trailer(&mut self, epoch: Epoch, rcv_nxt: Option<SeqNum>) -> Trailer {
        self.number = self.number.wrapping_add(1);
        Trailer {
            flags: if rcv_nxt.is_some() {
                TrailerFlags::RCV_NXT
            } else {
                TrailerFlags::empty()
            },
            epoch,
            rcv_nxt: rcv_nxt.unwrap_or_default(),
            incarnation: self.config.incarnation,
            number: self.number,
            // Filled in when the frame is whole.
            tag: self.config.farm_key.as_ref().map(|_| [0; TAG_LEN]),
        }
    }

    /// Queues a frame for another server's Port B.
    pub(super) fn send(&mut self, to: Target, flow: &Flow, message: Message<'_>) {
        let port = match message {
            // The port of its application; all other frames name the one that the client connected to.
            Message::Endpoint { .. } => to.port,
            _ => flow.endpoint.port(),
        };
        let header = Header {
            client: flow.client,
            destination: to.address,
            port,
            frame_type: message.frame_type(),
            protocol: flow.protocol,
        };
        let ethernet = self.port_b_link(to.hardware);
        let emitted = Frame { header, message };
        let mut bytes = alloc::vec![0; ETHERNET_LEN + emitted.frame_len()];
        bytes[..ETHERNET_LEN].copy_from_slice(&ethernet.to_bytes());
        let frame = &mut bytes[ETHERNET_LEN..];
        if emitted.emit(frame).is_ok() {
            if let Some(key) = &self.config.farm_key {
                key.sign(frame);
            }
            self.outbox.push(Port::B, bytes);
        }
    }

    pub(super) fn port_b_link(&self, destination: MacAddr) -> Ethernet {
        let port_b = &self.config.port_b;
        Ethernet {
            destination,
            source: port_b.hardware,
            ethertype: port_b.ethertype,
        }
    }

    /// The headers of every 0x02 frame of a flow.
    pub(super) fn packet_headers(&self, flow: &Flow, to: Target) -> [u8; ENCAPSULATION_LEN] {
        let header = Header {
            client: flow.client,
            destination: to.address,
            port: to.port,
            frame_type: FrameType::Packet,
            protocol: flow.protocol,
        };
        let mut bytes = [0; ENCAPSULATION_LEN];
        bytes[..ETHERNET_LEN].copy_from_slice(&self.port_b_link(to.hardware).to_bytes());
        bytes[ETHERNET_LEN..].copy_from_slice(&header.to_bytes());
        bytes
    }
}
