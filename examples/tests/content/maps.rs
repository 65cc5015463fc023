//! The URL map, for HTTP/1.1 and HTTP/2.

use std::collections::BTreeSet;

use crate::{Bed, NAMES, web};

/// A row with a path counts on every server; the longest path wins, and only up to the end of a segment.
pub fn hosts_and_paths(bed: &Bed) {
    for server in 0..NAMES.len() {
        for (url, name) in [
            ("http://any.example/api", "s3"),
            ("http://any.example/api/list?from=1", "s3"),
            ("http://any.example/api/images/1", "s2"),
            ("http://img.site.example/api/list", "s2"),
        ] {
            assert_eq!(bed.curl(server, url, &[]), name, "{url} at server {server}");
        }
        for (_, host, name) in web::KINDS {
            let url = format!("http://{host}/anything");
            assert_eq!(bed.curl(server, &url, &[]), name, "{url} at {server}");
        }
        let host = ["-H", "Host: CSS.site.example:80"];
        assert_eq!(bed.curl(server, "http://any.example/", &host), "s3");
    }
    let free = (0..9).map(|_| bed.curl(0, "http://any.example/apis", &[]));
    let names: BTreeSet<String> = free.collect();
    assert_eq!(names.len(), NAMES.len(), "no row: the policy selects");
}

/// FIG. 2D: a host name has a group of servers, among which the policy selects.
pub fn groups(bed: &Bed) {
    let answers = (0..8).map(|_| bed.curl(2, "http://group.example/", &[]));
    let names: BTreeSet<String> = answers.collect();
    assert_eq!(names, BTreeSet::from(["s1".into(), "s2".into()]));
}

/// The same by `:authority` and `:path`.
pub fn http2(bed: &Bed) {
    let prior = ["--http2-prior-knowledge"];
    for server in 0..NAMES.len() {
        for (url, name) in [
            ("http://any.example:81/api/list", "s3"),
            ("http://any.example:81/api/images/1", "s2"),
            ("http://js.site.example:81/", "s1"),
        ] {
            assert_eq!(bed.curl(server, url, &prior), name, "{url} at {server}");
        }
    }
    let url = format!("http://{}:81/api/h2load", bed.address(0));
    let arguments = ["-n", "500", "-c", "10", "-m", "5", &url];
    let said = bed.run("h2load", &arguments);
    assert!(
        said.contains("500 succeeded, 0 failed, 0 errored, 0 timeout"),
        "{said}"
    );
    let asked = bed.sites.iter().map(|site| {
        let log = site.read("access.log");
        log.lines()
            .filter(|line| line.contains("/api/h2load"))
            .count()
    });
    assert_eq!(asked.collect::<Vec<_>>(), [0, 0, 500]);
}
