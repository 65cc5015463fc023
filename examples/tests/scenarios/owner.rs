//! The owner of a connection is killed.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use ipos_lab::{Farm, FarmPlan};
use nix::sys::signal::Signal;

use crate::bed::{self, Files, PROGRAMS, assert_from, digest, names};
use crate::client::Client;
use crate::common::available;
use crate::site::{all_see_all, wait_until};

/// Far above `owner_lost_ms` and the silence time, far below what TCP alone would need.
const SOON: Duration = Duration::from_secs(10);

/// Its client is told, everybody else is served; and it comes back as somebody new.
#[test]
fn an_owner_is_killed() {
    if !available("an_owner_is_killed", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let mut sites = bed::sites(&farm, &files, |_, text| {
        text + "\n[limits]\nowner_lost_ms = 500\n"
    });
    let first = &farm.servers()[0];
    // Another owner's client must notice nothing of all this.
    let (mut other, head) = Client::migrated(&farm, "/slow.bin", "s3");
    let other = thread::spawn(move || other.body(&head));

    for (restarts_at_once, what) in [(false, "it stays away"), (true, "it is back at once")] {
        let (client, _) = Client::migrated(&farm, "/slow.bin", "s2");
        sites[1].end_inic(Signal::SIGKILL);
        let killed = Instant::now();
        if restarts_at_once {
            sites[1].start_inic();
        }
        let end = client.until_end();
        let took = killed.elapsed();
        assert_eq!(
            end.kind(),
            ErrorKind::ConnectionReset,
            "{what}, {took:?}: {end}"
        );
        assert!(took < SOON, "{what}: RST after {took:?}");
        if !restarts_at_once {
            assert_from(&names(&farm, first, 20), &["s1", "s3"], what);
            sites[1].start_inic();
        }
        wait_until("it is back", || all_see_all(&sites));
        wait_until("it is selected", || {
            names(&farm, first, 3).contains(&"s2".to_owned())
        });
        // A connection of its new life is not mistaken for one of the old.
        let (mut client, head) = Client::migrated(&farm, "/big.bin", "s2");
        let body = client.body(&head);
        let body =
            body.unwrap_or_else(|error| panic!("{what}: a download from its new life: {error}"));
        assert_eq!(digest(&body), files.digest, "{what}");
    }

    let body = other.join().unwrap();
    let body = body.unwrap_or_else(|error| panic!("the download of s3: {error}"));
    assert_eq!(digest(&body), files.digest, "the download of s3");
    bed::end(&mut sites);
}
