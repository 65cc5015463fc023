//! The host's side of an endpoint (FIG. 13).

use super::Device;
use super::moves::MigrateError;
use crate::event::EndpointId;
use crate::flow::Flow;
use crate::time::Instant;

/// One endpoint, lent to the host.
///
/// Calls never block. After them [`Device::poll_transmit`] may have something.
#[derive(Debug)]
pub struct Endpoint<'a> {
    device: &'a mut Device,
    now: Instant,
    id: EndpointId,
}

impl Device {
    /// The endpoint that an [`Event::Bound`](crate::Event::Bound) named; `None` once the host has closed it or it has failed.
    pub fn endpoint(&mut self, now: Instant, id: EndpointId) -> Option<Endpoint<'_>> {
        self.stack.resolve(id)?;
        Some(Endpoint {
            device: self,
            now,
            id,
        })
    }
}

impl Endpoint<'_> {
    /// The connection's flow: who the client is, and the address it connected to.
    pub fn flow(&self) -> Option<Flow> {
        self.device.stack.get(self.id.index).map(|slot| slot.flow)
    }

    /// Bytes from the client that wait, in order. It may be less than all of them: what lies behind shows after
    /// [`Endpoint::consume`]. None while the endpoint is offered to another server: they may be for that one.
    pub fn readable(&self) -> &[u8] {
        self.device
            .stack
            .get(self.id.index)
            .filter(|slot| !slot.muted)
            .map_or(&[], |slot| slot.tcp.readable())
    }

    /// The host has taken the first `n` readable bytes.
    pub fn consume(&mut self, n: usize) {
        self.device.hear_request(self.now, self.id.index, n);
        self.device
            .with_endpoint(self.now, self.id.index, |slot, _| {
                slot.quiet &= n == 0;
                slot.tcp.consume(n);
            });
    }

    /// The client has closed its side, and every byte of it was consumed.
    pub fn is_finished(&self) -> bool {
        self.device
            .stack
            .get(self.id.index)
            .is_some_and(|slot| !slot.muted && slot.tcp.is_finished())
    }

    /// Bytes that [`Endpoint::write`] would take now.
    pub fn writable(&self) -> usize {
        self.device
            .stack
            .get(self.id.index)
            .filter(|slot| !slot.muted)
            .map_or(0, |slot| slot.tcp.writable())
    }

    /// Takes as much of `data` as there is room for; how much. When that is less than all,
    /// [`Event::Writable`](crate::Event::Writable) comes once there is room again.
    pub fn write(&mut self, data: &[u8]) -> usize {
        self.device.speak(self.now, self.id.index, data)
    }

    /// [`Event::Writable`](crate::Event::Writable) shall come once there is room, without a write.
    pub fn want_writable(&mut self) {
        self.device.stack.want_writable(self.id.index);
    }

    /// The application is between two requests, or is no more: it has answered everything that it has read, and a
    /// fresh instance of it on another server could go on. Only then may the endpoint move. [`Endpoint::consume`]
    /// ends it.
    pub fn set_quiet(&mut self, quiet: bool) {
        if let Some(slot) = self.device.stack.get_mut(self.id.index) {
            slot.quiet = quiet;
        }
        self.device.try_leave(self.now, self.id.index);
    }

    /// The endpoint shall move to the server named `to`, or to the one that selection finds, at its next quiet point, with
    /// what has come of the next request and was not consumed. When it has, [`Event::Left`](crate::Event::Left) comes; a server that does not take it leaves it here.
    ///
    /// # Errors
    /// There is no such live server, or it has no such application.
    pub fn migrate(&mut self, to: Option<&str>) -> Result<(), MigrateError> {
        self.device.wish(self.now, self.id.index, to)
    }

    /// As [`Endpoint::migrate`], to one of the servers named, which selection chooses now. Where that is this server the
    /// endpoint stays.
    ///
    /// # Errors
    /// None of them lives and serves the endpoint's service.
    pub fn migrate_among(&mut self, servers: &[&str]) -> Result<(), MigrateError> {
        self.device.wish_among(self.now, self.id.index, servers)
    }

    /// No more writes: the client sees the end of the stream behind what was written. Reading goes on.
    pub fn shutdown(&mut self) {
        self.device.take_back(self.now, self.id.index);
        self.device.end_speech(self.now, self.id.index);
        self.device
            .with_endpoint(self.now, self.id.index, |slot, _| slot.tcp.shutdown());
    }

    /// The host is done: what was written still goes out, then the connection ends by itself. Bytes that the host
    /// has not consumed are answered with RST, as a host does (RFC 2525 §2.17).
    pub fn close(self) {
        let now = self.now;
        self.device.take_back(now, self.id.index);
        self.device.end_speech(now, self.id.index);
        self.device.with_endpoint(now, self.id.index, |slot, tcp| {
            slot.attached = false;
            slot.tcp.close(now, tcp);
        });
    }

    /// RST.
    pub fn abort(self) {
        self.device.take_back(self.now, self.id.index);
        self.device
            .with_endpoint(self.now, self.id.index, |slot, _| {
                slot.attached = false;
                slot.tcp.abort();
            });
    }
}
