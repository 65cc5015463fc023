//! The thread that a device of a farm in one process runs on.

use std::panic::resume_unwind;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use ipos_engine::Stop;

use crate::farm::FarmError;

/// What the thread comes to.
pub(crate) type Ended = Result<(), String>;

/// A device's thread; dropped, it ends.
#[derive(Debug)]
pub(crate) struct DeviceThread {
    name: String,
    stop: Stop,
    thread: Option<JoinHandle<Ended>>,
}

impl DeviceThread {
    /// Waits until the engine of this server's device has started.
    ///
    /// # Errors
    /// The thread has ended without one.
    pub(crate) fn started(
        name: &str,
        thread: JoinHandle<Ended>,
        engine: &Receiver<Stop>,
    ) -> Result<DeviceThread, FarmError> {
        match engine.recv() {
            Ok(stop) => Ok(DeviceThread {
                name: name.to_owned(),
                stop,
                thread: Some(thread),
            }),
            Err(_) => Err(failure(name, Some(thread))),
        }
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What errors call the device.
    pub(crate) fn part(&self) -> String {
        part(&self.name)
    }

    /// Whether the thread is not there any more: [`DeviceThread::failure`] says why.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end of a thread that nobody has stopped: why that is.
    pub(crate) fn failure(&mut self) -> FarmError {
        failure(&self.name, self.thread.take())
    }

    /// Lets the device leave the farm.
    ///
    /// # Errors
    /// It failed before.
    pub(crate) fn stop(mut self) -> Result<(), FarmError> {
        self.stop.stop();
        let thread = self.thread.take();
        thread.map_or(Ok(()), |thread| join(&self.name, thread))
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        self.stop.stop();
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => tracing::error!(name = self.name, %error, "a device failed"),
            Some(Err(_)) => tracing::error!(name = self.name, "a device panicked"),
        }
    }
}

/// What errors call the device of this server.
pub(crate) fn part(name: &str) -> String {
    format!("device of {name}")
}

fn failure(name: &str, thread: Option<JoinHandle<Ended>>) -> FarmError {
    let joined = thread.and_then(|thread| join(name, thread).err());
    joined.unwrap_or_else(|| FarmError::Failed {
        part: part(name),
        what: "ended".to_owned(),
    })
}

fn join(name: &str, thread: JoinHandle<Ended>) -> Result<(), FarmError> {
    let ended = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
    ended.map_err(FarmError::of(part(name)))
}
