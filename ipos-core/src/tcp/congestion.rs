//! Congestion control behind a trait (RFC 5681).

use core::fmt;

use super::cubic::Cubic;
use super::reno::Reno;
use crate::config::CongestionControl;
use crate::time::{Duration, Instant};

/// A congestion controller. All sizes in bytes.
pub(crate) trait Congestion: fmt::Debug {
    /// The congestion window.
    fn window(&self) -> u32;
    /// The slow-start threshold; `u32::MAX` = none yet.
    fn threshold(&self) -> u32;
    /// `acked` new bytes were acknowledged outside fast recovery, while the window was in use.
    fn on_ack(&mut self, now: Instant, acked: u32, srtt: Duration);
    /// A segment is lost; `in_flight` bytes were outstanding.
    fn on_loss(&mut self, in_flight: u32);
    /// The retransmission timer fired.
    fn on_timeout(&mut self, in_flight: u32);
    /// The connection was idle longer than a retransmission timeout (RFC 5681 §4.1).
    fn on_idle(&mut self);
    /// Goes (back) to these values.
    fn restore(&mut self, cwnd: u32, ssthresh: u32);
    /// Segments have another size from now on.
    fn set_mss(&mut self, mss: u16);
}

/// RFC 6928: ten segments.
pub(crate) fn initial_window(mss: u32) -> u32 {
    (10 * mss).min(14_600.max(2 * mss))
}

/// The controllers, held in place: an endpoint allocates nothing for its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Controller {
    Reno(Reno),
    Cubic(Cubic),
}

impl Controller {
    pub(crate) fn new(kind: CongestionControl, mss: u16) -> Controller {
        match kind {
            CongestionControl::Reno => Controller::Reno(Reno::new(mss)),
            CongestionControl::Cubic => Controller::Cubic(Cubic::new(mss)),
        }
    }

    /// Goes on from another server's values; the window is never beyond `bound`.
    pub(crate) fn resume(
        kind: CongestionControl,
        mss: u16,
        cwnd: u32,
        ssthresh: u32,
        bound: u32,
    ) -> Controller {
        let mut controller = Controller::new(kind, mss);
        let mss = u32::from(mss);
        controller
            .get_mut()
            .restore(cwnd.clamp(mss, bound.max(mss)), ssthresh.max(2 * mss));
        controller
    }

    /// Goes back to how it was before a reduction that was for nothing, unless the window is larger by now.
    pub(crate) fn go_back(&mut self, before: Controller) {
        if before.get().window() > self.get().window() {
            *self = before;
        }
    }

    pub(crate) fn get(&self) -> &dyn Congestion {
        match self {
            Controller::Reno(reno) => reno,
            Controller::Cubic(cubic) => cubic,
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut dyn Congestion {
        match self {
            Controller::Reno(reno) => reno,
            Controller::Cubic(cubic) => cubic,
        }
    }
}
