//! An exchange of any bytes: no panic, and the same verdict however they are cut. The sides take turns, with a byte 0xFF
//! between them.

#![no_main]

use ipos_http::Exchange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [mut whole, mut cut] = [Exchange::new(), Exchange::new()];
    let turns = [Exchange::handle_request, Exchange::handle_response];
    for (bytes, handle) in data.split(|&byte| byte == 0xFF).zip(turns.iter().cycle()) {
        let was_opaque = whole.opaque();
        handle(&mut whole, bytes);
        bytes.chunks(1).for_each(|byte| handle(&mut cut, byte));
        assert_eq!(whole.is_at_rest(), cut.is_at_rest());
        assert_eq!(whole.opaque(), cut.opaque());
        assert!(was_opaque.is_none() || whole.opaque() == was_opaque);
        assert!(whole.opaque().is_none() || !whole.is_at_rest());
    }
});
