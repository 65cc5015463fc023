//! SYN cookies (RFC 4987 §3.6): while the temporary table is full, what a record would hold travels in the SYN-ACK's
//! sequence number, and in its timestamp where the client has offered one.
//!
//! ```text
//!   sequence number   | 5: period | 3: MSS | 24: keyed hash of flow, client's ISN, period, MSS |
//!   timestamp         | 26: our clock      | 1: zero | 1: SACK | 4: window scale, 15 = none    |
//! ```

use core::hash::{Hash, Hasher};

use ipos_proto::SeqNum;
use siphasher::sip::SipHasher13;

use crate::flow::Flow;
use crate::tcp::{Options, Segment, Timestamp, WindowScale};
use crate::time::{Duration, Instant};

/// How long a period lasts; a cookie is good in its own and in the next one.
const PERIOD: Duration = Duration::from_secs(64);
/// MSS values that a cookie can hold; a client gets the next lower one.
const MSS: [u16; 8] = [64, 536, 1024, 1300, 1380, 1400, 1444, 1460];
/// Bits of the timestamp that hold options.
const OPTION_BITS: u32 = 6;
const SACK_BIT: u32 = 1 << 4;
const NO_SCALE: u32 = 15;
/// The timestamp before the one that answers a cookie may have been so much earlier, in ms.
const EARLIER: u32 = 10_000;

/// For so long after the last cookie a segment of no connection may be one of a client whose cookie got lost, or found the table
/// full: requests are gathered for seconds, and clients wait longer each time before they send again.
const AWAITED: Duration = Duration::from_secs(10);

/// The maker and checker of cookies.
#[derive(Debug)]
pub(crate) struct Cookies {
    key: [u8; 16],
    /// A cookie is good in the life that made it.
    incarnation: u32,
    /// When one was last made: without any, none is believed.
    made: Option<Instant>,
}

/// What a cookie held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) irs: SeqNum,
    pub(crate) iss: SeqNum,
    pub(crate) options: Options,
    /// A TSval not later than the SYN's.
    pub(crate) syn_tsval: u32,
}

fn period(now: Instant) -> u32 {
    (now.as_micros() / PERIOD.as_micros() as u64) as u32
}

impl Cookies {
    pub(crate) fn new(key: [u8; 16], incarnation: u32) -> Cookies {
        Cookies {
            key,
            incarnation,
            made: None,
        }
    }

    /// Cookies are out whose clients may have sent more than the segment that brings one back.
    pub(crate) fn are_awaited(&self, now: Instant) -> bool {
        self.made
            .is_some_and(|made| now.saturating_since(made) <= AWAITED)
    }

    /// Cookies are out that bring a connection back.
    pub(crate) fn are_good(&self, now: Instant) -> bool {
        self.made
            .is_some_and(|made| now.saturating_since(made) <= 2 * PERIOD)
    }

    fn number(&self, flow: &Flow, irs: SeqNum, period: u32, mss: u32) -> SeqNum {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        ("cookie", self.incarnation, flow, irs, period, mss).hash(&mut hasher);
        let hash = hasher.finish() as u32 & 0x00ff_ffff;
        SeqNum::new((period & 31) << 27 | mss << 24 | hash)
    }

    /// The sequence number that answers a SYN, and how far the timestamp clock is to be moved for its answer.
    pub(crate) fn make(
        &mut self,
        now: Instant,
        flow: &Flow,
        syn: &Segment<'_>,
        clock: u32,
    ) -> (SeqNum, u32) {
        self.made = Some(now);
        let offered = syn.options.mss.unwrap_or(536);
        let mss = MSS.iter().rposition(|mss| *mss <= offered).unwrap_or(0) as u32;
        let number = self.number(flow, syn.seq, period(now), mss);
        let scale = syn
            .options
            .window_scale
            .map_or(NO_SCALE, |scale| u32::from(WindowScale::new(scale).raw()));
        let bits = scale
            | if syn.options.sack_permitted {
                SACK_BIT
            } else {
                0
            };
        let mut value = clock >> OPTION_BITS << OPTION_BITS | bits;
        if value.wrapping_sub(clock) as i32 > 0 {
            // Never ahead of the clock: later segments must not seem older.
            value = value.wrapping_sub(1 << OPTION_BITS);
        }
        (number, value.wrapping_sub(clock))
    }

    /// What the cookie held that `ack` acknowledges; `None` when it is none of ours, or too old.
    pub(crate) fn check(&self, now: Instant, flow: &Flow, ack: &Segment<'_>) -> Option<Recovered> {
        if !self.are_good(now) {
            return None;
        }
        let (irs, iss) = (ack.seq - 1, ack.ack - 1);
        let mss = iss.raw() >> 24 & 7;
        let current = period(now);
        let periods = [current, current.wrapping_sub(1)];
        periods
            .into_iter()
            .find(|period| self.number(flow, irs, *period, mss) == iss)?;
        let mut options = Options {
            mss: MSS.get(mss as usize).copied(),
            ..Options::default()
        };
        let mut syn_tsval = 0;
        if let Some(Timestamp { value, echo }) = ack.options.timestamp {
            let scale = echo & NO_SCALE;
            options.window_scale = (scale != NO_SCALE).then_some(scale as u8);
            options.sack_permitted = echo & SACK_BIT != 0;
            syn_tsval = value.wrapping_sub(EARLIER);
            options.timestamp = Some(Timestamp {
                value: syn_tsval,
                echo: 0,
            });
        }
        Some(Recovered {
            irs,
            iss,
            options,
            syn_tsval,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Flags;

    fn flow() -> Flow {
        Flow::tcp(
            "192.0.2.1:4000".parse().unwrap(),
            "10.77.0.11:80".parse().unwrap(),
        )
    }

    fn segment(seq: u32, ack: u32, flags: Flags, options: Options) -> Segment<'static> {
        Segment {
            seq: SeqNum::new(seq),
            ack: SeqNum::new(ack),
            flags,
            window: Default::default(),
            options,
            payload: &[],
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut cookies = Cookies::new([7; 16], 1);
        let now = Instant::from_millis(1_000_000);
        for (offered, kept) in [
            (None, 536),
            (Some(1460), 1460),
            (Some(1450), 1444),
            (Some(9000), 1460),
            (Some(1), 64),
        ] {
            for (window_scale, sack_permitted) in [
                (Some(7), true),
                (None, false),
                (Some(0), true),
                (Some(14), false),
            ] {
                let syn = Options {
                    mss: offered,
                    window_scale,
                    sack_permitted,
                    timestamp: Some(Timestamp {
                        value: 500_000,
                        echo: 0,
                    }),
                    ..Options::default()
                };
                let syn = segment(99, 0, Flags::default(), syn);
                let clock = 123_456;
                let (iss, moved) = cookies.make(now, &flow(), &syn, clock);
                let tsval = clock.wrapping_add(moved);
                assert!(tsval <= clock && clock - tsval < 128);
                let answer = Options {
                    timestamp: Some(Timestamp {
                        value: 500_009,
                        echo: tsval,
                    }),
                    ..Options::default()
                };
                let ack = segment(100, (iss + 1).raw(), Flags::ACK, answer);
                let later = now + Duration::from_secs(60);
                let Recovered {
                    irs,
                    iss: ours,
                    options,
                    ..
                } = cookies.check(later, &flow(), &ack).unwrap();
                assert_eq!((irs, ours), (SeqNum::new(99), iss));
                assert_eq!(
                    (options.mss, options.window_scale),
                    (Some(kept), window_scale)
                );
                assert_eq!(options.sack_permitted, sack_permitted);
                assert_eq!(
                    cookies.check(now + Duration::from_secs(129), &flow(), &ack),
                    None,
                    "too old"
                );
                let guess = segment(100, (iss + 2).raw(), Flags::ACK, Options::default());
                assert_eq!(cookies.check(now, &flow(), &guess), None);
            }
        }
    }

    #[test]
    fn nothing_is_believed_before_a_cookie_was_made() {
        let mut cookies = Cookies::new([7; 16], 1);
        let now = Instant::from_millis(1_000);
        let syn = segment(99, 0, Flags::default(), Options::default());
        let (iss, _) = Cookies::new([7; 16], 1).make(now, &flow(), &syn, 0);
        let ack = segment(100, (iss + 1).raw(), Flags::ACK, Options::default());
        assert_eq!(cookies.check(now, &flow(), &ack), None);
        cookies.make(now, &flow(), &syn, 0);
        assert!(cookies.check(now, &flow(), &ack).is_some());
    }
}
