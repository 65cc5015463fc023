//! SIGHUP: a redirector reads its farm key again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Redirector;
use super::config::{self, FileError, Settings};

/// Gives a redirector that runs the farm key that its files have now.
pub struct Reloader {
    path: PathBuf,
    redirector: Arc<Redirector>,
}

impl Reloader {
    /// The redirector runs by the file at `path`.
    pub(super) fn new(path: &Path, redirector: Arc<Redirector>) -> Reloader {
        Reloader {
            path: path.to_owned(),
            redirector,
        }
    }

    /// Reads the files again. The key may change, nothing else; one line in the log says what has come of it.
    pub fn reload(&self) {
        match self.try_reload() {
            Ok(false) => tracing::info!("reloaded: nothing has changed"),
            Ok(true) => tracing::info!("reloaded: security.farm_key_file"),
            Err(error) => tracing::error!("not reloaded, everything stays as it was: {error}"),
        }
    }

    /// Whether the key has changed.
    pub(super) fn try_reload(&self) -> Result<bool, FileError> {
        let mut settings = config::read(&self.path)?;
        if let Some(key) = fixed(&self.redirector.settings, &settings) {
            return Err(FileError::new(&self.path, key, "needs a restart"));
        }
        let farm_key = settings.farm_key.take();
        Ok(self
            .redirector
            .with(|state, _| state.servers.set_farm_key(farm_key)))
    }
}

/// The first section that differs, of those that cannot change while a redirector runs.
fn fixed(old: &Settings, new: &Settings) -> Option<&'static str> {
    // A new field does not compile until it is said whether it may change.
    let Settings {
        interface,
        port,
        interval,
        http,
        groups,
        dns,
        slow_start,
        seed,
        servers,
        connections,
        silent,
        lifetime,
        farm_key: _,
    } = old;
    let same = [
        ("synch.interface", *interface == new.interface),
        ("synch.port", *port == new.port),
        ("synch.interval_ms", *interval == new.interval),
        ("http", *http == new.http),
        ("group", *groups == new.groups),
        ("dns", *dns == new.dns),
        ("balance.slow_start_ms", *slow_start == new.slow_start),
        ("balance.seed", *seed == new.seed),
        ("limits.servers", *servers == new.servers),
        ("limits.connections", *connections == new.connections),
        ("limits.silent_ms", *silent == new.silent),
        ("limits.lifetime_ms", *lifetime == new.lifetime),
    ];
    same.into_iter()
        .find_map(|(key, same)| (!same).then_some(key))
}
