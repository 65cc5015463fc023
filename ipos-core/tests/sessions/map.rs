//! The cookie map among servers.

use std::collections::BTreeSet;

use ipos_core::Duration;

use super::common::Farm;
use super::common::talk::*;
use super::{
    assert_all_know, begin, connect, farm, farm_with, get, holder, kill, visit, without_cookies,
};

#[test]
fn the_map_reaches_every_server_within_one_interval() {
    let mut farm = farm(4);
    let client = connect(&mut farm, 1);
    farm.send(&client, "PA", &get(None));
    let bound = farm.bound();
    farm.read(bound);
    farm.take(&client);
    farm.write(bound, RESPONSE);
    let (ids, _) = without_cookies(&payload(&farm.take(&client)));
    let interval = farm.devices[1].config().synch.high;
    farm.run(interval);
    assert_all_know(&farm, &ids[0], Some("s2"));
}

#[test]
fn a_lost_report_is_made_good() {
    let mut farm = farm(3);
    farm.synch_lost = Some((1, 2));
    let id = begin(&mut farm, 1);
    assert_eq!(holder(&farm, 2, &id), None);
    farm.synch_lost = None;
    let interval = farm.devices[1].config().synch.high;
    farm.run(interval);
    assert_all_know(&farm, &id, Some("s2"));
}

#[test]
fn newcomers_learn_the_map() {
    // More than one report tells again.
    let mut farm = farm(2);
    let ids: Vec<String> = (0..300).map(|_| begin(&mut farm, 0)).collect();
    kill(&mut farm, 1);
    restart(&mut farm, 1);
    assert_eq!(farm.devices[1].sessions(farm.now).count(), 0);
    farm.run(ms(4_000));
    for id in &ids {
        assert_all_know(&farm, id, Some("s1"));
    }
}

#[test]
fn a_full_map_loses_what_expires_first() {
    let mut farm = farm_with(2, |config| config.limits.sessions = 3);
    let ids: Vec<String> = (0..5).map(|_| begin(&mut farm, 0)).collect();
    for at in 0..2 {
        assert_eq!(farm.table(at, "cookie-map"), 3);
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(holder(&farm, at, id).is_some(), number >= 2);
        }
    }
}

fn seconds(farm: &mut Farm, n: u64) {
    farm.run(Duration::from_secs(n));
}

#[test]
fn a_session_that_nobody_uses_is_forgotten() {
    let mut farm = farm_with(3, |config| {
        let session = config.content.session.as_mut().unwrap();
        session.lifetime = Duration::from_secs(10);
    });
    let (used, unused) = (begin(&mut farm, 0), begin(&mut farm, 0));
    for _ in 0..5 {
        seconds(&mut farm, 6);
        assert_eq!(visit(&mut farm, 1, Some(&used)), (0, None));
    }
    assert_all_know(&farm, &used, Some("s1"));
    assert_all_know(&farm, &unused, None);
    seconds(&mut farm, 11);
    assert_all_know(&farm, &used, None);
    for at in 0..3 {
        assert_eq!(farm.table(at, "cookie-map"), 0);
    }
}

#[test]
fn two_servers_that_take_a_session_at_once_agree() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut farm = farm(4);
        let id = "5".repeat(32);
        // Nobody hears of the other one.
        farm.synch_cut = true;
        let mut clients = [first, second].map(|at| connect(&mut farm, at));
        for client in &mut clients {
            let request = get(Some(&id));
            farm.send(client, "PA", &request);
            client.seq += request.len() as u32;
            let bound = farm.bound();
            farm.read(bound);
        }
        assert_eq!(holder(&farm, 1, &id).as_deref(), Some("s2"));
        assert_eq!(holder(&farm, 2, &id).as_deref(), Some("s3"));
        farm.run(ms(120));
        farm.synch_cut = false;
        farm.run(ms(1_200));
        assert_all_know(&farm, &id, Some("s2"));
        assert_eq!(visit(&mut farm, 3, Some(&id)), (1, None));
    }
}

/// A server that was cut off comes back with a session that others have taken meanwhile.
#[test]
fn a_server_that_was_away_and_its_successor_agree() {
    each([(0, 2), (2, 0)], |(away, successor)| {
        let mut farm = farm(3);
        let id = begin(&mut farm, away as u8);
        farm.dead[away] = true;
        farm.run(ms(700));
        assert_eq!(
            visit(&mut farm, successor as u8, Some(&id)),
            (successor, None)
        );
        farm.dead[away] = false;
        farm.run(ms(2_500));
        let of: BTreeSet<_> = (0..3).map(|at| holder(&farm, at, &id)).collect();
        assert_eq!(of.len(), 1, "{of:?}");
    });
}

/// The others give them back, whether they have missed it or not.
#[test]
fn a_server_that_starts_again_has_lost_its_sessions_to_nobody() {
    each([0, 700], |away| {
        let mut farm = farm(3);
        let ids: Vec<String> = (0..300).map(|_| begin(&mut farm, 1)).collect();
        farm.dead[1] = true;
        farm.run(ms(away));
        restart(&mut farm, 1);
        assert_eq!(farm.devices[1].sessions(farm.now).count(), 0);
        farm.run(ms(1_500));
        for id in &ids {
            assert_all_know(&farm, id, Some("s2"));
        }
        for at in 0..3 {
            assert_eq!(visit(&mut farm, at, Some(&ids[0])), (1, None));
        }
    });
}

/// Nobody asks for the sessions meanwhile.
#[test]
fn servers_that_start_again_one_after_the_other_lose_no_session() {
    each([2_500, 20], |pause| {
        let mut farm = farm(3);
        let ids: Vec<(u8, String)> = (0..=254)
            .map(|n| (n % 3, begin(&mut farm, n % 3)))
            .collect();
        for at in 0..3 {
            restart(&mut farm, at);
            farm.run(ms(pause));
        }
        farm.run(ms(3_000));
        for (at, id) in &ids {
            assert_all_know(&farm, id, Some(&format!("s{}", at + 1)));
        }
    });
}

/// The one that has come just now gives back, too.
#[test]
fn a_server_that_has_just_started_gives_back() {
    let mut farm = farm(2);
    let ids: Vec<String> = (0..300).map(|_| begin(&mut farm, 1)).collect();
    restart(&mut farm, 0);
    farm.run(ms(300));
    restart(&mut farm, 1);
    farm.run(ms(2_500));
    for id in &ids {
        assert_all_know(&farm, id, Some("s2"));
    }
}

/// What they tell it is lost at first.
#[test]
fn sessions_are_given_back_more_than_once() {
    let mut farm = farm(2);
    let ids: Vec<String> = (0..300).map(|_| begin(&mut farm, 1)).collect();
    restart(&mut farm, 1);
    farm.synch_lost = Some((0, 1));
    farm.run(ms(10));
    farm.synch_lost = None;
    farm.run(ms(1_500));
    for id in &ids {
        assert_all_know(&farm, id, Some("s2"));
    }
}

/// Another server has taken the session meanwhile, which one that gives it back has not heard of.
#[test]
fn what_is_given_back_is_no_claim() {
    each([(1, 2), (2, 1)], |(former, successor)| {
        let mut farm = farm(3);
        let id = begin(&mut farm, former as u8);
        kill(&mut farm, former);
        farm.synch_lost = Some((successor, 0));
        assert_eq!(
            visit(&mut farm, successor as u8, Some(&id)),
            (successor, None)
        );
        // It is told three times, and in turn once a second.
        farm.run(ms(500));
        let name = |at: usize| format!("s{}", at + 1);
        assert_eq!(holder(&farm, 0, &id), Some(name(former)));
        restart(&mut farm, former);
        farm.synch_lost = Some((successor, former));
        farm.run(ms(20));
        assert_eq!(holder(&farm, former, &id), Some(name(former)));
        farm.synch_lost = None;
        farm.run(ms(2_500));
        assert_all_know(&farm, &id, Some(&name(successor)));
    });
}

#[test]
fn a_newcomer_knows_a_large_map_before_it_takes_sessions() {
    let mut farm = farm(2);
    let ids: Vec<String> = (0..1_200).map(|_| begin(&mut farm, 1)).collect();
    kill(&mut farm, 0);
    restart(&mut farm, 0);
    farm.run(ms(2_500));
    let unknown = ids.iter().filter(|id| holder(&farm, 0, id).is_none());
    assert_eq!(unknown.count(), 0);
    let taken: Vec<&String> = (ids.iter().step_by(100))
        .filter(|id| visit(&mut farm, 0, Some(id)) != (1, None))
        .collect();
    assert!(taken.is_empty(), "{taken:?}");
}
