//! The application dies while its device lives.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::site::wait_until;
use crate::{Bed, NAMES, web};

const URL: &str = "http://health.example/";

/// The servers that answer `n` requests to server 1.
fn answers(bed: &Bed, n: usize) -> BTreeSet<String> {
    (0..n).map(|_| bed.curl(0, URL, &[])).collect()
}

/// The requests of an application that cannot be reached go elsewhere, those that the URL map has for it too; no client sees an
/// error.
pub fn an_application_dies_and_comes_back(bed: &mut Bed) {
    for (dead, name) in NAMES.into_iter().enumerate() {
        let kind = web::KINDS.iter().find(|(_, _, server)| *server == name);
        let url = kind.map(|(_, host, _)| format!("http://{host}/")).unwrap();
        assert_eq!(bed.curl(0, &url, &[]), name);
        bed.sites[dead].end_application(Signal::SIGKILL);
        // At once, before any check.
        for _ in 0..4 {
            assert_ne!(bed.curl(0, URL, &[]), name);
        }
        wait_until("the check fails", || {
            bed.sites[dead].logged("the application cannot be reached") >= 1
        });
        let others = NAMES.into_iter().filter(|other| *other != name);
        let others: BTreeSet<_> = others.map(String::from).collect();
        assert_eq!(answers(bed, 12), others);
        for server in 0..NAMES.len() {
            assert_ne!(bed.curl(server, &url, &[]), name);
        }
        bed.sites[dead].start_application(web::nginx);
        wait_until("the check finds it", || {
            bed.sites[dead].logged("the application answers again") >= 1
        });
        wait_until("it is selected again", || bed.curl(0, &url, &[]) == name);
    }
}
