//! How ready a server is to take connections.

/// How ready a server is: from nothing to fully, in steps of 1/65536.
///
/// ```
/// use ipos_balance::Readiness;
///
/// let half = Readiness::new(1, 2);
/// assert_eq!(half.and(half), Readiness::new(1, 4));
/// assert_eq!(half.and(Readiness::FULL), half);
/// assert_eq!(half.and(Readiness::NONE), Readiness::NONE);
/// assert!(half < Readiness::FULL);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Readiness(u32);

impl Readiness {
    /// The server takes its whole part.
    pub const FULL: Self = Self(1 << 16);
    /// The server takes nothing. It is still one of the candidates: that another one takes its
    /// part does not make [`Maglev`](crate::Maglev) build a new table.
    pub const NONE: Self = Self(0);
    /// 1/64: the least that [`SlowStart`](crate::SlowStart) and [`Health`](crate::Health) leave
    /// to a server, so that it is tried now and then.
    pub const LEAST: Self = Self(Self::FULL.0 >> 6);

    /// `part / whole`, rounded down; full where that is 1 or more, or `whole` is 0.
    pub const fn new(part: u64, whole: u64) -> Self {
        if part >= whole {
            return Self::FULL;
        }
        // Less than 2^16, as part < whole.
        Self((((part as u128) << 16) / whole as u128) as u32)
    }

    /// Ready in two respects: the product. It is `NONE` only if one of them is.
    pub const fn and(self, other: Self) -> Self {
        let product = ((self.0 as u64 * other.0 as u64) >> 16) as u32;
        if product == 0 && self.0 > 0 && other.0 > 0 {
            return Self(1);
        }
        Self(product)
    }

    /// From 0.0 to 1.0.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::FULL.0)
    }

    /// From 0 to 65536.
    pub(crate) const fn parts(self) -> u64 {
        self.0 as u64
    }

    /// Divided by two `times` times.
    pub(crate) const fn halved(self, times: u32) -> Self {
        Self(if times < u32::BITS {
            self.0 >> times
        } else {
            0
        })
    }
}

/// [`FULL`](Self::FULL).
impl Default for Readiness {
    fn default() -> Self {
        Self::FULL
    }
}
