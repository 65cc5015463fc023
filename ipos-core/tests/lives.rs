//! Servers that die, restart, leave and stand still: what becomes of the connections that have moved to them, or from them.

mod common;

use common::talk::*;
use common::{Farm, mac};
use ipos_core::{Duration, Event, Port};
use ipos_proto::FrameType;

/// The owner dies, or restarts: its clients are reset once that is certain, with a RST that they believe.
#[test]
fn clients_of_a_dead_owner_are_told() {
    each([false, true], |restarts| {
        let mut farm = Farm::pair();
        let (client, _) = moved(&mut farm, 4001);
        // Later ones have overtaken this acknowledgment.
        let mut late = client.clone();
        late.ack = late.ack - 20;
        farm.send(&late, "A", &[]);
        farm.dead[1] = true;
        if restarts {
            restart(&mut farm, 1);
            farm.run(ms(150));
        } else {
            farm.run(ms(2900));
            assert_eq!(farm.take(&client).len(), 0, "not for certain yet");
            farm.run(ms(400));
        }
        let sent = farm.take(&client);
        let [reset] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert!(reset.header.rst);
        assert_eq!(
            reset.header.sequence_number,
            client.ack.raw(),
            "believed (RFC 5961)"
        );
        assert_eq!(reset.hardware, mac(0xa, 0));
        assert_eq!(farm.connections(0), [0; 5]);
        assert_eq!(farm.devices[0].counters().owners_lost, 1);
        // New ones go elsewhere, or to the new life.
        let mut new = farm.connect(0, 4500);
        exchange_somewhere(&mut farm, &mut new);
    });
}

/// The first server begins a new life, which knows nothing of what it has given away: no packet of the clients comes any more, so
/// their connections are over, also where the owner has something to say still. Those of its new life go on.
#[test]
fn the_first_server_begins_a_new_life() {
    each([2, 3], |owner| {
        let mut farm = Farm::round_robin(3);
        let (client, mut bound) = moved(&mut farm, 4001);
        if owner == 3 {
            migrate(&mut farm, 1, &client, "s3", 500);
            bound = farm.bound();
        }
        assert_eq!(bound.0, owner - 1);
        farm.write(bound, b"an answer");
        farm.take(&client);
        restart(&mut farm, 0);
        farm.run(ms(150));
        let sent = farm.take(&client);
        assert!(sent.iter().any(|sent| sent.header.rst), "{sent:?}");
        assert_eq!(farm.table(owner - 1, "forward-connect"), 0);
        let failed = |(at, event): &(usize, Event)| matches!(event, Event::Failed(id, _) if (*at, *id) == bound);
        assert!(farm.events.iter().any(failed), "its application is told");
        let (mut client, bound) = moved(&mut farm, 4500);
        farm.run(ms(3000));
        works(&mut farm, &mut client, bound);
    });
}

/// The new life of the first server gives a connection away before the others have heard of it on the Synch LAN: it is not taken for one
/// of the former life.
#[test]
fn a_connection_of_a_new_life_that_nobody_knows_of() {
    let mut farm = Farm::pair();
    restart(&mut farm, 0);
    farm.synch_lost = Some((0, 1));
    // The second server's services are told every second.
    farm.run(ms(1500));
    let (mut client, bound) = moved(&mut farm, 4001);
    assert_eq!(bound.0, 1);
    farm.synch_lost = None;
    farm.run(ms(300));
    works(&mut farm, &mut client, bound);
}

/// It begins that life just after the connection has moved between two others, of which the last one knows nothing of the life before:
/// that one learns from the answer to MOVED that the connection is over, or that it was of that life. The client may use the port again.
#[test]
fn the_first_server_begins_a_new_life_while_a_connection_moves() {
    each(
        [(true, false), (false, false), (false, true)],
        |(told, reused)| {
            let mut farm = Farm::round_robin(3);
            let (client, _) = moved(&mut farm, 4001);
            if told {
                // The last that is heard of that life is older than the move.
                farm.synch_lost = Some((0, 2));
                farm.run(ms(100));
            } else {
                farm.dead[0] = true;
                farm.run(ms(100));
            }
            migrate(&mut farm, 1, &client, "s3", 200);
            let bound = farm.bound();
            assert_eq!((bound.0, farm.table(2, "forward-connect")), (2, 1));
            restart(&mut farm, 0);
            farm.synch_lost = None;
            if reused {
                connect_at(&mut farm, &client, 77_000_000);
            }
            farm.run(ms(600));
            assert_eq!(farm.table(2, "forward-connect"), 0);
            let failed = |(at, event): &(usize, Event)| matches!(event, Event::Failed(id, _) if (*at, *id) == bound);
            assert!(farm.events.iter().any(failed), "its application is told");
        },
    );
}

/// The first server leaves the farm, and goes on with its connections: it tells the clients of a dead owner all the same.
#[test]
fn a_server_that_leaves_tells_its_clients_of_a_dead_owner() {
    without_and_with(|leaves| {
        let mut farm = Farm::pair();
        let (client, _) = moved(&mut farm, 4001);
        if leaves {
            farm.devices[0].leave();
            farm.run(ms(100));
        }
        farm.dead[1] = true;
        farm.run(ms(6000));
        let mut sent = farm.take(&client);
        sent.extend(insist(&mut farm, &client, 10));
        assert!(!sent.is_empty(), "the client is told nothing in 11 s");
    });
}

/// No server ever counts as dead for being silent, and the owner has left: its connection goes on while it answers. When it does not
/// any more, its client may use the port again.
#[test]
fn an_owner_that_has_left() {
    each([false, true], |gone| {
        let mut farm = Farm::with(2, |_, config| config.limits.owner_lost = None);
        let (mut client, bound) = moved(&mut farm, 4001);
        farm.devices[1].leave();
        farm.run(ms(100));
        farm.dead[1] = gone;
        farm.run(ms(3000));
        if gone {
            no_reset(&farm.take(&client));
            let mut new = connect_at(&mut farm, &client, 77_000_000);
            assert_eq!(exchange(&mut farm, &mut new, 20).0, 0);
        } else {
            works(&mut farm, &mut client, bound);
        }
    });
}

/// The same, and owners count as lost since a reload: the clients of the one that has left and is gone are told.
#[test]
fn an_owner_that_has_left_is_given_up_after_a_reload() {
    let mut farm = Farm::with(2, |_, config| config.limits.owner_lost = None);
    let (client, _) = moved(&mut farm, 4001);
    farm.devices[1].leave();
    farm.run(ms(100));
    farm.dead[1] = true;
    farm.run(ms(3000));
    no_reset(&farm.take(&client));
    let mut config = farm.devices[0].config().clone();
    config.limits.owner_lost = Some(ms(2000));
    farm.devices[0].reconfigure(config).unwrap();
    farm.run(ms(5000));
    reset(&farm.take(&client));
}

/// A connection came home and has ended; frames of its way home are late, and the first server has begun a new life meanwhile: it
/// serves nothing of it again.
#[test]
fn nothing_comes_home_to_a_new_life() {
    each([false, true], |reused| {
        let mut farm = Farm::pair();
        let (mut client, _) = moved(&mut farm, 4001);
        migrate(&mut farm, 1, &client, "s1", 50);
        assert_eq!(exchange(&mut farm, &mut client, 20).0, 0);
        let late = [FrameType::Endpoint, FrameType::Packet].map(|kind| frames(&farm, 1, kind));
        assert!(late.iter().all(|frames| !frames.is_empty()));
        farm.send(&client, "R", &[]);
        restart(&mut farm, 0);
        farm.run(ms(150));
        if reused {
            let new = connect_at(&mut farm, &client, 77_000_000);
            farm.send(&new, "R", &[]);
        }
        farm.events.clear();
        farm.lan_b.clear();
        for frame in late.iter().flatten() {
            farm.deliver(0, Port::B, frame);
        }
        farm.run(ms(50));
        assert_eq!(times_bound(&farm, 0), 0);
        assert!(!frames(&farm, 0, FrameType::Refuse).is_empty());
    });
}

/// Owners count as dead after a minute, when the Synch LAN has forgotten them for half of it: their clients are reset.
#[test]
fn owners_are_not_forgotten_before_they_are_lost() {
    let mut farm = Farm::with(2, |_, c| c.limits.owner_lost = Some(ms(60_000)));
    let (client, _) = moved(&mut farm, 4001);
    farm.dead[1] = true;
    farm.run(ms(120_000));
    reset(&farm.take(&client));
}

/// The owner dies while it offers the connection to the first server, which has it and not yet its packets: the client is answered.
#[test]
fn an_owner_that_dies_while_it_offers_home() {
    each([3000, 1000], |lost| {
        let mut farm = Farm::with(2, |_, config| config.limits.owner_lost = Some(ms(lost)));
        let (client, _) = moved(&mut farm, 4001);
        lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
        migrate(&mut farm, 1, &client, "s1", 1);
        farm.dead[1] = true;
        farm.run(ms(6000));
        farm.take(&client);
        let sent = insist(&mut farm, &client, 10);
        assert!(!sent.is_empty(), "the client is told nothing in 11 s");
    });
}

/// The owner restarts, and the Synch LAN does not tell: its next life says itself that it knows nothing, and the client is reset.
#[test]
fn a_new_life_disowns_what_it_does_not_know() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    restart(&mut farm, 1);
    farm.synch_lost = Some((1, 0));
    farm.run(ms(150));
    farm.send(&client, "PA", REQUEST);
    farm.run(ms(150));
    reset(&farm.take(&client));
    assert_eq!(farm.table(0, "forward"), 0);
}

/// A server that has restarted takes a connection before the first server has heard of its new life: it keeps it.
#[test]
fn a_new_life_that_nobody_knows_of_takes_a_connection() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    restart(&mut farm, 2);
    // The reports of the new life reach the second server only, for 500 ms.
    farm.synch_lost = Some((2, 0));
    farm.run(ms(300));
    migrate(&mut farm, 1, &client, "s3", 100);
    let bound = exchange(&mut farm, &mut client, 20);
    assert_eq!(bound.0, 2);
    farm.synch_lost = None;
    farm.run(ms(300));
    works(&mut farm, &mut client, bound);
}

/// The owner restarts while the first server, which has not heard of it, repeats the request: the next life does not serve it again.
#[test]
fn a_new_life_is_given_no_request_of_the_last_one() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    lose_covers(&mut farm);
    farm.send(&client, "PA", REQUEST);
    farm.run(ms(1));
    assert_eq!(farm.bound().0, 1);
    restart(&mut farm, 1);
    farm.synch_lost = Some((1, 0));
    farm.run(ms(300));
    assert_eq!(farm.table(1, "forward-connect"), 0, "two lives own it");
    farm.synch_lost = None;
    farm.run(ms(300));
    reset(&farm.take(&client));
}

/// The same, when the first life has answered already, and whether or not owners ever count as lost.
#[test]
fn a_new_life_answers_nothing_that_the_last_one_has_answered() {
    each([Some(ms(3000)), None], |lost| {
        let mut farm = Farm::with(2, |_, config| config.limits.owner_lost = lost);
        let client = about_to_move(&mut farm);
        lose_covers(&mut farm);
        farm.send(&client, "PA", REQUEST);
        farm.run(ms(1));
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
        farm.write(bound, b"first life");
        assert_eq!(farm.take(&client)[0].payload, b"first life");
        heal(&mut farm);
        farm.events.clear();
        restart(&mut farm, 1);
        farm.run(ms(3000));
        assert_eq!(times_bound(&farm, 1), 0, "the next life gets it");
    });
}

/// A server that had the connection between the first server and the present owner restarts: it was neither's, and goes on.
#[test]
fn a_former_owner_restarts() {
    without_and_with(|restarts| {
        let mut farm = Farm::round_robin(3);
        farm.run(ms(2000));
        let (mut client, _) = moved(&mut farm, 4001);
        // Home in vain: the first server's answers are lost. Then to the third, which cannot tell the first.
        lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
        migrate(&mut farm, 1, &client, "s1", 100);
        lose(&mut farm, FrameType::Moved, usize::MAX);
        migrate(&mut farm, 1, &client, "s3", 50);
        let bound = farm.bound();
        assert_eq!(bound.0, 2);
        if restarts {
            restart(&mut farm, 1);
        }
        farm.run(ms(200));
        farm.take(&client);
        heal(&mut farm);
        farm.run(ms(3000));
        no_reset(&farm.take(&client));
        works(&mut farm, &mut client, bound);
    });
}

/// The first server's machine stands still for longer than an owner may be silent: it resets nobody before it has listened again.
#[test]
fn a_server_that_stood_still_resets_nobody() {
    each([2000, 3500], |stall| {
        let mut farm = Farm::pair();
        let (mut client, bound) = moved(&mut farm, 4001);
        farm.now += ms(stall);
        let now = farm.now;
        farm.devices[0].handle_timeout(now);
        farm.pump();
        farm.run(ms(300));
        works(&mut farm, &mut client, bound);
    });
}

/// The Synch LAN is cut, and Port B works: nobody counts as dead, and connections go on.
#[test]
fn a_server_that_lives_on_port_b_keeps_its_connections() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm, 4001);
    farm.synch_cut = true;
    farm.run(ms(10_000));
    let servers = farm.devices[0].servers(farm.now);
    assert!(servers.iter().any(|s| !s.is_self && !s.alive));
    assert_eq!(farm.take(&client).len(), 0);
    works(&mut farm, &mut client, bound);
}

/// What the Synch LAN says decides about new connections, not about those that have moved already.
#[test]
fn migrated_connections_outlive_the_membership_of_their_servers() {
    each([true, false], |leaves| {
        let mut farm = Farm::with(2, |server, config| {
            if server == 0 && !leaves {
                let never = Duration::from_secs(300);
                (config.synch.high, config.synch.medium, config.synch.low) = (never, never, never);
            }
            if !leaves {
                // Else Port B is asked whether it lives.
                config.limits.owner_lost = None;
            }
        });
        let mut client = about_to_move(&mut farm);
        request(&mut farm, &mut client);
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
        if leaves {
            farm.devices[0].leave();
            farm.pump();
        } else {
            farm.run(Duration::from_secs(31));
            assert_eq!(farm.devices[1].servers(farm.now).len(), 1, "forgotten");
        }
        farm.send(&client, "PA", b"more");
        assert_eq!(farm.read(bound), b"more");
        client.seq += 4;
        farm.send(&client, "R", &[]);
        assert_eq!(farm.table(0, "forward"), 0, "RELEASE is believed too");
    });
}

/// A connection moves on while its first server is dead: the next owner tells it so ever more rarely.
#[test]
fn a_dead_first_server_is_not_told_for_ever() {
    let mut farm = Farm::round_robin(3);
    let (client, _) = moved(&mut farm, 4001);
    farm.dead[0] = true;
    migrate(&mut farm, 1, &client, "s3", 300);
    assert_eq!(farm.bound().0, 2);
    farm.run(ms(60_000));
    farm.lan_b.clear();
    farm.run(ms(60_000));
    let told = frames(&farm, 2, FrameType::Moved).len();
    assert!(told <= 60, "{told} frames in the second minute");
}

/// The next owner and the first server do not hear each other on the Synch LAN when the connection moves: it goes on for all that.
#[test]
fn servers_that_do_not_know_each_other() {
    each([None, Some((0, 2)), Some((2, 0))], |deaf| {
        let configs = (0..3).map(|server| {
            let mut config = common::config(server);
            config.balance.policy = ipos_balance::PolicyKind::RoundRobin;
            config
        });
        let mut farm = Farm::new(configs.collect());
        farm.synch_lost = deaf;
        farm.run(ms(1500));
        let (client, _) = moved(&mut farm, 4001);
        migrate(&mut farm, 1, &client, "s3", 500);
        let bound = farm.bound();
        assert_eq!(bound.0, 2);
        farm.synch_lost = None;
        farm.run(ms(70_000));
        farm.take(&client);
        no_reset(&insist(&mut farm, &client, 4));
        assert_eq!(farm.read(bound), REQUEST);
    });
}
