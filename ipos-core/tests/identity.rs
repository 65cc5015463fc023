//! Frames of earlier connections between the same ports: whatever they say, and however late, the connection that lives now
//! goes on.

mod common;

use common::talk::*;
use common::{Client, Farm, isn};
use ipos_core::{Event, Port};
use ipos_proto::FrameType;

/// Later than the first connection's numbers, and lower than they are: clients draw them as they like.
const NUMBERS: [u32; 2] = [77_000_000, 3_900_000_000];

/// RELEASE comes a second time, when the next connection has moved to the same server: that one goes on.
#[test]
fn a_repeated_release_ends_no_later_connection() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        farm.send(&old, "R", &[]);
        let release = frames(&farm, 1, FrameType::Release).remove(0);
        let (mut new, bound) = again(&mut farm, &old, isn(old.port));
        if late {
            farm.deliver(0, Port::B, &release);
        }
        works(&mut farm, &mut new, bound);
    });
}

/// RELEASE comes for the first time when the next connection's offer has been answered: that one goes on.
#[test]
fn a_late_release_ends_no_later_connection() {
    each(NUMBERS, |isn| {
        without_and_with(|late| {
            let mut farm = Farm::pair();
            let (old, _) = moved(&mut farm, 4001);
            lose(&mut farm, FrameType::Release, 1);
            farm.lan_b.clear();
            farm.send(&old, "R", &[]);
            let release = frames(&farm, 1, FrameType::Release).remove(0);
            skip_turn(&mut farm, 4100);
            // The SYN finds the forward record; the second server says that the connection is over.
            let mut new = connect_at(&mut farm, &old, isn);
            request(&mut farm, &mut new);
            farm.run(ms(3));
            let bound = farm.bound();
            assert_eq!(bound.0, 1);
            if late {
                farm.deliver(0, Port::B, &release);
            }
            answer(&mut farm, &mut new, bound, 10);
            works(&mut farm, &mut new, bound);
        });
    });
}

/// A connection that has moved twice ends after its first server's restart: RELEASE has a later epoch than the next
/// connection, which goes on.
#[test]
fn a_release_with_a_later_epoch_ends_no_other_connection() {
    each(NUMBERS, |isn| {
        without_and_with(|ends| {
            let mut farm = Farm::round_robin(3);
            farm.run(ms(2000));
            let (client, _) = moved(&mut farm, 4001);
            migrate(&mut farm, 1, &client, "s3", 300);
            let (at, id) = farm.bound();
            assert_eq!(at, 2);
            farm.run(ms(61_000));
            // The owner does not hear of its new life.
            farm.synch_lost = Some((0, 2));
            restart(&mut farm, 0);
            farm.run(ms(1500));
            farm.take(&client);
            // The client is told at its next segment, and connects again from the same port.
            farm.send(&client, "PA", REQUEST);
            reset(&farm.take(&client));
            let (mut new, bound) = again(&mut farm, &client, isn);
            let now = farm.now;
            let endpoint = farm.devices[2].endpoint(now, id).unwrap();
            if ends {
                // The application of the old connection gives up.
                endpoint.abort();
                farm.run(ms(50));
            }
            works(&mut farm, &mut new, bound);
        });
    });
}

/// The offer comes a second time, when the next connection has moved to the same server: that one goes on.
#[test]
fn a_repeated_offer_takes_no_later_connections_place() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        let offer = frames(&farm, 0, FrameType::Endpoint).remove(0);
        farm.send(&old, "R", &[]);
        let (mut new, bound) = again(&mut farm, &old, isn(old.port));
        if late {
            farm.deliver(1, Port::B, &offer);
        }
        farm.pump();
        works(&mut farm, &mut new, bound);
    });
}

/// An offer to come home is late: it binds nothing, and the next connection's forward record goes with its connection.
#[test]
fn a_late_offer_home_binds_nothing() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        lose(&mut farm, FrameType::Endpoint, usize::MAX);
        farm.lan_b.clear();
        migrate(&mut farm, 1, &old, "s1", 100);
        let offer = frames(&farm, 1, FrameType::Endpoint).remove(0);
        heal(&mut farm);
        farm.send(&old, "R", &[]);
        farm.run(ms(5));
        skip_turn(&mut farm, 4100);
        let mut new = connect_at(&mut farm, &old, 88_000_000);
        assert_eq!(exchange(&mut farm, &mut new, 10).0, 1);
        farm.events.clear();
        if late {
            farm.deliver(0, Port::B, &offer);
        }
        farm.run(ms(10));
        assert_eq!(times_bound(&farm, 0), 0, "{:?}", farm.events);
        // The connection ends while the late offer lies at the first server.
        farm.send(&new, "R", &[]);
        farm.run(ms(3000));
        assert_eq!(farm.table(0, "forward"), 0);
    });
}

/// The answer to the old connection's offer comes when the next one's is out: it counts for nothing, and the client is served.
#[test]
fn a_repeated_acknowledgement_gives_no_later_connection_away() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        let acknowledgement = frames(&farm, 1, FrameType::Acknowledgement).remove(0);
        farm.send(&old, "R", &[]);
        farm.run(ms(5));
        skip_turn(&mut farm, 4100);
        let new = farm.connect(0, old.port);
        lose(&mut farm, FrameType::Endpoint, 2);
        farm.send(&new, "PA", REQUEST);
        if late {
            farm.deliver(0, Port::B, &acknowledgement);
        }
        farm.run(ms(500));
        heal(&mut farm);
        farm.take(&new);
        // The client sends it again.
        farm.send(&new, "PA", REQUEST);
        no_reset(&farm.take(&new));
        let bound = farm.bound();
        assert_eq!(farm.read(bound), REQUEST);
    });
}

/// The 0x03 that covered the old connection's packets comes when the next one's are under way: those are repeated all the same.
#[test]
fn a_late_cover_covers_no_later_connections_packets() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        skip_turn(&mut farm, 4000);
        lose_covers(&mut farm);
        let mut old = farm.connect(0, 4001);
        farm.lan_b.clear();
        assert_eq!(exchange(&mut farm, &mut old, 1).0, 1);
        let cover = frames(&farm, 1, FrameType::Acknowledgement).remove(1);
        heal(&mut farm);
        farm.send(&old, "R", &[]);
        // The next connection is served by the first server, and moves at a quiet point: the client has nothing to repeat.
        let isn = old.seq - 100_000_000;
        let mut new = connect_at(&mut farm, &old, isn.raw());
        assert_eq!(exchange(&mut farm, &mut new, 150).0, 0);
        lose(&mut farm, FrameType::Packet, usize::MAX);
        migrate(&mut farm, 0, &new, "s2", 1);
        assert_eq!(farm.table(0, "forward"), 1);
        if late {
            farm.deliver(0, Port::B, &cover);
        }
        heal(&mut farm);
        farm.run(ms(3000));
        farm.take(&new);
        no_reset(&insist(&mut farm, &new, 3));
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
    });
}

/// MOVED comes a second time, when the next connection is another server's: its packets go on to that one.
#[test]
fn a_repeated_moved_leads_no_later_connection_away() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        let (mut old, _) = moved(&mut farm, 4001);
        migrate(&mut farm, 1, &old, "s3", 300);
        let told = frames(&farm, 2, FrameType::Moved).remove(0);
        assert_eq!(exchange(&mut farm, &mut old, 150).0, 2);
        farm.send(&old, "R", &[]);
        // The second server keeps its record of the old connection for a minute.
        farm.run(ms(61_000));
        let (new, bound) = again(&mut farm, &old, isn(old.port));
        if late {
            farm.deliver(0, Port::B, &told);
        }
        farm.pump();
        for _ in 0..2 {
            farm.send(&new, "PA", REQUEST);
            farm.run(ms(200));
            no_reset(&farm.take(&new));
        }
        assert_eq!(farm.read(bound), REQUEST);
    });
}

/// The third server took a connection while the first one was down, and tells it when it is back: the client's next
/// connection stays where it is.
#[test]
fn a_moved_that_waited_for_a_restart_leads_no_later_connection_away() {
    without_and_with(|late| {
        let mut farm = Farm::round_robin(3);
        farm.run(ms(2000));
        let (client, _) = moved(&mut farm, 4001);
        farm.dead[0] = true;
        migrate(&mut farm, 1, &client, "s3", 300);
        let (at, id) = farm.bound();
        assert_eq!(at, 2);
        if !late {
            let now = farm.now;
            farm.devices[2].endpoint(now, id).unwrap().abort();
        }
        farm.run(ms(61_000));
        // The first server hears nothing of the third one at first.
        farm.synch_lost = Some((2, 0));
        restart(&mut farm, 0);
        farm.run(ms(1500));
        let (new, bound) = again(&mut farm, &client, NUMBERS[0]);
        farm.synch_lost = None;
        farm.run(ms(1000));
        farm.take(&new);
        let sent = insist(&mut farm, &new, 3);
        let second = common::mac(0xa, 1);
        assert!(
            sent.iter().all(|s| s.hardware == second),
            "answered by others: {sent:?}"
        );
        assert_eq!(farm.read(bound), REQUEST);
    });
}

/// A packet of the old connection overtakes the next one's: no server believes from it that it owns that connection, when
/// its answers are lost.
#[test]
fn a_late_packet_makes_no_owner() {
    without_and_with(|late| {
        let mut farm = Farm::pair();
        let (old, _) = moved(&mut farm, 4001);
        let packet = frames(&farm, 0, FrameType::Packet).remove(0);
        farm.send(&old, "R", &[]);
        farm.run(ms(5));
        skip_turn(&mut farm, 4100);
        let new = farm.connect(0, old.port);
        lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
        farm.send(&new, "PA", REQUEST);
        if late {
            farm.deliver(1, Port::B, &packet);
        }
        assert_eq!(owner(&mut farm, &new).0, 0);
        assert!(
            farm.take(&new)
                .iter()
                .all(|s| s.hardware == common::mac(0xa, 0))
        );
    });
}

/// All that the giver has said comes again after the connection came home and ended: it does not come back.
#[test]
fn late_frames_bring_no_ended_connection_back() {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm, 4001);
    migrate(&mut farm, 1, &client, "s1", 300);
    let frames: Vec<Vec<u8>> = farm.lan_b.iter().map(|(_, frame)| frame.clone()).collect();
    let (at, id) = exchange(&mut farm, &mut client, 150);
    farm.send(&client, "R", &[]);
    farm.events.clear();
    assert!(farm.devices[at].endpoint(farm.now, id).is_none());
    assert_eq!(farm.connections(0), [0, 0, 0, 0, 1]);
    for frame in &frames {
        farm.deliver(0, Port::B, frame);
    }
    farm.pump();
    assert_eq!(farm.connections(0), [0, 0, 0, 0, 1]);
    assert_eq!(farm.events, []);
    // Its client opens another one between the same ports.
    let mut again = farm.connect(0, client.port);
    assert_eq!(farm.connections(0), [1, 0, 0, 0, 0]);
    exchange_somewhere(&mut farm, &mut again);
}

/// A port is used again right after its connection came home and ended, or long after: the next connection's offer is taken
/// at once.
#[test]
fn a_forward_record_of_an_earlier_connection_is_in_no_offers_way() {
    each([61_000, 10], |rest| {
        let mut farm = Farm::pair();
        let (client, _) = moved(&mut farm, 4001);
        migrate(&mut farm, 1, &client, "s1", 300);
        farm.send(&client, "R", &[]);
        farm.run(ms(rest));
        skip_turn(&mut farm, 4100);
        let client = connect_at(&mut farm, &client, 55_000_000);
        let before = farm.devices[0].counters().offers_repeated;
        farm.send(&client, "PA", REQUEST);
        farm.run(ms(100));
        assert_eq!(farm.devices[0].counters().offers_repeated, before);
        assert_eq!(farm.bound().0, 1);
    });
}

/// A client goes on from the same port in TIME-WAIT: the host that still holds the old endpoint is told that it is gone.
#[test]
fn a_port_that_is_used_again_in_time_wait_tells_the_host() {
    let mut farm = Farm::pair();
    let mut client = farm.connect(0, 4001);
    let (at, id) = exchange(&mut farm, &mut client, 150);
    assert_eq!(at, 0);
    let now = farm.now;
    farm.devices[0].endpoint(now, id).unwrap().shutdown();
    farm.pump();
    client.ack += 1;
    farm.send(&client, "FA", &[]);
    client.seq += 1;
    assert!(farm.devices[0].endpoint(now, id).is_some());
    farm.events.clear();
    let mut syn = client.clone();
    syn.seq += 100_000;
    farm.send_with(&syn, "S", &[2, 4, 5, 0xb4], &[]);
    let alive = farm.devices[0].endpoint(now, id).is_some();
    let failed = |(_, event): &(usize, Event)| matches!(event, Event::Failed(of, _) if *of == id);
    assert!(
        alive || farm.events.iter().any(failed),
        "its host was told nothing: {:?}",
        farm.events
    );
}

/// A connection from the port to the third server, which is the first server's now, at rest.
fn from_the_third_to_the_first(farm: &mut Farm) -> Client {
    let mut client = farm.connect(2, 4001);
    let (at, _) = exchange(farm, &mut client, 150);
    if at != 0 {
        migrate(farm, at, &client, "s1", 300);
    }
    let bound = farm.bound();
    assert_eq!(bound.0, 0);
    at_rest(farm, bound);
    client
}

/// One client port has connections to two servers, both now the second server's: one of them moves on, and neither is reset.
#[test]
fn a_move_of_one_of_two_connections_of_one_port() {
    let mut farm = Farm::round_robin(3);
    let two = from_the_third_to_the_first(&mut farm);
    migrate(&mut farm, 0, &two, "s2", 300);
    // The first server's record of it is forgotten after a minute without packets.
    farm.run(ms(62_000));
    let forwards = |farm: &Farm| (farm.table(0, "forward"), farm.table(1, "forward-connect"));
    assert_eq!(forwards(&farm), (0, 1));
    let mut one = farm.connect(0, 4001);
    let (at, _) = exchange(&mut farm, &mut one, 150);
    if at == 0 {
        migrate(&mut farm, 0, &one, "s2", 300);
    }
    assert_eq!((farm.bound().0, forwards(&farm)), (1, (1, 2)));
    migrate(&mut farm, 0, &one, "s3", 50);
    farm.send(&one, "PA", REQUEST);
    farm.run(ms(100));
    no_reset(&farm.take(&one));
}

/// A connection moves while another one of its port, to another server, is forwarded: nothing has to be said twice.
#[test]
fn a_forward_record_of_another_connection_of_the_port() {
    without_and_with(|another| {
        let mut farm = Farm::round_robin(3);
        if another {
            moved(&mut farm, 4001);
        }
        let client = from_the_third_to_the_first(&mut farm);
        farm.lan_b.clear();
        migrate(&mut farm, 0, &client, "s3", 300);
        assert_eq!(farm.types(), [1, 3, 2, 3]);
    });
}

/// The answer to an offer of the first server comes from the last life of a server that has restarted since: it counts for nothing.
#[test]
fn frames_of_an_earlier_life_are_stale() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    let acknowledgement = frames(&farm, 1, FrameType::Acknowledgement).remove(0);
    restart(&mut farm, 1);
    farm.pump();
    farm.devices[1].handle_timeout(farm.now);
    farm.pump();
    assert_eq!(farm.table(0, "temporary"), 1, "the offer is out");
    farm.deliver(0, Port::B, &acknowledgement);
    assert_eq!(
        farm.table(0, "temporary"),
        1,
        "the server that has said so is no more"
    );
}
