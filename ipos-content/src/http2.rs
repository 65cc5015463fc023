//! The first HEADERS of HTTP/2 with prior knowledge (RFC 9113 §3.3).

use alloc::vec::Vec;

use crate::hpack::Fields;
use crate::request::{Request, path_of};
use crate::{HostName, Unreadable};

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest payload of a frame before the server allows more (RFC 9113 §6.5.2).
const PAYLOAD_MAX: usize = 1 << 14;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const SETTINGS: u8 = 0x4;
const PUSH_PROMISE: u8 = 0x5;
const CONTINUATION: u8 = 0x9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Passes over frames up to the first HEADERS, and gathers the field block from there.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Where the next frame begins.
    at: usize,
    state: State,
    /// The field block, as far as it has come.
    block: Vec<u8>,
    /// All that has come is whole frames before the first request.
    paused: bool,
}

#[derive(Debug)]
enum State {
    /// SETTINGS must come.
    Preface,
    /// HEADERS may come.
    Open,
    /// CONTINUATION of this stream must come.
    Block(u32),
    Whole(Fields),
}

/// One frame (RFC 9113 §4.1).
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Frames {
    /// Behind the preface.
    pub(crate) fn new() -> Frames {
        Frames {
            at: PREFACE.len(),
            state: State::Preface,
            block: Vec::new(),
            paused: false,
        }
    }

    /// Whether the client may be waiting for the server's SETTINGS (RFC 9113 §3.4: it need not).
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Goes on with what is new in `bytes`, which never become more than `limit`; whether the field block is whole.
    pub(crate) fn advance(&mut self, bytes: &[u8], limit: usize) -> Result<bool, Unreadable> {
        while !matches!(self.state, State::Whole(_)) {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some((frame, len)) = Frame::parse(rest, limit.saturating_sub(self.at))? else {
                self.paused = rest.is_empty() && matches!(self.state, State::Open);
                return Ok(false);
            };
            self.take(&frame)?;
            self.at += len;
        }
        Ok(true)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), Unreadable> {
        match (&self.state, frame.kind) {
            (State::Preface, SETTINGS) => self.state = State::Open,
            (State::Open, HEADERS) if frame.stream % 2 == 1 => {
                self.state = State::Block(frame.stream);
                self.gather(frame, frame.headers()?)?;
            }
            (State::Open, DATA | HEADERS | PUSH_PROMISE | CONTINUATION) => return Err(Unreadable),
            (State::Open, _) => {}
            (State::Block(stream), CONTINUATION) if *stream == frame.stream => {
                self.gather(frame, frame.payload)?;
            }
            _ => return Err(Unreadable),
        }
        Ok(())
    }

    fn gather(&mut self, frame: &Frame<'_>, fragment: &[u8]) -> Result<(), Unreadable> {
        self.block.extend_from_slice(fragment);
        if frame.flags & END_HEADERS != 0 {
            self.state = State::Whole(Fields::decode(&self.block)?);
            self.block = Vec::new();
        }
        Ok(())
    }

    /// Reads the whole field block (RFC 9113 §8.3.1).
    pub(crate) fn read(&self) -> Result<Request<'_>, Unreadable> {
        let State::Whole(fields) = &self.state else {
            return Err(Unreadable);
        };
        let method = one(fields.values(b":method"))?.ok_or(Unreadable)?;
        let path = match one(fields.values(b":path"))? {
            Some(path) => path_of(path)?,
            None if method == b"CONNECT" => &[],
            None => return Err(Unreadable),
        };
        Ok(Request {
            host: host(one(fields.values(b":authority"))?, fields.values(b"host")),
            path,
            cookies: fields.values(b"cookie").collect(),
        })
    }
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`, which never become more than `limit`, and its length with its header.
    fn parse(bytes: &'a [u8], limit: usize) -> Result<Option<(Frame<'a>, usize)>, Unreadable> {
        let Some((&[l2, l1, l0, kind, flags, s3, s2, s1, s0], rest)) = bytes.split_first_chunk()
        else {
            return Ok(None);
        };
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        let whole = bytes.len() - rest.len() + len;
        if len > PAYLOAD_MAX || whole > limit {
            return Err(Unreadable);
        }
        Ok(rest.get(..len).map(|payload| {
            // The highest bit is reserved.
            let stream = u32::from_be_bytes([s3 & 0x7F, s2, s1, s0]);
            let frame = Frame {
                kind,
                flags,
                stream,
                payload,
            };
            (frame, whole)
        }))
    }

    /// The fragment of the field block in HEADERS (RFC 9113 §6.2).
    fn headers(&self) -> Result<&'a [u8], Unreadable> {
        let mut rest = self.payload;
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            let (len, behind) = rest.split_first().ok_or(Unreadable)?;
            padding = usize::from(*len);
            rest = behind;
        }
        if self.flags & PRIORITY != 0 {
            rest = rest.get(5..).ok_or(Unreadable)?;
        }
        let end = rest.len().checked_sub(padding).ok_or(Unreadable)?;
        rest.get(..end).ok_or(Unreadable)
    }
}

/// The value of a field that must not come twice.
fn one<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a [u8]>, Unreadable> {
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Unreadable),
    }
}

/// None is taken where there are several Host fields, or one that names another host than the authority.
fn host<'a>(
    authority: Option<&[u8]>,
    mut fields: impl Iterator<Item = &'a [u8]>,
) -> Option<HostName> {
    let (field, None) = (fields.next(), fields.next()) else {
        return None;
    };
    let host = HostName::of_authority(authority.or(field)?)?;
    let agrees = field.is_none_or(|field| HostName::of_authority(field).as_ref() == Some(&host));
    agrees.then_some(host)
}

#[cfg(test)]
mod tests;
