//! Segments out (RFC 9293 §3.8, §3.10).

use super::endpoint::{AckDue, Endpoint};
use super::segment::{Flags, Options, Outgoing, Timestamp};
use super::state::State;
use super::timers::Timer;
use super::transmit::Piece;
use crate::config::Tcp;
use crate::time::Instant;
use ipos_proto::SeqNum;

/// Bytes that timestamps take of a segment, with their padding.
const TIMESTAMP_LEN: u32 = 12;
/// Bytes that `n` SACK blocks take, with their padding.
const fn sack_len(n: usize) -> u32 {
    if n == 0 { 0 } else { 4 + 8 * n as u32 }
}

impl Endpoint {
    /// The next segment to send, if any. Call until `None`.
    pub(crate) fn poll(&mut self, now: Instant, tcp: &Tcp) -> Option<Outgoing> {
        if self.reset {
            self.reset = false;
            self.state = State::Closed;
            return Some(self.bare(self.tx.max, Flags::RST_ACK));
        }
        match self.state {
            State::Closed => None,
            State::SynReceived => self.poll_syn_ack(now, tcp),
            State::TimeWait | State::FinWait2 => self.poll_ack(now),
            State::Established
            | State::FinWait1
            | State::CloseWait
            | State::Closing
            | State::LastAck => self.poll_data(now, tcp).or_else(|| self.poll_ack(now)),
        }
    }

    fn poll_syn_ack(&mut self, now: Instant, tcp: &Tcp) -> Option<Outgoing> {
        if !self.syn_ack {
            return None;
        }
        self.syn_ack = false;
        let seq = self.tx.iss;
        if self.tx.max == seq {
            self.measure = Some((seq + 1, now));
        } else {
            self.measure = None;
        }
        self.tx.sent(seq + 1);
        if self.timers.get(Timer::Retransmission).is_none() {
            self.arm_retransmission(now, tcp);
        }
        // RFC 7323 §2.2: the window of a SYN-ACK is not scaled.
        let window = self.rx.announce(0, 0);
        let timestamp = self.timestamp(now);
        let options = Options {
            mss: Some(self.rcv_mss),
            window_scale: self.scale.map(|scale| scale.receive),
            sack_permitted: self.sack,
            timestamp,
            ..Options::default()
        };
        Some(Outgoing {
            seq,
            ack: self.rx.nxt,
            flags: Flags::SYN_ACK,
            window,
            options,
            payload: (0, 0),
        })
    }

    fn poll_data(&mut self, now: Instant, tcp: &Tcp) -> Option<Outgoing> {
        let mss = self.effective_mss();
        if self.resend {
            self.resend = false;
            if self.tx.outstanding() {
                let piece = self.tx.first(mss);
                // After a timeout the window is closed down to one segment, which this is.
                self.arm_retransmission(now, tcp);
                return Some(self.data(now, piece));
            }
        }
        if self.probe {
            self.probe = false;
            if self.tx.wnd == 0 && self.tx.waiting() {
                self.arm_persist(now, tcp);
                return Some(self.window_probe(now));
            }
        }
        if let Some(piece) = self.tx.next(self.send_window(), mss) {
            if self.timers.get(Timer::Retransmission).is_none() {
                self.arm_retransmission(now, tcp);
            }
            let end = piece.seq + piece.len as u32;
            if self.measure.is_none() && piece.seq == self.tx.max {
                self.measure = Some((end, now));
            }
            return Some(self.data(now, piece));
        }
        if self.tx.waiting() && !self.tx.outstanding() && self.timers.get(Timer::Persist).is_none()
        {
            self.arm_persist(now, tcp);
        }
        None
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
        let mut ack = self.bare(self.tx.max, Flags::ACK);
        ack.options = self.options(now);
        Some(ack)
    }

    /// A segment that the client must answer without taking a byte beyond its window.
    fn window_probe(&mut self, now: Instant) -> Outgoing {
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
        segment.payload = (offset, len);
        self.tx.sent(seq + len as u32 + u32::from(fin));
        segment
    }

    /// A segment without data or options that acknowledges everything.
    fn bare(&mut self, seq: SeqNum, flags: Flags) -> Outgoing {
        self.ack_due = AckDue::No;
        self.timers.stop(Timer::DelayedAck);
        self.last_ack_sent = self.rx.nxt;
        let shift = self.scale.map_or(0, |scale| scale.receive);
        let window = self.rx.announce(shift, u32::from(self.rcv_mss));
        Outgoing {
            seq,
            ack: self.rx.nxt,
            flags,
            window,
            options: Options::default(),
            payload: (0, 0),
        }
    }

    fn timestamp(&self, now: Instant) -> Option<Timestamp> {
        self.timestamps.map(|ts| Timestamp {
            value: ts.value(now),
            echo: ts.recent,
        })
    }

    fn options(&self, now: Instant) -> Options {
        let sack = if self.sack {
            self.rx.sack()
        } else {
            Default::default()
        };
        Options {
            timestamp: self.timestamp(now),
            sack,
            ..Options::default()
        }
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
