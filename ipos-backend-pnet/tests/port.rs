//! The port over real interfaces: two servers of a farm, their Ports B on one bridge.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use ipos_backend::Backend;
use ipos_backend_pnet::{Frames, OpenError, PnetBackend, PnetOptions};
use ipos_lab::{Farm, FarmPlan, Lan, Server};

const PORT: &str = Lan::B.interface();
const BROADCAST: [u8; 6] = [0xff; 6];
/// A test fails when frames stay away for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two servers, or `None` (said on standard error) without privilege.
fn farm(test: &str) -> Option<Farm> {
    ipos_lab::available(test).then(|| {
        let plan = FarmPlan {
            servers: 2,
            ..FarmPlan::default()
        };
        Farm::build(plan).unwrap()
    })
}

fn open(server: &Server, options: PnetOptions) -> PnetBackend {
    let opened = server.namespace().run(|| PnetBackend::open(PORT, options));
    opened.unwrap().unwrap()
}

/// A port of each of the first two servers.
fn ports(farm: &Farm) -> (PnetBackend, PnetBackend) {
    let [one, two] = farm.servers() else {
        panic!("two servers were asked for");
    };
    let default = PnetOptions::default();
    (open(one, default), open(two, default))
}

/// A frame of `len` bytes, 22 at least, that no other `seed` gives.
fn frame(to: [u8; 6], from: [u8; 6], ethertype: u16, len: usize, seed: usize) -> Vec<u8> {
    let ethertype = ethertype.to_be_bytes();
    let mut frame = [&to[..], &from, &ethertype, &(seed as u64).to_be_bytes()].concat();
    frame.extend((frame.len()..len).map(|i| (i * 31 + seed * 7) as u8));
    frame
}

/// A frame of 100 bytes from `from` to `to`.
fn short(from: &PnetBackend, to: &PnetBackend, seed: usize) -> Vec<u8> {
    let address = |port: &PnetBackend| port.capabilities().hardware_address;
    frame(address(to), address(from), 0x0007, 100, seed)
}

fn send(port: &mut PnetBackend, frame: &[u8]) {
    port.buffer().expect("the queue has room")[..frame.len()].copy_from_slice(frame);
    port.commit(frame.len());
}

/// The next `count` frames.
fn receive(port: &mut PnetBackend, count: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut frames = Vec::new();
    while frames.len() < count {
        assert!(start.elapsed() < PATIENCE, "{} of {count}", frames.len());
        port.wait(Some(Duration::from_secs(1))).unwrap();
        let budget = count - frames.len();
        port.receive(budget, &mut |frame| frames.push(frame.bytes().to_vec()))
            .unwrap();
    }
    frames
}

/// Those of the next `count` frames that the port does not lose.
fn receive_or_lose(port: &mut PnetBackend, count: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut frames = Vec::new();
    loop {
        let lost = usize::try_from(port.statistics().receive_dropped).unwrap();
        if frames.len() + lost == count {
            return frames;
        }
        assert!(start.elapsed() < PATIENCE, "{} of {count}", frames.len());
        port.wait(Some(Duration::from_millis(1))).unwrap();
        frames.extend(drain(port));
    }
}

/// Whether `part` is `whole` with frames left out.
fn in_order(part: &[Vec<u8>], whole: &[Vec<u8>]) -> bool {
    let mut whole = whole.iter();
    part.iter()
        .all(|frame| whole.any(|candidate| candidate == frame))
}

/// What waits now.
fn drain(port: &mut PnetBackend) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    port.receive(usize::MAX, &mut |frame| frames.push(frame.bytes().to_vec()))
        .unwrap();
    frames
}

#[test]
fn frames_pass_both_ways_byte_for_byte_and_in_order() {
    let Some(farm) = farm("frames_pass_both_ways_byte_for_byte_and_in_order") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let (first, second) = (
        one.capabilities().hardware_address,
        two.capabilities().hardware_address,
    );
    let lengths: Vec<_> = (60..=1514).collect();
    for ethertype in [0x0007, 0x88b5, 0x0800] {
        for burst in lengths.chunks(one.capabilities().burst) {
            let make = |to, from| -> Vec<_> {
                let of = |&len| frame(to, from, ethertype, len, len);
                burst.iter().map(of).collect()
            };
            let (there, back) = (make(second, first), make(first, second));
            there.iter().for_each(|frame| send(&mut one, frame));
            back.iter().for_each(|frame| send(&mut two, frame));
            one.flush().unwrap();
            two.flush().unwrap();
            assert_eq!(receive(&mut two, burst.len()), there);
            assert_eq!(receive(&mut one, burst.len()), back);
        }
    }
    let statistics = one.statistics();
    assert_eq!(statistics, two.statistics());
    assert_eq!(statistics.received, 3 * 1455);
    assert_eq!(statistics.transmitted, 3 * 1455);
    assert_eq!(statistics.receive_dropped + statistics.transmit_failed, 0);
}

#[test]
fn own_frames_are_seen_by_captures_only() {
    let Some(farm) = farm("own_frames_are_seen_by_captures_only") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let options = PnetOptions {
        frames: Frames::Passing,
        ..PnetOptions::default()
    };
    let mut tap = open(&farm.servers()[0], options);
    let (there, back) = (short(&one, &two, 1), short(&two, &one, 2));
    send(&mut one, &there);
    assert_eq!(receive(&mut two, 1)[..], [&there[..]]);
    send(&mut two, &back);
    assert_eq!(receive(&mut one, 1)[..], [&back[..]]);
    assert_eq!(drain(&mut one), Vec::<Vec<u8>>::new());
    assert_eq!(receive(&mut tap, 2), [there, back]);
}

#[test]
fn frames_for_others_cost_no_read_unless_asked_for() {
    let Some(farm) = farm("frames_for_others_cost_no_read_unless_asked_for") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let options = PnetOptions {
        frames: Frames::Arriving,
        ..PnetOptions::default()
    };
    let mut all = open(&farm.servers()[1], options);
    let from = one.capabilities().hardware_address;
    // The bridge knows no such station and floods the frame.
    let stranger = frame([2, 0, 0, 0, 0xee, 1], from, 0x0800, 80, 3);
    let everyone = frame(BROADCAST, from, 0x0806, 60, 4);
    let group = frame([1, 0, 0x5e, 0, 0, 9], from, 0x0800, 60, 5);
    let mut tagged = short(&one, &two, 6);
    tagged[12..18].copy_from_slice(&[0x81, 0, 0, 7, 8, 0]);
    for frame in [&stranger, &tagged, &everyone, &group] {
        send(&mut one, frame);
    }
    assert_eq!(receive(&mut two, 2), [everyone.clone(), group.clone()]);
    assert_eq!(receive(&mut all, 3), [stranger, everyone, group]);
    assert_eq!(drain(&mut two).len() + drain(&mut all).len(), 0);
}

#[test]
fn a_frame_that_does_not_fit_is_counted_and_never_truncated() {
    let Some(farm) = farm("a_frame_that_does_not_fit_is_counted_and_never_truncated") else {
        return;
    };
    let (_, mut two) = ports(&farm);
    assert_eq!(two.capabilities().mtu, 1500);
    let switch = farm.switch();
    switch.set_mtu("s1-b0", 9000).unwrap();
    switch.set_mtu("s2-b0", 9000).unwrap();
    switch.set_mtu(Lan::B.bridge(), 9000).unwrap();
    for server in farm.servers() {
        server.namespace().set_mtu(PORT, 9000).unwrap();
    }
    let mut one = open(&farm.servers()[0], PnetOptions::default());
    assert_eq!(one.capabilities().mtu, 9000);
    assert_eq!(one.buffer().unwrap().len(), 9014);

    let to = two.capabilities().hardware_address;
    let from = one.capabilities().hardware_address;
    for len in [1514, 1515, 4000, 9014, 60] {
        send(&mut one, &frame(to, from, 0x0800, len, len));
    }
    // Dropped frames count as taken: five in all.
    let mut lengths = Vec::new();
    let start = Instant::now();
    let mut taken = 0;
    while taken < 5 {
        assert!(start.elapsed() < PATIENCE);
        two.wait(Some(Duration::from_secs(1))).unwrap();
        taken += two
            .receive(64, &mut |frame| lengths.push(frame.bytes().len()))
            .unwrap();
    }
    assert_eq!(lengths, [1514, 60]);
    assert_eq!(two.statistics().received, 2);
    assert_eq!(two.statistics().receive_dropped, 3);
}

/// Whether this process is in the initial user namespace, where root may force any buffer size.
fn buffers_can_be_forced() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[test]
fn a_burst_waits_in_the_kernel() {
    let Some(farm) = farm("a_burst_waits_in_the_kernel") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let burst: Vec<_> = (0..1000).map(|seed| short(&one, &two, seed)).collect();
    burst.iter().for_each(|frame| send(&mut one, frame));
    assert_eq!(one.statistics().transmitted, 1000);
    let got = receive_or_lose(&mut two, 1000);
    assert!(in_order(&got, &burst));
    if buffers_can_be_forced() {
        assert_eq!(got.len(), 1000);
    }
}

#[test]
fn a_full_buffer_loses_frames_and_counts_them() {
    let Some(farm) = farm("a_full_buffer_loses_frames_and_counts_them") else {
        return;
    };
    let (mut one, _) = ports(&farm);
    let small = PnetOptions {
        receive_buffer: 20_000,
        ..PnetOptions::default()
    };
    let mut two = open(&farm.servers()[1], small);
    let mut other = open(&farm.servers()[1], PnetOptions::default());
    let burst: Vec<_> = (0..400).map(|seed| short(&one, &two, seed)).collect();
    burst.iter().for_each(|frame| send(&mut one, frame));
    assert_eq!(receive(&mut other, 400), burst, "a port with room");
    let got = receive_or_lose(&mut two, 400);
    assert!(in_order(&got, &burst));
    let statistics = two.statistics();
    assert!(statistics.receive_dropped > 0);
    assert_eq!(statistics.received, got.len() as u64);
    assert_eq!(two.statistics(), statistics, "asking changes nothing");
}

#[test]
fn a_port_works_again_when_its_interface_is_up_again() {
    let Some(farm) = farm("a_port_works_again_when_its_interface_is_up_again") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let place = farm.servers()[0].namespace();
    place.set_down(PORT).unwrap();

    one.wait(None).unwrap();
    let error = one.receive(64, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    assert!(error.to_string().contains(PORT), "{error}");
    assert_eq!(one.receive(64, &mut |_| {}).unwrap(), 0, "told once");

    let there = short(&one, &two, 1);
    send(&mut one, &there);
    assert_eq!(one.flush().unwrap_err().kind(), ErrorKind::NetworkDown);
    assert_eq!(one.statistics().transmit_failed, 1);
    one.flush().unwrap();

    place.set_up(PORT).unwrap();
    place.wait_ready(PORT).unwrap();
    farm.switch().wait_ready("s1-b0").unwrap();
    send(&mut one, &there);
    one.flush().unwrap();
    assert_eq!(receive(&mut two, 1), [there]);
    let back = short(&two, &one, 2);
    send(&mut two, &back);
    assert_eq!(receive(&mut one, 1), [back]);
}

#[test]
fn a_frame_is_not_lost_to_a_fault_that_is_over() {
    let Some(farm) = farm("a_frame_is_not_lost_to_a_fault_that_is_over") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    let place = farm.servers()[0].namespace();
    place.set_down(PORT).unwrap();
    place.set_up(PORT).unwrap();
    place.wait_ready(PORT).unwrap();
    farm.switch().wait_ready("s1-b0").unwrap();
    let there = short(&one, &two, 1);
    send(&mut one, &there);
    one.flush().unwrap();
    assert_eq!(receive(&mut two, 1), [there]);
}

#[test]
fn a_port_whose_interface_is_gone_says_so() {
    let Some(farm) = farm("a_port_whose_interface_is_gone_says_so") else {
        return;
    };
    let (mut one, two) = ports(&farm);
    farm.servers()[0].namespace().remove(PORT).unwrap();
    let error = one.receive(64, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkDown);
    let there = short(&one, &two, 1);
    send(&mut one, &there);
    assert_eq!(one.flush().unwrap_err().kind(), ErrorKind::NetworkDown);
    assert_eq!(one.statistics().transmit_failed, 1);
}

#[test]
fn frames_that_the_interface_refuses_are_counted() {
    let Some(farm) = farm("frames_that_the_interface_refuses_are_counted") else {
        return;
    };
    let (mut one, mut two) = ports(&farm);
    one.commit(60);
    assert_eq!(one.statistics().transmit_failed, 1, "no buffer was lent");
    let room = one.buffer().unwrap().len();
    assert_eq!(room, 1514);
    one.commit(room + 1);
    assert_eq!(one.statistics().transmit_failed, 2, "beyond the buffer");
    one.buffer().unwrap();
    one.commit(13);
    assert_eq!(one.statistics().transmit_failed, 3, "no Ethernet header");
    one.flush().unwrap();
    let there = short(&one, &two, 1);
    send(&mut one, &there);
    assert_eq!(receive(&mut two, 1), [there]);
    assert_eq!(one.statistics().transmitted, 1);
}

#[test]
fn opening_tells_what_is_wrong() {
    let Some(farm) = farm("opening_tells_what_is_wrong") else {
        return;
    };
    let place = farm.servers()[0].namespace();
    let open = |name: &str| {
        let opened = place.run(|| PnetBackend::open(name, PnetOptions::default()));
        opened.unwrap().err().expect("it cannot be opened")
    };
    for name in ["", "eth9", "an interface name that is too long"] {
        assert!(matches!(open(name), OpenError::NotFound { interface } if interface == name));
    }
    assert!(matches!(open("lo"), OpenError::NotEthernet { .. }));
    place.set_down(PORT).unwrap();
    let error = open(PORT);
    assert!(matches!(error, OpenError::Down { .. }));
    assert_eq!(
        error.to_string(),
        "interface b0 is down: bring it up with `ip link set b0 up`"
    );
}
