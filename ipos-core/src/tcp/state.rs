//! The states of a passive opener (RFC 9293 §3.3.2), and their transitions as values.

/// A connection's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// As RFC 9293 §3.3.2 writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
            State::Closed => "CLOSED",
        }
    }

    /// The application closes its side.
    pub(crate) fn on_close(self) -> State {
        match self {
            State::SynReceived | State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => self,
        }
    }

    /// The client's FIN has been reached.
    pub(crate) fn on_fin(self) -> State {
        match self {
            State::SynReceived | State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait
            | State::Closed => self,
        }
    }

    /// Our FIN is acknowledged.
    pub(crate) fn on_fin_acknowledged(self) -> State {
        match self {
            State::FinWait1 => State::FinWait2,
            State::Closing => State::TimeWait,
            State::LastAck => State::Closed,
            State::SynReceived
            | State::Established
            | State::FinWait2
            | State::CloseWait
            | State::TimeWait
            | State::Closed => self,
        }
    }

    /// Data may still come from the client.
    pub(crate) fn receives(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }

    /// The handshake is done and the connection has not ended.
    pub(crate) fn is_synchronized(self) -> bool {
        !matches!(self, State::SynReceived | State::Closed)
    }
}
