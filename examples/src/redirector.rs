//! A redirector device (FIG. 2A, 2D): stands apart from the farm, hears on the Synch LAN who lives, and tells each client
//! which server to connect to, by HTTP redirect or by DNS answer. It never says anything on the Synch LAN, so that no
//! server selects it.
//!
//! ```text
//!   Synch LAN ──► servers ──► choice ──┬──► redirect ──► http  302/307
//!                 (who lives) (policy) └──► answer   ──► dns   A
//! ```
//!
//! `servers`, `choice`, `redirect` and `answer` read no clock and open no socket; `http`, `dns` and `serve` do.

mod answer;
mod choice;
pub mod config;
mod dns;
mod http;
mod redirect;
mod reload;
pub(crate) mod serve;
mod servers;

use std::sync::{Mutex, PoisonError};

use ipos_core::Instant;
use ipos_engine::clock;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use answer::Zones;
use config::Settings;
use redirect::Groups;
use servers::Servers;

pub use reload::Reloader;
pub use serve::{Open, open, run};

/// All that a choice needs.
struct State {
    servers: Servers,
    groups: Groups,
    zones: Zones,
    rng: ChaCha8Rng,
}

/// What the listeners share.
struct Redirector {
    state: Mutex<State>,
    settings: Settings,
}

impl State {
    fn new(now: Instant, settings: &Settings, seed: u64) -> State {
        State {
            servers: Servers::new(now, settings),
            groups: Groups::new(&settings.groups),
            zones: Zones::new(settings.dns.as_ref()),
            rng: ChaCha8Rng::seed_from_u64(settings.seed.unwrap_or(seed)),
        }
    }
}

impl Redirector {
    fn new(mut settings: Settings, seed: u64) -> Redirector {
        let state = State::new(clock::now(), &settings, seed);
        // The table has it, and may get another one.
        settings.farm_key = None;
        Redirector {
            state: Mutex::new(state),
            settings,
        }
    }

    /// Does `work` with the state, now. A panic elsewhere leaves nothing half done that would matter to the next choice.
    fn with<T>(&self, work: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state, clock::now())
    }
}

#[cfg(test)]
mod tests;
