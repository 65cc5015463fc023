//! The chunked transfer coding (RFC 9112 §7.1).

use crate::Opaque;
use crate::body::skip;
use crate::gather::HEAD_MAX;

/// Longest line with a chunk's size and extensions, in bytes.
const LINE_MAX: usize = 4 * 1024;
/// Most digits of a size: those of a `u64`.
const DIGITS_MAX: usize = 16;

/// A chunked body, as far as it has come. Line ends are CR LF and nothing else.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// Size of the chunk, then what is left of it.
    left: u64,
    /// Bytes of the current line, or of all trailers.
    line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Digits of a size.
    Size,
    /// Behind the digits, up to CR.
    Extension,
    /// LF behind a size.
    SizeEnd,
    Data,
    /// CR behind the data.
    DataCr,
    /// LF behind the data.
    DataEnd,
    /// At the beginning of a trailer, or of the last line.
    TrailerStart,
    Trailer,
    /// LF behind a trailer.
    TrailerEnd,
    /// LF of the last line.
    LastEnd,
    Complete,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks {
            state: State::Size,
            left: 0,
            line: 0,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Takes the body's part of `bytes`; what is behind it.
    pub(crate) fn take<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Opaque> {
        while !self.is_complete() {
            if self.state == State::Data {
                bytes = skip(&mut self.left, bytes);
                if self.left > 0 {
                    break;
                }
                self.state = State::DataCr;
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                break;
            };
            self.state = self.next(byte)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    /// The state behind one byte that is not data.
    fn next(&mut self, byte: u8) -> Result<State, Opaque> {
        self.line += 1;
        match (self.state, byte) {
            (State::Size, b'\r' | b';' | b' ' | b'\t') if self.line > 1 => self.behind_size(byte),
            (State::Size, _) => self.digit(byte),
            (State::Extension, _) => self.behind_size(byte),
            (State::SizeEnd, b'\n') => {
                self.line = 0;
                Ok(match self.left {
                    0 => State::TrailerStart,
                    _ => State::Data,
                })
            }
            (State::DataCr, b'\r') => Ok(State::DataEnd),
            (State::DataEnd, b'\n') => {
                self.line = 0;
                Ok(State::Size)
            }
            (State::TrailerStart, b'\r') => Ok(State::LastEnd),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::TrailerStart | State::Trailer, byte) if byte != b'\n' => self.trailer(),
            (State::TrailerEnd, b'\n') => Ok(State::TrailerStart),
            (State::LastEnd, b'\n') => Ok(State::Complete),
            _ => Err(Opaque::Malformed),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, Opaque> {
        let digit = char::from(byte).to_digit(16).ok_or(Opaque::Malformed)?;
        if self.line > DIGITS_MAX {
            return Err(Opaque::Malformed);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn behind_size(&self, byte: u8) -> Result<State, Opaque> {
        match byte {
            b'\r' => Ok(State::SizeEnd),
            b'\n' => Err(Opaque::Malformed),
            _ if self.line > LINE_MAX => Err(Opaque::HeadTooLong),
            _ => Ok(State::Extension),
        }
    }

    fn trailer(&self) -> Result<State, Opaque> {
        match self.line > HEAD_MAX {
            true => Err(Opaque::HeadTooLong),
            false => Ok(State::Trailer),
        }
    }
}

#[cfg(test)]
mod tests;
