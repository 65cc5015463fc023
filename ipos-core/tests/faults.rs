//! Cuts of LAN B, lost answers and late refusals: the client is served by one server, once, or it is told that the
//! connection is over.

mod common;

use common::talk::*;
use common::{Client, Farm, Pass};
use ipos_core::Event;
use ipos_proto::{FrameType, Message};

/// LAN B is cut behind the first 0x03.
fn cut_after_the_first_acknowledgement(farm: &mut Farm) {
    let mut cut = false;
    farm.tap = Box::new(move |frame| {
        if cut {
            return Pass::Lose;
        }
        cut = frame.message.frame_type() == FrameType::Acknowledgement;
        Pass::Deliver
    });
}

/// The same, while a connection moves to the second server.
fn cut_while_it_moves(farm: &mut Farm) -> Client {
    let client = about_to_move(farm);
    cut_after_the_first_acknowledgement(farm);
    farm.send(&client, "PA", REQUEST);
    client
}

/// LAN B is cut behind the first 0x03 for longer than the second server waits; the client repeats its request whenever the
/// cut heals, and with one more offer lost: it is served by the second server.
#[test]
fn a_cut_that_heals_ends_no_connection() {
    for lost in [0, 1] {
        each((2200..2450).step_by(10), |length| {
            let mut farm = Farm::pair();
            let client = cut_while_it_moves(&mut farm);
            farm.run(ms(length));
            lose(&mut farm, FrameType::Endpoint, lost);
            no_reset(&insist(&mut farm, &client, 3));
            let bound = farm.bound();
            assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
        });
    }
}

/// No packet of the first hand-over comes through for two seconds, and the client repeats its request: no RST.
#[test]
fn packets_are_lost_behind_the_first_acknowledgement() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    for _ in 0..5 {
        farm.run(ms(440));
        farm.send(&client, "PA", REQUEST);
    }
    heal(&mut farm);
    farm.run(ms(1000));
    farm.send(&client, "PA", REQUEST);
    no_reset(&farm.take(&client));
}

/// After such a cut the first server does not hear the second one on the Synch LAN: the client is answered all the same.
#[test]
fn an_offer_is_repeated_without_the_synch_lan() {
    without_and_with(|deaf| {
        let mut farm = Farm::pair();
        let client = cut_while_it_moves(&mut farm);
        farm.synch_lost = deaf.then_some((1, 0));
        farm.run(ms(2200));
        heal(&mut farm);
        let sent = insist(&mut farm, &client, 40);
        assert!(!sent.is_empty(), "the client is told nothing in 22 s");
    });
}

/// All packets of a giver are lost for longer, or less long, than the first server waits for them: the client is answered.
#[test]
fn packets_are_lost_while_a_connection_comes_home() {
    each([1500, 2200], |lost| {
        let mut farm = Farm::pair();
        let (client, _) = moved(&mut farm, 4001);
        lose(&mut farm, FrameType::Packet, usize::MAX);
        migrate(&mut farm, 1, &client, "s1", lost);
        heal(&mut farm);
        farm.run(ms(1000));
        let sent = insist(&mut farm, &client, 20);
        assert!(
            !sent.is_empty(),
            "neither an acknowledgment nor a RST in 10 s"
        );
    });
}

/// The second server drains when the cut heals, and refuses the offer that it had taken: the client is served.
#[test]
fn a_late_refusal_does_not_end_the_connection() {
    without_and_with(|drains| {
        let mut farm = Farm::pair();
        let client = cut_while_it_moves(&mut farm);
        farm.run(ms(2500));
        assert_eq!(farm.table(0, "forward"), 1);
        if drains {
            let now = farm.now;
            farm.devices[1].drain(now, true);
        }
        heal(&mut farm);
        let sent = insist(&mut farm, &client, 6);
        no_reset(&sent);
        assert!(!sent.is_empty(), "nobody answers");
    });
}

/// The cut comes while a connection comes home, and the first server is full when it heals, for more than three install
/// deadlines: the client is reset, and no server has the connection. With room it is served.
#[test]
fn a_late_refusal_at_home() {
    without_and_with(|full| {
        let mut farm = Farm::with(2, |server, config| {
            if server == 0 {
                config.limits.endpoints = 1;
            }
        });
        let (client, _) = moved(&mut farm, 4001);
        cut_after_the_first_acknowledgement(&mut farm);
        migrate(&mut farm, 1, &client, "s1", 2200);
        if full {
            // Another connection takes the place.
            for port in 5001..5003 {
                let other = farm.connect(0, port);
                farm.send(&other, "PA", REQUEST);
                farm.run(ms(100));
            }
        }
        heal(&mut farm);
        let sent = insist(&mut farm, &client, 20);
        if full {
            reset(&sent);
            assert_eq!(alive(&mut farm, &client), []);
        } else {
            no_reset(&sent);
            assert!(!sent.is_empty(), "nobody answers in 10 s");
            owner(&mut farm, &client);
        }
    });
}

/// The connection has ended at the second server, which can remember but one, before its answers get through: the repeated
/// offer binds nothing again.
#[test]
fn a_full_table_of_tombstones() {
    each([100, 1], |tombstones| {
        let mut farm = Farm::with(2, |_, config| config.limits.tombstones = tombstones);
        // One connection of the second server has ended lately.
        let (first, _) = moved(&mut farm, 4001);
        farm.send(&first, "R", &[]);
        farm.run(ms(5));
        skip_turn(&mut farm, 4100);
        let mut client = farm.connect(0, 4002);
        farm.tap = Box::new(|frame| match frame.message {
            Message::Release { .. } => Pass::Lose,
            _ if covers(frame) => Pass::Lose,
            _ => Pass::Deliver,
        });
        request(&mut farm, &mut client);
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
        farm.write(bound, RESPONSE);
        client.ack += RESPONSE.len() as u32;
        farm.send(&client, "FA", &[]);
        client.seq += 1;
        farm.close(bound);
        client.ack += 1;
        farm.send(&client, "A", &[]);
        heal(&mut farm);
        farm.events.clear();
        farm.run(ms(1000));
        let again =
            |(_, event): &(usize, Event)| matches!(event, Event::Bound { .. } | Event::Readable(_));
        assert!(
            !farm.events.iter().any(again),
            "the application gets it again: {:?}",
            farm.events
        );
    });
}

/// The 0x03 that covers the replayed packets is lost once, and nothing new is to be said: the first server asks again, and
/// not for ever.
#[test]
fn a_lost_cover_is_asked_for_and_not_for_ever() {
    let mut farm = Farm::pair();
    let mut client = farm.connect(0, 4001);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
    let mut n = 0;
    farm.tap = Box::new(move |frame| {
        if frame.message.frame_type() == FrameType::Acknowledgement {
            n += 1;
            if n == 2 {
                return Pass::Lose;
            }
        }
        Pass::Deliver
    });
    migrate(&mut farm, 0, &client, "s2", 1000);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 1);
    farm.lan_b.clear();
    farm.run(ms(20_000));
    let packets = frames(&farm, 0, FrameType::Packet).len();
    let kept = farm.devices[0].kept();
    assert!(packets < 3, "{packets} repetitions in 20 s; kept {kept}");
}

/// The server that has a connection is cut off, and forgotten, while packets are kept for it: the first one's deadlines pass,
/// and it goes on.
#[test]
fn packets_kept_for_a_forgotten_server_are_put_off() {
    let mut farm = Farm::with(2, |_, config| {
        config.limits.owner_lost = None;
        config.synch.forget = ms(2_000);
        config.limits.forward_idle = ms(60_000);
    });
    let mut client = about_to_move(&mut farm);
    lose_covers(&mut farm);
    request(&mut farm, &mut client);
    assert!(farm.devices[0].kept() > 0);
    farm.dead[1] = true;
    farm.run(ms(10_000));
    assert_eq!(farm.table(0, "server-state"), 1, "it is forgotten");
    assert_eq!(farm.connections(0)[3], 1, "its connection is not");
    let next = farm.devices[0].poll_timeout().expect("adverts");
    assert!(next > farm.now, "deadlines lie ahead");
    farm.run(ms(120_000));
    assert_eq!((farm.connections(0)[3], farm.devices[0].kept()), (0, 0));
}

/// No 0x03 comes that covers the kept packets, and the client goes on: they are not sent for ever, when their numbers may be others'.
/// One packet that is far away, of whomever, does not end them.
#[test]
fn kept_packets_are_not_repeated_for_ever() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    lose_covers(&mut farm);
    request(&mut farm, &mut client);
    let mut forged = client.clone();
    forged.seq += 100_000_000;
    farm.send(&forged, "A", &[]);
    let repeats = |farm: &mut Farm, client: &Client| {
        farm.send(client, "A", &[]);
        farm.run(ms(3000));
        farm.lan_b.clear();
        farm.run(ms(1000));
        !frames(farm, 0, FrameType::Packet).is_empty()
    };
    assert!(repeats(&mut farm, &client));
    let near = client.clone();
    client.seq += 5_000_000;
    assert!(!repeats(&mut farm, &client));
    assert!(!repeats(&mut farm, &near), "they are gone");
}

/// The owner offers the connection home in vain, and its client sends much meanwhile: word of its end is believed for all that.
#[test]
fn an_upload_while_a_connection_is_offered_home_in_vain() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    migrate(&mut farm, 1, &client, "s1", 100);
    for _ in 0..4_000 {
        farm.send(&client, "A", &[7; 1400]);
        client.seq += 1400;
        assert_eq!(farm.read(bound).len(), 1400);
    }
    heal(&mut farm);
    farm.run(farm.devices[0].config().limits.install_deadline);
    assert_eq!(farm.table(0, "forward"), 1);
    farm.send(&client, "R", &[]);
    assert_eq!(farm.table(0, "forward"), 0);
}
