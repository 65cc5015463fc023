use alloc::string::String;

use loona_hpack::{Decoder, Encoder};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(block: &[u8]) -> Option<Pairs> {
    let fields = Fields::decode(block).ok()?;
    let pair = |field: &Field| {
        (
            fields.text(&field.name).into(),
            fields.text(&field.value).into(),
        )
    };
    Some(fields.fields.iter().map(pair).collect())
}

/// Bytes in hexadecimal.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|char| char.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

fn pairs(text: &[(&str, &str)]) -> Option<Pairs> {
    let pairs = text
        .iter()
        .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()));
    Some(pairs.collect())
}

#[test]
fn examples_of_rfc_7541_appendix_c() {
    for (block, fields) in [
        (
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            &[("custom-key", "custom-header")][..],
        ),
        (
            "040c 2f73 616d 706c 652f 7061 7468",
            &[(":path", "/sample/path")],
        ),
        (
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            &[("password", "secret")],
        ),
        ("82", &[(":method", "GET")]),
        (
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ],
        ),
        (
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            &[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "www.example.com"),
            ],
        ),
    ] {
        assert_eq!(decode(&hex(block)), pairs(fields), "{block}");
    }
}

#[test]
fn fields_refer_to_those_before_them() {
    // Two are inserted, then named by index: the newest is 62.
    let block = [&b"\x40\x01a\x01b\x40\x01c\x01d"[..], b"\xBE\xBF\x7E\x01e"].concat();
    let fields = [("a", "b"), ("c", "d"), ("c", "d"), ("a", "b"), ("c", "e")];
    assert_eq!(decode(&block), pairs(&fields));
    // One that was not inserted is not there.
    assert_eq!(decode(b"\x00\x01a\x01b\xBE"), None);
    assert_eq!(decode(b"\x40\x01a\x01b\xBF"), None);
}

#[test]
fn the_dynamic_table_has_a_size() {
    // 68 bytes: two entries of 34. The third pushes out the first.
    let third = b"\x3F\x25\x40\x01a\x01b\x40\x01c\x01d\x40\x01e\x01f";
    assert!(decode(&[&third[..], b"\xBF"].concat()).is_some());
    assert_eq!(decode(&[&third[..], b"\xC0"].concat()), None);
    // Nothing fits in.
    assert_eq!(decode(b"\x20\x40\x01a\x01b\xBE"), None);
    // 4096 is all there is, and later than at the start nothing is resized.
    assert!(decode(b"\x3F\xE1\x1F\x82").is_some());
    assert_eq!(decode(b"\x3F\xE2\x1F\x82"), None);
    assert_eq!(decode(b"\x82\x20"), None);
}

#[test]
fn malformed_blocks() {
    for block in [
        "80",
        "ff",
        "ff ff ff ff ff 0f",
        "3f",
        "3f ff ff ff ff 0f",
        "40",
        "40 01",
        "40 01 61",
        "40 01 61 02 62",
        "00 ff",
        "be",
        "ff 80 80 80 80 00",
        // Padding of a whole byte, of zeros, and the end of the string.
        "00 01 61 82 1f ff",
        "00 01 61 81 18",
        "00 01 61 84 ff ff ff ff",
    ] {
        assert_eq!(decode(&hex(block)), None, "{block}");
    }
}

#[test]
fn a_small_block_stays_small() {
    let mut bomb = Vec::from(b"\x40\x01a\x7F\xA1\x1E");
    bomb.extend_from_slice(&[b'x'; 4000]);
    let many = |count| [&bomb[..], &[0xBE].repeat(count)].concat();
    let fields = Fields::decode(&many(FIELDS_MAX - 1)).unwrap();
    assert_eq!(
        fields.values(b"a").map(<[u8]>::len).sum::<usize>(),
        4000 * FIELDS_MAX
    );
    assert!(fields.text.capacity() <= 2 * bomb.len());
    assert!(Fields::decode(&many(FIELDS_MAX)).is_err());
}

/// What another decoder makes of a block; it knows no limit of fields.
fn oracle(block: &[u8]) -> Option<Pairs> {
    let mut decoder = Decoder::new();
    decoder.set_max_allowed_table_size(TABLE_MAX);
    decoder
        .decode(block)
        .ok()
        .filter(|fields| fields.len() <= FIELDS_MAX)
}

/// Coded as in RFC 7541 Appendix B, by the lengths' own table of codes.
fn coded(text: &[u8]) -> Vec<u8> {
    let mut codes = [(0_u32, 0_u8); 257];
    let mut next = 0_u32;
    for bits in 1..=30_u8 {
        next <<= 1;
        for (symbol, code) in codes.iter_mut().enumerate() {
            if huffman::BITS[symbol] == bits {
                *code = (next, bits);
                next += 1;
            }
        }
    }
    let bits = text.iter().flat_map(|&byte| {
        let (code, bits) = codes[usize::from(byte)];
        (0..bits).rev().map(move |bit| code >> bit & 1 == 1)
    });
    let bits: Vec<_> = bits.collect();
    let byte = |bits: &[bool]| {
        (0..8).fold(0, |byte, at| {
            byte << 1 | u8::from(*bits.get(at).unwrap_or(&true))
        })
    };
    bits.chunks(8).map(byte).collect()
}

#[test]
fn every_octet_is_decoded() {
    let text: Vec<_> = (0..=255).collect();
    for part in text.chunks(16) {
        let code = coded(part);
        let block = [&[0, 1, b'a', 0x80 | code.len() as u8], &*code].concat();
        assert_eq!(
            decode(&block),
            Some(alloc::vec![(b"a".to_vec(), part.to_vec())])
        );
        assert_eq!(decode(&block), oracle(&block));
    }
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        proptest::sample::select(&[":path", ":authority", "cookie", "host", "x-a"])
            .prop_map(|name| name.as_bytes().to_vec()),
        vec(any::<u8>(), 0..40),
    ];
    (
        name,
        prop_oneof![
            vec(any::<u8>(), 0..300),
            "[a-z=; /.]{0,60}".prop_map(String::into_bytes)
        ],
    )
}

/// Parts that blocks consist of, mostly whole.
fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| [byte].to_vec()),
        (0x80..=0xC4_u8).prop_map(|byte| [byte].to_vec()),
        Just(b"\x3F\x25".to_vec()),
        (
            proptest::sample::select(&[0x00_u8, 0x10, 0x40, 0x41, 0x7E]),
            "[a-z]{0,20}",
            any::<bool>()
        )
            .prop_map(|(first, text, huffman)| {
                let value = match huffman {
                    true => coded(text.as_bytes()),
                    false => text.clone().into_bytes(),
                };
                let value = [&[value.len() as u8 | u8::from(huffman) << 7], &*value].concat();
                let name = match first & 0x0F {
                    0 => [&[text.len() as u8], text.as_bytes()].concat(),
                    _ => Vec::new(),
                };
                [&[first], &*name, &*value].concat()
            }),
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(fields in vec(field(), 0..20)) {
        let block = Encoder::new().encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
        prop_assert_eq!(decode(&block), Some(fields));
    }

    #[test]
    fn any_block_is_as_the_oracle_says(parts in vec(part(), 0..20)) {
        // With a field at its end: the oracle minds a resize there, and no other.
        let block = [&parts.concat()[..], b"\x82"].concat();
        match (decode(&block), oracle(&block)) {
            (None, Some(_)) => prop_assert!(block.iter().any(|byte| (0x20..0x40).contains(byte))),
            (ours, theirs) => prop_assert_eq!(ours, theirs),
        }
    }
}
