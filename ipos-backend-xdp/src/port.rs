//! The port: the queues of one interface behind the trait.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use ipos_backend::burst::Cut;
use ipos_backend::interface::{Interface, OpenError as InterfaceError, is_lost, name_error};
use ipos_backend::{Backend, Burst, Capabilities, Frame, Refused, Statistics};
use ipos_backend_pnet::{Frames, PnetBackend, PnetOptions};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::xdp::SocketAddrXdpFlags;

use crate::lane::Lane;
use crate::memory::Memory;
use crate::program::{KEY, assemble, keys};
use crate::socket::{XdpSocket, when_free};
use crate::sys::bpf::{self, Kind, Map};
use crate::sys::mapping::RingMapping;
use crate::{Copying, Mode, OpenError, Take, XdpOptions};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes in front of a received frame that the kernel keeps (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// Frames a call.
const BURST: usize = 64;
/// EtherTypes that may be claimed.
const MOST_ETHERTYPES: usize = 64;
/// Receive queues of an interface that are looked for.
const MOST_QUEUES: u32 = 256;
/// Netlink group of changes to links (`RTNLGRP_LINK`).
const LINKS: u32 = 1;
/// Flags of attaching (`XDP_FLAGS_SKB_MODE`, `XDP_FLAGS_DRV_MODE`).
const GENERIC: u32 = 2;
const NATIVE: u32 = 4;

/// What opening needs, and how to get it.
const NEEDS: &str = "CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF in the initial user namespace: run as root, or use the pnet backend";

/// One queue: its socket, its rings and buffers.
struct Queue {
    socket: XdpSocket,
    lane: Lane<RingMapping>,
}

/// The program on the interface, and the queues that it fills.
struct Queues {
    /// The program is attached while this is open.
    link: Option<OwnedFd>,
    /// Those that are received from; the first one transmits.
    list: Vec<Queue>,
    memory: Memory,
    /// Buffers that each queue has set aside.
    reserved: u32,
}

impl Drop for Queues {
    fn drop(&mut self) {
        drop(self.link.take());
        for Queue { socket, lane } in self.list.drain(..) {
            // A driver lets go of the buffers some time after the socket is closed; the kernel's copying ends with it.
            let let_go = !socket.zero_copy;
            drop(socket);
            lane.close(let_go);
            if let_go {
                self.memory.unreserve(self.reserved);
            }
        }
    }
}

/// Where frames leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// The first queue.
    Queue,
    /// The raw socket of bursts.
    Bursts,
}

/// One port on AF_XDP sockets, one for each queue of the interface.
///
/// `commit` and `forward` queue, `flush` sends: one system call for a burst. Frames are sent through the first queue, in order.
/// An interface tells nobody that it goes down but by netlink, which [`Backend::readiness`] therefore watches too.
pub struct XdpBackend {
    interface: String,
    capabilities: Capabilities,
    native: bool,
    queues: Queues,
    /// What bursts leave by: no ring's buffer holds one, and the kernel cuts none that comes from a ring.
    bursts: PnetBackend,
    /// The last buffer that was lent is the one of `bursts`.
    in_burst: bool,
    /// Why frames could not be sent before a burst, until `flush` reports it.
    fault: Option<io::Error>,
    /// The queue whose turn is first.
    turn: usize,
    /// News of links, and where they are read to.
    monitor: Socket,
    news: Vec<u8>,
    /// All sockets and the monitor, once somebody has asked for it: until then no frame costs a look at it.
    readiness: OnceLock<Option<OwnedFd>>,
    /// What had no room for a frame.
    full: Option<Exit>,
    /// The interface is down, and that was told.
    down: bool,
}

impl XdpBackend {
    /// Opens `interface` of the calling thread's network namespace with buffers of `memory`. The port may then be used from any
    /// thread.
    ///
    /// What another user has just left is waited for, half a second at most.
    ///
    /// # Errors
    /// [`OpenError`]: no such interface, not Ethernet, down, in use, too few buffers, or no right.
    pub fn open(interface: &str, memory: &Memory, options: &XdpOptions) -> Result<Self, OpenError> {
        check(options)?;
        let link = Interface::query(interface)?;
        let fails = |action| move |error| refuse(interface, action, error);

        let claims = match &options.take {
            Take::All => Vec::new(),
            Take::Claims(claims) => keys(claims),
        };
        let entries = u32::try_from(claims.len()).unwrap_or(u32::MAX).max(1);
        let claimed = Map::new(Kind::Hash, KEY, 4, entries).map_err(fails("make a BPF map"))?;
        for key in claims {
            let set = claimed.set(&key, &1u32.to_ne_bytes());
            set.map_err(fails("fill a BPF map"))?;
        }
        let sockets = Map::new(Kind::Sockets, 4, 4, MOST_QUEUES).map_err(fails(
            "make a map of AF_XDP sockets (has the kernel CONFIG_XDP_SOCKETS?)",
        ))?;
        let program = assemble(
            &options.take,
            link.hardware_address,
            sockets.as_fd(),
            claimed.as_fd(),
        );
        let program = bpf::load(&program).map_err(fails("load the XDP program"))?;
        // Until a queue has its socket in the map, its frames pass to the kernel.
        let (attached, native) = attach(program.as_fd(), link.index, options.mode)
            .map_err(fails("attach the XDP program"))?;

        let largest = usize::from(link.mtu) + ETHERNET;
        let largest = largest.min(memory.buffers().size() - HEADROOM);
        let mut queues = Queues {
            link: Some(attached),
            list: Vec::new(),
            memory: memory.clone(),
            reserved: Lane::<RingMapping>::needs(options.ring, options.ring),
        };
        queues.fill(interface, &link, native, largest, options)?;
        for (number, queue) in (options.queues.clone().unwrap_or(0..MOST_QUEUES)).zip(&queues.list)
        {
            if let Some(busy_poll) = options.busy_poll {
                let set = queue.socket.busy_poll(busy_poll);
                set.map_err(fails("set busy polling"))?;
            }
            let descriptor = queue.socket.as_fd().as_raw_fd().cast_unsigned();
            let set = sockets.set(&number.to_ne_bytes(), &descriptor.to_ne_bytes());
            set.map_err(fails("give a queue its socket"))?;
        }
        let monitor = monitor().map_err(fails("watch the links"))?;
        let only_transmits = PnetOptions {
            frames: Frames::None,
            receive_buffer: 0,
        };
        let bursts = PnetBackend::open(interface, only_transmits)?;
        Ok(Self {
            interface: interface.to_owned(),
            capabilities: Capabilities {
                hardware_address: link.hardware_address,
                mtu: u16::try_from(largest - ETHERNET).unwrap_or(u16::MAX),
                burst: BURST,
            },
            native,
            queues,
            bursts,
            in_burst: false,
            fault: None,
            turn: 0,
            monitor,
            news: Vec::with_capacity(4096),
            readiness: OnceLock::new(),
            full: None,
            down: false,
        })
    }

    /// Whether the program runs in the driver.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.native
    }

    /// Whether all queues work without copying.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.queues.list.iter().all(|queue| queue.socket.zero_copy)
    }

    /// How many queues the port has.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.queues.list.len()
    }

    /// Takes the news of links that woke the caller; whether there were any.
    fn has_news(&mut self) -> bool {
        let mut any = false;
        loop {
            self.news.clear();
            match self.monitor.recv(&mut self.news, libc::MSG_DONTWAIT) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                // Some were lost.
                Err(_) => return true,
            }
        }
    }

    /// Looks whether the interface is down, which nothing else of an AF_XDP socket tells.
    fn look(&mut self) -> io::Result<()> {
        for queue in &self.queues.list {
            match queue.socket.kick_rx() {
                Ok(()) => self.down = false,
                Err(error) if is_lost(&error) => {
                    return if std::mem::replace(&mut self.down, true) {
                        Ok(())
                    } else {
                        Err(name_error(&self.interface, &error))
                    };
                }
                Err(error) => return Err(name_error(&self.interface, &error)),
            }
        }
        Ok(())
    }

    /// Queues a burst that is one segment with the other frames: it needs nobody to cut it. Whether it was one.
    fn queue_alone(&mut self, len: usize, burst: Burst) -> bool {
        let built = self.bursts.burst_buffer().and_then(|room| room.get(..len));
        let cut = built.and_then(|built| Cut::new(built, burst));
        let (Some(built), Some(mut cut)) = (built, cut.filter(|cut| cut.segments() == 1)) else {
            return false;
        };
        let Some(Queue { lane, .. }) = self.queues.list.first_mut() else {
            return false;
        };
        let Some(len) = lane.buffer().and_then(|room| cut.next(built, room)) else {
            return false;
        };
        lane.commit(len);
        true
    }

    /// Hands the first queue's frames to the interface, as many as it takes now.
    fn flush_queue(&mut self) -> io::Result<()> {
        let Some(Queue { socket, lane }) = self.queues.list.first_mut() else {
            return Ok(());
        };
        // The kernel may have sent in the meantime.
        lane.progress();
        let mut fresh = lane.publish();
        while lane.queued() > 0 {
            let kicked = if lane.tx_needs_wakeup() {
                socket.kick_tx()
            } else {
                Ok(())
            };
            let error = kicked.err().map(io::Error::from);
            if let Some(error) = error.filter(is_lost) {
                // A driver may be looking at the ring even now.
                lane.fail(fresh && !socket.zero_copy);
                return Err(name_error(&self.interface, &error));
            }
            fresh = false;
            let taken = lane.progress();
            match kicked {
                // Copying, the kernel says so of each frame that the interface drops.
                Err(Errno::BUSY) if taken > 0 && !socket.zero_copy => lane.refuse(),
                Ok(()) | Err(Errno::AGAIN | Errno::BUSY | Errno::NOBUFS | Errno::INTR) => {}
                Err(error) => return Err(name_error(&self.interface, &error.into())),
            }
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl Queues {
    /// All queues, from this one on.
    fn in_turn(&mut self, turn: usize) -> impl Iterator<Item = &mut Queue> {
        let turn = turn.min(self.list.len());
        let (before, from) = self.list.split_at_mut(turn);
        from.iter_mut().chain(before)
    }

    /// Binds the queues that `options` ask for.
    fn fill(
        &mut self,
        interface: &str,
        link: &Interface,
        native: bool,
        largest: usize,
        options: &XdpOptions,
    ) -> Result<(), OpenError> {
        let numbers = options.queues.clone().unwrap_or(0..MOST_QUEUES);
        let flags = flags(options.copying, native);
        for number in numbers {
            let opened = XdpSocket::open(&self.memory, link.index, number, options.ring, flags);
            let (socket, rings) = match opened {
                Ok(opened) => opened,
                // The kernel's way to say that there is no such queue: all were asked for, and there are no more.
                Err(error)
                    if error.raw_os_error() == Some(libc::EINVAL)
                        && options.queues.is_none()
                        && !self.list.is_empty() =>
                {
                    break;
                }
                Err(error) => return Err(refuse(interface, "bind an AF_XDP socket", error)),
            };
            let reserved = self.memory.reserve(self.reserved);
            let queue = reserved.map_err(|left| OpenError::Memory {
                interface: interface.to_owned(),
                needed: self.reserved,
                left,
            })?;
            let mut lane = Lane::new(self.memory.clone(), queue, rings, largest);
            lane.refill();
            self.list.push(Queue { socket, lane });
        }
        Ok(())
    }
}

impl Backend for XdpBackend {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        let mut taken = 0;
        for queue in self.queues.in_turn(self.turn) {
            taken += queue.lane.receive(budget - taken, sink);
            if queue.lane.fill_needs_wakeup() {
                // What is wrong with the interface is told by `look`.
                let _ = queue.socket.kick_rx();
            }
        }
        self.turn = (self.turn + 1) % self.queues.list.len().max(1);
        if taken > 0 {
            self.down = false;
        }
        // The caller does not come back for what woke it once the port is empty.
        if taken < budget && (self.has_news() || taken == 0) {
            self.look()?;
        }
        Ok(taken)
    }

    fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) {
        let mut shown = 0;
        for queue in self.queues.in_turn(self.turn) {
            shown += queue.lane.peek(budget - shown, sink);
        }
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        let buffer = self.queues.list.first_mut()?.lane.buffer();
        self.in_burst = false;
        self.full = buffer.is_none().then_some(Exit::Queue);
        buffer
    }

    fn commit(&mut self, len: usize) {
        let Some(Queue { lane, .. }) = self.queues.list.first_mut() else {
            return;
        };
        // The frame was no burst after all: it leaves in order with the others.
        if std::mem::take(&mut self.in_burst)
            && let Some(built) = self.bursts.burst_buffer().and_then(|room| room.get(..len))
            && let Some(room) = lane.buffer().and_then(|room| room.get_mut(..len))
        {
            room.copy_from_slice(built);
        }
        lane.commit(len);
    }

    fn cuts_bursts(&self) -> bool {
        true
    }

    fn burst_buffer(&mut self) -> Option<&mut [u8]> {
        // Either may be what is built.
        self.buffer()?;
        let room = self.bursts.burst_buffer();
        self.in_burst = room.is_some();
        self.full = room.is_none().then_some(Exit::Bursts);
        room
    }

    fn commit_burst(&mut self, len: usize, burst: Burst) {
        if !std::mem::take(&mut self.in_burst) {
            return self.commit(usize::MAX);
        }
        if self.queue_alone(len, burst) {
            return;
        }
        // What was queued before leaves before.
        if let Err(error) = self.flush_queue() {
            self.fault = Some(error);
        }
        self.bursts.commit_burst(len, burst);
    }

    fn forward(
        &mut self,
        frame: &mut dyn Frame,
        headers: &[u8],
        payload: Range<usize>,
    ) -> Result<(), Refused> {
        let queue = self.queues.list.first_mut().ok_or(Refused::Full)?;
        match queue.lane.forward(frame, headers, &payload) {
            Some(queued) => {
                self.full = (queued == Err(Refused::Full)).then_some(Exit::Queue);
                queued
            }
            None => {
                let payload = frame.bytes().get(payload).ok_or(Refused::Oversize)?;
                self.transmit(headers, payload)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let queue = self.flush_queue();
        let bursts = self.bursts.flush();
        self.fault.take().map_or(queue.and(bursts), Err)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // What does not fit the system call's seconds is as good as no limit.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let monitor = self.monitor.as_fd();
        let mut waited = vec![PollFd::from_borrowed_fd(monitor, PollFlags::IN)];
        let sockets = self.queues.list.iter();
        waited.extend(sockets.map(|queue| PollFd::new(&queue.socket, PollFlags::IN)));
        let full = match self.full {
            Some(Exit::Queue) => self.queues.list.first().map(|queue| queue.socket.as_fd()),
            Some(Exit::Bursts) => self.bursts.readiness(),
            None => None,
        };
        waited.extend(full.map(|exit| PollFd::from_borrowed_fd(exit, PollFlags::OUT)));
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(name_error(&self.interface, &error.into())),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        let made = || readiness(&self.queues.list, &self.monitor).ok();
        self.readiness.get_or_init(made).as_ref().map(AsFd::as_fd)
    }

    fn statistics(&self) -> Statistics {
        let bursts = self.bursts.statistics();
        let mut all = Statistics {
            transmitted: bursts.transmitted,
            transmit_failed: bursts.transmit_failed,
            ..Statistics::default()
        };
        for queue in &self.queues.list {
            let counts = queue.lane.counts();
            all.received += counts.received;
            all.transmitted += counts.transmitted;
            all.receive_dropped += counts.dropped + queue.socket.dropped();
            all.transmit_failed += counts.failed;
        }
        all
    }
}

/// Whether `options` can be.
fn check(options: &XdpOptions) -> Result<(), OpenError> {
    let wrong = |option, problem| Err(OpenError::Option { option, problem });
    if !options.ring.is_power_of_two() || !(64..=32_768).contains(&options.ring) {
        return wrong("ring", "a power of two from 64 to 32768 is needed");
    }
    if let Some(queues) = &options.queues
        && (queues.is_empty() || queues.end > MOST_QUEUES)
    {
        return wrong("queues", "from one queue to those below 256 are needed");
    }
    match &options.take {
        Take::Claims(claims) if claims.ethertypes.len() > MOST_ETHERTYPES => {
            wrong("take", "64 EtherTypes at most can be claimed")
        }
        _ => Ok(()),
    }
}

/// Attaches the program; whether in the driver.
fn attach(program: BorrowedFd<'_>, index: u32, mode: Mode) -> io::Result<(OwnedFd, bool)> {
    let attach = |flags| when_free(|| bpf::attach(program, index, flags));
    let native = (mode != Mode::Generic).then(|| attach(NATIVE));
    match native {
        Some(Ok(link)) => Ok((link, true)),
        Some(Err(error)) if mode == Mode::Native || error.kind() == io::ErrorKind::ResourceBusy => {
            Err(error)
        }
        _ => Ok((attach(GENERIC)?, false)),
    }
}

/// How to bind: generic mode always copies.
fn flags(copying: Copying, native: bool) -> SocketAddrXdpFlags {
    let wakeup = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    match copying {
        Copying::ZeroCopy => wakeup | SocketAddrXdpFlags::XDP_ZEROCOPY,
        Copying::Auto if native => wakeup,
        Copying::Auto | Copying::Copy => wakeup | SocketAddrXdpFlags::XDP_COPY,
    }
}

/// A socket that becomes readable with every change of a link.
fn monitor() -> io::Result<Socket> {
    let mut monitor = Socket::new(NETLINK_ROUTE)?;
    monitor.bind_auto()?;
    monitor.add_membership(LINKS)?;
    Ok(monitor)
}

/// One descriptor for all sockets.
fn readiness(queues: &[Queue], monitor: &Socket) -> Result<OwnedFd, Errno> {
    let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let sockets = queues.iter().map(|queue| queue.socket.as_fd());
    for descriptor in sockets.chain([monitor.as_fd()]) {
        epoll::add(&all, descriptor, EventData::new_u64(0), EventFlags::IN)?;
    }
    Ok(all)
}

/// The error for a system call that failed.
fn refuse(interface: &str, action: &'static str, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::ResourceBusy {
        let interface = interface.to_owned();
        return OpenError::Busy { interface };
    }
    InterfaceError::system(interface, action, NEEDS, source).into()
}
