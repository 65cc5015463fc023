//! Setting cookies (RFC 6265 §4.1).

use alloc::string::String;
use core::fmt::{self, Write as _};

/// Longest name and value together, in bytes: clients ignore more (RFC 6265bis §5.6).
pub const COOKIE_PAIR_MAX: usize = 4096;
/// Longest path, in bytes, likewise.
pub const COOKIE_PATH_MAX: usize = 1024;

/// A Set-Cookie field that is well-formed, and that clients do not ignore for what it says.
///
/// ```
/// use ipos_http::{SameSite, SetCookie};
///
/// let session = SetCookie::builder("session", "8f3a")
///     .path("/")
///     .http_only()
///     .same_site(SameSite::Lax)
///     .build()?;
/// assert_eq!(session.line(), "Set-Cookie: session=8f3a; Path=/; SameSite=Lax; HttpOnly");
/// # Ok::<(), ipos_http::CookieError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCookie(String);

/// To which requests from other sites a client adds the cookie (RFC 6265bis §5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that lead there.
    Lax,
    /// All. The cookie must be `Secure`.
    None,
}

/// Why a cookie cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// RFC 6265 §4.1.1: a token.
    #[error("a cookie's name has letters, digits and !#$%&'*+-.^_`|~ only, and at least one")]
    Name,
    /// RFC 6265 §4.1.1: cookie-octets.
    #[error(
        "a cookie's value has no control characters, spaces, quotes, commas, semicolons or backslashes, and is ASCII"
    )]
    Value,
    /// Name and value together.
    #[error("a cookie's name and value have more than {COOKIE_PAIR_MAX} bytes together")]
    PairTooLong,
    /// It does not begin with `/`, has other characters than a field may have, or is too long.
    #[error(
        "a cookie's path begins with /, is printable ASCII without semicolons and has at most {COOKIE_PATH_MAX} bytes"
    )]
    Path,
    /// Clients refuse it.
    #[error("a cookie with SameSite=None must be Secure")]
    SameSite,
    /// Clients refuse it (RFC 6265bis §4.1.3).
    #[error(
        "a cookie whose name begins with __Secure- or __Host- must be Secure, the latter with Path=/"
    )]
    Prefix,
}

/// A cookie that is not yet well-formed.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct SetCookieBuilder<'a> {
    name: &'a str,
    value: &'a str,
    path: Option<&'a str>,
    max_age: Option<u32>,
    same_site: Option<SameSite>,
    http_only: bool,
    secure: bool,
}

impl SetCookie {
    /// A cookie of this name and value, without attributes.
    pub fn builder<'a>(name: &'a str, value: &'a str) -> SetCookieBuilder<'a> {
        SetCookieBuilder {
            name,
            value,
            path: None,
            max_age: None,
            same_site: None,
            http_only: false,
            secure: false,
        }
    }

    /// The field's line, without its end.
    pub fn line(&self) -> &str {
        &self.0
    }
}

impl<'a> SetCookieBuilder<'a> {
    /// Below which path requests carry the cookie. Without it: below that of the request (RFC 6265 §5.1.4).
    pub fn path(self, path: &'a str) -> Self {
        let path = Some(path);
        Self { path, ..self }
    }

    /// For how many seconds the client keeps the cookie; 0 removes it. Without it: until the client is closed.
    pub fn max_age(self, seconds: u32) -> Self {
        let max_age = Some(seconds);
        Self { max_age, ..self }
    }

    /// Which requests from other sites carry the cookie.
    pub fn same_site(self, same_site: SameSite) -> Self {
        let same_site = Some(same_site);
        Self { same_site, ..self }
    }

    /// Scripts do not see the cookie.
    pub fn http_only(self) -> Self {
        let http_only = true;
        Self { http_only, ..self }
    }

    /// The cookie goes over TLS only.
    pub fn secure(self) -> Self {
        let secure = true;
        Self { secure, ..self }
    }

    /// The field.
    ///
    /// # Errors
    /// What it says is not well-formed, or clients would ignore it.
    pub fn build(self) -> Result<SetCookie, CookieError> {
        self.check()?;
        let mut line = String::new();
        self.write(&mut line)
            .map_err(|_| CookieError::PairTooLong)?;
        Ok(SetCookie(line))
    }

    fn check(&self) -> Result<(), CookieError> {
        let Self { name, value, .. } = self;
        let starts = |prefix: &str| {
            let start = name.as_bytes().get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        let host = starts("__Host-");
        let refused = [
            (
                name.is_empty() || !name.bytes().all(is_token),
                CookieError::Name,
            ),
            (!value.bytes().all(is_octet), CookieError::Value),
            (
                name.len() + value.len() > COOKIE_PAIR_MAX,
                CookieError::PairTooLong,
            ),
            (!self.path.is_none_or(is_path), CookieError::Path),
            (
                self.same_site == Some(SameSite::None) && !self.secure,
                CookieError::SameSite,
            ),
            (
                (host || starts("__Secure-")) && !self.secure,
                CookieError::Prefix,
            ),
            (host && self.path != Some("/"), CookieError::Prefix),
        ];
        let first = refused.into_iter().find(|(refused, _)| *refused);
        first.map_or(Ok(()), |(_, why)| Err(why))
    }

    fn write(&self, line: &mut String) -> fmt::Result {
        write!(line, "Set-Cookie: {}={}", self.name, self.value)?;
        if let Some(path) = self.path {
            write!(line, "; Path={path}")?;
        }
        if let Some(seconds) = self.max_age {
            write!(line, "; Max-Age={seconds}")?;
        }
        if let Some(same_site) = self.same_site {
            write!(line, "; SameSite={same_site:?}")?;
        }
        if self.secure {
            line.push_str("; Secure");
        }
        if self.http_only {
            line.push_str("; HttpOnly");
        }
        Ok(())
    }
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 6265 §4.1.1.
fn is_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

fn is_path(path: &str) -> bool {
    let printable = path
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~') && byte != b';');
    path.starts_with('/') && !path.ends_with(' ') && printable && path.len() <= COOKIE_PATH_MAX
}

#[cfg(test)]
mod tests;
