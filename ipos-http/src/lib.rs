//! What a device must understand of HTTP/1.x (RFC 9112): where heads and bodies begin and end, whether a connection is
//! at rest between two requests, and where a session's cookie goes.
//!
//! ```text
//!   client's bytes ──────► handle_request  ─┐             ┌─ Exchange ─────────► is_at_rest
//!                                           ├─ follower ──┤
//!   application's bytes ─► handle_response ─┘     │       └─ ResponseRewriter ─► bytes for the client
//!                                                 │              ▲
//!        ┌────────────────────────────────────────┘              └── SetCookie
//!        ├─ HeadGatherer        one head, however it is cut ──► Request, RequestHead, ResponseHead
//!        └─ Body                Content-Length, chunked with trailers
//! ```
//!
//! A connection may move to another server only where a fresh instance of the application can go on: all that
//! was asked has been answered. A wrong "at rest" breaks a connection, a wrong "not at rest" costs a move.
//! So whatever is in doubt makes the exchange [opaque](Opaque): never at rest again. Answers are found, and may be
//! given a cookie, as long as it is certain where the next one begins: also on connections that close.
//!
//! Nothing here does I/O, reads a clock or panics. Memory is taken only while a head is cut: for each direction
//! less than twice [`HEAD_MAX`].
//!
//! ```
//! use ipos_http::Exchange;
//!
//! let mut exchange = Exchange::new();
//! exchange.handle_request(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
//! assert!(!exchange.is_at_rest());
//! exchange.handle_response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
//! assert!(!exchange.is_at_rest());
//! exchange.handle_response(b"lo");
//! assert!(exchange.is_at_rest());
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod body;
mod chunked;
mod cookie;
mod exchange;
mod follow;
mod gather;
mod head;
mod opaque;
mod rewrite;
mod set_cookie;

pub use body::Body;
pub use cookie::{cookie, cookie_in};
pub use exchange::Exchange;
pub use follow::PIPELINE_MAX;
pub use gather::{HEAD_MAX, HeadGatherer};
pub use head::{Connection, Framing, Method, Request, RequestHead, ResponseHead, Version};
pub use opaque::Opaque;
pub use rewrite::{FieldError, HeadEnd, ResponseRewriter};
pub use set_cookie::{
    COOKIE_PAIR_MAX, COOKIE_PATH_MAX, CookieError, SameSite, SetCookie, SetCookieBuilder,
};
