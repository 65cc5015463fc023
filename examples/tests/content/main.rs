//! Who answers what: selection by cookie, URL map and SSL map, and applications that die, with three unmodified nginx
//! behind three `inic` and the clients that people have. Needs the right to make network namespaces and those programs; says so
//! and does nothing without. With `--nocapture` it prints each command and its answer.

#![allow(missing_docs, reason = "a test")]

mod browser;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/browser.rs"]
mod common_browser;
mod health;
mod maps;
mod sessions;
#[path = "../common/site.rs"]
mod site;
mod tls;
mod web;

use std::path::Path;
use std::process::Command;

use common::available;
use ipos_lab::{Farm, FarmPlan, Lan, Namespace};
use nix::sys::signal::Signal;
use site::{Site, all_see_all, output, wait_until};

/// What the tests need beside a laboratory.
const PROGRAMS: [&str; 4] = ["nginx", "curl", "openssl", "h2load"];
/// The names of all servers.
const NAMES: [&str; 3] = ["s1", "s2", "s3"];

/// A farm whose servers see each other.
struct Bed<'a> {
    client: &'a Namespace,
    sites: Vec<Site<'a>>,
    directory: &'a Path,
}

impl Bed<'_> {
    /// The address that clients reach a server at.
    fn address(&self, server: usize) -> String {
        self.sites[server].server.address(Lan::A).to_string()
    }

    /// Runs curl for a URL whose host is found at `server`; it must succeed. What it wrote.
    fn curl(&self, server: usize, url: &str, arguments: &[&str]) -> String {
        let host = url.split('/').nth(2).unwrap();
        let (host, port) = host.split_once(':').unwrap_or((host, "80"));
        let resolve = format!("{host}:{port}:{}", self.address(server));
        let mut all = vec!["--resolve", &resolve];
        all.extend_from_slice(arguments);
        all.push(url);
        let said = site::curl(self.client, &all);
        println!("$ curl -s {}\n{said}", shell(&all));
        said
    }

    /// Runs a program on the client; it must succeed. What it wrote.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = output(self.client, Command::new(program).args(arguments));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("$ {program} {}\n{said}", shell(arguments));
        said
    }

    /// A file of the client's, by its name.
    fn file(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn wait_for_all(&self) {
        wait_until("the servers see each other", || all_see_all(&self.sites));
    }
}

/// Arguments as a shell wants them.
fn shell(arguments: &[&str]) -> String {
    let quoted = arguments
        .iter()
        .map(|argument| match argument.contains([' ', '*']) {
            true => format!("'{argument}'"),
            false => (*argument).to_owned(),
        });
    quoted.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_right_server_for_the_request() {
    if !available("the_right_server_for_the_request", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let sites = farm.servers().iter().map(|server| {
        let configuration = web::configuration(server);
        Site::start(server, root.path(), &configuration, web::nginx)
    });
    let mut bed = Bed {
        client: farm.client(),
        sites: sites.collect(),
        directory: root.path(),
    };
    bed.wait_for_all();

    maps::hosts_and_paths(&bed);
    maps::groups(&bed);
    maps::http2(&bed);
    tls::server_names(&bed);
    tls::resumed_sessions(&bed);
    browser::a_page_with_thirty_assets(&bed);
    sessions::the_stack_sets_the_cookie(&bed);
    sessions::answers_name_the_direct_address(&bed);
    sessions::a_client_goes_to_its_server_directly(&bed);
    sessions::every_server_knows_the_session(&bed);
    sessions::a_session_outlives_a_device(&mut bed);
    sessions::a_session_moves(&mut bed);
    health::an_application_dies_and_comes_back(&mut bed);

    for site in &mut bed.sites {
        assert_eq!(site.end_inic(Signal::SIGTERM).code(), Some(0));
        assert_eq!(site.logged("panicked"), 0);
    }
}
