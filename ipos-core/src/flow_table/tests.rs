use core::net::{Ipv4Addr, SocketAddrV4};

use ipos_proto::ENCAPSULATION_LEN;

use super::*;

/// The flow of a client's port.
fn flow(port: u16) -> Flow {
    let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), port);
    Flow::tcp(client, SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 80))
}

/// A table with a forward record for each of these ports; and their places.
fn table<const N: usize>(ports: [u16; N]) -> (FlowTable, [u32; N]) {
    let mut table = FlowTable::new(1);
    let keys = ports.map(|port| insert(&mut table, port));
    (table, keys)
}

fn insert(table: &mut FlowTable, port: u16) -> u32 {
    let headers = [0; ENCAPSULATION_LEN];
    let forwarding = Forwarding::new(Instant::ZERO, headers, Epoch::new(1), 1);
    table.insert(flow(port), Record::Forward(forwarding))
}

fn look_ahead(table: &mut FlowTable, ports: &[u16]) {
    table.look_ahead(&ports.iter().map(|&port| flow(port)).collect());
}

#[test]
fn what_was_looked_ahead_for_is_handed_on() {
    let (mut table, [a, b, c, d]) = table([1, 2, 3, 4]);
    look_ahead(&mut table, &[1, 9, 2, 3, 4]);
    assert_eq!(table.ahead.keys[..], [a, b, c, d]);
    let mut found = |port, next| {
        let key = table.find_next(&flow(port));
        assert_eq!(table.ahead.next, next, "{port}");
        key
    };
    assert_eq!(found(1, 1), Some(a));
    assert_eq!(found(9, 1), None, "unknown");
    // The frame of 2 was dropped.
    assert_eq!(found(3, 3), Some(c));
    assert_eq!(found(1, 3), Some(a), "it comes once more");
    assert_eq!(found(4, 4), Some(d));
    assert_eq!(found(2, 4), Some(b), "late");
}

#[test]
fn a_place_that_is_used_again_is_another_flows() {
    let (mut table, [a]) = table([1]);
    look_ahead(&mut table, &[1]);
    table.remove(a);
    assert_eq!(insert(&mut table, 2), a);
    assert_eq!(table.find_next(&flow(1)), None);
    assert_eq!(table.find_next(&flow(2)), Some(a));
}
