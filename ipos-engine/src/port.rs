//! One port of the device: a backend, and what the loop remembers about it.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use ipos_backend::{Backend, Frame, Refused};
use ipos_core::{Device, Port, Transmit};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::error::{EngineError, port_name};

/// The ports of a device.
pub struct Ports {
    /// Clients.
    pub a: Box<dyn Backend>,
    /// The other servers.
    pub b: Box<dyn Backend>,
    /// State.
    pub synch: Box<dyn Backend>,
    /// Clients on a second LAN, where the device is configured so.
    pub c: Option<Box<dyn Backend>>,
}

/// A backend with what the loop knows of it.
pub(crate) struct PortState {
    pub(crate) name: Port,
    pub(crate) backend: Box<dyn Backend>,
    /// Frames may wait. Readiness is told once (edge), so this stays set until a receive found less than it asked for.
    pub(crate) ready: bool,
    /// The backend has no readiness descriptor: it is asked every so often.
    pub(crate) polled: bool,
    /// The transmit queue was full even after a flush.
    pub(crate) blocked: bool,
    /// Bytes received and transmitted.
    pub(crate) bytes: [u64; 2],
    /// The backend takes bursts.
    pub(crate) bursts: bool,
    /// Frames were queued since the last flush.
    queued: bool,
    /// The interface is down, and that was said.
    down: bool,
    /// Frames were lost on receive, and that was said.
    lossy: bool,
}

impl PortState {
    pub(crate) fn new(
        name: Port,
        backend: Box<dyn Backend>,
        token: Token,
        registry: &Registry,
    ) -> Result<PortState, EngineError> {
        let polled = match backend.readiness() {
            None => true,
            Some(descriptor) => {
                registry
                    .register(
                        &mut SourceFd(&descriptor.as_raw_fd()),
                        token,
                        Interest::READABLE,
                    )
                    .map_err(EngineError::Poll)?;
                false
            }
        };
        // What came before the registration gives no edge.
        Ok(PortState {
            name,
            bursts: backend.cuts_bursts(),
            backend,
            ready: true,
            polled,
            blocked: false,
            bytes: [0; 2],
            queued: false,
            down: false,
            lossy: false,
        })
    }

    /// Queues one frame made of two parts.
    pub(crate) fn put(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let len = headers.len() + payload.len();
        self.queue(len, |backend| backend.transmit(headers, payload))
    }

    /// Queues one frame made of `headers` and a part of a frame that another port lends.
    pub(crate) fn forward(
        &mut self,
        frame: &mut dyn Frame,
        headers: &[u8],
        payload: Range<usize>,
    ) -> Result<(), Refused> {
        let len = headers.len() + payload.len();
        self.queue(len, |backend| {
            backend.forward(frame, headers, payload.clone())
        })
    }

    /// Queues one frame of `len` bytes; the queue is flushed where that makes room.
    fn queue(
        &mut self,
        len: usize,
        mut offer: impl FnMut(&mut dyn Backend) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut queued = offer(&mut *self.backend);
        if queued == Err(Refused::Full) {
            self.queued = true;
            self.flush_or_note();
            queued = offer(&mut *self.backend);
        }
        self.blocked = queued == Err(Refused::Full);
        queued?;
        self.bytes[1] += len as u64;
        self.queued = true;
        Ok(())
    }

    /// A buffer for the next frame; the queue is flushed where that makes room.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.backend.burst_buffer().is_none() {
            self.queued = true;
            self.flush_or_note();
        }
        let room = self.backend.burst_buffer();
        self.blocked = room.is_none();
        room
    }

    /// Queues the frame that was built in the buffer.
    pub(crate) fn commit(&mut self, frame: Transmit) {
        let Transmit { len, burst } = frame;
        match burst {
            None => self.backend.commit(len),
            Some(ipos_core::Burst { transport, segment }) => {
                self.backend
                    .commit_burst(len, ipos_backend::Burst { transport, segment });
            }
        }
        self.bytes[1] += len as u64;
        self.queued = true;
    }

    /// Hands queued frames to the interface.
    pub(crate) fn flush(&mut self) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.queued) {
            return Ok(());
        }
        let result = self.backend.flush();
        if self.judge(result)?.is_some() {
            self.down = false;
        }
        Ok(())
    }

    /// A flush whose fatal error, if any, comes again at the next call.
    fn flush_or_note(&mut self) {
        if let Err(error) = self.flush() {
            tracing::debug!(%error, "flush failed");
            self.queued = true;
        }
    }

    /// Tells `device` which frames come with the next burst.
    pub(crate) fn announce(&mut self, burst: usize, device: &mut Device) {
        let name = self.name;
        self.backend
            .peek(burst, &mut |frame| device.expect_frame(name, frame));
        device.look_ahead();
    }

    /// Receives up to `burst` frames; how many.
    pub(crate) fn receive(
        &mut self,
        burst: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> Result<usize, EngineError> {
        let mut bytes = 0;
        let result = self.backend.receive(burst, &mut |frame| {
            bytes += frame.bytes().len() as u64;
            sink(frame);
        });
        self.bytes[0] += bytes;
        let received = self.judge(result)?.unwrap_or(0);
        // Fewer than were asked for: the port is empty, and tells of what comes now.
        self.ready = received >= burst;
        self.down &= received == 0;
        Ok(received)
    }

    /// Says once that the interface loses frames because they are not taken fast enough.
    pub(crate) fn look_at_losses(&mut self) {
        let lost = self.backend.statistics().receive_dropped;
        if lost > 0 && !std::mem::replace(&mut self.lossy, true) {
            tracing::warn!(
                port = port_name(self.name),
                lost,
                "frames come faster than they are taken, or larger than the MTU"
            );
        }
    }

    /// Separates an interface that is down, which may come up again, from a port that is lost.
    fn judge<T>(&mut self, result: io::Result<T>) -> Result<Option<T>, EngineError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NetworkDown | io::ErrorKind::Interrupted
                ) =>
            {
                if error.kind() == io::ErrorKind::NetworkDown
                    && !std::mem::replace(&mut self.down, true)
                {
                    tracing::warn!(
                        port = port_name(self.name),
                        "the interface is down; waiting until it is up"
                    );
                }
                Ok(None)
            }
            Err(source) => Err(EngineError::Port {
                port: self.name,
                source,
            }),
        }
    }
}

/// Frames that go back through the port they came from: they wait here for the end of the burst,
/// while the port lends its receive buffers.
///
/// The space for a whole burst is reserved at the start; a frame that does not fit is refused.
pub(crate) struct Relay {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Relay {
    /// Room for `burst` frames of `frame` bytes.
    pub(crate) fn new(burst: usize, frame: usize) -> Relay {
        Relay {
            bytes: Vec::with_capacity(burst.saturating_mul(frame)),
            frames: Vec::with_capacity(burst),
        }
    }

    /// Keeps one frame made of two parts.
    pub(crate) fn push(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let start = self.bytes.len();
        let end = start + headers.len() + payload.len();
        if end > self.bytes.capacity() || self.frames.len() == self.frames.capacity() {
            return Err(Refused::Full);
        }
        self.bytes.extend_from_slice(headers);
        self.bytes.extend_from_slice(payload);
        self.frames.push(start..end);
        Ok(())
    }

    /// Queues all kept frames on `port`, and hands every refusal to `refused`.
    pub(crate) fn drain(&mut self, port: &mut PortState, mut refused: impl FnMut(Refused)) {
        for range in self.frames.drain(..) {
            if let Err(why) = port.put(&self.bytes[range], &[]) {
                refused(why);
            }
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests;
