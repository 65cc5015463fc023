//! The Internet checksum.

/// A one's complement sum under way (RFC 1071), of parts that follow each other.
///
/// ```
/// use ipos_proto::{Checksum, internet_checksum};
///
/// let parts = Checksum::default().with(&[0, 1, 2, 3]).with(&[4, 5, 6]);
/// assert_eq!(parts.finish(), internet_checksum(&[0, 1, 2, 3, 4, 5, 6]));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum(u64);

impl Checksum {
    /// With one more part: every one but the last has an even number of bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Checksum {
        // RFC 1071 §2 (B), (C): the sum does not depend on the order of bytes, and wider words give the same once folded.
        // 64 bits take 2^32 of them before a carry is lost, more than a slice of network bytes can hold.
        let (words, tail) = bytes.as_chunks::<4>();
        let sum: u64 = words
            .iter()
            .map(|word| u64::from(u32::from_ne_bytes(*word)))
            .sum();
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        Checksum(fold(self.0) + sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// The sum itself: what a checksum field holds that an interface shall complete.
    pub fn sum(self) -> u16 {
        // At most 16 bits are left of it.
        u16::from_be(fold(self.0) as u16)
    }

    /// The checksum: the sum's complement.
    pub fn finish(self) -> u16 {
        !self.sum()
    }
}

fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// The Internet checksum of `bytes` (RFC 1071): the complement of the one's complement sum of
/// its 16-bit words, an odd last byte being the high half of a word.
///
/// Bytes that contain their own right checksum give 0.
///
/// ```
/// use ipos_proto::internet_checksum;
///
/// // The example of RFC 1071 §3: the sum is 0xddf2.
/// assert_eq!(internet_checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
/// ```
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    Checksum::default().with(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::{Checksum, internet_checksum};
    use proptest::prelude::*;

    /// The definition, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            let low = word.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([word[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn of_nothing_is_all_ones() {
        assert_eq!(internet_checksum(&[]), 0xffff);
    }

    #[test]
    fn of_all_ones_is_zero() {
        assert_eq!(internet_checksum(&[0xff; 64]), 0);
    }

    proptest! {
        #[test]
        fn is_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(internet_checksum(&bytes), plain(&bytes));
        }

        #[test]
        fn parts_are_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
            let (one, two) = bytes.split_at((at & !1).min(bytes.len() & !1));
            let sum = Checksum::default().with(one).with(two);
            prop_assert_eq!(sum.finish(), plain(&bytes));
            prop_assert_eq!(sum.sum(), !plain(&bytes));
        }

        #[test]
        fn verifies_itself(mut bytes in proptest::collection::vec(any::<u8>(), 2..200)) {
            bytes.truncate(bytes.len() & !1);
            let end = bytes.len();
            bytes[end - 2..].fill(0);
            let checksum = internet_checksum(&bytes).to_be_bytes();
            bytes[end - 2..].copy_from_slice(&checksum);
            prop_assert_eq!(internet_checksum(&bytes), 0);
        }
    }
}
