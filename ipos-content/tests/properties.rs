//! However bytes are cut, and whatever follows a client's head, the reading is the same.

use ipos_content::{Inspector, Kinds, REQUEST_MAX, Reading, ServerFlight};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const CLIENTS: &[&[u8]] = &[
    include_bytes!("clients/openssl-records.bin"),
    include_bytes!("clients/openssl-resumed-tls1_2.bin"),
    include_bytes!("clients/openssl-resumed-tls1_3.bin"),
    include_bytes!("clients/rustls.bin"),
    include_bytes!("clients/curl-h1.bin"),
    include_bytes!("clients/curl-h2.bin"),
];

const SERVERS: &[&[u8]] = &[
    include_bytes!("servers/openssl-ticket.bin"),
    include_bytes!("servers/openssl-ticket-resumed.bin"),
    include_bytes!("servers/openssl-id.bin"),
    include_bytes!("servers/openssl-tls1_3.bin"),
    include_bytes!("servers/nginx-ticket.bin"),
];

/// Parts of heads of HTTP/1.x, in any order.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        &b"GET /a HTTP/1.1\r\n"[..],
        b"GET http://a/ HTTP/1.0\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x03\x01\x04\0\0\0\x01\x82\x84\x86",
        b"\0\0\x02\x01\0\0\0\0\x01\x82\x84",
        b"\0\0\x01\x09\x04\0\0\0\x01\x86",
        b"Host: a.example\r\n",
        b"Cookie: a=b\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x16\x03\x01",
        b"abcdefghijklmnopqrstuvwxyz",
    ];
    let part = prop_oneof![
        5 => select(parts.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(part, 0..10).prop_map(|parts| parts.concat())
}

/// What one of them sends, with some bytes changed, and something behind it.
fn altered(senders: &[&'static [u8]]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..3);
    (select(senders.to_vec()), changes, noise()).prop_map(|(sender, changes, rest)| {
        let mut bytes = sender.to_vec();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        [bytes, rest].concat()
    })
}

/// What a server sends, its first handshake messages in records of other lengths.
fn recut(server: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut messages, mut rest) = (Vec::new(), server);
    while let [22, 3, _, high, low, behind @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let (fragment, behind) = behind.split_at(len.min(behind.len()));
        messages.extend(fragment);
        rest = behind;
    }
    let (mut recut, mut messages) = (Vec::new(), &messages[..]);
    for len in lengths.iter().cycle() {
        if messages.is_empty() {
            break;
        }
        let (fragment, behind) = messages.split_at(messages.len().min(*len));
        recut.extend([22, 3, 3]);
        recut.extend((fragment.len() as u16).to_be_bytes());
        recut.extend(fragment);
        messages = behind;
    }
    [&recut, rest].concat()
}

fn record_lengths() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![1..6_usize, 1..2000_usize], 1..9)
}

fn flight() -> impl Strategy<Value = Vec<u8>> {
    let altered_and_recut = (altered(SERVERS), record_lengths());
    prop_oneof![
        1 => noise(),
        2 => altered(SERVERS),
        2 => altered_and_recut.prop_map(|(server, lengths)| recut(&server, &lengths)),
    ]
}

/// What a flight has told so far, and whether it is over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    ids: Vec<Vec<u8>>,
    over: bool,
}

impl Told {
    fn handle(&mut self, flight: &mut ServerFlight, bytes: &[u8]) {
        flight.handle(bytes, |id| self.ids.push(id.to_vec()));
        self.over = flight.is_over();
    }
}

fn kinds() -> impl Strategy<Value = Kinds> {
    prop_oneof![4 => Just(Kinds::all()), 1 => (0..8_u8).prop_map(Kinds::from_bits_truncate)]
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(REQUEST_MAX), 1 => 0..2000_usize]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_cuts_give_the_same_reading(
        bytes in prop_oneof![noise(), altered(CLIENTS)],
        kinds in kinds(),
        limit in limit(),
        lengths in vec(prop_oneof![1..4_usize, 1..400_usize], 1..20),
    ) {
        let mut inspector = Inspector::new(kinds, limit);
        let mut end = 0;
        let mut lengths = lengths.iter().cycle();
        let mut told = None;
        while end < bytes.len() {
            end = bytes.len().min(end + lengths.next().unwrap());
            let reading = inspector.inspect(&bytes[..end]);
            let mut at_once = Inspector::new(kinds, limit);
            prop_assert_eq!(&reading, &at_once.inspect(&bytes[..end]), "{}", end);
            // Once told, it is told for good.
            if reading != Reading::More {
                told.get_or_insert(end);
            }
            prop_assert_eq!(told.is_some(), reading != Reading::More);
            if let Some(first) = told {
                let mut earlier = Inspector::new(kinds, limit);
                prop_assert_eq!(reading, earlier.inspect(&bytes[..first]));
            }
        }
    }

    #[test]
    fn any_cuts_of_a_flight_tell_the_same(
        bytes in flight(),
        lengths in vec(prop_oneof![1..4_usize, 1..400_usize], 1..20),
    ) {
        let (mut flight, mut told) = (ServerFlight::new(), Told::default());
        let mut end = 0;
        let mut lengths = lengths.iter().cycle();
        while end < bytes.len() {
            let start = end;
            end = bytes.len().min(end + lengths.next().unwrap());
            told.handle(&mut flight, &bytes[start..end]);
            let mut at_once = Told::default();
            at_once.handle(&mut ServerFlight::new(), &bytes[..end]);
            prop_assert_eq!(&told, &at_once, "{}", end);
        }
        prop_assert!(told.ids.len() <= 2);
        prop_assert!(told.ids.iter().all(|id| !id.is_empty()));
    }

    #[test]
    fn other_records_tell_the_same(server in select(SERVERS.to_vec()), lengths in record_lengths()) {
        let [mut told, mut expected] = [Told::default(), Told::default()];
        told.handle(&mut ServerFlight::new(), &recut(server, &lengths));
        expected.handle(&mut ServerFlight::new(), server);
        prop_assert_eq!(told, expected);
    }
}
