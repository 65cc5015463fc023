//! Reading cookies (RFC 6265 §4.2).

use httparse::Header;

use crate::head::values;

/// The value of the first cookie called `name` in a request's Cookie fields.
///
/// Names are compared with regard to case, as clients do. Pairs without `=` are passed over, and the quotes around
/// a value are no part of it.
///
/// ```
/// let fields = [httparse::Header { name: "Cookie", value: b"a=1; session=x; session=y" }];
/// assert_eq!(ipos_http::cookie(&fields, "session"), Some(&b"x"[..]));
/// ```
pub fn cookie<'a>(fields: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    values(fields, "cookie").find_map(|value| cookie_in(value, name))
}

/// The same in the value of one Cookie field, as a request of HTTP/2 may have several (RFC 9113 §8.2.3).
pub fn cookie_in<'a>(value: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut pairs = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    pairs.find_map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (named, value) = (pair.get(..at)?, pair.get(at + 1..)?);
        (named.trim_ascii_end() == name.as_bytes()).then(|| unquoted(value.trim_ascii_start()))
    })
}

/// A value without the quotes around it.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

#[cfg(test)]
mod tests;
