//! However a client's bytes are cut, and whatever follows the head, the reading is the same.

use ipos_content::{Inspector, Kinds, REQUEST_MAX, Reading};
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

/// What a client sends, with some bytes changed, and something behind it.
fn altered() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..3);
    (select(CLIENTS.to_vec()), changes, noise()).prop_map(|(client, changes, rest)| {
        let mut bytes = client.to_vec();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        [bytes, rest].concat()
    })
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
        bytes in prop_oneof![noise(), altered()],
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
}
