//! nginx is told who its clients are, wherever their connections go.

use std::fs;

use ipos_lab::{Farm, FarmPlan, Lan, Server};

use super::PROGRAMS;
use super::common::available;
use super::site::{self, all_see_all, configuration, curl, migrated, nginx_sites, wait_until};

#[test]
fn nginx_is_told_who_its_clients_are() {
    if !available("nginx_is_told_who_its_clients_are", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let big = root.path().join("big.bin");
    fs::write(&big, site::noise(1000, 5)).unwrap();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let configure = |server: &Server| {
        let address = server.address(Lan::A);
        configuration(server)
            + &format!(
                "\n[[listen]]\naddress = \"{address}:81\"\napp = \"127.0.0.1:8081\"\nproxy_protocol = true\n"
            )
    };
    let sites = nginx_sites(farm.servers(), root.path(), &big, configure);
    wait_until("the servers see each other", || all_see_all(&sites));
    let first = farm.servers()[0].address(Lan::A);
    let client = Lan::A.address(Farm::CLIENT).to_string();
    migrated(&sites, |_| {
        let said = curl(farm.client(), &[&format!("http://{first}:81/")]);
        let [name, from, to] = said.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{said:?}");
        };
        assert_eq!((from, to), (&*client, &*format!("{first}:81")));
        name.to_owned()
    });
}
