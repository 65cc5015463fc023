//! The control side: what other threads ask of a running engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ipos_core::{Config, Device, Flow, Instant, ListenerId, MigrateError, Port, ReconfigureError};
use mio::Waker;

use crate::drain::{Drain, DrainStatus};
use crate::engine::Engine;
use crate::options::Statistics;

/// Commands that may wait. Full: [`ControlError::Busy`].
const WAITING: usize = 64;

type Command = Box<dyn FnOnce(&mut Operator<'_>) + Send>;

/// Reaches a running engine from any thread; any number of clones.
///
/// Commands run on the engine's thread between two turns, so what they read is one moment's state, and what they do is done
/// before the next frame. An engine carries no packets meanwhile: a command reads a bounded number of rows, and leaves.
///
/// ```
/// # fn asked(control: &ipos_engine::Control) -> Result<usize, Box<dyn std::error::Error>> {
/// let (answer, answered) = std::sync::mpsc::channel();
/// control.run(move |operator| {
///     // Who asks may be gone.
///     let _ = answer.send(operator.device().servers(operator.now()).len());
/// })?;
/// # Ok(answered.recv()?)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Control {
    commands: SyncSender<Command>,
    waker: Arc<Waker>,
}

/// Why a command does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// As many commands wait as may.
    #[error("the device has {WAITING} commands to do already: try again")]
    Busy,
    /// The engine is no more.
    #[error("the device has ended")]
    Ended,
}

impl Control {
    /// A channel of commands, whose engine `waker` wakes.
    pub(crate) fn new(waker: Arc<Waker>) -> (Control, Commands) {
        let (commands, waiting) = sync_channel(WAITING);
        (Control { commands, waker }, Commands(waiting))
    }

    /// Has `command` run on the engine's thread, soon. It carries the way back for its answer; when the engine ends first,
    /// it is dropped without having run.
    ///
    /// # Errors
    /// Too many wait, or the engine is no more.
    pub fn run(
        &self,
        command: impl FnOnce(&mut Operator<'_>) + Send + 'static,
    ) -> Result<(), ControlError> {
        let sent = self.commands.try_send(Box::new(command));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => ControlError::Busy,
            TrySendError::Disconnected(_) => ControlError::Ended,
        })?;
        if let Err(error) = self.waker.wake() {
            // The loop still looks at its next deadline, one Synch interval away at most.
            tracing::debug!(%error, "cannot wake the engine");
        }
        Ok(())
    }
}

/// Commands that wait.
pub(crate) struct Commands(Receiver<Command>);

impl Engine {
    /// By which other threads look at the engine, and operate it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs what waits.
    pub(crate) fn obey(&mut self, now: Instant) {
        for _ in 0..WAITING {
            let Ok(command) = self.commands.0.try_recv() else {
                return;
            };
            command(&mut Operator { engine: self, now });
        }
    }
}

/// What a running engine is told to go on with.
#[derive(Clone, Debug)]
pub struct Reload {
    /// The device's, whole.
    pub config: Config,
    /// The applications' addresses, by their listening sockets: the same ones that have an address now.
    pub applications: BTreeMap<ListenerId, SocketAddr>,
    /// Those of them that are told who their clients are ([`Application::Proxied`](crate::Application::Proxied)).
    pub proxied: BTreeSet<ListenerId>,
    /// As [`Options::health`](crate::Options::health).
    pub health: Option<Duration>,
}

/// A running engine, between two turns.
pub struct Operator<'a> {
    engine: &'a mut Engine,
    now: Instant,
}

impl Operator<'_> {
    /// The device.
    pub fn device(&self) -> &Device {
        &self.engine.device
    }

    /// The device's time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// What the engine did so far.
    pub fn statistics(&self) -> Statistics {
        self.engine.statistics()
    }

    /// What the backend of `port` did so far.
    pub fn port_statistics(&self, port: Port) -> ipos_backend::Statistics {
        self.engine.port_statistics(port)
    }

    /// The applications' addresses, by their listening sockets; those in this process have none.
    pub fn applications(&self) -> impl Iterator<Item = (ListenerId, SocketAddr)> {
        self.engine.host.applications()
    }

    /// Begins to drain ([`Device::drain`]): nothing new is taken while there are other servers, and connections move on at
    /// their next quiet point. Those that are still here after `deadline` are reset; without one they are waited for. Again:
    /// only the deadline is another.
    pub fn drain(&mut self, deadline: Option<Duration>) {
        let Engine { device, drain, .. } = &mut *self.engine;
        let deadline = deadline.map(|deadline| self.now + deadline);
        match drain {
            Some(drain) => drain.deadline = deadline,
            None => {
                device.drain(self.now, true);
                *drain = Some(Drain::begin(device, self.now, deadline));
            }
        }
    }

    /// Ends draining: this server is selected again.
    pub fn undrain(&mut self) {
        self.engine.device.drain(self.now, false);
        if self.engine.drain.take().is_some() {
            tracing::info!("draining ends: this server takes requests again");
        }
    }

    /// How far draining has come; `None`: it has not begun.
    pub fn drain_status(&self) -> Option<DrainStatus> {
        let drain = self.engine.drain.as_ref()?;
        Some(drain.status(&self.engine.device, self.now))
    }

    /// A connection shall move to the server named `to` ([`Device::migrate`]).
    ///
    /// # Errors
    /// The flow or the server is not known, or has no such application.
    pub fn migrate(&mut self, flow: &Flow, to: &str) -> Result<(), MigrateError> {
        self.engine.device.migrate(self.now, flow, to)
    }

    /// Goes on with another configuration ([`Device::reconfigure`]), other addresses of applications, and other checks of
    /// these. All connections go on, also those to applications that were elsewhere. What has changed, by its name in a
    /// configuration file.
    ///
    /// # Errors
    /// What may not change while the engine runs; nothing has changed then.
    pub fn reload(&mut self, reload: Reload) -> Result<Vec<&'static str>, ReconfigureError> {
        let Reload {
            config,
            applications,
            proxied,
            health,
        } = reload;
        let listeners = self.applications().map(|(listener, _)| listener);
        if !listeners.eq(applications.keys().copied()) {
            let field = "listen".into();
            return Err(ReconfigureError::Restart { field });
        }
        let mut changed = self.engine.device.reconfigure(config)?;
        let given = applications.iter().map(|(&listener, &app)| (listener, app));
        if !self.applications().eq(given) {
            changed.push("listen.app");
        }
        if !self.engine.host.proxied().eq(proxied.iter().copied()) {
            changed.push("listen.proxy_protocol");
        }
        if self.engine.health.interval() != health {
            changed.push("health.interval_ms");
        }
        self.engine
            .set_applications(self.now, applications, &proxied, health);
        Ok(changed)
    }
}
