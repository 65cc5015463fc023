//! The server state table (FIG. 12), as the Synch LAN tells it: the rules of a device's synchronization thread (FIG. 9C).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipos_balance::{Candidate, Readiness, SlowStart};
use ipos_core::{FarmKey, Instant};
use ipos_proto::Protocol;
use ipos_proto::synch::{Record, SynchFlags, SynchHeader, SynchKind, SynchMessage};

use super::config::Settings;

/// A server that has been silent for so long is forgotten.
const FORGET: Duration = Duration::from_secs(30);
/// Listening sockets of one server that are remembered. Full: clients are not sent to the others.
const LISTEN_BOUND: usize = 1_024;

/// A listening socket of a server.
#[derive(Clone, Debug)]
struct Listening {
    address: SocketAddrV4,
    protocol: Protocol,
    service: String,
}

/// What clients are to be sent to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) service: &'a str,
    /// `None`: either.
    pub(super) protocol: Option<Protocol>,
}

/// A server, as it has told of itself.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Its Synch address: the table's key.
    synch: Ipv4Addr,
    name: String,
    /// The addresses that clients reach it at.
    port_a: Vec<Ipv4Addr>,
    connections: u32,
    draining: bool,
    listen: Vec<Listening>,
    incarnation: u32,
    /// Sequence number of the last report of each priority.
    sequence: [Option<u32>; 3],
    /// The parts of a medium report that have come so far.
    partial: Vec<Listening>,
    next_part: u8,
    heard: Instant,
    /// When it came (back); `None`: it was there before the redirector.
    came: Option<Instant>,
    left: bool,
    /// It was reported as up.
    up: bool,
    /// Clients sent to it since its last advert.
    sent: u32,
}

/// A server has come or gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Up(String),
    Down(String),
}

/// Why a datagram says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ignored {
    /// It is not a Synch message.
    Malformed,
    /// Its tag is not right or missing; or there is one, and no farm key is set.
    Forged,
    /// Of an earlier life, or not newer than what was heard.
    Old,
    /// The table is full.
    Full,
}

/// All servers of the farm, by Synch address. Bounded: full, messages of unknown ones are dropped.
#[derive(Debug)]
pub(super) struct Servers {
    table: Vec<Server>,
    bound: usize,
    silence: Duration,
    slow_start: SlowStart,
    began: Instant,
    farm_key: Option<FarmKey>,
}

impl Servers {
    pub(super) fn new(now: Instant, settings: &Settings) -> Servers {
        Servers {
            table: Vec::new(),
            bound: settings.servers,
            silence: settings.silence(),
            slow_start: settings.slow_start,
            began: now,
            farm_key: settings.farm_key.clone(),
        }
    }

    /// From now on reports are authenticated with this key; whether that is another one.
    pub(super) fn set_farm_key(&mut self, farm_key: Option<FarmKey>) -> bool {
        let changed = self.farm_key != farm_key;
        self.farm_key = farm_key;
        changed
    }

    /// A datagram from the Synch LAN.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        from: Ipv4Addr,
        datagram: &[u8],
    ) -> Result<Option<Change>, Ignored> {
        let message = SynchMessage::parse(datagram).map_err(|_| Ignored::Malformed)?;
        match (&self.farm_key, message.split_tag(datagram)) {
            (None, None) => {}
            (Some(key), Some((signed, tag))) if key.verify(signed, tag) => {}
            _ => return Err(Ignored::Forged),
        }
        let header = message.header();
        let at = match self.table.binary_search_by_key(&from, |s| s.synch) {
            Ok(at) => at,
            Err(_) if header.kind == SynchKind::Leave => return Err(Ignored::Old),
            Err(_) if self.table.len() >= self.bound => return Err(Ignored::Full),
            Err(at) => {
                // Who is heard in the first silence time may have been there for long.
                let settled = now.saturating_since(self.began) <= self.silence;
                let came = (!settled).then_some(now);
                self.table
                    .insert(at, Server::new(now, from, header.incarnation, came));
                at
            }
        };
        let silence = self.silence;
        // It is there: found or inserted above.
        let server = self.table.get_mut(at).ok_or(Ignored::Full)?;
        server.take(now, silence, &message)?;
        Ok(server.notice(now, silence))
    }

    /// Who has fallen silent; those that have been silent for long are forgotten.
    pub(super) fn look_for_silence(&mut self, now: Instant) -> Vec<Change> {
        let silence = self.silence;
        let changes = self.table.iter_mut().filter_map(|s| s.notice(now, silence));
        let changes = changes.collect();
        let keep = FORGET.max(silence);
        self.table.retain(|s| now.saturating_since(s.heard) <= keep);
        changes
    }

    /// Live servers that take clients and listen for what is wanted, by Synch address, each with its place in the table.
    pub(super) fn candidates(&self, now: Instant, wanted: Wanted<'_>) -> Vec<(usize, Candidate)> {
        let servers = self.table.iter().enumerate();
        let able = servers.filter(|(_, server)| {
            server.is_alive(now, self.silence)
                && !server.draining
                && server.addresses(wanted).next().is_some()
        });
        able.map(|(at, server)| {
            let connections = server.connections.saturating_add(server.sent);
            let readiness = server.came.map_or(Readiness::FULL, |came| {
                self.slow_start.readiness(now.saturating_since(came))
            });
            let candidate = Candidate {
                readiness,
                ..Candidate::new(u32::from(server.synch), connections)
            };
            (at, candidate)
        })
        .collect()
    }

    /// The server at a place of the table.
    pub(super) fn get(&self, at: usize) -> Option<&Server> {
        self.table.get(at)
    }

    /// A client was sent to the server at `at`.
    pub(super) fn sent(&mut self, at: usize) {
        if let Some(server) = self.table.get_mut(at) {
            server.sent = server.sent.saturating_add(1);
        }
    }
}

impl Server {
    fn new(now: Instant, synch: Ipv4Addr, incarnation: u32, came: Option<Instant>) -> Server {
        Server {
            synch,
            name: String::new(),
            port_a: Vec::new(),
            connections: 0,
            draining: false,
            listen: Vec::new(),
            incarnation,
            sequence: [None; 3],
            partial: Vec::new(),
            next_part: 0,
            heard: now,
            came,
            left: false,
            up: false,
            sent: 0,
        }
    }

    /// Where clients reach it for what is wanted.
    pub(super) fn addresses(&self, wanted: Wanted<'_>) -> impl Iterator<Item = SocketAddrV4> {
        let Wanted { service, protocol } = wanted;
        let fits = move |l: &&Listening| {
            l.service == service && protocol.is_none_or(|protocol| protocol == l.protocol)
        };
        // A listening socket at an address that is not the server's own leads nowhere.
        let own = |l: &&Listening| self.port_a.contains(l.address.ip());
        self.listen
            .iter()
            .filter(fits)
            .filter(own)
            .map(|l| l.address)
    }

    fn is_alive(&self, now: Instant, silence: Duration) -> bool {
        !self.left && !self.name.is_empty() && now.saturating_since(self.heard) <= silence
    }

    fn notice(&mut self, now: Instant, silence: Duration) -> Option<Change> {
        let alive = self.is_alive(now, silence);
        if alive == self.up {
            return None;
        }
        self.up = alive;
        let change = if alive { Change::Up } else { Change::Down };
        Some(change(self.name.clone()))
    }

    fn take(
        &mut self,
        now: Instant,
        silence: Duration,
        message: &SynchMessage<'_>,
    ) -> Result<(), Ignored> {
        let header = message.header();
        if header.incarnation < self.incarnation {
            return Err(Ignored::Old);
        }
        if header.incarnation > self.incarnation {
            *self = Server {
                name: std::mem::take(&mut self.name),
                up: self.up,
                ..Server::new(now, self.synch, header.incarnation, Some(now))
            };
        }
        if !self.take_sequence(header) {
            return Err(Ignored::Old);
        }
        if now.saturating_since(self.heard) > silence {
            self.came = Some(now);
        }
        self.heard = now;
        if header.kind == SynchKind::Leave {
            self.left = true;
            return Ok(());
        }
        self.draining = header.flags.contains(SynchFlags::DRAINING);
        for record in message.records() {
            self.take_record(&record);
        }
        if header.kind == SynchKind::Medium && self.next_part == header.parts {
            self.listen = std::mem::take(&mut self.partial);
        }
        Ok(())
    }

    /// Whether a message is newer than what was heard; the parts of a medium report come in order.
    fn take_sequence(&mut self, header: &SynchHeader) -> bool {
        let SynchHeader {
            kind,
            sequence,
            part,
            ..
        } = *header;
        if self.left {
            return false;
        }
        let newest = self.sequence.iter().all(|&last| header.is_newer_than(last));
        let [high, medium, low] = &mut self.sequence;
        match kind {
            SynchKind::Leave => {
                // Nothing of this life comes after it.
                newest
            }
            SynchKind::Medium => {
                let begins = part == 0 && header.is_newer_than(*medium);
                let goes_on = part != 0 && *medium == Some(sequence) && part == self.next_part;
                if begins {
                    self.partial.clear();
                }
                if begins || goes_on {
                    *medium = Some(sequence);
                    self.next_part = part.saturating_add(1);
                }
                begins || goes_on
            }
            SynchKind::High | SynchKind::Low => {
                let last = if kind == SynchKind::High { high } else { low };
                let newer = header.is_newer_than(*last);
                if newer {
                    *last = Some(sequence);
                }
                newer
            }
        }
    }

    fn take_record(&mut self, record: &Record<'_>) {
        match record {
            Record::State(state) => {
                self.connections = state.connections;
                self.sent = 0;
            }
            Record::Identity(identity) => {
                identity.name.clone_into(&mut self.name);
                identity.port_a.as_slice().clone_into(&mut self.port_a);
            }
            Record::Listen(listen) if self.partial.len() < LISTEN_BOUND => {
                self.partial.push(Listening {
                    address: listen.address,
                    protocol: listen.protocol,
                    service: listen.service.to_owned(),
                });
            }
            _ => {}
        }
    }
}
