use alloc::vec::Vec;

use super::*;

/// The cookie `session` of these Cookie fields.
fn session<'a>(values: &[&'a str]) -> Option<&'a str> {
    let fields: Vec<_> = values
        .iter()
        .map(|value| Header {
            name: "cOOkie",
            value: value.as_bytes(),
        })
        .collect();
    cookie(&fields, "session").map(|value| str::from_utf8(value).unwrap())
}

#[test]
fn one_of_several() {
    assert_eq!(session(&[]), None);
    assert_eq!(session(&["session=x"]), Some("x"));
    assert_eq!(session(&["a=b; session=x; c=d"]), Some("x"));
    assert_eq!(session(&["a=b;session=x;c=d"]), Some("x"));
    assert_eq!(session(&["a=b", "c=d; session=x"]), Some("x"));
    assert_eq!(session(&["a=b"]), None);
}

#[test]
fn the_first_one_wins() {
    assert_eq!(session(&["session=x; session=y"]), Some("x"));
    assert_eq!(session(&["session=x", "session=y"]), Some("x"));
    assert_eq!(session(&["session=; session=y"]), Some(""));
}

#[test]
fn names_are_whole_and_keep_their_case() {
    for other in [
        "Session=x",
        "xsession=x",
        "sessionx=x",
        "session",
        "=session",
        "a=session=x",
    ] {
        assert_eq!(session(&[other]), None, "{other}");
    }
}

#[test]
fn values_as_they_come() {
    assert_eq!(session(&["session=a=b="]), Some("a=b="));
    assert_eq!(session(&["session=\"x\""]), Some("x"));
    assert_eq!(session(&["session=\"x"]), Some("\"x"));
    assert_eq!(session(&["session=\""]), Some("\""));
    assert_eq!(session(&["session=\"\""]), Some(""));
    assert_eq!(session(&[" \t session = x \t"]), Some("x"));
}

#[test]
fn what_is_malformed_is_passed_over() {
    assert_eq!(session(&[";;session; =; ; session=x"]), Some("x"));
    assert_eq!(session(&["", ";", "="]), None);
    assert_eq!(
        cookie_in(b"\xff\x00=\x01; session=\xff", "session"),
        Some(&b"\xff"[..])
    );
}

#[test]
fn other_fields_have_no_cookies() {
    let fields = ["X-Cookie", "Set-Cookie", "Cookies"].map(|name| Header {
        name,
        value: b"session=x",
    });
    assert_eq!(cookie(&fields, "session"), None);
}
