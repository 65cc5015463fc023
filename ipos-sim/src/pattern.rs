//! Bytes that can be checked anywhere: what the simulator's bodies are made of.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Bytes made or compared at once.
const CHUNK: usize = 4096;

/// The pattern bytes of `seed` from `offset` on. No two offsets below 2^64 have the same surroundings, so bytes
/// that are lost, repeated or taken from another stream are found.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let skip = (offset % 8) as usize;
    let (head, rest) = buffer.split_at_mut(buffer.len().min((8 - skip) % 8));
    head.copy_from_slice(&word(seed, offset / 8)[skip..skip + head.len()]);
    let (words, tail) = rest.as_chunks_mut::<8>();
    let mut index = offset.div_ceil(8);
    for bytes in words {
        *bytes = word(seed, index);
        index += 1;
    }
    tail.copy_from_slice(&word(seed, index)[..tail.len()]);
}

/// The place in `data` of the first byte that is not the pattern's, if there is one.
pub fn first_difference(seed: u64, offset: u64, data: &[u8]) -> Option<usize> {
    let mut right = [0; CHUNK];
    for (index, chunk) in data.chunks(CHUNK).enumerate() {
        let start = index * CHUNK;
        let right = &mut right[..chunk.len()];
        fill(seed, offset.wrapping_add(start as u64), right);
        if chunk != right {
            return chunk
                .iter()
                .zip(right)
                .position(|(a, b)| a != b)
                .map(|at| start + at);
        }
    }
    None
}

/// The [`Digest`] of the first `len` pattern bytes of `seed`.
pub fn digest(seed: u64, len: u64) -> u64 {
    let mut digest = Digest::default();
    let mut buffer = [0; CHUNK];
    let mut at = 0;
    while at < len {
        let part = &mut buffer[..(len - at).min(CHUNK as u64) as usize];
        fill(seed, at, part);
        digest.update(part);
        at += part.len() as u64;
    }
    digest.finish()
}

/// The SplitMix64 sequence: word `index` of the one that starts at `seed`.
fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)).to_le_bytes()
}

/// SipHash-1-3 of a byte stream, under a fixed key; how the stream was cut does not matter.
#[derive(Clone, Debug, Default)]
pub struct Digest(SipHasher13);

impl Digest {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The digest of all bytes so far.
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_the_same_as_in_the_whole() {
        let mut whole = [0; 10_000];
        fill(3, 0, &mut whole);
        for (start, len) in [
            (0, 0),
            (1, 3),
            (3, 5),
            (5, 11),
            (8, 8),
            (17, 9_000),
            (9_999, 1),
        ] {
            let mut part = vec![0; len];
            fill(3, start as u64, &mut part);
            assert_eq!(part, whole[start..start + len], "{start}+{len}");
            assert_eq!(first_difference(3, start as u64, &part), None);
        }
    }

    #[test]
    fn the_first_wrong_byte_is_found() {
        let mut whole = [0; 10_000];
        fill(3, 0, &mut whole);
        assert!(first_difference(4, 0, &whole).is_some(), "another seed");
        assert!(first_difference(3, 4096, &whole).is_some(), "another place");
        whole[9_000] ^= 1;
        whole[9_001] ^= 1;
        assert_eq!(first_difference(3, 0, &whole), Some(9_000));
    }

    #[test]
    fn a_digest_does_not_depend_on_the_cuts() {
        let mut whole = [0; 10_000];
        fill(3, 0, &mut whole);
        let mut cut = Digest::default();
        for part in whole.chunks(7) {
            cut.update(part);
        }
        assert_eq!(cut.finish(), digest(3, 10_000));
        assert_ne!(digest(3, 10_000), digest(3, 9_999));
    }
}
