//! The device: the four threads of FIG. 8 over the tables of FIG. 12.

mod ahead;
mod balance;
mod datagrams;
mod end;
mod forward;
mod given;
mod host;
mod icmp;
mod install;
mod moved;
mod moves;
mod offer;
mod reap;
mod reconfigure;
mod select;
mod session;
mod show;
mod synch;
mod to_clients;
mod to_servers;

pub use datagrams::DatagramError;
pub use host::Endpoint;
pub use moves::MigrateError;
pub use reconfigure::ReconfigureError;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{Hash, Hasher};

use crate::packet::Ipv4Packet;
use arrayvec::ArrayVec;
use ipos_balance::{Candidate, Policy};
use ipos_proto::{Epoch, Ethernet, MacAddr, SeqNum};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use siphasher::sip::SipHasher13;

use crate::build::Sum;
use crate::config::{Config, ConfigError, PROCESSES};
use crate::content::Rules;
use crate::cookie::Cookies;
use crate::counters::{Counters, DropReason};
use crate::early::Early;
use crate::event::{Event, ListenerId, Port, Transmit, Verdict};
use crate::flow::Flow;
use crate::flow_table::{AHEAD, FlowTable};
use crate::handover::Target;
use crate::inspect::{Load, Process};
use crate::members::Members;
use crate::neighbour::{Due, Neighbours};
use crate::outbox::Outbox;
use crate::sessions::Sessions;
use crate::stack::Stack;
use crate::tcp;
use crate::time::Instant;

/// Events that only tell (a migration, a server up or down) are dropped while so many wait.
const TELLING_EVENTS: usize = 65_536;

/// One server's device.
///
/// # Contract of calls
///
/// After any `handle_*` call, and after any call on an [`Endpoint`], take what there is:
/// [`Device::poll_event`] until `None`, [`Device::poll_transmit`] for each port until `None` (or until the port takes
/// no more: the rest keeps), then [`Device::poll_timeout`], and call [`Device::handle_timeout`] by then. Calling
/// `handle_timeout` early or often is harmless. Time never runs backwards.
///
/// Every endpoint that came with [`Event::Bound`] is the host's until [`Endpoint::close`],
/// [`Endpoint::abort`] or [`Event::Failed`].
pub struct Device {
    config: Config,
    flows: FlowTable,
    /// Flows of frames that come next.
    ahead: ArrayVec<Flow, AHEAD>,
    stack: Stack,
    members: Members,
    neighbours: Neighbours,
    early: Early,
    cookies: Cookies,
    outbox: Outbox,
    counters: Counters,
    rng: ChaCha8Rng,
    policy: Box<dyn Policy>,
    rules: Rules,
    sessions: Sessions,
    session_rng: ChaCha20Rng,
    /// What it began with.
    session_key: [u8; 32],
    /// As rows of the cookie map have it.
    name: Arc<str>,
    /// Reused by every selection.
    candidates: Vec<Candidate>,
    targets: Vec<Option<Target>>,
    chances: Vec<f64>,
    me: Me,
    reapings: Vec<reap::Reaping>,
    /// Number of the last trailer.
    number: u32,
}

/// This server's own row of the server state table, and its advertising.
#[derive(Debug, Default)]
struct Me {
    load: Load,
    processes: Vec<Process>,
    /// Of the last Synch report.
    sequence: u32,
    /// When the reports of each priority are due.
    due: [Instant; 3],
    left: bool,
    draining: bool,
    /// When it came into a farm that was at work already.
    up: Option<Instant>,
    /// Listening sockets whose application does not answer.
    unavailable: BTreeSet<usize>,
    /// Until then others may take this life for an earlier one.
    young_until: Instant,
    /// When the last ICMP error was sent.
    error_at: Instant,
    selected: u64,
    expected: f64,
}

/// Where the ids of sessions come from: another stream of the key's numbers for each server, and each life of it.
fn session_rng(config: &Config, key: [u8; 32]) -> ChaCha20Rng {
    let mut hasher = SipHasher13::new();
    (&config.name, config.incarnation).hash(&mut hasher);
    let mut rng = ChaCha20Rng::from_seed(key);
    rng.set_stream(hasher.finish());
    rng
}

/// How a client's packet came in.
#[derive(Clone, Copy, Debug)]
struct Via {
    port: Port,
    /// Who sent its frame.
    hardware: MacAddr,
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.config.name)
            .field("tables", &self.tables())
            .finish_non_exhaustive()
    }
}

impl Device {
    /// A device that begins its life at `now`.
    ///
    /// # Errors
    /// A field of the configuration does not hold; the error names it.
    pub fn new(config: Config, now: Instant) -> Result<Device, ConfigError> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let limits = &config.limits;
        // Validated above.
        let rules = Rules::new(&config.content).map_err(|error| ConfigError {
            field: error.map,
            problem: alloc::string::ToString::to_string(&error).into(),
        })?;
        let session = config.content.session.as_ref();
        let session_key = session.map_or([0; 32], |session| session.key);
        Ok(Device {
            flows: FlowTable::new(rng.next_u64()),
            ahead: ArrayVec::new(),
            stack: Stack::new(config.isn_key, limits.buffers),
            members: Members::new(limits.servers),
            neighbours: Neighbours::new(limits.neighbours, rng.next_u64()),
            cookies: Cookies::new(config.isn_key, config.incarnation),
            early: Early::new(limits.early_packets, limits.early_deadline),
            outbox: Outbox::new(limits.outbox),
            counters: Counters::default(),
            policy: config.balance.policy.build(),
            candidates: Vec::new(),
            targets: Vec::new(),
            chances: Vec::new(),
            rules,
            sessions: Sessions::new(limits.sessions),
            session_rng: session_rng(&config, session_key),
            session_key,
            name: config.name.as_str().into(),
            me: Me {
                due: [now; 3],
                young_until: now + config.synch.silence,
                ..Me::default()
            },
            reapings: Vec::new(),
            number: 0,
            rng,
            config,
        })
    }

    /// Selects by `policy` instead of the configuration's, until [`Device::reconfigure`] brings another of those.
    pub fn set_policy(&mut self, policy: Box<dyn Policy>) {
        self.policy = policy;
    }

    // ---- handle ----

    /// A frame that came in through `port`: a whole Ethernet frame, without FCS.
    pub fn handle_frame(&mut self, now: Instant, port: Port, frame: &[u8]) -> Verdict {
        self.counters.frames += 1;
        let verdict = match port {
            Port::A | Port::C => self.balance(now, port, frame),
            Port::B => self.forward(now, frame),
            Port::Synch => self.synchronize(now, frame),
        };
        self.evict(now);
        match verdict {
            Ok(verdict) => verdict,
            Err(reason) => {
                self.counters.drop(reason);
                Verdict::Drop(reason)
            }
        }
    }

    /// Serves every deadline that has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((index, outcome)) = self.stack.expired(now, &self.config.tcp) {
            self.settle(now, index, outcome);
        }
        while let Some(key) = self.flows.expired(now) {
            self.flow_deadline(now, key);
        }
        let Due {
            ask,
            given_up,
            crowded,
        } = self.neighbours.due(now);
        for hop in ask {
            self.ask_for(hop);
        }
        for index in given_up {
            self.not_found(now, index);
        }
        for index in crowded {
            self.stack.touch(index);
        }
        while let Some((flow, from, packet)) = self.early.expire(now) {
            self.counters.drop(DropReason::NoEndpoint);
            let at =
                Ipv4Packet::read(&packet).and_then(|packet| Ok(packet.tcp()?.sequence_number()));
            self.disown(&flow, from, Epoch::default(), at.ok().map(SeqNum::new));
        }
        self.evict(now);
        self.go_on_reaping(now);
        self.advertise(now);
    }

    /// New figures of the host, for the next adverts.
    pub fn handle_load(&mut self, load: Load) {
        self.me.load = load;
    }

    /// The application information table's new rows, [`PROCESSES`] at most.
    pub fn handle_processes(&mut self, mut processes: Vec<Process>) {
        processes.truncate(PROCESSES);
        self.me.processes = processes;
    }

    /// Whether the application behind a listening socket answers. Where it does not, this server is not selected for it, and
    /// asks others to serve what comes, while there are any.
    pub fn set_available(&mut self, now: Instant, listener: ListenerId, available: bool) {
        let changed = match available {
            true => self.me.unavailable.remove(&listener.0),
            false => {
                listener.0 < self.config.listen.len() && self.me.unavailable.insert(listener.0)
            }
        };
        if changed {
            self.me.due[1] = now;
        }
    }

    /// The server leaves the farm: it says so on the Synch Port, and is selected no more. Its connections go on
    /// as long as the device is driven.
    pub fn leave(&mut self) {
        if !self.me.left {
            self.me.left = true;
            self.say_goodbye();
        }
    }

    // ---- poll ----

    /// Builds the next frame for `port` in `buf`, which holds at least the MTU and 14 bytes; its length.
    pub fn poll_transmit(&mut self, now: Instant, port: Port, buf: &mut [u8]) -> Option<usize> {
        let whole = self.poll_frame(now, port, buf, Sum::Whole)?;
        Some(whole.len)
    }

    /// As [`Device::poll_transmit`], for a port that finishes TCP frames: segments that may go at once come as one, as long as
    /// `buf` allows, and without a checksum.
    pub fn poll_burst(&mut self, now: Instant, port: Port, buf: &mut [u8]) -> Option<Transmit> {
        self.poll_frame(now, port, buf, Sum::PseudoHeader)
    }

    fn poll_frame(
        &mut self,
        now: Instant,
        port: Port,
        buf: &mut [u8],
        sum: Sum,
    ) -> Option<Transmit> {
        let queued = self.outbox.pop(port, buf);
        queued.or_else(|| match port {
            Port::A | Port::C => self.poll_endpoints(now, port, buf, sum),
            Port::B | Port::Synch => None,
        })
    }

    /// What the host must know next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.stack.poll_event()
    }

    /// When [`Device::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [
            self.stack.timeout(),
            self.flows.timeout(),
            self.neighbours.timeout(),
            self.early.timeout(),
            self.reapings
                .first()
                .filter(|_| !self.is_busy_with_clients())
                .map(|_| Instant::ZERO),
            self.me.due.iter().min().copied(),
        ];
        deadlines.into_iter().flatten().min()
    }

    // ---- shared by the threads ----

    /// The Ethernet header of a frame for one of our ports, and what follows it.
    fn link<'a>(&self, frame: &'a [u8], ours: MacAddr) -> Result<(Ethernet, &'a [u8]), DropReason> {
        let (ethernet, rest) = Ethernet::parse(frame).map_err(|_| DropReason::Malformed)?;
        if ethernet.source == ours {
            return Err(DropReason::Own);
        }
        if ethernet.destination != ours && !ethernet.destination.is_multicast() {
            return Err(DropReason::NotOurs);
        }
        Ok((ethernet, rest))
    }

    fn insert_endpoint(&mut self, tcp: tcp::Endpoint, flow: Flow, muted: bool) -> u32 {
        let port = self.config.leaves_by(*flow.endpoint.ip());
        self.stack.insert(tcp, flow, port, muted)
    }

    /// An event that tells the host something it can do without.
    fn tell(&mut self, event: Event) {
        if self.stack.events() < TELLING_EVENTS {
            self.stack.push_event(event);
        }
    }
}
