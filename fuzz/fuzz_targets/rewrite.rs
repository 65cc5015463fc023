//! A rewriter of any bytes: no panic, nothing but the added lines differs from what the application sends, the same
//! comes out however the bytes are cut, and an exchange of the same bytes comes to the same verdict. The sides take
//! turns, with a byte 0xFF between them.

#![no_main]

use ipos_http::{Exchange, HeadEnd, ResponseRewriter, SetCookie};
use libfuzzer_sys::fuzz_target;

/// What the application never sends by itself.
const LINE: &str = "Set-Cookie: ipos=3f9c1d";

#[derive(Default)]
struct Rewritten {
    rewriter: ResponseRewriter<bool>,
    out: Vec<u8>,
    added: usize,
}

impl Rewritten {
    fn handle(&mut self, from_client: bool, bytes: &[u8]) {
        if from_client {
            let note = |request: &ipos_http::Request<'_>| request.cookie("s").is_none();
            return self.rewriter.handle_request(bytes, note);
        }
        let cookie = SetCookie::builder("ipos", "3f9c1d").build().unwrap();
        let insert = |_: &_, to_add: bool, head: &mut HeadEnd<'_>| {
            if to_add {
                head.set_cookie(&cookie);
                self.added += 1;
            }
        };
        self.rewriter.handle_response(bytes, &mut self.out, insert);
    }

    /// What has come out without the added lines, and how many these were.
    fn without_lines(&self) -> (Vec<u8>, usize) {
        let (mut kept, mut rest, mut lines) = (Vec::new(), &self.out[..], 0);
        while let Some(at) = rest
            .windows(LINE.len())
            .position(|bytes| bytes == LINE.as_bytes())
        {
            kept.extend_from_slice(&rest[..at]);
            let behind = &rest[at + LINE.len()..];
            rest = (behind
                .strip_prefix(b"\r\n")
                .or_else(|| behind.strip_prefix(b"\n")))
            .unwrap();
            lines += 1;
        }
        kept.extend_from_slice(rest);
        (kept, lines)
    }
}

fuzz_target!(|data: &[u8]| {
    let turns = data.split(|&byte| byte == 0xFF);
    let application: Vec<_> = turns.clone().skip(1).step_by(2).collect();
    let application = application.concat();
    if application
        .windows(LINE.len())
        .any(|bytes| bytes == LINE.as_bytes())
    {
        return;
    }
    let [mut whole, mut cut] = [Rewritten::default(), Rewritten::default()];
    let mut exchange = Exchange::new();
    let mut sent = Vec::new();
    for (bytes, from_client) in turns.zip([true, false].into_iter().cycle()) {
        whole.handle(from_client, bytes);
        bytes
            .chunks(1)
            .for_each(|byte| cut.handle(from_client, byte));
        match from_client {
            true => exchange.handle_request(bytes),
            false => {
                exchange.handle_response(bytes);
                sent.extend_from_slice(bytes);
            }
        }
        assert_eq!(whole.out, cut.out);
        assert_eq!(whole.rewriter.opaque(), exchange.opaque());
        assert_eq!(whole.rewriter.is_at_rest(), exchange.is_at_rest());
        let passed = whole.without_lines().0;
        assert!(sent.starts_with(&passed));
        assert!(passed == sent || !exchange.is_at_rest());
    }
    for rewritten in [&mut whole, &mut cut] {
        rewritten.rewriter.finish(&mut rewritten.out);
        assert_eq!(rewritten.without_lines(), (sent.clone(), rewritten.added));
    }
});
