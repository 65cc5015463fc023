use alloc::format;
use alloc::string::ToString;

use super::*;

fn line(builder: SetCookieBuilder<'_>) -> Result<String, CookieError> {
    builder.build().map(|cookie| cookie.line().to_string())
}

fn pair(name: &str, value: &str) -> Result<String, CookieError> {
    line(SetCookie::builder(name, value))
}

fn ok(line: &str) -> Result<String, CookieError> {
    Ok(format!("Set-Cookie: {line}"))
}

#[test]
fn attributes() {
    let cookie = SetCookie::builder("a", "b");
    assert_eq!(line(cookie), ok("a=b"));
    assert_eq!(line(cookie.path("/x y")), ok("a=b; Path=/x y"));
    assert_eq!(line(cookie.max_age(0)), ok("a=b; Max-Age=0"));
    assert_eq!(line(cookie.http_only()), ok("a=b; HttpOnly"));
    assert_eq!(line(cookie.secure()), ok("a=b; Secure"));
    assert_eq!(
        line(cookie.same_site(SameSite::Strict)),
        ok("a=b; SameSite=Strict")
    );
    assert_eq!(
        line(cookie.same_site(SameSite::Lax)),
        ok("a=b; SameSite=Lax")
    );
    let all = cookie
        .http_only()
        .secure()
        .same_site(SameSite::None)
        .max_age(u32::MAX)
        .path("/");
    assert_eq!(
        line(all),
        ok("a=b; Path=/; Max-Age=4294967295; SameSite=None; Secure; HttpOnly")
    );
}

#[test]
fn names_are_tokens() {
    assert_eq!(
        pair("!#$%&'*+-.^_`|~09azAZ", ""),
        ok("!#$%&'*+-.^_`|~09azAZ=")
    );
    for name in [
        "", "a b", "a=", "a;", "a\r\n", "a\0", "\u{e9}", "a,", "\"a\"", "a\t", "a:", "a/",
    ] {
        assert_eq!(pair(name, "x"), Err(CookieError::Name), "{name:?}");
    }
}

#[test]
fn values_are_cookie_octets() {
    let octets = "!#$%&'()*+-./09:<=>?@AZ[]^_`az{|}~";
    assert_eq!(pair("a", octets), ok(&format!("a={octets}")));
    for value in [
        " ", "a b", "a;b", "a,b", "a\"b", "a\\b", "a\r\nb", "a\nb", "\0", "\u{7f}", "\u{e9}",
    ] {
        assert_eq!(pair("a", value), Err(CookieError::Value), "{value:?}");
    }
}

#[test]
fn lengths() {
    let value = "x".repeat(COOKIE_PAIR_MAX - 1);
    assert!(pair("a", &value).is_ok());
    assert_eq!(pair("ab", &value), Err(CookieError::PairTooLong));
    let path = format!("/{}", "x".repeat(COOKIE_PATH_MAX - 1));
    let cookie = SetCookie::builder("a", "b");
    assert!(line(cookie.path(&path)).is_ok());
    assert_eq!(
        line(cookie.path(&format!("{path}x"))),
        Err(CookieError::Path)
    );
}

#[test]
fn paths() {
    for path in [
        "", "a", "a/", "/;", "/a;b", "/\r\n", "/\n", "/\t", "/\0", "/\u{e9}", "/a ",
    ] {
        let cookie = SetCookie::builder("a", "b").path(path);
        assert_eq!(line(cookie), Err(CookieError::Path), "{path:?}");
    }
}

#[test]
fn what_clients_refuse() {
    let none = SetCookie::builder("a", "b").same_site(SameSite::None);
    assert_eq!(line(none), Err(CookieError::SameSite));
    for name in ["__Secure-a", "__host-a"] {
        let cookie = SetCookie::builder(name, "b").path("/");
        assert_eq!(line(cookie), Err(CookieError::Prefix));
        assert!(line(cookie.secure()).is_ok());
    }
    let elsewhere = SetCookie::builder("__Host-a", "b").secure();
    assert_eq!(line(elsewhere), Err(CookieError::Prefix));
    assert_eq!(line(elsewhere.path("/a")), Err(CookieError::Prefix));
    assert!(pair("__Hos", "b").is_ok());
}

#[test]
fn what_is_set_is_read() {
    let cookie = SetCookie::builder("a", "b=c").build().unwrap();
    let value = cookie.line().strip_prefix("Set-Cookie: ").unwrap();
    assert_eq!(crate::cookie_in(value.as_bytes(), "a"), Some(&b"b=c"[..]));
}
