//! A live endpoint as a control block, and back (FIG. 11D).

use alloc::vec::Vec;

use ipos_proto::{ControlBlock, ControlFlags, Epoch, SeqNum, TcpState, Timer as WireTimer};

use super::congestion::Controller;
use super::endpoint::{AckDue, Challenges, Endpoint, Scale, Timestamps};
use super::output::TIMESTAMP_LEN;
use super::receive::Receive;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::segment::{Flags, Outgoing};
use super::state::State;
use super::timers::Timers;
use super::transmit::Transmit;
use super::window::WindowScale;
use crate::config::Tcp;
use crate::time::{Duration, Instant, micros};

/// The receive state that a control block shall carry, when it is not the current one: the client's packets
/// from there on are replayed to the importer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replay {
    /// The first byte that is replayed.
    pub(crate) rcv_nxt: SeqNum,
    /// TS.Recent before it: the replayed packets must pass PAWS.
    pub(crate) ts_recent: u32,
}

/// Whole milliseconds, saturating.
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl Endpoint {
    /// Whether the endpoint may leave this server: everything sent is acknowledged, and the client's stream is open.
    pub(crate) fn is_exportable(&self) -> bool {
        matches!(self.state, State::Established | State::CloseWait)
            && self.tx.drained()
            && !self.tx.outstanding()
    }

    /// The control block with which another server goes on; `None` when the endpoint cannot leave now.
    pub(crate) fn export(
        &self,
        now: Instant,
        epoch: Epoch,
        replay: Replay,
    ) -> Option<ControlBlock> {
        if !self.is_exportable() {
            return None;
        }
        // Exhaustive: a new field must be given its place here.
        let Endpoint {
            state: _, // told by the replayed position below
            rx,
            tx,
            rtt,
            congestion,
            recovery,  // nothing is lost when nothing is outstanding
            timers: _, // none runs that the importer would go on with
            snd_mss,
            rcv_mss,
            scale,
            sack,
            timestamps,
            ack_due,
            last_ack_sent,
            snd_limit: _,
            peer_segment: _,
            force: _,
            tail_probe: _,
            ask: _,
            syn_ack: _,
            reset: _,
            retries: _,
            keep_alives: _,
            challenges: _,
            replayed: _, // told by the trailer
            heard,
            released: _,
        } = self;
        let &Rtt {
            srtt,
            rttvar,
            rto,
            min,
            shift,
        } = rtt;
        let mut flags = ControlFlags::empty();
        flags.set(ControlFlags::WINDOW_SCALE, scale.is_some());
        flags.set(ControlFlags::SACK_PERMITTED, *sack);
        flags.set(ControlFlags::TIMESTAMPS, timestamps.is_some());
        let finished = rx.finished() && replay.rcv_nxt == rx.nxt;
        flags.set(ControlFlags::FIN_RECEIVED, finished);
        // Replayed bytes are acknowledged by the importer anyway.
        let due = *ack_due != AckDue::No && replay.rcv_nxt == rx.nxt;
        flags.set(ControlFlags::DELAYED_ACK, due);
        Some(ControlBlock {
            state: if finished {
                TcpState::CloseWait
            } else {
                TcpState::Established
            },
            flags,
            epoch,
            snd_wscale: scale.map_or(0, |scale| scale.send.raw()),
            rcv_wscale: scale.map_or(0, |scale| scale.receive.raw()),
            dupacks: u8::try_from(recovery.dupacks).unwrap_or(u8::MAX),
            rxtshift: shift,
            snd_mss: *snd_mss,
            rcv_mss: *rcv_mss,
            iss: tx.iss,
            snd_una: tx.una,
            snd_nxt: tx.nxt,
            snd_max: tx.nxt,
            snd_wnd: tx.wnd,
            snd_wl1: tx.wl1,
            snd_wl2: tx.wl2,
            max_sndwnd: tx.max_wnd,
            cwnd: congestion.get().window(),
            ssthresh: congestion.get().threshold(),
            recover: recovery.recover,
            irs: rx.irs,
            rcv_nxt: replay.rcv_nxt,
            rcv_wnd: rx.adv.since(replay.rcv_nxt).max(0) as u32,
            rcv_adv: rx.adv.max(replay.rcv_nxt),
            last_ack_sent: last_ack_sent.min(replay.rcv_nxt),
            srtt,
            rttvar,
            rto,
            rtt_min: min,
            ts_recent: replay.ts_recent,
            ts_recent_age: timestamps.map_or(0, |ts| millis(now.saturating_since(ts.recent_at))),
            tsval: timestamps.map_or(0, |ts| ts.value(now)),
            timer: WireTimer::None,
            timer_left: 0,
            idle: millis(now.saturating_since(*heard)),
            rcv_up: replay.rcv_nxt,
            oob_flags: 0,
            oob_byte: 0,
        })
    }

    /// The receive state from before what the host has not consumed, and that as segments of the client: for another server,
    /// whose endpoint has received none of it.
    pub(crate) fn unread(&self, now: Instant, tcp: &Tcp) -> (Replay, Vec<(Outgoing, Vec<u8>)>) {
        let (unread, fin) = (self.rx.unread(), self.rx.finished());
        let back = u32::try_from(unread).unwrap_or(u32::MAX) + u32::from(fin && unread > 0);
        let replay = Replay {
            rcv_nxt: self.rx.nxt - back,
            ts_recent: self.ts_recent(),
        };
        let last_word = self.last_word(now);
        let piece = usize::from(tcp.mss).saturating_sub(TIMESTAMP_LEN as usize);
        let segment = |at: usize| {
            let mut payload = alloc::vec![0; piece.min(unread - at)];
            self.rx.read_at(at, &mut payload);
            let flags = Flags {
                psh: true,
                fin: fin && at + payload.len() == unread,
                ..Flags::ACK
            };
            let segment = Outgoing {
                seq: replay.rcv_nxt + at as u32,
                flags,
                payload: (0, payload.len()),
                ..last_word.clone()
            };
            (segment, payload)
        };
        let starts = (0..unread).step_by(piece.max(1));
        (replay, starts.map(segment).collect())
    }

    /// The endpoint of another server's control block, which already holds by itself
    /// ([`ControlBlock::validate`]); `None` where it cannot be gone on with here.
    /// `replayed` is where the packets end that the sender will replay.
    pub(crate) fn import(
        now: Instant,
        tcp: &Tcp,
        block: &ControlBlock,
        replayed: Option<SeqNum>,
    ) -> Option<Endpoint> {
        let state = match block.state {
            TcpState::Established => State::Established,
            TcpState::CloseWait => State::CloseWait,
            _ => return None,
        };
        let announced = block.rcv_adv.since(block.rcv_nxt);
        let limit = tcp.receive_buffer.max(usize::from(u16::MAX));
        let finished = state == State::CloseWait;
        let holds = block.snd_una == block.snd_max
            && block.iss != block.snd_una
            && block.irs != block.rcv_nxt
            && usize::try_from(announced).is_ok_and(|announced| announced <= limit)
            && finished == block.flags.contains(ControlFlags::FIN_RECEIVED);
        if !holds {
            return None;
        }
        let bound = |d: Duration| u32::try_from(micros(d)).unwrap_or(u32::MAX);
        let mut tx = Transmit::resume(block.iss, block.snd_nxt);
        tx.wnd = block.snd_wnd;
        tx.wl1 = block.snd_wl1;
        tx.wl2 = block.snd_wl2;
        tx.max_wnd = block.max_sndwnd;
        let snd_mss = block.snd_mss.min(tcp.mss);
        let mut endpoint = Endpoint {
            state,
            rx: Receive::resume(
                block.irs,
                block.rcv_nxt,
                block.rcv_adv,
                tcp.receive_buffer as u32,
                finished,
            ),
            tx,
            rtt: Rtt {
                srtt: block.srtt.min(bound(tcp.max_rto)),
                rttvar: block.rttvar.min(bound(tcp.max_rto)),
                rto: block.rto.clamp(bound(tcp.min_rto), bound(tcp.max_rto)),
                min: block.rtt_min,
                shift: 0,
            },
            congestion: Controller::resume(
                tcp.congestion,
                snd_mss,
                block.cwnd,
                block.ssthresh,
                tcp.send_buffer as u32,
            ),
            recovery: Recovery::new(block.snd_nxt),
            timers: Timers::default(),
            snd_mss,
            rcv_mss: block.rcv_mss,
            snd_limit: 0,
            scale: block
                .flags
                .contains(ControlFlags::WINDOW_SCALE)
                .then_some(Scale {
                    send: WindowScale::new(block.snd_wscale),
                    receive: WindowScale::new(block.rcv_wscale),
                }),
            sack: block.flags.contains(ControlFlags::SACK_PERMITTED),
            timestamps: block
                .flags
                .contains(ControlFlags::TIMESTAMPS)
                .then(|| Timestamps {
                    recent: block.ts_recent,
                    recent_at: now - Duration::from_millis(block.ts_recent_age.into()),
                    offset: block.tsval.wrapping_sub(now.as_millis() as u32),
                }),
            ack_due: match block.flags.contains(ControlFlags::DELAYED_ACK) {
                true => AckDue::Now,
                false => AckDue::No,
            },
            last_ack_sent: block.last_ack_sent,
            peer_segment: u32::from(super::endpoint::DEFAULT_MSS),
            force: false,
            tail_probe: false,
            ask: false,
            syn_ack: false,
            reset: false,
            retries: 0,
            keep_alives: 0,
            challenges: Challenges::new(now),
            replayed: replayed.filter(|until| until.gt(block.rcv_nxt)),
            heard: now - Duration::from_millis(block.idle.into()),
            released: false,
        };
        endpoint.arm_keep_alive(tcp);
        Some(endpoint)
    }
}
