//! Where a message's body ends (RFC 9112 §6.3).

use crate::Opaque;
use crate::chunked::Chunks;
use crate::head::{Framing, Method, RequestHead, ResponseHead, Version};

/// What is left of a message's body.
#[derive(Debug)]
pub struct Body(Rest);

#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Length(u64),
    Chunked(Chunks),
}

impl Body {
    const NONE: Body = Body(Rest::Length(0));

    /// The body behind a request's head.
    ///
    /// # Errors
    /// The framing is in doubt: an application would have to answer 400, or HTTP/1.0 has no such framing.
    pub fn of_request(head: &RequestHead) -> Result<Body, Opaque> {
        match head.framing {
            Framing::Absent => Ok(Body::NONE),
            Framing::Length(length) => Ok(Body(Rest::Length(length))),
            Framing::Chunked if head.version == Version::Http11 => Ok(Body::chunked()),
            Framing::Chunked | Framing::Doubtful => Err(Opaque::Framing),
        }
    }

    /// The body behind the head of the last response to a request of `method` and `version`.
    ///
    /// # Errors
    /// The framing is in doubt, or the connection's end is the body's.
    pub fn of_response(
        head: &ResponseHead,
        method: Method,
        version: Version,
    ) -> Result<Body, Opaque> {
        let old = (version, head.version) != (Version::Http11, Version::Http11);
        match (head.status, head.framing) {
            (_, Framing::Doubtful) => Err(Opaque::Framing),
            (_, Framing::Chunked) if old => Err(Opaque::Framing),
            (204, Framing::Chunked | Framing::Length(1..)) => Err(Opaque::Framing),
            (204 | 304, _) => Ok(Body::NONE),
            _ if method == Method::Head => Ok(Body::NONE),
            (_, Framing::Length(length)) => Ok(Body(Rest::Length(length))),
            (_, Framing::Chunked) => Ok(Body::chunked()),
            (_, Framing::Absent) => Err(Opaque::Closes),
        }
    }

    fn chunked() -> Body {
        Body(Rest::Chunked(Chunks::new()))
    }

    /// Whether nothing of it is left.
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Rest::Length(left) => *left == 0,
            Rest::Chunked(chunks) => chunks.is_complete(),
        }
    }

    /// Takes the body's part of `bytes`; what is behind it.
    ///
    /// # Errors
    /// A chunk, or the trailers, cannot be read or are too long.
    pub fn take<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Opaque> {
        match &mut self.0 {
            Rest::Length(left) => Ok(skip(left, bytes)),
            Rest::Chunked(chunks) => chunks.take(bytes),
        }
    }
}

/// Passes over `left` bytes, or as many as there are.
pub(crate) fn skip<'a>(left: &mut u64, bytes: &'a [u8]) -> &'a [u8] {
    let some = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= some as u64;
    bytes.get(some..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
