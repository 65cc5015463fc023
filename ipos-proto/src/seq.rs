//! Sequence numbers and ownership epochs.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number (RFC 9293 §3.4): a point on a circle of 2³².
///
/// There is no `Ord`: the order of sequence numbers is that of the shorter way round, which is
/// not transitive over the whole circle. [`lt`](Self::lt) and its like compare that way.
///
/// ```
/// use ipos_proto::SeqNum;
///
/// let last = SeqNum::new(u32::MAX);
/// let next = last + 2;
/// assert_eq!(next, SeqNum::new(1));
/// assert!(last.lt(next));
/// assert_eq!(next.since(last), 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(u32);

impl SeqNum {
    /// The sequence number with this value.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Its value.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// How far `self` is ahead of `other`, in bytes of sequence space; negative when behind.
    ///
    /// Two numbers exactly half the circle apart give `i32::MIN` either way: each counts as
    /// before the other.
    pub const fn since(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Before `other` in sequence order.
    pub const fn lt(self, other: Self) -> bool {
        self.since(other) < 0
    }

    /// Before or at `other` in sequence order.
    pub const fn le(self, other: Self) -> bool {
        self.since(other) <= 0
    }

    /// After `other` in sequence order.
    pub const fn gt(self, other: Self) -> bool {
        self.since(other) > 0
    }

    /// After or at `other` in sequence order.
    pub const fn ge(self, other: Self) -> bool {
        self.since(other) >= 0
    }

    /// The later of the two in sequence order.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.ge(other) { self } else { other }
    }

    /// The earlier of the two in sequence order.
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if self.le(other) { self } else { other }
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;

    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;

    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The ownership epoch of a connection: 1 at its first migration, one more at each further one.
///
/// ```
/// use ipos_proto::Epoch;
///
/// assert!(Epoch::new(1).next() > Epoch::new(1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u32);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// Its number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The epoch after one more migration. It saturates: no connection moves 2³² times.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Epoch, SeqNum};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_is_that_of_the_shorter_way(start: u32, ahead in 1u32..0x8000_0000) {
            let a = SeqNum::new(start);
            let b = a + ahead;
            prop_assert!(a.lt(b) && a.le(b) && !a.gt(b) && !a.ge(b));
            prop_assert!(b.gt(a) && b.ge(a) && !b.lt(a) && !b.le(a));
            prop_assert_eq!(b.since(a), ahead as i32);
            prop_assert_eq!(a.since(b), -(ahead as i32));
            prop_assert_eq!((a.max(b), b.max(a), a.min(b), b.min(a)), (b, b, a, a));
            prop_assert_eq!(b - ahead, a);
        }
    }

    #[test]
    fn equal_numbers_are_neither_before_nor_after() {
        let a = SeqNum::new(7);
        assert!(a.le(a) && a.ge(a) && !a.lt(a) && !a.gt(a));
        assert_eq!(a.since(a), 0);
    }

    #[test]
    fn half_the_circle_away_is_before_either_way() {
        let (a, b) = (SeqNum::new(0), SeqNum::new(0x8000_0000));
        assert_eq!((a.since(b), b.since(a)), (i32::MIN, i32::MIN));
    }

    #[test]
    fn epochs_saturate() {
        assert_eq!(Epoch::default().next(), Epoch::new(1));
        assert_eq!(Epoch::new(u32::MAX).next(), Epoch::new(u32::MAX));
    }
}
