//! The port: the queues of one interface behind the trait.

mod open;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use ipos_backend::burst::Cut;
use ipos_backend::interface::{is_lost, name_error};
use ipos_backend::{Backend, Burst, Capabilities, Frame, Refused, Statistics};
use ipos_backend_pnet::PnetBackend;
use netlink_sys::Socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::lane::Lane;
use crate::memory::Memory;
use crate::socket::XdpSocket;
use crate::sys::mapping::RingMapping;

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
        // What was queued before leaves before, while the kernel takes it; a burst that overtakes it is TCP's to put in order.
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
        let made = || open::readiness(&self.queues.list, &self.monitor).ok();
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
