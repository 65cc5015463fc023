//! Fields that are added to the heads of answers.

use alloc::vec::Vec;

use crate::follow::{Follower, Piece};
use crate::set_cookie::is_token;
use crate::{Opaque, Request, ResponseHead, SetCookie};

/// Passes what an application sends, and adds Set-Cookie fields to the heads of its answers.
///
/// The bytes of both directions are handed over in the order in which they pass: an answer after the request that it
/// answers. How they are cut makes no difference, and what is passed is what the application has sent, byte for byte,
/// but for the added lines.
///
/// * The head of the last answer to each request may be added to, whatever its status, framing and body are. Those of
///   1xx are left alone, so is the answer that turns a connection into a tunnel, and what is no head of HTTP/1.x by
///   the book (folded lines included).
/// * The lines come last in the head: a client heeds them before the application's own cookies of the same name.
///   Their ends are CR LF, or LF where the head's last line ends so.
/// * Where it is in doubt whether a head follows, everything is passed as it is from there on.
/// * A head is held back until it is whole or longer than [`HEAD_MAX`](crate::HEAD_MAX); all else is passed at once.
///
/// `T` is what the caller notes of each request; it comes back with the answer. At most
/// [`PIPELINE_MAX`](crate::PIPELINE_MAX) are kept.
///
/// ```
/// use ipos_http::{ResponseRewriter, SetCookie};
///
/// let cookie = SetCookie::builder("session", "8f3a").path("/").build()?;
/// let mut rewriter = ResponseRewriter::new();
/// let mut out = Vec::new();
/// rewriter.handle_request(b"GET / HTTP/1.1\r\nCookie: a=b\r\n\r\n", |request| {
///     request.cookie("session").is_some()
/// });
/// rewriter.handle_response(b"HTTP/1.1 204 No Content\r\n\r\n", &mut out, |_, has_session, head| {
///     if !has_session {
///         head.set_cookie(&cookie);
///     }
/// });
/// assert_eq!(out, b"HTTP/1.1 204 No Content\r\nSet-Cookie: session=8f3a; Path=/\r\n\r\n");
/// # Ok::<(), ipos_http::CookieError>(())
/// ```
#[derive(Debug)]
pub struct ResponseRewriter<T> {
    follower: Follower<T>,
}

/// The end of a head that is being passed.
#[derive(Debug)]
pub struct HeadEnd<'a> {
    out: &'a mut Vec<u8>,
    line_end: &'a [u8],
}

/// Why a field cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// RFC 9110 §5.1: a token.
    #[error("a field's name has letters, digits and !#$%&'*+-.^_`|~ only, and at least one")]
    Name,
    /// It says where the answer ends or whether the connection goes on, and the head has been read.
    #[error("Connection, Content-Length and Transfer-Encoding cannot be added to an answer's head")]
    Framing,
    /// RFC 9110 §5.5.
    #[error("a field's value is printable ASCII, with spaces and tabs in between only")]
    Value,
}

impl<T> ResponseRewriter<T> {
    /// Nothing has passed yet.
    pub fn new() -> ResponseRewriter<T> {
        ResponseRewriter {
            follower: Follower::default(),
        }
    }

    /// Bytes of the client that were passed to the application. `note` is asked once for each request whose head is
    /// whole.
    pub fn handle_request(&mut self, bytes: &[u8], note: impl FnMut(&Request<'_>) -> T) {
        self.follower.handle_request(bytes, note);
    }

    /// Bytes of the application: passes them to the end of `out`, with those that were held back before.
    ///
    /// `insert` is asked once for each last answer: with what its head says, what was noted of its request, and
    /// where to add to it. Before a body's bytes no head is held, so that `out` is the only memory that they need.
    pub fn handle_response(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut insert: impl FnMut(&ResponseHead, T, &mut HeadEnd<'_>),
    ) {
        self.follower.handle_response(bytes, |piece| match piece {
            Piece::Bytes(bytes) => out.extend_from_slice(bytes),
            Piece::Answer(bytes, head, note) => {
                let (fields, line_end) = before_empty_line(bytes);
                out.extend_from_slice(fields);
                insert(&head, note, &mut HeadEnd { out, line_end });
                out.extend_from_slice(line_end);
            }
        });
    }

    /// The application has closed, or failed: passes what is held of a head that does not become whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.follower.finish(|held| out.extend_from_slice(held));
    }

    /// Whether the connection is at rest, like [`Exchange::is_at_rest`](crate::Exchange::is_at_rest). Nothing is held
    /// back then.
    pub fn is_at_rest(&self) -> bool {
        self.follower.is_at_rest()
    }

    /// Why the connection is never at rest again, if so. Answers may be added to nevertheless.
    pub fn opaque(&self) -> Option<Opaque> {
        self.follower.opaque()
    }
}

impl<T> Default for ResponseRewriter<T> {
    fn default() -> ResponseRewriter<T> {
        ResponseRewriter::new()
    }
}

impl HeadEnd<'_> {
    /// Adds a Set-Cookie field.
    pub fn set_cookie(&mut self, cookie: &SetCookie) {
        self.line(&[cookie.line()]);
    }

    /// Adds any other field. The value may be empty.
    ///
    /// # Errors
    /// Nothing is added: the name is not a token, or one of those that are followed here; or the value has other
    /// characters than a client is sure to take as they are, line ends among them, or whitespace around it.
    ///
    /// ```
    /// # use ipos_http::{FieldError, ResponseRewriter};
    /// # let mut rewriter = ResponseRewriter::new();
    /// # let mut out = Vec::new();
    /// # rewriter.handle_request(b"GET / HTTP/1.1\r\n\r\n", |_| ());
    /// rewriter.handle_response(b"HTTP/1.1 204 \r\n\r\n", &mut out, |_, (), head| {
    ///     assert_eq!(head.field("IPOS-Server", "10.77.0.3:80"), Ok(()));
    ///     assert_eq!(head.field("IPOS-Server", "a\r\nb: c"), Err(FieldError::Value));
    /// });
    /// assert_eq!(out, b"HTTP/1.1 204 \r\nIPOS-Server: 10.77.0.3:80\r\n\r\n");
    /// ```
    pub fn field(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(FieldError::Name);
        }
        let mut followed = FOLLOWED.iter();
        if followed.any(|followed| name.eq_ignore_ascii_case(followed)) {
            return Err(FieldError::Framing);
        }
        if !is_field_value(value) {
            return Err(FieldError::Value);
        }
        self.line(&[name, ": ", value]);
        Ok(())
    }

    fn line(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.extend_from_slice(self.line_end);
    }
}

/// What a [`ResponseHead`] is read from.
const FOLLOWED: [&str; 3] = ["Connection", "Content-Length", "Transfer-Encoding"];

/// RFC 9110 §5.5, without the bytes whose meaning is not known.
fn is_field_value(value: &str) -> bool {
    let printable = value
        .bytes()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    printable && value.trim_ascii() == value
}

/// The lines of a whole head, and the empty line behind them.
fn before_empty_line(head: &[u8]) -> (&[u8], &[u8]) {
    let end: &[u8] = match head.ends_with(b"\r\n") {
        true => b"\r\n",
        false => b"\n",
    };
    head.split_at(head.len().saturating_sub(end.len()))
}

#[cfg(test)]
mod tests;
