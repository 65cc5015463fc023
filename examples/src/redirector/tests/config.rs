//! Configuration files.

use super::*;
use ipos_balance::PolicyKind;

const FULL: &str = r#"
[synch]
interface = "c0"
port = 7008
interval_ms = 50

[[http]]
listen = "10.77.0.5:80"
status = 307

[[http]]
listen = "[::1]:8080"

[[group]]
host = "www.firstsite.com"
service = "first"
policy = "p2c"

[[group]]
service = "tcp/80"

[dns]
listen = "10.77.0.5:53"
ttl = 1
answers = 2
nameserver = "ns.firstsite.com"

[[dns.name]]
name = "www.firstsite.com"
service = "first"

[balance]
slow_start_ms = 0
seed = 42

[limits]
servers = 3
connections = 4
silent_ms = 5
lifetime_ms = 6
"#;

#[test]
fn every_key_and_its_default() {
    let all = settings(FULL);
    assert_eq!((all.interface.as_str(), all.port), ("c0", 7008));
    assert_eq!(all.silence(), Duration::from_millis(250));
    let statuses: Vec<_> = all
        .http
        .iter()
        .map(|h| h.status.map(|s| s.as_u16()))
        .collect();
    assert_eq!(statuses, [Some(307), None]);
    assert_eq!(all.groups[0].host.as_deref(), Some("www.firstsite.com"));
    assert_eq!(all.groups[0].target.policy, PolicyKind::TwoChoices);
    assert_eq!(all.groups[1].target.policy, PolicyKind::RoundRobin);
    let dns = all.dns.as_ref().unwrap();
    assert_eq!((dns.ttl, dns.answers), (1, 2));
    assert_eq!(
        (all.seed, all.slow_start.duration),
        (Some(42), Duration::ZERO)
    );
    assert_eq!((all.servers, all.connections), (3, 4));
    assert_eq!(
        (all.silent, all.lifetime),
        (Duration::from_millis(5), Duration::from_millis(6))
    );

    let least = settings(
        "synch.interface = \"c0\"\ndns = { listen = \"10.77.0.5:53\", name = [{ name = \"a.b\", service = \"web\" }] }",
    );
    assert_eq!((least.port, least.silence()), (7007, SILENCE));
    let dns = least.dns.as_ref().unwrap();
    assert_eq!(
        (dns.ttl, dns.answers, dns.nameserver.is_none()),
        (5, 8, true)
    );
    assert_eq!((least.servers, least.connections), (256, 1_024));
    assert_eq!(least.slow_start.duration, Duration::from_secs(10));
    assert_eq!(
        (least.silent, least.lifetime),
        (Duration::from_secs(10), Duration::from_secs(60))
    );
}

/// Each fault is one line that names the file and the key.
#[test]
fn faults() {
    for (from, to, expected) in [
        (
            "interface = \"c0\"",
            "",
            "synch: missing field `interface` (line 2)",
        ),
        (
            "interface = \"c0\"",
            "interfacee = \"c0\"",
            "synch.interfacee: unknown field",
        ),
        (
            "interface = \"c0\"",
            "interface = \"\"",
            "synch.interface: \"\" is not a name of 1 to 15 bytes (line 3)",
        ),
        (
            "port = 7008",
            "port = 0",
            "synch.port: 0 is not possible: 1 to 65535 (line 4)",
        ),
        (
            "port = 7008",
            "port = -1",
            "synch.port: -1 is not possible: 1 to 65535 (line 4)",
        ),
        (
            "interval_ms = 50",
            "interval_ms = 60001",
            "synch.interval_ms: 60001 is not possible: 1 to 60000",
        ),
        (
            "\"10.77.0.5:80\"",
            "\"10.77.0.5\"",
            "http[0].listen: invalid socket address syntax: an address and a port, as in `127.0.0.1:8080`",
        ),
        (
            "\"10.77.0.5:80\"",
            "\"10.77.0.5:0\"",
            "http[0].listen: port 0 cannot be listened on",
        ),
        (
            "\"[::1]:8080\"",
            "\"10.77.0.5:80\"",
            "http[1].listen: 10.77.0.5:80 is given twice",
        ),
        (
            "status = 307",
            "status = 301",
            "http[0].status: 301 is not possible: 302 or 307 (line 9)",
        ),
        (
            "\"p2c\"",
            "\"fair\"",
            "group[0].policy: policy \"fair\" is not available: choose",
        ),
        (
            "host = \"www.firstsite.com\"",
            "host = \"www.firstsite.com:80\"",
            "group[0].host: \"www.firstsite.com:80\" is not a host name",
        ),
        (
            "host = \"www.firstsite.com\"",
            "",
            "group[1].host: two entries are without",
        ),
        (
            "service = \"tcp/80\"",
            "service = \"tcp/80\"\nhost = \"WWW.firstsite.com.\"",
            "group[1].host: www.firstsite.com is given twice",
        ),
        (
            "\"10.77.0.5:53\"",
            "\"0.0.0.0:53\"",
            "dns.listen: 0.0.0.0 is no address of this host",
        ),
        (
            "name = \"www.firstsite.com\"",
            "name = \"a..b\"",
            "dns.name[0].name: \"a..b\" is not a domain name",
        ),
        (
            "name = \"www.firstsite.com\"",
            "name = \".\"",
            "dns.name[0].name: \".\" is not a domain name",
        ),
        (
            "[[dns.name]]",
            "[[dns.name]]\nname = \"WWW.firstsite.com.\"\nservice = \"x\"\n[[dns.name]]",
            "dns.name[1].name: www.firstsite.com. is given twice",
        ),
        (
            "answers = 2",
            "answers = 65",
            "dns.answers: 65 is not possible: 1 to 64",
        ),
        (
            "connections = 4",
            "connections = 0",
            "limits.connections: 0 is not possible: 1 to 1000000",
        ),
        ("[limits]", "[limit]", "limit: unknown field `limit`"),
        ("[limits]", "[limits", "unclosed table"),
    ] {
        assert!(FULL.contains(from), "{from}");
        let text = FULL.replacen(from, to, 1);
        let error = parse(Path::new("redirector.toml"), &text)
            .unwrap_err()
            .to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with(&format!("redirector.toml: {expected}")),
            "{error} instead of {expected}"
        );
    }
}

#[test]
fn somebody_must_be_able_to_ask() {
    let cut = |sections: &[&str]| {
        let mut kept = String::new();
        let mut keep = true;
        for line in FULL.lines() {
            if line.starts_with('[') {
                keep = !sections.contains(&line);
            }
            if keep {
                kept += line;
                kept.push('\n');
            }
        }
        parse(Path::new("f"), &kept)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    assert_eq!(cut(&["[dns]", "[[dns.name]]"]), Ok(()));
    assert_eq!(cut(&["[[http]]", "[[group]]"]), Ok(()));
    assert_eq!(
        cut(&["[dns]", "[[dns.name]]", "[[http]]", "[[group]]"]),
        Err("f: http: neither [[http]] nor [dns]: nobody can ask".into())
    );
    assert_eq!(
        cut(&["[[group]]"]),
        Err("f: group: [[http]] needs at least one group".into())
    );
    assert_eq!(
        cut(&["[[http]]"]),
        Err("f: group: is of no use without [[http]]".into())
    );
    assert_eq!(
        cut(&["[[dns.name]]"]),
        Err("f: dns.name: at least one name is needed".into())
    );
    let missing = super::super::config::read(Path::new("/nonexistent/f")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("/nonexistent/f: cannot be read: ")
    );
}
