//! What the first server and the owner of a connection say to each other when it moves again: MOVE (0x12) and MOVED (0x13).

use core::net::SocketAddrV4;

use ipos_proto::{Epoch, Header, MacAddr, Message, Trailer};

use super::Device;
use crate::counters::DropReason;
use crate::event::Verdict;
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Bound, Installed, LONGEST_MOVED, Target};
use crate::stack::Wish;
use crate::time::Instant;

/// What the first server has of a connection that has moved on.
enum MovedAway {
    /// Nothing: what there is of the client's port has never moved.
    Unknown,
    /// Its record leads to the owner, or to a later one, or is of a connection that is over.
    Followed,
    /// The record at this place leads to an earlier owner.
    Before(u32),
}

impl Device {
    /// 0x12: the first server asks for the endpoint to move, and is answered with 0x03. What is not here is answered with RELEASE.
    pub(super) fn asked_to_move(
        &mut self,
        now: Instant,
        header: &Header,
        hardware: MacAddr,
        target: SocketAddrV4,
    ) -> Result<Verdict, DropReason> {
        let key = match self.find_told(header, hardware, None) {
            Ok(key) => key,
            Err(DropReason::Ambiguous) => return Err(DropReason::Ambiguous),
            Err(_) => {
                let flow = Flow {
                    client: header.client,
                    endpoint: SocketAddrV4::new(self.config.port_b.address, header.port),
                    protocol: header.protocol,
                };
                self.sender(hardware, header)?;
                self.disown(&flow, hardware, Epoch::default(), None);
                return Ok(Verdict::Consumed);
            }
        };
        let Some((&flow, record)) = self.flows.get(key) else {
            return Err(DropReason::Stale);
        };
        let installed = match record {
            Record::ForwardConnect(installed) => installed,
            Record::Pending(pending) => match &pending.bound {
                Some(Bound::Installed(installed)) => installed,
                Some(Bound::Local) | None => return Err(DropReason::Stale),
            },
            _ => return Err(DropReason::Stale),
        };
        let Installed {
            endpoint,
            first,
            epoch,
            ..
        } = **installed;
        if hardware == first.hardware {
            self.acknowledge_epoch(first, &flow, epoch, None);
        }
        if *target.ip() == self.config.port_b.address {
            self.send_moved(key);
            return Ok(Verdict::Consumed);
        }
        self.target(target).ok_or(DropReason::Stranger)?;
        self.set_wish(now, endpoint, Wish::To(target));
        Ok(Verdict::Consumed)
    }

    /// 0x13: the forward record follows, and is there for whoever repeats it: 0x03. Where there is nothing of the connection, this
    /// server has forgotten it: RELEASE.
    pub(super) fn moved(
        &mut self,
        header: &Header,
        hardware: MacAddr,
        target: SocketAddrV4,
        trailer: Option<&Trailer>,
    ) -> Result<Verdict, DropReason> {
        let from = self.sender(hardware, header)?;
        let trailer = trailer.ok_or(DropReason::Encapsulation)?;
        let epoch = trailer.epoch;
        let flow = Flow {
            client: header.client,
            endpoint: SocketAddrV4::new(from.address, header.port),
            protocol: header.protocol,
        };
        match self.moved_away(header, hardware, trailer)? {
            MovedAway::Unknown => {
                self.disown(&flow, hardware, epoch, None);
                return Ok(Verdict::Consumed);
            }
            MovedAway::Followed => {}
            MovedAway::Before(key) => self.follow(key, target, trailer)?,
        }
        self.acknowledge_epoch(from, &flow, epoch, None);
        Ok(Verdict::Consumed)
    }

    /// What a MOVED is about: the client may use its port with several addresses of this server.
    fn moved_away(
        &self,
        header: &Header,
        hardware: MacAddr,
        trailer: &Trailer,
    ) -> Result<MovedAway, DropReason> {
        let own = || {
            let all = self
                .flows
                .of_port(header.client, header.port, header.protocol);
            all.filter(|(_, flow, _)| self.config.is_own(*flow.endpoint.ip()))
        };
        if !own().any(|(_, _, record)| record.has_moved()) {
            return Ok(MovedAway::Unknown);
        }
        let meant = || {
            own().filter_map(|(key, _, record)| {
                let leads = record.leads()?;
                (leads.first().is_none() && leads.is_of(trailer)).then_some((key, leads))
            })
        };
        let epoch = trailer.epoch;
        if meant().any(|(_, leads)| leads.epoch >= epoch && leads.concerns(hardware)) {
            return Ok(MovedAway::Followed);
        }
        // It has moved at rest, or with the last packet that has passed.
        let exactly = || meant().filter(|(_, leads)| trailer.acknowledged() == Some(leads.seq));
        let only = match meant().count() {
            0 | 1 => meant().next(),
            _ if exactly().count() == 1 => exactly().next(),
            // Its former owner passes packets on.
            _ => return Err(DropReason::Ambiguous),
        };
        let before = only.filter(|(_, leads)| leads.epoch < epoch);
        Ok(before.map_or(MovedAway::Followed, |(key, _)| MovedAway::Before(key)))
    }

    /// MOVED, naming this server, as soon as the first server is known.
    pub(super) fn send_moved(&mut self, key: u32) {
        let Some((&flow, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return;
        };
        let Some(first) = self.members.by_port_a(*flow.endpoint.ip()) else {
            return;
        };
        installed.first = Target {
            address: first.port_b,
            hardware: first.hardware,
            port: flow.endpoint.port(),
        };
        installed.newest = first.newest();
        let (first, epoch) = (installed.first, installed.epoch);
        let endpoint = installed.endpoint;
        let listener = self.stack.get(endpoint).map(|slot| slot.listener);
        let listen = listener.and_then(|listener| self.config.listen.get(listener));
        let port = listen.map_or(flow.endpoint.port(), |listen| listen.address.port());
        let target = SocketAddrV4::new(self.config.port_b.address, port);
        let received = self.rcv_nxt(endpoint);
        let trailer = Some(self.trailer(epoch, Some(received)));
        let message = Message::Moved { target, trailer };
        self.send(first, &flow, message);
    }

    /// MOVED again, until it is answered.
    pub(super) fn tell_first(&mut self, now: Instant, key: u32) {
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return;
        };
        let Some(retry) = &mut installed.moved else {
            return;
        };
        retry.sent_up_to(now, LONGEST_MOVED);
        let due = retry.due;
        self.send_moved(key);
        self.flows.schedule(key, Some(due));
    }
}
