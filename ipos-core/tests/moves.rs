//! Bound connections that move again: home, to a third server, on drain, for a request; when they may, and what goes with
//! them.

mod common;

use common::talk::*;
use common::{Client, Farm, mac};
use ipos_core::{Event, Flow, MigrateError};
use ipos_proto::FrameType;

#[test]
fn a_connection_comes_home() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm, 4001);
    migrate(&mut farm, 1, &client, "s1", 300);
    assert_eq!(
        farm.types(),
        [1, 3, 2, 3],
        "no request: the client's last word is said again"
    );
    assert_eq!(left(&farm), [bound]);
    assert!(farm.devices[1].endpoint(farm.now, bound.1).is_none());
    assert_eq!(farm.connections(0), [0, 1, 0, 0, 0]);
    assert_eq!(farm.take(&client).len(), 0, "the client notices nothing");
    farm.lan_b.clear();
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
    assert_eq!(farm.types(), [0u8; 0], "Port A alone");
    let ended = farm.bound();
    farm.send(&client, "FA", &[]);
    farm.close(ended);
    client.seq += 1;
    client.ack += 1;
    farm.send(&client, "A", &[]);
    farm.run(ms(121_000));
    assert_eq!((farm.connections(0), farm.connections(1)), ([0; 5], [0; 5]));
}

#[test]
fn to_one_of_several_servers() {
    let mut farm = Farm::pair();
    let (client, bound) = moved(&mut farm, 4001);
    farm.lan_b.clear();
    let now = farm.now;
    let among = |farm: &mut Farm, names: &[&str]| {
        let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
        endpoint.migrate_among(names)
    };
    assert_eq!(
        among(&mut farm, &["nobody"]),
        Err(MigrateError::UnknownServer)
    );
    assert_eq!(among(&mut farm, &["nobody", "s2"]), Ok(()));
    farm.run(ms(300));
    assert_eq!(left(&farm), [], "it is there already");
    assert_eq!(among(&mut farm, &["nobody", "s1"]), Ok(()));
    farm.run(ms(300));
    assert_eq!(left(&farm), [bound]);
    assert_eq!(farm.take(&client).len(), 0);
}

#[test]
fn to_a_third_server_and_no_chain_stays() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    migrate(&mut farm, 1, &client, "s3", 300);
    assert_eq!(farm.types(), [1, 3, 2, 0x13, 3, 3]);
    farm.lan_b.clear();
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 2);
    let senders: Vec<usize> = farm.lan_b.iter().map(|(from, _)| *from).collect();
    assert_eq!(senders, [0, 0], "the first server sends to the third");
    // And from there on, and home at last.
    migrate(&mut farm, 2, &client, "s2", 300);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 1);
    migrate(&mut farm, 1, &client, "s1", 300);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
    farm.send(&client, "R", &[]);
    farm.run(ms(121_000));
    for at in 0..3 {
        assert_eq!(farm.connections(at), [0; 5], "server {at}");
    }
}

#[test]
fn back_and_forth_fifty_times_in_one_connection() {
    let mut farm = Farm::round_robin(3);
    let (mut client, bound) = moved(&mut farm, 4001);
    let mut at = bound.0;
    for turn in 0..50 {
        let to = (at + 1 + turn % 2) % 3;
        migrate(&mut farm, at, &client, &format!("s{}", to + 1), 300);
        assert_eq!(exchange(&mut farm, &mut client, 150).0, to, "turn {turn}");
        at = to;
    }
    assert_eq!(left(&farm).len(), 50);
}

#[test]
fn whatever_frames_of_a_move_are_lost_it_is_made_once_or_not_at_all() {
    let types = [
        FrameType::Endpoint,
        FrameType::Acknowledgement,
        FrameType::Packet,
        FrameType::Moved,
    ];
    for lost in types {
        for n in [1, 3, 100] {
            if lost == FrameType::Packet && n == 100 {
                // Without packets there is no connection.
                continue;
            }
            let mut farm = Farm::round_robin(3);
            let (mut client, _) = moved(&mut farm, 4001);
            lose(&mut farm, lost, n);
            migrate(&mut farm, 1, &client, "s3", 300);
            farm.run(ms(1000));
            let (at, _) = exchange_somewhere(&mut farm, &mut client);
            assert!(at == 1 || at == 2, "{lost:?} lost {n} times");
            farm.run(ms(2500));
            let owners = (0..3).filter(|at| farm.table(*at, "forward-connect") == 1);
            assert_eq!(owners.count(), 1, "{lost:?} lost {n} times");
        }
    }
}

#[test]
fn the_first_server_asks_the_owner_to_move() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    migrate(&mut farm, 0, &client, "s3", 300);
    assert_eq!(farm.types()[0], 0x12);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 2);
    migrate(&mut farm, 0, &client, "s1", 300);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
    let now = farm.now;
    let none = Flow::tcp("10.1.1.1:1".parse().unwrap(), client.server);
    assert_eq!(
        farm.devices[0].migrate(now, &none, "s2"),
        Err(MigrateError::UnknownFlow)
    );
    let known = flow(&client);
    assert_eq!(
        farm.devices[0].migrate(now, &known, "s9"),
        Err(MigrateError::UnknownServer)
    );
}

/// MOVE or its answer is lost: it is repeated, and the connection moves once.
#[test]
fn a_lost_command_is_repeated() {
    for lost in [FrameType::Move, FrameType::Acknowledgement] {
        let mut farm = Farm::round_robin(3);
        let (mut client, _) = moved(&mut farm, 4001);
        lose(&mut farm, lost, 2);
        migrate(&mut farm, 0, &client, "s3", 300);
        farm.run(ms(200));
        assert_eq!(exchange(&mut farm, &mut client, 150).0, 2, "{lost:?}");
        let asked = farm.types().iter().filter(|t| **t == 0x12).count();
        assert!((2..=3).contains(&asked), "{lost:?}: asked {asked} times");
    }
}

#[test]
fn only_a_quiet_application_loses_its_connection() {
    let mut farm = Farm::round_robin(2);
    let (mut client, bound) = moved(&mut farm, 4001);
    request(&mut farm, &mut client);
    assert_eq!(farm.read(bound), REQUEST);
    migrate(&mut farm, 1, &client, "s1", 500);
    assert_eq!(left(&farm), [], "it is not answered");
    farm.write(bound, RESPONSE);
    at_rest(&mut farm, bound);
    farm.run(ms(500));
    assert_eq!(left(&farm), [], "the answer is not acknowledged");
    farm.take(&client);
    client.ack += RESPONSE.len() as u32;
    farm.send(&client, "A", &[]);
    farm.run(ms(50));
    assert_eq!(left(&farm), [bound]);
}

#[test]
fn an_offered_endpoint_takes_no_bytes_until_it_stays() {
    let mut farm = Farm::round_robin(2);
    let (mut client, bound) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Endpoint, 100);
    migrate(&mut farm, 1, &client, "s1", 0);
    let now = farm.now;
    let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
    assert_eq!((endpoint.writable(), endpoint.write(b"push")), (0, 0));
    // What comes meanwhile may be for the other server.
    farm.send(&client, "PA", b"next");
    client.seq += 4;
    let endpoint = farm.devices[1].endpoint(farm.now, bound.1).unwrap();
    assert!(endpoint.readable().is_empty());
    farm.events.clear();
    farm.run(ms(500));
    for told in [Event::Writable(bound.1), Event::Readable(bound.1)] {
        assert!(farm.events.contains(&(1, told)), "{:?}", farm.events);
    }
    assert_eq!(farm.read(bound), b"next");
    farm.take(&client);
    assert_eq!(farm.write(bound, b"push"), 4);
    assert_eq!(farm.take(&client)[0].payload, b"push");
    // Closed while it is offered, it stays, too.
    client.ack += 4;
    farm.send(&client, "A", &[]);
    farm.dead[0] = true;
    let now = farm.now;
    let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
    endpoint.set_quiet(true);
    endpoint.migrate(Some("s1")).unwrap();
    farm.pump();
    farm.close(bound);
    assert!(farm.take(&client)[0].header.fin);
}

#[test]
fn a_draining_server_gets_rid_of_its_connections() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    let mut local = farm.connect(1, 5000);
    exchange(&mut farm, &mut local, 150);
    let now = farm.now;
    farm.devices[1].drain(now, true);
    farm.run(ms(500));
    assert!(
        farm.devices[0]
            .servers(farm.now)
            .iter()
            .any(|s| s.name == "s2" && s.draining)
    );
    assert_eq!(farm.devices[1].connections(), 0);
    for (client, port) in [(&mut client, 4001), (&mut local, 5000)] {
        assert_eq!(client.port, port);
        assert_ne!(exchange_somewhere(&mut farm, client).0, 1);
    }
    // Its own clients are served elsewhere.
    for port in 6000..6006 {
        let mut new = farm.connect(1, port);
        assert_ne!(exchange_somewhere(&mut farm, &mut new).0, 1);
    }
    let now = farm.now;
    farm.devices[1].drain(now, false);
    farm.run(ms(500));
    let mut at = vec![];
    for port in 7000..7006 {
        let mut new = farm.connect(1, port);
        at.push(exchange_somewhere(&mut farm, &mut new).0);
    }
    assert!(at.contains(&1), "{at:?}");
}

/// Clients that ask again at once acknowledge an answer with their next request: they are moved with that.
#[test]
fn busy_connections_leave_a_draining_server() {
    let busy = |farm: &mut Farm, client: &mut Client| {
        request(farm, client);
        farm.run(ms(5));
        let bound = farm.bound();
        assert_eq!(farm.read(bound), REQUEST);
        farm.take(client);
        farm.write(bound, RESPONSE);
        at_rest(farm, bound);
        // Not acknowledged yet.
        client.ack += RESPONSE.len() as u32;
        bound
    };
    // One that its client has opened here, and one that has come from another server.
    for opened_at in [1, 0] {
        let mut farm = Farm::round_robin(3);
        let (mut client, _) = match opened_at {
            0 => moved(&mut farm, 4001),
            _ => {
                let served = (4001..).find_map(|port| {
                    let mut client = farm.connect(1, port);
                    let bound = exchange(&mut farm, &mut client, 150);
                    (bound.0 == 1).then_some((client, bound))
                });
                served.unwrap()
            }
        };
        assert_eq!(busy(&mut farm, &mut client).0, 1);
        assert_eq!(farm.devices[1].connections(), 1);
        let now = farm.now;
        farm.devices[1].drain(now, true);
        farm.run(ms(100));
        assert_eq!(
            farm.devices[1].connections(),
            1,
            "the answer is not acknowledged"
        );
        assert_ne!(busy(&mut farm, &mut client).0, 1);
        assert_eq!(farm.devices[1].connections(), 0);
        assert_ne!(busy(&mut farm, &mut client).0, 1);
    }
}

#[test]
fn each_request_of_a_connection_is_selected_for() {
    let mut farm = Farm::with(3, |_, config| config.balance.per_request = true);
    let mut client = farm.connect(0, 4000);
    let mut servers = vec![];
    for _ in 0..9 {
        servers.push(exchange_somewhere(&mut farm, &mut client).0);
    }
    for at in 0..3 {
        assert!(servers.contains(&at), "{servers:?}");
    }
}

/// A request in three segments that moves its connection: the first byte decides, all of it arrives, once.
#[test]
fn a_request_in_pieces_moves_its_connection_whole() {
    let mut farm = Farm::with(2, |_, config| config.balance.per_request = true);
    let (mut client, bound) = moved(&mut farm, 4001);
    // Round robin: the owner's own turn comes first.
    let mut at = bound.0;
    for _ in 0..4 {
        lose(&mut farm, FrameType::Acknowledgement, 2);
        for piece in REQUEST.chunks(10) {
            farm.send(&client, "A", piece);
            client.seq += piece.len() as u32;
            farm.run(ms(1));
        }
        farm.run(ms(100));
        let owner = *alive(&mut farm, &client).last().unwrap();
        at = owner.0;
        answer(&mut farm, &mut client, owner, 150);
    }
    assert!(at < 2);
    assert!(!left(&farm).is_empty());
}

/// What lies behind a gap was received and not consumed: nobody else has it. Without a gap it goes along.
#[test]
fn a_connection_with_a_gap_does_not_move() {
    let mut farm = Farm::round_robin(2);
    let (mut client, bound) = moved(&mut farm, 4001);
    let behind = Client {
        seq: client.seq + 10,
        ..client.clone()
    };
    farm.send(&behind, "PA", &REQUEST[10..]);
    at_rest(&mut farm, bound);
    migrate(&mut farm, 1, &client, "s1", 100);
    assert_eq!(left(&farm), []);
    farm.send(&client, "PA", &REQUEST[..10]);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(100));
    assert_eq!(left(&farm), [bound]);
    let home = farm.bound();
    answer(&mut farm, &mut client, home, 10);
    assert_eq!(home.0, 0);
}

/// The first server has an offer that was given up, when it is told where the connection went instead.
#[test]
fn a_forward_record_follows_past_an_offer_that_was_given_up() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Acknowledgement, 100);
    migrate(&mut farm, 1, &client, "s1", 150);
    assert_eq!(left(&farm), [], "given up");
    heal(&mut farm);
    migrate(&mut farm, 1, &client, "s3", 50);
    assert_eq!(
        farm.connections(0),
        [0, 0, 0, 1, 0],
        "it leads to the third"
    );
    farm.run(ms(3000));
    farm.lan_b.clear();
    request(&mut farm, &mut client);
    assert_eq!(farm.lan_b.len(), 1, "directly");
    let bound = farm.bound();
    assert_eq!(farm.read((2, bound.1)), REQUEST);
}

/// The operator's wish comes right behind the hand-over, when the owner does not know yet that the request has been covered:
/// it is kept.
#[test]
fn a_wish_within_the_first_100_ms_is_honoured() {
    let mut farm = Farm::round_robin(3);
    let mut client = about_to_move(&mut farm);
    assert_eq!(exchange(&mut farm, &mut client, 1).0, 1);
    migrate(&mut farm, 1, &client, "s3", 30_000);
    assert_eq!(farm.table(2, "forward-connect"), 1, "idle for 30 s");
}

/// The same for an endpoint that came without a request, so that no timer of its own looks again.
#[test]
fn a_wish_for_an_endpoint_that_has_just_come() {
    let mut farm = Farm::round_robin(3);
    let (client, _) = moved(&mut farm, 4001);
    migrate(&mut farm, 1, &client, "s3", 20);
    let bound = farm.bound();
    assert_eq!(bound.0, 2);
    at_rest(&mut farm, bound);
    migrate(&mut farm, 2, &client, "s2", 600_000);
    assert_eq!(farm.table(1, "forward-connect"), 1, "idle for ten minutes");
}

/// The connection moves while a delayed acknowledgment is due: the next owner sends it.
#[test]
fn an_acknowledgment_that_is_due_moves_too() {
    without_and_with(|moves| {
        let mut farm = Farm::pair();
        let (mut client, bound) = moved(&mut farm, 4001);
        request(&mut farm, &mut client);
        assert_eq!(farm.read(bound), REQUEST);
        let now = farm.now;
        let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
        endpoint.set_quiet(true);
        if moves {
            endpoint.migrate(Some("s1")).unwrap();
        }
        farm.run(ms(199));
        assert_eq!(farm.bound().0, usize::from(!moves));
        acknowledged(&mut farm, &client);
    });
}

/// The client has closed its side before the connection moves: the next owner knows it, and closes the other one.
#[test]
fn a_half_closed_connection_moves() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm, 4001);
    farm.send(&client, "FA", &[]);
    client.seq += 1;
    let now = farm.now;
    let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
    assert!(endpoint.is_finished());
    endpoint.set_quiet(true);
    endpoint.migrate(Some("s1")).unwrap();
    farm.run(ms(300));
    acknowledged(&mut farm, &client);
    let (at, id) = farm.bound();
    assert_eq!(at, 0);
    let now = farm.now;
    assert!(farm.devices[0].endpoint(now, id).unwrap().is_finished());
    farm.close((at, id));
    let sent = farm.take(&client);
    assert!(sent.iter().any(|s| s.header.fin), "{sent:?}");
}

/// Something that has come says that all of the client's bytes have.
fn acknowledged(farm: &mut Farm, client: &Client) {
    let sent = farm.take(client);
    let all = client.seq.raw();
    assert!(
        sent.iter().any(|s| s.header.acknowledgment_number == all),
        "nobody acknowledges: {sent:?}"
    );
}

/// MOVED is lost, so that the first server's record does not follow, and the connection moves twice: both former owners pass
/// its packets on.
#[test]
fn packets_pass_two_former_owners() {
    without_and_with(|lost| {
        let mut farm = Farm::round_robin(4);
        let (mut client, _) = moved(&mut farm, 4001);
        if lost {
            lose(&mut farm, FrameType::Moved, usize::MAX);
        }
        migrate(&mut farm, 1, &client, "s3", 300);
        let bound = farm.bound();
        at_rest(&mut farm, bound);
        migrate(&mut farm, 2, &client, "s4", 300);
        let bound = farm.bound();
        assert_eq!(bound.0, 3);
        works(&mut farm, &mut client, bound);
    });
}

/// A former owner passes a packet on to one that does not know the connection any more: the first server tells the client,
/// and nobody else.
#[test]
fn a_former_owner_resets_nobody() {
    let mut farm = Farm::round_robin(3);
    let (client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Moved, usize::MAX);
    migrate(&mut farm, 1, &client, "s3", 300);
    assert_eq!(farm.bound().0, 2);
    // It does not hear of the other's new life.
    farm.synch_lost = Some((2, 1));
    restart(&mut farm, 2);
    farm.run(ms(150));
    farm.take(&client);
    let sent = insist(&mut farm, &client, 3);
    reset(&sent);
    let first = mac(0xa, 0);
    assert!(sent.iter().all(|s| s.hardware == first), "{sent:?}");
}

/// The packets that make the next server the owner are lost for longer than a tombstone stands: they are sent for as long as
/// they are waited for.
#[test]
fn kept_packets_outlive_a_short_tombstone() {
    let mut farm = Farm::with(3, |_, config| config.limits.tombstone = ms(100));
    let (mut client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    migrate(&mut farm, 1, &client, "s3", 1_000);
    heal(&mut farm);
    farm.run(ms(500));
    let bound = farm.bound();
    assert_eq!(bound.0, 2);
    works(&mut farm, &mut client, bound);
}
