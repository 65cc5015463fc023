//! The two ends of a conversation: each writes its pattern and reads the other's, in pieces and with pauses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::{Failure, Flow, Instant, ListenerId, Origin};
use ipos_sim::campaign::Dice;
use ipos_sim::{Application, ExchangeError, Log, Next, Script, Session, Stream, pattern};

/// What one end does.
#[derive(Clone, Debug)]
pub struct PartyPlan {
    /// Bytes that it writes.
    pub total: u64,
    /// It begins to write when it has read so many.
    pub after_reading: u64,
    /// Most bytes written at once.
    pub piece: u64,
    /// Longest pause after a write, and how often there is one, in percent.
    pub write_pause: (Duration, u64),
    /// Most bytes read at once.
    pub read: u64,
    /// Longest pause after a read, and how often there is one, in percent.
    pub read_pause: (Duration, u64),
    /// It reads nothing for so long.
    pub deaf: Duration,
    /// When it closes its direction.
    pub ending: Ending,
    /// It resets the connection when so many bytes went in both directions.
    pub abort_after: Option<u64>,
}

/// When an end closes its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// So long after its last byte; it goes on reading.
    After(Duration),
    /// When it has read the other's end.
    AfterPeer,
    /// It lets go of the connection behind its last byte, once it has read so many. What comes then is not read.
    LetGo(u64),
}

impl Default for PartyPlan {
    /// Writes nothing, reads everything at once, closes when the other has.
    fn default() -> PartyPlan {
        PartyPlan {
            total: 0,
            after_reading: 0,
            piece: u64::MAX,
            write_pause: (Duration::ZERO, 0),
            read: u64::MAX,
            read_pause: (Duration::ZERO, 0),
            deaf: Duration::ZERO,
            ending: Ending::AfterPeer,
            abort_after: None,
        }
    }
}

/// What became of one end.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Bytes that the connection took.
    pub sent: u64,
    /// Bytes read, all of them right.
    pub received: u64,
    /// It has closed its direction behind so many bytes.
    pub closed_behind: Option<u64>,
    /// It has read the end of the other's stream.
    pub saw_end: bool,
    /// How it ended, and when.
    pub ended: Option<(Instant, End)>,
    /// A byte that was not the other's.
    pub wrong: Option<String>,
}

/// How an end left the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Closed,
    /// By reset, as planned.
    Aborted,
    /// On a server: the connection failed.
    ServerFailed(Failure),
    /// On a client: the connection failed.
    ClientFailed(ExchangeError),
}

/// A report that outlives its party.
pub type Shared = Arc<Mutex<Report>>;

/// A copy of a report.
pub fn look(report: &Shared) -> Report {
    report
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// One end.
pub struct Party {
    plan: PartyPlan,
    dice: Dice,
    /// Pattern written, and pattern read.
    seeds: (u64, u64),
    next_read: Instant,
    next_write: Option<Instant>,
    /// When it closes its direction.
    close_at: Option<Instant>,
    report: Shared,
}

/// Bytes compared or written at once.
const CHUNK: usize = 16 * 1024;

impl Party {
    fn new(plan: &PartyPlan, dice: Dice, seeds: (u64, u64), report: Shared) -> Party {
        Party {
            plan: plan.clone(),
            dice,
            seeds,
            next_read: Instant::ZERO,
            next_write: None,
            close_at: None,
            report,
        }
    }

    fn poll(&mut self, now: Instant, stream: &mut dyn Stream) -> Next {
        let shared = self.report.clone();
        let report = &mut *shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.next_write.is_none() {
            self.next_read = now + self.plan.deaf;
            self.next_write = Some(now);
        }
        let wakes = [
            self.read(now, stream, report),
            self.write(now, stream, report),
        ];
        let aborts = |bytes| report.sent + report.received >= bytes;
        if report.wrong.is_some() || self.plan.abort_after.is_some_and(aborts) {
            report.ended = Some((now, End::Aborted));
            return Next::Abort;
        }
        let written = report.sent == self.plan.total;
        let lets_go = match self.plan.ending {
            Ending::LetGo(bytes) => written && report.received >= bytes,
            _ => false,
        };
        if lets_go || (report.closed_behind.is_some() && report.saw_end) {
            report.closed_behind = Some(report.sent);
            report.ended = Some((now, End::Closed));
            return Next::Close;
        }
        match wakes.into_iter().flatten().min() {
            Some(at) => Next::Until(at),
            None => Next::Wait,
        }
    }

    /// Reads what there is; when to go on.
    fn read(
        &mut self,
        now: Instant,
        stream: &mut dyn Stream,
        report: &mut Report,
    ) -> Option<Instant> {
        loop {
            let bytes = stream.readable();
            if bytes.is_empty() {
                report.saw_end |= stream.is_finished();
                return None;
            }
            if now < self.next_read {
                return Some(self.next_read);
            }
            let most = self.dice.uniform(1..=self.plan.read.min(CHUNK as u64)) as usize;
            let bytes = &bytes[..bytes.len().min(most)];
            if let Some(at) = pattern::first_difference(self.seeds.1, report.received, bytes) {
                report.wrong = Some(format!("byte {} is wrong", report.received + at as u64));
                return None;
            }
            let taken = bytes.len();
            stream.consume(taken);
            report.received += taken as u64;
            let (longest, percent) = self.plan.read_pause;
            if self.dice.chance(percent) {
                self.next_read = now + self.dice.time(longest);
            }
        }
    }

    /// Writes what it can; when to go on.
    fn write(
        &mut self,
        now: Instant,
        stream: &mut dyn Stream,
        report: &mut Report,
    ) -> Option<Instant> {
        let mut buffer = [0; CHUNK];
        loop {
            if report.received < self.plan.after_reading {
                return None;
            }
            let next = self.next_write.filter(|&at| now < at);
            if next.is_some() {
                return next;
            }
            if report.sent == self.plan.total {
                return self.end(now, stream, report);
            }
            let most = self.dice.uniform(1..=self.plan.piece.min(CHUNK as u64));
            let piece = &mut buffer[..most.min(self.plan.total - report.sent) as usize];
            pattern::fill(self.seeds.0, report.sent, piece);
            let taken = stream.write(piece);
            report.sent += taken as u64;
            let (longest, percent) = self.plan.write_pause;
            if self.dice.chance(percent) {
                self.next_write = Some(now + self.dice.time(longest));
            }
            if taken < piece.len() {
                // Polled again when there is room.
                return None;
            }
        }
    }

    /// Closes its direction when it is time to; when to look again.
    fn end(
        &mut self,
        now: Instant,
        stream: &mut dyn Stream,
        report: &mut Report,
    ) -> Option<Instant> {
        if report.closed_behind.is_some() {
            return None;
        }
        match self.plan.ending {
            Ending::After(pause) => {
                let at = *self.close_at.get_or_insert(now + pause);
                if now < at {
                    return Some(at);
                }
            }
            Ending::AfterPeer if report.saw_end => {}
            Ending::AfterPeer | Ending::LetGo(_) => return None,
        }
        stream.shutdown();
        report.closed_behind = Some(report.sent);
        None
    }

    fn fail(&mut self, now: Instant, end: End) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.ended = Some((now, end));
    }
}

/// The client's end.
pub struct ClientEnd(Party);

impl ClientEnd {
    /// With pattern seeds of case `case`.
    pub fn new(case: u64, plan: &PartyPlan) -> (ClientEnd, Shared) {
        let report = Shared::default();
        let party = Party::new(
            plan,
            Dice::new(case, 2),
            (2 * case, 2 * case + 1),
            report.clone(),
        );
        (ClientEnd(party), report)
    }
}

impl Script for ClientEnd {
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream, _: &mut Log) -> Next {
        self.0.poll(now, stream)
    }

    fn failed(&mut self, now: Instant, error: ExchangeError, _: &mut Log) {
        self.0.fail(now, End::ClientFailed(error));
    }
}

/// The application of every server: an end for each connection that is bound.
#[derive(Clone)]
pub struct ServerEnds {
    case: u64,
    plan: PartyPlan,
    bound: Arc<Mutex<Vec<Bound>>>,
}

/// A connection that an application was given.
#[derive(Clone, Debug)]
pub struct Bound {
    /// How it came to the server.
    pub origin: Origin,
    /// What became of it.
    pub report: Shared,
}

impl ServerEnds {
    /// With pattern seeds of case `case`.
    pub fn new(case: u64, plan: &PartyPlan) -> ServerEnds {
        ServerEnds {
            case,
            plan: plan.clone(),
            bound: Arc::default(),
        }
    }

    /// The connections that were bound so far, on any server.
    pub fn bound(&self) -> Vec<Bound> {
        self.bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Application for ServerEnds {
    fn accept(&mut self, _: Instant, _: ListenerId, _: Flow, origin: Origin) -> Box<dyn Session> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let dice = Dice::new(self.case, 3 + bound.len() as u64);
        let report = Shared::default();
        let seeds = (2 * self.case + 1, 2 * self.case);
        bound.push(Bound {
            origin,
            report: report.clone(),
        });
        Box::new(ServerEnd(Party::new(&self.plan, dice, seeds, report)))
    }
}

struct ServerEnd(Party);

impl Session for ServerEnd {
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream) -> Next {
        self.0.poll(now, stream)
    }

    fn failed(&mut self, now: Instant, failure: Failure) {
        self.0.fail(now, End::ServerFailed(failure));
    }
}
