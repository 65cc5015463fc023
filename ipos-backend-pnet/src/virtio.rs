//! The header in front of every frame that a socket with `PACKET_VNET_HDR` carries: `struct virtio_net_hdr`, in the host's
//! byte order. It says what is left to do: a checksum to be completed, a burst to be cut.

use ipos_backend::burst::{Burst, Cut};

/// Its bytes.
pub(crate) const LEN: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the sum of the pseudo header.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`.
const ONE: u8 = 0;
/// `VIRTIO_NET_HDR_GSO_TCPV4`; `VIRTIO_NET_HDR_GSO_ECN` may be added.
const TCP_OVER_IPV4: u8 = 1;
const ECN: u8 = 0x80;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: u16 = 16;

/// What is left to do for a received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// The checksum of what begins at `start`, `offset` bytes behind it.
    Checksum { start: usize, offset: usize },
    /// It is a TCP burst of segments with so many bytes of data.
    Cut { segment: u16 },
    /// It is no frame of ours to finish: a burst of another protocol.
    Unknown,
}

/// Takes the header off a received frame.
pub(crate) fn split(bytes: &[u8]) -> Option<(Left, &[u8])> {
    let (header, frame) = bytes.split_first_chunk::<LEN>()?;
    let &[flags, kind, _, _, s0, s1, b0, b1, o0, o1] = header;
    let left = match kind & !ECN {
        ONE if flags & NEEDS_CHECKSUM == 0 => Left::Nothing,
        ONE => Left::Checksum {
            start: u16::from_ne_bytes([b0, b1]).into(),
            offset: u16::from_ne_bytes([o0, o1]).into(),
        },
        TCP_OVER_IPV4 => Left::Cut {
            segment: u16::from_ne_bytes([s0, s1]),
        },
        _ => Left::Unknown,
    };
    Some((left, frame))
}

/// The header of a TCP frame that the kernel finishes; `None`: `frame` is not what `burst` says.
pub(crate) fn of_burst(frame: &[u8], burst: Burst) -> Option<[u8; LEN]> {
    let cut = Cut::new(frame, burst)?;
    let (kind, segment) = match cut.segments() {
        1 => (ONE, 0),
        _ => (TCP_OVER_IPV4, burst.segment),
    };
    let [h0, h1] = u16::try_from(cut.headers()).ok()?.to_ne_bytes();
    let [s0, s1] = segment.to_ne_bytes();
    let [b0, b1] = burst.transport.to_ne_bytes();
    let [o0, o1] = TCP_CHECKSUM.to_ne_bytes();
    Some([NEEDS_CHECKSUM, kind, h0, h1, s0, s1, b0, b1, o0, o1])
}
