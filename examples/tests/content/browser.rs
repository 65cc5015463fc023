//! A page with many assets, in a browser.

use crate::common_browser::{arguments, installed};
use crate::{Bed, web};

/// Its assets come from three servers, as the URL map says, and its session stays where it began.
pub fn a_page_with_thirty_assets(bed: &Bed) {
    let Some(browser) = installed("a_page_with_thirty_assets") else {
        return;
    };
    let rules = format!(
        "--host-resolver-rules=MAP *.site.example {}",
        bed.address(0)
    );
    let profile = format!("--user-data-dir={}", bed.file("profile"));
    let mut arguments = arguments(&profile, "http://www.site.example/page.html");
    arguments.insert(0, &rules);
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
