//! The first bytes of a client: no panic, and the same reading at once and in pieces. The first byte says what is looked
//! for, the second how long the pieces are.

#![no_main]

use ipos_content::{Inspector, Kinds, REQUEST_MAX, Reading};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [kinds, piece, bytes @ ..] = data else {
        return;
    };
    let kinds = Kinds::from_bits_truncate(!kinds);
    let mut whole = Inspector::new(kinds, REQUEST_MAX);
    let whole = whole.inspect(bytes);
    let mut cut = Inspector::new(kinds, REQUEST_MAX);
    let mut told = false;
    let piece = usize::from(*piece) + 1;
    for end in (0..bytes.len()).step_by(piece).chain([bytes.len()]) {
        let reading = cut.inspect(&bytes[..end]);
        assert!(!told || reading == whole);
        told = reading != Reading::More;
        assert!(!told || reading == whole);
    }
    assert_eq!(told, whole != Reading::More);
    if let Reading::Request(request) = &whole {
        request.cookie("IPOSSESSION");
        assert!(request.path.is_empty() || request.path.starts_with(b"/"));
    }
});
