//! Who may speak for a connection.

mod bench;

use std::time::Duration;

use ipos_proto::FrameType;
use smoltcp::wire::TcpControl;

use self::bench::*;
use super::*;

#[test]
fn the_first_server_may_speak_others_may_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.speaks(1), 0, "nothing is known of the flow");
    bench.syn(1);
    assert_eq!(bench.speaks(0), 0);
    assert_eq!(bench.speaks(1), 1);
    assert_eq!(bench.speaks(0), 1, "and the first one still may");
    let violation = &bench.check.violations()[0];
    assert_eq!((violation.server, violation.owner), (1, Some(0)));
    assert_eq!(violation.flow, Flow::tcp(client(), server(0).http()));
}

#[test]
fn ownership_follows_the_first_packet() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.agree(0, 1);
    assert_eq!(bench.speaks(0), 0, "installed, but without a packet");
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 0);
    assert_eq!(bench.speaks(0), 1, "handed over");
    assert_eq!(bench.speaks(2), 2);
}

#[test]
fn a_packet_without_an_answered_offer_gives_nothing() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.offer(0, 1);
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_connection_may_come_home_and_go_to_a_third() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.agree(1, 0);
    assert_eq!(bench.speaks(0), 1, "not before its owner's packet");
    bench.replay(1, 0);
    assert_eq!(bench.speaks(0), 1);
    assert_eq!(bench.speaks(1), 2, "no more");
    bench.hand_over(0, 2);
    assert_eq!(bench.speaks(2), 2);
    bench.hand_over(2, 1);
    assert_eq!(bench.speaks(1), 2);
    bench.replay(0, 2);
    assert_eq!(bench.speaks(2), 3, "its offer was used up");
}

#[test]
fn only_the_giver_hands_over() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.agree(1, 2);
    bench.replay(0, 2);
    assert_eq!(bench.speaks(2), 1, "the first server does not know");
    assert_eq!(bench.speaks(1), 1, "the owner still is");
    bench.replay(1, 2);
    assert_eq!(bench.speaks(2), 1);
}

#[test]
fn an_offer_counts_once() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.move_to(1, 0);
    bench.offer_again(0, 1, 1);
    bench.accept(1, 0);
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late copy of the first offer");
}

#[test]
fn after_release_there_is_nothing_but_rst() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.release(0, 1);
    assert_eq!(
        bench.speaks(1),
        0,
        "it was not the first server's to release"
    );
    bench.release(1, 0);
    bench.resets(0);
    assert_eq!(bench.check.count(), 0);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late 0x01 brought it back");
}

#[test]
fn an_owner_that_never_spoke_may_release_too() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    bench.release(1, 0);
    bench.resets(0);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_late_copy_of_a_syn_may_be_answered_after_the_end() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.release(1, 0);
    bench.syn(2);
    assert_eq!(bench.check.count(), 0);
}

#[test]
fn a_port_is_used_again() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.syn(2);
    assert_eq!(
        bench.check.count(),
        1,
        "a repeated SYN is not answered here"
    );
    bench.syn_comes(1 << 30);
    assert_eq!(bench.speaks(1), 1, "the owner goes on");
    bench.opens(1 << 30);
    assert_eq!(bench.check.count(), 2, "the former one has not ended");
    assert_eq!(bench.speaks(0), 2);

    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.release(1, 0);
    bench.syn_comes(1 << 30);
    bench.replay(0, 1);
    bench.opens(1 << 30);
    assert_eq!(bench.speaks(0), 0, "the SYN was passed on before");
    assert_eq!(bench.speaks(1), 1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_crash_frees_the_connection() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.crash(0);
    assert_eq!(bench.speaks(0), 0, "the first server forgot");
    bench.syn(1 << 30);
    assert_eq!(bench.speaks(1), 1, "of the new one");
    bench.isn = 2;
    assert_eq!(bench.speaks(1), 1, "of the old one");
}

#[test]
fn an_owner_that_is_not_heard_may_be_given_up() {
    let limits = Limits {
        owner_lost: Some(Duration::from_millis(10)),
        ..Limits::default()
    };
    for (moment, count) in [(9, 1), (10, 0)] {
        let mut bench = Bench::new();
        bench.check = bench.check.with_limits(LanId(2), &limits);
        bench.syn(2);
        bench.move_to(0, 1);
        let bytes = packet(server(0).http(), client(), TcpControl::Rst, 7, Some(3));
        let frame = frame(HOST, server(0).a.0, IPV4, &bytes);
        bench.check.sent(&Sighting {
            now: Instant::from_millis(moment),
            ..at(A, 0, &frame)
        });
        assert_eq!((bench.check.count(), bench.lost()), (count, count == 0));
    }
}

#[test]
fn datagrams_are_answered_by_one_server() {
    let mut flows = DatagramFlows::default();
    flows.idle = Duration::from_secs(1);
    let (now, endpoint) = (Instant::ZERO, server(0).echo());
    let flow = Flow::udp(client(), endpoint);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));
    assert_eq!(flows.answers(now, &flow, 1, false), Err(None));
    flows.takes(1, client(), endpoint);
    assert_eq!(flows.forwards(now, flow, 1), None);
    assert_eq!(flows.answers(now, &flow, 1, false), Err(Some(1)), "not yet");
    flows.reach(flow, 1);
    assert_eq!(flows.answers(now, &flow, 1, false), Ok(()));
    assert_eq!(flows.answers(now, &flow, 0, true), Err(Some(1)));
    assert_eq!(flows.forwards(now, flow, 2), Some(1), "two owners");

    flows.takes(2, client(), endpoint);
    flows.forwards(now, flow, 2);
    flows.released(1, client(), endpoint);
    assert_eq!(
        flows.answers(now, &flow, 0, true),
        Err(Some(2)),
        "not its to release"
    );
    flows.released(2, client(), endpoint);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));

    flows.takes(2, client(), endpoint);
    flows.forwards(now, flow, 2);
    assert_eq!(
        flows.answers(now + flows.idle, &flow, 0, true),
        Ok(()),
        "idle"
    );
    flows.crashed(2, |_| false);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));

    flows.comes(now, flow);
    let later = Instant::from_millis(300);
    flows.takes(1, client(), endpoint);
    flows.forwards(later, flow, 1);
    assert_eq!(
        flows.answers(later, &flow, 0, true),
        Ok(()),
        "waited for ARP"
    );
    flows.crashed(1, |_| false);
    flows.forwards(now, flow, 2);
    assert_eq!(
        flows.answers(now, &flow, 0, true),
        Ok(()),
        "it does not know of it"
    );
}

#[test]
fn a_crash_is_remembered_where_the_connection_needed_the_server() {
    /// What happens, who crashes then, and whether the connection is lost by it.
    type Case = (fn(&mut Bench), usize, bool);
    fn taken(bench: &mut Bench) {
        bench.hand_over(0, 1);
    }
    fn between(bench: &mut Bench) {
        bench.move_to(0, 1);
        bench.agree(1, 2);
        bench.leaves(1, 2);
    }
    fn moved_on(bench: &mut Bench) {
        bench.move_to(0, 1);
        bench.move_to(1, 2);
    }
    let cases: [Case; 10] = [
        (|_| {}, 1, false),
        (taken, 1, true),
        (taken, 2, false),
        // The offer is not answered, or the answer is under way.
        (|bench| bench.offer(0, 1), 1, false),
        (|bench| bench.agree(0, 1), 1, false),
        (between, 1, true),
        (between, 2, true),
        // The first server takes its former owner for the owner, until it is told, and knows who tells it.
        (moved_on, 1, true),
        (
            |bench| {
                moved_on(bench);
                bench.moved(2);
            },
            1,
            true,
        ),
        (
            |bench| {
                moved_on(bench);
                bench.moved(2);
                bench.accept(0, 2);
            },
            1,
            false,
        ),
    ];
    for (number, (prepare, crashed, lost)) in cases.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.syn(1);
        prepare(&mut bench);
        assert_eq!(bench.check.count(), 0, "case {number}");
        bench.crash(crashed);
        assert_eq!(bench.lost(), lost, "case {number}");
    }
}

#[test]
fn an_answer_may_outlive_its_server() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.agree(0, 1);
    bench.crash(1);
    assert!(!bench.lost());
    bench.replay(0, 1);
    assert!(
        bench.lost(),
        "handed over to a server that has forgotten it"
    );
    bench.resets(0);
    assert_eq!(bench.check.count(), 0);
}

/// The packet comes too late, and then the server refuses the endpoint, or crashes, or the client begins anew.
#[test]
fn what_has_lapsed_is_lost_with_its_server() {
    type Case = (fn(&mut Bench), bool);
    let cases: [Case; 4] = [
        (|_| {}, false),
        (|bench| bench.refuse(1, 0), true),
        (|bench| bench.crash(1), true),
        (
            |bench| {
                bench.syn(1_000);
                bench.crash(1);
            },
            false,
        ),
    ];
    for (number, (then, lost)) in cases.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.syn(1);
        bench.agree(0, 1);
        bench.leaves(0, 1);
        bench.knows_nothing(1, 0);
        then(&mut bench);
        assert_eq!(bench.lost(), lost, "case {number}");
        bench.resets(0);
        assert_eq!(bench.check.count(), 0, "case {number}");
    }
}

/// The connection is offered home, where the packet comes too late; then again.
#[test]
fn what_has_lapsed_at_home_passes_on_and_may_be_offered_again() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.hand_over(1, 0);
    let epoch = bench.epoch;
    bench.leaves(0, 1);
    assert_eq!(bench.speaks(0), 1, "it passes packets on");
    bench.offer_again(1, 0, epoch);
    bench.accept(0, 1);
    bench.replay(1, 0);
    assert_eq!(bench.speaks(0), 1);
    bench.hand_over(0, 2);
    assert_eq!(bench.speaks(2), 1);
    bench.offer_again(1, 0, epoch);
    bench.replay(1, 0);
    assert_eq!(bench.speaks(0), 2, "it has given it away");
}

#[test]
fn a_packet_that_came_corrupt_gives_nothing() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.agree(0, 1);
    let mut bytes = data(2);
    // The window, which the client's checksum covers.
    bytes[34] ^= 1;
    bench.passes(0, 1, FrameType::Packet, Message::Packet(&bytes));
    assert_eq!(bench.speaks(1), 1);
}
