//! Frames for clients.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ipos_proto::{ETHERNET_LEN, MacAddr};

use super::{Device, Via};
use crate::build::{self, Link, Sum};
use crate::event::{Port, Transmit};
use crate::neighbour::Hop;
use crate::time::Instant;

impl Device {
    /// Where packets go next that leave from `source` for `client`.
    pub(super) fn next_hop(&self, source: Ipv4Addr, client: Ipv4Addr) -> Hop {
        let port = self.config.leaves_by(source);
        let lan = self.config.to_clients(port);
        let address = match lan.gateway {
            Some(gateway) if !lan.is_on_link(client) => gateway,
            _ => client,
        };
        Hop { port, address }
    }

    /// An ARP request.
    pub(super) fn ask_for(&mut self, hop: Hop) {
        let port = self.config.to_clients(hop.port);
        let link = Link {
            source: port.hardware,
            destination: MacAddr::BROADCAST,
        };
        let Some(&sender) = port.addresses.first() else {
            return;
        };
        let target = (MacAddr([0; 6]), hop.address);
        self.outbox.push(
            hop.port,
            build::arp(link, etherparse::ArpOperation::REQUEST, sender, target),
        );
    }

    /// Sends a packet that is no endpoint's. It waits a while where the hardware address is not known. `make` builds the frame;
    /// `None` where that is not possible, or the frame is longer than the port carries.
    pub(super) fn send_to(
        &mut self,
        now: Instant,
        hop: Hop,
        make: impl FnOnce(Link) -> Option<Vec<u8>>,
    ) -> Option<()> {
        let known = self.neighbours.refresh(now, hop);
        if known.is_some_and(|known| known.ask) {
            self.ask_for(hop);
        }
        let hardware = known.and_then(|known| known.hardware);
        let frame = self.make_frame(hop.port, hardware.unwrap_or(MacAddr::BROADCAST), make)?;
        if hardware.is_some() {
            self.outbox.push(hop.port, frame);
        } else if self.neighbours.hold(now, hop, frame) && known.is_none() {
            // The table is full: the frame itself waits for the answer.
            self.ask_for(hop);
        }
        Some(())
    }

    /// Answers a packet that is no endpoint's: to whom its frame came from, unless answers leave by another port.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        via: Via,
        (own, client): (Ipv4Addr, Ipv4Addr),
        make: impl FnOnce(Link) -> Option<Vec<u8>>,
    ) -> Option<()> {
        let hop = self.next_hop(own, client);
        if hop.port != via.port {
            return self.send_to(now, hop, make);
        }
        let frame = self.make_frame(via.port, via.hardware, make)?;
        self.outbox.push(via.port, frame);
        Some(())
    }

    pub(super) fn make_frame(
        &self,
        port: Port,
        destination: MacAddr,
        make: impl FnOnce(Link) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let port = self.config.to_clients(port);
        let link = Link {
            source: port.hardware,
            destination,
        };
        make(link).filter(|frame| frame.len() <= usize::from(port.mtu) + ETHERNET_LEN)
    }

    /// The next segment of an endpoint that has something to send, as a frame.
    pub(super) fn poll_endpoints(
        &mut self,
        now: Instant,
        port: Port,
        buf: &mut [u8],
        sum: Sum,
    ) -> Option<Transmit> {
        let most = match sum {
            Sum::Whole => 0,
            Sum::PseudoHeader => build::longest_tcp_payload(buf.len()),
        };
        while let Some(index) = self.stack.next_ready(port) {
            let Some(slot) = self.stack.get(index).filter(|slot| !slot.muted) else {
                continue;
            };
            let hop = self.next_hop(*slot.flow.endpoint.ip(), *slot.flow.client.ip());
            let known = self.neighbours.lookup(now, hop, index);
            if known.is_some_and(|known| known.ask) {
                self.ask_for(hop);
            }
            let hardware = known.and_then(|known| known.hardware);
            let built = match (hardware, self.stack.get_mut(index)) {
                (Some(hardware), Some(slot)) => {
                    let segment = slot.tcp.poll_burst(now, &self.config.tcp, most);
                    segment.map(|segment| {
                        let link = Link {
                            source: self.config.to_clients(port).hardware,
                            destination: hardware,
                        };
                        let len = build::tcp(buf, link, &slot.flow, &segment, sum, |out| {
                            slot.tcp.payload(segment.payload, out)
                        })?;
                        let burst = match sum {
                            Sum::Whole => None,
                            Sum::PseudoHeader => Some(build::burst(&segment)?),
                        };
                        Some(Transmit { len, burst })
                    })
                }
                _ => None,
            };
            match built {
                Some(built) => {
                    self.stack.touch(index);
                    self.sweep(now, index);
                    // A segment that could not be built is lost as on any network.
                    if built.is_some() {
                        return built;
                    }
                }
                None => {
                    self.stack.reschedule(index);
                    self.sweep(now, index);
                    let queued = self.outbox.pop(port, buf);
                    if queued.is_some() {
                        return queued;
                    }
                }
            }
        }
        None
    }

    /// What the endpoint has to say is lost: nobody knows where its client is. Its retransmission timer asks again. Another
    /// endpoint may have its place by now, whose client is known.
    pub(super) fn not_found(&mut self, now: Instant, index: u32) {
        let Some(slot) = self.stack.get(index) else {
            return;
        };
        let hop = self.next_hop(*slot.flow.endpoint.ip(), *slot.flow.client.ip());
        if self.neighbours.known(now, hop).is_some() {
            return self.stack.touch(index);
        }
        if let Some(slot) = self.stack.get_mut(index).filter(|slot| !slot.muted) {
            while slot.tcp.poll(now, &self.config.tcp).is_some() {}
        }
        self.stack.reschedule(index);
        self.sweep(now, index);
    }
}
