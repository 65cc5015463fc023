//! Which record a word on Port B is for: 0x03, REFUSE, RELEASE and MOVE name the client's port and the application's, not the
//! address that the client has connected to.

use core::net::Ipv4Addr;

use ipos_proto::{Epoch, FrameType, MacAddr, Protocol, Trailer};

use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Forwarding, Migration};
use crate::members::Member;

/// What is said, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) frame_type: FrameType,
    pub(crate) trailer: Option<&'a Trailer>,
    /// The Port B that says it.
    pub(crate) hardware: MacAddr,
    /// The server that it is of, where that one is known.
    pub(crate) sender: Option<&'a Member>,
    /// It can be of no other address than the record's: this server has one alone.
    pub(crate) alone: bool,
}

/// How surely it is for a record: of several it is for the one that it fits best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// The connection has moved on from the server that the record leads to.
    Later,
    /// The record waits for it.
    Well,
    /// The record has its epoch too: connections may be near one another in their sequence numbers, and not in their epochs.
    Exactly,
}

impl Said<'_> {
    /// Whether it can be for a flow, and how surely. A connection goes on when its servers do not hear each other on the Synch
    /// LAN, so that the record alone vouches for the sender; or a later epoch does, of a server that is known.
    pub(crate) fn fits(&self, flow: &Flow, record: &Record) -> Option<Fit> {
        if !self.is_expected(flow, record) {
            return None;
        }
        let trailer = match (self.leads(record), self.trailer) {
            (Some(forwarding), Some(trailer)) => {
                if !forwarding.is_of(trailer) {
                    return None;
                }
                // A record that is not the first server's is told of by the owner that it leads to alone.
                if forwarding.to().hardware != self.hardware {
                    return self
                        .is_later(flow, forwarding, trailer)
                        .then_some(Fit::Later);
                }
                Some(trailer)
            }
            (_, trailer) if record.concerns(self.hardware) => trailer,
            _ => return None,
        };
        let epoch = trailer.map_or(Epoch::default(), |trailer| trailer.epoch);
        Some(match epoch != Epoch::default() && epoch == record.epoch() {
            true => Fit::Exactly,
            false => Fit::Well,
        })
    }

    /// The forward record that is spoken of, if one is.
    fn leads<'r>(&self, record: &'r Record) -> Option<&'r Forwarding> {
        match record {
            Record::Forward(forwarding) => Some(forwarding),
            Record::ForwardConnect(installed) if self.frame_type == FrameType::Release => {
                installed.passes_back()
            }
            _ => None,
        }
    }

    fn is_later(&self, flow: &Flow, forwarding: &Forwarding, trailer: &Trailer) -> bool {
        let known = self.sender.is_some() && self.alone && flow.protocol == Protocol::Tcp;
        known && forwarding.first().is_none() && trailer.epoch > forwarding.epoch
    }

    /// Whether clients connect to this address at the server that says it.
    fn is_at_sender(&self, address: Ipv4Addr) -> bool {
        let opened = |member: &Member| member.port_a.contains(&address);
        self.sender.is_some_and(opened)
    }

    /// Whether the record is in a state in which this is said to it.
    fn is_expected(&self, flow: &Flow, record: &Record) -> bool {
        let (hardware, trailer) = (self.hardware, self.trailer);
        let of = |epoch: Epoch| trailer.is_none_or(|trailer| trailer.epoch == epoch);
        let received = trailer.and_then(Trailer::acknowledged).is_some();
        let at_sender = || self.is_at_sender(*flow.endpoint.ip());
        match (self.frame_type, record) {
            (FrameType::Acknowledgement, Record::Pending(pending)) => {
                let answered = |m: &Migration| m.is_answered_by(hardware, trailer);
                pending.migration.as_ref().is_some_and(answered)
            }
            (FrameType::Acknowledgement, Record::Forward(forwarding)) => {
                let awaits = match received {
                    true => forwarding.replay.is_some(),
                    false => forwarding.asked().is_some(),
                };
                awaits && of(forwarding.epoch)
            }
            (FrameType::Acknowledgement, Record::ForwardConnect(installed)) => {
                let answers = of(installed.epoch) && installed.is_answered_by(trailer);
                answers && !received && at_sender()
            }
            (FrameType::Refuse, Record::Pending(pending)) => {
                let refused = |m: &Migration| m.is_refused_by(hardware, trailer);
                pending.migration.as_ref().is_some_and(refused)
            }
            (FrameType::Refuse, Record::Forward(forwarding)) => forwarding.is_refused_by(trailer),
            (FrameType::Release, Record::Forward(forwarding)) => {
                // Datagrams have no place in a stream, and do not move on.
                flow.protocol == Protocol::Udp || forwarding.is_told(trailer)
            }
            (FrameType::Release, Record::ForwardConnect(installed)) => {
                if let Some(back) = installed.passes_back() {
                    return back.is_told(trailer);
                }
                // MOVED has found nothing there.
                let answers = of(installed.epoch) && installed.is_answered_by(trailer);
                trailer.is_some() && answers && !received && at_sender()
            }
            // Whatever is here of the connection: it is not unknown.
            (FrameType::Move, _) => at_sender(),
            _ => false,
        }
    }

    /// Whether it may be a repeated answer to what was said of another record: of the MOVED of a connection that its client has
    /// opened at the sender, or of the MOVE of one that it has opened here.
    pub(crate) fn may_repeat(&self, flow: &Flow, record: &Record) -> bool {
        let Some(&Trailer { epoch, .. }) = self.trailer else {
            return false;
        };
        let at_sender = || self.is_at_sender(*flow.endpoint.ip());
        match record {
            Record::Forward(forwarding) => {
                let to = forwarding.to().hardware;
                forwarding.epoch == epoch && forwarding.first().is_none() && to == self.hardware
            }
            Record::ForwardConnect(installed) => {
                // By itself, or because it was asked to move to where it is.
                let told = installed.giver.hardware != installed.first.hardware
                    || installed.newest.is_some();
                installed.epoch == epoch && told && at_sender()
            }
            Record::Tombstone(tombstone) => tombstone.epoch == epoch && at_sender(),
            Record::Pending(_) | Record::Local(_) | Record::Datagrams(_) => false,
        }
    }
}
