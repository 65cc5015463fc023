//! The one clock that engines and devices share.

use std::sync::OnceLock;
use std::time::Instant as Monotonic;

use ipos_core::Instant;

/// Time as the engines of this process tell it: microseconds of the monotonic clock since the
/// first call. A device that an engine will run is made with this moment too.
pub fn now() -> Instant {
    static ORIGIN: OnceLock<Monotonic> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Monotonic::now).elapsed();
    Instant::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_back() {
        let mut last = now();
        for _ in 0..1000 {
            let next = now();
            assert!(next >= last);
            last = next;
        }
    }
}
