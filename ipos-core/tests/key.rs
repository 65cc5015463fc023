//! The farm key: what is said with it counts once, what is said without it does not count.

mod common;

use std::net::Ipv4Addr;

use common::talk::*;
use common::{Client, Farm, mac};
use ipos_core::{Counters, DropReason, FarmKey, Port, Process, Verdict};
use ipos_proto::synch::{SYNCH_HEADER_LEN, SynchFlags};
use ipos_proto::{Ethernet, Frame, FrameType};

/// Ethernet, IPv4 and UDP headers of a Synch message.
const SYNCH_AT: usize = 14 + 20 + 8;
const IP_SOURCE: std::ops::Range<usize> = 14 + 12..14 + 16;

/// The keys of these numbers: the first one signs.
fn keys(numbers: &[u8]) -> FarmKey {
    let lines = numbers.iter().map(|key| format!("{key:02x}").repeat(32));
    lines.collect::<Vec<_>>().join("\n").parse().unwrap()
}

fn keyed(servers: u8) -> Farm {
    Farm::with(servers, |server, config| {
        config.farm_key = Some(keys(&[1]));
        // As clocks make them: each server's is its own.
        config.incarnation = 1 + u32::from(server);
    })
}

/// Frames that a server has dropped for reasons of the farm key.
fn refused(counters: Counters) -> [u64; 4] {
    let reasons = [
        DropReason::NoTag,
        DropReason::Tag,
        DropReason::NoKey,
        DropReason::Replayed,
    ];
    reasons.map(|reason| counters.dropped(reason))
}

/// The servers that a server knows.
fn known(farm: &Farm, at: usize) -> Vec<String> {
    let servers = farm.devices[at].servers(farm.now).into_iter();
    servers.filter(|s| s.alive).map(|s| s.name).collect()
}

/// What a server says on the Synch Port when its next report is due. Nobody hears it.
fn reports(farm: &mut Farm, at: usize) -> Vec<Vec<u8>> {
    farm.run(ms(0));
    farm.synch_cut = true;
    let (mut said, mut buf) = (vec![], [0; 1514]);
    while said.is_empty() {
        let due = farm.devices[at].poll_timeout().unwrap();
        farm.now = farm.now.max(due);
        farm.devices[at].handle_timeout(farm.now);
        while let Some(len) = farm.devices[at].poll_transmit(farm.now, Port::Synch, &mut buf) {
            said.push(buf[..len].to_vec());
        }
    }
    farm.synch_cut = false;
    said
}

/// Every frame of LAN B but 0x02, and the server that it is for.
fn control_frames(farm: &Farm) -> Vec<(usize, Vec<u8>)> {
    let frames = farm.lan_b.iter().map(|(_, frame)| frame);
    let frames = frames.filter(|frame| kind(frame) != FrameType::Packet);
    let to = |frame: &Vec<u8>| usize::from(frame[5]);
    frames.map(|frame| (to(frame), frame.clone())).collect()
}

/// A connection that has been to the second server, the third and home, and one that has ended at the second: all types of
/// frames but REFUSE have been said.
fn busy(farm: &mut Farm) -> (Client, Bound) {
    let (mut ended, bound) = moved(farm, 4001);
    let (mut client, _) = moved(farm, 4101);
    let said = farm.lan_b.clone();
    migrate(farm, 1, &client, "s3", 150);
    exchange(farm, &mut client, 20);
    farm.lan_b.splice(0..0, said);
    farm.send(&ended, "FA", &[]);
    farm.close(bound);
    ended.seq += 1;
    for fin in farm.take(&ended) {
        ended.ack = ipos_proto::SeqNum::new(fin.header.sequence_number) + fin.payload.len() as u32;
        ended.ack += u32::from(fin.header.fin);
    }
    farm.send(&ended, "A", &[]);
    farm.run(ms(100));
    let now = farm.now;
    farm.devices[0].migrate(now, &flow(&client), "s1").unwrap();
    farm.run(ms(150));
    let bound = exchange(farm, &mut client, 20);
    assert_eq!(bound.0, 0);
    for wanted in [
        FrameType::Endpoint,
        FrameType::Acknowledgement,
        FrameType::Release,
        FrameType::Move,
        FrameType::Moved,
    ] {
        let said = control_frames(farm);
        assert!(
            said.iter().any(|(_, frame)| kind(frame) == wanted),
            "{wanted}"
        );
    }
    (client, bound)
}

/// Everything that servers say to each other is signed, and nothing of it is refused.
#[test]
fn a_farm_with_a_key() {
    let mut farm = keyed(3);
    let (mut client, bound) = busy(&mut farm);
    works(&mut farm, &mut client, bound);
    for (_, frame) in control_frames(&farm) {
        let (_, rest) = Ethernet::parse(&frame).unwrap();
        let frame = Frame::parse(rest).unwrap();
        assert!(frame.message.trailer().unwrap().tag.is_some(), "{frame:?}");
    }
    for report in reports(&mut farm, 0) {
        let flags = u16::from_be_bytes([report[SYNCH_AT + 6], report[SYNCH_AT + 7]]);
        assert!(SynchFlags::from_bits_retain(flags).contains(SynchFlags::TAGGED));
    }
    for device in &farm.devices {
        assert_eq!(refused(device.counters()), [0; 4]);
    }
}

/// The third server has another key, or none: the others do not know it, nor it them, and each serves the clients that come to it.
#[test]
fn a_server_without_the_key_is_alone() {
    each([Some(keys(&[2])), None], |other| {
        let mut farm = Farm::with(3, |server, config| {
            config.farm_key = if server == 2 {
                other.clone()
            } else {
                Some(keys(&[1]))
            };
        });
        assert_eq!(known(&farm, 0), ["s1", "s2"]);
        assert_eq!(known(&farm, 2), ["s3"]);
        let mut others = [[false; 3]; 3];
        for port in 4000..4012 {
            let at = port % 3;
            let mut client = farm.connect(at as u8, port);
            let (served, _) = exchange(&mut farm, &mut client, 0);
            others[at as usize][served] = true;
        }
        assert_eq!(others[2], [false, false, true]);
        assert!(!others[0][2] && !others[1][2] && others[0][1]);
        let dropped = |at: usize| refused(farm.devices[at].counters()).map(|dropped| dropped > 0);
        let of_third = match other.is_some() {
            true => [[false, true, false, false]; 2],
            false => [[true, false, false, false], [false, false, true, false]],
        };
        assert_eq!([dropped(0), dropped(2)], of_third);
    });
}

/// Every frame that was said comes once more: none counts, and the connection goes on.
#[test]
fn replayed_frames() {
    let mut farm = keyed(3);
    let (mut client, bound) = busy(&mut farm);
    let said = control_frames(&farm);
    for (to, frame) in &said {
        let verdict = farm.deliver(*to, Port::B, frame);
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::Replayed),
            "{}",
            kind(frame)
        );
    }
    let counted: u64 = farm.devices.iter().map(|d| refused(d.counters())[3]).sum();
    assert_eq!(counted, said.len() as u64);
    works(&mut farm, &mut client, bound);
}

/// Frames that were said, to servers that have not had them: without their tag, with any bit of tag or trailer changed, under
/// another server's address, and with the tag of another key.
#[test]
fn forged_frames() {
    let mut told = keyed(3);
    busy(&mut told);
    // The same farm, to which nothing was said yet.
    let mut farm = keyed(3);
    let (mut client, bound) = moved(&mut farm, 5001);
    let mut forged = 0;
    for (to, frame) in control_frames(&told) {
        let mut drop = |frame: &[u8], reason| {
            let verdict = farm.deliver(to, Port::B, frame);
            assert_eq!(verdict, Verdict::Drop(reason), "{}", kind(frame));
            forged += 1;
        };
        let trailer = frame.len() - 36;
        let mut bare = frame[..trailer + 20].to_vec();
        bare[trailer + 1] = 20;
        drop(&bare, DropReason::NoTag);
        drop(&frame[..trailer], DropReason::NoTag);
        for bit in (8 * trailer + 16)..(8 * frame.len()) {
            let mut harmed = frame.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            drop(&harmed, DropReason::Tag);
        }
        let mut spoofed = frame.clone();
        spoofed[11] = (0..3)
            .find(|other| *other != frame[11] && usize::from(*other) != to)
            .unwrap();
        drop(&spoofed, DropReason::Replayed);
        let mut other = frame.clone();
        keys(&[2]).sign(&mut other[14..]);
        drop(&other, DropReason::Tag);
        let mut stranger = frame.clone();
        stranger[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
        drop(&stranger, DropReason::Stranger);
    }
    assert!(forged > 1000);
    works(&mut farm, &mut client, bound);
}

/// A 0x01 whose control block does not hold is refused where a server of the farm has said it, and dropped where nobody knows who.
#[test]
fn an_offer_that_does_not_hold() {
    let mut farm = keyed(2);
    about_to_move(&mut farm);
    lose(&mut farm, FrameType::Endpoint, usize::MAX);
    let client = farm.connect(0, 4201);
    farm.send(&client, "PA", REQUEST);
    let mut offer = frames(&farm, 0, FrameType::Endpoint).remove(0);
    // The state.
    offer[14 + 16 + 6 + 1] = 99;
    assert_eq!(
        farm.deliver(1, Port::B, &offer),
        Verdict::Drop(DropReason::Tag)
    );
    farm.pump();
    assert_eq!(frames(&farm, 1, FrameType::Refuse).len(), 0);
    keys(&[1]).sign(&mut offer[14..]);
    farm.deliver(1, Port::B, &offer);
    farm.pump();
    assert_eq!(frames(&farm, 1, FrameType::Refuse).len(), 1);
    assert_eq!(farm.devices[0].counters().refused, 1);
}

/// Signed frames for a server that has no key: it is not of their farm.
#[test]
fn tags_without_a_key() {
    let mut told = keyed(3);
    busy(&mut told);
    let mut farm = Farm::round_robin(3);
    for (to, frame) in control_frames(&told) {
        let verdict = farm.deliver(to, Port::B, &frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoKey));
    }
}

/// 0x02 has no tag: it counts where its sender has handed the connection over, and from nobody else.
#[test]
fn packets_of_those_who_did_not_hand_over() {
    let mut farm = keyed(3);
    let (client, _) = moved(&mut farm, 4001);
    farm.lan_b.clear();
    farm.send(&client, "PA", b"x");
    let packet = frames(&farm, 0, FrameType::Packet).remove(0);
    let mut spoofed = packet.clone();
    spoofed[6..12].copy_from_slice(&mac(0xb, 2).0);
    for _ in 0..2 {
        let verdict = farm.deliver(1, Port::B, &spoofed);
        assert_eq!(verdict, Verdict::Drop(DropReason::Stranger));
    }
    assert_eq!(farm.deliver(1, Port::B, &packet), Verdict::Consumed);
}

/// Reports count once, those of several parts too, in whatever order they come again.
#[test]
fn replayed_reports() {
    let mut farm = keyed(2);
    let process = |pid| Process {
        pid,
        port: 80,
        name: "nginx".into(),
        cpu: 0.5,
        memory: 1 << 20,
    };
    farm.devices[1].handle_processes((1..200).map(process).collect());
    let mut said = vec![];
    // Until a low-priority report is due.
    for _ in 0..120 {
        for report in reports(&mut farm, 1) {
            assert_eq!(farm.deliver(0, Port::Synch, &report), Verdict::Consumed);
            said.push(report);
        }
    }
    let low_part = |report: &Vec<u8>| report[SYNCH_AT + 5] == 3 && report[SYNCH_AT + 16] > 0;
    assert!(said.iter().any(low_part));
    for report in said.iter().chain(said.iter().rev()) {
        let verdict = farm.deliver(0, Port::Synch, report);
        assert_eq!(verdict, Verdict::Drop(DropReason::SynchOld));
    }
}

/// A report under another server's address; the checksums that harm it does are mended.
fn under(address: Ipv4Addr, report: &[u8]) -> Vec<u8> {
    let mut forged = report.to_vec();
    forged[IP_SOURCE].copy_from_slice(&address.octets());
    mend(&mut forged);
    forged
}

/// The IPv4 checksum, and none for UDP.
fn mend(report: &mut [u8]) {
    report[14 + 10..14 + 12].fill(0);
    let sum = ipos_proto::internet_checksum(&report[14..34]);
    report[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
    report[SYNCH_AT - 2..SYNCH_AT].fill(0);
}

/// A server leaves. Its word is forged for another one: without a tag, with that of another key, and as the first one has said it.
#[test]
fn forged_leaves() {
    let mut farm = keyed(3);
    farm.devices[2].leave();
    let (mut buf, now) = ([0; 1514], farm.now);
    let mut leave = None;
    while let Some(len) = farm.devices[2].poll_transmit(now, Port::Synch, &mut buf) {
        leave = Some(buf[..len].to_vec());
    }
    let leave = leave.unwrap();
    let victim = farm.devices[1].config().synch.address;
    let mut later = under(victim, &leave);
    // A sequence number that nobody has reached.
    later[SYNCH_AT + 12] = 1;
    let mut other = later.clone();
    keys(&[2]).sign(&mut other[SYNCH_AT..]);
    let mut bare = later[..SYNCH_AT + SYNCH_HEADER_LEN].to_vec();
    bare[SYNCH_AT + 6] &= !0x80;
    for short in [14 + 3, SYNCH_AT - 3] {
        bare[short] -= 16;
    }
    mend(&mut bare);
    let forgeries = [
        (under(victim, &leave), DropReason::SynchOld),
        (later, DropReason::Tag),
        (other, DropReason::Tag),
        (bare, DropReason::NoTag),
    ];
    for (forged, reason) in forgeries {
        assert_eq!(farm.deliver(0, Port::Synch, &forged), Verdict::Drop(reason));
        assert_eq!(known(&farm, 0), ["s1", "s2", "s3"]);
    }
    assert_eq!(farm.deliver(0, Port::Synch, &leave), Verdict::Consumed);
    assert_eq!(known(&farm, 0), ["s1", "s2"]);
}

/// What one server says comes again under the address of another, and under one of nobody: there is no new server, and no new life.
#[test]
fn reports_under_another_address() {
    // The second server began before the third and after the first.
    each([0, 2], |at| {
        let mut farm = keyed(3);
        let (mut client, bound) = moved(&mut farm, 4001);
        let victim = farm.devices[1].config().synch.address;
        let process = |pid| Process {
            pid,
            port: 80,
            name: "nginx".into(),
            cpu: 0.5,
            memory: 1 << 20,
        };
        farm.devices[at].handle_processes((1..200).map(process).collect());
        let to = 2 - at;
        let mut kinds = [0; 3];
        // Until a report of each priority was due.
        for _ in 0..120 {
            for report in reports(&mut farm, at) {
                kinds[usize::from(report[SYNCH_AT + 5]) - 1] += 1;
                for address in [victim, Ipv4Addr::new(10, 99, 0, 77)] {
                    let forged = under(address, &report);
                    let verdict = farm.deliver(to, Port::Synch, &forged);
                    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
                }
            }
        }
        assert!(kinds.iter().all(|kind| *kind > 0), "{kinds:?}");
        farm.run(ms(300));
        let mut known = known(&farm, to);
        known.sort();
        assert_eq!(known, ["s1", "s2", "s3"]);
        assert_eq!(farm.devices[to].servers(farm.now).len(), 3);
        assert!(farm.devices[to].counters().dropped(DropReason::Replayed) > 0);
        works(&mut farm, &mut client, bound);
    });
}

/// A server has died and is forgotten: what it had said does not bring it back; its next life does.
#[test]
fn the_dead_do_not_come_back() {
    let mut farm = keyed(2);
    let said = reports(&mut farm, 1);
    moved(&mut farm, 4001);
    let told = control_frames(&farm);
    farm.dead[1] = true;
    farm.run(ms(40_000));
    assert_eq!(
        farm.devices[0].servers(farm.now).len(),
        1,
        "it is forgotten"
    );
    for report in &said {
        let verdict = farm.deliver(0, Port::Synch, report);
        assert_eq!(verdict, Verdict::Drop(DropReason::SynchOld));
    }
    let nobody = under(Ipv4Addr::new(10, 99, 0, 77), said.last().unwrap());
    let verdict = farm.deliver(0, Port::Synch, &nobody);
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    assert_eq!(farm.devices[0].servers(farm.now).len(), 1);
    for (to, frame) in told.iter().filter(|(to, _)| *to == 0) {
        let verdict = farm.deliver(*to, Port::B, frame);
        assert_eq!(verdict, Verdict::Drop(DropReason::Stranger));
    }
    assert_eq!(known(&farm, 0), ["s1"]);
    restart(&mut farm, 1);
    farm.run(ms(2000));
    assert_eq!(known(&farm, 0), ["s1", "s2"]);
    let (mut client, bound) = moved(&mut farm, 4301);
    works(&mut farm, &mut client, bound);
}

/// A server has restarted: what its former life has said does not count, whether or not the Synch LAN has told of the new one.
#[test]
fn frames_of_a_former_life() {
    without_and_with(|lost| {
        let mut farm = keyed(2);
        moved(&mut farm, 4001);
        let told = control_frames(&farm);
        restart(&mut farm, 1);
        farm.synch_lost = lost.then_some((1, 0));
        farm.run(ms(300));
        // The new life says something on LAN B: that it does not know the connection.
        let mut client = farm.connect(0, 4501);
        request(&mut farm, &mut client);
        farm.run(ms(300));
        let from = |frame: &[u8]| frame[11];
        let old = told
            .iter()
            .filter(|(to, frame)| *to == 0 && from(frame) == 1);
        let verdicts: Vec<Verdict> = old
            .map(|(to, frame)| farm.deliver(*to, Port::B, frame))
            .collect();
        assert!(!verdicts.is_empty());
        for verdict in verdicts {
            assert_eq!(verdict, Verdict::Drop(DropReason::Replayed));
        }
    });
}

/// The key changes while a connection lives: the new one is accepted everywhere, then signs everywhere, then the old one goes. At
/// every step, in whatever order the servers take it, the connection moves on and nothing is refused.
#[test]
fn rotation() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    each(orders, |order| {
        let mut farm = keyed(3);
        let (mut client, _) = moved(&mut farm, 4001);
        let mut at = 1;
        for step in [&[1, 2][..], &[2, 1], &[2]] {
            for server in order {
                let mut config = farm.devices[server].config().clone();
                config.farm_key = Some(keys(step));
                let changed = farm.devices[server].reconfigure(config);
                assert_eq!(changed, Ok(vec!["security.farm_key_file"]));
                let next = (at + 1) % 3;
                migrate(&mut farm, at, &client, ["s1", "s2", "s3"][next], 300);
                let bound = exchange(&mut farm, &mut client, 300);
                assert_eq!(bound.0, next, "{step:?} on {server}");
                at = next;
            }
        }
        for device in &farm.devices {
            assert_eq!(refused(device.counters()), [0; 4]);
        }
    });
}

/// The other server is given the new key only: it is apart until the first one has it too, and the connection goes on between them.
#[test]
fn a_key_that_changes_without_overlap() {
    let mut farm = keyed(2);
    let (mut client, bound) = moved(&mut farm, 4001);
    for (server, alone) in [(1, true), (0, false)] {
        let mut config = farm.devices[server].config().clone();
        config.farm_key = Some(keys(&[2]));
        farm.devices[server].reconfigure(config).unwrap();
        farm.run(ms(1000));
        assert_eq!(known(&farm, 0) == ["s1"], alone);
        works(&mut farm, &mut client, bound);
    }
    assert!(farm.devices[0].counters().dropped(DropReason::Tag) > 0);
}
