//! Scripts: what a client acknowledges, and what the endpoint makes of it.

use ipos_proto::SeqNum;

use alloc::vec;
use alloc::vec::Vec;

use super::path::{MSS, established, segment};
use crate::config::Tcp;
use crate::tcp::recovery::Phase;
use crate::tcp::{Endpoint, Flags, Outgoing, Timestamp, Window};
use crate::time::{Duration, Instant};

/// Payload of a full segment: the timestamps take 12 bytes.
const FULL: u32 = MSS as u32 - 12;
const ROUND_TRIP: Duration = Duration::from_millis(20);

struct Script {
    tcp: Tcp,
    endpoint: Endpoint,
    first: SeqNum,
    now: Instant,
    sent: Vec<Outgoing>,
}

impl Script {
    /// A download of `segments`, of which the first window is sent.
    fn new(segments: usize) -> Script {
        let tcp = Tcp {
            mss: MSS,
            ..Tcp::default()
        };
        let begin = Instant::from_millis(1000);
        let (mut endpoint, first) = established(begin, &tcp, ROUND_TRIP);
        let now = begin + ROUND_TRIP;
        let data = vec![7; segments * FULL as usize];
        assert_eq!(endpoint.write(now, &data), data.len());
        let mut script = Script {
            tcp,
            endpoint,
            first,
            now,
            sent: vec![],
        };
        script.send();
        script
    }

    /// Everything that may go; the places of the segments in the stream.
    fn send(&mut self) -> Vec<u32> {
        let before = self.sent.len();
        while let Some(out) = self.endpoint.poll(self.now, &self.tcp) {
            self.sent.push(out);
        }
        let place = |out: &Outgoing| out.seq.since(self.first) as u32 / FULL;
        self.sent[before..].iter().map(place).collect()
    }

    fn at(&self, place: u32) -> SeqNum {
        self.first + place * FULL
    }

    /// The client acknowledges all before `place`, and reports the blocks of places; it echoes `echo`.
    fn ack_echoing(&mut self, place: u32, blocks: &[(u32, u32)], echo: Instant) {
        let mut ack = segment(
            self.endpoint.rcv_nxt(),
            self.at(place),
            Flags::ACK,
            Window::new(u16::MAX),
        );
        ack.options.timestamp = Some(Timestamp {
            value: self.now.as_millis() as u32,
            echo: echo.as_millis() as u32,
        });
        ack.options.sack = blocks
            .iter()
            .map(|&(left, right)| (self.at(left), self.at(right)))
            .collect();
        self.endpoint.handle(self.now, &self.tcp, &ack);
    }

    fn ack(&mut self, place: u32, blocks: &[(u32, u32)]) {
        self.ack_echoing(place, blocks, self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.endpoint.handle_timeout(self.now, &self.tcp);
    }

    fn window(&self) -> u32 {
        self.endpoint.congestion.get().window()
    }

    fn threshold(&self) -> u32 {
        self.endpoint.congestion.get().threshold()
    }

    /// Segments 1 to 5 of the first ten arrive, the first does not; it is sent again.
    fn lose_first(&mut self) {
        self.pass(ROUND_TRIP);
        self.ack(0, &[(1, 6)]);
        let sent = self.send();
        assert_eq!(sent[0], 0, "{sent:?}");
        assert_eq!(self.endpoint.recovery.phase, Phase::Fast);
    }
}

#[test]
fn a_needless_recovery_is_undone_when_it_is_over() {
    let mut script = Script::new(100);
    let (window, threshold) = (script.window(), script.threshold());
    script.lose_first();
    assert!(script.window() < window);
    // The first segment was late: everything is acknowledged before the client sees it twice.
    script.pass(Duration::from_millis(1));
    script.ack_echoing(10, &[], script.now);
    assert_eq!(script.endpoint.recovery.phase, Phase::Open);
    assert!(script.window() < window);
    script.send();
    script.pass(ROUND_TRIP);
    script.ack(10, &[(0, 1)]);
    assert_eq!((script.window(), script.threshold()), (window, threshold));
}

#[test]
fn a_duplicate_of_an_earlier_recovery_undoes_nothing() {
    let mut script = Script::new(100);
    script.pass(ROUND_TRIP);
    script.ack(2, &[]);
    script.send();
    script.pass(ROUND_TRIP);
    script.ack(2, &[(3, 7)]);
    script.send();
    let reduced = script.window();
    script.ack(2, &[(0, 1), (3, 7)]);
    assert_eq!(script.endpoint.recovery.phase, Phase::Fast);
    assert_eq!(script.window(), reduced);
}

#[test]
fn an_echo_from_before_the_retransmission_undoes_a_recovery() {
    let mut script = Script::new(100);
    let (window, sent_at) = (script.window(), script.now);
    script.lose_first();
    script.pass(Duration::from_millis(5));
    script.ack_echoing(6, &[], sent_at);
    assert_eq!(script.endpoint.recovery.phase, Phase::Open);
    assert!(script.window() >= window);
}

#[test]
fn an_echo_of_the_retransmission_undoes_nothing() {
    let mut script = Script::new(100);
    let window = script.window();
    script.lose_first();
    let again = script.now;
    script.pass(ROUND_TRIP);
    script.ack_echoing(6, &[], again);
    assert_eq!(script.endpoint.recovery.phase, Phase::Fast);
    assert!(script.window() < window);
}

/// Nothing comes from the client until the retransmission timer has fired; the probe goes out first.
fn time_out(script: &mut Script) {
    while script.endpoint.recovery.phase != Phase::Timeout {
        let next = script.endpoint.timeout().unwrap();
        script.pass(next.saturating_since(script.now));
        script.send();
    }
    assert_eq!(script.window(), u32::from(MSS));
}

#[test]
fn a_needless_timeout_is_undone() {
    let mut script = Script::new(100);
    let (window, threshold) = (script.window(), script.threshold());
    time_out(&mut script);
    script.pass(ROUND_TRIP);
    // The acknowledgments were lost, not the data.
    script.ack(10, &[(0, 1)]);
    assert_eq!(script.endpoint.recovery.phase, Phase::Open);
    assert!(script.window() >= window && script.threshold() == threshold);
    assert!(script.send().len() >= 10);
}

#[test]
fn the_acknowledgment_that_ends_a_timeout_opens_the_window() {
    let mut script = Script::new(100);
    time_out(&mut script);
    script.pass(ROUND_TRIP);
    script.ack(10, &[]);
    // One segment alone would be answered after the client's delay.
    assert!(script.send().len() >= 2);
}

#[test]
fn what_was_sent_again_gives_no_round_trip() {
    let mut script = Script::new(100);
    script.pass(ROUND_TRIP);
    script.ack(1, &[]);
    script.send();
    time_out(&mut script);
    let again = script.now;
    script.pass(ROUND_TRIP);
    script.ack_echoing(10, &[], again);
    assert!(
        script.endpoint.rtt.srtt < 30_000,
        "{:?}",
        script.endpoint.rtt
    );
}

#[test]
fn a_probe_repeats_the_last_segment_where_the_window_is_full() {
    let mut script = Script::new(100);
    let next = script.endpoint.timeout().unwrap();
    script.pass(next.saturating_since(script.now));
    assert_eq!(script.send(), [9]);
    let window = script.window();
    // Its answer, as the answer of the first sending would be: nothing says yet that it was lost.
    script.ack(10, &[]);
    assert!(script.window() >= window);
    script.send();
    script.ack(10, &[(9, 10)]);
    script.pass(ROUND_TRIP);
    script.ack(12, &[]);
    assert!(script.window() >= window && script.threshold() == u32::MAX);
}

#[test]
fn a_probe_that_repaired_a_loss_makes_the_window_smaller() {
    let mut script = Script::new(100);
    let next = script.endpoint.timeout().unwrap();
    script.pass(next.saturating_since(script.now));
    assert_eq!(script.send(), [9]);
    script.ack(10, &[]);
    assert_eq!(script.threshold(), u32::MAX);
    script.send();
    script.pass(ROUND_TRIP);
    script.ack(12, &[]);
    assert!(script.threshold() < u32::MAX);
}

#[test]
fn a_probe_that_is_not_judged_yet_does_not_keep_the_next_back() {
    let mut script = Script::new(100);
    let next = script.endpoint.timeout().unwrap();
    script.pass(next.saturating_since(script.now));
    assert_eq!(script.send(), [9]);
    script.ack(10, &[]);
    let last = *script.send().last().unwrap();
    let begin = script.now;
    let next = script.endpoint.timeout().unwrap();
    script.pass(next.saturating_since(script.now));
    assert_eq!(script.send(), [last]);
    assert!(script.now.saturating_since(begin) < script.tcp.min_rto);
}

#[test]
fn a_recovery_that_falls_silent_is_probed() {
    let mut script = Script::new(100);
    script.lose_first();
    let reduced = script.threshold();
    let before = script.now;
    script.ack(0, &[(1, 10)]);
    script.send();
    let next = script.endpoint.timeout().unwrap();
    script.pass(next.saturating_since(script.now));
    script.send();
    assert_eq!(script.sent.last().unwrap().seq, script.first);
    assert!(script.now.saturating_since(before) < script.tcp.min_rto);
    // The report of the probe as a duplicate says nothing about the loss.
    script.ack(10, &[(0, 1)]);
    assert_eq!(script.threshold(), reduced);
}

#[test]
fn a_timeout_ends_the_wait_for_the_probe() {
    let mut script = Script::new(1);
    // The first sample of a path without delay: the retransmission timer is ahead of the probe's.
    script.endpoint.rtt.srtt = 1;
    script.endpoint.rtt.rto = 200_001;
    script.ack(0, &[]);
    script.endpoint.arm_retransmission(script.now, &script.tcp);
    time_out(&mut script);
    let sent = script.sent.len();
    script.pass(Duration::from_millis(50));
    script.send();
    assert_eq!(script.sent.len(), sent);
}

/// A client whose reports never cover the FIN's number: the last segment is missing for ever, and the first one was lost
/// twice. Neither a probe of the wrong segment nor one that puts off the timeout may go on without end.
#[test]
fn a_segment_that_is_lost_twice_is_sent_a_third_time_though_the_fin_is_never_reported() {
    let mut script = Script::new(3);
    script.endpoint.shutdown();
    let fin = script.send();
    assert_eq!(fin, [3]);
    script.pass(ROUND_TRIP);
    // Behind the first one everything but the FIN is there.
    script.ack(0, &[(1, 3)]);
    script.pass(ROUND_TRIP);
    assert!(script.send().contains(&0), "the second time, lost again");
    script.ack(0, &[(1, 3)]);
    let mut third = false;
    for _ in 0..200 {
        script.pass(Duration::from_millis(5));
        let sent = script.send();
        third |= sent.contains(&0);
        if !sent.is_empty() {
            script.ack(0, &[(1, 3)]);
        }
    }
    assert!(third);
}

/// A connection that is silent for weeks moves, and its client's last word with it: that word makes TS.Recent no younger (RFC 7323 §5.5).
#[test]
fn a_client_is_heard_after_weeks() {
    const DAY: u64 = 24 * 3600;
    let tcp = Tcp::default();
    let begin = Instant::from_millis(1000);
    let (mut endpoint, first) = established(begin, &tcp, ROUND_TRIP);
    let mut word = |days: u64, offset: u32, payload: &'static [u8]| {
        let window = Window::new(u16::MAX);
        let mut segment = segment(
            SeqNum::new(super::path::IRS) + offset,
            first,
            Flags::ACK,
            window,
        );
        // The client's clock ticks each millisecond; its handshake ended at 2.
        let value = 2 + (days * DAY * 1000) as u32 * u32::from(!payload.is_empty());
        segment.options.timestamp = Some(Timestamp { value, echo: 0 });
        segment.payload = payload;
        endpoint.handle(begin + Duration::from_secs(days * DAY), &tcp, &segment);
        endpoint.rcv_nxt()
    };
    word(20, 1, b"");
    let (one, two) = (word(25, 1, b"one"), word(30, 4, b"two"));
    assert_eq!(two.since(one), 3);
    assert_eq!(one, SeqNum::new(super::path::IRS) + 4);
}
