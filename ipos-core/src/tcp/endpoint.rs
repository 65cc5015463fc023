//! One connection: what it knows, and the application's side of it.

use ipos_proto::SeqNum;

use super::congestion::Controller;
use super::receive::Receive;
use super::recovery::Recovery;
use super::rtt::Rtt;
use super::segment::Options;
use super::state::State;
use super::timers::{Timer, Timers};
use super::transmit::Transmit;
use super::window::{Window, WindowScale};
use crate::config::Tcp;
use crate::time::{Duration, Instant};

/// RFC 9293 §3.7.1: what a client that announces no MSS takes.
pub(super) const DEFAULT_MSS: u16 = 536;
/// The least MSS that is honoured; a smaller one would only multiply headers.
const MIN_MSS: u16 = 64;
/// IPv4 and TCP headers without options, in bytes.
const IP_TCP: u16 = 40;
/// ICMP cannot make segments smaller than for a path MTU of 552: below that it would be an attack (RFC 5927 §7).
const MIN_PATH_MSS: u16 = 512;

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
        timestamp_clock(now, self.offset)
    }
}

/// The TSval of a connection whose clock is moved by `offset`.
pub(crate) fn timestamp_clock(now: Instant, offset: u32) -> u32 {
    // Wraps as RFC 7323 §5.4 wants it to.
    (now.as_millis() as u32).wrapping_add(offset)
}

/// A TCP endpoint. Nothing in it reads a clock: every call carries the time.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(super) state: State,
    pub(super) rx: Receive,
    pub(super) tx: Transmit,
    pub(super) rtt: Rtt,
    pub(super) congestion: Controller,
    pub(super) recovery: Recovery,
    pub(super) timers: Timers,
    /// Largest segment that we send, options not counted.
    pub(super) snd_mss: u16,
    /// What our SYN-ACK announced.
    pub(super) rcv_mss: u16,
    /// Bytes that the application may have waiting and in flight.
    pub(super) snd_limit: usize,
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
    /// The first lost segment is to be sent again, whatever the congestion window says.
    pub(super) force: bool,
    /// A tail loss probe is to be sent.
    pub(super) tail_probe: bool,
    /// A segment without data that the client must answer is to be sent.
    pub(super) ask: bool,
    /// The SYN-ACK is to be sent.
    pub(super) syn_ack: bool,
    /// A RST is to be sent, after which the endpoint is closed.
    pub(super) reset: bool,
    pub(super) retries: u8,
    /// Keep-alive probes that were not answered.
    pub(super) keep_alives: u8,
    pub(super) challenges: Challenges,
    /// Bytes before this one are replayed by the first server, in any order: PAWS would take the older packets for strays.
    pub(super) replayed: Option<SeqNum>,
    /// The last segment from the client.
    pub(super) heard: Instant,
    /// The application has let go of the endpoint.
    pub(super) released: bool,
}

/// RFC 5961 §7: challenge ACKs are limited to so many in a period.
const CHALLENGES: u8 = 10;
/// RFC 5961 §7.
const CHALLENGE_PERIOD: Duration = Duration::from_secs(5);

/// Challenge ACKs in the current period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenges {
    since: Instant,
    sent: u8,
}

impl Challenges {
    pub(super) fn new(now: Instant) -> Challenges {
        Challenges {
            since: now,
            sent: 0,
        }
    }

    fn allow(&mut self, now: Instant) -> bool {
        if now.saturating_since(self.since) >= CHALLENGE_PERIOD {
            *self = Challenges::new(now);
        }
        self.sent = self.sent.saturating_add(1);
        self.sent <= CHALLENGES
    }
}

/// Window scales (RFC 7323 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    /// Of the windows that the client announces.
    pub(super) send: WindowScale,
    /// Of the windows that we announce.
    pub(super) receive: WindowScale,
}

/// Bytes that an endpoint's buffers may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferLimits {
    pub(crate) receive: usize,
    pub(crate) send: usize,
}

/// What a SYN opens an endpoint with.
#[derive(Clone, Debug)]
pub(crate) struct Open<'a> {
    /// The SYN's sequence number.
    pub(crate) irs: SeqNum,
    /// Its window, which is never scaled.
    pub(crate) window: Window,
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
        let mut tx = Transmit::new(iss);
        tx.wnd = window.bytes(WindowScale::NONE);
        tx.max_wnd = tx.wnd;
        tx.wl1 = irs;
        tx.wl2 = iss;
        Endpoint {
            state: State::SynReceived,
            rx: Receive::new(irs, receive_limit),
            tx,
            rtt: Rtt::new(),
            congestion: Controller::new(tcp.congestion, snd_mss),
            recovery: Recovery::new(iss),
            timers: Timers::default(),
            snd_mss,
            rcv_mss: tcp.mss,
            snd_limit: 0,
            scale: options.window_scale.map(|shift| Scale {
                send: WindowScale::new(shift),
                receive: WindowScale::new(tcp.window_scale),
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
            force: false,
            tail_probe: false,
            ask: false,
            syn_ack: true,
            reset: false,
            retries: 0,
            keep_alives: 0,
            challenges: Challenges::new(now),
            replayed: None,
            heard: now,
            released: false,
        }
    }

    /// An endpoint whose SYN-ACK was sent without a record of it (RFC 4987 §3.6).
    pub(crate) fn open_by_cookie(now: Instant, tcp: &Tcp, open: Open<'_>) -> Endpoint {
        let mut endpoint = Endpoint::open(now, tcp, open);
        endpoint.poll(now, tcp);
        endpoint
    }

    /// Window scale and SACK are not answered: a cookie without timestamps has no room for them.
    pub(crate) fn forgo_options(&mut self) {
        self.scale = None;
        self.sack = false;
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

    /// The right edge of the window that the client was told.
    pub(crate) fn rcv_adv(&self) -> SeqNum {
        self.rx.adv
    }

    /// TS.Recent, where both sides do timestamps.
    pub(crate) fn ts_recent(&self) -> u32 {
        self.timestamps.map_or(0, |timestamps| timestamps.recent)
    }

    /// The first byte that the client has not acknowledged.
    pub(crate) fn snd_una(&self) -> SeqNum {
        self.tx.una
    }

    /// Unread bytes that lie in one piece.
    pub(crate) fn readable(&self) -> &[u8] {
        self.rx.readable()
    }

    /// The client's stream has ended, and every byte of it was read.
    pub(crate) fn is_finished(&self) -> bool {
        self.rx.finished() && self.rx.unread() == 0
    }

    /// Nothing received waits: neither for the application, nor for what comes before it.
    pub(crate) fn has_consumed_all(&self) -> bool {
        self.rx.is_empty()
    }

    /// All that the client sends has come.
    pub(crate) fn has_finished(&self) -> bool {
        self.rx.finished()
    }

    /// What the application has not consumed lies in order, and has so many bytes at most.
    pub(crate) fn has_unread_at_most(&self, bytes: usize) -> bool {
        !self.rx.has_gap() && self.rx.unread() <= bytes
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
            State::Established | State::CloseWait => self.tx.room(self.snd_limit),
            _ => 0,
        }
    }

    /// Takes as much of `data` as there is room for.
    pub(crate) fn write(&mut self, now: Instant, data: &[u8]) -> usize {
        if self.writable() == 0 {
            return 0;
        }
        self.begin_write(now);
        let taken = self.tx.write(data, self.snd_limit);
        self.arm_quiet(now);
        taken
    }

    fn begin_write(&mut self, now: Instant) {
        let idle = now.saturating_since(self.heard).as_micros() > u128::from(self.rtt.rto);
        if idle && !self.tx.outstanding() {
            self.congestion.get_mut().on_idle();
        }
    }

    /// Takes all of `data`, which may be a little more than there is room for.
    pub(crate) fn append(&mut self, now: Instant, data: &[u8]) {
        if !data.is_empty() {
            self.begin_write(now);
            self.tx.write(data, usize::MAX);
            self.arm_quiet(now);
        }
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

    /// The end, without a word: what TIME-WAIT was for is given up.
    pub(crate) fn end(&mut self) {
        self.state = State::Closed;
    }

    /// RST.
    pub(crate) fn abort(&mut self) {
        self.reset = self.state.is_synchronized() && self.state != State::TimeWait;
        if !self.reset {
            self.state = State::Closed;
        }
    }

    /// What the buffers may hold from now on.
    pub(crate) fn set_limits(&mut self, limits: BufferLimits) {
        self.rx.limit = limits.receive as u32;
        self.snd_limit = limits.send;
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
        self.arm_quiet(now);
    }

    /// The keep-alive and idle timers run on an open connection, where they are configured.
    pub(super) fn arm_keep_alive(&mut self, tcp: &Tcp) {
        let idle = tcp
            .keep_alive
            .map(|keep_alive| keep_alive.idle)
            .into_iter()
            .chain(tcp.idle)
            .min();
        if let Some(idle) = idle {
            self.timers.set(Timer::KeepAlive, self.heard + idle);
        }
    }

    /// An ACK that answers what may be an attacker's segment (RFC 5961).
    pub(super) fn challenge(&mut self, now: Instant) {
        if self.challenges.allow(now) {
            self.ack_due = AckDue::Now;
        }
    }

    /// Bytes in the network, as far as is known (RFC 6675 §4; RFC 6582 §3.2 without SACK).
    pub(super) fn pipe(&self) -> u32 {
        let arrived = if self.sack {
            self.tx.flight.sacked()
        } else {
            self.recovery
                .dupacks
                .saturating_mul(u32::from(self.snd_mss))
        };
        self.tx
            .in_flight()
            .saturating_sub(arrived)
            .saturating_sub(self.tx.flight.lost())
    }

    /// ICMP says that packets of this size do not reach the client (RFC 1191, RFC 5927 §4.1: only for something in flight).
    /// Whether it was believed.
    pub(crate) fn packet_too_big(&mut self, seq: SeqNum, mtu: u16) -> bool {
        let in_flight = seq.ge(self.tx.una) && seq.lt(self.tx.nxt);
        let mss = mtu.saturating_sub(IP_TCP).max(MIN_PATH_MSS);
        if !in_flight || self.state == State::SynReceived || mss >= self.snd_mss {
            return false;
        }
        self.snd_mss = mss;
        self.congestion.get_mut().set_mss(mss);
        self.tx.flight.lose_all();
        self.recovery.undo = None;
        self.force = true;
        true
    }
}
