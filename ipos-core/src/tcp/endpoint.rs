//! One connection: what it knows, and the application's side of it.

use ipos_proto::SeqNum;

use super::congestion::{Congestion, Reno};
use super::receive::Receive;
use super::rtt::Rtt;
use super::segment::Options;
use super::state::State;
use super::timers::{Timer, Timers};
use super::transmit::Transmit;
use crate::config::Tcp;
use crate::time::Instant;

/// RFC 9293 §3.7.1: what a client that announces no MSS takes.
pub(super) const DEFAULT_MSS: u16 = 536;
/// The least MSS that is honoured; a smaller one would only multiply headers.
const MIN_MSS: u16 = 64;
/// RFC 7323 §2.3.
pub(crate) const MAX_WINDOW_SCALE: u8 = 14;

/// When an acknowledgment is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckDue {
    /// Nothing new.
    No,
    /// With the next data, or when the timer fires (RFC 9293 §3.8.6.3).
    Delayed,
    /// At once.
    Now,
}

/// RFC 7323 §3 to §5.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamps {
    /// TS.Recent.
    pub(super) recent: u32,
    /// When it was taken.
    pub(super) recent_at: Instant,
    /// Added to the clock's milliseconds it gives our TSval.
    pub(super) offset: u32,
}

impl Timestamps {
    /// Our TSval.
    pub(super) fn value(&self, now: Instant) -> u32 {
        // Wraps as RFC 7323 §5.4 wants it to.
        (now.as_millis() as u32).wrapping_add(self.offset)
    }
}

/// A TCP endpoint. Nothing in it reads a clock: every call carries the time.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(super) state: State,
    pub(super) rx: Receive,
    pub(super) tx: Transmit,
    pub(super) rtt: Rtt,
    pub(super) congestion: Reno,
    pub(super) timers: Timers,
    /// Largest segment that we send, options not counted.
    pub(super) snd_mss: u16,
    /// What our SYN-ACK announced.
    pub(super) rcv_mss: u16,
    /// Shift of the client's windows, where both sides scale.
    pub(super) scale: Option<Scale>,
    /// Both sides do SACK.
    pub(super) sack: bool,
    /// Both sides do timestamps.
    pub(super) timestamps: Option<Timestamps>,
    pub(super) ack_due: AckDue,
    /// The acknowledgment number sent last.
    pub(super) last_ack_sent: SeqNum,
    /// The largest payload received: what a "full-sized segment" of this client is (RFC 5681 §4.2).
    pub(super) peer_segment: u32,
    pub(super) dupacks: u8,
    /// RFC 6582: what was sent when recovery began.
    pub(super) recover: SeqNum,
    pub(super) recovering: bool,
    /// The segment at `snd_una` is to be sent again, whatever the windows say.
    pub(super) resend: bool,
    /// A zero-window probe is to be sent.
    pub(super) probe: bool,
    /// The SYN-ACK is to be sent.
    pub(super) syn_ack: bool,
    /// A RST is to be sent, after which the endpoint is closed.
    pub(super) reset: bool,
    /// A round trip under measurement: the acknowledgment that ends it, and its start.
    pub(super) measure: Option<(SeqNum, Instant)>,
    pub(super) retries: u8,
    /// The last segment from the client.
    pub(super) heard: Instant,
    /// The application has let go of the endpoint.
    pub(super) released: bool,
}

/// Window scales (RFC 7323 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    /// Of the windows that the client announces.
    pub(super) send: u8,
    /// Of the windows that we announce.
    pub(super) receive: u8,
}

/// What a SYN opens an endpoint with.
#[derive(Clone, Debug)]
pub(crate) struct Open<'a> {
    /// The SYN's sequence number.
    pub(crate) irs: SeqNum,
    /// Its window, which is never scaled.
    pub(crate) window: u16,
    /// Its options.
    pub(crate) options: &'a Options,
    /// Our initial sequence number (RFC 6528).
    pub(crate) iss: SeqNum,
    /// Added to the clock's milliseconds it gives our TSval.
    pub(crate) timestamp_offset: u32,
    /// Bytes that may wait for a server to be selected.
    pub(crate) receive_limit: u32,
}

impl Endpoint {
    /// An endpoint in SYN-RECEIVED that owes its SYN-ACK.
    pub(crate) fn open(now: Instant, tcp: &Tcp, open: Open<'_>) -> Endpoint {
        let Open {
            irs,
            window,
            options,
            iss,
            timestamp_offset,
            receive_limit,
        } = open;
        let snd_mss = options.mss.unwrap_or(DEFAULT_MSS).max(MIN_MSS).min(tcp.mss);
        let mut tx = Transmit::new(iss, tcp.send_buffer as u32);
        tx.wnd = u32::from(window);
        tx.max_wnd = tx.wnd;
        tx.wl1 = irs;
        tx.wl2 = iss;
        Endpoint {
            state: State::SynReceived,
            rx: Receive::new(irs, receive_limit),
            tx,
            rtt: Rtt::new(),
            congestion: Reno::new(snd_mss),
            timers: Timers::default(),
            snd_mss,
            rcv_mss: tcp.mss,
            scale: options.window_scale.map(|shift| Scale {
                send: shift.min(MAX_WINDOW_SCALE),
                receive: tcp.window_scale,
            }),
            sack: options.sack_permitted,
            timestamps: options.timestamp.map(|ts| Timestamps {
                recent: ts.value,
                recent_at: now,
                offset: timestamp_offset,
            }),
            ack_due: AckDue::No,
            last_ack_sent: irs + 1,
            peer_segment: u32::from(DEFAULT_MSS),
            dupacks: 0,
            recover: iss,
            recovering: false,
            resend: false,
            probe: false,
            syn_ack: true,
            reset: false,
            measure: None,
            retries: 0,
            heard: now,
            released: false,
        }
    }

    /// The connection's state.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The client's initial sequence number.
    pub(crate) fn irs(&self) -> SeqNum {
        self.rx.irs
    }

    /// Our initial sequence number.
    pub(crate) fn iss(&self) -> SeqNum {
        self.tx.iss
    }

    /// The next byte expected from the client.
    pub(crate) fn rcv_nxt(&self) -> SeqNum {
        self.rx.nxt
    }

    /// The acknowledgment number sent last.
    pub(crate) fn last_ack_sent(&self) -> SeqNum {
        self.last_ack_sent
    }

    /// Unread bytes that lie in one piece.
    pub(crate) fn readable(&self) -> &[u8] {
        self.rx.readable()
    }

    /// The client's stream has ended, and every byte of it was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.rx.finished() && self.rx.unread() == 0
    }

    /// The application has taken `n` readable bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.rx.consume(n);
        if self.state.receives() && self.rx.window_update_due(u32::from(self.rcv_mss)) {
            self.ack_due = AckDue::Now;
        }
    }

    /// Bytes that [`Endpoint::write`] would take.
    pub(crate) fn writable(&self) -> usize {
        match self.state {
            State::Established | State::CloseWait => self.tx.room(),
            _ => 0,
        }
    }

    /// Takes as much of `data` as there is room for.
    pub(crate) fn write(&mut self, now: Instant, data: &[u8]) -> usize {
        if self.writable() == 0 {
            return 0;
        }
        let idle = now.saturating_since(self.heard).as_micros() > u128::from(self.rtt.rto);
        if idle && !self.tx.outstanding() {
            self.congestion.on_idle();
        }
        self.tx.write(data)
    }

    /// No more writes: a FIN follows what was written.
    pub(crate) fn shutdown(&mut self) {
        if matches!(self.state, State::Established | State::CloseWait) {
            self.tx.close();
            self.state = self.state.on_close();
        }
    }

    /// The application lets go: FIN after what was written, or RST where it left bytes unread (RFC 2525 §2.17).
    pub(crate) fn close(&mut self, now: Instant, tcp: &Tcp) {
        self.released = true;
        if self.rx.unread() > 0 {
            self.abort();
            return;
        }
        self.shutdown();
        if self.state == State::FinWait2 {
            self.timers.set(Timer::Close, now + tcp.fin_wait_2);
        }
    }

    /// RST.
    pub(crate) fn abort(&mut self) {
        self.reset = self.state.is_synchronized() && self.state != State::TimeWait;
        if !self.reset {
            self.state = State::Closed;
        }
    }

    /// Bound to an application: the whole receive buffer is at the client's disposal.
    pub(crate) fn bound(&mut self, tcp: &Tcp) {
        self.rx.limit = tcp.receive_buffer as u32;
    }

    /// Bytes of memory held by the buffers.
    pub(crate) fn memory(&self) -> usize {
        self.rx.memory() + self.tx.memory()
    }

    /// When [`Endpoint::handle_timeout`] must be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The retransmission timer runs while something is outstanding (RFC 6298 §5.1).
    pub(super) fn arm_retransmission(&mut self, now: Instant, tcp: &Tcp) {
        self.timers.stop(Timer::Persist);
        self.timers
            .set(Timer::Retransmission, now + self.rtt.timeout(tcp.max_rto));
    }

    pub(super) fn enter_time_wait(&mut self, now: Instant, tcp: &Tcp) {
        self.timers = Timers::default();
        self.timers.set(Timer::Close, now + tcp.time_wait);
    }

    /// Bytes that may be in flight: the client's window and ours, plus what duplicate
    /// acknowledgments say has left the network (RFC 3042, RFC 6582 §3.2).
    pub(super) fn send_window(&self) -> u32 {
        let left = u32::from(self.dupacks) * u32::from(self.snd_mss);
        self.tx
            .wnd
            .min(self.congestion.window().saturating_add(left))
    }
}
