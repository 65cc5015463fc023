//! What heads say about their connection and their message's framing.

use httparse::{EMPTY_HEADER, Header, Response, Status};

use crate::{Opaque, cookie};

/// Most fields of a head.
const FIELDS_MAX: usize = 128;

/// A request method, as far as framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The answer's head may name a length, but no body follows (RFC 9110 §9.3.2).
    Head,
    /// A successful answer makes the connection a tunnel (RFC 9110 §9.3.6).
    Connect,
    /// Any other.
    Other,
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What the framing fields say (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    Absent,
    /// One Content-Length, in bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Both fields, one of them twice, a value that cannot be read, or another transfer coding.
    Doubtful,
}

/// The options of the Connection fields that are known here (RFC 9110 §7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
}

/// The head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The Connection fields.
    pub connection: Connection,
    /// The framing fields.
    pub framing: Framing,
    /// Its credentials are of a scheme that authenticates the connection, not the request (RFC 4559 §6).
    pub authenticates_connection: bool,
}

/// The head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The version.
    pub version: Version,
    /// The Connection fields.
    pub connection: Connection,
    /// The framing fields.
    pub framing: Framing,
}

/// A whole request head, while it is looked at.
#[derive(Debug)]
pub struct Request<'a> {
    head: RequestHead,
    target: &'a str,
    fields: &'a [Header<'a>],
}

impl Request<'_> {
    /// Reads a whole head; what `look` makes of it.
    pub(crate) fn read<R>(head: &[u8], look: impl FnOnce(&Request<'_>) -> R) -> Result<R, Opaque> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        whole(request.parse(head), head)?;
        let method = match request.method.ok_or(Opaque::Malformed)? {
            "HEAD" => Method::Head,
            "CONNECT" => Method::Connect,
            name if is_any(name.as_bytes(), &["HEAD", "CONNECT"]) => return Err(Opaque::Malformed),
            _ => Method::Other,
        };
        let fields = &*request.headers;
        let target = request.path.ok_or(Opaque::Malformed)?;
        let head = RequestHead {
            method,
            version: version(request.version)?,
            connection: connection(fields),
            framing: framing(fields),
            authenticates_connection: authenticates_connection(fields),
        };
        Ok(look(&Request {
            head,
            target,
            fields,
        }))
    }

    /// What it says about the connection and the framing.
    pub fn head(&self) -> RequestHead {
        self.head
    }

    /// Whether a cookie with this Path is sent with such a request (RFC 6265 §5.1.4).
    pub fn is_below(&self, path: &str) -> bool {
        let own = match self.target.split_once("://") {
            Some((_, rest)) if !self.target.starts_with('/') => {
                rest.find('/').map_or("/", |at| &rest[at..])
            }
            _ => self.target,
        };
        let own = own.split(['?', '#']).next().unwrap_or_default();
        own.strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || path.ends_with('/') || rest.starts_with('/'))
    }

    /// The value of the first cookie called `name`; see [`cookie()`].
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        cookie(self.fields, name)
    }
}

impl RequestHead {
    /// Reads a whole head.
    ///
    /// # Errors
    /// It is not an HTTP/1.0 or HTTP/1.1 request head, or its method is HEAD or CONNECT in another case: not
    /// every application knows these for what they are.
    pub fn parse(head: &[u8]) -> Result<RequestHead, Opaque> {
        Request::read(head, |request| request.head)
    }

    /// Whether the client lets the connection go on behind this request (RFC 9112 §9.3).
    pub fn persists(&self) -> bool {
        let asked = self.version == Version::Http11 || self.connection.keep_alive;
        asked && !self.connection.close
    }
}

impl ResponseHead {
    /// Reads a whole head.
    ///
    /// # Errors
    /// It is not an HTTP/1.0 or HTTP/1.1 response head.
    pub fn parse(head: &[u8]) -> Result<ResponseHead, Opaque> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut response = Response::new(&mut fields);
        whole(response.parse(head), head)?;
        Ok(ResponseHead {
            status: response.code.ok_or(Opaque::Malformed)?,
            version: version(response.version)?,
            connection: connection(response.headers),
            framing: framing(response.headers),
        })
    }

    /// Whether the application lets the connection go on behind this answer to a request of `asked`
    /// (RFC 9112 §9.3). Where either is HTTP/1.0, it must say so.
    pub fn persists(&self, asked: Version) -> bool {
        let both = (asked, self.version) == (Version::Http11, Version::Http11);
        (both || self.connection.keep_alive) && !self.connection.close
    }

    /// Whether another head follows for the same request (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// What is parsed must end where the head does.
fn whole(parsed: Result<Status<usize>, httparse::Error>, head: &[u8]) -> Result<(), Opaque> {
    match parsed {
        Ok(Status::Complete(len)) if len == head.len() => Ok(()),
        Ok(_) => Err(Opaque::Malformed),
        Err(httparse::Error::TooManyHeaders) => Err(Opaque::HeadTooLong),
        Err(_) => Err(Opaque::Malformed),
    }
}

fn version(minor: Option<u8>) -> Result<Version, Opaque> {
    match minor {
        Some(0) => Ok(Version::Http10),
        Some(1) => Ok(Version::Http11),
        _ => Err(Opaque::Malformed),
    }
}

/// The values of the fields called `name`.
pub(crate) fn values<'a>(
    fields: &[Header<'a>],
    name: &'static str,
) -> impl Iterator<Item = &'a [u8]> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value.trim_ascii())
}

fn is_any(value: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| value.eq_ignore_ascii_case(name.as_bytes()))
}

fn connection(fields: &[Header<'_>]) -> Connection {
    let mut connection = Connection::default();
    let options = values(fields, "connection").flat_map(|value| value.split(|&byte| byte == b','));
    for option in options.map(<[u8]>::trim_ascii) {
        connection.close |= is_any(option, &["close"]);
        connection.keep_alive |= is_any(option, &["keep-alive"]);
    }
    connection
}

/// Receivers differ about two lengths, lists of them, and other codings: requests are smuggled that way
/// (RFC 9112 §11.2).
fn framing(fields: &[Header<'_>]) -> Framing {
    let mut lengths = values(fields, "content-length");
    let mut codings = values(fields, "transfer-encoding");
    let length = (lengths.next(), lengths.next());
    let coding = (codings.next(), codings.next());
    match (length, coding) {
        ((None, _), (None, _)) => Framing::Absent,
        ((Some(length), None), (None, _)) => {
            decimal(length).map_or(Framing::Doubtful, Framing::Length)
        }
        ((None, _), (Some(coding), None)) if is_any(coding, &["chunked"]) => Framing::Chunked,
        _ => Framing::Doubtful,
    }
}

/// Digits, and nothing else: `u64::from_str` takes a sign.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok()?;
    let only = digits.bytes().all(|byte| byte.is_ascii_digit());
    only.then(|| digits.parse().ok()).flatten()
}

fn authenticates_connection(fields: &[Header<'_>]) -> bool {
    let credentials = values(fields, "authorization").chain(values(fields, "proxy-authorization"));
    let mut schemes = credentials.filter_map(|value| value.split(u8::is_ascii_whitespace).next());
    schemes.any(|scheme| is_any(scheme, &["negotiate", "ntlm"]))
}

#[cfg(test)]
mod tests;
