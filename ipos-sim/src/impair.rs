//! What a LAN does to frames on the way to one receiver.

use std::time::Duration;

use ipos_proto::{ETHERNET_LEN, FrameType, HEADER_LEN, Header};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use crate::random::{below, chance, up_to};

/// Impairments of a LAN. Each probability is drawn for every receiver of every frame.
///
/// ```
/// use ipos_sim::Impairments;
///
/// let rough = Impairments { loss: 0.01, reordering: 0.01, duplication: 0.01, ..Impairments::default() };
/// assert!(rough.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Impairments {
    /// Probability that a frame does not arrive.
    pub loss: f64,
    /// Probability that a frame arrives twice.
    pub duplication: f64,
    /// Probability that a frame is held back, so that later ones overtake it.
    pub reordering: f64,
    /// The longest time that such a frame is held back; the time is uniform.
    pub hold_back: Duration,
    /// Probability that one bit behind the Ethernet header is inverted, so that an Internet checksum finds the error.
    /// ARP has none, and on Port B nothing but the ipOS header and the client's packet of a 0x02 has one (no farm key):
    /// where the draw hits anything else, the frame is lost, as the FCS of a real Ethernet would have it.
    pub corruption: f64,
    /// Delay of every frame, on top of the LAN's latency.
    pub delay: Duration,
    /// The longest further delay of a frame; uniform. It never changes the order.
    pub jitter: Duration,
}

impl Default for Impairments {
    /// None; frames that are held back are so for 2 ms at most.
    fn default() -> Impairments {
        Impairments {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            hold_back: Duration::from_millis(2),
            corruption: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
        }
    }
}

/// A probability that is none.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("impairment `{name}` is {value}, but a probability is between 0 and 1")]
pub struct ImpairmentError {
    /// The field at fault.
    pub name: &'static str,
    /// Its value.
    pub value: f64,
}

impl Impairments {
    /// Checks the probabilities.
    ///
    /// # Errors
    /// One is not between 0 and 1.
    pub fn validate(&self) -> Result<(), ImpairmentError> {
        let probabilities = [
            ("loss", self.loss),
            ("duplication", self.duplication),
            ("reordering", self.reordering),
            ("corruption", self.corruption),
        ];
        match probabilities
            .into_iter()
            .find(|(_, value)| !(0.0..=1.0).contains(value))
        {
            Some((name, value)) => Err(ImpairmentError { name, value }),
            None => Ok(()),
        }
    }
}

/// What became of frames on the way to their receivers: one count per receiver of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImpairmentStatistics {
    /// Frames that were to be delivered.
    pub offered: u64,
    /// Lost.
    pub lost: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Copies held back.
    pub reordered: u64,
    /// Copies with an inverted bit, or lost because no checksum would have told.
    pub corrupted: u64,
}

/// One copy of a frame that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    /// On top of the LAN's latency.
    pub(crate) delay: Duration,
    /// It may be overtaken.
    pub(crate) held_back: bool,
    /// The bit to invert.
    pub(crate) flip: Option<usize>,
}

/// Draws the fate of frames.
pub(crate) struct Impairer {
    pub(crate) impairments: Impairments,
    pub(crate) statistics: ImpairmentStatistics,
    rng: ChaCha8Rng,
}

impl Impairer {
    pub(crate) fn new(impairments: Impairments, rng: ChaCha8Rng) -> Impairer {
        Impairer {
            impairments,
            statistics: ImpairmentStatistics::default(),
            rng,
        }
    }

    /// The copies of `frame` that arrive at one receiver: none, one, or two.
    pub(crate) fn fate(&mut self, frame: &[u8]) -> [Option<Copy>; 2] {
        self.statistics.offered += 1;
        if chance(&mut self.rng, self.impairments.loss) {
            self.statistics.lost += 1;
            return [None, None];
        }
        let twice = chance(&mut self.rng, self.impairments.duplication);
        self.statistics.duplicated += u64::from(twice);
        let first = self.copy(frame);
        [first, if twice { self.copy(frame) } else { None }]
    }

    fn copy(&mut self, frame: &[u8]) -> Option<Copy> {
        let Impairments {
            reordering,
            hold_back,
            corruption,
            delay,
            jitter,
            ..
        } = self.impairments;
        let mut copy = Copy {
            delay: delay + up_to(&mut self.rng, jitter),
            held_back: false,
            flip: None,
        };
        if chance(&mut self.rng, reordering) {
            self.statistics.reordered += 1;
            copy.held_back = true;
            copy.delay += up_to(&mut self.rng, hold_back);
        }
        if chance(&mut self.rng, corruption) {
            self.statistics.corrupted += 1;
            let bytes = frame.len().saturating_sub(ETHERNET_LEN);
            let bit = below(&mut self.rng, bytes as u64 * 8) as usize;
            if bit / 8 >= verified(frame) {
                return None;
            }
            copy.flip = Some(ETHERNET_LEN * 8 + bit);
        }
        Some(copy)
    }
}

/// Bytes behind the Ethernet header that checksums vouch for.
fn verified(frame: &[u8]) -> usize {
    match frame.get(12..ETHERNET_LEN) {
        Some([0x08, 0x00]) => usize::MAX,
        Some([0x08, 0x06]) | None => 0,
        // Whatever the farm's Ethernet type is: what reads as an ipOS header is one.
        Some(_) => match Header::parse(&frame[ETHERNET_LEN..]) {
            Ok((header, _)) if header.frame_type == FrameType::Packet => usize::MAX,
            Ok(_) => HEADER_LEN,
            Err(_) => 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    const FRAMES: u64 = 100_000;

    /// Four standard deviations of a binomial share.
    fn assert_share(count: u64, of: u64, probability: f64) {
        let share = count as f64 / of as f64;
        let allowed = 4.0 * (probability * (1.0 - probability) / of as f64).sqrt();
        assert!(
            (share - probability).abs() <= allowed,
            "{share} is not {probability} ± {allowed}"
        );
    }

    #[test]
    fn rates_are_those_asked_for() {
        let what = Impairments {
            loss: 0.01,
            duplication: 0.02,
            reordering: 0.05,
            corruption: 0.1,
            ..Impairments::default()
        };
        let mut impairer = Impairer::new(what, stream(7, Purpose::Lan, 0));
        let mut frame = [0u8; 100];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        let mut copies = 0;
        let mut flipped = 0;
        for _ in 0..FRAMES {
            for copy in impairer.fate(&frame).into_iter().flatten() {
                copies += 1;
                assert!(copy.delay <= what.hold_back);
                assert!(copy.held_back || copy.delay.is_zero());
                if let Some(bit) = copy.flip {
                    flipped += 1;
                    assert!((14 * 8..100 * 8).contains(&bit));
                }
            }
        }
        let seen = impairer.statistics;
        assert_eq!(seen.offered, FRAMES);
        assert_eq!(copies, FRAMES - seen.lost + seen.duplicated);
        assert_eq!(flipped, seen.corrupted);
        assert_share(seen.lost, FRAMES, what.loss);
        assert_share(seen.duplicated, FRAMES - seen.lost, what.duplication);
        assert_share(seen.reordered, copies, what.reordering);
        assert_share(seen.corrupted, copies, what.corruption);
    }

    #[test]
    fn arp_is_lost_instead_of_corrupted() {
        let mut frame = [0u8; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        let what = Impairments {
            corruption: 1.0,
            ..Impairments::default()
        };
        let mut impairer = Impairer::new(what, stream(7, Purpose::Lan, 0));
        assert_eq!(impairer.fate(&frame), [None, None]);
        assert_eq!(impairer.statistics.corrupted, 1);
    }

    #[test]
    fn port_b_is_corrupted_where_a_checksum_tells() {
        let what = Impairments {
            corruption: 1.0,
            ..Impairments::default()
        };
        let mut impairer = Impairer::new(what, stream(7, Purpose::Lan, 0));
        for (frame_type, verified) in [
            (FrameType::Packet, 200),
            (FrameType::Endpoint, HEADER_LEN),
            (FrameType::Acknowledgement, HEADER_LEN),
        ] {
            let header = Header {
                client: "192.0.2.1:40000".parse().unwrap(),
                destination: "10.88.0.12".parse().unwrap(),
                port: 80,
                frame_type,
                protocol: ipos_proto::Protocol::Tcp,
            };
            let mut frame = [0u8; ETHERNET_LEN + 200];
            frame[13] = 7;
            frame[ETHERNET_LEN..][..HEADER_LEN].copy_from_slice(&header.to_bytes());
            let flips: Vec<usize> = (0..1_000)
                .flat_map(|_| impairer.fate(&frame))
                .flatten()
                .filter_map(|copy| copy.flip)
                .collect();
            assert_share(flips.len() as u64, 1_000, verified as f64 / 200.0);
            let range = ETHERNET_LEN * 8..(ETHERNET_LEN + verified) * 8;
            assert!(flips.iter().all(|flip| range.contains(flip)));
        }
    }

    #[test]
    fn a_probability_beyond_one_is_named() {
        let bad = Impairments {
            reordering: 1.5,
            ..Impairments::default()
        };
        assert_eq!(
            bad.validate().unwrap_err().to_string(),
            "impairment `reordering` is 1.5, but a probability is between 0 and 1"
        );
        assert!(
            Impairments {
                loss: f64::NAN,
                ..Impairments::default()
            }
            .validate()
            .is_err()
        );
    }
}
