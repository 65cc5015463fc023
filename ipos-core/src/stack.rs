//! The protocol stack thread (FIG. 8): all endpoints of a device, their deadlines, and those that have
//! something to send.
//!
//! Segments arrive with a reference to their endpoint (FIG. 9A: "a reference to the connection endpoint"), so nothing is
//! searched here, and their checksums are verified already.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use ipos_proto::{Epoch, SeqNum};
use siphasher::sip::SipHasher13;
use slab::Slab;

use core::hash::{Hash, Hasher};

use crate::config::{Limits, Tcp};
use crate::event::{EndpointId, Event, Failure, Port};
use crate::flow::Flow;
use crate::speech::Speech;
use crate::tcp::{BufferLimits, Endpoint, Outcome, Segment, State};
use crate::time::Instant;
use crate::timer_queue::TimerQueue;
use core::net::SocketAddrV4;

/// An endpoint and what the stack knows beside it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) tcp: Endpoint,
    pub(crate) flow: Flow,
    /// Its segments leave by this port.
    port: Port,
    /// The flow's place in the flow table.
    pub(crate) key: u32,
    generation: u32,
    /// The client belongs to another server yet: nothing may be sent.
    pub(crate) muted: bool,
    /// An application has it.
    pub(crate) attached: bool,
    /// Place of its listening socket.
    pub(crate) listener: usize,
    /// Of the last hand-over, or offer, of the connection.
    pub(crate) epoch: Epoch,
    /// The application is between two requests: the endpoint may move.
    pub(crate) quiet: bool,
    /// It shall move on.
    pub(crate) wish: Option<Wish>,
    /// In the queue of those that may have something to send.
    queued: bool,
    told_readable: bool,
    told_writable: bool,
    scheduled: Option<Instant>,
    /// Bytes of memory that its buffers hold.
    held: u32,
    /// In the queue of those in TIME-WAIT.
    waits: bool,
    /// What passes is followed.
    pub(crate) speech: Option<Box<Speech>>,
}

/// Where an endpoint shall move at its next quiet point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To the server that selection finds.
    Any,
    /// To the one with this Port B, and the application on this port of it.
    To(SocketAddrV4),
}

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Stack {
    slots: Slab<Slot>,
    generation: u32,
    timers: TimerQueue,
    /// Those that may have something to send, by port.
    ready: [VecDeque<u32>; Port::ALL.len()],
    events: VecDeque<Event>,
    /// Datagrams among them.
    datagrams: usize,
    isn_key: [u8; 16],
    /// Bytes that all buffers hold, and may hold.
    held: usize,
    bound: usize,
    /// Endpoints in TIME-WAIT, the oldest first; some may be gone.
    waiting: VecDeque<(u32, u32)>,
    waits: usize,
    /// What an application says, with what is added to it; reused.
    spoken: Vec<u8>,
}

/// How many more places than endpoints the queue of those in TIME-WAIT may have, besides twice as many.
const WAITING_SLACK: usize = 64;
/// Units of the window scale that a receive buffer has at least.
pub(crate) const LEAST_UNITS: usize = 4;
/// RFC 6528: one tick every 4 µs.
const ISN_TICK_MICROS: u64 = 4;

impl Stack {
    pub(crate) fn new(isn_key: [u8; 16], bound: usize) -> Stack {
        Stack {
            slots: Slab::new(),
            generation: 0,
            timers: TimerQueue::default(),
            ready: Default::default(),
            events: VecDeque::new(),
            datagrams: 0,
            isn_key,
            held: 0,
            bound,
            waiting: VecDeque::new(),
            waits: 0,
            spoken: Vec::new(),
        }
    }

    /// What one endpoint's buffers may hold now.
    fn limits(&self, tcp: &Tcp) -> BufferLimits {
        if self.held < self.bound {
            return BufferLimits {
                receive: tcp.receive_buffer,
                send: tcp.send_buffer,
            };
        }
        // A window of less than a few units of its scale would never open.
        let least = Limits::LEAST_BUFFER.max(LEAST_UNITS << tcp.window_scale);
        BufferLimits {
            receive: tcp.receive_buffer.min(least),
            send: tcp.send_buffer.min(least),
        }
    }

    /// RFC 6528 §3: M + F(connection, key); and the offset of the connection's timestamps.
    pub(crate) fn initial_numbers(&self, now: Instant, flow: &Flow) -> (SeqNum, u32) {
        let mut hasher = SipHasher13::new_with_key(&self.isn_key);
        flow.hash(&mut hasher);
        let hash = hasher.finish();
        let ticks = (now.as_micros() / ISN_TICK_MICROS) as u32;
        (
            SeqNum::new((hash as u32).wrapping_add(ticks)),
            (hash >> 32) as u32,
        )
    }

    /// Adds an endpoint whose segments leave by `port`.
    pub(crate) fn insert(&mut self, tcp: Endpoint, flow: Flow, port: Port, muted: bool) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        let slot = Slot {
            tcp,
            flow,
            port,
            key: u32::MAX,
            generation: self.generation,
            muted,
            attached: false,
            listener: 0,
            epoch: Epoch::default(),
            quiet: false,
            wish: None,
            queued: false,
            told_readable: false,
            told_writable: true,
            scheduled: None,
            held: 0,
            waits: false,
            speech: None,
        };
        self.slots.insert(slot) as u32
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Slot> {
        self.slots.get_mut(index as usize)
    }

    /// The reference that the host uses.
    pub(crate) fn id(&self, index: u32) -> Option<EndpointId> {
        self.get(index).map(|slot| EndpointId {
            index,
            generation: slot.generation,
        })
    }

    /// The endpoint that the host means, while it has it.
    pub(crate) fn resolve(&self, id: EndpointId) -> Option<u32> {
        let slot = self.get(id.index)?;
        (slot.generation == id.generation && slot.attached).then_some(id.index)
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<Slot> {
        let mut slot = self.slots.try_remove(index as usize)?;
        self.held -= slot.held as usize;
        self.waits -= usize::from(slot.waits);
        self.timers.schedule(index, &mut slot.scheduled, None);
        Some(slot)
    }

    /// Another bound of what the buffers of all endpoints hold.
    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Bytes that the buffers of all endpoints hold.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// A segment for the endpoint.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        index: u32,
        segment: &Segment<'_>,
    ) -> Outcome {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Outcome::default();
        };
        let outcome = slot.tcp.handle(now, tcp, segment);
        self.after(index, outcome);
        outcome
    }

    /// An endpoint whose deadline has passed, served.
    pub(crate) fn expired(&mut self, now: Instant, tcp: &Tcp) -> Option<(u32, Outcome)> {
        let index = self.timers.pop(now)?;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Some((index, Outcome::default()));
        };
        slot.scheduled = None;
        let outcome = slot.tcp.handle_timeout(now, tcp);
        self.after(index, outcome);
        Some((index, outcome))
    }

    /// Tells the host, and looks at deadlines and output again.
    fn after(&mut self, index: u32, outcome: Outcome) {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return;
        };
        let id = EndpointId {
            index,
            generation: slot.generation,
        };
        if slot.attached && !slot.muted {
            if outcome.readable && !slot.told_readable {
                slot.told_readable = true;
                self.events.push_back(Event::Readable(id));
            }
            if outcome.writable && !slot.told_writable {
                slot.told_writable = true;
                self.events.push_back(Event::Writable(id));
            }
        }
        self.touch(index);
    }

    /// The endpoint may have something to send, or another deadline.
    pub(crate) fn touch(&mut self, index: u32) {
        self.reschedule(index);
        if let Some(slot) = self.slots.get_mut(index as usize)
            && !slot.queued
            && !slot.muted
        {
            slot.queued = true;
            self.ready[slot.port as usize].push_back(index);
        }
    }

    /// The endpoint may have another deadline, and hold more or less memory.
    pub(crate) fn reschedule(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            let held = u32::try_from(slot.tcp.memory()).unwrap_or(u32::MAX);
            self.held = self.held - slot.held as usize + held as usize;
            slot.held = held;
            if !slot.waits && slot.tcp.state() == State::TimeWait {
                slot.waits = true;
                self.waits += 1;
                self.waiting.push_back((index, slot.generation));
            }
            let at = if slot.muted { None } else { slot.tcp.timeout() };
            self.timers.schedule_lazily(index, &mut slot.scheduled, at);
        }
    }

    /// The next endpoint that may have something to send by `port`. It leaves the queue.
    pub(crate) fn next_ready(&mut self, port: Port) -> Option<u32> {
        loop {
            let index = self.ready[port as usize].pop_front()?;
            if let Some(slot) = self.slots.get_mut(index as usize)
                && slot.queued
            {
                slot.queued = false;
                return Some(index);
            }
        }
    }

    /// Endpoints in TIME-WAIT.
    pub(crate) fn time_wait(&self) -> usize {
        self.waits
    }

    /// Closes the oldest endpoint in TIME-WAIT while there are more than `bound`.
    pub(crate) fn evicted(&mut self, bound: usize) -> Option<u32> {
        if self.waiting.len() > 2 * self.waits + WAITING_SLACK {
            let slots = &self.slots;
            self.waiting.retain(|&(index, generation)| {
                slots
                    .get(index as usize)
                    .is_some_and(|slot| slot.generation == generation)
            });
        }
        while self.waits > bound {
            let (index, generation) = self.waiting.pop_front()?;
            if let Some(slot) = self.slots.get_mut(index as usize)
                && slot.generation == generation
            {
                slot.tcp.end();
                // Its host may hold it for a while yet.
                slot.waits = false;
                self.waits -= 1;
                return Some(index);
            }
        }
        None
    }

    /// Gives the endpoint to the application: what has come already is announced.
    pub(crate) fn attach(&mut self, tcp: &Tcp, index: u32) {
        let limits = self.limits(tcp);
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.attached = true;
            slot.tcp.set_limits(limits);
            let readable = !slot.tcp.readable().is_empty() || slot.tcp.is_finished();
            self.after(
                index,
                Outcome {
                    readable,
                    ..Outcome::default()
                },
            );
        }
    }

    /// The application loses the endpoint.
    pub(crate) fn fail(&mut self, index: u32, failure: Failure) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.attached
        {
            slot.attached = false;
            self.events.push_back(Event::Failed(
                EndpointId {
                    index,
                    generation: slot.generation,
                },
                failure,
            ));
        }
    }

    /// The application's bytes, where its conversation is followed through `speak`, which may add to them; how many were
    /// taken.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        index: u32,
        data: &[u8],
        mut speak: impl FnMut(&mut Speech, &[u8], &mut Vec<u8>),
    ) -> usize {
        let limits = self.limits(tcp);
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return 0;
        };
        if slot.muted {
            // It is offered to another server: told when it stays.
            slot.told_writable = false;
            return 0;
        }
        slot.tcp.set_limits(limits);
        let taken = match slot.speech.as_deref_mut() {
            None => slot.tcp.write(now, data),
            Some(speech) => {
                let mut taken = 0;
                // What is held back takes no room.
                while taken < data.len() && slot.tcp.writable() > 0 {
                    let left = &data[taken..];
                    let some = left.len().min(slot.tcp.writable());
                    self.spoken.clear();
                    speak(speech, &left[..some], &mut self.spoken);
                    slot.tcp.append(now, &self.spoken);
                    taken += some;
                }
                taken
            }
        };
        // Told when there is room again.
        slot.told_writable = taken == data.len();
        self.touch(index);
        taken
    }

    /// What is held back of an endpoint's conversation goes out.
    pub(crate) fn finish_speech(&mut self, now: Instant, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && let Some(mut speech) = slot.speech.take()
        {
            self.spoken.clear();
            speech.finish(&mut self.spoken);
            slot.tcp.append(now, &self.spoken);
            self.touch(index);
        }
    }

    /// The endpoint stays here: it speaks again.
    pub(crate) fn unmute(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.muted = false;
            let readable = !slot.tcp.readable().is_empty() || slot.tcp.is_finished();
            let writable = slot.tcp.writable() > 0;
            self.after(
                index,
                Outcome {
                    readable,
                    writable,
                    ..Outcome::default()
                },
            );
        }
    }

    /// Endpoints of applications that are between two requests, and shall move: `all` of them, or those with a wish.
    pub(crate) fn quiet(&self, all: bool) -> Vec<u32> {
        let quiet = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.attached && slot.quiet && (all || slot.wish.is_some()));
        quiet.map(|(index, _)| index as u32).collect()
    }

    /// The host is told when there is room to write.
    pub(crate) fn want_writable(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.told_writable = false;
        }
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.datagrams += usize::from(matches!(event, Event::Datagram { .. }));
        self.events.push_back(event);
    }

    /// Datagrams that wait for the host.
    pub(crate) fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Events that wait.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        self.datagrams -= usize::from(matches!(event, Event::Datagram { .. }));
        if let Event::Readable(id) = &event
            && let Some(slot) = self.slots.get_mut(id.index as usize)
            && slot.generation == id.generation
        {
            slot.told_readable = false;
        }
        Some(event)
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Whether the endpoint has ended and may be removed.
    pub(crate) fn is_closed(&self, index: u32) -> bool {
        self.get(index)
            .is_some_and(|slot| slot.tcp.state() == State::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle established connection: its slot, its place in the flow table, its deadline; no buffers.
    #[test]
    fn an_idle_endpoint_takes_less_than_a_kilobyte() {
        let deadline = 2 * size_of::<(Instant, u32)>();
        let flow = size_of::<Flow>() + size_of::<crate::flow_table::Record>() + 32;
        let total = size_of::<Slot>() + flow + deadline;
        assert!(total <= 1024, "{total} bytes");
    }
}
