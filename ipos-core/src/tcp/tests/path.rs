//! A bulk download over a path that loses and reorders: one endpoint, and a client made of the receiving half.

use alloc::collections::BinaryHeap;
use alloc::vec;
use core::cmp::Reverse;

use ipos_proto::SeqNum;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::receive::Receive;
use super::super::{BufferLimits, Endpoint, Flags, Open, Options, Segment, Timestamp};
use super::super::{Window, WindowScale};
use crate::config::Tcp;
use crate::time::{Duration, Instant};

pub(super) const MSS: u16 = 1460;
const SCALE: u8 = 7;
pub(super) const IRS: u32 = 5_000;
/// RFC 9293 §3.8.6.3, as the common clients do it.
const DELAYED_ACK: Duration = Duration::from_millis(40);

/// What the path does. Probabilities of 2³².
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) loss: f64,
    pub(super) reorder: f64,
    /// One way.
    pub(super) delay: Duration,
    /// How long a reordered segment is held back.
    pub(super) hold: Duration,
    /// Between two segments on the cable.
    pub(super) spacing: Duration,
    /// The client acknowledges once nothing has come for so long, whatever it was that came.
    pub(super) stretch: Duration,
    pub(super) seed: u64,
}

/// What a download came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Download {
    pub(super) took: Duration,
    pub(super) sent: u32,
    pub(super) again: u32,
    /// Lost on the way to the client.
    pub(super) lost: u32,
    /// Segments that the congestion window had room for, on the average.
    pub(super) window: f64,
    /// Times in which nothing moved for 20 ms.
    pub(super) stalls: u32,
}

enum Frame {
    Data { seq: SeqNum, len: u32, value: u32 },
    Ack(Segment<'static>),
}

struct Travelling {
    at: Instant,
    order: u64,
    frame: Frame,
}

impl PartialEq for Travelling {
    fn eq(&self, other: &Travelling) -> bool {
        self.order == other.order
    }
}
impl Eq for Travelling {}
impl PartialOrd for Travelling {
    fn partial_cmp(&self, other: &Travelling) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Travelling {
    fn cmp(&self, other: &Travelling) -> core::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

struct Link {
    path: Path,
    rng: ChaCha8Rng,
    frames: BinaryHeap<Reverse<Travelling>>,
    order: u64,
    free: Instant,
}

impl Link {
    fn chance(&mut self, probability: f64) -> bool {
        f64::from(self.rng.next_u32()) < probability * f64::from(u32::MAX)
    }

    /// Whether it will arrive.
    fn send(&mut self, now: Instant, frame: Frame) -> bool {
        let mut at = now + self.path.delay;
        if let Frame::Data { .. } = frame {
            self.free = self.free.max(now) + self.path.spacing;
            at = self.free + self.path.delay;
        }
        if self.chance(self.path.loss) {
            return false;
        }
        if self.chance(self.path.reorder) {
            at += self.path.hold;
        }
        self.order += 1;
        let order = self.order;
        self.frames.push(Reverse(Travelling { at, order, frame }));
        true
    }
}

struct Client {
    rx: Receive,
    nxt: SeqNum,
    recent: u32,
    last_ack: SeqNum,
    delayed: Option<Instant>,
    received: u64,
}

impl Client {
    fn take(&mut self, now: Instant, seq: SeqNum, len: u32, value: u32) -> bool {
        if seq.le(self.last_ack) {
            self.recent = value;
        }
        let accepted = self.rx.accept(seq, &vec![0; len as usize], false);
        self.received += self.rx.unread() as u64;
        while self.rx.unread() > 0 {
            let n = self.rx.readable().len();
            self.rx.consume(n);
        }
        let owed = self.rx.nxt.since(self.last_ack);
        if accepted.gap || !accepted.advanced || owed > i32::from(MSS) {
            return true;
        }
        self.delayed.get_or_insert(now + DELAYED_ACK);
        false
    }

    fn ack(&mut self, now: Instant, options: bool) -> Segment<'static> {
        self.delayed = None;
        self.last_ack = self.rx.nxt;
        let window = self.rx.announce(WindowScale::new(SCALE), u32::from(MSS));
        let mut segment = segment(self.nxt, self.rx.nxt, Flags::ACK, window);
        segment.options.timestamp = Some(Timestamp {
            value: now.as_millis() as u32,
            echo: self.recent,
        });
        if options {
            segment.options.sack = self.rx.sack();
            self.rx.reported();
        }
        segment
    }
}

pub(super) fn segment(seq: SeqNum, ack: SeqNum, flags: Flags, window: Window) -> Segment<'static> {
    Segment {
        seq,
        ack,
        flags,
        window,
        options: Options::default(),
        payload: &[],
    }
}

/// An endpoint whose handshake is done, and its first sequence number.
pub(super) fn established(now: Instant, tcp: &Tcp, round_trip: Duration) -> (Endpoint, SeqNum) {
    let iss = SeqNum::new(u32::MAX - 20_000);
    let options = Options {
        mss: Some(MSS),
        window_scale: Some(SCALE),
        sack_permitted: true,
        timestamp: Some(Timestamp { value: 1, echo: 0 }),
        ..Options::default()
    };
    let mut endpoint = Endpoint::open(
        now,
        tcp,
        Open {
            irs: SeqNum::new(IRS),
            window: Window::new(u16::MAX),
            options: &options,
            iss,
            timestamp_offset: 0,
            receive_limit: 65_536,
        },
    );
    let syn_ack = endpoint.poll(now, tcp).unwrap();
    let mut ack = segment(
        SeqNum::new(IRS) + 1,
        iss + 1,
        Flags::ACK,
        Window::new(u16::MAX),
    );
    ack.options.timestamp = Some(Timestamp {
        value: 2,
        echo: syn_ack.options.timestamp.unwrap().value,
    });
    endpoint.handle(now + round_trip, tcp, &ack);
    endpoint.set_limits(BufferLimits {
        receive: tcp.receive_buffer,
        send: tcp.send_buffer,
    });
    (endpoint, iss + 1)
}

/// Downloads `bytes`.
pub(super) fn download(path: Path, bytes: u64) -> Download {
    let tcp = Tcp::default();
    let mut now = Instant::from_millis(1000);
    let (mut server, first) = established(now, &tcp, path.delay * 2);
    now += path.delay * 2;
    let mut client = Client {
        rx: Receive::resume(first - 1, first, first, 4 << 20, false),
        nxt: SeqNum::new(IRS) + 1,
        recent: 0,
        last_ack: first,
        delayed: None,
        received: 0,
    };
    client.rx.announce(WindowScale::new(SCALE), 0);
    let mut link = Link {
        path,
        rng: ChaCha8Rng::seed_from_u64(path.seed),
        frames: BinaryHeap::new(),
        order: 0,
        free: now,
    };
    let begin = now;
    let mut result = Download::default();
    let (mut written, mut highest) = (0, first);
    let data = vec![0; tcp.send_buffer];
    while client.received < bytes {
        let room = (server.writable() as u64).min(bytes - written) as usize;
        written += server.write(now, &data[..room]) as u64;
        while let Some(out) = server.poll(now, &tcp) {
            let len = out.payload.1 as u32;
            if len == 0 {
                continue;
            }
            result.sent += 1;
            result.again += u32::from(out.seq.lt(highest));
            highest = highest.max(out.seq + len);
            result.window += f64::from(server.congestion.get().window());
            let value = out.options.timestamp.unwrap().value;
            let seq = out.seq;
            result.lost += u32::from(!link.send(now, Frame::Data { seq, len, value }));
        }
        let arrives = link.frames.peek().map(|Reverse(next)| next.at);
        // The host wakes at whole milliseconds.
        let timer = server
            .timeout()
            .map(|at| Instant::from_millis(at.as_micros().div_ceil(1000)).max(now));
        let next = [arrives, timer, client.delayed].into_iter().flatten().min();
        let next = next.expect("something is always to come");
        result.stalls += u32::from(next.saturating_since(now) > Duration::from_millis(20));
        now = now.max(next);
        server.handle_timeout(now, &tcp);
        let mut answer = client.delayed.is_some_and(|at| at <= now);
        while let Some(Reverse(next)) = link.frames.peek() {
            if next.at > now {
                break;
            }
            let Some(Reverse(next)) = link.frames.pop() else {
                break;
            };
            match next.frame {
                Frame::Data { seq, len, value } => {
                    if client.take(now, seq, len, value) {
                        client.delayed = Some(now + path.stretch);
                    }
                }
                Frame::Ack(ack) => {
                    server.handle(now, &tcp, &ack);
                }
            }
            answer |= client.delayed.is_some_and(|at| at <= now);
        }
        if answer {
            let ack = client.ack(now, true);
            link.send(now, Frame::Ack(ack));
        }
    }
    result.took = now.saturating_since(begin);
    result.window /= f64::from(result.sent) * f64::from(MSS);
    result
}
