//! Two ports joined by a cable that is only memory: frames for tests and models, without a kernel.
//!
//! ```
//! use ipos_backend::Backend;
//! use ipos_backend::memory::{Cable, Plan, Side};
//!
//! let cable = Cable::new(Plan::default());
//! let (mut one, mut two) = (cable.open(Side::Near).unwrap(), cable.open(Side::Far).unwrap());
//! one.transmit(b"destination.", b"..and the rest").unwrap();
//! one.flush().unwrap();
//! let taken = two.receive(1, &mut |frame| assert_eq!(frame.bytes(), b"destination...and the rest"));
//! assert_eq!(taken.unwrap(), 1);
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::burst::Cut;
use crate::{Backend, Burst, Capabilities, Frame, Statistics};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// The longest burst.
const LONGEST: usize = u16::MAX as usize;

/// How to make a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The largest IP packet that the cable carries, in bytes.
    pub mtu: u16,
    /// Frames that wait to be transmitted; also those that wait to be received. More of the former are refused, more
    /// of the latter are lost and counted.
    pub ring: usize,
}

impl Default for Plan {
    /// Ethernet's MTU, 1,024 frames.
    fn default() -> Self {
        Self {
            mtu: 1500,
            ring: 1024,
        }
    }
}

/// One of the two ends of a cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one.
    Near,
    /// The other.
    Far,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// A cable, which lives as long as a port on it. Clones are the same cable.
#[derive(Clone, Debug)]
pub struct Cable {
    shared: Arc<Shared>,
    ring: usize,
}

/// What both ports see.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mtu: u16,
    ends: [End; 2],
}

/// What arrives at one end.
#[derive(Debug)]
struct End {
    up: bool,
    /// The largest frame of the port there, in bytes; `None`: no port is open there.
    largest: Option<usize>,
    ring: usize,
    waiting: VecDeque<Vec<u8>>,
    dropped: u64,
}

/// A port at one end of a [`Cable`].
#[derive(Debug)]
pub struct MemoryPort {
    shared: Arc<Shared>,
    side: Side,
    mtu: u16,
    ring: usize,
    queued: VecDeque<Vec<u8>>,
    buffer: Box<[u8]>,
    /// The largest frame that the interface takes.
    largest: usize,
    lent: bool,
    /// That the end is down was told.
    told: bool,
    statistics: Statistics,
}

impl Cable {
    /// A cable with both ends up.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let end = || End {
            up: true,
            largest: None,
            ring: plan.ring,
            waiting: VecDeque::new(),
            dropped: 0,
        };
        let state = State {
            mtu: plan.mtu,
            ends: [end(), end()],
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Condvar::new(),
            }),
            ring: plan.ring,
        }
    }

    /// The port at one end, of the MTU that the cable has now.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`]: there is one already.
    pub fn open(&self, side: Side) -> io::Result<MemoryPort> {
        let mut state = self.shared.lock();
        let mtu = state.mtu;
        let largest = usize::from(mtu) + ETHERNET;
        let end = state.end(side);
        if end.largest.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        end.largest = Some(largest);
        end.dropped = 0;
        drop(state);
        Ok(MemoryPort {
            shared: Arc::clone(&self.shared),
            side,
            mtu,
            ring: self.ring,
            queued: VecDeque::new(),
            buffer: vec![0; LONGEST.max(largest)].into_boxed_slice(),
            largest,
            lent: false,
            told: false,
            statistics: Statistics::default(),
        })
    }

    /// Takes one end up or down. Frames pass only while both are up; what waits at an end that goes down is lost.
    pub fn set_up(&self, side: Side, up: bool) {
        let mut state = self.shared.lock();
        let end = state.end(side);
        end.up = up;
        if !up {
            end.waiting.clear();
        }
        self.shared.changed.notify_all();
    }

    /// Sets the MTU of ports that are opened from now on. Those that are open drop what is larger than theirs.
    pub fn set_mtu(&self, mtu: u16) {
        self.shared.lock().mtu = mtu;
    }
}

impl Shared {
    /// The state is whole between any two statements, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn end(&mut self, side: Side) -> &mut End {
        let [near, far] = &mut self.ends;
        match side {
            Side::Near => near,
            Side::Far => far,
        }
    }
}

impl Drop for MemoryPort {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let end = state.end(self.side);
        end.largest = None;
        end.waiting.clear();
    }
}

fn down() -> io::Error {
    io::Error::new(io::ErrorKind::NetworkDown, "the cable's end is down")
}

impl Backend for MemoryPort {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // Locally administered.
            hardware_address: match self.side {
                Side::Near => [2, 0, 0, 0, 0, 1],
                Side::Far => [2, 0, 0, 0, 0, 2],
            },
            mtu: self.mtu,
            burst: 64,
        }
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < budget {
            let mut state = self.shared.lock();
            let end = state.end(self.side);
            if !end.up {
                return if std::mem::replace(&mut self.told, true) {
                    Ok(taken)
                } else {
                    Err(down())
                };
            }
            self.told = false;
            let Some(frame) = end.waiting.pop_front() else {
                break;
            };
            drop(state);
            sink(&mut &frame[..]);
            self.statistics.received += 1;
            taken += 1;
        }
        Ok(taken)
    }

    fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) {
        let mut state = self.shared.lock();
        let waiting = state.end(self.side).waiting.iter();
        waiting.take(budget).for_each(|frame| sink(frame));
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        let largest = self.largest;
        self.burst_buffer()?.get_mut(..largest)
    }

    fn commit(&mut self, len: usize) {
        match self.buffer.get(..len) {
            Some(frame) if self.lent && (ETHERNET..=self.largest).contains(&len) => {
                self.queued.push_back(frame.to_vec());
            }
            _ => self.statistics.transmit_failed += 1,
        }
        self.lent = false;
    }

    fn cuts_bursts(&self) -> bool {
        true
    }

    fn burst_buffer(&mut self) -> Option<&mut [u8]> {
        self.lent = self.queued.len() < self.ring;
        self.lent.then_some(&mut self.buffer)
    }

    fn commit_burst(&mut self, len: usize, burst: Burst) {
        let frame = self.buffer.get(..len).filter(|_| self.lent);
        let cut = frame.and_then(|frame| Some((frame, Cut::new(frame, burst)?)));
        self.lent = false;
        let Some((frame, mut cut)) = cut else {
            self.statistics.transmit_failed += 1;
            return;
        };
        let mut segment = vec![0; self.largest];
        while let Some(len) = cut.next(frame, &mut segment) {
            self.queued.push_back(segment[..len].to_vec());
        }
        // A segment that fits no frame.
        self.statistics.transmit_failed += u64::from(!cut.is_done());
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if !state.end(self.side).up {
            self.statistics.transmit_failed += self.queued.len() as u64;
            let any = !self.queued.is_empty();
            self.queued.clear();
            return if any { Err(down()) } else { Ok(()) };
        }
        let peer = state.end(self.side.other());
        for frame in self.queued.drain(..) {
            self.statistics.transmitted += 1;
            // As on any wire, nobody may be there to hear it.
            let Some(largest) = peer.largest.filter(|_| peer.up) else {
                continue;
            };
            if frame.len() > largest || peer.waiting.len() >= peer.ring {
                peer.dropped += 1;
            } else {
                peer.waiting.push_back(frame);
            }
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let limit = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut state = self.shared.lock();
        loop {
            let end = state.end(self.side);
            // Down that was not told is news too.
            if !end.waiting.is_empty() || (!end.up && !self.told) {
                return Ok(());
            }
            let left = limit.map(|limit| limit.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Ok(()),
                Some(left) => {
                    let waited = self.shared.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.shared.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            receive_dropped: self.shared.lock().end(self.side).dropped,
            ..self.statistics
        }
    }
}
