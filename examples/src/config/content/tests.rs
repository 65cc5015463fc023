use std::time::Duration;

use ipos_http::SameSite;

use super::super::tests::{GOOD, error, interfaces, parse, start};

/// The contract's example.
const CONTENT: &str = r#"
[[url_map]]
host = "www.firstsite.com"
path = "/img/"
servers = ["s2", "s3"]

[[url_map]]
host = "www.secondsite.com"
servers = ["s3"]

[[ssl_map]]
sni = "*.shop.example"
servers = ["s2"]

[ssl]
affinity = true

[session]
cookie = "SID"
path = "/app"
http_only = false
same_site = "none"
secure = true
max_age_s = 600
lifetime_s = 60
direct = "X-Direct"

[limits]
sessions = 100
"#;

fn with(content: &str) -> String {
    GOOD.replace("[limits]", content)
}

#[test]
fn every_key_reaches_the_device() {
    let file = parse(&with(CONTENT)).unwrap();
    let config = file.device(interfaces(), start()).unwrap();
    let content = config.content;
    let [images, second] = &content.url_map[..] else {
        panic!("two rows");
    };
    assert_eq!(images.host.as_deref(), Some("www.firstsite.com"));
    assert_eq!(images.path.as_deref(), Some("/img/"));
    assert_eq!(images.servers, ["s2", "s3"]);
    // A group of applications: a host as a whole.
    assert_eq!(second.path, None);
    assert_eq!(content.ssl_map[0].sni, "*.shop.example");
    assert!(content.ssl_affinity);
    let session = content.session.unwrap();
    assert_eq!(session.cookie, "SID");
    assert_eq!(session.path.as_deref(), Some("/app"));
    assert_eq!((session.http_only, session.secure), (false, true));
    assert_eq!(session.same_site, Some(SameSite::None));
    assert_eq!(session.max_age, Some(600));
    assert_eq!(session.lifetime, Duration::from_secs(60));
    assert_eq!(session.direct.as_deref(), Some("X-Direct"));
    assert_eq!(session.key, [8; 32]);
    assert_eq!(config.limits.sessions, 100);
    let places = file.servers();
    let places: Vec<_> = places.iter().map(|(k, s)| (k.as_str(), &**s)).collect();
    assert_eq!(
        places,
        [
            ("url_map[0].servers[0]", "s2"),
            ("url_map[0].servers[1]", "s3"),
            ("url_map[1].servers[0]", "s3"),
            ("ssl_map[0].servers[0]", "s2"),
        ]
    );
}

#[test]
fn a_session_s_defaults() {
    let session = |text: &str| {
        let file = parse(&with(&format!("{text}\n[limits]"))).unwrap();
        let config = file.device(interfaces(), start()).unwrap();
        config.content.session.unwrap()
    };
    let default = session("[session]");
    assert_eq!(default.cookie, "IPOSSESSION");
    assert_eq!(default.path.as_deref(), Some("/"));
    assert_eq!((default.http_only, default.secure), (true, false));
    assert_eq!(default.same_site, Some(SameSite::Lax));
    assert_eq!((default.max_age, default.direct), (None, None));
    assert_eq!(session("[session]\npath = \"\"").path, None);
}

#[test]
fn errors_name_the_row_and_what_would_do() {
    let row = "[[url_map]]\nservers = [\"s2\"]\n";
    for (content, message) in [
        (
            format!("{row}path = \"img\"\n"),
            "url_map[0].path: `img` is not a path: it must begin with `/`, and be as clients send it: without `?`, `#` \
             and spaces, in ASCII (line 40)",
        ),
        (
            format!("{row}host = \"http://a/\"\n"),
            "url_map[0].host: `http://a/` is not a host name: write it without scheme, port and path (line 40)",
        ),
        (
            format!("{row}{row}"),
            "url_map[1]: url_map[0] is for the same: write their servers in one (line 40)",
        ),
        (
            "[[url_map]]\nservers = []\n".into(),
            "url_map[0].servers: it names no server (line 39)",
        ),
        (
            "[[url_map]]\nservers = [\"s1\", \"\"]\n".into(),
            "url_map[0].servers[1]: 0 bytes: 1 to 63 are possible (line 39)",
        ),
        (
            "[[url_map]]\npath = \"/\"\n".into(),
            "url_map[0].servers: is missing (line 38)",
        ),
        (
            "[[ssl_map]]\nsni = \"a.*\"\nservers = [\"s2\"]\n".into(),
            "ssl_map[0].sni: `a.*` is not a host name: write it without scheme, port and path (line 39)",
        ),
        (
            "[session]\ncookie = \"a b\"\n".into(),
            "session.cookie: a cookie's name has letters, digits and !#$%&'*+-.^_`|~ only, and at least one (line 39)",
        ),
        (
            "[session]\npath = \"app\"\n".into(),
            "session.path: a cookie's path begins with /, is printable ASCII without semicolons and has at most 1024 \
             bytes (line 39)",
        ),
        (
            "[session]\nsame_site = \"None\"\n".into(),
            "session.same_site: unknown value `None`: `strict`, `lax` and `none` are possible (line 39)",
        ),
        (
            "[session]\nsame_site = \"none\"\n".into(),
            "session.secure: a cookie with SameSite=None must be Secure (line 38)",
        ),
        (
            "[session]\nmax_age_s = 0\n".into(),
            "session.max_age_s: 0 would remove the cookie at once: leave it out, and clients forget it when they are \
             closed (line 39)",
        ),
        (
            "[session]\nlifetime_s = 0\n".into(),
            "session.lifetime_s: 1 to 31536000 s are possible (line 39)",
        ),
        (
            "[session]\ndirect = \"X Direct\"\n".into(),
            "session.direct: must be a field's name: letters, digits, - and _ (line 39)",
        ),
    ] {
        assert_eq!(
            error("[limits]", &format!("{content}[limits]")),
            format!("inic.toml: {message}")
        );
    }
    let unknown = error("[limits]", "[session]\ncookies = \"a\"\n[limits]");
    let expected = "inic.toml: session.cookies: unknown field `cookies`, expected one of";
    assert!(unknown.starts_with(expected), "{unknown}");
}
