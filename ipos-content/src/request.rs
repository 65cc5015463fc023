//! What a request names, whatever the version of HTTP.

use alloc::vec::Vec;

use crate::{HostName, Unreadable};

/// Most fields of a request. More: unknown.
pub(crate) const FIELDS_MAX: usize = 128;

/// The first request on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The host that is asked. `None`: it is not named, is named more than once, or is not a host name. An
    /// authority in the target counts and not the Host field (RFC 9112 §3.2.2).
    pub host: Option<HostName>,
    /// The path as it was sent, without the query: nothing is decoded, no `.` or `..` is resolved, no `//` is
    /// merged. Empty where the target has none: `*`, and CONNECT.
    pub path: &'a [u8],
    /// Values of the Cookie fields.
    pub(crate) cookies: Vec<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// The value of the first cookie called `name`, as [`ipos_http::cookie`] reads it.
    pub fn cookie(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.cookies.iter();
        values.find_map(|value| ipos_http::cookie_in(value, name))
    }
}

/// The parts of a request's target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) path: &'a [u8],
}

impl<'a> Target<'a> {
    /// Reads a target in one of the four forms of RFC 9112 §3.2.
    pub(crate) fn parse(method: &str, target: &'a [u8]) -> Result<Target<'a>, Unreadable> {
        if method == "CONNECT" {
            return Ok(Target {
                authority: Some(target),
                path: &[],
            });
        }
        let Some(rest) = behind_scheme(target) else {
            let path = path_of(target)?;
            return Ok(Target {
                authority: None,
                path,
            });
        };
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, rest) = end
            .and_then(|end| rest.split_at_checked(end))
            .unwrap_or((rest, &[]));
        // An empty path is "/", but the server itself where options are asked (RFC 9112 §3.2.4).
        let path: &[u8] = match without_query(rest) {
            [] if method == "OPTIONS" && rest.is_empty() => &[],
            [] => b"/",
            path => path,
        };
        Ok(Target {
            authority: Some(authority),
            path,
        })
    }
}

/// The path of a target in origin or asterisk form.
pub(crate) fn path_of(target: &[u8]) -> Result<&[u8], Unreadable> {
    match target {
        b"*" => Ok(&[]),
        [b'/', ..] => Ok(without_query(target)),
        _ => Err(Unreadable),
    }
}

fn without_query(target: &[u8]) -> &[u8] {
    let mut parts = target.split(|byte| matches!(byte, b'?' | b'#'));
    parts.next().unwrap_or(target)
}

/// What follows `http://` or `https://`.
fn behind_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(method: &str, target: &'a str) -> Option<(Option<&'a str>, &'a str)> {
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let target = Target::parse(method, target.as_bytes()).ok()?;
        Some((target.authority.map(text), text(target.path)))
    }

    #[test]
    fn forms_of_a_target() {
        for (method, target, parts) in [
            ("GET", "/", Some((None, "/"))),
            ("GET", "/a/b?c=/d", Some((None, "/a/b"))),
            ("GET", "/a#b?c", Some((None, "/a"))),
            ("GET", "//a/../%2e%2E/b", Some((None, "//a/../%2e%2E/b"))),
            ("GET", "/http://b/", Some((None, "/http://b/"))),
            ("GET", "http://a/b?c", Some((Some("a"), "/b"))),
            ("GET", "HTTPS://a:1/b", Some((Some("a:1"), "/b"))),
            ("GET", "http://a", Some((Some("a"), "/"))),
            ("GET", "http://a?b/c", Some((Some("a"), "/"))),
            ("GET", "http:///a", Some((Some(""), "/a"))),
            ("OPTIONS", "*", Some((None, ""))),
            ("OPTIONS", "http://a", Some((Some("a"), ""))),
            ("OPTIONS", "http://a?b", Some((Some("a"), "/"))),
            ("CONNECT", "a:443", Some((Some("a:443"), ""))),
            ("connect", "a:443", None),
            ("GET", "a", None),
            ("GET", "ftp://a/b", None),
            ("GET", "http:/a", None),
            ("GET", "", None),
        ] {
            assert_eq!(parse(method, target), parts, "{method} {target}");
        }
    }
}
