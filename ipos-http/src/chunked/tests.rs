use alloc::format;
use alloc::string::String;

use super::*;

/// What is behind the body, if it is whole; however it is cut.
fn rest(body: &str) -> Result<Option<String>, Opaque> {
    let whole = {
        let mut chunks = Chunks::new();
        let rest = chunks.take(body.as_bytes());
        rest.map(|rest| {
            chunks
                .is_complete()
                .then(|| String::from_utf8_lossy(rest).into_owned())
        })
    };
    let mut chunks = Chunks::new();
    let mut rest = String::new();
    let mut bytes = body.as_bytes().chunks(1);
    let pieces = bytes.try_for_each(|byte| {
        let left = chunks.take(byte)?;
        rest.push_str(&String::from_utf8_lossy(left));
        Ok(())
    });
    assert_eq!(
        whole,
        pieces.map(|()| chunks.is_complete().then_some(rest)),
        "{body:?}"
    );
    whole
}

#[test]
fn whole_bodies() {
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
        "1;name=value;flag\r\nx\r\n0;last\r\n\r\n",
        "1 ;name=\"a b\"\r\nx\r\n0 \r\n\r\n",
        "0\r\nDigest: x\r\nB:\r\n\r\n",
        "0000000000000001\r\nx\r\n0\r\n\r\n",
    ] {
        assert_eq!(rest(body), Ok(Some(String::new())));
        assert_eq!(
            rest(&format!("{body}GET /")),
            Ok(Some(String::from("GET /")))
        );
        for end in 0..body.len() {
            assert_eq!(rest(&body[..end]), Ok(None));
        }
    }
    assert_eq!(rest("ffffffffffffffff\r\nx"), Ok(None));
}

#[test]
fn what_is_in_doubt() {
    for body in [
        "\r\n",
        " 5\r\nhello\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        "5\nhello",
        "5;a\nhello",
        "5\r\rhello",
        "5\r\nhello0\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "00000000000000001\r\n",
        "0\r\n\n",
        "0\r\nA: x\n\r\n",
        "0\r\nA: x\r\r\n",
        "0\r\n\rA",
    ] {
        assert_eq!(rest(body), Err(Opaque::Malformed), "{body:?}");
    }
}

#[test]
fn lines_are_bounded() {
    let line = |extension: usize| format!("0;{}\r\n\r\n", "x".repeat(extension));
    assert_eq!(rest(&line(LINE_MAX - 2)), Ok(Some(String::new())));
    assert_eq!(rest(&line(LINE_MAX - 1)), Err(Opaque::HeadTooLong));
    let trailers = |count: usize| format!("0\r\n{}\r\n", "ABC: xyz\r\n".repeat(count));
    assert_eq!(rest(&trailers(HEAD_MAX / 10)), Ok(Some(String::new())));
    assert_eq!(rest(&trailers(HEAD_MAX / 10 + 1)), Err(Opaque::HeadTooLong));
}
