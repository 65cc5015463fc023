//! Who is known to live: the rules of the synchronization thread.

use proptest::prelude::*;

use super::super::servers::{Change, Ignored, Servers, Wanted};
use super::*;

const SETTINGS: &str = r#"
synch.interface = "c0"
http = [{ listen = "10.77.0.5:80" }]
group = [{ service = "web" }]
limits.servers = 2
"#;

/// No server may be chosen.
const NOBODY: [u32; 0] = [];

const WEB: Wanted<'_> = Wanted {
    service: "web",
    protocol: Some(Protocol::Tcp),
};

fn servers() -> Servers {
    Servers::new(at(0), &settings(SETTINGS))
}

/// The Synch addresses' last bytes of those that may be chosen.
fn able(servers: &Servers, now: Instant) -> Vec<u32> {
    let candidates = servers.candidates(now, WEB).into_iter();
    candidates.map(|(_, c)| c.server & 0xff).collect()
}

fn up(name: &str) -> Result<Option<Change>, Ignored> {
    Ok(Some(Change::Up(name.to_owned())))
}

fn down(name: &str) -> Result<Option<Change>, Ignored> {
    Ok(Some(Change::Down(name.to_owned())))
}

/// A server is chosen once it is known what it listens for, and until it is silent for five intervals.
#[test]
fn a_server_comes_and_falls_silent() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    assert_eq!(servers.hear(at(0), from, &voice.high(0)), up("s11"));
    assert_eq!(able(&servers, at(0)), NOBODY);
    assert_eq!(servers.hear(at(10), from, &voice.medium()[0]), Ok(None));
    assert_eq!(able(&servers, at(10)), [11]);
    let last = at(10) + SILENCE;
    assert_eq!(
        (
            able(&servers, last).len(),
            servers.look_for_silence(last).len()
        ),
        (1, 0)
    );
    let late = at(11) + SILENCE;
    assert_eq!(able(&servers, late), NOBODY);
    assert_eq!(servers.look_for_silence(late), [Change::Down("s11".into())]);
    assert_eq!(servers.look_for_silence(late), []);
    assert_eq!(servers.hear(at(2_000), from, &voice.high(0)), up("s11"));
    assert_eq!(able(&servers, at(2_000)), [11]);
}

#[test]
fn one_that_leaves_is_gone_at_once_until_its_next_life() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    for message in [voice.high(0), voice.medium().remove(0)] {
        servers.hear(at(0), from, &message).unwrap();
    }
    let early = voice.high(0);
    assert_eq!(servers.hear(at(1), from, &voice.leave()), down("s11"));
    assert_eq!(able(&servers, at(1)), NOBODY);
    for late in [early, voice.high(0)] {
        assert_eq!(servers.hear(at(2), from, &late), Err(Ignored::Old));
    }
    voice.incarnation = 2;
    voice.sequence = 0;
    assert_eq!(servers.hear(at(3), from, &voice.high(0)), up("s11"));
    assert_eq!(
        able(&servers, at(3)),
        NOBODY,
        "what the former life listened for does not hold"
    );
    servers.hear(at(3), from, &voice.medium()[0]).unwrap();
    assert_eq!(able(&servers, at(3)), [11]);
}

#[test]
fn a_leave_of_a_stranger_makes_no_record() {
    let mut servers = servers();
    let mut voice = Voice::new(11);
    let leave = voice.leave();
    assert_eq!(
        servers.hear(at(0), voice.synch(), &leave),
        Err(Ignored::Old)
    );
    assert!(servers.get(0).is_none());
}

#[test]
fn what_is_old_overwrites_nothing() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    let (old, new) = (voice.high(5), voice.high(6));
    servers.hear(at(0), from, &new).unwrap();
    for message in [&old, &new] {
        assert_eq!(servers.hear(at(0), from, message), Err(Ignored::Old));
    }
    servers.hear(at(0), from, &voice.medium()[0]).unwrap();
    voice.incarnation = 0;
    assert_eq!(servers.hear(at(0), from, &voice.high(7)), Err(Ignored::Old));
    let candidates = servers.candidates(at(0), WEB);
    assert_eq!(candidates[0].1.connections, 6);
}

/// A report in parts counts when all have come, in order; until then the former one holds.
#[test]
fn listening_sockets_come_in_parts() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    for message in [voice.high(0), voice.medium().remove(0)] {
        servers.hear(at(0), from, &message).unwrap();
    }
    voice.listen = vec![(80, "shop"), (81, "shop"), (82, "shop")];
    voice.room = 40;
    let parts = voice.medium();
    assert_eq!(parts.len(), 3);
    servers.hear(at(0), from, &parts[0]).unwrap();
    assert_eq!(servers.hear(at(0), from, &parts[2]), Err(Ignored::Old));
    assert_eq!(able(&servers, at(0)), [11]);
    for part in &parts[1..] {
        servers.hear(at(0), from, part).unwrap();
    }
    assert_eq!(able(&servers, at(0)), NOBODY);
    let shop = Wanted {
        service: "shop",
        ..WEB
    };
    let ports = servers.get(0).unwrap().addresses(shop).map(|a| a.port());
    assert_eq!(ports.collect::<Vec<_>>(), [80, 81, 82]);
}

#[test]
fn draining_servers_get_nobody() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    for message in [voice.high(0), voice.medium().remove(0)] {
        servers.hear(at(0), from, &message).unwrap();
    }
    voice.flags = SynchFlags::DRAINING;
    servers.hear(at(0), from, &voice.high(0)).unwrap();
    assert_eq!(able(&servers, at(0)), NOBODY);
    voice.flags = SynchFlags::empty();
    servers.hear(at(0), from, &voice.high(0)).unwrap();
    assert_eq!(able(&servers, at(0)), [11]);
}

#[test]
fn the_table_is_bounded_and_forgets() {
    let mut servers = servers();
    let mut voices = [11, 12, 13].map(Voice::new);
    let results = voices
        .each_mut()
        .map(|voice| servers.hear(at(0), voice.synch(), &voice.high(0)));
    assert_eq!(results, [up("s11"), up("s12"), Err(Ignored::Full)]);
    servers.look_for_silence(at(30_001));
    assert!(servers.get(0).is_none());
    let [_, _, third] = &mut voices;
    let high = third.high(0);
    assert_eq!(servers.hear(at(30_001), third.synch(), &high), up("s13"));
}

/// Only one that comes later is slowed down, not those that were there first.
#[test]
fn one_that_comes_later_starts_slowly() {
    let mut servers = servers();
    let mut voices = [11, 12].map(Voice::new);
    let mut speak = |servers: &mut Servers, index: usize, now| {
        let voice: &mut Voice = &mut voices[index];
        for message in [voice.high(0), voice.medium().remove(0)] {
            servers.hear(now, voice.synch(), &message).unwrap();
        }
    };
    speak(&mut servers, 0, at(100));
    speak(&mut servers, 0, at(5_000));
    speak(&mut servers, 1, at(5_000));
    // Silent for too long.
    speak(&mut servers, 0, at(6_000));
    speak(&mut servers, 1, at(15_000));
    let readiness = |servers: &Servers, now, index: usize| {
        servers.candidates(now, WEB)[index].1.readiness.as_f64()
    };
    speak(&mut servers, 0, at(15_000));
    assert!(readiness(&servers, at(15_000), 0) < 0.1);
    let mut fresh = self::servers();
    let mut voice = Voice::new(11);
    for message in [voice.high(0), voice.medium().remove(0)] {
        fresh.hear(at(100), voice.synch(), &message).unwrap();
    }
    assert_eq!(readiness(&fresh, at(100), 0), 1.0);
}

/// An address that is not one of the server's own leads nowhere.
#[test]
fn a_socket_at_a_strange_address_is_not_told() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    let strange = Record::Listen(Listen {
        address: "198.51.100.1:80".parse().unwrap(),
        protocol: Protocol::Tcp,
        service: "web",
    });
    servers.hear(at(0), from, &voice.high(0)).unwrap();
    for part in voice.report(SynchKind::Medium, &[strange]) {
        servers.hear(at(0), from, &part).unwrap();
    }
    assert_eq!(able(&servers, at(0)), NOBODY);
}

proptest! {
    /// Whatever comes, in whatever order: no panic, no more servers than the bound.
    #[test]
    fn any_datagram(
        messages in prop::collection::vec(
            (0u8..4, 0u32..3, 0u32..6, 1u8..5, any::<u16>(), 0u8..3, 1u8..3,
             prop::collection::vec(any::<u8>(), 0..40), 0u64..2_000),
            0..60,
        )
    ) {
        let mut servers = servers();
        let mut now = at(0);
        for (number, incarnation, sequence, kind, flags, part, parts, tail, ms) in messages {
            now += Duration::from_millis(ms);
            let mut message = b"ipOS\x01".to_vec();
            message.push(kind);
            message.extend((flags & 0x7fff).to_be_bytes());
            message.extend(incarnation.to_be_bytes());
            message.extend(sequence.to_be_bytes());
            message.extend([part, parts]);
            let mut voice = Voice::new(number);
            let records = voice.high(1);
            let records = if tail.len() > 20 { tail } else { records[20..].to_vec() };
            message.extend((records.len() as u16).to_be_bytes());
            message.extend(records);
            let _ = servers.hear(now, voice.synch(), &message);
            servers.look_for_silence(now);
            prop_assert!(servers.get(2).is_none());
            prop_assert!(servers.candidates(now, WEB).len() <= 2);
        }
    }
}

#[test]
fn numbers_of_reports_run_over() {
    let (mut servers, mut voice) = (servers(), Voice::new(11));
    let from = voice.synch();
    voice.sequence = u32::MAX - 2;
    for _ in 0..6 {
        let message = voice.high(0);
        assert_ne!(servers.hear(at(0), from, &message), Err(Ignored::Old));
        assert_eq!(servers.hear(at(0), from, &message), Err(Ignored::Old));
    }
    assert_eq!(servers.hear(at(1), from, &voice.leave()), down("s11"));
}
