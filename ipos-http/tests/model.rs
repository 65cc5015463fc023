//! What is at rest is known from the messages' lengths.

mod common;

use common::{Timeline, message, noise, steps};
use ipos_http::Exchange;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_exactly_behind_each_complete_answer(
        messages in vec(message(), 1..50),
        steps in steps(),
    ) {
        let mut timeline = Timeline::new(&messages);
        let mut exchange = Exchange::new();
        prop_assert!(!exchange.is_at_rest());
        for (from_client, len) in steps {
            let bytes = timeline.step(from_client, len);
            match from_client {
                true => exchange.handle_request(bytes),
                false => exchange.handle_response(bytes),
            }
            prop_assert_eq!(exchange.opaque(), None, "{:?}", timeline);
            prop_assert_eq!(exchange.is_at_rest(), timeline.is_at_rest(), "{:?}", timeline);
        }
        prop_assert!(timeline.is_over() && exchange.is_at_rest());
    }

    #[test]
    fn any_bytes_are_the_same_however_cut(
        pieces in vec((any::<bool>(), noise()), 0..12),
    ) {
        let [mut whole, mut cut] = [Exchange::new(), Exchange::new()];
        for (from_client, bytes) in &pieces {
            let handle = match from_client {
                true => Exchange::handle_request,
                false => Exchange::handle_response,
            };
            handle(&mut whole, bytes);
            bytes.chunks(1).for_each(|byte| handle(&mut cut, byte));
            prop_assert_eq!(whole.is_at_rest(), cut.is_at_rest());
            prop_assert_eq!(whole.opaque(), cut.opaque());
            prop_assert!(!(whole.is_at_rest() && whole.opaque().is_some()));
        }
    }
}
