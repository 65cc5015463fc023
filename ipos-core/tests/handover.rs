//! The hand-over of FIG. 10B and 10C between whole devices.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::talk::*;
use common::{Client, Farm, Pass, mac};
use ipos_core::config::Listen;
use ipos_core::{Event, ListenerId, Origin, Port};
use ipos_proto::{FrameType, Message, SeqNum};

#[test]
fn a_migrated_connection_is_answered_by_the_second_server_under_the_first_ones_address() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    let request = client.frame("PA", &[], REQUEST);
    farm.inject(&client, &request);
    farm.pump();
    assert_eq!(farm.types(), [1, 3, 2, 3]);
    assert_eq!(
        farm.packets(),
        [&request[14..]],
        "the client's packet, byte for byte"
    );

    let bound = farm.bound();
    let (_, event) = farm
        .events
        .iter()
        .rev()
        .find(|(_, e)| matches!(e, Event::Bound { .. }))
        .unwrap();
    let Event::Bound {
        origin: Origin::Migrated(from),
        ..
    } = event
    else {
        panic!("{event:?}")
    };
    assert_eq!(
        (bound.0, *from),
        (1, farm.devices[0].config().port_b.address)
    );
    assert_eq!(farm.read(bound), REQUEST);
    farm.write(bound, RESPONSE);
    let sent = farm.take(&client);
    let [response] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(response.hardware, mac(0xa, 1));
    assert_eq!(response.source, client.server);
    assert_eq!(response.payload, RESPONSE);
    assert_eq!(response.header.sequence_number, client.ack.raw());
    assert_eq!(
        response.header.acknowledgment_number,
        (client.seq + REQUEST.len() as u32).raw()
    );

    // Later packets take the same way, and RELEASE ends it.
    client.seq += REQUEST.len() as u32;
    client.ack += RESPONSE.len() as u32;
    farm.send(&client, "FA", &[]);
    client.seq += 1;
    assert!(
        farm.devices[1]
            .endpoint(farm.now, bound.1)
            .unwrap()
            .is_finished()
    );
    farm.close(bound);
    client.ack += 1;
    farm.send(&client, "A", &[]);
    assert_eq!(farm.types()[4..], [2, 2, 0x10]);
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (0, 0)
    );
    assert_eq!(farm.devices[0].counters().migrated_out, 1);
    assert_eq!(farm.devices[1].counters().migrated_in, 1);
}

#[test]
fn an_offer_is_repeated_until_it_arrives() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    let offers = lose(&mut farm, FrameType::Endpoint, 4);
    farm.send(&client, "PA", REQUEST);
    farm.run(ms(60));
    assert_eq!(offers.get(), 5);
    let bound = farm.bound();
    assert_eq!(bound.0, 1);
    assert_eq!(farm.read(bound), REQUEST);
}

#[test]
fn without_any_acknowledgement_the_first_server_answers_and_nobody_else() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    let at_second = farm.bound();
    assert_eq!(at_second.0, 1);
    // What the second server's application says meanwhile stays there.
    farm.write(at_second, b"not yours");
    farm.run(ms(100));
    let bound = farm.bound();
    assert_eq!(bound.0, 0);
    assert_eq!(farm.read(bound), REQUEST);
    farm.write(bound, RESPONSE);
    let sent = farm.take(&client);
    assert!(sent.iter().all(|s| s.hardware == mac(0xa, 0)), "{sent:?}");
    assert_eq!(payload(&sent), RESPONSE);
    farm.run(ms(2500));
    assert_eq!(
        farm.table(1, "forward-connect"),
        0,
        "never owned, forgotten"
    );
    assert!(
        farm.events
            .iter()
            .any(|(at, e)| *at == 1 && matches!(e, Event::Failed(..)))
    );
    assert!(
        farm.types().iter().all(|t| *t != 0x10),
        "nothing to release"
    );
}

#[test]
fn everything_twice_changes_nothing() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    farm.tap = Box::new(|_| Pass::Twice);
    farm.send(&client, "PA", REQUEST);
    let bound = farm.bound();
    assert_eq!(farm.read(bound), REQUEST);
    farm.write(bound, RESPONSE);
    let data: Vec<u8> = farm
        .take(&client)
        .into_iter()
        .flat_map(|s| s.payload)
        .collect();
    assert_eq!(data, RESPONSE);
    let bounds = farm
        .events
        .iter()
        .filter(|(at, e)| *at == 1 && matches!(e, Event::Bound { .. }))
        .count();
    assert_eq!(bounds, 1);
}

#[test]
fn kept_packets_are_sent_until_they_arrive_and_the_offer_is_the_last_word() {
    let mut farm = Farm::with(2, |_, config| config.tcp.delayed_ack = ms(5));
    let mut client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Endpoint, 4);
    farm.send(&client, "PA", &REQUEST[..10]);
    client.seq += 10;
    farm.run(ms(10));
    farm.send(&client, "PA", &REQUEST[10..20]);
    client.seq += 10;
    farm.run(ms(10));
    assert!(
        farm.take(&client).is_empty(),
        "silent while the offer is out"
    );
    let packets = lose(&mut farm, FrameType::Packet, 4);
    farm.run(ms(200));
    assert!(packets.get() >= 6, "{}", packets.get());
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST[..20].to_vec()));
    let acks = farm.take(&client);
    assert!(!acks.is_empty() && acks.iter().all(|s| s.hardware == mac(0xa, 1)));
    assert!(
        acks.iter()
            .all(|s| s.header.acknowledgment_number == client.seq.raw()),
        "{acks:?}"
    );
    let last = farm.lan_b.len();
    farm.run(ms(3000));
    assert_eq!(farm.lan_b.len(), last, "covered: nothing is sent again");
}

#[test]
fn packets_that_overtake_their_endpoint_are_kept() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    farm.send(&client, "PA", REQUEST);
    // The same frames in the other order, for a farm that has seen neither.
    let frames: Vec<Vec<u8>> = farm
        .lan_b
        .iter()
        .filter(|(at, _)| *at == 0)
        .map(|(_, f)| f.clone())
        .collect();
    let [offer, packet] = &frames[..] else {
        panic!("{}", frames.len())
    };
    let mut other = Farm::pair();
    other.deliver(1, Port::B, packet);
    assert_eq!(other.table(1, "early-packets"), 1);
    other.deliver(1, Port::B, offer);
    let bound = other.bound();
    assert_eq!(other.read(bound), REQUEST);
    assert_eq!(other.table(1, "early-packets"), 0);
    other.deliver(1, Port::B, &packet[..packet.len() - 1]);
    assert_eq!(
        other.devices[1]
            .counters()
            .dropped(ipos_core::DropReason::Encapsulation),
        1
    );
}

#[test]
fn a_duplicate_syn_after_the_hand_over_goes_to_the_owner() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    farm.send(&client, "PA", REQUEST);
    farm.take(&client);
    let after = client.clone();
    client.seq = client.seq - 1;
    farm.send(&client, "S", &[]);
    let sent = farm.take(&client);
    let [challenge] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(challenge.hardware, mac(0xa, 1));
    assert!(challenge.header.ack && !challenge.header.syn);
    assert_eq!(
        challenge.header.acknowledgment_number,
        (after.seq + REQUEST.len() as u32).raw()
    );
}

#[test]
fn a_client_that_uses_its_port_again_is_answered_at_once() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    request(&mut farm, &mut client);
    let bound = farm.bound();
    farm.read(bound);
    farm.write(bound, RESPONSE);
    farm.close(bound);
    client.ack += RESPONSE.len() as u32 + 1;
    farm.send(&client, "FA", &[]);
    assert_eq!(
        farm.table(1, "forward-connect"),
        1,
        "the owner is in TIME-WAIT"
    );
    farm.take(&client);
    farm.run(ms(2000));

    client.seq += 100_000;
    farm.send_with(&client, "S", &[2, 4, 5, 0xb4], &[]);
    let sent = farm.take(&client);
    let [syn_ack] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(syn_ack.hardware, mac(0xa, 0));
    assert!(syn_ack.header.syn && syn_ack.header.ack);
    assert_eq!(syn_ack.header.acknowledgment_number, (client.seq + 1).raw());
    assert_eq!(
        (farm.table(0, "forward"), farm.table(0, "temporary")),
        (0, 1)
    );
}

#[test]
fn a_refused_connection_is_served_here() {
    let mut farm = Farm::with(2, |server, config| {
        config.limits.endpoints = if server == 1 { 1 } else { 100 }
    });
    for port in [5000, 5001] {
        let other = farm.connect(1, port);
        farm.send(&other, "PA", REQUEST);
    }
    assert_eq!(
        (farm.bound().0, farm.table(1, "local")),
        (1, 1),
        "the second server is full"
    );
    let client = about_to_move(&mut farm);
    farm.send(&client, "PA", REQUEST);
    assert_eq!(farm.types(), [1, 0x11]);
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (0, REQUEST.to_vec()));
    assert_eq!(farm.devices[0].counters().refused, 1);
}

#[test]
fn a_server_that_does_not_answer_costs_the_client_nothing() {
    let mut farm = Farm::round_robin(3);
    let client = about_to_move(&mut farm);
    farm.dead[1] = true;
    farm.send(&client, "PA", REQUEST);
    farm.run(ms(100));
    let bound = farm.bound();
    assert_eq!(bound.0, 2);
    assert_eq!(farm.read(bound), REQUEST);
    assert_eq!(farm.devices[0].counters().unanswered, 1);
}

#[test]
fn a_migrated_connection_comes_to_the_service_that_was_asked_for() {
    let second = "10.77.0.60".parse().unwrap();
    let mut farm = Farm::with(2, |server, config| {
        if server == 0 {
            config.listen[0].service = "shop".into();
        } else {
            config.listen[0].service = "mail".into();
            config.port_a.addresses.push(second);
            let address = std::net::SocketAddrV4::new(second, 80);
            let shop = Listen {
                address,
                service: "shop".into(),
                ..config.listen[0].clone()
            };
            config.listen.push(shop);
        }
    });
    let client = about_to_move(&mut farm);
    farm.send(&client, "PA", REQUEST);
    let bound = farm
        .events
        .iter()
        .rev()
        .find_map(|(at, event)| match event {
            Event::Bound { listener, .. } => Some((*at, *listener)),
            _ => None,
        });
    assert_eq!(bound, Some((1, ListenerId(1))));
}

/// One client port towards two addresses of the first server: an answer is for the flow that was offered.
#[test]
fn an_acknowledgement_is_for_the_flow_that_was_offered() {
    let second: std::net::Ipv4Addr = "10.77.0.11".parse().unwrap();
    let mut farm = Farm::with(2, |server, config| {
        if server == 0 {
            config
                .port_a
                .addresses
                .insert(0, "10.77.0.50".parse().unwrap());
            let address = std::net::SocketAddrV4::new("10.77.0.50".parse().unwrap(), 80);
            config.listen.push(Listen {
                address,
                ..config.listen[0].clone()
            });
        }
    });
    // The flow to the first address stays local, the other one moves.
    let mut other = Client::new(0, 4001, 5);
    other.server = "10.77.0.50:80".parse().unwrap();
    let frame = |farm: &mut Farm, client: &Client, flags: &str, payload: &[u8]| {
        let mut frame = client.frame(flags, &[], payload);
        frame[..6].copy_from_slice(&mac(0xa, 0).0);
        farm.deliver(0, Port::A, &frame);
        farm.pump();
    };
    frame(&mut farm, &other, "S", &[]);
    let syn_ack = farm.take(&other).remove(0);
    other.opened_by(&syn_ack);
    frame(&mut farm, &other, "PA", b"stays");
    assert_eq!(farm.bound().0, 0);
    let client = farm.connect(0, 4001);
    assert_eq!(*client.server.ip(), second);
    farm.send(&client, "PA", REQUEST);
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
    assert_eq!((farm.table(0, "local"), farm.table(0, "forward")), (1, 1));
}

/// What the first server knew of the path goes with the endpoint: a whole lost flight is sent again soon.
#[test]
fn a_server_that_takes_over_recovers_from_a_lost_flight_in_less_than_600_ms() {
    // With SACK and without: by a tail loss probe, and by the retransmission timeout.
    for options in [&[2, 4, 5, 0xb4, 4, 2, 1, 1][..], &[2, 4, 5, 0xb4]] {
        let mut farm = Farm::pair();
        skip_turn(&mut farm, 4001);
        let mut client = Client::new(0, 4002, 77);
        farm.send_with(&client, "S", options, &[]);
        farm.run(ms(40));
        let syn_ack = farm.take(&client).remove(0);
        client.opened_by(&syn_ack);
        farm.send(&client, "A", &[]);
        request(&mut farm, &mut client);
        let bound = farm.bound();
        assert_eq!(bound.0, 1);
        farm.read(bound);
        farm.write(bound, &[9; 14_440]);
        let flight = farm.take(&client);
        assert_eq!(flight.len(), 10, "RFC 6928");
        // All of it is lost.
        let before = farm.now;
        farm.run(ms(599));
        let again = farm.take(&client);
        assert!(!again.is_empty(), "{options:?}: silent since {before:?}");
        // And the importer goes on until all of it has come.
        let mut acknowledged = client.ack;
        let end = client.ack + 14_440;
        for sent in again {
            let start = SeqNum::new(sent.header.sequence_number);
            if start == acknowledged {
                acknowledged = start + sent.payload.len() as u32;
            }
        }
        while acknowledged.lt(end) {
            client.ack = acknowledged;
            farm.send(&client, "A", &[]);
            farm.run(ms(300));
            let more = farm.take(&client);
            assert!(!more.is_empty());
            for sent in more {
                let start = SeqNum::new(sent.header.sequence_number);
                if start.le(acknowledged) {
                    acknowledged = acknowledged.max(start + sent.payload.len() as u32);
                }
            }
        }
    }
}

/// The first server may have acknowledged more than has come to the second one: that one is silent until it has.
#[test]
fn the_second_server_says_nothing_before_it_has_all_that_was_acknowledged() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    // The offer is not answered at first, and the request goes on meanwhile.
    lose(&mut farm, FrameType::Acknowledgement, 2);
    let start = client.clone();
    let pieces: [&[u8]; 3] = [b"GET / ", b"HTTP/1", b".1\r\n\r\n"];
    for piece in pieces {
        farm.send(&client, "PA", piece);
        client.seq += piece.len() as u32;
    }
    assert_eq!(farm.types(), [1, 3]);
    // The first of the replayed packets is lost, twice.
    let lost = Rc::new(Cell::new(0));
    let count = lost.clone();
    let first = start.frame("PA", &[], pieces[0])[14..].to_vec();
    farm.tap = Box::new(move |frame| match frame.message {
        Message::Packet(packet) if packet == first && count.get() < 2 => {
            count.set(count.get() + 1);
            Pass::Lose
        }
        _ => Pass::Deliver,
    });
    while lost.get() < 2 {
        farm.run(ms(1));
        if lost.get() < 2 {
            assert_eq!(
                farm.take(&client).len(),
                0,
                "not a word, nor a duplicate acknowledgment"
            );
        }
    }
    assert_eq!(farm.take(&client).len(), 0);
    farm.run(ms(100));
    let sent = farm.take(&client);
    assert!(!sent.is_empty());
    for sent in sent {
        assert_eq!(sent.header.acknowledgment_number, client.seq.raw());
    }
    let bound = farm.bound();
    assert_eq!(farm.read(bound), pieces.concat());
}

#[test]
fn a_late_copy_of_the_own_syn_opens_nothing_when_the_connection_ends() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    let mut syn = client.clone();
    syn.seq = syn.seq - 1;
    request(&mut farm, &mut client);
    farm.send(&syn, "S", &[]);
    farm.send(&client, "R", &[]);
    farm.run(ms(100));
    assert_eq!(farm.types().last(), Some(&0x10), "released");
    assert_eq!(
        (farm.table(0, "forward"), farm.table(0, "temporary")),
        (0, 0)
    );
}

/// The server has sent 3 GB before the connection moves: its numbers have gone more than half round. The client's packets are the
/// connection's all the same.
#[test]
fn a_connection_moves_after_a_long_response() {
    each([1 << 10, 3 << 30, u32::MAX], |sent| {
        let mut farm = Farm::pair();
        let mut client = about_to_move(&mut farm);
        lose(&mut farm, FrameType::Endpoint, usize::MAX);
        request(&mut farm, &mut client);
        let mut offer = frames(&farm, 0, FrameType::Endpoint).remove(0);
        let iss = (client.ack - 1).raw().to_be_bytes();
        let at = offer.windows(4).position(|bytes| bytes == iss).unwrap();
        offer[at..at + 4].copy_from_slice(&(client.ack - sent).raw().to_be_bytes());
        heal(&mut farm);
        farm.deliver(1, Port::B, &offer);
        farm.pump();
        let bound = farm.bound();
        assert_eq!(bound.0, 1);
        answer(&mut farm, &mut client, bound, 10);
        works(&mut farm, &mut client, bound);
    });
}
