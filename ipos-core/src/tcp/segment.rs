//! A TCP segment as the endpoint sees it, read or to be sent.

use arrayvec::ArrayVec;
use etherparse::{TcpOptionElement, TcpOptions, TcpOptionsIterator, TcpSlice};
use ipos_proto::SeqNum;

use super::window::Window;

/// The control bits that the endpoint looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
    /// PSH.
    pub psh: bool,
}

impl Flags {
    /// ACK alone.
    pub const ACK: Flags = Flags {
        syn: false,
        ack: true,
        fin: false,
        rst: false,
        psh: false,
    };
    /// SYN and ACK.
    pub const SYN_ACK: Flags = Flags {
        syn: true,
        ..Flags::ACK
    };
    /// RST and ACK.
    pub const RST_ACK: Flags = Flags {
        rst: true,
        ..Flags::ACK
    };
    /// RST alone.
    pub const RST: Flags = Flags {
        ack: false,
        ..Flags::RST_ACK
    };
}

/// RFC 7323 §3: TSval and TSecr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// The sender's clock.
    pub value: u32,
    /// The peer's clock, echoed.
    pub echo: u32,
}

/// Most SACK blocks in one segment (RFC 2018 §3).
pub const SACK_BLOCKS: usize = 4;

/// A received block: left edge, and one past the right edge.
pub type SackBlock = (SeqNum, SeqNum);

/// The options that are understood. Unknown ones are skipped; from a malformed one on, the rest is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// RFC 9293 §3.7.1, in bytes.
    pub mss: Option<u16>,
    /// RFC 7323 §2, as received (not limited to 14).
    pub window_scale: Option<u8>,
    /// RFC 2018 §2.
    pub sack_permitted: bool,
    /// RFC 2018 §3.
    pub sack: ArrayVec<SackBlock, SACK_BLOCKS>,
    /// RFC 7323 §3.
    pub timestamp: Option<Timestamp>,
}

impl Options {
    /// Reads the options part of a TCP header.
    pub fn read(mut rest: &[u8]) -> Options {
        let mut options = Options::default();
        while let [kind, more @ ..] = rest {
            if !matches!(*kind, 0..=5 | 8) {
                // The parser stops at a kind that it does not know; RFC 9293 §3.1 says to skip it.
                match more
                    .first()
                    .and_then(|&len| rest.get(usize::from(len.max(2))..))
                {
                    Some(next) if more[0] >= 2 => rest = next,
                    _ => break,
                }
                continue;
            }
            let mut elements = TcpOptionsIterator::from_slice(rest);
            match elements.next() {
                Some(Ok(element)) => options.take(element),
                Some(Err(_)) | None => break,
            }
            rest = elements.rest();
        }
        options
    }

    fn take(&mut self, element: TcpOptionElement) {
        match element {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => self.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => self.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => self.sack_permitted = true,
            TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                self.sack = core::iter::once(first)
                    .chain(more.into_iter().flatten())
                    .map(|(left, right)| (SeqNum::new(left), SeqNum::new(right)))
                    .collect();
            }
            TcpOptionElement::Timestamp(value, echo) => {
                self.timestamp = Some(Timestamp { value, echo })
            }
        }
    }

    /// The options as they go on the wire, padded to a multiple of four bytes.
    ///
    /// At most 40 bytes are possible; SACK blocks that do not fit are left out, the later ones first.
    pub fn to_wire(&self) -> TcpOptions {
        use TcpOptionElement as Element;
        let mut elements: ArrayVec<Element, 8> = ArrayVec::new();
        if let Some(mss) = self.mss {
            elements.push(Element::MaximumSegmentSize(mss));
        }
        if self.sack_permitted {
            elements.extend([Element::SelectiveAcknowledgementPermitted]);
        }
        if let Some(Timestamp { value, echo }) = self.timestamp {
            // Without SACK-permitted's two bytes in front, two NOPs align the timestamps (RFC 7323 appendix A).
            if !self.sack_permitted {
                elements.extend([Element::Noop, Element::Noop]);
            }
            elements.push(Element::Timestamp(value, echo));
        }
        if let Some(shift) = self.window_scale {
            elements.extend([Element::Noop, Element::WindowScale(shift)]);
        }
        let room = if self.timestamp.is_some() {
            SACK_BLOCKS - 1
        } else {
            SACK_BLOCKS
        };
        let mut blocks = self
            .sack
            .iter()
            .take(room)
            .map(|(left, right)| (left.raw(), right.raw()));
        if let Some(first) = blocks.next() {
            let more = [blocks.next(), blocks.next(), blocks.next()];
            elements.extend([Element::Noop, Element::Noop]);
            elements.push(Element::SelectiveAcknowledgement(first, more));
        }
        TcpOptions::try_from_elements(&elements).unwrap_or_default()
    }
}

/// A segment that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number; has a meaning only with the ACK bit.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window, not scaled.
    pub window: Window,
    /// Options.
    pub options: Options,
    /// Data.
    pub payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a segment's header and options.
    pub fn read(slice: &TcpSlice<'a>) -> Segment<'a> {
        Segment {
            seq: SeqNum::new(slice.sequence_number()),
            ack: SeqNum::new(slice.acknowledgment_number()),
            flags: Flags {
                syn: slice.syn(),
                ack: slice.ack(),
                fin: slice.fin(),
                rst: slice.rst(),
                psh: slice.psh(),
            },
            window: Window::new(slice.window_size()),
            options: Options::read(slice.options()),
            payload: slice.payload(),
        }
    }

    /// Sequence numbers that the segment occupies (RFC 9293 §3.4).
    pub fn len(&self) -> u32 {
        // A payload is shorter than an IP packet.
        self.payload.len() as u32 + u32::from(self.flags.syn) + u32::from(self.flags.fin)
    }
}

/// A segment to be sent. Its payload stays in the send buffer until the frame is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// First sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window, as it goes on the wire.
    pub window: Window,
    /// Options.
    pub options: Options,
    /// Where the payload begins in the send buffer, and how many bytes it has.
    pub payload: (usize, usize),
    /// It is a burst of segments that carry so many bytes each, but the last, which has the rest and, where they are set, FIN and PSH.
    pub burst: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_options_are_skipped() {
        let options = Options::read(&[30, 4, 9, 9, 34, 2, 2, 4, 5, 0xb4, 1, 3, 3, 7, 0, 0]);
        assert_eq!(options.mss, Some(1460));
        assert_eq!(options.window_scale, Some(7));
    }

    #[test]
    fn a_malformed_option_ends_the_list() {
        assert_eq!(Options::read(&[2, 4, 5, 0xb4, 3, 0, 3, 7]).mss, Some(1460));
        assert_eq!(Options::read(&[99, 0, 2, 4, 5, 0xb4]), Options::default());
        assert_eq!(Options::read(&[99]), Options::default());
        assert_eq!(Options::read(&[99, 1, 2, 4, 5, 0xb4]), Options::default());
    }

    fn options() -> impl Strategy<Value = Options> {
        let block =
            (any::<u32>(), any::<u32>()).prop_map(|(l, r)| (SeqNum::new(l), SeqNum::new(r)));
        let timestamp =
            (any::<u32>(), any::<u32>()).prop_map(|(value, echo)| Timestamp { value, echo });
        (
            proptest::option::of(any::<u16>()),
            proptest::option::of(any::<u8>()),
            any::<bool>(),
            proptest::collection::vec(block, 0..=2),
            proptest::option::of(timestamp),
        )
            .prop_map(
                |(mss, window_scale, sack_permitted, sack, timestamp)| Options {
                    mss,
                    window_scale,
                    sack_permitted,
                    sack: if mss.is_none() {
                        sack.into_iter().collect()
                    } else {
                        ArrayVec::new()
                    },
                    timestamp,
                },
            )
    }

    proptest! {
        #[test]
        fn options_survive_the_wire(options in options()) {
            prop_assert_eq!(Options::read(options.to_wire().as_slice()), options);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..44)) {
            Options::read(&bytes);
        }
    }
}
