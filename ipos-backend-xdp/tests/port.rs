//! What AF_XDP adds to what every backend must do, over veth pairs.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, PacketBuilder,
};
use ipos_backend::Backend;
use ipos_backend::conformance::{Bed, drain, frame, receive, send};
use ipos_backend::interface::OpenError as InterfaceError;
use ipos_backend::memory::Side;
use ipos_backend_xdp::{
    BusyPoll, Claims, Copying, Memory, MemoryOptions, Mode, OpenError, Take, XdpBackend, XdpOptions,
};
use ipos_lab::{Namespace, Pair};
use support::{NAME, Veth};

const PATIENCE: Duration = Duration::from_secs(10);
const MODES: [Mode; 2] = [Mode::Generic, Mode::Native];

const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 255);
const SYNCH: u16 = 7007;
const NEAR: [u8; 6] = Pair::hardware_address(Side::Near);
const FAR: [u8; 6] = Pair::hardware_address(Side::Far);

/// A datagram in a frame.
fn datagram(station: [u8; 6], to: Ipv4Addr, port: u16, text: &str) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(NEAR, station)
        .ipv4(NEIGHBOUR.octets(), to.octets(), 64)
        .udp(4000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, text.as_bytes()).unwrap();
    frame
}

/// The neighbour asks for an address, or tells its own.
fn arp(operation: ArpOperation, target: Ipv4Addr) -> Vec<u8> {
    let header = Ethernet2Header {
        source: NEAR,
        destination: [0xff; 6],
        ether_type: EtherType::ARP,
    };
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &NEAR,
        &NEIGHBOUR.octets(),
        &[0; 6],
        &target.octets(),
    );
    [&header.to_bytes()[..], &packet.unwrap().to_bytes()].concat()
}

/// A device shares its interface with the kernel: each gets what is its own.
#[test]
fn the_kernel_keeps_what_is_not_the_devices() {
    for mode in MODES {
        let Some(bed) = Veth::new("the_kernel_keeps_what_is_not_the_devices", mode) else {
            return;
        };
        bed.at(Side::Far).add_address(NAME, KERNEL, 24).unwrap();
        let bind = |port| {
            let socket = bed
                .at(Side::Far)
                .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
            let socket = socket.unwrap().unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let (host, synch) = (bind(9), bind(SYNCH));
        let claims = Claims {
            ethertypes: vec![0x88b5, 0x0007],
            addresses: vec![DEVICE],
            udp_ports: vec![(BROADCAST, SYNCH)],
        };
        let shared = XdpOptions {
            take: Take::Claims(claims),
            ..bed.options.clone()
        };
        let mut device = bed.open_with(Side::Far, &shared).unwrap();
        let mut neighbour = bed.open(Side::Near).unwrap();

        let mut tagged = datagram(FAR, DEVICE, 9, "tagged");
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        let mut unknown = frame(&neighbour, &device, 0x88b6, 60, 1);
        unknown.truncate(14);
        let mut fragment = datagram([0xff; 6], BROADCAST, SYNCH, "fragment");
        fragment[20] = 0x00;
        fragment[21] = 0x10;
        send(
            &mut neighbour,
            &[
                datagram(FAR, KERNEL, 9, "to the kernel"),
                datagram(FAR, KERNEL, SYNCH, "to the kernel's own port"),
                datagram([0xff; 6], BROADCAST, 9, "to everybody"),
                datagram([2, 9, 9, 9, 9, 9], DEVICE, 9, "to another station"),
                arp(ArpOperation::REQUEST, KERNEL),
                tagged,
                unknown,
                fragment,
            ],
        );
        let theirs = [
            datagram(FAR, DEVICE, 9, "to the device"),
            arp(ArpOperation::REQUEST, DEVICE),
            arp(ArpOperation::REPLY, DEVICE),
            datagram([0xff; 6], BROADCAST, SYNCH, "to all devices"),
            frame(&neighbour, &device, 0x88b5, 60, 2),
            frame(&neighbour, &device, 0x0007, 60, 3),
        ];
        send(&mut neighbour, &theirs);

        assert_eq!(receive(&mut device, theirs.len()), theirs, "{mode:?}");
        assert_eq!(drain(&mut device), Vec::<Vec<u8>>::new());
        let mut text = [0; 100];
        let mut hear = |socket: &UdpSocket| {
            let (len, from) = socket.recv_from(&mut text).unwrap();
            assert_eq!(from.ip(), NEIGHBOUR);
            String::from_utf8_lossy(&text[..len]).into_owned()
        };
        assert_eq!(hear(&host), "to the kernel");
        assert_eq!(hear(&host), "to everybody");
        assert_eq!(hear(&synch), "to the kernel's own port");
        // The kernel still answers for its own address.
        let answer = receive(&mut neighbour, 1).remove(0);
        assert_eq!(answer[..6], NEAR);
        assert_eq!(answer[12..14], [8, 6]);
        assert_eq!(answer[28..32], KERNEL.octets());
        drop(device);
        send(&mut neighbour, &[datagram(FAR, KERNEL, 9, "afterwards")]);
        assert_eq!(hear(&host), "afterwards");
    }
}

#[test]
fn the_port_tells_how_it_works() {
    for mode in MODES {
        let Some(bed) = Veth::new("the_port_tells_how_it_works", mode) else {
            return;
        };
        let port = bed.open(Side::Far).unwrap();
        assert_eq!(port.is_native(), mode == Mode::Native);
        assert!(!port.is_zero_copy(), "no veth does it");
        assert_eq!(port.queues(), 1);
        assert_eq!(port.capabilities().hardware_address, FAR);
        drop(port);
        let options = XdpOptions {
            mode: Mode::Auto,
            copying: Copying::Copy,
            busy_poll: Some(BusyPoll::default()),
            ..bed.options.clone()
        };
        let mut port = bed.open_with(Side::Far, &options).unwrap();
        assert!(port.is_native(), "veth drivers know XDP");
        let mut near = bed.open(Side::Near).unwrap();
        let frames = [frame(&near, &port, 0x88b5, 100, 1)];
        send(&mut near, &frames);
        assert_eq!(receive(&mut port, 1), frames, "polling busily");
    }
}

#[test]
fn opening_tells_what_is_wrong() {
    let Some(bed) = Veth::new("opening_tells_what_is_wrong", Mode::Generic) else {
        return;
    };
    let open = |name: &str| {
        let open = || XdpBackend::open(name, &bed.memory, &bed.options);
        bed.at(Side::Far)
            .run(open)
            .unwrap()
            .err()
            .expect("it cannot be opened")
    };
    let missing = open("eth9");
    assert!(matches!(
        missing,
        OpenError::Interface(InterfaceError::NotFound { .. })
    ));
    let loopback = open("lo");
    assert!(matches!(
        loopback,
        OpenError::Interface(InterfaceError::NotEthernet { .. })
    ));
    let with = |options: XdpOptions| {
        let opened = bed.open_with(Side::Far, &options);
        opened.err().expect("it cannot be opened").to_string()
    };
    let plain = || bed.options.clone();
    assert_eq!(
        with(XdpOptions {
            ring: 100,
            ..plain()
        }),
        "option ring: a power of two from 64 to 32768 is needed"
    );
    assert_eq!(
        with(XdpOptions {
            queues: Some(3..3),
            ..plain()
        }),
        "option queues: from one queue to those below 256 are needed"
    );
    let large = with(XdpOptions {
        ring: 32_768,
        ..plain()
    });
    assert!(large.contains("needs 65792 buffers"), "{large}");
    let beyond = with(XdpOptions {
        queues: Some(200..201),
        ..plain()
    });
    assert!(beyond.contains("cannot bind an AF_XDP socket"), "{beyond}");
    let direct = with(XdpOptions {
        mode: Mode::Native,
        copying: Copying::ZeroCopy,
        ..plain()
    });
    assert!(direct.contains("cannot bind an AF_XDP socket"), "{direct}");

    let free = bed.memory.free();
    let first = bed.open(Side::Far).unwrap();
    assert!(with(plain()).starts_with("interface b0 is in use"));
    drop(first);
    assert_eq!(bed.memory.free(), free, "failed ports keep nothing");
    bed.at(Side::Far).set_down(NAME).unwrap();
    assert!(with(plain()).starts_with("interface b0 is down"));

    let sizes = |buffer_size| {
        let buffers = 512;
        Memory::new(MemoryOptions {
            buffer_size,
            buffers,
        })
    };
    assert!(sizes(1024).is_err() && sizes(3000).is_err());
}

/// A frame changes ports in its buffer where both are of one memory, and as a copy where they are not.
#[test]
fn a_buffer_changes_hands() {
    for mode in MODES {
        let Some(entry) = Veth::new("a_buffer_changes_hands", mode) else {
            return;
        };
        for (exit, taken) in [
            (entry.another(), true),
            (Veth::new("a_buffer_changes_hands", mode).unwrap(), false),
        ] {
            let mut source = entry.open(Side::Near).unwrap();
            let mut lender = entry.open(Side::Far).unwrap();
            let mut taker = exit.open(Side::Near).unwrap();
            let frames = [frame(&source, &lender, 0x88b5, 100, 1)];
            send(&mut source, &frames);
            let start = Instant::now();
            let mut seen = Vec::new();
            while seen.is_empty() {
                assert!(start.elapsed() < PATIENCE);
                lender.wait(Some(PATIENCE)).unwrap();
                lender
                    .receive(1, &mut |frame| {
                        taker.forward(frame, &[0; 30], 14..100).unwrap();
                        seen.push(frame.bytes().is_empty());
                    })
                    .unwrap();
            }
            assert_eq!(seen, [taken], "{mode:?}");
            taker.flush().unwrap();
            assert_eq!(taker.statistics().transmitted, 1);
        }
    }
}

/// All queues of an interface are received from.
#[test]
fn frames_of_every_queue_come() {
    let test = "frames_of_every_queue_come";
    if Veth::new(test, Mode::Generic).is_none() {
        return;
    }
    let place = Namespace::new().unwrap();
    let four = ["numrxqueues", "4", "numtxqueues", "4"];
    let add = || {
        let mut ip = Command::new("ip");
        ip.args(["link", "add", "near0"]).args(four);
        ip.args(["type", "veth", "peer", "name", "far0"]).args(four);
        ip.status()
    };
    match place.run(add).unwrap() {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{test}: skipped: ip: {error}");
            return;
        }
    }
    for name in ["near0", "far0"] {
        place.silence(name).unwrap();
        place.switch_offloads_off(name).unwrap();
        place.set_up(name).unwrap();
    }
    place.wait_ready("far0").unwrap();
    for mode in MODES {
        let memory = Memory::new(MemoryOptions::default()).unwrap();
        let options = XdpOptions {
            mode,
            ring: 64,
            ..XdpOptions::default()
        };
        let open = |name: &str, options: &XdpOptions| {
            place
                .run(|| XdpBackend::open(name, &memory, options))
                .unwrap()
                .unwrap()
        };
        let mut far = open("far0", &options);
        assert_eq!(far.queues(), 4);
        for queue in 0..4 {
            let queues = Some(queue..queue + 1);
            let options = XdpOptions {
                queues,
                ..options.clone()
            };
            let mut near = open("near0", &options);
            let frames: Vec<_> = (0..50)
                .map(|seed| frame(&near, &far, 0x88b5, 100, seed))
                .collect();
            send(&mut near, &frames);
            assert_eq!(receive(&mut far, 50), frames, "{mode:?}, queue {queue}");
        }
        assert_eq!(far.statistics().received, 200);
    }
}

const CHILD: &str = "IPOS_XDP_CHILD";

/// What [`the_program_goes_with_its_process`] starts: a process that opens the port and does not end by itself.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let memory = Memory::new(MemoryOptions::default()).unwrap();
    let port = XdpBackend::open(NAME, &memory, &XdpOptions::default()).unwrap();
    println!("\nopened");
    // Its parent kills it long before.
    std::thread::sleep(Duration::from_secs(600));
    drop(port);
}

#[test]
fn the_program_goes_with_its_process() {
    let Some(bed) = Veth::new("the_program_goes_with_its_process", Mode::Auto) else {
        return;
    };
    bed.at(Side::Far).add_address(NAME, KERNEL, 24).unwrap();
    let host = bed
        .at(Side::Far)
        .run(|| UdpSocket::bind((KERNEL, 9)))
        .unwrap()
        .unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut child = bed.at(Side::Far).run(start).unwrap().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let opened = output
        .lines()
        .map_while(Result::ok)
        .any(|line| line == "opened");
    assert!(opened, "the child has the port");
    let busy = bed.open_with(Side::Far, &bed.options);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(busy, Err(OpenError::Busy { .. })));

    let mut near = bed.open(Side::Near).unwrap();
    send(&mut near, &[datagram(FAR, KERNEL, 9, "free again")]);
    let mut text = [0; 100];
    let (len, _) = host.recv_from(&mut text).unwrap();
    assert_eq!(&text[..len], b"free again");
    let mut far = bed.open(Side::Far).unwrap();
    let frames = [frame(&near, &far, 0x88b5, 100, 1)];
    send(&mut near, &frames);
    assert_eq!(receive(&mut far, 1), frames);
}
