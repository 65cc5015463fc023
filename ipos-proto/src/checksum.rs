//! The Internet checksum.

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
    // RFC 1071 §2 (C): wider words give the same sum once folded, and 64 bits take 2^32 of
    // them before a carry is lost, more than a slice of network bytes can hold.
    let (words, tail) = bytes.as_chunks::<4>();
    let mut sum: u64 = words
        .iter()
        .map(|word| u64::from(u32::from_be_bytes(*word)))
        .sum();
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    sum += u64::from(u32::from_be_bytes(last));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop ends with at most 16 bits.
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::internet_checksum;
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
