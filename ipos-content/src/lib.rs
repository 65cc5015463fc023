//! What a client's first bytes ask for, so that a server can be selected by content.
//!
//! ```text
//!   client's bytes ─► Inspector ─┬─ Request   host, path ──► UrlMap ─┐
//!   (all so far)                 │            cookie                 ├─► servers
//!                                ├─ Hello     server name ─► SslMap ─┘
//!                                │            affinity
//!                                └─ More, Unknown
//!   server's bytes ─► ServerFlight ─► affinity of the client when it returns
//! ```
//!
//! A device only reads: what cannot be read is passed on like anything else, and the policy selects. Nothing is
//! repaired, and where servers would differ about what a request means (several Host fields, an authority that is not
//! a name) it has no host, so that nobody selects by the wrong one. Only the first request on a connection counts.
//!
//! * **HTTP/1.x** heads are read by `httparse`: a line may end in a bare LF, empty lines may come first, and a folded
//!   field makes the head unknown (RFC 9112 §5.2). So does a method of more than 32 bytes, and a 129th field.
//! * **HTTP/2 with prior knowledge** is read up to the first HEADERS and its CONTINUATIONs. Their fields are decoded
//!   here: what there is for HPACK panics, needs `std`, or builds its Huffman table for every string.
//! * **TLS** ClientHellos are gathered from any number of segments and records; the fields are read by `tls-parser`.
//!   So is what a server sends before it encrypts: the ids by which its clients resume.
//!
//! Nothing here does I/O, reads a clock or panics. Each byte is looked at once, and never more than the limit. Memory
//! is taken for what is cut into frames or records, and for lists of cookies and protocols: no more than a few times
//! the limit.
//!
//! ```
//! use ipos_content::{Inspector, Kinds, REQUEST_MAX, Reading, UrlMap, UrlRow};
//!
//! let urls = UrlMap::new([
//!     UrlRow { host: None, path: Some("/img".into()), servers: vec!["s2", "s3"] },
//!     UrlRow { host: Some("shop.example".into()), path: None, servers: vec!["s1"] },
//! ])?;
//!
//! let mut inspector = Inspector::new(Kinds::all(), REQUEST_MAX);
//! let mut gathered = b"GET /img/logo.png HTTP/1.1\r\nHost: www.exam".to_vec();
//! assert_eq!(inspector.inspect(&gathered), Reading::More);
//! gathered.extend_from_slice(b"ple\r\nCookie: IPOSSESSION=7\r\n\r\n");
//! let Reading::Request(request) = inspector.inspect(&gathered) else { panic!() };
//! assert_eq!(request.cookie("IPOSSESSION"), Some(&b"7"[..]));
//! assert_eq!(urls.get(request.host.as_ref(), request.path), Some(&["s2", "s3"][..]));
//! # Ok::<(), ipos_content::MapError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod host;
mod hpack;
mod http1;
mod http2;
mod inspector;
mod map;
mod request;
mod ssl_map;
mod tls;
mod url_map;

pub use host::HostName;
pub use inspector::{Inspector, Kinds, REQUEST_MAX, Reading};
pub use map::{MapError, RowFault};
pub use request::Request;
pub use ssl_map::{SslMap, SslRow};
pub use tls::{Hello, ServerFlight};
pub use url_map::{UrlMap, UrlRow};

pub(crate) use inspector::Unreadable;
