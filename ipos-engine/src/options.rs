//! What an engine is told, and what it tells.

use std::time::Duration;

use ipos_backend::Refused;

/// How an engine runs. [`Options::default`] gives the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// Frames taken from one port before the next port's turn.
    pub burst: usize,
    /// Name of the interface that most responses leave by, Port A's or Port C's: its link speed is the upper bound of the free bandwidth that the server tells.
    pub interface: Option<String>,
    /// Link speed in bits per second where the kernel knows none (virtual interfaces).
    pub assumed_speed: u64,
    /// How long a client may leave its half of a connection open once the application has closed.
    pub half_close: Duration,
    /// How often each TCP application is asked whether it answers, and how long it may take to; `None`: not before it has refused a
    /// client's connection. One that does not takes its server out for its listening socket, and is asked more often until it does.
    pub health: Option<Duration>,
    /// How long the loop looks for work before it sleeps. Zero: not at all; [`Duration::MAX`]: it never sleeps, and its processor is its own.
    /// What comes within this time needs no wake-up.
    pub linger: Duration,
    /// The processor that [`Engine::run`](crate::Engine::run) binds its thread to.
    pub cpu: Option<usize>,
    /// How long an application behind an address may take to accept a connection, to a second: then it has refused it. And how
    /// long a refused connection waits for another server, or for the application. Then its client gets RST.
    pub patience: Duration,
}

impl Default for Options {
    /// Bursts of 64 frames, 10 Gbit/s, 60 s, no checks, sleeps at once on any processor, 3 s.
    fn default() -> Options {
        Options {
            burst: 64,
            interface: None,
            assumed_speed: 10_000_000_000,
            half_close: Duration::from_secs(60),
            health: None,
            linger: Duration::ZERO,
            cpu: None,
            patience: Duration::from_secs(3),
        }
    }
}

/// What an engine did beside what its device counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets for another server that were lost because the transmit queue was full.
    pub forward_full: u64,
    /// Packets for another server that were larger than its port carries.
    pub forward_oversize: u64,
    /// Endpoints that were reset because their application could not be reached.
    pub refused: u64,
    /// Endpoints that are joined to an application now.
    pub bridges: usize,
    /// Endpoints that are joined to an application in this process now.
    pub sockets: usize,
    /// Datagrams that found no application, or were too long for their client.
    pub datagrams_lost: u64,
}

impl Statistics {
    pub(crate) fn lose(&mut self, why: Refused) {
        match why {
            Refused::Full => self.forward_full += 1,
            Refused::Oversize => self.forward_oversize += 1,
        }
    }
}
