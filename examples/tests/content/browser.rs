//! A browser.

use std::env;

use crate::common::skipped;
use crate::{Bed, web};

/// Chromium as Debian has it.
const BROWSERS: [&str; 2] = ["chromium-headless-shell", "chromium"];

/// Its assets come from three servers, as the URL map says, and its session stays where it began.
pub fn a_page_with_thirty_assets(bed: &Bed) {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = |name: &&str| env::split_paths(&path).any(|at| at.join(name).exists());
    let Some(browser) = BROWSERS.into_iter().find(|name| installed(name)) else {
        skipped(
            "a_page_with_thirty_assets",
            "there is no browser: apt-get install chromium-headless-shell",
        );
        return;
    };
    let rules = format!(
        "--host-resolver-rules=MAP *.site.example {}",
        bed.address(0)
    );
    let profile = format!("--user-data-dir={}", bed.file("profile"));
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // Else the page must load before the clock of the machine says so.
        "--virtual-time-budget=60000",
        &profile,
        &rules,
        "--dump-dom",
        "http://www.site.example/page.html",
    ];
    let page = bed.run(browser, &arguments);
    let told = page.lines().find(|line| line.contains("id=\"told\""));
    let told = told.unwrap_or_else(|| panic!("{page}"));
    assert!(told.contains("assets=30 "), "{told}");

    let logs = bed.sites.iter();
    let logs = logs.map(|site| (site.server.name(), site.read("access.log")));
    let logs: Vec<_> = logs.collect();
    let mut sessions = Vec::new();
    for (name, log) in &logs {
        for (kind, host, server) in web::KINDS {
            let asset = format!("{host} /{kind}/");
            let assets = log.lines().filter(|line| line.starts_with(&asset)).count();
            println!("{name}: {assets} requests for {asset}*");
            let expected = if server == *name { web::ASSETS } else { 0 };
            assert_eq!(assets, expected, "{asset} at {name}: {log}");
        }
        let asked = log
            .lines()
            .filter(|line| line.starts_with("www.site.example /name/"));
        sessions.extend(asked.map(|line| (*name, line.rsplit(' ').next().unwrap_or_default())));
    }
    // Ten connections with the same cookie, to the same server, which has the page from its first byte on.
    assert_eq!(sessions.len(), 10);
    sessions.dedup();
    let [(name, session)] = sessions[..] else {
        panic!("{sessions:?}");
    };
    assert_eq!(session.len(), 32);
    assert!(
        told.contains(&format!("names={}", [name; 10].join(","))),
        "{told}"
    );
}
