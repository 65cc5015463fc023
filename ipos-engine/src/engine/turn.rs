//! What one turn of the loop does: frames in, figures, events, frames out.

use ipos_core::{DropReason, Event, Forward, Instant, Load, Port, Transmit, Verdict};

use super::{Engine, HOUSEKEEPING};
use crate::error::EngineError;
use crate::load::Figures;
use crate::port::PortState;

/// Bytes transmitted through one port before the others' turn; a frame counts as so many at least.
const TRANSMIT_TURN: usize = 1024 * 1024;
const TRANSMIT_FRAME: usize = 2048;
/// So many frames with a wrong TCP or UDP checksum between two looks are no accident.
const BAD_CHECKSUMS: u64 = 20;

impl Engine {
    /// One burst of one port.
    pub(super) fn receive(&mut self, index: usize, now: Instant) -> Result<(), EngineError> {
        let Engine {
            device,
            ports,
            relay,
            statistics,
            burst,
            ..
        } = self;
        let (before, rest) = ports.split_at_mut(index);
        let Some((source, after)) = rest.split_first_mut() else {
            return Ok(());
        };
        if !source.ready {
            return Ok(());
        }
        let name = source.name;
        if device.looks_ahead() {
            source.announce(*burst, device);
        }
        source.receive(*burst, &mut |frame| {
            let Verdict::Forward(forward) = device.handle_frame(now, name, frame.bytes()) else {
                return;
            };
            let Forward {
                port,
                headers,
                payload,
            } = forward;
            let target = before
                .iter_mut()
                .chain(after.iter_mut())
                .find(|target| target.name == port);
            let queued = match target {
                Some(target) => target.forward(frame, &headers, payload),
                None => relay.push(&headers, frame.bytes().get(payload).unwrap_or_default()),
            };
            if let Err(why) = queued {
                statistics.lose(why);
            }
        })?;
        relay.drain(source, |why| statistics.lose(why));
        Ok(())
    }

    /// Bytes received and transmitted by the port that most responses leave by.
    fn bytes_to_clients(&self) -> [u64; 2] {
        let port_c = self.device.config().port_c.as_ref();
        let name = match port_c.is_some_and(|port_c| port_c.responses) {
            true => Port::C,
            false => Port::A,
        };
        let port = self.ports.iter().find(|port| port.name == name);
        port.map(|port| port.bytes).unwrap_or_default()
    }

    /// Gives the device what the monitor found.
    pub(super) fn figures(&mut self, now: Instant) {
        while let Ok(figures) = self.monitor.figures.try_recv() {
            match figures {
                Figures::Host { cpu, free_memory } => {
                    let free_bandwidth = self.bandwidth.free(now, self.bytes_to_clients());
                    self.device.handle_load(Load {
                        cpu,
                        free_memory,
                        free_bandwidth,
                    });
                }
                Figures::Processes(processes) => self.device.handle_processes(processes),
            }
        }
    }

    /// Takes the device's events; whether there were any.
    pub(super) fn events(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(event) = self.device.poll_event() {
            if let Some(observer) = &mut self.observer {
                observer(&event);
            }
            match &event {
                Event::ServerUp(name) => tracing::info!(server = %name, "server up"),
                Event::ServerDown(name) => tracing::info!(server = %name, "server down"),
                Event::Migrated { flow, to, took } => {
                    tracing::debug!(%flow, %to, ?took, "migrated")
                }
                Event::Failed(_, why) => tracing::debug!(?why, "endpoint failed"),
                _ => {}
            }
            any = true;
            let registry = self.poll.registry();
            if self.sockets.handle_event(&mut self.device, now, &event) {
                continue;
            }
            let health = &mut self.health;
            self.host
                .handle_event(&mut self.device, health, now, registry, &event);
            self.datagrams.handle_event(registry, &event);
        }
        any
    }

    /// Transmits what the device has, flushes all ports, and takes the events that this made.
    pub(super) fn transmit(&mut self, now: Instant) -> Result<(), EngineError> {
        self.more = false;
        for port in &mut self.ports {
            let name = port.name;
            let mut turn = TRANSMIT_TURN;
            let bursts = port.bursts;
            while let Some(buffer) = port.room() {
                let frame = match bursts {
                    true => self.device.poll_burst(now, name, buffer),
                    false => {
                        let len = self.device.poll_transmit(now, name, buffer);
                        len.map(|len| Transmit { len, burst: None })
                    }
                };
                let Some(frame) = frame else {
                    break;
                };
                port.commit(frame);
                turn = turn.saturating_sub(frame.len.max(TRANSMIT_FRAME));
                if turn == 0 {
                    self.more = true;
                    break;
                }
            }
            port.flush()?;
        }
        // The host's answers to them are transmitted at the next turn.
        self.more |= self.events(now);
        Ok(())
    }

    /// What is looked at now and then.
    pub(super) fn housekeeping(&mut self, now: Instant) {
        if now.saturating_since(self.housekeeping) < HOUSEKEEPING {
            return;
        }
        self.housekeeping = now;
        self.host.sweep(&mut self.device, &mut self.health, now);
        self.sockets.sweep(&mut self.device, now);
        if (self.drain.as_mut()).is_some_and(|drain| drain.look(&self.device, now)) {
            self.device.end_connections(now);
        }
        self.ports.iter_mut().for_each(PortState::look_at_losses);
        let checksums = self
            .device
            .counters()
            .dropped(DropReason::TransportChecksum);
        let bad = checksums.saturating_sub(std::mem::replace(&mut self.checksums, checksums));
        if bad >= BAD_CHECKSUMS && !std::mem::replace(&mut self.advised, true) {
            tracing::warn!(
                bad,
                "many frames with a wrong TCP or UDP checksum: a sender on this machine probably leaves them to its \
                 interface; `ethtool -K <its interface> tx off` there and `ethtool -K <Port A> gro off` here make them right"
            );
        }
    }
}
