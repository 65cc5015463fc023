//! The first head of HTTP/1.x (RFC 9112 §2.1).

use httparse::{EMPTY_HEADER, Header, Status};
use memchr::memchr;

use crate::request::{FIELDS_MAX, Request, Target};
use crate::{HostName, Unreadable};

/// Longest method, in bytes; the longest that is registered has 17. A longer one: unknown.
const METHOD_MAX: usize = 32;

/// Finds the end of the head.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Bytes that were searched.
    seen: usize,
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Where the request line ends.
    request_line: Option<usize>,
    /// Where the head ends.
    end: Option<usize>,
}

impl Head {
    /// Goes on with what is new in `bytes`; whether the head is whole.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<bool, Unreadable> {
        let first = self.request_line.is_none();
        self.find_end(bytes);
        if self.end.is_none() && first {
            self.check_request_line(bytes)?;
        }
        Ok(self.end.is_some())
    }

    /// The head ends behind the first empty line that is not before the request line (RFC 9112 §2.2).
    fn find_end(&mut self, bytes: &[u8]) {
        while self.end.is_none()
            && let Some(new) = bytes.get(self.seen..)
        {
            let Some(at) = memchr(b'\n', new) else {
                self.seen = bytes.len();
                break;
            };
            let next = self.seen + at + 1;
            let line = bytes.get(self.line..next);
            let empty = matches!(line, Some(b"\n" | b"\r\n"));
            match self.request_line {
                Some(_) if empty => self.end = Some(next),
                None if !empty => self.request_line = Some(next),
                _ => {}
            }
            self.line = next;
            self.seen = next;
        }
    }

    /// Other protocols are told by their first line, or the beginning of it: nobody should wait for the rest.
    fn check_request_line(&self, bytes: &[u8]) -> Result<(), Unreadable> {
        match self.request_line {
            Some(end) => {
                let line = bytes.get(..end).unwrap_or(bytes);
                let mut request = httparse::Request::new(&mut []);
                request.parse(line).map_err(|_| Unreadable)?;
                check_method(request.method.unwrap_or_default().as_bytes())
            }
            None => match bytes.get(self.line..).unwrap_or_default() {
                b"\r" => Ok(()),
                line => {
                    let start = line.get(..=METHOD_MAX).unwrap_or(line);
                    check_method(start.split(|&byte| byte == b' ').next().unwrap_or(start))
                }
            },
        }
    }

    /// Reads the whole head.
    pub(crate) fn read<'a>(&self, bytes: &'a [u8]) -> Result<Request<'a>, Unreadable> {
        let head = self
            .end
            .and_then(|end| bytes.get(..end))
            .ok_or(Unreadable)?;
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(Status::Complete(len)) if len == head.len() => {}
            _ => return Err(Unreadable),
        }
        let method = request.method.ok_or(Unreadable)?;
        check_method(method.as_bytes())?;
        let target = Target::parse(method, request.path.ok_or(Unreadable)?.as_bytes())?;
        Ok(Request {
            host: host(request.headers, target.authority),
            path: target.path,
            cookies: values(request.headers, "cookie").collect(),
        })
    }
}

fn check_method(method: &[u8]) -> Result<(), Unreadable> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    match method.len() <= METHOD_MAX && method.iter().all(is_token) {
        true => Ok(()),
        false => Err(Unreadable),
    }
}

/// Servers differ about several Host fields: none of them is taken (RFC 9112 §3.2).
fn host(fields: &[Header<'_>], authority: Option<&[u8]>) -> Option<HostName> {
    let mut hosts = values(fields, "host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => None,
        (host, None) => HostName::of_authority(authority.or(host)?),
    }
}

/// The values of the fields called `name`.
fn values<'a>(fields: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let named = fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    named.map(|field| field.value.trim_ascii())
}

#[cfg(test)]
mod tests;
