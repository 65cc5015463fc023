//! The Huffman code of HPACK (RFC 7541 Appendix B).

use alloc::vec::Vec;

use crate::Unreadable;

/// The octets, and the end of the string.
const SYMBOLS: usize = 257;
const END_OF_STRING: usize = 256;
/// Bits of the longest code.
const BITS_MAX: usize = 30;

/// Bits of each symbol's code. The code is canonical, so that these are all of it: codes are numbered by length, and
/// by symbol among those of one length.
pub(super) const BITS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The code, by its lengths.
struct Code {
    /// The symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length, the first code that is not of it or of a shorter one, as the highest of [`BITS_MAX`] bits.
    ends: [u32; BITS_MAX + 1],
    /// For each length, what makes a code's place in `symbols` when it is added to the code.
    shifts: [i64; BITS_MAX + 1],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Code {
        let mut code = Code {
            symbols: [0; SYMBOLS],
            ends: [0; BITS_MAX + 1],
            shifts: [0; BITS_MAX + 1],
        };
        let (mut place, mut next, mut bits) = (0, 0_u32, 1);
        while bits <= BITS_MAX {
            next <<= 1;
            code.shifts[bits] = place as i64 - next as i64;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if BITS[symbol] as usize == bits {
                    code.symbols[place] = symbol as u16;
                    place += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.ends[bits] = next << (BITS_MAX - bits);
            bits += 1;
        }
        code
    }

    /// The symbol at the start of [`BITS_MAX`] bits, and the bits of its code.
    fn symbol(&self, window: u32) -> Option<(usize, usize)> {
        let bits = self.ends.iter().position(|&end| window < end)?;
        let place = i64::from(window >> (BITS_MAX - bits)) + self.shifts.get(bits)?;
        let symbol = self.symbols.get(usize::try_from(place).ok()?)?;
        Some((usize::from(*symbol), bits))
    }
}

/// Appends what `coded` stands for to `text`: at most 8 bytes for 5.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> Result<(), Unreadable> {
    // The bits that were read and are not decoded, the lowest last.
    let (mut bits, mut len) = (0_u64, 0);
    let mut bytes = coded.iter();
    loop {
        while len < BITS_MAX
            && let Some(&byte) = bytes.next()
        {
            bits = bits << 8 | u64::from(byte);
            len += 8;
        }
        // Behind the end, as if ones followed: padding is the start of the last code, and so is what follows it.
        let ones = BITS_MAX.saturating_sub(len);
        let window = (bits << ones | ((1 << ones) - 1)) >> (len + ones - BITS_MAX);
        let window = (window & ((1 << BITS_MAX) - 1)) as u32;
        let (symbol, used) = CODE.symbol(window).ok_or(Unreadable)?;
        if used > len || symbol == END_OF_STRING {
            // What is left is padding: less than a byte, and all ones (RFC 7541 §5.2).
            let padding = (1 << len) - 1;
            return match len < 8 && bits & padding == padding {
                true => Ok(()),
                false => Err(Unreadable),
            };
        }
        text.push(u8::try_from(symbol).map_err(|_| Unreadable)?);
        len -= used;
    }
}
