//! The 140-byte control block inside FIG. 11D.

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::{CONTROL_BLOCK_LEN, Epoch, Layer, SeqNum, WireError};

const VERSION: u8 = 1;
const MAX_SCALE: u8 = 14;
const MIN_MSS: u16 = 64;

/// Offsets of the fields that an importer judges.
mod at {
    pub(super) const VERSION: usize = 0;
    pub(super) const STATE: usize = 1;
    pub(super) const SND_WSCALE: usize = 8;
    pub(super) const RCV_WSCALE: usize = 9;
    pub(super) const SND_MSS: usize = 12;
    pub(super) const RCV_MSS: usize = 14;
    pub(super) const SND_NXT: usize = 24;
    pub(super) const SND_MAX: usize = 28;
    pub(super) const RCV_ADV: usize = 72;
    pub(super) const TIMER: usize = 108;
}

/// State of a TCP connection (RFC 9293 §3.3.2); an endpoint in LISTEN or CLOSED never migrates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// SYN received and answered, the answer not acknowledged yet.
    SynReceived = 1,
    /// Open both ways.
    Established = 2,
    /// We closed first; our FIN is not acknowledged yet.
    FinWait1 = 3,
    /// We closed first; our FIN is acknowledged.
    FinWait2 = 4,
    /// The client closed first; we have not closed yet.
    CloseWait = 5,
    /// Both closed at once; our FIN is not acknowledged yet.
    Closing = 6,
    /// The client closed first, then we; our FIN is not acknowledged yet.
    LastAck = 7,
    /// Both closed; waiting for stray segments.
    TimeWait = 8,
}

impl TcpState {
    /// The state with this number in the control block, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::SynReceived),
            2 => Some(Self::Established),
            3 => Some(Self::FinWait1),
            4 => Some(Self::FinWait2),
            5 => Some(Self::CloseWait),
            6 => Some(Self::Closing),
            7 => Some(Self::LastAck),
            8 => Some(Self::TimeWait),
            _ => None,
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        })
    }
}

/// The one timer that runs on a connection when it is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Timer {
    /// No timer runs.
    #[default]
    None = 0,
    /// Retransmission (RFC 6298).
    Retransmission = 1,
    /// Zero-window probe (RFC 9293 §3.8.6.1).
    Persist = 2,
    /// Keep-alive (RFC 9293 §3.8.4).
    KeepAlive = 3,
    /// TIME-WAIT.
    TwoMsl = 4,
}

impl Timer {
    /// The timer with this number in the control block, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::None),
            1 => Some(Self::Retransmission),
            2 => Some(Self::Persist),
            3 => Some(Self::KeepAlive),
            4 => Some(Self::TwoMsl),
            _ => None,
        }
    }
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Retransmission => "retransmission",
            Self::Persist => "persist",
            Self::KeepAlive => "keep-alive",
            Self::TwoMsl => "2MSL",
        })
    }
}

bitflags::bitflags! {
    /// What was agreed on a connection and what it has seen. Unknown bits are kept as they came.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct ControlFlags: u16 {
        /// Window scale on (RFC 7323 §2).
        const WINDOW_SCALE = 0x0001;
        /// SACK permitted (RFC 2018).
        const SACK_PERMITTED = 0x0002;
        /// Timestamps on (RFC 7323 §3).
        const TIMESTAMPS = 0x0004;
        /// Explicit congestion notification (RFC 3168).
        const ECN = 0x0008;
        /// The client's FIN has been received.
        const FIN_RECEIVED = 0x0010;
        /// Our FIN has been sent.
        const FIN_SENT = 0x0020;
        /// A delayed ACK is owed.
        const DELAYED_ACK = 0x0040;
        /// The endpoint was bound to an application before.
        const BOUND = 0x0080;
        const _ = !0;
    }
}

/// Everything that one device must know to go on with a connection of another: the fields of
/// FIG. 11D, and what TCP needs besides. Times are durations, never readings of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ControlBlock {
    /// State of the connection.
    pub state: TcpState,
    /// Options agreed and events seen.
    pub flags: ControlFlags,
    /// Ownership epoch: 1 at the first migration.
    pub epoch: Epoch,
    /// Shift, in bits, of the windows that the client announces.
    pub snd_wscale: u8,
    /// Shift, in bits, of the windows that we announce.
    pub rcv_wscale: u8,
    /// Duplicate ACKs in a row.
    pub dupacks: u8,
    /// Retransmission back-off exponent.
    pub rxtshift: u8,
    /// Largest segment that we send, bytes.
    pub snd_mss: u16,
    /// What our SYN-ACK announced, bytes.
    pub rcv_mss: u16,
    /// Initial send sequence number.
    pub iss: SeqNum,
    /// Oldest byte that is not acknowledged.
    pub snd_una: SeqNum,
    /// Next byte to send.
    pub snd_nxt: SeqNum,
    /// Highest byte sent, plus one.
    pub snd_max: SeqNum,
    /// The client's window, bytes, scaled.
    pub snd_wnd: u32,
    /// Sequence number of the segment that last updated `snd_wnd`.
    pub snd_wl1: SeqNum,
    /// Acknowledgement number of the segment that last updated `snd_wnd`.
    pub snd_wl2: SeqNum,
    /// Largest window that the client has announced, bytes.
    pub max_sndwnd: u32,
    /// Congestion window, bytes.
    pub cwnd: u32,
    /// Slow start threshold, bytes; `0xFFFF_FFFF` = none yet.
    pub ssthresh: u32,
    /// `snd_max` when recovery began (RFC 6582).
    pub recover: SeqNum,
    /// Initial receive sequence number.
    pub irs: SeqNum,
    /// Next byte expected.
    pub rcv_nxt: SeqNum,
    /// Our window, bytes, scaled.
    pub rcv_wnd: u32,
    /// Right edge announced; never moves left.
    pub rcv_adv: SeqNum,
    /// Last acknowledgement number sent.
    pub last_ack_sent: SeqNum,
    /// Smoothed round-trip time, µs; 0 = no sample.
    pub srtt: u32,
    /// Round-trip time variation, µs.
    pub rttvar: u32,
    /// Retransmission timeout, µs.
    pub rto: u32,
    /// Smallest round-trip time seen, µs.
    pub rtt_min: u32,
    /// The client's last TSval, as sent.
    pub ts_recent: u32,
    /// Age of `ts_recent`, ms.
    pub ts_recent_age: u32,
    /// TSval that we would send now, ms ticks; the importer goes on from it.
    pub tsval: u32,
    /// Running timer.
    pub timer: Timer,
    /// Time left on it, ms, saturating.
    pub timer_left: u16,
    /// Time since the last segment received, ms.
    pub idle: u32,
    /// Receive urgent pointer.
    pub rcv_up: SeqNum,
    /// 0x01 have out-of-band byte, 0x02 had it.
    pub oob_flags: u8,
    /// The out-of-band byte.
    pub oob_byte: u8,
}

impl ControlBlock {
    /// Reads a control block and does all that an importer must before it installs it, as
    /// [`validate`](Self::validate). Bytes after the 140th are not looked at.
    ///
    /// # Errors
    ///
    /// Fewer than 140 bytes, an unknown version, state or timer, or a field that does not hold.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes, Layer::ControlBlock, CONTROL_BLOCK_LEN)?;
        let version = r.u8()?;
        if version != VERSION {
            return Err(invalid(at::VERSION, "version", "1", version));
        }
        let state = r.u8()?;
        let state =
            TcpState::from_u8(state).ok_or_else(|| invalid(at::STATE, "state", "1 to 8", state))?;
        let block = Self {
            state,
            flags: ControlFlags::from_bits_retain(r.u16()?),
            epoch: Epoch::new(r.u32()?),
            snd_wscale: r.u8()?,
            rcv_wscale: r.u8()?,
            dupacks: r.u8()?,
            rxtshift: r.u8()?,
            snd_mss: r.u16()?,
            rcv_mss: r.u16()?,
            iss: r.seq()?,
            snd_una: r.seq()?,
            snd_nxt: r.seq()?,
            snd_max: r.seq()?,
            snd_wnd: r.u32()?,
            snd_wl1: r.seq()?,
            snd_wl2: r.seq()?,
            max_sndwnd: r.u32()?,
            cwnd: r.u32()?,
            ssthresh: r.u32()?,
            recover: r.seq()?,
            irs: r.seq()?,
            rcv_nxt: r.seq()?,
            rcv_wnd: r.u32()?,
            rcv_adv: r.seq()?,
            last_ack_sent: r.seq()?,
            srtt: r.u32()?,
            rttvar: r.u32()?,
            rto: r.u32()?,
            rtt_min: r.u32()?,
            ts_recent: r.u32()?,
            ts_recent_age: r.u32()?,
            tsval: r.u32()?,
            timer: {
                let [timer, _zero] = r.array()?;
                Timer::from_u8(timer).ok_or_else(|| invalid(at::TIMER, "timer", "0 to 4", timer))?
            },
            timer_left: r.u16()?,
            idle: r.u32()?,
            rcv_up: r.seq()?,
            oob_flags: r.u8()?,
            oob_byte: r.u8()?,
        };
        block.validate()?;
        Ok(block)
    }

    /// Whether the fields agree with each other: scales ≤ 14, MSS ≥ 64,
    /// `snd_una` ≤ `snd_nxt` ≤ `snd_max`, `rcv_nxt` ≤ `rcv_adv` in sequence order.
    ///
    /// # Errors
    ///
    /// The first field, in the order of the table, that does not hold.
    pub fn validate(&self) -> Result<(), WireError> {
        let scale = |offset, field, shift: u8| match shift {
            0..=MAX_SCALE => Ok(()),
            _ => Err(invalid(offset, field, "at most 14", shift)),
        };
        let mss = |offset, field, bytes: u16| match bytes {
            MIN_MSS.. => Ok(()),
            _ => Err(invalid(offset, field, "at least 64", bytes)),
        };
        let order = |offset, field, required, first: SeqNum, then: SeqNum| match then.since(first) {
            0.. => Ok(()),
            _ => Err(invalid(offset, field, required, then.raw())),
        };
        scale(at::SND_WSCALE, "snd_wscale", self.snd_wscale)?;
        scale(at::RCV_WSCALE, "rcv_wscale", self.rcv_wscale)?;
        mss(at::SND_MSS, "snd_mss", self.snd_mss)?;
        mss(at::RCV_MSS, "rcv_mss", self.rcv_mss)?;
        let Self {
            snd_una,
            snd_nxt,
            snd_max,
            rcv_nxt,
            rcv_adv,
            ..
        } = *self;
        order(
            at::SND_NXT,
            "snd_nxt",
            "at or after snd_una",
            snd_una,
            snd_nxt,
        )?;
        order(
            at::SND_MAX,
            "snd_max",
            "at or after snd_nxt",
            snd_nxt,
            snd_max,
        )?;
        // Two steps may add up to more than half the circle.
        order(
            at::SND_MAX,
            "snd_max",
            "at or after snd_una",
            snd_una,
            snd_max,
        )?;
        order(
            at::RCV_ADV,
            "rcv_adv",
            "at or after rcv_nxt",
            rcv_nxt,
            rcv_adv,
        )
    }

    /// The block's bytes, as it is: [`validate`](Self::validate) is not applied.
    pub fn to_bytes(&self) -> [u8; CONTROL_BLOCK_LEN] {
        // Exhaustive on purpose: a new field must find its place on the wire.
        let Self {
            state,
            flags,
            epoch,
            snd_wscale,
            rcv_wscale,
            dupacks,
            rxtshift,
            snd_mss,
            rcv_mss,
            iss,
            snd_una,
            snd_nxt,
            snd_max,
            snd_wnd,
            snd_wl1,
            snd_wl2,
            max_sndwnd,
            cwnd,
            ssthresh,
            recover,
            irs,
            rcv_nxt,
            rcv_wnd,
            rcv_adv,
            last_ack_sent,
            srtt,
            rttvar,
            rto,
            rtt_min,
            ts_recent,
            ts_recent_age,
            tsval,
            timer,
            timer_left,
            idle,
            rcv_up,
            oob_flags,
            oob_byte,
        } = *self;
        let mut out = [0; CONTROL_BLOCK_LEN];
        let mut w = Writer::new(&mut out);
        w.u8(VERSION)
            .u8(state as u8)
            .u16(flags.bits())
            .u32(epoch.raw());
        w.u8(snd_wscale)
            .u8(rcv_wscale)
            .u8(dupacks)
            .u8(rxtshift)
            .u16(snd_mss)
            .u16(rcv_mss);
        // Output (send) sequence variables.
        w.seq(iss).seq(snd_una).seq(snd_nxt).seq(snd_max);
        w.u32(snd_wnd).seq(snd_wl1).seq(snd_wl2).u32(max_sndwnd);
        w.u32(cwnd).u32(ssthresh).seq(recover);
        // Receive sequence variables.
        w.seq(irs)
            .seq(rcv_nxt)
            .u32(rcv_wnd)
            .seq(rcv_adv)
            .seq(last_ack_sent);
        // Transmit timing variables.
        w.u32(srtt).u32(rttvar).u32(rto).u32(rtt_min);
        w.u32(ts_recent).u32(ts_recent_age).u32(tsval);
        w.u8(timer as u8).u8(0).u16(timer_left).u32(idle);
        // Out-of-band variables; the last 18 bytes stay zero.
        w.seq(rcv_up).u8(oob_flags).u8(oob_byte);
        out
    }
}

fn invalid(
    offset: usize,
    field: &'static str,
    required: &'static str,
    actual: impl Into<u64>,
) -> WireError {
    WireError::value(Layer::ControlBlock, offset, field, required, actual)
}
