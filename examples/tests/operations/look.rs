//! Looking: metrics, tables, health, the status page.

use std::process::Command;

use nix::sys::signal::Signal;
use prometheus_parse::{Scrape, Value as Sample};

use crate::client::Client;
use crate::site::{all_see_all, output, wait_until};
use crate::{ADMIN, Bed, browser, configuration};

/// What Prometheus would read, of a server that has moved a connection.
fn scrape(bed: &Bed, server: usize) -> Scrape {
    let text = bed.ask(server, "/metrics", &[]);
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The sum of a counter's samples.
pub fn counter(bed: &Bed, server: usize, name: &str) -> f64 {
    let samples = scrape(bed, server).samples;
    let of_name = samples.iter().filter(|sample| sample.metric == name);
    let values = of_name.map(|sample| match sample.value {
        Sample::Counter(value) => value,
        ref other => panic!("{name}: {other:?}"),
    });
    values.sum()
}

pub fn metrics_and_tables(bed: &Bed) {
    let head = bed.ask(0, "/metrics", &["-D", "-", "-o", "/dev/null"]);
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let (_client, _) = Client::migrated(bed.farm, "/", "s2");
    assert!(counter(bed, 0, "ipos_migrated_out_total") >= 1.0);
    assert!(counter(bed, 0, "ipos_forwarded_total") >= 1.0);
    assert!(counter(bed, 1, "ipos_migrated_in_total") >= 1.0);
    let samples = scrape(bed, 0).samples;
    let handover = samples.iter().find(|s| s.metric == "ipos_handover_seconds");
    let Some(Sample::Histogram(buckets)) = handover.map(|sample| &sample.value) else {
        panic!("{handover:?}");
    };
    assert!(buckets.last().unwrap().count >= 1.0);
    let up = samples.iter().filter(|s| s.metric == "ipos_server_up");
    assert!(
        up.clone()
            .all(|sample| matches!(sample.value, Sample::Gauge(1.0)))
    );
    assert_eq!(up.count(), 3);

    let forward = bed.rows(0, "forward");
    assert!(
        forward.iter().any(|row| row["server"] == "s2"),
        "{forward:?}"
    );
    let installed = bed.rows(1, "forward-connect");
    assert!(
        installed.iter().any(|row| row["state"] == "ESTABLISHED"),
        "{installed:?}"
    );
    assert_eq!(bed.rows(2, "server-state").len(), 3);
    // Looked for from time to time only.
    wait_until("the application's process is known", || {
        let processes = bed.rows(0, "application-information");
        processes.iter().any(|row| row["name"] == "nginx")
    });
    let health = bed.json(0, "/healthz", &[]);
    assert_eq!(
        (&health["status"], &health["servers_alive"]),
        (&"ok".into(), &3.into())
    );

    for (path, arguments, status, named) in [
        ("/tables?rows=5000", &[][..], "400", "rows: 5000"),
        ("/migrate", &["-d", "{"], "400", "EOF"),
        ("/migrate", &["-X", "PUT"], "405", "/migrate takes POST"),
        (
            "/drain",
            &["-H", "Origin: http://x", "-d", ""],
            "403",
            "a browser",
        ),
        ("/nothing", &[], "404", "there is no /nothing"),
    ] {
        let (told, error) = bed.refused(0, path, arguments);
        assert_eq!(told, status, "{path}: {error}");
        assert!(error.starts_with(named), "{path}: {error}");
    }
}

/// The page is drawn by its script from what the device says.
pub fn a_browser_shows_the_status_page(bed: &Bed) {
    let Some(browser) = browser::installed("a_browser_shows_the_status_page") else {
        return;
    };
    let profile = format!("--user-data-dir={}", bed.directory.join("page").display());
    let url = format!("{ADMIN}/");
    let mut command = Command::new(browser);
    command.args(browser::arguments(&profile, &url));
    let shown = output(bed.sites[0].server.namespace(), &mut command);
    let page = String::from_utf8_lossy(&shown.stdout);
    let cell = |text: &str| format!("<td>{text}</td>");
    let wanted = [
        "<title>s1 · ipOS</title>".to_owned(),
        "class=\"good\">in service</span>".to_owned(),
        cell("s1 (this one)"),
        cell("s2"),
        cell("s3"),
        cell("<span class=\"good\">alive</span>"),
        cell("10.77.0.11:80"),
        cell("<span class=\"good\">answers</span>"),
        cell("forward-connect"),
        cell("cookie-map"),
        "<span class=\"dim\">frames ".to_owned(),
    ];
    for text in wanted {
        assert!(page.contains(&text), "no {text} in\n{page}");
    }
}

/// The same device, at an address that is not of this host alone.
pub fn an_address_that_others_reach_is_warned_of(bed: &mut Bed) {
    assert_eq!(bed.sites[2].logged("other hosts may reach"), 0);
    let text =
        configuration(bed.sites[2].server).replace("[admin]", "[admin]\nlisten = \"0.0.0.0:9180\"");
    bed.sites[2].configure(&text);
    assert_eq!(bed.sites[2].end_inic(Signal::SIGTERM).code(), Some(0));
    bed.sites[2].start_inic();
    wait_until("it is back", || all_see_all(&bed.sites));
    let warned = bed.sites[2].logged("admin.listen: other hosts may reach 0.0.0.0:9180");
    assert_eq!(warned, 1);
    assert_eq!(bed.json(2, "/healthz", &[])["server"], "s3");
}
