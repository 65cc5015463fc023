//! What a server sends first: no panic, and the same is told at once and in pieces. The first byte says how long the
//! pieces are.

#![no_main]

use ipos_content::{REQUEST_MAX, ServerFlight};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [piece, bytes @ ..] = data else {
        return;
    };
    let [mut whole, mut cut] = [ServerFlight::new(), ServerFlight::new()];
    let [mut told, mut told_in_pieces] = [Vec::new(), Vec::new()];
    whole.handle(bytes, |id| told.push(id.to_vec()));
    for piece in bytes.chunks(usize::from(*piece) + 1) {
        let (was_over, before) = (cut.is_over(), told_in_pieces.len());
        cut.handle(piece, |id| told_in_pieces.push(id.to_vec()));
        assert!(!was_over || (cut.is_over() && told_in_pieces.len() == before));
    }
    assert_eq!(told, told_in_pieces);
    assert_eq!(whole.is_over(), cut.is_over());
    // A session id, then a ticket.
    assert!(told.len() <= 2);
    assert!(told.iter().all(|id| !id.is_empty()));
    assert!(told.len() < 2 || told[0].len() <= 32);
    assert!(whole.is_over() || bytes.len() <= REQUEST_MAX);
});
