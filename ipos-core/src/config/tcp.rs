//! The TCP endpoint's parameters.

use crate::time::Duration;

/// The TCP endpoint's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The MSS announced: leaves room for the encapsulation on Port B.
    pub mss: u16,
    /// Shift of the windows we announce, where the client offers scaling.
    pub window_scale: u8,
    /// Bound of an endpoint's receive buffer, in bytes; 2 MB at most: what servers say of a connection is told from what they say of
    /// others of the client's port by the place in its stream, within 4 MB.
    pub receive_buffer: usize,
    /// Bound of an endpoint's send buffer, in bytes.
    pub send_buffer: usize,
    /// Delay of a delayed acknowledgement.
    pub delayed_ack: Duration,
    /// Least retransmission timeout.
    pub min_rto: Duration,
    /// Greatest retransmission timeout.
    pub max_rto: Duration,
    /// Retransmissions of one segment before the connection fails.
    pub retries: u8,
    /// Retransmissions of a SYN-ACK before the endpoint is dropped.
    pub syn_retries: u8,
    /// How long TIME-WAIT lasts (2 MSL).
    pub time_wait: Duration,
    /// How long FIN-WAIT-2 lasts once the application has closed.
    pub fin_wait_2: Duration,
    /// The congestion controller.
    pub congestion: CongestionControl,
    /// Keep-alive probes to silent clients (RFC 9293 §3.8.4); by default after two hours, as hosts do.
    pub keep_alive: Option<KeepAlive>,
    /// A connection that has been silent for so long is reset; never by default.
    pub idle: Option<Duration>,
}

/// Congestion controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

/// Keep-alive (RFC 1122 §4.2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Probes without an answer after which the connection has failed.
    pub probes: u8,
}

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp {
            mss: 1444,
            window_scale: 7,
            receive_buffer: 256 * 1024,
            send_buffer: 512 * 1024,
            delayed_ack: Duration::from_millis(40),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(60),
            retries: 12,
            syn_retries: 5,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
            congestion: CongestionControl::default(),
            keep_alive: Some(KeepAlive {
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                probes: 9,
            }),
            idle: None,
        }
    }
}
