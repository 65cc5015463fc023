use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::*;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
const BASE64: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn parse(text: &str) -> Result<FarmKey, String> {
    text.parse()
        .map_err(|error: FarmKeyError| error.to_string())
}

/// The tag of `key` on a message.
fn tag(key: &FarmKey) -> [u8; TAG_LEN] {
    let mut message = *b"what is said....................";
    key.sign(&mut message);
    *message.last_chunk().unwrap()
}

fn verifies(key: &FarmKey, tag: &[u8; TAG_LEN]) -> bool {
    key.verify(b"what is said....", tag)
}

#[test]
fn both_ways_to_write_a_key() {
    let key = FarmKey::new(core::array::from_fn(|i| i as u8));
    for text in [
        HEX,
        BASE64,
        BASE64.trim_end_matches('='),
        &format!("# of the farm\n\n  {HEX}  \r\n"),
    ] {
        assert_eq!(parse(text), Ok(key.clone()), "{text}");
    }
}

#[test]
fn what_is_no_key() {
    let unreadable = |line| {
        format!(
            "line {line} is not a key: 32 bytes as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` makes them"
        )
    };
    let missing = "has no key: make one with `openssl rand -hex 32`";
    assert_eq!(parse(""), Err(missing.into()));
    assert_eq!(parse("# nothing yet\n"), Err(missing.into()));
    let long = format!("{HEX}00");
    for text in [
        &HEX[1..],
        &long,
        &HEX.replace('1', "g"),
        "password",
        &BASE64[..40],
    ] {
        assert_eq!(parse(text), Err(unreadable(1)), "{text}");
    }
    assert_eq!(
        parse(&format!("# new\n{HEX}\n{BASE64}x")),
        Err(unreadable(3))
    );
    let five = [HEX; 5].join("\n");
    let most = "line 5 is a further key: 4 at most are accepted at a time";
    assert_eq!(parse(&five), Err(most.into()));
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", parse(HEX).unwrap()), "FarmKey(1 key)");
    assert_eq!(
        format!("{:?}", parse(&[HEX; 2].join("\n"))),
        "Ok(FarmKey(2 keys))"
    );
}

/// Computed with another implementation: Python's `hmac`.
#[test]
fn tags_are_hmac_sha_256() {
    let tag = tag(&parse(HEX).unwrap());
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "d6801d514d94684f96bf412f2e75d1d9");
}

#[test]
fn only_the_right_tag_verifies() {
    let key = parse(HEX).unwrap();
    let right = tag(&key);
    assert!(verifies(&key, &right));
    for bit in 0..8 * TAG_LEN {
        let mut wrong = right;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert!(!verifies(&key, &wrong), "bit {bit}");
    }
    assert!(!key.verify(b"what is said:...", &right));
}

/// The first key signs; all are accepted, whatever their order.
#[test]
fn further_keys_are_accepted() {
    let [a, b] = [[1; 32], [2; 32]].map(FarmKey::new);
    let text = |order: [u8; 2]| -> FarmKey {
        let lines: Vec<String> = order
            .iter()
            .map(|key| format!("{key:02x}").repeat(32))
            .collect();
        lines.join("\n").parse().unwrap()
    };
    let (ab, ba) = (text([1, 2]), text([2, 1]));
    assert_ne!(ab, ba);
    assert_eq!((tag(&ab), tag(&ba)), (tag(&a), tag(&b)));
    for both in [&ab, &ba] {
        for one in [&a, &b] {
            assert!(verifies(both, &tag(one)));
        }
    }
    assert!(!verifies(&a, &tag(&b)));
}

/// What is shorter than a tag cannot have one.
#[test]
fn a_message_without_room_stays_as_it_is() {
    let mut short = [7; TAG_LEN - 1];
    FarmKey::new([1; 32]).sign(&mut short);
    assert_eq!(short, [7; TAG_LEN - 1]);
}
