//! LANs in memory: every port is one end of a socket pair, and everybody holds the other ends of the others.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::Duration;

use ipos_backend::{Backend, Capabilities, Frame, Statistics};
use ipos_engine::Ports;
use ipos_engine::socket::Backlog;
use ipos_lab::{Farm, Lan};

use super::device::Running;
use crate::farm::FarmError;

const MTU: u16 = 1500;
const FRAME: usize = MTU as usize + 14;
/// Frames that wait for a port that takes no more now.
const QUEUE: usize = 256;

/// One device on a thread for each host number, and the doors' port on LAN A.
pub(super) fn devices(
    hosts: &[u8],
    backlogs: Vec<Backlog>,
) -> Result<(Vec<Running>, Cable), FarmError> {
    let lan = |lan: Lan, hosts: &[u8]| {
        let addresses: Vec<_> = hosts.iter().map(|&h| lan.hardware_address(h)).collect();
        Cable::lan(&addresses).map_err(FarmError::of(format!("LAN {lan:?}")))
    };
    let with_doors = [&[Farm::CLIENT], hosts].concat();
    let mut a = lan(Lan::A, &with_doors)?.into_iter();
    let doors = a.next().ok_or_else(|| FarmError::Failed {
        part: "LAN A".to_owned(),
        what: "has no ports".to_owned(),
    })?;
    let rest = lan(Lan::B, hosts)?.into_iter().zip(lan(Lan::Synch, hosts)?);
    let ports = a.zip(rest).map(|(a, (b, synch))| {
        move || {
            Ok(Ports {
                a: Box::new(a),
                b: Box::new(b),
                synch: Box::new(synch),
                c: None,
            })
        }
    });
    let spawn = |name: &str, work| {
        let builder = thread::Builder::new().name(name.to_owned());
        builder.spawn(work).map_err(FarmError::of(name))
    };
    let servers = hosts.iter().zip(backlogs).zip(ports);
    let start = |((&host, backlog), ports)| Running::start(host, backlog, ports, spawn);
    let devices = servers.map(start).collect::<Result<_, _>>()?;
    Ok((devices, doors))
}

/// One port of a LAN. A datagram is a frame.
pub(super) struct Cable {
    hardware: [u8; 6],
    socket: UnixDatagram,
    others: Vec<([u8; 6], UnixDatagram)>,
    queue: VecDeque<Vec<u8>>,
    /// The last flush could not hand over everything.
    stuck: bool,
    buffer: Vec<u8>,
    received: Vec<u8>,
    statistics: Statistics,
}

impl Cable {
    /// A LAN with a port for each of these hardware addresses.
    fn lan(addresses: &[[u8; 6]]) -> io::Result<Vec<Cable>> {
        let mut ports = Vec::new();
        for &address in addresses {
            let (near, far) = UnixDatagram::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            ports.push((address, near, far));
        }
        let cable = |(at, (hardware, near, _)): (usize, &([u8; 6], UnixDatagram, UnixDatagram))| {
            let others = ports.iter().enumerate().filter(|(other, _)| *other != at);
            let others = others.map(|(_, (address, _, far))| Ok((*address, far.try_clone()?)));
            Ok(Cable {
                hardware: *hardware,
                socket: near.try_clone()?,
                others: others.collect::<io::Result<_>>()?,
                queue: VecDeque::new(),
                stuck: false,
                buffer: vec![0; FRAME],
                received: vec![0; FRAME],
                statistics: Statistics::default(),
            })
        };
        ports.iter().enumerate().map(cable).collect()
    }

    /// To the port that a frame is for, or to all; `false`: that one takes no more now.
    fn send(&mut self, frame: &[u8]) -> bool {
        let destination = frame.get(..6).unwrap_or_default();
        let one = self.others.iter().find(|(a, _)| a == destination);
        if let Some((_, port)) = one {
            match port.send(frame) {
                Ok(_) => self.statistics.transmitted += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // That server has ended.
                Err(_) => self.statistics.transmit_failed += 1,
            }
            return true;
        }
        for (_, port) in &self.others {
            // One that takes no more loses it, as at any switch.
            let _ = port.send(frame);
        }
        self.statistics.transmitted += 1;
        true
    }
}

impl Backend for Cable {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hardware_address: self.hardware,
            mtu: MTU,
            burst: 64,
        }
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        for taken in 0..budget {
            match self.socket.recv(&mut self.received) {
                Ok(len) => sink(&mut self.received.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
            self.statistics.received += 1;
        }
        Ok(budget)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        (!self.stuck && self.queue.len() < QUEUE).then_some(&mut self.buffer[..])
    }

    fn commit(&mut self, len: usize) {
        match self.buffer.get(..len) {
            Some(frame) => self.queue.push_back(frame.to_vec()),
            None => self.statistics.transmit_failed += 1,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stuck = false;
        while let Some(frame) = self.queue.pop_front() {
            if !self.send(&frame) {
                self.queue.push_front(frame);
                self.stuck = true;
                break;
            }
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let most = timeout.and_then(|timeout| PollTimeout::try_from(timeout).ok());
        poll(&mut ready, most.unwrap_or(PollTimeout::NONE))?;
        Ok(())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}
