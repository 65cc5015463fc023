//! Client hosts: an independent TCP (smoltcp), driven by scripts.

mod config;
mod job;
mod talk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::ETHERNET_LEN;
use rand_core::Rng;
use smoltcp::iface::{Config, Interface, PollResult, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Duration as SmolDuration;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpCidr, IpProtocol, Ipv4Packet, TcpPacket,
};

use crate::frame::Outbox;
use crate::neighbours::Neighbours;
use crate::network::Node;
use crate::ports::{Ports, TWO_MSL};
use crate::random::{Purpose, stream};
use crate::script::{ExchangeError, Log};
use crate::wire::{Wire, instant, moment, timestamp};

pub use self::config::{ClientConfig, ClientTcp};
pub use self::job::{Job, Workload};
use self::talk::{Ends, Phase, Talk};

/// How long a RST may wait for an ARP reply.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A client host.
///
/// Every connection has a local port of its own (with its server, where [`ClientConfig::ports_per_server`] says so), which is
/// not used again before it has rested, and a socket that stays until TIME-WAIT is over.
pub struct Client {
    config: ClientConfig,
    interface: Interface,
    neighbours: Neighbours,
    /// By server, where each has its own; else of all, by `None`.
    ports: BTreeMap<Option<SocketAddrV4>, Ports>,
    /// Each with a socket set of its own, so that a frame costs the same however many there are.
    connections: BTreeMap<Ends, Talk>,
    /// When connections are to be polled.
    due: BTreeSet<(Instant, Ends)>,
    /// For frames that belong to no connection.
    nobody: SocketSet<'static>,
    jobs: VecDeque<Job>,
    workload: Option<Workload>,
    /// The next job, and when it begins.
    next: Option<(Instant, Job)>,
    /// It waits for a port to be released.
    starved: bool,
    /// Connections whose script goes on.
    active: usize,
    unoffered: Vec<u8>,
    log: Log,
}

impl Client {
    /// A client host that has nothing to do yet.
    pub fn new(config: ClientConfig) -> Client {
        let hardware = EthernetAddress(config.hardware.0);
        let mut smol = Config::new(hardware.into());
        smol.random_seed = stream(
            config.seed,
            Purpose::Client,
            usize::from(config.address.octets()[3]),
        )
        .next_u64();
        let mut out = Outbox::new(0);
        let mut wire = Wire::new(
            Instant::ZERO,
            None,
            &mut out,
            usize::from(config.mtu) + ETHERNET_LEN,
        );
        let mut interface = Interface::new(smol, &mut wire, moment(Instant::ZERO));
        interface.update_ip_addrs(|addresses| {
            // The list holds two by default, and is empty.
            let _ = addresses.push(IpCidr::new(config.address.into(), config.prefix.min(32)));
        });
        Client {
            neighbours: Neighbours::new(hardware, config.address),
            interface,
            ports: BTreeMap::new(),
            connections: BTreeMap::new(),
            due: BTreeSet::new(),
            nobody: SocketSet::new(Vec::new()),
            jobs: VecDeque::new(),
            workload: None,
            next: None,
            starved: false,
            active: 0,
            unoffered: config.tcp.unoffered(),
            log: Log::default(),
            config,
        }
    }

    /// Adds one job behind the others; those of the workload come after it.
    pub fn push(&mut self, now: Instant, job: Job, out: &mut Outbox) {
        self.jobs.push_back(job);
        self.work(now, out);
    }

    /// Gives the client a workload, in place of what is left of the former one.
    pub fn set_workload(&mut self, now: Instant, workload: Workload, out: &mut Outbox) {
        self.workload = Some(workload);
        self.work(now, out);
    }

    /// Whether every job is done. Sockets may still wait for the end of TIME-WAIT.
    pub fn is_done(&self) -> bool {
        self.active == 0 && self.next.is_none() && self.jobs.is_empty() && self.workload.is_none()
    }

    /// What happened.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sockets that exist, those in TIME-WAIT included.
    pub fn sockets(&self) -> usize {
        self.connections.len()
    }

    /// Begins every job whose time has come.
    fn work(&mut self, now: Instant, out: &mut Outbox) {
        while self.active < self.config.concurrency {
            if self.next.is_none() {
                let Some(job) = self.jobs.pop_front().or_else(|| self.draw()) else {
                    return;
                };
                self.next = Some((job.not_before.max(now + job.pause), job));
            }
            let Some((begin, job)) = &mut self.next else {
                return;
            };
            if *begin > now {
                return;
            }
            let server = self.config.ports_per_server.then_some(job.server);
            let new = || Ports::new(self.config.ports.clone(), self.config.rest);
            match self.ports.entry(server).or_insert_with(new).take(now) {
                Ok(port) => {
                    if let Some((_, job)) = self.next.take() {
                        self.begin(now, port, job, out);
                    }
                }
                Err(free) => {
                    // Without a port that comes free: one is released within the deadline of a job.
                    *begin = free.unwrap_or(now + TWO_MSL);
                    self.starved = true;
                    return;
                }
            }
        }
    }

    fn draw(&mut self) -> Option<Job> {
        let job = self.workload.as_mut()?.next();
        if job.is_none() {
            self.workload = None;
        }
        job
    }

    fn begin(&mut self, now: Instant, port: u16, job: Job, out: &mut Outbox) {
        let buffer = |size: usize| tcp::SocketBuffer::new(vec![0; size.max(1)]);
        let mut socket = tcp::Socket::new(buffer(job.receive_buffer), buffer(job.send_buffer));
        let behaviour = &self.config.tcp;
        socket.set_congestion_control(if behaviour.congestion_control {
            tcp::CongestionControl::Reno
        } else {
            tcp::CongestionControl::None
        });
        socket.set_nagle_enabled(behaviour.nagle);
        let delay = behaviour.ack_delay.map(|delay| delay.as_micros() as u64);
        socket.set_ack_delay(delay.map(SmolDuration::from_micros));
        if behaviour.timestamps {
            socket.set_tsval_generator(Some(timestamp));
        }
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let ends = (port, job.server);
        let talk = Talk {
            sockets,
            handle,
            server: job.server,
            phase: Phase::Resolving(now),
            opened: now,
            deadline: now + job.deadline,
            job: Some(job),
            wake: None,
            due: None,
            waits: None,
        };
        self.connections.insert(ends, talk);
        self.active += 1;
        self.drive(now, ends, out);
    }

    /// Does all that can be done on a connection.
    fn drive(&mut self, now: Instant, ends: Ends, out: &mut Outbox) {
        let Some(mut talk) = self.connections.remove(&ends) else {
            return;
        };
        let (port, server) = ends;
        if let Some(due) = talk.due.take() {
            self.due.remove(&(due, ends));
        }
        let was_active = talk.job.is_some();
        let given_up = now >= talk.deadline && self.expire(now, port, &mut talk);
        if let Phase::Resolving(_) = talk.phase {
            self.connect(now, port, &mut talk, out);
        }
        let log = (self.log).on(talk.connection(self.config.address, port), talk.opened);
        talk.converse(now, log);
        let frame = usize::from(self.config.mtu) + ETHERNET_LEN;
        let mut wire = Wire::new(now, None, out, frame).without_options(&self.unoffered);
        while self
            .interface
            .poll_egress(moment(now), &mut wire, &mut talk.sockets)
            != PollResult::None
        {}

        // One that was aborted keeps its peer's address until its RST is sent, which may wait for an ARP reply.
        let socket = talk.sockets.get::<tcp::Socket>(talk.handle);
        let closed = socket.state() == tcp::State::Closed && socket.remote_endpoint().is_none();
        let closed = closed || talk.has_waited(now, self.config.tcp.time_wait);
        if given_up || (talk.phase == Phase::Closing && closed) {
            let server = self.config.ports_per_server.then_some(server);
            if let Some(ports) = self.ports.get_mut(&server) {
                ports.release(now, port);
            }
            if std::mem::take(&mut self.starved)
                && let Some((begin, _)) = &mut self.next
            {
                *begin = (*begin).min(now + self.config.rest);
            }
        } else {
            let due = self.when(now, &mut talk);
            talk.due = Some(due);
            self.due.insert((due, ends));
            self.connections.insert(ends, talk);
        }
        if was_active
            && self
                .connections
                .get(&ends)
                .is_none_or(|talk| talk.job.is_none())
        {
            self.active -= 1;
        }
    }

    /// The deadline has passed. Whether there is nothing left to do: not even the RST could be sent.
    fn expire(&mut self, now: Instant, port: u16, talk: &mut Talk) -> bool {
        talk.fail(
            now,
            ExchangeError::TimedOut,
            self.log
                .on(talk.connection(self.config.address, port), talk.opened),
        );
        let socket = talk.sockets.get_mut::<tcp::Socket>(talk.handle);
        let closed = socket.state() == tcp::State::Closed;
        socket.abort();
        let again = talk.phase == Phase::Closing;
        talk.phase = Phase::Closing;
        talk.deadline = now + LAST_WORD;
        again && closed
    }

    /// Sends the SYN once the server's hardware address is known.
    fn connect(&mut self, now: Instant, port: u16, talk: &mut Talk, out: &mut Outbox) {
        if let Err(again) = self.neighbours.resolve(now, *talk.server.ip(), out) {
            talk.phase = Phase::Resolving(again);
            return;
        }
        let socket = talk.sockets.get_mut::<tcp::Socket>(talk.handle);
        let server = (*talk.server.ip(), talk.server.port());
        talk.phase = match socket.connect(self.interface.context(), server, port) {
            Ok(()) => Phase::Opening,
            Err(_) => {
                // Address or port zero: nobody can be there.
                let log = self
                    .log
                    .on(talk.connection(self.config.address, port), talk.opened);
                talk.fail(now, ExchangeError::Refused, log);
                Phase::Closing
            }
        };
    }

    /// When the connection is to be polled again.
    fn when(&mut self, now: Instant, talk: &mut Talk) -> Instant {
        let mut due = talk.deadline;
        match talk.phase {
            Phase::Resolving(again) => due = due.min(again),
            _ => {
                let next = self.interface.poll_at(moment(now), &talk.sockets);
                due = next.map_or(due, |next| due.min(instant(next)));
            }
        }
        let waited = self.config.tcp.time_wait.zip(talk.waits);
        let waited = waited.map(|(most, since)| since + most);
        talk.wake
            .into_iter()
            .chain(waited)
            .fold(due, Instant::min)
            .max(now + Duration::from_micros(1))
    }

    /// The connection that a frame belongs to.
    fn connection_of(&self, frame: &[u8]) -> Option<Ends> {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4
            || frame.dst_addr().0 != self.config.hardware.0
        {
            return None;
        }
        let packet = Ipv4Packet::new_checked(frame.payload()).ok()?;
        if packet.next_header() != IpProtocol::Tcp || packet.dst_addr() != self.config.address {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        let server = SocketAddrV4::new(packet.src_addr(), segment.src_port());
        let ends = (segment.dst_port(), server);
        self.connections.contains_key(&ends).then_some(ends)
    }
}

impl Node for Client {
    fn handle_frame(&mut self, now: Instant, _: usize, frame: &[u8], out: &mut Outbox) {
        let ends = self.connection_of(frame);
        let sockets = match ends.and_then(|ends| self.connections.get_mut(&ends)) {
            Some(talk) => &mut talk.sockets,
            None => &mut self.nobody,
        };
        let mut wire = Wire::new(
            now,
            Some(frame),
            out,
            usize::from(self.config.mtu) + ETHERNET_LEN,
        );
        self.interface
            .poll_ingress_single(moment(now), &mut wire, sockets);
        if let Some(ends) = ends {
            self.drive(now, ends, out);
        } else if let Some(server) = self.neighbours.hear(now, frame) {
            let waiting: Vec<Ends> = self
                .connections
                .iter()
                .filter(|(_, talk)| *talk.server.ip() == server && talk.job.is_some())
                .map(|(&ends, _)| ends)
                .collect();
            for ends in waiting {
                self.drive(now, ends, out);
            }
        }
        self.work(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(&(_, ends)) = self.due.first().filter(|(due, _)| *due <= now) {
            self.drive(now, ends, out);
        }
        self.work(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| *due);
        let free = self.active < self.config.concurrency;
        let begin = self.next.as_ref().filter(|_| free).map(|(begin, _)| *begin);
        due.into_iter().chain(begin).min()
    }
}

#[cfg(test)]
mod tests;
