//! Tests of whole frames: vectors, and properties.

mod properties;
mod vectors;

use alloc::vec;
use alloc::vec::Vec;

use crate::Frame;

/// Bytes of a hex string; blanks do not count.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    assert_eq!(digits.len() % 2, 0);
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The frame's bytes, and nothing else.
fn emitted(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0xee; frame.frame_len() + 3];
    assert_eq!(frame.emit(&mut out), Ok(frame.frame_len()));
    assert_eq!(out.split_off(frame.frame_len()), [0xee; 3]);
    out
}
