//! Connections that were given away: their forward records (FIG. 12), until they are released.

use alloc::boxed::Box;
use core::net::SocketAddrV4;

use ipos_proto::{Epoch, MacAddr, Message, Protocol, Trailer, TrailerFlags};

use super::Device;
use crate::counters::DropReason;
use crate::event::Verdict;
use crate::flow_table::Record;
use crate::handover::{
    Aside, Asked, Forwarding, IDLE_TRIES, NEAR, Opening, Replaying, Retry, Tombstone,
};
use crate::time::{Duration, Instant};

/// A SYN is answered late within this time: then its client sends it again (RFC 6298 §2.1).
const SYN_VALID: Duration = Duration::from_secs(1);

/// So often in turn the client was far beyond what is kept of it: it is not needed any more.
const BEYOND: u8 = 8;

impl Device {
    pub(super) fn schedule_forward(&mut self, key: u32) {
        if let Some((_, Record::Forward(forwarding))) = self.flows.get(key) {
            let deadline = forwarding.deadline(forwarding.idle(&self.config.limits));
            self.flows.schedule(key, Some(deadline));
        }
    }

    /// Kept packets or MOVE are sent again, or the record has been idle too long.
    pub(super) fn forward_deadline(&mut self, now: Instant, key: u32) {
        let Some((flow, Record::Forward(forwarding))) = self.flows.get(key) else {
            return;
        };
        let to = forwarding.to();
        let idle = forwarding.used + forwarding.idle(&self.config.limits) <= now;
        let forgotten = self.members.by_port_b(to.address).is_none();
        let asked = forwarding.asked().map(|asked| asked.retry.due);
        if asked.is_some_and(|due| due <= now) {
            self.ask_again(now, key);
        } else if forwarding.replay.is_some() && !idle && !forgotten {
            // What they carry is in nobody else's hands: only the cover, RELEASE or the owner's end ends it.
            self.repeat(now, key, false);
        } else if !idle || asked.is_some() {
            self.put_off_replay(now, key);
            self.schedule_forward(key);
        } else if forwarding.replay.is_none()
            && !forgotten
            && forwarding.first().is_none()
            && flow.protocol == Protocol::Tcp
        {
            // An idle connection is not over: the owner knows.
            let owner = SocketAddrV4::new(to.address, to.port);
            self.ask(now, key, owner, IDLE_TRIES);
        } else {
            self.flows.remove(key);
        }
    }

    /// Kept packets whose turn has come, but that nobody is there for, wait for their next turn.
    fn put_off_replay(&mut self, now: Instant, key: u32) {
        if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key)
            && let Some(replay) = &mut forwarding.replay
            && replay.retry.due <= now
        {
            replay.retry.sent(now);
        }
    }

    /// Kept packets go out again, behind their 0x01: the owner may have forgotten the endpoint before it had one of them.
    /// Not to another life of it; `lives`: it has just shown that it is the same.
    fn repeat(&mut self, now: Instant, key: u32, lives: bool) {
        let Some((&flow, Record::Forward(forwarding))) = self.flows.get_mut(key) else {
            return;
        };
        let (to, epoch, told) = (forwarding.to(), forwarding.epoch, forwarding.incarnation);
        let silence = self.config.synch.silence;
        let same_life = self.members.by_port_b(to.address).is_some_and(|owner| {
            let heard = lives || now.saturating_since(owner.heard) < silence / 2;
            heard && (told == 0 || owner.incarnation == told)
        });
        let Some(replay) = &mut forwarding.replay else {
            return;
        };
        replay.retry.sent(now);
        if forwarding.seq.since(replay.until) > NEAR as i32 {
            // Only who had them has let the client go on; unless somebody else has said that it did.
            replay.beyond += 1;
            if replay.beyond >= BEYOND {
                self.flows.update(key, |record| {
                    if let Record::Forward(forwarding) = record {
                        forwarding.replay = None;
                    }
                });
            }
            return self.schedule_forward(key);
        }
        replay.beyond = 0;
        let offer = replay.offer;
        if let Some((connection, received)) =
            offer.filter(|_| same_life && now < replay.offer_until)
        {
            let mut trailer = self.trailer(epoch, Some(received));
            trailer.flags |= TrailerFlags::ACKNOWLEDGED;
            let message = Message::Endpoint {
                connection,
                trailer: Some(trailer),
            };
            self.send(to, &flow, message);
        }
        self.replay(key);
        self.schedule_forward(key);
    }

    /// Kept packets as 0x02, as many as there is room for.
    pub(super) fn replay(&mut self, key: u32) {
        if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key)
            && let Some(replay) = &mut forwarding.replay
        {
            let sent = replay.kept.send(&forwarding.headers, &mut self.outbox);
            self.counters.forwarded += sent;
        }
    }

    /// 0x12 for the connection's owner, so often unless it answers.
    pub(super) fn ask(&mut self, now: Instant, key: u32, target: SocketAddrV4, tries: u8) {
        let asked = Asked {
            target,
            retry: Retry::new(now),
            tries,
        };
        if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) {
            forwarding.aside = Some(Box::new(Aside::Asked(asked)));
        }
        self.send_move(key, asked);
    }

    fn ask_again(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) else {
            return;
        };
        let Some(Aside::Asked(asked)) = forwarding.aside.as_deref_mut() else {
            return;
        };
        if !asked.retry.is_used_up(asked.tries) {
            asked.retry.sent(now);
            let asked = *asked;
            return self.send_move(key, asked);
        }
        forwarding.aside = None;
        if forwarding.used + forwarding.idle(&self.config.limits) <= now {
            self.flows.remove(key);
        } else {
            self.schedule_forward(key);
        }
    }

    fn send_move(&mut self, key: u32, asked: Asked) {
        if let Some((&flow, Record::Forward(forwarding))) = self.flows.get(key) {
            let (owner, epoch, target) = (forwarding.to(), forwarding.epoch, asked.target);
            let trailer = Some(self.trailer(epoch, None));
            self.send(owner, &flow, Message::Move { target, trailer });
        }
        self.schedule_forward(key);
    }

    /// The new owner has answered: the kept packets have arrived, or it knows the connection.
    pub(super) fn forward_acknowledged(
        &mut self,
        now: Instant,
        key: u32,
        trailer: Option<&Trailer>,
    ) {
        let received = trailer.and_then(Trailer::acknowledged);
        self.flows.update(key, |record| {
            let Record::Forward(forwarding) = record else {
                return;
            };
            if trailer.is_some_and(|trailer| trailer.epoch != forwarding.epoch) {
                return;
            }
            match (&forwarding.replay, received) {
                (Some(replay), Some(received)) => {
                    let covered = received.ge(replay.until);
                    if covered && trailer.is_some_and(|trailer| forwarding.is_of(trailer)) {
                        forwarding.replay = None;
                    }
                }
                (None, None) if forwarding.asked().is_some() => {
                    forwarding.aside = None;
                    forwarding.used = now;
                }
                _ => {}
            }
        });
        self.schedule_forward(key);
    }

    /// Nobody has the connection any more: its client is told, through the first server.
    pub(super) fn lose(&mut self, now: Instant, key: u32) {
        let Some((&flow, Record::Forward(forwarding))) = self.flows.get_mut(key) else {
            return;
        };
        let Some(first) = forwarding.first() else {
            return self.reset_forwarded(now, key);
        };
        let at = forwarding.seq;
        self.flows.remove(key);
        let trailer = Some(self.trailer(Epoch::default(), Some(at)));
        self.send(first, &flow, Message::Release { trailer });
    }

    /// 0x10: the connection has ended at its owner; or its first server has forgotten it.
    pub(super) fn released(
        &mut self,
        now: Instant,
        key: u32,
        hardware: MacAddr,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        if let Some((_, Record::ForwardConnect(installed))) = self.flows.get(key)
            && installed.passes_back().is_some()
        {
            // It was offered home, and has ended where it was.
            self.uninstall(key);
        }
        let (flow, forwarding) = match self.flows.get_mut(key) {
            Some((&flow, Record::Forward(forwarding))) => (flow, forwarding),
            Some((_, Record::ForwardConnect(_))) => {
                // No packet of its client comes here any more.
                self.release(now, key);
                return Ok(Verdict::Consumed);
            }
            _ => return Err(DropReason::Stale),
        };
        // Epoch 0: nothing is known of the connection there.
        let unknown = trailer.filter(|trailer| trailer.epoch == Epoch::default());
        if trailer.is_some_and(|trailer| !forwarding.is_of(&trailer)) {
            return Err(DropReason::Stale);
        }
        if let Some(Trailer { incarnation, .. }) = unknown {
            let offered = |replay: &Replaying| replay.offer.is_some() && now < replay.offer_until;
            let waits = forwarding.replay.as_deref().is_some_and(offered);
            if waits && incarnation <= forwarding.incarnation {
                // Its deadline has passed there without a packet: it may have the endpoint again.
                self.repeat(now, key, true);
                return Ok(Verdict::Consumed);
            }
        } else if trailer.is_some_and(|trailer| trailer.epoch < forwarding.epoch) {
            return Err(DropReason::Stale);
        }
        let first = forwarding.first();
        // Which connection has ended.
        let at = trailer.as_ref().and_then(Trailer::acknowledged);
        let at = at.unwrap_or(forwarding.seq);
        let opening = forwarding.take_opening();
        let recent = |opening: &Opening| now.saturating_since(opening.at) < SYN_VALID;
        let opening = opening.filter(recent);
        let tcp = flow.protocol == ipos_proto::Protocol::Tcp;
        // Others may offer it to this server still.
        let moved_again = tcp && forwarding.epoch > Epoch::new(1);
        // A copy of what has brought its cookie back may come.
        let by_cookie = tcp && self.cookies.are_good(now);
        let tombstone = Tombstone {
            owned: true,
            irs: forwarding.irs,
            iss: None,
            epoch: forwarding.epoch,
            acknowledged: forwarding.acknowledged,
        };
        let epoch = forwarding.epoch;
        if unknown.is_some() && opening.is_none() {
            self.reset_forwarded(now, key);
        } else if moved_again || opening.is_some() {
            self.bury(now, key, tombstone);
        } else if by_cookie {
            self.bury_briefly(now, key, tombstone);
        } else {
            self.flows.remove(key);
        }
        if let Some(first) = first.filter(|first| first.hardware != hardware) {
            // Its record may still lead here.
            let trailer = Some(self.trailer(epoch, Some(at)));
            self.send(first, &flow, Message::Release { trailer });
        }
        match opening {
            Some(opening) => self.balance(now, opening.port, &opening.frame),
            None => Ok(Verdict::Consumed),
        }
    }

    /// The flow's forward record, which is older, leads to `target` from this epoch on.
    pub(super) fn follow(
        &mut self,
        key: u32,
        target: SocketAddrV4,
        trailer: &Trailer,
    ) -> Result<(), DropReason> {
        let &Trailer {
            epoch,
            incarnation: told,
            ..
        } = trailer;
        let to = self.target(target).ok_or(DropReason::Stranger)?;
        let owner = self.members.by_port_b(to.address);
        // Its Synch report may be on the way yet.
        let incarnation = owner.map_or(told, |owner| owner.incarnation.max(told));
        if let Some((_, Record::ForwardConnect(installed))) = self.flows.get(key)
            && installed.owner.is_none()
            && epoch > installed.epoch
        {
            // That offer was given up: its giver has moved the connection elsewhere.
            self.uninstall(key);
        }
        let Some((&flow, _)) = self.flows.get(key) else {
            return Ok(());
        };
        let headers = self.packet_headers(&flow, to);
        self.flows.update(key, |record| {
            let forwarding = match record {
                Record::Forward(forwarding) => Some(forwarding),
                Record::ForwardConnect(installed) => installed.back.as_deref_mut(),
                _ => None,
            };
            if let Some(forwarding) = forwarding {
                forwarding.follow(headers, epoch, incarnation);
            }
        });
        self.schedule_forward(key);
        Ok(())
    }
}

impl Forwarding {
    /// The connection has another owner.
    fn follow(
        &mut self,
        headers: [u8; ipos_proto::ENCAPSULATION_LEN],
        epoch: Epoch,
        incarnation: u32,
    ) {
        self.headers = headers;
        self.epoch = epoch;
        self.incarnation = incarnation;
        // It moved at a quiet point: its former owner had all of them.
        self.replay = None;
        self.aside = None;
    }
}
