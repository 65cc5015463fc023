//! A burst is what the segments are that it stands for, and leaves the endpoint as they would.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::path::{MSS, established, segment};
use crate::config::Tcp;
use crate::tcp::{BufferLimits, Endpoint, Flags, Outgoing, Timestamp, Window};
use crate::time::{Duration, Instant};

const ROUND_TRIP: Duration = Duration::from_millis(20);

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    /// The client acknowledges that much of what is in flight, in 1/16, and has a block behind it, with this window.
    Ack(u32, Option<(u32, u32)>, u16),
    Pass(u64),
    TooBig(u16),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let block = proptest::option::of((0u32..16, 1u32..16));
    prop_oneof![
        4 => (1usize..60_000).prop_map(Op::Write),
        6 => (0u32..=16, block, prop_oneof![0u16..200, Just(500), Just(u16::MAX)]).prop_map(|(a, b, w)| Op::Ack(a, b, w)),
        3 => (0u64..400).prop_map(Op::Pass),
        1 => (500u16..1500).prop_map(Op::TooBig),
        1 => Just(Op::Close),
    ]
}

/// An endpoint of a download, and the client's side of it.
struct Side {
    tcp: Tcp,
    endpoint: Endpoint,
    now: Instant,
    written: usize,
}

impl Side {
    fn new() -> Side {
        let tcp = Tcp {
            mss: MSS,
            ..Tcp::default()
        };
        let begin = Instant::from_millis(1000);
        let (mut endpoint, _) = established(begin, &tcp, ROUND_TRIP);
        endpoint.set_limits(BufferLimits {
            receive: 65_536,
            send: 300_000,
        });
        Side {
            tcp,
            endpoint,
            now: begin + ROUND_TRIP,
            written: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        let (now, tcp) = (self.now, &self.tcp);
        let endpoint = &mut self.endpoint;
        match *op {
            Op::Write(len) => {
                let data: Vec<u8> = (self.written..self.written + len)
                    .map(|i| (i / 7) as u8)
                    .collect();
                self.written += endpoint.write(now, &data);
            }
            Op::Ack(part, block, window) => {
                let in_flight = endpoint.tx.in_flight();
                let at = |part: u32| {
                    endpoint.tx.una + (u64::from(in_flight) * u64::from(part.min(16)) / 16) as u32
                };
                let mut ack = segment(
                    endpoint.rcv_nxt(),
                    at(part),
                    Flags::ACK,
                    Window::new(window),
                );
                ack.options.timestamp = Some(Timestamp {
                    value: now.as_millis() as u32,
                    echo: now.as_millis() as u32,
                });
                ack.options.sack = block
                    .map(|(left, len)| (at(part + left), at(part + left + len)))
                    .into_iter()
                    .collect();
                endpoint.handle(now, tcp, &ack);
            }
            Op::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                endpoint.handle_timeout(self.now, tcp);
            }
            Op::TooBig(mtu) => {
                let una = endpoint.tx.una;
                endpoint.packet_too_big(una, mtu);
            }
            Op::Close => endpoint.shutdown(),
        }
    }

    /// Everything that may go, in bursts of `most` bytes, as single segments with their data; and the longest burst.
    fn send(&mut self, most: usize) -> (Vec<(Outgoing, Vec<u8>)>, usize) {
        let (mut sent, mut longest) = (vec![], 0);
        while let Some(out) = self.endpoint.poll_burst(self.now, &self.tcp, most) {
            let (offset, len) = out.payload;
            let size = out.burst.map_or(len, usize::from).max(1);
            longest = longest.max(len);
            assert!(
                out.burst.is_none() || (len <= most && size < len),
                "{out:?}"
            );
            let mut at = 0;
            loop {
                let some = size.min(len - at);
                let ends = at + some == len;
                let mut data = vec![0; some];
                assert_eq!(self.endpoint.payload((offset + at, some), &mut data), some);
                let one = Outgoing {
                    seq: out.seq + at as u32,
                    flags: Flags {
                        fin: out.flags.fin && ends,
                        psh: out.flags.psh && ends,
                        ..out.flags
                    },
                    payload: (offset + at, some),
                    burst: None,
                    ..out.clone()
                };
                sent.push((one, data));
                at += some;
                if ends {
                    break;
                }
            }
        }
        (sent, longest)
    }
}

proptest! {
    #[test]
    fn a_burst_is_its_segments(most in 0usize..65_536, ops in proptest::collection::vec(op(), 1..40)) {
        let (mut single, mut burst) = (Side::new(), Side::new());
        for op in &ops {
            single.apply(op);
            burst.apply(op);
            let (expected, _) = single.send(0);
            let (got, longest) = burst.send(most);
            prop_assert!(longest <= most.max(MSS.into()));
            prop_assert_eq!(got, expected);
            prop_assert_eq!(format!("{:?}", burst.endpoint), format!("{:?}", single.endpoint));
        }
    }
}

#[test]
fn a_window_leaves_as_one_burst() {
    let mut side = Side::new();
    side.apply(&Op::Write(100_000));
    let (_, longest) = side.send(65_000);
    // The initial window, of which timestamps take 12 bytes a segment.
    assert_eq!(longest, 10 * (usize::from(MSS) - 12));
}

/// Only what is lost of a burst is sent again, segment by segment.
#[test]
fn a_part_of_a_burst_is_sent_again() {
    let full = u32::from(MSS) - 12;
    let mut side = Side::new();
    side.apply(&Op::Write(100_000));
    let (sent, _) = side.send(65_000);
    assert_eq!(sent.len(), 10);
    side.apply(&Op::Pass(20));
    // All but the third and the fourth have come.
    let una = side.endpoint.tx.una;
    let (now, tcp) = (side.now, &side.tcp);
    let mut ack = segment(
        side.endpoint.rcv_nxt(),
        una + 2 * full,
        Flags::ACK,
        Window::new(u16::MAX),
    );
    ack.options.timestamp = sent[0].0.options.timestamp.map(|ours| Timestamp {
        value: now.as_millis() as u32,
        echo: ours.value,
    });
    ack.options.sack = [(una + 4 * full, una + 10 * full)].into_iter().collect();
    side.endpoint.handle(now, tcp, &ack);
    let (again, _) = side.send(65_000);
    let lost: Vec<_> = again
        .iter()
        .filter(|(out, _)| out.seq.lt(una + 10 * full))
        .collect();
    assert_eq!(lost.len(), 2, "{again:?}");
    for (i, (out, data)) in lost.into_iter().enumerate() {
        assert_eq!(
            (out.seq, data.len()),
            (una + (2 + i as u32) * full, full as usize)
        );
        assert_eq!(data, &sent[2 + i].1);
    }
}
