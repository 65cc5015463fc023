//! SIGHUP.

use nix::sys::signal::Signal;

use crate::site::{curl, url, wait_until};
use crate::traffic::{Load, while_downloading};
use crate::{Bed, configuration};

/// Writes another configuration file for the first server, has it read, and waits for the log to say `expected`.
fn reload(bed: &Bed, change: impl Fn(String) -> String, expected: &str) {
    let site = &bed.sites[0];
    site.configure(&change(configuration(site.server)));
    let before = site.logged(expected);
    site.signal_inic(Signal::SIGHUP);
    wait_until(expected, || site.logged(expected) > before);
}

/// Everything goes to one server, and then as before, while connections are up and new ones come.
pub fn the_file_is_read_again_under_load(bed: &Bed) {
    let site = &bed.sites[0];
    let load = Load::start(bed, site.server, "/page");
    while_downloading(bed, site.server, || {
        let map = "[[url_map]]\npath = \"/\"\nservers = [\"s3\", \"s8\"]\n";
        let change = |text: String| text.replace("round-robin", "least-connections") + map;
        reload(bed, change, "reloaded: balance.policy, url_map");
        assert_eq!(site.logged("no server `s8` is up"), 1);
        // On a busy machine an answer of that server may come too late: then another one serves.
        wait_until("six requests in turn are the third server's", || {
            let answer = || curl(bed.farm.client(), &[&url(site.server, "/")]);
            (0..6).all(|_| answer() == "s3")
        });
        assert_eq!(bed.rows(0, "url-map")[0]["servers"][0], "s3");
        reload(bed, |text| text, "reloaded: balance.policy, url_map");
        assert!(bed.rows(0, "url-map").is_empty());
    });
    reload(bed, |text| text, "reloaded: nothing has changed");
    let limits = "[limits]\nforward = 2000000\nudp_idle_ms = 5000\n";
    let expected = "reloaded: limits.forward, limits.udp_idle_ms";
    reload(bed, |text| text + limits, expected);
    assert!(load.end() > 0);
}

/// One line that names the file, the key, and what is wrong.
pub fn what_cannot_be_reloaded_changes_nothing(bed: &Bed) {
    let site = &bed.sites[0];
    let refused = "not reloaded, everything stays as it was: ";
    type Change = fn(String) -> String;
    let cases: [(Change, &str); 7] = [
        (
            |text| text.replace("name = \"s1\"", "name = \"s7\""),
            "inic.toml: name: needs a restart (line 2)",
        ),
        (
            |text| text.replace("\"a0\"", "\"b1\""),
            "inic.toml: port_a.interface: needs a restart (line 5)",
        ),
        (
            |text| text.replace("[admin]", "[admin]\nlisten = \"127.0.0.1:1\""),
            "inic.toml: admin.listen: needs a restart",
        ),
        (
            |text| text.replace(":80\"", ":81\""),
            "inic.toml: listen[0].address: needs a restart",
        ),
        (
            |text| text + "[limits]\nforward = 10\n",
            "inic.toml: limits.forward: cannot shrink from 2000000 while the device runs: that needs a restart",
        ),
        (
            |text| text.replace("prefix", "prefixx"),
            "inic.toml: port_a.prefixx: unknown field",
        ),
        (|_| "[".into(), "inic.toml: "),
    ];
    for (change, expected) in cases {
        // Of what may change, nothing does either.
        let with = |text: String| change(text.replace("round-robin", "weighted"));
        reload(bed, with, expected);
        assert!(site.logged(refused) > 0);
    }
    assert_eq!(site.logged(refused), 7);
    let limits = "[limits]\nforward = 2000000\nudp_idle_ms = 5000\n";
    reload(bed, |text| text + limits, "reloaded: nothing has changed");
    assert!(bed.json(0, "/healthz", &[])["status"] == "ok");
}
