//! The SSL map.

use crate::{Bed, NAMES};

/// The server name of the ClientHello selects; each server has a certificate of its own.
pub fn server_names(bed: &Bed) {
    // With it a ClientHello does not fit into one segment.
    let long = "a-protocol-that-nobody-speaks,".repeat(100) + "http/1.1";
    for server in 0..NAMES.len() {
        for (name, expected) in [
            ("a.shop.example", "s2"),
            ("B.Shop.example", "s3"),
            ("other.shop.example", "s3"),
        ] {
            assert_eq!(subject(bed, server, &["-servername", name]), expected);
        }
        let arguments = ["-servername", "a.shop.example", "-alpn", &long];
        assert_eq!(subject(bed, server, &arguments), "s2", "several segments");
    }
    // No row, or no name: the policy selects.
    let mut names = ["-servername", "c.b.shop.example"]
        .chunks(2)
        .chain([&["-noservername"][..]])
        .flat_map(|arguments| [(); 3].map(|()| subject(bed, 0, arguments)))
        .collect::<Vec<_>>();
    names.sort();
    names.dedup();
    assert_eq!(names, NAMES);
}

/// A client that resumes its session of TLS 1.2 finds the server that has it, wherever it connects: no other one could resume.
pub fn resumed_sessions(bed: &Bed) {
    let session = bed.file("session.pem");
    let connect = |server: usize, option| {
        let connect = format!("{}:443", bed.address(server));
        let arguments = ["s_client", "-connect", &connect, "-tls1_2", "-noservername"];
        bed.run("openssl", &[&arguments[..], &[option, &session]].concat())
    };
    for _ in 0..2 {
        let said = connect(0, "-sess_out");
        assert!(said.contains("New, TLSv1.2"), "{said}");
        for server in 0..NAMES.len() {
            let said = connect(server, "-sess_in");
            assert!(said.contains("Reused, TLSv1.2"), "{said}");
        }
    }
}

/// The name in the certificate that the server shows.
fn subject(bed: &Bed, server: usize, arguments: &[&str]) -> String {
    let connect = format!("{}:443", bed.address(server));
    let mut all = vec!["s_client", "-connect", &connect];
    all.extend_from_slice(arguments);
    let said = bed.run("openssl", &all);
    let subject = said.lines().find_map(|line| {
        line.strip_prefix("subject=")
            .and_then(|subject| subject.split('=').nth(1))
    });
    subject.unwrap_or_default().trim().to_owned()
}
