use alloc::string::ToString;

use super::*;

fn row(sni: &str, servers: &[&'static str]) -> SslRow<&'static str> {
    SslRow {
        sni: sni.into(),
        servers: servers.to_vec(),
    }
}

#[test]
fn the_name_counts_before_the_wildcard() {
    let map = SslMap::new([
        row("*.Example", &["any"]),
        row("Shop.example.", &["shop", "shop2"]),
        row("*.shop.example", &["below"]),
    ]);
    let map = map.unwrap();
    for (name, servers) in [
        ("shop.example", Some(&["shop", "shop2"][..])),
        ("SHOP.EXAMPLE", Some(&["shop", "shop2"])),
        ("other.example", Some(&["any"])),
        ("a.shop.example", Some(&["below"])),
        ("a.b.shop.example", None),
        ("a.other.example", None),
        ("example", None),
        ("shop", None),
    ] {
        let name = HostName::new(name.as_bytes()).unwrap();
        assert_eq!(map.get(&name), servers, "{name}");
    }
    assert!(!map.is_empty());
    assert!(SslMap::<()>::new([]).unwrap().is_empty());
}

#[test]
fn rows_at_fault_are_named() {
    let good = row("*.example", &["s"]);
    for (bad, message) in [
        (
            row("https://a/", &["s"]),
            "`https://a/` is not a host name: write it without scheme, port and path",
        ),
        (
            row("*", &["s"]),
            "`*` is not a host name: write it without scheme, port and path",
        ),
        (
            row("*.", &["s"]),
            "`*.` is not a host name: write it without scheme, port and path",
        ),
        (
            row("a.*.example", &["s"]),
            "`a.*.example` is not a host name: write it without scheme, port and path",
        ),
        (
            row("", &["s"]),
            "`` is not a host name: write it without scheme, port and path",
        ),
        (row("a", &[]), "it names no server"),
        (
            row("*.EXAMPLE", &["t"]),
            "it is for the same as row 1: write their servers in one",
        ),
    ] {
        let error = SslMap::new([good.clone(), bad]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 2 of the SSL map: ".to_string() + message
        );
    }
    // The name below a wildcard is another row's than the wildcard.
    assert!(SslMap::new([good, row("example", &["s"])]).is_ok());
}
