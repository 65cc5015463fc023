//! Port C: a fourth interface of every server, and a second one of the client.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use ipos_lab::{Capture, End, Farm, FarmPlan, Lan, Namespace, PREFIX, Server, connect};
use ipos_proto::MacAddr;

use super::PROGRAMS;
use super::common::available;
use super::site::{self, Site, all_see_all, configuration, curl, nginx_sites, page, wait_until};
use super::traffic::{self, Segment};

const LAN: &str = "lan-c";
/// Of servers, and of the client.
const INTERFACE: &str = "d0";
/// What the client has on it.
const CLIENT: Ipv4Addr = address(Farm::CLIENT);
const CLIENTS_MAC: u8 = Farm::CLIENT;

const fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, host)
}

/// A server's host number, as on the other LANs.
fn host(server: &Server) -> u8 {
    let [.., host] = server.address(Lan::A).octets();
    host
}

fn hardware(host: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0x0d, host]
}

/// Connects all servers and the client to LAN C.
fn add_lan_c(farm: &Farm) {
    let mtu = FarmPlan::default().mtu;
    let switch = farm.switch();
    switch.add_bridge(LAN, mtu).unwrap();
    let servers = farm.servers().iter();
    let servers = servers.map(|server| (server.namespace(), server.name(), host(server)));
    let all: Vec<(&Namespace, &str, u8)> = servers
        .chain([(farm.client(), "client", CLIENTS_MAC)])
        .collect();
    for &(namespace, name, host) in &all {
        let port = format!("{name}-{INTERFACE}");
        let near = End {
            namespace,
            name: INTERFACE,
            hardware_address: Some(hardware(host)),
        };
        let far = End {
            namespace: switch,
            name: &port,
            hardware_address: None,
        };
        connect(near, far, mtu).unwrap();
        switch.attach(&port, LAN).unwrap();
        namespace.set_up(INTERFACE).unwrap();
        switch.set_up(&port).unwrap();
        namespace.wait_ready(INTERFACE).unwrap();
    }
    farm.client()
        .add_address(INTERFACE, CLIENT, PREFIX)
        .unwrap();
}

/// Starts the servers with a Port C and these keys of it.
fn start<'a>(farm: &'a Farm, root: &Path, keys: &str, listen: bool) -> Vec<Site<'a>> {
    let big = root.join("big.bin");
    fs::write(&big, site::noise(1_000_000, 3)).unwrap();
    let configure = |server: &Server| {
        let own = address(host(server));
        let mut text = configuration(server);
        if listen {
            text += &format!("\n[[listen]]\naddress = \"{own}:80\"\napp = \"127.0.0.1:8080\"\n");
        }
        text + &format!(
            "\n[port_c]\ninterface = \"{INTERFACE}\"\naddresses = [\"{own}\"]\nprefix = {PREFIX}\n{keys}\n"
        )
    };
    let sites = nginx_sites(farm.servers(), root, &big, configure);
    wait_until("the servers see each other", || all_see_all(&sites));
    sites
}

/// Asks the first server at `address` six times for a page and for a megabyte. Who has answered.
fn ask(farm: &Farm, address: Ipv4Addr) -> BTreeSet<String> {
    let answered = (0..6).map(|_| {
        let page_url = format!("http://{address}/page");
        let text = curl(farm.client(), &[&page_url]);
        let big = format!("http://{address}/big.bin");
        let print = "%{size_download} %header{x-server}";
        let big = curl(farm.client(), &["-o", "/dev/null", "-w", print, &big]);
        assert!(big.starts_with("1000000 "), "{big}");
        let name = text.get(..2).unwrap_or_default().to_owned();
        assert_eq!(text, page(&name));
        name
    });
    answered.collect()
}

/// What servers have sent from `source` on a LAN: the hardware addresses.
fn senders(segments: &[Segment], source: Ipv4Addr) -> BTreeSet<[u8; 6]> {
    let source = SocketAddrV4::new(source, 80);
    let from = segments.iter().filter(|segment| segment.source == source);
    from.map(|segment| {
        let MacAddr(hardware) = segment.from;
        hardware
    })
    .collect()
}

/// Runs `traffic`; what was on LAN A and on LAN C meanwhile.
fn captured(farm: &Farm, root: &Path, traffic: impl FnOnce()) -> [Vec<Segment>; 2] {
    let lans = [Lan::A.bridge(), LAN];
    let captures = lans.map(|lan| Capture::start(farm.switch(), lan, root.join(lan)).unwrap());
    traffic();
    captures.map(|capture| traffic::segments(&capture.stop().unwrap().read().unwrap()))
}

#[test]
fn responses_leave_by_port_c() {
    if !available("responses_leave_by_port_c", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    add_lan_c(&farm);
    // FIG. 2C; the client is its own router.
    let keys = format!("gateway = \"{CLIENT}\"\nresponses = true");
    let _sites = start(&farm, root.path(), &keys, false);
    let first = farm.servers()[0].address(Lan::A);
    let [lan_a, lan_c] = captured(&farm, root.path(), || {
        assert_eq!(ask(&farm, first).len(), 3);
    });
    assert_eq!(senders(&lan_a, first), BTreeSet::new());
    let all = farm.servers().iter().map(|server| hardware(host(server)));
    assert_eq!(senders(&lan_c, first), all.collect());
}

#[test]
fn clients_are_on_two_lans() {
    if !available("clients_are_on_two_lans", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    add_lan_c(&farm);
    let _sites = start(&farm, root.path(), "", true);
    let first = &farm.servers()[0];
    for (at, own) in [first.address(Lan::A), address(host(first))]
        .into_iter()
        .enumerate()
    {
        let lans = captured(&farm, root.path(), || {
            assert_eq!(ask(&farm, own).len(), 3);
        });
        assert_eq!(senders(&lans[at], own).len(), 3, "{own}");
        assert!(senders(&lans[1 - at], own).is_empty(), "{own}");
    }
}
