//! Tables, buffers and queues that are full, and what they hold when all is over.

mod common;

use common::talk::*;
use common::{CLIENT_MAC, Client, Farm, config, mac, port_a};
use etherparse::PacketBuilder;
use ipos_core::{DropReason, Duration, Event, Port, Verdict};

#[test]
fn buffers_of_a_quiet_connection_give_their_memory_back() {
    let mut farm = alone();
    let mut client = farm.connect(0, 4000);
    farm.send(&client, "PA", b"ping");
    client.seq += 4;
    let bound = farm.bound();
    assert!(farm.devices[0].buffered() > 0, "unread bytes wait");
    farm.run(ms(5000));
    farm.read(bound);
    farm.write(bound, b"pong");
    client.ack += 4;
    farm.send(&client, "A", &[]);
    farm.run(ms(2500));
    assert_eq!(farm.devices[0].buffered(), 0);
}

#[test]
fn full_tables_say_so_and_keep_their_bounds() {
    let mut full = config(0);
    full.limits.temporary = 3;
    full.limits.endpoints = 2;
    let mut farm = Farm::new(vec![full]);
    for port in 1..=3 {
        farm.connect(0, port);
    }
    let late = Client::new(0, 4, 7);
    assert_eq!(
        farm.send(&late, "S", &[]),
        Verdict::Drop(DropReason::TableFull)
    );
    assert_eq!(farm.take(&late).len(), 1, "answered with a cookie");
    assert_eq!(farm.table(0, "temporary"), 3);
    let mut farm = Farm::new(vec![farm.devices[0].config().clone()]);
    for port in 1..=3 {
        let client = farm.connect(0, port);
        farm.send(&client, "PA", b"ping");
        let reset = farm.take(&client).iter().any(|sent| sent.header.rst);
        assert_eq!(reset, port == 3);
    }
    assert_eq!(farm.table(0, "local"), 2);
}

/// The neighbour table is full of stations that do not answer: whoever waits is told at last, and nothing stays.
#[test]
fn nobody_waits_for_ever_for_a_full_neighbour_table() {
    let mut small = config(0);
    small.limits.neighbours = 1;
    let mut farm = Farm::new(vec![small]);
    let client = farm.connect(0, 9);
    farm.send(&client, "R", &[]);
    for station in 101..=120 {
        let syn = PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
            .ipv4([10, 77, 0, station], port_a(0).octets(), 64)
            .tcp(1000, 80, 7, 64_240)
            .syn();
        let mut frame = vec![];
        syn.write(&mut frame, &[]).unwrap();
        farm.deliver(0, Port::A, &frame);
    }
    farm.pump();
    assert_eq!(farm.table(0, "temporary"), 20);
    farm.run(Duration::from_secs(300));
    assert_eq!(farm.table(0, "temporary"), 0);
}

/// A SYN is answered with a cookie, and once more when there is room for its record: the client takes the first answer.
#[test]
fn a_cookie_counts_when_its_syn_comes_again() {
    let mut small = config(0);
    small.limits.temporary = 2;
    let mut farm = Farm::new(vec![small]);
    let other = farm.connect(0, 1);
    let mut client = Client::new(0, 2, 70_000);
    let mut answers = vec![];
    for ends in [true, false] {
        farm.send_with(&client, "S", &[2, 4, 5, 0xb4], &[]);
        answers.extend(farm.take(&client));
        if ends {
            farm.send(&other, "R", &[]);
        }
    }
    assert_eq!(farm.devices[0].counters().cookies_sent, 1);
    let [cookie, again] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_ne!(cookie.header.sequence_number, again.header.sequence_number);
    client.opened_by(cookie);
    farm.send(&client, "PA", b"ping");
    let bound = farm.bound();
    assert_eq!(farm.read(bound), b"ping");
    assert!(farm.take(&client).iter().all(|sent| !sent.header.rst));
    // What no cookie vouches for is refused as before.
    let mut other = Client::new(0, 3, 70_000);
    farm.send_with(&other, "S", &[2, 4, 5, 0xb4], &[]);
    other.opened_by(&farm.take(&other)[0]);
    other.ack += 1;
    farm.send(&other, "PA", b"ping");
    assert!(farm.take(&other)[0].header.rst);
}

#[test]
fn a_cookie_opens_a_connection_once_there_is_room() {
    let mut small = config(0);
    small.limits.temporary = 2;
    let mut farm = Farm::new(vec![small]);
    farm.connect(0, 1);
    // With a cookie of its own.
    farm.connect(0, 9);
    let mut client = Client::new(0, 2, 70_000);
    let offer = [
        2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 1, 0, 0, 0, 0, 0, 0, 1, 3, 3, 9,
    ];
    farm.send_with(&client, "S", &offer, &[]);
    let sent = farm.take(&client);
    let [syn_ack] = &sent[..] else {
        panic!("{sent:?}")
    };
    let options = syn_ack.header.options.as_slice();
    assert_eq!(
        (&options[..8], &options[12..]),
        (
            &[2, 4, 5, 0xa4, 4, 2, 8, 10][..],
            &[0, 1, 0, 0, 1, 3, 3, 7][..]
        )
    );
    client.opened_by(syn_ack);
    let echo = [&[1, 1, 8, 10, 0, 1, 0, 5][..], &options[8..12]].concat();
    let full = farm.send_with(&client, "PA", &echo, b"ping");
    assert_eq!(full, Verdict::Drop(DropReason::TableFull));
    let second = Client {
        seq: client.seq + 4,
        ..client.clone()
    };
    farm.send_with(&second, "PA", &echo, b"pong");
    assert_eq!(
        farm.take(&client).len(),
        0,
        "no RST: it will send all of it again"
    );
    let wrong = Client {
        ack: client.ack + 1,
        ..client.clone()
    };
    farm.run(ms(3_100)); // the first client's application is bound without a request
    assert_eq!(farm.table(0, "temporary"), 0);
    farm.send_with(&second, "PA", &echo, b"pong");
    assert_eq!(farm.take(&client).len(), 0, "it comes before the first one");
    assert_eq!(
        farm.send_with(&wrong, "PA", &echo, b"ping"),
        Verdict::Drop(DropReason::Unmatched)
    );
    farm.send_with(&client, "PA", &echo, b"ping");
    let bound = farm.bound();
    assert_eq!(farm.read(bound), b"ping");
    assert_eq!(farm.devices[0].counters().cookies_accepted, 2);
    farm.take(&client);
    farm.write(bound, b"pong");
    let sent = farm.take(&client);
    let pong = sent.last().unwrap();
    assert_eq!(pong.payload, b"pong");
    let tsval =
        |options: &[u8], at: usize| u32::from_be_bytes(options[at..at + 4].try_into().unwrap());
    assert!(
        tsval(pong.header.options.as_slice(), 4).wrapping_sub(tsval(options, 8)) < 4_000,
        "goes on"
    );
}

/// Endpoints in TIME-WAIT that make room count no more, though their hosts have not let go of them.
#[test]
fn hosts_that_keep_their_endpoints_do_not_shorten_time_wait() {
    let mut small = config(0);
    small.limits.time_wait = 1;
    let mut farm = Farm::new(vec![small]);
    for port in 4000..4004 {
        let mut client = farm.connect(0, port);
        farm.send(&client, "PA", b"ping");
        client.seq += 4;
        let (at, id) = farm.bound();
        farm.read((at, id));
        farm.devices[at].endpoint(farm.now, id).unwrap().shutdown();
        farm.pump();
        client.ack += 1;
        farm.send(&client, "FA", &[]);
        farm.take(&client);
        // TIME-WAIT: the FIN is acknowledged again.
        farm.send(&client, "FA", &[]);
        let sent = farm.take(&client);
        assert!(sent.len() == 1 && !sent[0].header.rst, "{sent:?}");
    }
}

/// What the host was told that there is no room for is not taken.
#[test]
fn asking_for_room_writes_nothing() {
    let mut farm = alone();
    let (mut client, bound) = asked(&mut farm);
    let written = farm.write(bound, &[7; 1 << 20]);
    let device = &mut farm.devices[0];
    let mut endpoint = device.endpoint(farm.now, bound.1).unwrap();
    assert_eq!(endpoint.writable(), 0);
    endpoint.want_writable();
    client.ack += 14_440;
    farm.events.clear();
    farm.send(&client, "A", &[]);
    assert!(farm.events.contains(&(0, Event::Writable(bound.1))));
    assert!(written < 1 << 20);
}

#[test]
fn offers_under_way_have_their_places_in_the_forward_table() {
    let mut farm = Farm::with(2, |_, config| config.limits.forward = 1);
    let first = about_to_move(&mut farm);
    // Round robin: this one is for the first server itself.
    let second = farm.connect(0, 4002);
    let third = farm.connect(0, 4003);
    farm.dead[1] = true;
    farm.send(&first, "PA", REQUEST);
    farm.send(&second, "PA", REQUEST);
    farm.send(&third, "PA", REQUEST);
    assert_eq!(farm.types(), [1], "one offer for one place");
    farm.dead[1] = false;
    farm.run(ms(10));
    assert_eq!((farm.table(0, "forward"), farm.table(0, "local")), (1, 2));
}

#[test]
fn kept_packets_are_bounded_for_all_requests_together() {
    let packet = 20 + 20 + REQUEST.len();
    let mut farm = Farm::with(2, |_, config| config.limits.kept = 2 * packet - 1);
    let first = about_to_move(&mut farm);
    farm.dead[1] = true;
    farm.send(&first, "PA", REQUEST);
    assert_eq!(farm.devices[0].kept(), packet);
    // What cannot be kept for another server is served here: round robin has one for each.
    for port in [4002, 4003] {
        let other = farm.connect(0, port);
        assert_eq!(farm.send(&other, "PA", REQUEST), Verdict::Consumed);
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (0, REQUEST.to_vec()));
    }
    assert_eq!(farm.devices[0].kept(), packet);
    farm.dead[1] = false;
    farm.run(ms(100));
    assert_eq!(farm.devices[0].kept(), 0);
}

/// A restart of the second server is heard while the first one's outbox takes but one frame: its reaping comes to an end.
#[test]
fn an_outbox_of_one_does_not_stop_reaping() {
    let mut farm = Farm::with(2, |_, config| config.limits.outbox = 1);
    restart(&mut farm, 1);
    for _ in 0..10 {
        farm.now += ms(50);
        let now = farm.now;
        farm.devices[1].handle_timeout(now);
        farm.pump();
        for _ in 0..100 {
            farm.devices[0].handle_timeout(now);
            farm.pump();
        }
    }
    let next = farm.devices[0].poll_timeout().unwrap();
    assert!(
        next > farm.now,
        "due at {next:?} for ever, now {:?}",
        farm.now
    );
}

/// More kept packets than the outbox takes at once: each has its turn.
#[test]
fn a_small_outbox_lets_every_kept_packet_through() {
    let mut farm = Farm::with(2, |_, config| config.limits.outbox = 4);
    let client = about_to_move(&mut farm);
    let mut behind = client.clone();
    for piece in REQUEST.chunks(2).skip(1) {
        behind.seq += 2;
        farm.send(&behind, "PA", piece);
    }
    farm.send(&client, "PA", &REQUEST[..2]);
    farm.run(ms(3000));
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
}

/// A connection that there is no place for is gone at once: when there is one, it does not come back half dead.
#[test]
fn a_connection_that_is_turned_away_is_gone() {
    let mut farm = Farm::new(vec![{
        let mut config = common::config(0);
        config.limits.endpoints = 1;
        config
    }]);
    let (first, bound) = asked(&mut farm);
    let client = farm.connect(0, 4002);
    let request = client.frame("PA", &[], REQUEST);
    farm.inject(&client, &request);
    assert_eq!(farm.connections(0), [0, 1, 0, 0, 1]);
    reset(&farm.take(&client));
    farm.send(&first, "R", &[]);
    farm.events.clear();
    farm.inject(&client, &request);
    reset(&farm.take(&client));
    assert_eq!(
        (farm.events.len(), farm.connections(0)),
        (0, [0, 0, 0, 0, 1]),
        "{bound:?}"
    );
}

/// The RST of a client that is turned away gets lost, while others have cookies that may come back: it is told again.
#[test]
fn a_client_that_is_turned_away_is_told_again() {
    let mut config = common::config(0);
    (config.limits.endpoints, config.limits.temporary) = (1, 2);
    let mut farm = Farm::new(vec![config]);
    asked(&mut farm);
    let client = farm.connect(0, 4002);
    farm.connect(0, 4003);
    assert_eq!(farm.devices[0].counters().cookies_sent, 1);
    for _ in 0..2 {
        farm.send(&client, "PA", REQUEST);
        reset(&farm.take(&client));
    }
}

/// A copy of the segment that has brought a cookie back comes when the connection is over.
#[test]
fn a_cookie_opens_one_connection() {
    let mut small = config(0);
    small.limits.temporary = 2;
    let mut farm = Farm::new(vec![small]);
    farm.connect(0, 1);
    let mut client = Client::new(0, 2, 70_000);
    farm.send(&client, "S", &[]);
    client.opened_by(&farm.take(&client)[0]);
    assert_eq!(farm.devices[0].counters().cookies_sent, 1);
    let request = client.frame("PA", &[], b"ping");
    farm.inject(&client, &request);
    let bound = farm.bound();
    assert_eq!(farm.read(bound), b"ping");
    farm.send(&client, "R", &[]);
    client.seq += 4;
    farm.send(&client, "R", &[]);
    assert_eq!(farm.table(0, "local"), 0);
    farm.events.clear();
    farm.take(&client);
    farm.inject(&client, &request);
    reset(&farm.take(&client));
    assert!(farm.events.is_empty(), "{:?}", farm.events);
    // A new connection of the port is welcome.
    client.seq += 100_000;
    farm.send(&client, "S", &[]);
    assert!(!farm.take(&client).is_empty());
}

/// Clients that are turned away leave less behind than connections that other servers have had.
#[test]
fn who_is_turned_away_takes_no_room_of_moved_connections() {
    let mut farm = Farm::with(2, |_, config| {
        (config.limits.tombstones, config.limits.endpoints) = (2, 1);
    });
    let (moved, _) = moved(&mut farm, 4001);
    farm.send(&moved, "R", &[]);
    farm.run(ms(5));
    let graves = |farm: &Farm| {
        let (rows, _) = farm.devices[1].flows(0, 1_000, |table, _| table == "tombstones");
        rows.iter().map(|row| row.flow).collect::<Vec<_>>()
    };
    assert_eq!(graves(&farm), [flow(&moved)]);
    farm.dead[0] = true;
    farm.run(ms(2000));
    for port in 5000..5005 {
        let client = farm.connect(1, port);
        farm.send(&client, "PA", REQUEST);
    }
    let graves = graves(&farm);
    assert_eq!(graves.len(), 2);
    assert!(graves.contains(&flow(&moved)), "{graves:?}");
}
