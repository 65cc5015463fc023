//! The device's own TCP (FIG. 8, protocol stack thread): passive open, sans-IO, and a control block
//! that can be exported and imported.
//!
//! ```text
//!   segment --> Endpoint::handle --> Receive (reassembly, window)   --> readable / consume
//!                     |             Transmit (sequence space, buffer) <-- write / shutdown
//!                     |             Rtt, Congestion, Timers
//!                     +--> Endpoint::poll --> Outgoing
//!   Endpoint::export --> control block --> Endpoint::import
//! ```

mod congestion;
mod cubic;
mod delivery;
mod endpoint;
mod flight;
mod input;
mod migrate;
mod output;
mod receive;
mod recovery;
mod reno;
mod ring;
mod rtt;
pub(crate) mod segment;
mod state;
#[cfg(test)]
mod tests;
mod timeout;
mod timers;
mod transmit;
mod window;

pub(crate) use endpoint::{BufferLimits, Endpoint, Open, timestamp_clock};
pub(crate) use input::{Outcome, reset_for};
pub(crate) use migrate::Replay;
pub(crate) use segment::{Flags, Options, Outgoing, Segment, Timestamp};
pub(crate) use state::State;
pub(crate) use window::{Window, WindowScale};
