//! Hand-overs as clients live through them: requests in pieces, RST and FIN in the middle, closed windows, clients that repeat
//! everything, large bodies, many at once.

mod common;

use common::talk::*;
use common::{Client, Farm, Pass, mac};
use ipos_core::{Event, Verdict};
use ipos_proto::FrameType;

#[test]
fn requests_in_pieces_arrive_whole() {
    for push in ["A", "PA"] {
        for size in [1, 7, 20] {
            for loss in 0..3 {
                let mut farm = Farm::pair();
                let mut client = about_to_move(&mut farm);
                let mut n = 0;
                farm.tap = Box::new(move |_| {
                    n += 1;
                    if n % 3 < loss {
                        Pass::Lose
                    } else {
                        Pass::Twice
                    }
                });
                for piece in REQUEST.chunks(size) {
                    farm.send(&client, push, piece);
                    client.seq += piece.len() as u32;
                    farm.run(ms(1));
                }
                // What went missing is sent again by the client, as by any, until it arrives.
                let mut again = client.clone();
                again.seq = client.seq - REQUEST.len() as u32;
                for _ in 0..3 {
                    farm.run(ms(200));
                    farm.send(&again, push, REQUEST);
                }
                let bound = owner(&mut farm, &client);
                assert_eq!(farm.read(bound), REQUEST, "{push} {size} {loss}");
            }
        }
    }
}

#[test]
fn a_fin_on_the_request_moves_with_it() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    farm.send(&client, "PFA", REQUEST);
    client.seq += REQUEST.len() as u32 + 1;
    let bound = owner(&mut farm, &client);
    assert_eq!(bound.0, 1);
    assert_eq!(farm.read(bound), REQUEST);
    assert!(
        farm.devices[1]
            .endpoint(farm.now, bound.1)
            .unwrap()
            .is_finished()
    );
    farm.write(bound, b"answer");
    farm.close(bound);
    let sent = farm.take(&client);
    assert_eq!(payload(&sent), b"answer");
    let last = sent.last().unwrap();
    assert!(last.header.fin);
    assert_eq!(last.header.acknowledgment_number, client.seq.raw());
    client.ack += 7;
    farm.send(&client, "A", &[]);
    farm.run(ms(61_000));
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (0, 0)
    );
}

#[test]
fn a_reset_in_the_middle_of_a_hand_over_ends_it_everywhere() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    assert_eq!(farm.table(1, "forward-connect"), 1);
    client.seq += REQUEST.len() as u32;
    farm.send(&client, "R", &[]);
    assert_eq!(farm.table(0, "temporary"), 0);
    heal(&mut farm);
    farm.run(ms(2100));
    assert_eq!(farm.take(&client).len(), 0);
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (0, 0)
    );
    assert_eq!(farm.devices[1].counters().never_owned, 1);
}

#[test]
fn a_client_that_repeats_everything_is_served_once() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    farm.tap = Box::new(|_| Pass::Twice);
    for _ in 0..5 {
        farm.send(&client, "PA", REQUEST);
        farm.run(ms(1));
    }
    client.seq += REQUEST.len() as u32;
    let bound = owner(&mut farm, &client);
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
    let acks = farm.take(&client);
    assert!(
        acks.iter().all(|ack| ack.hardware == mac(0xa, 1)),
        "one server speaks"
    );
    let binds = farm
        .events
        .iter()
        .filter(|(at, e)| *at == 1 && matches!(e, Event::Bound { .. }));
    assert_eq!(binds.count(), 1);
}

#[test]
fn a_closed_window_stays_closed_at_the_next_server() {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    let mut frame = client.frame("PA", &[], REQUEST);
    set_window(&mut frame, 0);
    farm.inject(&client, &frame);
    let mut client = client;
    client.seq += REQUEST.len() as u32;
    let bound = owner(&mut farm, &client);
    assert_eq!(bound.0, 1);
    farm.take(&client);
    farm.read(bound);
    farm.write(bound, &[1; 3000]);
    farm.run(ms(5000));
    let sent = farm.take(&client);
    assert!(!sent.is_empty(), "the window is probed");
    assert!(sent.iter().all(|s| s.payload.is_empty()));
    farm.send(&client, "A", &[]);
    let sent = farm.take(&client);
    assert_eq!(sent.iter().map(|s| s.payload.len()).sum::<usize>(), 3000);
}

fn set_window(frame: &mut [u8], window: u16) {
    frame[48..50].copy_from_slice(&window.to_be_bytes());
    let (ip, tcp) = frame[14..].split_at_mut(20);
    tcp[16..18].copy_from_slice(&[0, 0]);
    let mut pseudo = ip[12..20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(&*tcp);
    let checksum = ipos_proto::internet_checksum(&pseudo);
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn a_large_body_goes_through() {
    let mut farm = Farm::pair();
    let mut client = about_to_move(&mut farm);
    let body: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    request(&mut farm, &mut client);
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
    let mut got = vec![];
    let mut n = 0u32;
    // Every ninth packet goes missing on Port B, and is sent again.
    farm.tap = Box::new(move |frame| {
        n += 1;
        let packet = frame.message.frame_type() == FrameType::Packet;
        if packet && n.is_multiple_of(9) {
            Pass::Lose
        } else {
            Pass::Deliver
        }
    });
    for piece in body.chunks(1400) {
        let mut tries = 0;
        while farm.devices[1]
            .endpoint(farm.now, bound.1)
            .unwrap()
            .readable()
            .is_empty()
        {
            assert!(tries < 5);
            tries += 1;
            farm.send(&client, "A", piece);
        }
        client.seq += piece.len() as u32;
        got.extend(farm.read(bound));
    }
    assert!(got == body, "every byte, once");
}

#[test]
fn two_hundred_flows_at_once() {
    let mut farm = Farm::round_robin(3);
    let mut n = 0u32;
    farm.tap = Box::new(move |_| {
        n += 1;
        match n % 10 {
            0 => Pass::Lose,
            1 => Pass::Twice,
            _ => Pass::Deliver,
        }
    });
    let clients: Vec<Client> = (0..200)
        .map(|i| farm.connect(i % 3, 5000 + u16::from(i)))
        .collect();
    for client in &clients {
        // Not pumped: all of them are under way together.
        let frame = client.frame("PA", &[], REQUEST);
        assert_eq!(farm.inject(client, &frame), Verdict::Consumed);
    }
    farm.run(ms(3000));
    let mut served = [0; 3];
    for client in &clients {
        let bound = owner(&mut farm, client);
        served[bound.0] += 1;
        assert_eq!(farm.read(bound), REQUEST);
        farm.write(bound, &client.port.to_be_bytes());
        let sent = farm.take(client);
        assert_eq!(payload(&sent), client.port.to_be_bytes());
        assert!(sent.iter().all(|s| s.hardware == mac(0xa, bound.0 as u8)));
    }
    assert!(served.iter().all(|n| *n > 20), "{served:?}");
}

/// TSval never goes back, and PAWS holds what it held, wherever the connection is.
#[test]
fn timestamps_go_on_across_three_servers() {
    let mut farm = Farm::round_robin(3);
    let stamp = |value: u32, echo: u32| {
        let mut option = vec![1, 1, 8, 10];
        option.extend(value.to_be_bytes());
        option.extend(echo.to_be_bytes());
        option
    };
    let told = |sent: &common::Sent| {
        let options = sent.header.options.as_slice();
        let at = options
            .windows(2)
            .position(|w| w == [8, 10])
            .expect("timestamps");
        let value = u32::from_be_bytes(options[at + 2..at + 6].try_into().unwrap());
        let echo = u32::from_be_bytes(options[at + 6..at + 10].try_into().unwrap());
        (value, echo)
    };
    let other = farm.connect(0, 4000);
    farm.send(&other, "PA", REQUEST);
    let mut client = farm.connect(0, 4001);
    farm.send(&client, "R", &[]);
    client.port = 4002;
    client.seq = ipos_proto::SeqNum::new(5000);
    let mut clock = 1_000_000;
    farm.send_with(&client, "S", &stamp(clock, 0), &[]);
    let syn_ack = farm.take(&client).remove(0);
    let (mut ours, echo) = told(&syn_ack);
    assert_eq!(echo, clock);
    client.opened_by(&syn_ack);
    farm.send_with(&client, "A", &stamp(clock, ours), &[]);
    let mut visited = vec![];
    for turn in 0..6 {
        clock += 500;
        farm.send_with(&client, "PA", &stamp(clock, ours), REQUEST);
        client.seq += REQUEST.len() as u32;
        let bound = owner(&mut farm, &client);
        visited.push(bound.0);
        assert_eq!(farm.read(bound), REQUEST, "turn {turn}");
        farm.take(&client);
        farm.write(bound, b"answer");
        let sent = farm.take(&client);
        let (value, echo) = told(&sent[0]);
        assert!(value.wrapping_sub(ours) < 60_000, "{value} after {ours}");
        assert_eq!(echo, clock);
        ours = value;
        client.ack += 6;
        farm.send_with(&client, "A", &stamp(clock, ours), &[]);
        // An old segment is no new one, here as anywhere.
        let before = farm.take(&client).len();
        farm.send_with(&client, "PA", &stamp(clock - 1000, ours), b"forged");
        let sent = farm.take(&client);
        assert_eq!((before, sent.len()), (0, 1), "a duplicate acknowledgment");
        assert_eq!(sent[0].header.acknowledgment_number, client.seq.raw());
        let mut endpoint = farm.devices[bound.0].endpoint(farm.now, bound.1).unwrap();
        assert!(endpoint.readable().is_empty());
        endpoint.set_quiet(true);
        let to = format!("s{}", (bound.0 + 1) % 3 + 1);
        endpoint.migrate(Some(&to)).unwrap();
        farm.run(ms(300));
    }
    for at in 0..3 {
        assert!(visited.contains(&at), "{visited:?}");
    }
}
