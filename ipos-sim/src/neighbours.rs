//! A client's ARP requests.
//!
//! smoltcp answers ARP requests, learns from replies and renews what it has learned, but sends one request a second
//! at most, to whomever: a client of many servers would wait for seconds. So a client asks by itself before it
//! connects.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipos_core::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr,
};

use crate::frame::Outbox;
use crate::wire::PORT;

/// A reply counts for so long: less than the 60 s for which smoltcp keeps it.
const VALID: Duration = Duration::from_secs(50);
/// A request is repeated after so long, as Linux does.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Neighbours {
    hardware: EthernetAddress,
    address: Ipv4Addr,
    /// When each was last heard of, and last asked for. As many as servers that the client connects to.
    known: BTreeMap<Ipv4Addr, Neighbour>,
}

#[derive(Default)]
struct Neighbour {
    heard: Option<Instant>,
    asked: Option<Instant>,
}

impl Neighbours {
    pub(crate) fn new(hardware: EthernetAddress, address: Ipv4Addr) -> Neighbours {
        Neighbours {
            hardware,
            address,
            known: BTreeMap::new(),
        }
    }

    /// `Ok` if frames can be sent to `address`. Otherwise asks for it, if it is time to, and says when to
    /// try again unless a reply comes first.
    pub(crate) fn resolve(
        &mut self,
        now: Instant,
        address: Ipv4Addr,
        out: &mut Outbox,
    ) -> Result<(), Instant> {
        let neighbour = self.known.entry(address).or_default();
        if neighbour.heard.is_some_and(|heard| now < heard + VALID) {
            return Ok(());
        }
        match neighbour.asked {
            Some(asked) if now < asked + RETRY => Err(asked + RETRY),
            _ => {
                neighbour.asked = Some(now);
                self.ask(address, out);
                Err(now + RETRY)
            }
        }
    }

    /// Looks for an ARP reply to this client. The address that has been heard of, if it is one.
    pub(crate) fn hear(&mut self, now: Instant, frame: &[u8]) -> Option<Ipv4Addr> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Arp {
            return None;
        }
        let packet = ArpPacket::new_checked(frame.payload()).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_protocol_addr,
            target_protocol_addr,
            ..
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        if operation != ArpOperation::Reply || target_protocol_addr != self.address {
            return None;
        }
        self.known.get_mut(&source_protocol_addr)?.heard = Some(now);
        Some(source_protocol_addr)
    }

    fn ask(&self, address: Ipv4Addr, out: &mut Outbox) {
        let ethernet = EthernetRepr {
            src_addr: self.hardware,
            dst_addr: EthernetAddress::BROADCAST,
            ethertype: EthernetProtocol::Arp,
        };
        let arp = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr: self.hardware,
            source_protocol_addr: self.address,
            target_hardware_addr: EthernetAddress([0; 6]),
            target_protocol_addr: address,
        };
        out.build(PORT, |buffer| {
            let len = ethernet.buffer_len() + arp.buffer_len();
            let room = buffer.get_mut(..len)?;
            room.fill(0);
            let mut frame = EthernetFrame::new_unchecked(room);
            ethernet.emit(&mut frame);
            arp.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
            Some(len)
        });
    }
}
