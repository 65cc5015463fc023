//! The synchronization thread (FIG. 9C, FIG. 6): frames from the Synch Port, and the adverts.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use etherparse::IpNumber;
use ipos_proto::MacAddr;
use ipos_proto::synch::{
    AddressList, Cookie, Identity, Listen as ListenRecord, Performance, Process as ProcessRecord,
    Record, State, Subject, SynchFlags, SynchHeader, SynchKind, SynchMessage, SynchWriter,
};

use super::Device;
use crate::build::{self, Link};
use crate::config::Listen;
use crate::counters::DropReason;
use crate::event::{Event, Port, Verdict};
use crate::inspect::Load;
use crate::members::{Counter, Member};
use crate::packet::{IPV4, Ipv4Packet};
use crate::sessions::Told;
use crate::time::{Duration, Instant};

/// Longest datagram: an Ethernet MTU less the IP and UDP headers.
const DATAGRAM: usize = 1472;
/// A CPU figure of 1 in a record.
const CPU_UNIT: f32 = 10_000.0;
/// Listening sockets of one server that are remembered. Full: the others are not selected for.
const LISTEN_BOUND: usize = 1_024;

/// Bytes of the cookie map's changes in one high-priority report: with the rest it is one datagram.
const CHANGES: usize = 1_200;
/// Rows of the cookie map that one medium-priority report tells again.
const REFRESHED: usize = 256;
/// Between two reports while there is more to tell: some 26 000 rows in a second.
const HURRY: Duration = Duration::from_millis(1);

const PRIORITIES: [SynchKind; 3] = [SynchKind::High, SynchKind::Medium, SynchKind::Low];
/// Where medium is among them.
const MEDIUM: usize = 1;

impl Device {
    /// FIG. 9C.
    pub(super) fn synchronize(
        &mut self,
        now: Instant,
        frame: &[u8],
    ) -> Result<Verdict, DropReason> {
        let (ethernet, rest) = self.link(frame, self.config.synch.hardware)?;
        if ethernet.ethertype != IPV4 {
            return Err(DropReason::EtherType);
        }
        let packet = Ipv4Packet::read(rest)?;
        if packet.protocol() != IpNumber::UDP {
            return Err(DropReason::Protocol);
        }
        let datagram = packet.verified_udp()?;
        if datagram.destination_port() != self.config.synch.port {
            return Err(DropReason::NotOurs);
        }
        let from = packet.source();
        if from == self.config.synch.address {
            return Err(DropReason::Own);
        }
        let payload = datagram.payload();
        let message = SynchMessage::parse(payload).map_err(|_| DropReason::Synch)?;
        self.authenticate_report(&message, payload)?;
        if self.config.farm_key.is_some() {
            self.identify(from, &message)?;
        }
        self.hear(now, from, &message)
    }

    /// With a farm key every message has a right tag.
    fn authenticate_report(
        &self,
        message: &SynchMessage<'_>,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        match (&self.config.farm_key, message.split_tag(bytes)) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(DropReason::NoKey),
            (Some(_), None) => Err(DropReason::NoTag),
            (Some(key), Some((signed, tag))) => match key.verify(signed, tag) {
                true => Ok(()),
                false => Err(DropReason::Tag),
            },
        }
    }

    /// A tag does not name who said it: what one server says may come again under another one's address, or under one of nobody.
    /// So what tells of a server or of a new life says which Port B is its own, and that is always the same, and no other server's.
    fn identify(&self, from: Ipv4Addr, message: &SynchMessage<'_>) -> Result<(), DropReason> {
        let told = message.records().find_map(|record| match record {
            Record::Identity(identity) => Some(identity.port_b),
            _ => None,
        });
        let life = message.header().incarnation;
        let known = self.members.iter().find(|member| member.synch == from);
        if known.is_none() && self.members.has_said(from, message.header()) {
            return Err(DropReason::SynchOld);
        }
        let Some(port_b) = told else {
            return match known {
                Some(member) if life <= member.incarnation => Ok(()),
                _ => Err(DropReason::SynchOld),
            };
        };
        let differs = known.is_some_and(|m| m.is_identified() && m.port_b != port_b);
        match differs || self.members.is_of_another(port_b, from, life) {
            true => Err(DropReason::Replayed),
            false => Ok(()),
        }
    }

    fn hear(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        message: &SynchMessage<'_>,
    ) -> Result<Verdict, DropReason> {
        let header = *message.header();
        let is_new = self.members.get_mut(from).is_none();
        if is_new {
            if header.kind == SynchKind::Leave {
                return Err(DropReason::SynchOld);
            }
            self.members
                .add(now, from, header.incarnation)
                .ok_or(DropReason::TableFull)?;
            // The newcomer should know our services before our next medium report.
            self.me.due[1] = now;
        }
        let member = self.members.get_mut(from).ok_or(DropReason::TableFull)?;
        // Who was there before this server has lost nothing.
        member.newcomer |= is_new && now >= self.me.young_until;
        if header.incarnation < member.incarnation {
            return Err(DropReason::SynchOld);
        }
        if header.incarnation > member.incarnation {
            if header.kind == SynchKind::Leave {
                // Nothing was heard of that life: it may be another server's word under this one's address.
                return Err(DropReason::SynchOld);
            }
            let (former, heard) = (member.port_b, member.heard);
            member.restarted(header.incarnation);
            self.me.due[1] = now;
            self.reap(former, header.incarnation, Some(heard));
        }
        let member = self.members.get_mut(from).ok_or(DropReason::TableFull)?;
        if !member.take_sequence(&header) {
            return Err(DropReason::SynchOld);
        }
        member.heard = now;
        if header.kind == SynchKind::Leave {
            member.left = true;
        } else {
            member.draining = header.flags.contains(SynchFlags::DRAINING);
            for record in message.records() {
                member.take_record(&record);
            }
            if is_new && member.connections > 0 && now < self.me.young_until {
                // The farm was at work before this server came.
                self.me.up.get_or_insert(now);
            }
            let heard_all =
                header.kind == SynchKind::Medium && member.next_part[MEDIUM] == header.parts;
            if heard_all {
                member.listen = core::mem::take(&mut member.partial);
            }
            for record in message.records() {
                if let Record::Cookie(cookie) = record {
                    self.hear_cookie(now, from, &cookie);
                }
            }
        }
        self.notice(now, from);
        Ok(Verdict::Consumed)
    }

    /// Tells the host when a server comes or goes.
    fn notice(&mut self, now: Instant, synch: Ipv4Addr) {
        let silence = self.config.synch.silence;
        let Some(member) = self.members.get_mut(synch) else {
            return;
        };
        let alive = member.is_alive(now, silence);
        if alive == member.up {
            return;
        }
        member.up = alive;
        if alive && now >= self.me.young_until {
            member.since = Some(now);
        }
        let name = member.name.clone();
        if alive {
            // It may know none of the cookie map: before it takes sessions for its own it shall.
            let newcomer = core::mem::take(&mut member.newcomer);
            self.sessions.tell_all(newcomer.then_some(&*name));
        }
        if self.sessions.is_in_hurry() {
            self.me.due[0] = self.me.due[0].min(now + HURRY);
        }
        self.tell(if alive {
            Event::ServerUp(name)
        } else {
            Event::ServerDown(name)
        });
    }

    /// Sends the reports that are due, unless this server has left, and looks who has fallen silent.
    pub(super) fn advertise(&mut self, now: Instant) {
        let synch = &self.config.synch;
        let intervals = [synch.high, synch.medium, synch.low];
        for (priority, kind) in PRIORITIES.into_iter().enumerate() {
            if self.me.due[priority] > now {
                continue;
            }
            // Not `due + interval`: a device that was not driven for a while does not catch up.
            self.me.due[priority] = now + intervals[priority].max(Duration::from_millis(1));
            if !self.me.left {
                let mut records = self.records(kind);
                self.add_cookies(now, kind, &mut records);
                self.report(kind, &records);
            }
            match kind {
                SynchKind::High => self.look_for_silence(now),
                SynchKind::Medium => self.move_quiet(now),
                SynchKind::Low | SynchKind::Leave => {}
            }
        }
    }

    fn look_for_silence(&mut self, now: Instant) {
        let addresses: Vec<Ipv4Addr> = self.members.iter().map(|member| member.synch).collect();
        for address in addresses {
            self.notice(now, address);
        }
        self.look_for_dead(now);
        // Not before its connections are given up.
        let lost = self.config.limits.owner_lost.unwrap_or_default();
        let signed = self.config.farm_key.is_some();
        self.members
            .forget(now, self.config.synch.forget.max(lost), signed);
    }

    pub(super) fn say_goodbye(&mut self) {
        self.report(SynchKind::Leave, &[]);
    }

    /// A report, as datagrams in the Synch Port's outbox.
    fn report(&mut self, kind: SynchKind, records: &[OwnRecord]) {
        self.me.sequence = self.me.sequence.wrapping_add(1);
        let config = &self.config;
        let mut flags = SynchFlags::empty();
        flags.set(SynchFlags::DRAINING, self.me.draining);
        flags.set(SynchFlags::TAGGED, config.farm_key.is_some());
        let mut writer =
            SynchWriter::new(kind, flags, config.incarnation, self.me.sequence, DATAGRAM);
        for record in records {
            // Only a name or a list beyond its bound is refused, which the configuration does not let pass.
            if let Some(record) = record.view(config) {
                let _ = writer.push(&record);
            }
        }
        let link = Link {
            source: config.synch.hardware,
            destination: MacAddr::BROADCAST,
        };
        let source = SocketAddrV4::new(config.synch.address, config.synch.port);
        let destination = SocketAddrV4::new(Ipv4Addr::BROADCAST, config.synch.port);
        for mut datagram in writer.finish() {
            if let Some(key) = &config.farm_key {
                key.sign(&mut datagram);
            }
            if let Some(frame) = build::udp(link, source, destination, &datagram) {
                self.outbox.push(Port::Synch, frame);
            }
        }
    }

    /// Changes of the cookie map go with the first report there is; all rows of this server's sessions have their turn, and those that
    /// newcomers had.
    fn add_cookies(&mut self, now: Instant, kind: SynchKind, records: &mut Vec<OwnRecord>) {
        let told = match kind {
            SynchKind::High => {
                self.sessions.expire(now);
                let synch = &self.config.synch;
                self.sessions
                    .settle(now, synch.silence.saturating_add(synch.medium));
                let (mut told, more) = self.sessions.take_changes(now, CHANGES);
                if self.sessions.is_in_hurry() {
                    let used: usize = told.iter().map(Told::len).sum();
                    let room = CHANGES.saturating_sub(used);
                    told.extend(self.sessions.refresh(now, &self.name, usize::MAX, room));
                }
                if more || self.sessions.is_in_hurry() {
                    self.me.due[0] = now + HURRY;
                }
                told
            }
            SynchKind::Medium => {
                self.sessions.tell_newcomers_again();
                self.sessions
                    .refresh(now, &self.name, REFRESHED, usize::MAX)
            }
            SynchKind::Low | SynchKind::Leave => return,
        };
        records.extend(told.into_iter().map(OwnRecord::Cookie));
    }

    /// What a priority's report tells (FIG. 6).
    fn records(&self, kind: SynchKind) -> Vec<OwnRecord> {
        let processes = self.me.processes.iter();
        match kind {
            SynchKind::High => alloc::vec![
                OwnRecord::State(State {
                    connections: self.connections(),
                    cpu: cpu_units(self.me.load.cpu),
                    free_memory: self.me.load.free_memory,
                    free_bandwidth: self.me.load.free_bandwidth,
                }),
                OwnRecord::Identity,
            ],
            SynchKind::Medium => {
                let available = |at: &usize| !self.me.unavailable.contains(at);
                let listen = (0..self.config.listen.len()).filter(available);
                let listen = listen.map(OwnRecord::Listen);
                let processes =
                    processes.map(|p| OwnRecord::Process(p.pid, p.port, p.name.clone()));
                core::iter::once(OwnRecord::Identity)
                    .chain(listen)
                    .chain(processes)
                    .collect()
            }
            SynchKind::Low => processes
                .map(|p| {
                    OwnRecord::Performance(Performance {
                        subject: Subject::Process(p.pid),
                        cpu: cpu_units(p.cpu),
                        memory: p.memory,
                    })
                })
                .collect(),
            SynchKind::Leave => Vec::new(),
        }
    }
}

/// What this server says of itself, by reference to where it stands.
enum OwnRecord {
    State(State),
    Identity,
    Listen(usize),
    Process(u32, u16, alloc::string::String),
    Performance(Performance),
    Cookie(Told),
}

impl OwnRecord {
    fn view<'a>(&'a self, config: &'a crate::config::Config) -> Option<Record<'a>> {
        Some(match self {
            OwnRecord::State(state) => Record::State(*state),
            OwnRecord::Identity => Record::Identity(Identity {
                name: &config.name,
                port_b: config.port_b.address,
                hardware: config.port_b.hardware,
                port_a: AddressList::new(&config.client_addresses().collect::<Vec<_>>())?,
            }),
            OwnRecord::Listen(at) => {
                let Listen {
                    address,
                    protocol,
                    service,
                } = config.listen.get(*at)?;
                Record::Listen(ListenRecord {
                    address: *address,
                    protocol: *protocol,
                    service,
                })
            }
            OwnRecord::Process(pid, port, name) => {
                let address = SocketAddrV4::new(*config.port_a.addresses.first()?, *port);
                Record::Process(ProcessRecord {
                    pid: *pid,
                    address,
                    name,
                })
            }
            OwnRecord::Performance(performance) => Record::Performance(*performance),
            OwnRecord::Cookie(told) => Record::Cookie(Cookie {
                session: &told.session,
                server: &told.server,
                lifetime_ms: told.lifetime_ms,
            }),
        })
    }
}

fn cpu_units(cpu: f32) -> u16 {
    // `as` saturates, and takes NaN for 0.
    (cpu.clamp(0.0, 1.0) * CPU_UNIT) as u16
}

impl Member {
    /// The server has begun a new life: what was known of the old one does not hold.
    fn restarted(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.sequence = [None; 3];
        self.counter = Counter::default();
        self.up = false;
        self.newcomer = true;
        self.next_part = [0; 3];
        self.partial.clear();
        self.listen.clear();
        self.connections = 0;
        self.sent = 0;
        self.left = false;
        self.lost = false;
    }

    /// Whether a message is newer than what was heard; parts of a report come in order.
    pub(crate) fn take_sequence(&mut self, header: &SynchHeader) -> bool {
        if self.left {
            return false;
        }
        let Some(priority) = PRIORITIES.iter().position(|kind| *kind == header.kind) else {
            // Leave: nothing of this life comes after it.
            return self.sequence.iter().all(|&last| header.is_newer_than(last));
        };
        let last = &mut self.sequence[priority];
        let next = &mut self.next_part[priority];
        let begins = header.part == 0 && header.is_newer_than(*last);
        let goes_on = header.part != 0 && *last == Some(header.sequence) && header.part == *next;
        if begins && priority == MEDIUM {
            self.partial.clear();
        }
        if begins || goes_on {
            *last = Some(header.sequence);
            *next = header.part.saturating_add(1);
        }
        begins || goes_on
    }

    fn take_record(&mut self, record: &Record<'_>) {
        match record {
            Record::State(state) => {
                self.connections = state.connections;
                self.load = Load {
                    cpu: f32::from(state.cpu) / CPU_UNIT,
                    free_memory: state.free_memory,
                    free_bandwidth: state.free_bandwidth,
                };
                self.sent = 0;
            }
            Record::Identity(identity) => {
                if self.name != identity.name {
                    self.name = identity.name.to_string();
                }
                self.port_b = identity.port_b;
                self.hardware = identity.hardware;
                if self.port_a != identity.port_a.as_slice() {
                    self.port_a = identity.port_a.as_slice().to_vec();
                }
            }
            Record::Listen(listen) if self.partial.len() < LISTEN_BOUND => {
                self.partial.push(Listen {
                    address: listen.address,
                    protocol: listen.protocol,
                    service: listen.service.to_string(),
                })
            }
            _ => {}
        }
    }
}
