//! What a case runs with: its server, its trace, and what it notes.

use std::cell::RefCell;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use crate::app::Session;
use crate::bed::{Bed, Kind};
use crate::conn::{Conn, Offer};
use crate::wire::lock;

/// Success, or what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// What must come at once comes within this, also on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(10);
/// What must not come would have come within this.
pub const BRIEF: Duration = Duration::from_millis(250);

/// The error of a case whose request stayed where it was to leave: other requests came between.
pub const NOT_MIGRATED: &str = "the request was not migrated";

/// Lines of a trace that are kept: so many at its start, and at its end.
const TRACE: (usize, usize) = (24, 56);

/// Returns an error unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(format!($($what)*));
        }
    };
}
pub(crate) use ensure;

/// One run of one case.
pub struct Cx<'a> {
    pub bed: &'a Bed,
    start: Instant,
    trace: RefCell<Vec<String>>,
    skipped: RefCell<usize>,
    violations: RefCell<Vec<String>>,
    differences: RefCell<Vec<&'static str>>,
}

/// The right to send a request, where it matters which one comes next.
pub struct Turn<'a>(Option<MutexGuard<'a, Option<&'static str>>>);

impl<'a> Cx<'a> {
    pub fn new(bed: &'a Bed) -> Cx<'a> {
        Cx {
            bed,
            start: Instant::now(),
            trace: RefCell::default(),
            skipped: RefCell::new(0),
            violations: RefCell::default(),
            differences: RefCell::default(),
        }
    }

    pub fn is_kernel(&self) -> bool {
        self.bed.kind == Kind::Kernel
    }

    pub fn is_migrated(&self) -> bool {
        self.bed.kind == Kind::Migrated
    }

    /// A line of the trace.
    pub fn log(&self, line: &str) {
        let (first, last) = TRACE;
        let mut trace = self.trace.borrow_mut();
        trace.push(format!(
            "{:9.3} s {line}",
            self.start.elapsed().as_secs_f64()
        ));
        if trace.len() > first + last {
            trace.remove(first);
            *self.skipped.borrow_mut() += 1;
        }
    }

    /// The server has broken a rule that holds for every segment.
    pub fn violation(&self, what: String) {
        self.log(&format!("! {what}"));
        self.violations.borrow_mut().push(what);
    }

    /// Where the kernel departs from the standard, for the reason given, that is noted and the case goes on.
    pub fn differs<T>(&self, why: &'static str, result: Outcome<T>) -> Outcome {
        let mut differences = self.differences.borrow_mut();
        match result {
            Err(_) if self.is_kernel() && differences.contains(&why) => Ok(()),
            Err(_) if self.is_kernel() => {
                differences.push(why);
                Ok(())
            }
            result => result.map(drop),
        }
    }

    /// What was noted, when the case has ended with `outcome`: broken rules make it fail.
    pub fn finish(&self, outcome: Outcome) -> (Outcome, Vec<&'static str>) {
        let mut outcome = outcome;
        if let Some(first) = self.violations.borrow().first() {
            let text = outcome
                .err()
                .map_or(String::new(), |error| format!("; {error}"));
            outcome = Err(format!("{first}{text}"));
        }
        (outcome, self.differences.borrow().clone())
    }

    /// The segments that passed.
    pub fn trace(&self) -> String {
        let mut trace = self.trace.borrow().clone();
        let skipped = *self.skipped.borrow();
        if skipped > 0 {
            trace.insert(
                TRACE.0.min(trace.len()),
                format!("            ... {skipped} lines"),
            );
        }
        trace.join("\n")
    }

    /// A connection that is not opened yet.
    pub fn conn(&self, offer: Offer) -> Conn<'_> {
        Conn::new(self, offer)
    }

    /// A connection after its handshake.
    pub fn open(&self, offer: Offer) -> Outcome<Conn<'_>> {
        let mut conn = self.conn(offer);
        conn.connect()?;
        Ok(conn)
    }

    /// A connection whose request for `steps` the application has got, and the server has acknowledged.
    pub fn session(&self, offer: Offer, steps: &str) -> Outcome<(Conn<'_>, Session)> {
        let mut conn = self.open(offer)?;
        let session = self.start(&mut conn, steps)?;
        Ok((conn, session))
    }

    /// As [`Cx::session`], on a connection after its handshake.
    pub fn start(&self, conn: &mut Conn<'_>, steps: &str) -> Outcome<Session> {
        let session = self.bed.registry.session();
        let turn = self.turn()?;
        conn.data(&session.request(steps));
        turn.settle(&session)?;
        conn.wait_acknowledged()?;
        Ok(session)
    }

    /// Waits until the next request would leave the first server, where that is wanted.
    pub fn turn(&self) -> Outcome<Turn<'a>> {
        if !self.is_migrated() {
            return Ok(Turn(None));
        }
        let mut turn = lock(&self.bed.turn);
        for _ in 0..4 {
            if turn.take() == Some("s1") {
                return Ok(Turn(Some(turn)));
            }
            // A request that stays.
            let cx = Cx::new(self.bed);
            let mut conn = cx.open(Offer::MSS)?;
            let session = self.bed.registry.session();
            conn.data(&session.request("c"));
            *turn = session.server(SOON);
        }
        Err(NOT_MIGRATED.to_owned())
    }
}

impl Turn<'_> {
    /// Waits until the application has the request of `session`, and looks where.
    pub fn settle(self, session: &Session) -> Outcome {
        let server = session
            .server(SOON)
            .ok_or("the application did not get the request")?;
        match self.0 {
            None => Ok(()),
            Some(mut turn) => {
                *turn = Some(server);
                ensure!(server == "s2", "{NOT_MIGRATED}");
                Ok(())
            }
        }
    }
}
