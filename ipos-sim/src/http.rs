//! What both sides of the simulator's HTTP/1.1 share: heads are read with `httparse`, bodies are patterns.

use crate::pattern;
use crate::stream::Stream;

/// Bytes of a head that are read before it counts as malformed.
const MAX_HEAD: usize = 64 * 1024;
/// Header fields of a head.
const MAX_FIELDS: usize = 64;
/// Body bytes written at once.
const CHUNK: usize = 8192;

/// A message being written: its head, then `body` pattern bytes of `seed`.
pub(crate) struct Message {
    head: Vec<u8>,
    seed: u64,
    body: u64,
    written: u64,
}

impl Message {
    pub(crate) fn new(head: Vec<u8>, seed: u64, body: u64) -> Message {
        Message {
            head,
            seed,
            body,
            written: 0,
        }
    }

    pub(crate) fn is_written(&self) -> bool {
        self.written == self.head.len() as u64 + self.body
    }

    /// Bytes written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes what `stream` takes, `limit` bytes at most. Whether all of the message, or of `limit`, is written.
    pub(crate) fn pump(&mut self, stream: &mut dyn Stream, limit: u64) -> bool {
        let head = self.head.len() as u64;
        let end = (head + self.body).min(self.written.saturating_add(limit));
        let mut chunk = [0; CHUNK];
        while self.written < end {
            let left = end - self.written;
            let part = match self.head.get(self.written as usize..) {
                Some(rest) if !rest.is_empty() => &rest[..left.min(rest.len() as u64) as usize],
                _ => {
                    let part = &mut chunk[..left.min(CHUNK as u64) as usize];
                    pattern::fill(self.seed, self.written - head, part);
                    &*part
                }
            };
            let taken = stream.write(part);
            self.written += taken as u64;
            if taken < part.len() {
                return false;
            }
        }
        true
    }
}

/// How reading a head went.
pub(crate) enum Read<T> {
    /// More bytes are needed.
    Wait,
    /// The stream has ended before the head did.
    Ended,
    /// This is no head.
    Malformed,
    /// The head; the stream now stands behind it.
    Head(T),
}

/// Gathers a head.
#[derive(Default)]
pub(crate) struct Gatherer {
    bytes: Vec<u8>,
}

impl Gatherer {
    /// Whether no part of a head has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads from `stream` up to the end of a head that `parse` accepts.
    pub(crate) fn read<T>(
        &mut self,
        stream: &mut dyn Stream,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, httparse::Error>,
    ) -> Read<T> {
        loop {
            let before = self.bytes.len();
            let new = stream.readable();
            let count = new.len();
            if count == 0 {
                return match stream.is_finished() {
                    true => Read::Ended,
                    false => Read::Wait,
                };
            }
            self.bytes.extend_from_slice(new);
            match parse(&self.bytes) {
                Ok(Some((len, head))) => {
                    stream.consume(len.saturating_sub(before));
                    self.bytes.clear();
                    return Read::Head(head);
                }
                Ok(None) if self.bytes.len() <= MAX_HEAD => stream.consume(count),
                _ => return Read::Malformed,
            }
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `GET /` or any path that ends in `/`: the server's name.
    Name,
    /// `GET /bytes/N?seed=S`, or the same below another path.
    Bytes { len: u64, seed: u64 },
    /// `POST`: count and digest of the body.
    Digest,
    /// A path that does not exist.
    Missing,
    /// A method or transfer coding that is not served.
    Unsupported,
}

/// A request's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) wanted: Wanted,
    pub(crate) body: u64,
    pub(crate) close: bool,
}

/// The head at the beginning of `bytes` and its length; `None` for a part of one.
pub(crate) fn parse_request(bytes: &[u8]) -> Result<Option<(usize, RequestHead)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(len) = request.parse(bytes)? else {
        return Ok(None);
    };
    let mut wanted = match (request.method, request.path) {
        (Some("GET"), Some(path)) if path.ends_with('/') => Wanted::Name,
        (Some("GET"), Some(path)) => bytes_wanted(path).unwrap_or(Wanted::Missing),
        (Some("POST"), _) => Wanted::Digest,
        _ => Wanted::Unsupported,
    };
    if field(request.headers, "transfer-encoding").is_some() {
        wanted = Wanted::Unsupported;
    }
    let body = content_length(request.headers)?.unwrap_or(0);
    let close = closes(request.headers, request.version) || wanted == Wanted::Unsupported;
    Ok(Some((
        len,
        RequestHead {
            wanted,
            body,
            close,
        },
    )))
}

fn bytes_wanted(path: &str) -> Option<Wanted> {
    let (_, rest) = path.split_once("/bytes/")?;
    let (len, seed) = rest.split_once("?seed=").unwrap_or((rest, "0"));
    Some(Wanted::Bytes {
        len: len.parse().ok()?,
        seed: seed.parse().ok()?,
    })
}

/// A response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) length: Option<u64>,
    pub(crate) server: Option<String>,
    pub(crate) close: bool,
    /// Names and values of the cookies that are set.
    pub(crate) cookies: Vec<(String, String)>,
}

/// The head at the beginning of `bytes` and its length; `None` for a part of one.
pub(crate) fn parse_response(
    bytes: &[u8],
) -> Result<Option<(usize, ResponseHead)>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(len) = response.parse(bytes)? else {
        return Ok(None);
    };
    let head = ResponseHead {
        status: response.code.unwrap_or(0),
        length: content_length(response.headers)?,
        server: field(response.headers, "x-server").map(str::to_owned),
        close: closes(response.headers, response.version),
        cookies: cookies(response.headers),
    };
    Ok(Some((len, head)))
}

/// What the Set-Cookie fields set, without their attributes.
fn cookies(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    let fields = fields.iter();
    let fields = fields.filter(|field| field.name.eq_ignore_ascii_case("set-cookie"));
    let cookie = |field: &httparse::Header<'_>| {
        let value = std::str::from_utf8(field.value).ok()?;
        let (name, value) = value.split(';').next()?.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    fields.filter_map(cookie).collect()
}

fn field<'a>(fields: &[httparse::Header<'a>], name: &str) -> Option<&'a str> {
    let field = fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(field.value).ok()
}

fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<u64>, httparse::Error> {
    match field(fields, "content-length") {
        Some(value) => value
            .parse()
            .map(Some)
            .map_err(|_| httparse::Error::HeaderValue),
        None => Ok(None),
    }
}

fn closes(fields: &[httparse::Header<'_>], version: Option<u8>) -> bool {
    match field(fields, "connection") {
        Some(value) => value.eq_ignore_ascii_case("close"),
        None => version == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::memory::Memory;

    #[test]
    fn requests_are_read_in_pieces_and_one_by_one() {
        let two = b"GET /bytes/10?seed=3 HTTP/1.1\r\nHost: x\r\n\r\nPOST / HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody";
        let mut stream = Memory::default();
        let mut gatherer = Gatherer::default();
        for &byte in &two[..42] {
            assert!(matches!(
                gatherer.read(&mut stream, parse_request),
                Read::Wait
            ));
            stream.input.push(byte);
        }
        stream.input.extend_from_slice(&two[42..]);
        let Read::Head(head) = gatherer.read(&mut stream, parse_request) else {
            panic!()
        };
        assert_eq!(
            head,
            RequestHead {
                wanted: Wanted::Bytes { len: 10, seed: 3 },
                body: 0,
                close: false
            }
        );
        let Read::Head(head) = gatherer.read(&mut stream, parse_request) else {
            panic!()
        };
        assert_eq!(
            head,
            RequestHead {
                wanted: Wanted::Digest,
                body: 4,
                close: true
            }
        );
        assert_eq!(stream.input, b"body");
    }

    #[test]
    fn ends_and_rubbish_are_told_apart() {
        let read = |input: &[u8]| {
            let mut stream = Memory {
                input: input.to_vec(),
                ended: true,
                ..Memory::default()
            };
            Gatherer::default().read(&mut stream, parse_request)
        };
        assert!(matches!(read(b""), Read::Ended));
        assert!(matches!(read(b"GET / HT"), Read::Ended));
        assert!(matches!(read(b"\0\0\0\0"), Read::Malformed));
        assert!(matches!(
            read(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
            Read::Malformed
        ));
        let mut long = b"GET / HTTP/1.1\r\nCookie: ".to_vec();
        long.resize(MAX_HEAD + 1, b'c');
        assert!(matches!(read(&long), Read::Malformed));
    }

    #[test]
    fn paths() {
        assert_eq!(
            bytes_wanted("/bytes/7"),
            Some(Wanted::Bytes { len: 7, seed: 0 })
        );
        assert_eq!(
            bytes_wanted("/img/bytes/7?seed=2"),
            Some(Wanted::Bytes { len: 7, seed: 2 })
        );
        for wrong in ["/bytes/", "/bytes/x", "/bytes/7?seed=", "/other"] {
            assert_eq!(bytes_wanted(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_goes_out_whole_whatever_room_there_is() {
        let mut message = Message::new(b"head".to_vec(), 5, 20_000);
        let mut stream = Memory::default();
        assert!(!message.pump(&mut stream, u64::MAX));
        let mut turns = 0;
        while !message.is_written() {
            stream.room = 777;
            let whole = message.pump(&mut stream, 1_000_000);
            assert_eq!(whole, message.is_written());
            turns += 1;
        }
        assert_eq!(turns, 26);
        assert_eq!(stream.output.len(), 20_004);
        assert_eq!(&stream.output[..4], b"head");
        assert_eq!(pattern::first_difference(5, 0, &stream.output[4..]), None);
    }
}
