//! A farm's network: what is where, what passes, and that it passes as on a wire.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;

use etherparse::{Ethernet2Slice, Ipv4Slice, TcpSlice};
use ipos_lab::{Capture, End, Farm, FarmPlan, Lan, Namespace, connect};

/// A file for a capture, in cargo's folder for such.
fn pcap(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pcap"))
}

/// A farm, or `None` (said on standard error) without privilege.
fn farm(test: &str, servers: usize) -> Option<Farm> {
    ipos_lab::available(test).then(|| {
        let plan = FarmPlan {
            servers,
            ..FarmPlan::default()
        };
        Farm::build(plan).unwrap()
    })
}

/// Sends `data` over the kernel's TCP from the farm's client to a listener on server 1, to
/// whose `a0` this gives its address, and returns what the listener got.
fn transfer(farm: &Farm, data: &[u8]) -> Vec<u8> {
    let server = &farm.servers()[0];
    let place = server.namespace();
    let address = SocketAddrV4::new(server.address(Lan::A), 80);
    place
        .add_address(Lan::A.interface(), *address.ip(), ipos_lab::PREFIX)
        .unwrap();
    let listener = place.run(|| TcpListener::bind(address)).unwrap().unwrap();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut got = Vec::new();
            let (mut stream, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), Lan::A.address(Farm::CLIENT));
            stream.read_to_end(&mut got).unwrap();
            got
        });
        let stream = farm.client().run(|| TcpStream::connect(address));
        stream.unwrap().unwrap().write_all(data).unwrap();
        receiver.join().unwrap()
    })
}

#[test]
fn kernel_tcp_crosses_a_lan_in_whole_frames_with_right_checksums() {
    let test = "kernel_tcp_crosses_a_lan_in_whole_frames_with_right_checksums";
    let Some(farm) = farm(test, 1) else { return };
    let data: Vec<_> = (0..1_000_000).map(|i: u32| (i / 3) as u8).collect();
    let capture = farm.capture(Lan::A, pcap(test)).unwrap();
    assert!(transfer(&farm, &data) == data);
    let captured = capture.stop().unwrap();
    assert_eq!(captured.lost, 0);
    let frames = captured.read().unwrap();
    assert_eq!(frames.len() as u64, captured.frames);

    let mut sent = 0;
    let mut senders = HashSet::new();
    for frame in &frames {
        assert!(frame.len() <= 1514, "{} bytes", frame.len());
        let ethernet = Ethernet2Slice::from_slice_without_fcs(frame).unwrap();
        senders.insert(ethernet.source());
        if ethernet.ether_type() != etherparse::EtherType::IPV4 {
            assert_eq!(ethernet.ether_type(), etherparse::EtherType::ARP);
            continue;
        }
        let ip = Ipv4Slice::from_slice(ethernet.payload_slice()).unwrap();
        let header = ip.header();
        let right = header.to_header().calc_header_checksum();
        assert_eq!(header.header_checksum(), right);
        let tcp = TcpSlice::from_slice(ip.payload().payload).unwrap();
        let right = tcp.to_header().calc_checksum_ipv4_raw(
            header.source(),
            header.destination(),
            tcp.payload(),
        );
        assert_eq!(tcp.checksum(), right.unwrap());
        sent += tcp.payload().len();
    }
    assert!(sent >= data.len(), "{sent} bytes");
    let expected = [
        Lan::A.hardware_address(Farm::CLIENT),
        farm.servers()[0].hardware_address(Lan::A),
    ];
    assert_eq!(senders, HashSet::from(expected));
}

#[test]
fn a_capture_on_a_port_sees_both_directions() {
    let test = "a_capture_on_a_port_sees_both_directions";
    let Some(farm) = farm(test, 2) else { return };
    let [one, two] = ["s1-a0", "s2-a0"].map(|port| {
        let path = pcap(&format!("{test}-{port}"));
        Capture::start(farm.switch(), port, path).unwrap()
    });
    assert_eq!(transfer(&farm, b"request"), b"request");
    let from = |capture: Capture, sender| {
        let frames = capture.stop().unwrap().read().unwrap();
        frames.iter().filter(|frame| frame[6..12] == sender).count()
    };
    let client = Lan::A.hardware_address(Farm::CLIENT);
    let server = farm.servers()[0].hardware_address(Lan::A);
    let frames = one.stop().unwrap().read().unwrap();
    for sender in [client, server] {
        assert!(frames.iter().any(|frame| frame[6..12] == sender));
    }
    // The other server's port passes only what is for everybody.
    assert!(from(two, server) <= 1);
}

#[test]
fn servers_have_three_ports_and_no_kernel_addresses() {
    let test = "servers_have_three_ports_and_no_kernel_addresses";
    let Some(farm) = farm(test, 3) else { return };
    let names: Vec<_> = farm.servers().iter().map(|server| server.name()).collect();
    assert_eq!(names, ["s1", "s2", "s3"]);
    let third = &farm.servers()[2];
    assert_eq!(third.address(Lan::A), Ipv4Addr::new(10, 77, 0, 13));
    assert_eq!(third.address(Lan::B), Ipv4Addr::new(10, 88, 0, 13));
    assert_eq!(third.address(Lan::Synch), Ipv4Addr::new(10, 99, 0, 13));
    assert_eq!(third.hardware_address(Lan::B), [2, 0, 0, 0, 0x0b, 13]);
    for lan in Lan::ALL {
        let bound = |namespace: &Namespace, address| {
            let socket = namespace.run(|| UdpSocket::bind((address, 7007))).unwrap();
            socket.is_ok()
        };
        assert!(!bound(third.namespace(), third.address(lan)));
        assert!(bound(third.namespace(), Ipv4Addr::LOCALHOST));
        third.namespace().wait_ready(lan.interface()).unwrap();
        let port = format!("s3-{}", lan.interface());
        farm.switch().wait_ready(&port).unwrap();
    }
    let address = Lan::A.address(Farm::CLIENT);
    let socket = farm.client().run(|| UdpSocket::bind((address, 7007)));
    assert!(socket.unwrap().is_ok());
}

#[test]
fn namespaces_are_apart_and_work_runs_inside() {
    if !ipos_lab::available("namespaces_are_apart_and_work_runs_inside") {
        return;
    }
    let name = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let (one, two) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    let inside = [one.run(name).unwrap(), two.run(name).unwrap()];
    assert_ne!(inside[0], inside[1]);
    assert!(!inside.contains(&name()), "the caller stays outside");
    assert_eq!(std::fs::read_link(one.path()).unwrap(), inside[0]);
    let line = format!("nsenter --net={} id", one.path().display());
    assert_eq!(one.command_line("id"), line);
    let thread = one.spawn("worker", move || {
        (name(), std::thread::current().name().map(str::to_owned))
    });
    let worker = Some("worker".to_owned());
    assert_eq!(
        thread.unwrap().join().unwrap(),
        (inside[0].clone(), worker),
        "threads are inside"
    );
    let program = || {
        let mut command = std::process::Command::new("readlink");
        command.arg("/proc/self/ns/net").output().unwrap().stdout
    };
    let printed = String::from_utf8(two.run(program).unwrap()).unwrap();
    assert_eq!(PathBuf::from(printed.trim_end()), inside[1]);

    let panic = std::panic::catch_unwind(|| one.run(|| panic!("as asked")));
    let text = panic.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(*text, "as asked");
}

#[test]
fn errors_name_the_interface() {
    if !ipos_lab::available("errors_name_the_interface") {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let text = namespace.set_up("eth9").unwrap_err().to_string();
    assert!(text.starts_with("cannot bring interface eth9 up: No such device"));
    namespace.add_bridge("one", 1500).unwrap();
    let text = namespace.add_bridge("one", 1500).unwrap_err().to_string();
    assert!(text.starts_with("cannot make the bridge one: File exists"));
    let end = |name| End {
        namespace: &namespace,
        name,
        hardware_address: None,
    };
    let text = connect(end("one"), end("two"), 1500)
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("cannot make the veth pair one - two: File exists"));
}

#[test]
fn a_plan_that_cannot_be_followed_is_refused() {
    for servers in [0, ipos_lab::MOST_SERVERS + 1] {
        let plan = FarmPlan {
            servers,
            ..FarmPlan::default()
        };
        let text = Farm::build(plan).unwrap_err().to_string();
        assert_eq!(text, format!("a farm has 1 to 244 servers, not {servers}"));
    }
}
