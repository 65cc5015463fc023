use alloc::format;
use alloc::string::ToString;
use alloc::vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn row(host: Option<&str>, path: Option<&str>, servers: &[&'static str]) -> UrlRow<&'static str> {
    UrlRow {
        host: host.map(String::from),
        path: path.map(String::from),
        servers: servers.to_vec(),
    }
}

fn host(name: &str) -> HostName {
    HostName::new(name.as_bytes()).unwrap()
}

#[test]
fn the_host_counts_before_the_longest_prefix() {
    let map = UrlMap::new([
        row(None, None, &["any"]),
        row(None, Some("/img"), &["img", "img2"]),
        row(None, Some("/img/big/"), &["big"]),
        row(None, Some("/imgs"), &["imgs"]),
        row(Some("Shop.Example."), Some("/"), &["shop"]),
        row(Some("shop.example"), Some("/cart"), &["cart"]),
    ]);
    let map = map.unwrap();
    for (name, path, servers) in [
        (None, "", &["any"][..]),
        (None, "/", &["any"]),
        (None, "/img", &["img", "img2"]),
        (None, "/img/", &["img", "img2"]),
        (None, "/img/big", &["img", "img2"]),
        (None, "/img/big/", &["big"]),
        (None, "/img/big/a", &["big"]),
        (None, "/img/bigger", &["img", "img2"]),
        (None, "/imgs/a", &["imgs"]),
        (None, "/imgx", &["any"]),
        (None, "/img%2Fbig/", &["any"]),
        (None, "/img/big/../../a", &["big"]),
        (Some("other.example"), "/img/a", &["img", "img2"]),
        (Some("shop.example"), "/img/a", &["shop"]),
        (Some("shop.example"), "/cart/1", &["cart"]),
        (Some("shop.example"), "/carts", &["shop"]),
        // OPTIONS *: the host has rows, but none for it.
        (Some("shop.example"), "", &["any"]),
    ] {
        let found = map.get(name.map(host).as_ref(), path.as_bytes());
        assert_eq!(found, Some(servers), "{name:?} {path}");
    }
}

#[test]
fn what_no_row_is_for() {
    let map = UrlMap::new([row(Some("a"), Some("/b/"), &["s"])]).unwrap();
    assert_eq!(map.get(None, b"/b/"), None);
    assert_eq!(map.get(Some(&host("b")), b"/b/"), None);
    assert_eq!(map.get(Some(&host("a")), b"/b"), None);
    assert_eq!(map.get(Some(&host("a")), b"/c/"), None);
    assert_eq!(map.get(Some(&host("a")), b"/b/c"), Some(&["s"][..]));
    assert!(!map.is_empty());
    let none = UrlMap::<()>::new([]).unwrap();
    assert!(none.is_empty());
    assert_eq!(none.get(Some(&host("a")), b"/"), None);
}

#[test]
fn rows_at_fault_are_named() {
    let fault = |rows: &[UrlRow<&'static str>]| UrlMap::new(rows.iter().cloned()).unwrap_err();
    let good = row(Some("a"), Some("/"), &["s"]);
    for (bad, message) in [
        (
            row(Some("a:80"), None, &["s"]),
            "`a:80` is not a host name: write it without scheme, port and path",
        ),
        (row(None, Some("img"), &["s"]), "`img` is not a path: "),
        (row(None, Some(""), &["s"]), "`` is not a path: "),
        (row(None, Some("/a?b"), &["s"]), "`/a?b` is not a path: "),
        (row(None, Some("/a b"), &["s"]), "`/a b` is not a path: "),
        (row(None, Some("/ü"), &["s"]), "`/ü` is not a path: "),
        (row(None, None, &[]), "it names no server"),
        (
            row(Some("A."), Some("/"), &["t"]),
            "it is for the same as row 1: write their servers in one",
        ),
    ] {
        let error = fault(&[good.clone(), bad, good.clone()]).to_string();
        let expected = format!("row 2 of the URL map: {message}");
        assert!(error.starts_with(&expected), "{error}");
    }
    let twice = [row(None, None, &["s"]), good, row(None, None, &["s"])];
    assert_eq!(fault(&twice).fault, RowFault::Duplicate(1));
}

/// The rule as it is said, for one host.
fn model<'a>(rows: &'a [String], path: &str) -> Option<&'a String> {
    let begins = |row: &&String| {
        path.strip_prefix(row.as_str())
            .is_some_and(|rest| row.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    };
    rows.iter().filter(begins).max_by_key(|row| row.len())
}

fn any_path() -> impl Strategy<Value = String> {
    vec(select(&["/", "a", "b", "/a", "/ab", "a/", "!"]), 0..8)
        .prop_map(|parts| format!("/{}", parts.concat()))
}

proptest! {
    #[test]
    fn the_longest_prefix_is_found(mut rows in vec(any_path(), 0..30), paths in vec(any_path(), 1..20)) {
        rows.sort();
        rows.dedup();
        let as_row = |path: &String| UrlRow { host: None, path: Some(path.clone()), servers: vec![path.clone()] };
        let map = UrlMap::new(rows.iter().rev().map(as_row)).unwrap();
        for path in &paths {
            let found = map.get(None, path.as_bytes()).map(|servers| &servers[0]);
            prop_assert_eq!(found, model(&rows, path));
        }
    }
}
