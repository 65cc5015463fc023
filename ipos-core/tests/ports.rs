//! A client uses one port with several servers at once: answers and notes name the client and the port alone.

mod common;

use common::talk::*;
use common::{Client, Farm, Pass, another_port_a, port_a};
use ipos_core::{Duration, Port};
use ipos_proto::{Epoch, Ethernet, Frame, FrameType, Message};

/// The first server passes on a connection that was opened at the second one, is the third one's, and began at this number.
fn passed_on(farm: &mut Farm, isn: u32) -> (Client, Bound) {
    let mut client = farm.connect_from(1, 4001, isn);
    let (at, _) = exchange(farm, &mut client, 150);
    if at != 0 {
        migrate(farm, at, &client, "s1", 300);
    }
    let bound = farm.bound();
    at_rest(farm, bound);
    migrate(farm, 0, &client, "s3", 300);
    let bound = farm.bound();
    assert_eq!((bound.0, farm.table(0, "forward")), (2, 1));
    at_rest(farm, bound);
    (client, bound)
}

/// The first server's own client, from the same port; its connection is the third server's too.
fn own(farm: &mut Farm, isn: u32) -> Client {
    let mut client = farm.connect_from(0, 4001, isn);
    let (at, _) = exchange(farm, &mut client, 150);
    if at != 2 {
        migrate(farm, at, &client, "s3", 300);
    }
    assert_eq!((farm.bound().0, farm.table(0, "forward")), (2, 2));
    client
}

/// Other clients use up a server's turns: its next request is for `to`, one of three.
fn its_turn(farm: &mut Farm, at: u8, to: usize) {
    let mut others = 0;
    for port in 30_000.. {
        let mut other = farm.connect(at, port);
        request(farm, &mut other);
        let served = farm.bound().0;
        farm.send(&other, "R", &[]);
        farm.run(ms(5));
        if others > 0 || served == to {
            others += 1;
        }
        if others == 3 {
            return;
        }
    }
}

/// Numbers that two connections begin at: their streams do not come near each other.
const FAR: [u32; 2] = [1_000_000_000, 3_000_000_000];

/// Servers that clients reach at two addresses.
fn with_two_addresses(servers: u8) -> Farm {
    Farm::with(servers, |server, config| {
        config.port_a.addresses.push(another_port_a(server));
        let mut listen = config.listen[0].clone();
        listen.address.set_ip(another_port_a(server));
        config.listen.push(listen);
    })
}

/// Connections from one port to both addresses of the first server, which begin at these numbers.
fn clients_of_both(farm: &mut Farm, isns: [u32; 2]) -> [Client; 2] {
    let addresses = [(port_a(0), isns[0]), (another_port_a(0), isns[1])];
    addresses.map(|(address, isn)| {
        let mut client = Client::new(0, 4001, isn);
        client.server.set_ip(address);
        farm.open(client)
    })
}

/// The connection is the second server's, at rest.
fn to_the_second(farm: &mut Farm, client: &mut Client) -> Bound {
    let (at, _) = exchange(farm, client, 150);
    if at != 1 {
        migrate(farm, at, client, "s2", 300);
    }
    let bound = farm.bound();
    assert_eq!(bound.0, 1);
    at_rest(farm, bound);
    bound
}

fn epochs(frames: &[Vec<u8>]) -> Vec<Epoch> {
    let epoch = |frame: &Vec<u8>| {
        let (_, rest) = Ethernet::parse(frame).unwrap();
        Frame::parse(rest).unwrap().message.trailer().unwrap().epoch
    };
    frames.iter().map(epoch).collect()
}

/// MOVED is lost, and the first server asks the former owner, which passes packets on, to move the connection: it is not over.
#[test]
fn a_former_owner_that_is_asked_to_move_ends_nothing() {
    without_and_with(|lost| {
        let mut farm = Farm::round_robin(3);
        let (mut client, _) = moved(&mut farm, 4001);
        if lost {
            lose(&mut farm, FrameType::Moved, usize::MAX);
        }
        migrate(&mut farm, 1, &client, "s3", 300);
        let bound = farm.bound();
        assert_eq!(bound.0, 2);
        migrate(&mut farm, 0, &client, "s3", 100);
        assert_eq!(farm.table(0, "forward"), 1);
        works(&mut farm, &mut client, bound);
    });
}

/// The connection that the first server asks about has ended: that answer, which does not say where it was, is about none that
/// the server passes on.
#[test]
fn an_answer_to_a_move_ends_the_connection_that_was_asked_about() {
    let mut farm = Farm::round_robin(3);
    let (mut other, bound) = passed_on(&mut farm, 1_000_000_000);
    let client = own(&mut farm, 3_000_000_000);
    lose(&mut farm, FrameType::Release, 1);
    farm.send(&client, "R", &[]);
    assert_eq!(farm.table(0, "forward"), 2, "its end is not known");
    migrate(&mut farm, 0, &client, "s2", 100);
    assert_eq!(farm.table(0, "forward"), 1);
    works(&mut farm, &mut other, bound);
}

/// It is said twice that a connection is over, the second time when its record is gone: the one that is passed on, to the same
/// server, goes on, and its packets still pass.
#[test]
fn a_repeated_release_ends_no_connection_that_is_passed_on() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        let (mut other, bound) = passed_on(&mut farm, 1_000_000_000);
        let client = own(&mut farm, 3_000_000_000);
        // Its epoch is above the other one's.
        for (at, to) in [(2, "s2"), (1, "s3"), (2, "s2"), (1, "s3")] {
            let bound = farm.bound();
            at_rest(&mut farm, bound);
            migrate(&mut farm, at, &client, to, 300);
        }
        farm.send(&client, "R", &[]);
        assert_eq!(farm.table(0, "forward"), 1);
        if late {
            // Another copy of its last packet comes to its owner.
            let packet = frames(&farm, 0, FrameType::Packet).pop().unwrap();
            farm.lan_b.clear();
            farm.deliver(2, Port::B, &packet);
            farm.pump();
            assert_eq!(frames(&farm, 2, FrameType::Release).len(), 1);
        }
        assert_eq!(farm.table(0, "forward"), 1);
        works(&mut farm, &mut other, bound);
    });
}

/// Offers of several connections of one port have epochs of their own, by which their answers are told apart.
#[test]
fn connections_of_one_port_are_offered_with_epochs_of_their_own() {
    let mut farm = Farm::round_robin(3);
    let (_, _) = passed_on(&mut farm, 1_000_000_000);
    let known = epochs(&frames(&farm, 0, FrameType::Endpoint));
    farm.lan_b.clear();
    lose(&mut farm, FrameType::Endpoint, usize::MAX);
    let mut client = farm.connect_from(0, 4001, 3_000_000_000);
    request(&mut farm, &mut client);
    farm.run(Duration::from_secs(1));
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (0, REQUEST.to_vec()));
    at_rest(&mut farm, bound);
    farm.write(bound, RESPONSE);
    farm.take(&client);
    client.ack += RESPONSE.len() as u32;
    farm.send(&client, "A", &[]);
    farm.run(ms(150));
    migrate(&mut farm, 0, &client, "s3", 0);
    let offered = epochs(&frames(&farm, 0, FrameType::Endpoint));
    assert!(!known.is_empty() && !offered.is_empty());
    assert!(offered.iter().all(|epoch| epoch > &known[0]), "{offered:?}");
}

/// While a connection is offered to the second server, which does not hear of it, another one of the same port and epoch comes, and
/// ends. The second server's answer to the MOVED of the latter gives the former away to nobody.
#[test]
fn an_answer_about_one_connection_answers_no_offer_of_another() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        its_turn(&mut farm, 0, 0);
        its_turn(&mut farm, 1, 2);
        let mut client = farm.connect_from(0, 4001, 3_000_000_000);
        let bound = exchange(&mut farm, &mut client, 150);
        assert_eq!(bound.0, 0);
        let (ours, home) = (client.server, farm.devices[0].config().port_b.address);
        farm.tap = Box::new(move |frame| match &frame.message {
            Message::Endpoint { connection, .. } if connection.first() == ours => Pass::Lose,
            Message::Acknowledgement { .. } if frame.header.destination == home => Pass::Lose,
            _ => Pass::Deliver,
        });
        // An epoch is used up.
        migrate(&mut farm, 0, &client, "s2", 300);
        let mut other = farm.connect_from(1, 4001, 1_000_000_000);
        let theirs = exchange(&mut farm, &mut other, 150);
        assert_eq!(theirs.0, 2);
        at_rest(&mut farm, theirs);

        migrate(&mut farm, 0, &client, "s2", 0);
        let now = farm.now;
        farm.devices[2].migrate(now, &flow(&other), "s1").unwrap();
        farm.pump();
        assert_eq!(farm.bound().0, 0);
        farm.send(&other, "R", &[]);
        let offered = epochs(&frames(&farm, 0, FrameType::Endpoint));
        let answers = frames(&farm, 1, FrameType::Acknowledgement);
        assert_eq!(epochs(&answers), offered);
        if late {
            farm.deliver(0, Port::B, &answers[0]);
        }
        assert_eq!(farm.table(0, "forward"), 0, "it is not given away");
        farm.run(ms(500));
        works(&mut farm, &mut client, bound);
    });
}

/// While a connection is offered to the second server, which does not hear of it, that one's own connection from the port comes here, with
/// the same epoch; and the second server asks for it to move to where it is. Its answer to the MOVED that it gets for that gives the
/// former away to nobody.
#[test]
fn an_answer_to_the_answer_of_a_move_answers_no_offer() {
    let mut farm = Farm::pair();
    // The first server's turn at the second one.
    let mut before = farm.connect(1, 4000);
    assert_eq!(exchange(&mut farm, &mut before, 150).0, 0);
    let mut client = farm.connect_from(0, 4001, 3_000_000_000);
    let mut other = farm.connect_from(1, 4001, 1_000_000_000);
    let clients = [(&mut client, 0), (&mut other, 1)];
    let bound = clients.map(|(client, at)| {
        let bound = exchange(&mut farm, client, 150);
        assert_eq!(bound.0, at);
        bound
    });
    let ours = client.server;
    farm.tap = Box::new(move |frame| match &frame.message {
        Message::Endpoint { connection, .. } if connection.first() == ours => Pass::Lose,
        _ => Pass::Deliver,
    });
    migrate(&mut farm, 0, &client, "s2", 0);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&other), "s1").unwrap();
    farm.pump();
    assert_eq!(farm.bound().0, 0);
    let [offered, theirs] = [0, 1].map(|at| epochs(&frames(&farm, at, FrameType::Endpoint)));
    assert_eq!(offered, theirs);
    farm.devices[1].migrate(now, &flow(&other), "s1").unwrap();
    farm.pump();
    assert_eq!(frames(&farm, 0, FrameType::Moved).len(), 1);
    assert_eq!(farm.table(0, "forward"), 0, "it is not given away");
    farm.run(ms(500));
    works(&mut farm, &mut client, bound[0]);
}

/// A client has connections from one port with two servers, each of which has handed its own to the other: answers and notes, which
/// name the port alone, find theirs.
#[test]
fn one_port_serves_two_connections_that_cross() {
    let mut farm = Farm::pair();
    let (first, bound) = moved(&mut farm, 4001);
    let mut second = farm.connect(1, 4001);
    let at = exchange(&mut farm, &mut second, 150).0;
    if at == 1 {
        migrate(&mut farm, 1, &second, "s1", 150);
    }
    assert_eq!(
        frames(&farm, 1, FrameType::Endpoint).len(),
        1,
        "the offer is answered"
    );
    let crossed = farm.bound();
    assert_eq!((bound.0, crossed.0), (1, 0));

    farm.send(&first, "R", &[]);
    farm.run(ms(10));
    assert_eq!(farm.table(0, "forward"), 0, "RELEASE is believed");
    works(&mut farm, &mut second, crossed);
    farm.send(&second, "R", &[]);
    farm.run(ms(10));
    assert_eq!(farm.table(1, "forward"), 0);
}

/// A server has given away a connection whose client's port is used with this server too: the new owner's word about the latter is believed.
#[test]
fn a_former_owner_hears_that_its_own_clients_connection_is_over() {
    let mut farm = Farm::round_robin(3);
    let (mut other, _) = moved(&mut farm, 4001);
    migrate(&mut farm, 1, &other, "s3", 300);
    let passed_on = farm.bound();
    at_rest(&mut farm, passed_on);
    let mut own = farm.connect(1, 4001);
    let at = exchange(&mut farm, &mut own, 150).0;
    if at != 2 {
        migrate(&mut farm, at, &own, "s3", 150);
    }
    assert_eq!((passed_on.0, farm.bound().0), (2, 2));
    assert_eq!(farm.table(1, "forward"), 2);

    farm.send(&own, "R", &[]);
    farm.run(ms(10));
    assert_eq!(farm.table(1, "forward"), 1, "RELEASE is believed");
    let mut new = farm.connect(1, 4001);
    exchange(&mut farm, &mut new, 150);
    works(&mut farm, &mut other, passed_on);
}

/// The first server asks for its connection, while another one of the client's port goes the other way.
#[test]
fn one_port_serves_two_connections_when_one_comes_home() {
    let mut farm = Farm::pair();
    let (mut first, _) = moved(&mut farm, 4001);
    let mut second = farm.connect(1, 4001);
    let at = exchange(&mut farm, &mut second, 150).0;
    if at == 1 {
        migrate(&mut farm, 1, &second, "s1", 150);
    }
    let crossed = farm.bound();
    migrate(&mut farm, 0, &first, "s1", 150);
    let home = farm.bound();
    assert_eq!((crossed.0, home.0), (0, 0));
    at_rest(&mut farm, home);
    works(&mut farm, &mut first, home);
    works(&mut farm, &mut second, crossed);
}

/// The client uses one port with two addresses of one server, whose connections are the second server's both: what is said of one
/// when it moves on is not taken for the other one.
#[test]
fn one_port_serves_two_addresses_of_a_server() {
    each([0, 1], |which| {
        let mut farm = with_two_addresses(3);
        let mut clients = clients_of_both(&mut farm, FAR).map(|mut client| {
            let bound = to_the_second(&mut farm, &mut client);
            (client, bound)
        });
        assert_eq!(farm.table(0, "forward"), 2);
        migrate(&mut farm, 1, &clients[which].0, "s3", 300);
        clients[which].1 = farm.bound();
        assert_eq!(clients[which].1.0, 2);
        farm.lan_b.clear();
        for (client, bound) in &mut clients {
            works(&mut farm, client, *bound);
        }
        assert_eq!(
            frames(&farm, 1, FrameType::Packet).len(),
            0,
            "no chain of forwarders stays"
        );
    });
}

/// The client's connections to two addresses of a server are both offered to the second one, which has heard of one, and refuses it:
/// that one is served at once.
#[test]
fn a_refusal_is_for_the_offer_that_it_answers() {
    each([0, 1], |heard| {
        let mut farm = with_two_addresses(2);
        let [one, other] = clients_of_both(&mut farm, FAR);
        let ours = [one.server, other.server][heard];
        farm.synch_cut = true;
        let now = farm.now;
        // Whatever comes to one is for the other.
        farm.devices.iter_mut().for_each(|d| d.drain(now, true));
        farm.tap = Box::new(move |frame| match &frame.message {
            Message::Endpoint { connection, .. } if connection.first() != ours => Pass::Lose,
            _ => Pass::Deliver,
        });
        for client in [&one, &other] {
            farm.send(client, "PA", REQUEST);
        }
        assert_eq!(frames(&farm, 1, FrameType::Refuse).len(), 1);
        assert_eq!(
            farm.table(0, "temporary"),
            1,
            "the other one is offered still"
        );
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (0, REQUEST.to_vec()));
    });
}

/// The streams are near each other, and what is said late of one does not move the other one.
#[test]
fn a_late_word_about_one_address_moves_no_connection_of_the_other() {
    without_and_with(|late| {
        let mut farm = with_two_addresses(3);
        let [mut one, mut other] = clients_of_both(&mut farm, [1_000_000_000; 2]);
        to_the_second(&mut farm, &mut one);
        let bound = to_the_second(&mut farm, &mut other);
        lose(&mut farm, FrameType::Moved, 1);
        migrate(&mut farm, 1, &one, "s3", 300);
        let word = frames(&farm, 2, FrameType::Moved).remove(0);
        let theirs = farm.bound();
        at_rest(&mut farm, theirs);
        migrate(&mut farm, 2, &one, "s2", 300);
        if late {
            farm.deliver(0, Port::B, &word);
        }
        works(&mut farm, &mut other, bound);
    });
}

/// The streams are near each other, and the owner that tells of one does not know of the other one's later epoch: its place in the
/// stream tells which is meant.
#[test]
fn streams_that_are_near_are_told_apart_at_rest() {
    let mut farm = with_two_addresses(4);
    let [mut one, mut other] = clients_of_both(&mut farm, [1_000_000_000, 1_000_100_000]);
    let bound = to_the_second(&mut farm, &mut other);
    // The second server's turn is over.
    for port in 30_000.. {
        let mut another = farm.connect(0, port);
        request(&mut farm, &mut another);
        if farm.bound().0 == 1 {
            break;
        }
    }
    let moving = exchange(&mut farm, &mut one, 150);
    assert_eq!(moving.0, 2);
    at_rest(&mut farm, moving);
    migrate(&mut farm, 2, &one, "s4", 300);
    assert_eq!(farm.bound().0, 3);
    at_rest(&mut farm, bound);
    migrate(&mut farm, 1, &other, "s3", 300);
    let bound = farm.bound();
    assert_eq!(bound.0, 2);
    farm.lan_b.clear();
    works(&mut farm, &mut other, bound);
    assert_eq!(frames(&farm, 1, FrameType::Packet).len(), 0);
}
