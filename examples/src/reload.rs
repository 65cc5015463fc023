//! SIGHUP: a running device reads its configuration file again.

use std::sync::mpsc::channel;
use std::time::Duration;

use ipos_core::ListenerId;
use ipos_engine::{Application, Control, Operator, Reload};

use crate::config::{FileConfig, FileError, Interfaces, Start};

/// The engine answers between two turns.
const PATIENCE: Duration = Duration::from_secs(5);

/// Knows what a device runs by, and gives it what its file says now.
pub struct Reloader {
    file: FileConfig,
    interfaces: Interfaces,
    start: Start,
    control: Control,
}

/// Why a device goes on as it was.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Control(#[from] ipos_engine::ControlError),
    #[error("the device does not answer")]
    Silent,
}

impl Reloader {
    /// The device runs by `file`.
    pub fn new(
        file: FileConfig,
        interfaces: Interfaces,
        start: Start,
        control: Control,
    ) -> Reloader {
        Reloader {
            file,
            interfaces,
            start,
            control,
        }
    }

    /// Reads the file again. What it says holds from now on, for all of it or for nothing; one line in the log says which.
    pub fn reload(&mut self) {
        match self.try_reload() {
            Ok(changed) if changed.is_empty() => tracing::info!("reloaded: nothing has changed"),
            Ok(changed) => tracing::info!("reloaded: {}", changed.join(", ")),
            Err(error) => tracing::error!("not reloaded, everything stays as it was: {error}"),
        }
    }

    fn try_reload(&mut self) -> Result<Vec<&'static str>, Refused> {
        let file = self.file.read_again()?;
        self.file.check_reload(&file)?;
        let applications = file.applications();
        let told = (0..).map(ListenerId).zip(&applications);
        let proxied = (told.clone()).filter(|(_, app)| matches!(app, Application::Proxied(_)));
        let reload = Reload {
            config: file.device(self.interfaces, self.start)?,
            applications: told
                .filter_map(|(listener, app)| Some((listener, app.address()?)))
                .collect(),
            proxied: proxied.map(|(listener, _)| listener).collect(),
            health: file.health(),
        };
        let (answer, answered) = channel();
        self.control.run(move |operator: &mut Operator<'_>| {
            let reloaded = operator.reload(reload);
            let servers = operator.device().servers(operator.now());
            let alive = servers.into_iter().filter(|server| server.alive);
            let names: Vec<String> = alive.map(|server| server.name).collect();
            // Who asked may not have waited.
            let _ = answer.send((reloaded, names));
        })?;
        let answer = answered.recv_timeout(PATIENCE);
        let (reloaded, alive) = answer.map_err(|_| Refused::Silent)?;
        let changed = reloaded.map_err(|error| file.error(error.field(), error.problem()))?;
        for (key, name) in file.servers() {
            if !alive.contains(&name) {
                tracing::warn!("{key}: no server `{name}` is up: it counts once it is");
            }
        }
        self.file = file;
        Ok(changed)
    }
}
