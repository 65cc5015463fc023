//! The synchronization thread: joining, silence, return, order.

mod common;

use common::talk::{ms, restart};
use common::{Farm, config, mac};
use ipos_core::{Device, DropReason, Event, Instant, Load, Port, Process, Verdict};
use ipos_proto::MacAddr;
use ipos_proto::synch::{Record, SynchKind, SynchMessage};

fn names(farm: &Farm, at: usize) -> Vec<(String, bool)> {
    farm.devices[at]
        .servers(farm.now)
        .into_iter()
        .map(|s| (s.name, s.alive))
        .collect()
}

/// The Synch frames that a device sends now.
fn adverts(device: &mut Device, now: Instant) -> Vec<Vec<u8>> {
    let mut buf = [0; 1514];
    device.handle_timeout(now);
    let mut frames = vec![];
    while let Some(len) = device.poll_transmit(now, Port::Synch, &mut buf) {
        frames.push(buf[..len].to_vec());
    }
    frames
}

fn message(frame: &[u8]) -> SynchMessage<'_> {
    SynchMessage::parse(&frame[42..]).unwrap()
}

#[test]
fn servers_find_each_other_and_notice_silence_and_return() {
    let mut farm = Farm::round_robin(3);
    let up = |name: &str, alive| (name.to_string(), alive);
    assert_eq!(
        names(&farm, 0),
        [up("s1", true), up("s2", true), up("s3", true)]
    );
    farm.dead[2] = true;
    farm.run(ms(450));
    assert!(
        farm.devices[0].servers(farm.now)[2].alive,
        "not silent for long enough"
    );
    farm.events.clear();
    farm.run(ms(200));
    assert_eq!(
        names(&farm, 0),
        [up("s1", true), up("s2", true), up("s3", false)]
    );
    assert!(farm.events.contains(&(0, Event::ServerDown("s3".into()))));
    // Nothing is sent to it any more.
    for port in 100..110 {
        let client = farm.connect(0, port);
        farm.send(&client, "PA", b"x");
        assert_ne!(farm.bound().0, 2);
    }
    // It comes back with a new life.
    restart(&mut farm, 2);
    // It is used little at first.
    farm.run(ms(10_250));
    assert!(farm.events.contains(&(0, Event::ServerUp("s3".into()))));
    let used = (200..206).any(|port| {
        let client = farm.connect(0, port);
        farm.send(&client, "PA", b"x");
        farm.bound().0 == 2
    });
    assert!(used, "it is used again");
    farm.dead[1] = true;
    farm.run(ms(31_000));
    assert_eq!(
        names(&farm, 0),
        [up("s1", true), up("s3", true)],
        "forgotten"
    );
}

#[test]
fn who_leaves_is_gone_at_once_and_no_old_message_brings_it_back() {
    let mut farm = Farm::pair();
    let now = farm.now + ms(100);
    let old = adverts(&mut farm.devices[1], now);
    farm.devices[1].leave();
    farm.pump();
    assert_eq!(names(&farm, 0).len(), 1);
    assert!(farm.events.contains(&(0, Event::ServerDown("s2".into()))));
    for frame in &old {
        assert_eq!(
            farm.deliver(0, Port::Synch, frame),
            Verdict::Drop(DropReason::SynchOld)
        );
    }
    assert_eq!(names(&farm, 0).len(), 1);
}

#[test]
fn an_older_message_never_overwrites_a_newer_one() {
    let mut sender = Device::new(config(1), Instant::ZERO).unwrap();
    let mut receiver = Device::new(config(0), Instant::ZERO).unwrap();
    sender.handle_load(Load {
        cpu: 0.25,
        free_memory: 1,
        free_bandwidth: 2,
    });
    let first = adverts(&mut sender, Instant::ZERO);
    sender.handle_load(Load {
        cpu: 0.5,
        free_memory: 3,
        free_bandwidth: 4,
    });
    let second = adverts(&mut sender, Instant::from_millis(100));
    assert_eq!(
        (first.len(), second.len()),
        (3, 1),
        "high, medium and low; then high alone"
    );
    let now = Instant::from_millis(150);
    for frame in second.iter().chain(&first[1..]) {
        assert_eq!(
            receiver.handle_frame(now, Port::Synch, frame),
            Verdict::Consumed
        );
    }
    let late = receiver.handle_frame(now, Port::Synch, &first[0]);
    assert_eq!(late, Verdict::Drop(DropReason::SynchOld));
    let twice = receiver.handle_frame(now, Port::Synch, &second[0]);
    assert_eq!(twice, Verdict::Drop(DropReason::SynchOld));
    let s2 = &receiver.servers(now)[1];
    assert_eq!(
        s2.load,
        Load {
            cpu: 0.5,
            free_memory: 3,
            free_bandwidth: 4
        }
    );
}

#[test]
fn the_three_priorities_tell_what_they_should() {
    let mut device = Device::new(config(0), Instant::ZERO).unwrap();
    device.handle_processes(vec![Process {
        pid: 77,
        name: "nginx".into(),
        port: 80,
        memory: 4096,
        cpu: 0.5,
    }]);
    let frames = adverts(&mut device, Instant::ZERO);
    assert_eq!(
        frames
            .iter()
            .map(|f| message(f).header().kind)
            .collect::<Vec<_>>(),
        [SynchKind::High, SynchKind::Medium, SynchKind::Low]
    );
    let records = |at: usize| message(&frames[at]).records().collect::<Vec<_>>();
    assert!(matches!(
        records(0)[..],
        [Record::State(_), Record::Identity(_)]
    ));
    let medium = records(1);
    let [
        Record::Identity(identity),
        Record::Listen(listen),
        Record::Process(process),
    ] = &medium[..]
    else {
        panic!("{medium:?}")
    };
    assert_eq!((identity.name, identity.hardware), ("s1", mac(0xb, 0)));
    assert_eq!((listen.address.port(), listen.service), (80, "web"));
    assert_eq!((process.pid, process.name), (77, "nginx"));
    let low = records(2);
    assert!(
        matches!(&low[..], [Record::Performance(p)] if p.cpu == 5_000 && p.memory == 4096),
        "{low:?}"
    );
}

#[test]
fn what_is_not_a_synch_message_is_dropped_for_its_reason() {
    let mut sender = Device::new(config(1), Instant::ZERO).unwrap();
    let good = adverts(&mut sender, Instant::ZERO).remove(0);
    let mut receiver = Device::new(config(0), Instant::ZERO).unwrap();
    let mut verdict = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        receiver.handle_frame(Instant::ZERO, Port::Synch, &frame)
    };
    assert_eq!(
        verdict(0, 2),
        Verdict::Drop(DropReason::NotOurs),
        "another hardware address"
    );
    assert_eq!(verdict(13, 9), Verdict::Drop(DropReason::EtherType));
    assert_eq!(verdict(20, 0xff), Verdict::Drop(DropReason::IpChecksum));
    assert_eq!(
        verdict(50, 0xff),
        Verdict::Drop(DropReason::TransportChecksum)
    );
    let own = adverts(&mut receiver, Instant::ZERO);
    assert_eq!(
        receiver.handle_frame(Instant::ZERO, Port::Synch, &own[0]),
        Verdict::Drop(DropReason::Own)
    );
    let mut from_elsewhere = own[0].clone();
    from_elsewhere[6..12].copy_from_slice(&MacAddr([2, 1, 1, 1, 1, 1]).0);
    assert_eq!(
        receiver.handle_frame(Instant::ZERO, Port::Synch, &from_elsewhere),
        Verdict::Drop(DropReason::Own)
    );
    assert_eq!(
        receiver.handle_frame(Instant::ZERO, Port::Synch, &good),
        Verdict::Consumed
    );
}

#[test]
fn a_long_list_of_services_takes_several_datagrams_and_is_taken_whole() {
    let mut many = config(1);
    for port in 1000..1100 {
        let service = format!("a service with quite a long name, number {port}");
        let address = core::net::SocketAddrV4::new(many.port_a.addresses[0], port);
        many.listen.push(ipos_core::config::Listen {
            address,
            protocol: ipos_proto::Protocol::Tcp,
            service,
        });
    }
    let mut wanted = config(0);
    wanted.listen[0].service = "a service with quite a long name, number 1099".into();
    wanted.balance.policy = ipos_balance::PolicyKind::RoundRobin;
    let mut sender = Device::new(many, Instant::ZERO).unwrap();
    let frames = adverts(&mut sender, Instant::ZERO);
    assert!(frames.len() > 4 && frames.iter().all(|frame| frame.len() <= 1514));
    let mut receiver = Device::new(wanted, Instant::ZERO).unwrap();
    // With a part missing nothing changes; the next report brings all.
    let mut gap = frames.clone();
    gap.remove(2);
    for frame in &gap {
        receiver.handle_frame(Instant::ZERO, Port::Synch, frame);
    }
    assert_eq!(
        receiver.counters().dropped(DropReason::SynchOld),
        (frames.len() - 4) as u64
    );
    let later = Instant::from_millis(1000);
    for frame in adverts(&mut sender, later) {
        receiver.handle_frame(later, Port::Synch, &frame);
    }
    assert_eq!(
        receiver.counters().dropped(DropReason::SynchOld),
        (frames.len() - 4) as u64
    );
    assert!(receiver.servers(later)[1].alive);
}
