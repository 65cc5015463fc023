//! Segments out (RFC 9293 §3.8, §3.10).

use super::endpoint::{AckDue, Endpoint};
use super::recovery::{Phase, Probe};
use super::segment::{Flags, Options, Outgoing, Timestamp};
use super::state::State;
use super::timers::Timer;
use super::transmit::Piece;
use super::window::{Window, WindowScale};
use crate::config::Tcp;
use crate::time::Instant;
use ipos_proto::SeqNum;

/// Bytes that timestamps take of a segment, with their padding.
pub(super) const TIMESTAMP_LEN: u32 = 12;
/// Bytes that `n` SACK blocks take, with their padding.
const fn sack_len(n: usize) -> u32 {
    if n == 0 { 0 } else { 4 + 8 * n as u32 }
}

impl Endpoint {
    /// The next segment to send, if any. Call until `None`.
    pub(crate) fn poll(&mut self, now: Instant, tcp: &Tcp) -> Option<Outgoing> {
        self.poll_burst(now, tcp, 0)
    }

    /// As [`Endpoint::poll`]; new segments that may go at once come as one burst, of `most` bytes of data unless one segment has more.
    pub(crate) fn poll_burst(&mut self, now: Instant, tcp: &Tcp, most: usize) -> Option<Outgoing> {
        if self.reset {
            self.reset = false;
            self.state = State::Closed;
            return Some(self.bare(self.tx.nxt, Flags::RST_ACK));
        }
        if self.replayed.is_some() {
            // The first server may have acknowledged more than has come here yet: silence until it has.
            return None;
        }
        match self.state {
            State::Closed => None,
            State::SynReceived => self.poll_syn_ack(now, tcp),
            State::TimeWait => self.poll_ack(now),
            State::FinWait2
            | State::Established
            | State::FinWait1
            | State::CloseWait
            | State::Closing
            | State::LastAck => self
                .poll_data(now, tcp, most)
                .or_else(|| self.poll_ack(now)),
        }
    }

    /// A bare acknowledgment as the client has sent it last: it changes nothing.
    pub(crate) fn last_word(&self, now: Instant) -> Outgoing {
        let scale = self.scale.map_or(WindowScale::NONE, |scale| scale.send);
        let field = self.tx.wnd / scale.unit();
        let timestamp = self.timestamps.map(|ours| Timestamp {
            value: ours.recent,
            echo: ours.value(now),
        });
        Outgoing {
            seq: self.rx.nxt,
            ack: self.tx.nxt,
            flags: Flags::ACK,
            window: Window::new(u16::try_from(field).unwrap_or(u16::MAX)),
            options: Options {
                timestamp,
                ..Options::default()
            },
            payload: (0, 0),
            burst: None,
        }
    }

    fn poll_syn_ack(&mut self, now: Instant, tcp: &Tcp) -> Option<Outgoing> {
        if !self.syn_ack {
            return None;
        }
        self.syn_ack = false;
        let seq = self.tx.iss;
        self.tx.sent(now, seq, seq + 1);
        if self.timers.get(Timer::Retransmission).is_none() {
            self.arm_retransmission(now, tcp);
        }
        // RFC 7323 §2.2: the window of a SYN-ACK is not scaled.
        let window = self.rx.announce(WindowScale::NONE, 0);
        let options = Options {
            mss: Some(self.rcv_mss),
            window_scale: self.scale.map(|scale| scale.receive.raw()),
            sack_permitted: self.sack,
            timestamp: self.timestamp(now),
            ..Options::default()
        };
        Some(Outgoing {
            seq,
            ack: self.rx.nxt,
            flags: Flags::SYN_ACK,
            window,
            options,
            payload: (0, 0),
            burst: None,
        })
    }

    fn poll_data(&mut self, now: Instant, tcp: &Tcp, most: usize) -> Option<Outgoing> {
        if self.ask {
            self.ask = false;
            if self.tx.wnd == 0 && self.tx.waiting() {
                self.arm_persist(now, tcp);
            }
            return Some(self.ask_for_answer(now));
        }
        let probe = core::mem::take(&mut self.tail_probe);
        let mss = self.effective_mss();
        if let Some(lost) = self.tx.flight.first_lost() {
            let piece = self.tx.again(lost.start, lost.end, mss);
            let fits = piece.end().le(self.tx.una + self.tx.wnd) || piece.seq == self.tx.una;
            if fits && (core::mem::take(&mut self.force) | probe || self.may_send(piece.len)) {
                if let Some(undo) = &mut self.recovery.undo {
                    undo.sent_again(now);
                }
                return Some(self.send_again(now, tcp, piece));
            }
            return None;
        }
        if probe {
            return self.poll_tail_probe(now, tcp, mss);
        }
        let new = self.tx.next(mss);
        if let Some(piece) = new.filter(|piece| self.may_send(piece.len)) {
            return Some(self.send_new(now, tcp, piece, mss, most));
        }
        if self.tx.waiting() && !self.tx.outstanding() && self.timers.get(Timer::Persist).is_none()
        {
            self.arm_persist(now, tcp);
        }
        None
    }

    /// The congestion window has room for `len` bytes.
    fn may_send(&self, len: u32) -> bool {
        let pipe = self.pipe();
        pipe == 0 || pipe.saturating_add(len) <= self.congestion.get().window()
    }

    /// RFC 8985 §7.3: something new if the congestion window lets it go, else the last segment once more. Where the RFC would send one
    /// new segment beyond the window, the client that has everything delays its answer to it (RFC 9293 §3.8.6.3);
    /// a segment that it has already it answers at once (RFC 5681 §4.2).
    fn poll_tail_probe(&mut self, now: Instant, tcp: &Tcp, mss: u32) -> Option<Outgoing> {
        let new = self.tx.next(mss).filter(|piece| self.may_send(piece.len));
        let (segment, probe) = match new {
            Some(piece) => (
                self.send_new(now, tcp, piece, mss, 0),
                Probe {
                    end: self.tx.nxt,
                    again: false,
                },
            ),
            None => {
                // In a recovery it is the first one that holds up all others.
                let missing = match self.recovery.phase {
                    Phase::Open => self.tx.flight.last_missing()?,
                    Phase::Fast | Phase::Timeout => self.tx.flight.first_missing()?,
                };
                let piece = self.tx.again(missing.start, missing.end, mss);
                (
                    self.send_again(now, tcp, piece),
                    Probe {
                        end: piece.end(),
                        again: true,
                    },
                )
            }
        };
        self.recovery.probe = Some(probe);
        self.timers.stop(Timer::Probe);
        Some(segment)
    }

    fn send_new(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        piece: Piece,
        mss: u32,
        most: usize,
    ) -> Outgoing {
        let mut segment = self.data(now, piece);
        self.prolong(now, &mut segment, mss, most);
        if self.timers.get(Timer::Retransmission).is_none() {
            self.arm_retransmission(now, tcp);
        }
        self.arm_probe(now, tcp);
        segment
    }

    /// Adds to a new segment those that would follow it, up to `most` bytes of data together. Each is in flight by itself: it is acknowledged,
    /// lost, and sent again, alone.
    fn prolong(&mut self, now: Instant, segment: &mut Outgoing, mss: u32, most: usize) {
        let (_, len) = &mut segment.payload;
        // All but the last are full.
        while len.is_multiple_of(mss as usize) && *len > 0 && !segment.flags.fin {
            let next = self.tx.next(mss).filter(|next| {
                next.len > 0 && *len + next.len as usize <= most && self.may_send(next.len)
            });
            let (Some(next), Ok(size)) = (next, u16::try_from(mss)) else {
                return;
            };
            self.tx.sent(now, next.seq, next.end());
            *len += next.len as usize;
            segment.flags.fin = next.fin;
            segment.flags.psh = next.last;
            segment.burst = Some(size);
        }
    }

    fn send_again(&mut self, now: Instant, tcp: &Tcp, piece: Piece) -> Outgoing {
        let first = piece.seq == self.tx.una;
        let segment = self.data(now, piece);
        if first || self.timers.get(Timer::Retransmission).is_none() {
            self.arm_retransmission(now, tcp);
        }
        segment
    }

    /// RFC 9293 §3.8.6.1: probes come at the retransmission timeout, and ever slower.
    fn arm_persist(&mut self, now: Instant, tcp: &Tcp) {
        self.timers
            .set(Timer::Persist, now + self.rtt.timeout(tcp.max_rto));
    }

    fn poll_ack(&mut self, now: Instant) -> Option<Outgoing> {
        if self.ack_due != AckDue::Now {
            return None;
        }
        let mut ack = self.bare(self.tx.nxt, Flags::ACK);
        ack.options = self.options(now);
        Some(ack)
    }

    /// A segment that the client must answer without taking a byte beyond its window (RFC 9293 §3.8.4).
    fn ask_for_answer(&mut self, now: Instant) -> Outgoing {
        let mut probe = self.bare(self.tx.una - 1, Flags::ACK);
        probe.options = self.options(now);
        probe
    }

    fn data(&mut self, now: Instant, piece: Piece) -> Outgoing {
        let Piece {
            seq,
            offset,
            len,
            fin,
            last,
        } = piece;
        let mut segment = self.bare(
            seq,
            Flags {
                fin,
                psh: last && len > 0,
                ..Flags::ACK
            },
        );
        segment.options = self.options(now);
        segment.payload = (offset, len as usize);
        self.tx.sent(now, seq, piece.end());
        segment
    }

    /// A segment without data or options that acknowledges everything.
    fn bare(&mut self, seq: SeqNum, flags: Flags) -> Outgoing {
        self.ack_due = AckDue::No;
        self.timers.stop(Timer::DelayedAck);
        self.last_ack_sent = self.rx.nxt;
        let scale = self.scale.map_or(WindowScale::NONE, |scale| scale.receive);
        let window = self.rx.announce(scale, u32::from(self.rcv_mss));
        Outgoing {
            seq,
            ack: self.rx.nxt,
            flags,
            window,
            options: Options::default(),
            payload: (0, 0),
            burst: None,
        }
    }

    fn timestamp(&self, now: Instant) -> Option<Timestamp> {
        self.timestamps.map(|ts| Timestamp {
            value: ts.value(now),
            echo: ts.recent,
        })
    }

    fn options(&mut self, now: Instant) -> Options {
        let mut options = Options {
            timestamp: self.timestamp(now),
            ..Options::default()
        };
        if self.sack {
            options.sack = self.rx.sack();
            self.rx.reported();
        }
        options
    }

    /// The client's MSS less the options that every segment carries now (RFC 6691 §2).
    fn effective_mss(&self) -> u32 {
        let blocks = if self.sack { self.rx.sack().len() } else { 0 };
        let timestamps = if self.timestamps.is_some() {
            TIMESTAMP_LEN
        } else {
            0
        };
        (u32::from(self.snd_mss))
            .saturating_sub(timestamps + sack_len(blocks))
            .max(1)
    }

    /// Copies a segment's payload to `out`; how many bytes.
    pub(crate) fn payload(&self, payload: (usize, usize), out: &mut [u8]) -> usize {
        let (offset, len) = payload;
        let len = len.min(out.len());
        self.tx.read(offset, &mut out[..len])
    }
}
