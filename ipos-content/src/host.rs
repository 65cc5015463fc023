//! Names of hosts, in the one form in which they are compared.

use core::fmt::{self, Write};
use core::net::Ipv6Addr;

use arrayvec::ArrayString;

/// Longest host name, in bytes, without the final dot (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;
/// Longest label of a name, in bytes.
const LABEL_MAX: usize = 63;

/// The name of a host: lower case, without a final dot. An IPv6 address is in brackets and in the form of RFC 5952.
///
/// Two names are the same host's exactly if they are equal, so maps are looked up without regard to case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(ArrayString<NAME_MAX>);

impl HostName {
    /// Reads a name of letters, digits, `-` and `_` in labels, or an IPv6 address in brackets. `None` if it is
    /// neither, has an empty label, or is too long.
    pub fn new(name: &[u8]) -> Option<HostName> {
        let mut text = ArrayString::new();
        if let Some(inner) = name.strip_prefix(b"[") {
            let address = str::from_utf8(inner.strip_suffix(b"]")?).ok()?;
            let address: Ipv6Addr = address.parse().ok()?;
            write!(text, "[{address}]").ok()?;
            return Some(HostName(text));
        }
        let name = name.strip_suffix(b".").unwrap_or(name);
        let mut labels = name.split(|&byte| byte == b'.');
        if !labels.all(|label| (1..=LABEL_MAX).contains(&label.len())) {
            return None;
        }
        for byte in name {
            match byte {
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' => {
                    text.try_push(char::from(byte.to_ascii_lowercase())).ok()?;
                }
                _ => return None,
            }
        }
        Some(HostName(text))
    }

    /// Reads the host of a Host field or of an authority: a name, and perhaps a port behind it (RFC 3986 §3.2).
    /// `None` as in [`HostName::new`], and with anything else before or behind it: user information too.
    pub fn of_authority(authority: &[u8]) -> Option<HostName> {
        let position = |wanted| authority.iter().position(|&byte| byte == wanted);
        let end = match authority.first() {
            Some(b'[') => position(b']')? + 1,
            _ => position(b':').unwrap_or(authority.len()),
        };
        let (name, port) = authority.split_at_checked(end)?;
        match port {
            [] => HostName::new(name),
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => HostName::new(name),
            _ => None,
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn new(name: &str) -> Option<String> {
        HostName::new(name.as_bytes()).map(|name| name.as_str().into())
    }

    fn of_authority(authority: &str) -> Option<String> {
        HostName::of_authority(authority.as_bytes()).map(|name| name.as_str().into())
    }

    #[test]
    fn names_have_one_form() {
        for (name, form) in [
            ("Shop.EXAMPLE", "shop.example"),
            ("shop.example.", "shop.example"),
            ("localhost", "localhost"),
            ("_a.x-1.example", "_a.x-1.example"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
            ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]"),
        ] {
            assert_eq!(new(name).as_deref(), Some(form), "{name}");
        }
    }

    #[test]
    fn what_is_no_name() {
        for name in [
            "",
            ".",
            "..",
            ".a",
            "a..",
            "a..b",
            "a b",
            "a:80",
            "a/b",
            "a@b",
            "*.a",
            "a\0",
            "ü.de",
            "%61",
            "[::1",
            "[::1].",
            "[]",
            "[a]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "::1",
            "[192.0.2.1]",
        ] {
            assert_eq!(new(name), None, "{name}");
        }
    }

    #[test]
    fn longest_names() {
        let label = "x".repeat(LABEL_MAX);
        assert!(new(&label).is_some());
        assert!(new(&(label.clone() + "x")).is_none());
        let long = [&*label, &label, &label, &label[2..]].join(".");
        assert_eq!(long.len(), NAME_MAX);
        assert!(new(&long).is_some());
        assert!(new(&(long.clone() + ".")).is_some());
        assert!(new(&[&*label, &label, &label, &label[1..]].join(".")).is_none());
    }

    #[test]
    fn authorities() {
        for (authority, host) in [
            ("a.example", Some("a.example")),
            ("A.example:8080", Some("a.example")),
            ("a.example.:80", Some("a.example")),
            ("a.example:", Some("a.example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("", None),
            (":80", None),
            ("a:b", None),
            ("a:80:80", None),
            ("a:+80", None),
            ("user@a", None),
            ("user:1@a", None),
            ("[::1]80", None),
            ("[::1", None),
            ("::1", None),
            ("a, b", None),
        ] {
            assert_eq!(of_authority(authority).as_deref(), host, "{authority}");
        }
    }
}
