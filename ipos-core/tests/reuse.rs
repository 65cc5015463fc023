//! A client uses its port again at once, while frames of its former connection are still under way for the first time.

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::talk::*;
use common::{Client, Farm, Pass, isn, mac};
use ipos_core::Port;
use ipos_proto::{FrameType, SeqNum};

/// The options of a SYN: MSS 1460.
const MSS: [u8; 4] = [2, 4, 5, 0xb4];

/// A new connection of an old one's port moves to the second server, which serves its next requests.
fn goes_on(farm: &mut Farm, new: &mut Client) {
    farm.run(ms(50));
    let bound = farm.bound();
    answer(farm, new, bound, 150);
    works(farm, new, bound);
}

/// A connection that has moved twice ends at its third server, while the second one does not know yet that its packets have
/// come. It repeats its offer when the client has used the port again: nobody serves the ended connection once more.
#[test]
fn what_was_installed_once_does_not_come_back() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        let (mut old, _) = moved(&mut farm, 4001);
        lose_covers(&mut farm);
        migrate(&mut farm, 1, &old, "s3", 200);
        let repeated = frames(&farm, 1, FrameType::Endpoint).pop().unwrap();
        heal(&mut farm);
        let (at, id) = farm.bound();
        assert_eq!(at, 2);
        exchange(&mut farm, &mut old, 1);
        farm.send(&old, "R", &[]);
        assert!(farm.devices[2].endpoint(farm.now, id).is_none());
        farm.run(ms(5));
        let mut new = connect_at(&mut farm, &old, isn(old.port) + 5_000_000);
        let (at, _) = exchange(&mut farm, &mut new, 150);
        if at != 2 {
            migrate(&mut farm, at, &new, "s3", 300);
        }
        assert_eq!(farm.table(2, "forward-connect"), 1);
        farm.send(&new, "R", &[]);
        farm.events.clear();
        farm.take(&new);
        if late {
            farm.deliver(2, Port::B, &repeated);
        }
        farm.run(ms(3_000));
        assert_eq!(times_bound(&farm, 2), 0, "{:?}", farm.events);
        assert_eq!(farm.table(2, "forward-connect"), 0);
    });
}

/// The former owner says twice that the old connection is over, the second time because the new one's SYN was passed on to
/// it: that word comes when the new connection is its own.
#[test]
fn a_release_for_a_syn_ends_no_connection() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        skip_turn(&mut farm, 4100);
        lose(&mut farm, FrameType::Release, 2);
        farm.lan_b.clear();
        farm.send(&old, "R", &[]);
        let mut new = Client::new(0, old.port, 77_000_000);
        farm.send_with(&new, "S", &MSS, &[]);
        let released = frames(&farm, 1, FrameType::Release);
        let [ended, answered] = &released[..] else {
            panic!("{released:?}")
        };
        farm.deliver(0, Port::B, ended);
        let sent = farm.take(&new);
        new.opened_by(&sent[0]);
        farm.send(&new, "A", &[]);
        request(&mut farm, &mut new);
        farm.run(ms(5));
        assert_eq!(farm.bound().0, 1);
        if late {
            farm.deliver(0, Port::B, answered);
        }
        goes_on(&mut farm, &mut new);
    });
}

/// A 0x03 of the old connection, the first one or the one that covers its packets, comes when the new one's offer is out: it
/// gives nothing away.
#[test]
fn a_late_acknowledgement_answers_no_later_offer() {
    each([0, 1], |which| {
        without_and_with(|late| {
            let mut farm = Farm::pair();
            skip_turn(&mut farm, 4000);
            farm.lan_b.clear();
            let mut old = farm.connect(0, 4001);
            let lost = match which {
                0 => lose(&mut farm, FrameType::Acknowledgement, 1),
                _ => {
                    lose_covers(&mut farm);
                    Default::default()
                }
            };
            assert_eq!(exchange(&mut farm, &mut old, 1).0, 1);
            let acknowledgement = frames(&farm, 1, FrameType::Acknowledgement).remove(which);
            drop(lost);
            heal(&mut farm);
            farm.send(&old, "R", &[]);
            farm.run(ms(5));
            skip_turn(&mut farm, 4100);
            let new = farm.connect(0, old.port);
            lose(&mut farm, FrameType::Endpoint, 2);
            farm.send(&new, "PA", REQUEST);
            assert_eq!(farm.table(0, "temporary"), 1, "the offer is out");
            if late {
                farm.deliver(0, Port::B, &acknowledgement);
            }
            assert_eq!(farm.table(0, "temporary"), 1, "it is not answered");
            heal(&mut farm);
            farm.run(ms(500));
            let bound = farm.bound();
            assert_eq!(farm.read(bound), REQUEST);
        });
    });
}

/// One client port has connections to two servers. The first server of one has passed the other one on, from the same owner:
/// when the one ends, its record goes.
#[test]
fn a_release_is_for_the_record_that_leads_to_its_sender() {
    without_and_with(|other| {
        let mut farm = Farm::round_robin(3);
        if other {
            let mut client = farm.connect(1, 4001);
            let (at, _) = exchange(&mut farm, &mut client, 150);
            if at != 0 {
                migrate(&mut farm, at, &client, "s1", 300);
            }
            let bound = farm.bound();
            at_rest(&mut farm, bound);
            migrate(&mut farm, 0, &client, "s3", 300);
            assert_eq!((farm.bound().0, farm.table(0, "forward")), (2, 1));
        }
        let mut client = farm.connect(0, 4001);
        let (at, _) = exchange(&mut farm, &mut client, 150);
        if at != 1 {
            migrate(&mut farm, at, &client, "s2", 300);
        }
        assert_eq!(farm.bound().0, 1);
        assert_eq!(farm.table(0, "forward"), 1 + usize::from(other));
        farm.send(&client, "R", &[]);
        farm.run(ms(50));
        assert_eq!(farm.table(0, "forward"), usize::from(other));
    });
}

/// The sequence numbers of a new connection lie behind those that the old one has used, however much that was and whatever
/// server has sent it (RFC 9293 §3.6.1).
#[test]
fn a_new_connection_begins_behind_the_old_one() {
    each([0, 1], |server| {
        let mut farm = Farm::pair();
        let mut client = match server {
            0 => farm.connect(0, 4001),
            _ => about_to_move(&mut farm),
        };
        request(&mut farm, &mut client);
        farm.run(ms(5));
        let bound = farm.bound();
        assert_eq!(bound.0, server);
        farm.read(bound);
        for _ in 0..4 {
            let sent = farm.write(bound, &[b'x'; 10_000]);
            farm.run(ms(1));
            farm.take(&client);
            client.ack += sent as u32;
            farm.send(&client, "A", &[]);
        }
        farm.close(bound);
        client.ack += 1;
        farm.send(&client, "FA", &[]);
        farm.take(&client);

        let mut new = client.clone();
        new.seq += 100_000;
        farm.send_with(&new, "S", &MSS, &[]);
        let sent = farm.take(&new);
        let [syn_ack] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(syn_ack.hardware, mac(0xa, 0));
        let begins = SeqNum::new(syn_ack.header.sequence_number);
        assert!(
            begins.gt(client.ack),
            "{begins:?} lies before {:?}",
            client.ack
        );
    });
}

/// The first server has restarted, and answers the SYN with a cookie, of which it knows nothing either. The old connection, which would
/// come home, is not taken: the segment that brings the cookie back is the new one's.
#[test]
fn a_cookie_stands_for_a_new_connection() {
    let mut farm = Farm::with(2, |_, config| config.limits.temporary = 2);
    let (old, _) = moved(&mut farm, 4001);
    // The owner does not hear of its new life.
    farm.synch_lost = Some((0, 1));
    restart(&mut farm, 0);
    farm.run(ms(150));
    // It fills the table.
    let other = farm.connect(0, 5_000);
    let mut new = Client::new(0, old.port, 3_900_000_000);
    farm.send_with(&new, "S", &MSS, &[]);
    let sent = farm.take(&new);
    assert_eq!(farm.devices[0].counters().cookies_sent, 1);
    new.opened_by(&sent[0]);
    farm.send(&other, "R", &[]);
    migrate(&mut farm, 1, &old, "s1", 150);
    assert_eq!(frames(&farm, 0, FrameType::Refuse).len(), 1);
    farm.send(&new, "PA", REQUEST);
    farm.run(ms(100));
    no_reset(&farm.take(&new));
    let bound = farm.bound();
    assert_eq!(farm.read(bound), REQUEST);
}

/// The word of a former owner that the old connection has ended is about that one, whatever its epoch.
#[test]
fn a_former_owners_word_ends_no_later_connection() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        let (old, _) = moved(&mut farm, 4001);
        migrate(&mut farm, 1, &old, "s3", 300);
        assert_eq!(farm.bound().0, 2);
        // The former owner passes a packet on that comes too late, and learns that the connection has ended.
        lose(&mut farm, FrameType::Release, usize::MAX);
        let packet = frames(&farm, 1, FrameType::Packet).remove(0);
        farm.send(&old, "R", &[]);
        let ended = frames(&farm, 2, FrameType::Release).remove(0);
        farm.deliver(0, Port::B, &ended);
        farm.lan_b.clear();
        let told = Rc::new(Cell::new(0));
        let count = told.clone();
        farm.tap = Box::new(move |frame| {
            let release = frame.message.frame_type() == FrameType::Release;
            count.set(count.get() + usize::from(release));
            // The third server's word comes, the second one's is late.
            match release && count.get() > 1 {
                true => Pass::Lose,
                false => Pass::Deliver,
            }
        });
        farm.deliver(2, Port::B, &packet);
        farm.pump();
        let word = frames(&farm, 1, FrameType::Release);
        assert_eq!((told.get(), word.len()), (2, 1));
        heal(&mut farm);
        let mut new = connect_at(&mut farm, &old, 77_000_000);
        let bound = exchange(&mut farm, &mut new, 150);
        if bound.0 != 2 {
            migrate(&mut farm, bound.0, &new, "s3", 300);
        }
        if late {
            farm.deliver(0, Port::B, &word[0]);
        }
        let bound = farm.bound();
        works(&mut farm, &mut new, bound);
    });
}

/// An owner offers its connection home and hears no answer; the connection ends with it, and the client uses its port again.
#[test]
fn a_connection_that_is_installed_at_home_ends_elsewhere() {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    migrate(&mut farm, 1, &client, "s1", 100);
    heal(&mut farm);
    assert_eq!(farm.connections(0), [0, 1, 0, 0, 0], "installed, not owned");
    // A SYN waits for the end, which comes with the RST.
    let end = client.frame("R", &[], &[]);
    client.seq += 100_000;
    farm.send_with(&client, "S", &MSS, &[]);
    farm.take(&client);
    farm.inject(&client, &end);
    farm.run(ms(10));
    assert_eq!(farm.connections(0)[..4], [1, 0, 0, 0], "it is opened");
    let sent = farm.take(&client);
    assert!(sent.iter().any(|s| s.header.syn), "{sent:?}");
}
