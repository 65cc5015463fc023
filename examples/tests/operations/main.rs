//! What an operator does to `inic` that runs: three unmodified nginx behind three devices, with curl, wrk and a browser. Needs
//! the right to make network namespaces and those programs; says so and does nothing without.

#![allow(missing_docs, reason = "a test")]

#[path = "../common/browser.rs"]
mod browser;
#[path = "../common/client.rs"]
mod client;
#[path = "../common/mod.rs"]
mod common;
mod drain;
mod look;
mod reload;
#[path = "../common/site.rs"]
mod site;
mod traffic;

use std::fs;
use std::path::Path;

use common::available;
use ipos_lab::{Farm, FarmPlan, Server};
use nix::sys::signal::Signal;
use serde_json::Value;
use site::{Site, all_see_all, nginx_sites, noise, wait_until};

/// What the tests need beside a laboratory.
const PROGRAMS: [&str; 3] = ["nginx", "curl", "wrk"];
/// Where each device listens for its operator: on the loopback interface of its namespace.
const ADMIN: &str = "http://127.0.0.1:9180";
/// Bytes of the file that is downloaded.
const BIG: usize = 3_000_000;

/// A farm whose servers see each other.
struct Bed<'a> {
    farm: &'a Farm,
    sites: Vec<Site<'a>>,
    directory: &'a Path,
    /// What `/big.bin` and `/slow.bin` are.
    big: Vec<u8>,
}

impl Bed<'_> {
    /// Asks a server's admin address as its operator would; it must answer 2xx.
    fn ask(&self, server: usize, path: &str, arguments: &[&str]) -> String {
        let url = format!("{ADMIN}{path}");
        let mut all = vec!["--fail-with-body"];
        all.extend_from_slice(arguments);
        all.push(&url);
        site::curl(self.sites[server].server.namespace(), &all)
    }

    fn json(&self, server: usize, path: &str, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ask(server, path, arguments)).unwrap()
    }

    /// A request that is refused: its status and the reason.
    fn refused(&self, server: usize, path: &str, arguments: &[&str]) -> (String, String) {
        let url = format!("{ADMIN}{path}");
        let mut all = vec!["-w", "%{http_code}"];
        all.extend_from_slice(arguments);
        all.push(&url);
        let said = site::curl(self.sites[server].server.namespace(), &all);
        let (told, status) = said.rsplit_once('\n').unwrap();
        let told: Value = serde_json::from_str(told).unwrap();
        let error = told["error"].as_str().unwrap();
        (status.to_owned(), error.to_owned())
    }

    /// Rows of a table of a server.
    fn rows(&self, server: usize, table: &str) -> Vec<Value> {
        let path = format!("/tables?rows=1000&table={table}");
        let told = self.json(server, &path, &[]);
        let mut tables = told["tables"].as_array().unwrap().iter();
        let found = tables.find(|one| one["name"] == table).unwrap();
        found["rows"].as_array().unwrap().clone()
    }
}

/// The configuration file of a device with an admin address.
fn configuration(server: &Server) -> String {
    site::configuration(server) + "[health]\ninterval_ms = 100\n[admin]\n"
}

#[test]
fn a_farm_is_operated() {
    if !available("a_farm_is_operated", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let big = noise(BIG, 1);
    let big_file = root.path().join("big.bin");
    fs::write(&big_file, &big).unwrap();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let mut bed = Bed {
        farm: &farm,
        sites: nginx_sites(farm.servers(), root.path(), &big_file, configuration),
        directory: root.path(),
        big,
    };
    wait_until("the servers see each other", || all_see_all(&bed.sites));

    look::metrics_and_tables(&bed);
    look::a_browser_shows_the_status_page(&bed);
    drain::a_connection_moves_by_command(&bed);
    drain::a_server_drains_under_load(&bed);
    reload::the_file_is_read_again_under_load(&bed);
    reload::what_cannot_be_reloaded_changes_nothing(&bed);
    look::an_address_that_others_reach_is_warned_of(&mut bed);

    for site in &mut bed.sites {
        assert_eq!(site.end_inic(Signal::SIGTERM).code(), Some(0));
        assert_eq!(site.logged("panicked"), 0);
    }
}
