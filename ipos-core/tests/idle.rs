//! Connections that have moved and are silent for long.

mod common;

use common::Farm;
use common::talk::*;

/// Nobody says anything for about as long as a first server keeps an idle record, an hour, and for longer: the owner is
/// asked, and the connection goes on.
#[test]
fn an_idle_connection_lives_as_long_as_its_endpoint() {
    each([3_500_000, 3_700_000], |time| {
        let mut farm = Farm::with(2, |_, config| {
            config.synch.high = ms(10_000);
            config.synch.medium = ms(10_000);
            config.synch.silence = ms(50_000);
            config.limits.owner_lost = Some(ms(100_000));
        });
        farm.run(ms(21_000));
        let (mut client, bound) = moved(&mut farm, 4001);
        farm.run(ms(time));
        works(&mut farm, &mut client, bound);
    });
}

/// LAN B is cut for 400 ms when the owner of an idle connection is asked: the question is repeated until it is answered.
#[test]
fn a_short_cut_ends_no_idle_connection() {
    without_and_with(|cut| {
        let mut farm = Farm::with(2, |_, config| {
            config.limits.forward_idle = ms(10_000);
            config.limits.owner_lost = None;
        });
        let (mut client, bound) = moved(&mut farm, 4001);
        farm.run(ms(9_700));
        if cut {
            farm.tap = Box::new(|_| common::Pass::Lose);
        }
        farm.run(ms(400));
        heal(&mut farm);
        farm.run(ms(1000));
        works(&mut farm, &mut client, bound);
    });
}
