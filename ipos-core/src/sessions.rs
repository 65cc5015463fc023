//! The cookie map (FIG. 12): which server has a session.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use ipos_proto::synch::SESSION_MAX;

use crate::time::{Duration, Instant};

/// How often a change is told at once, and all rows to who has come; later the refreshing of all rows tells them.
const TELLINGS: u8 = 3;
/// Rows that are looked at for refreshing in one go.
const LOOKED_AT: usize = 4_096;
/// Newcomers whose own rows are told. Full: what others had is not.
const NEWCOMERS: usize = 256;

/// A session's id, 1 to 64 bytes.
pub(crate) type SessionId = Arc<[u8]>;

/// A change that others have not been told often enough of.
#[derive(Clone, Debug)]
struct Change {
    session: SessionId,
    tellings: u8,
}

/// A session.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The server that has it.
    pub(crate) server: Arc<str>,
    expires: Instant,
    /// It is of a former life of this server, and was not used in this one.
    pub(crate) given_back: bool,
}

impl Row {
    /// How long it is good.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.expires.saturating_since(now)
    }
}

/// The cookie map. Bounded: the row that expires first makes room.
#[derive(Debug)]
pub(crate) struct Sessions {
    rows: BTreeMap<SessionId, Row>,
    expiries: BTreeSet<(Instant, SessionId)>,
    bound: usize,
    /// What nobody was told of, and what is told again once there is room. Each bounded as the rows are: full, the oldest is
    /// left to the refreshing.
    changes: VecDeque<Change>,
    again: VecDeque<Change>,
    /// Behind this one the refreshing goes on.
    refreshed: Option<SessionId>,
    /// Somebody has come who knows none of the rows: until the refreshing is through with them it does not wait.
    hurry: bool,
    /// It tells what these servers had in a former life, too, so often yet.
    newcomers: BTreeMap<Arc<str>, u8>,
    /// When this server was first given back what it had in a former life.
    given_back: Option<Instant>,
    /// It tells that, too: who has taken it since had the time to say so.
    settled: bool,
}

impl Sessions {
    pub(crate) fn new(bound: usize) -> Sessions {
        Sessions {
            rows: BTreeMap::new(),
            expiries: BTreeSet::new(),
            bound,
            changes: VecDeque::new(),
            again: VecDeque::new(),
            refreshed: None,
            hurry: false,
            newcomers: BTreeMap::new(),
            given_back: None,
            settled: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// The row of a session.
    pub(crate) fn get(&self, now: Instant, session: &[u8]) -> Option<&Row> {
        let row = self.rows.get(session)?;
        (row.expires > now).then_some(row)
    }

    /// All rows, by session: the server's name, and how long the row is good.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = (&[u8], &str, Duration)> {
        let rows = self.rows.iter();
        rows.map(move |(session, row)| (&**session, &*row.server, row.left(now)))
    }

    /// The session belongs to `server` for `lifetime` from now on.
    pub(crate) fn set(
        &mut self,
        now: Instant,
        session: &[u8],
        server: &Arc<str>,
        lifetime: Duration,
    ) {
        self.put(session, server, now + lifetime, false);
    }

    /// The session was `server`'s, this one's, in a former life.
    pub(crate) fn give_back(
        &mut self,
        now: Instant,
        session: &[u8],
        server: &Arc<str>,
        lifetime: Duration,
    ) {
        self.given_back.get_or_insert(now);
        self.put(session, server, now + lifetime, true);
    }

    fn put(&mut self, session: &[u8], server: &Arc<str>, expires: Instant, given_back: bool) {
        if session.is_empty() || session.len() > SESSION_MAX || self.bound == 0 {
            return;
        }
        let session = self.remove(session).unwrap_or_else(|| session.into());
        while self.rows.len() >= self.bound
            && let Some((_, first)) = self.expiries.pop_first()
        {
            self.rows.remove(&first);
        }
        self.expiries.insert((expires, session.clone()));
        let server = server.clone();
        let row = Row {
            server,
            expires,
            given_back,
        };
        self.rows.insert(session, row);
    }

    pub(crate) fn remove(&mut self, session: &[u8]) -> Option<SessionId> {
        let (session, row) = self.rows.remove_entry(session)?;
        self.expiries.remove(&(row.expires, session.clone()));
        Some(session)
    }

    /// Rows whose time is over go.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((expires, session)) = self.expiries.first()
            && *expires <= now
        {
            self.rows.remove(session);
            self.expiries.pop_first();
        }
    }

    /// Others shall be told of the session's row.
    pub(crate) fn tell(&mut self, session: &[u8]) {
        let Some((session, _)) = self.rows.get_key_value(session) else {
            return;
        };
        let change = Change {
            session: session.clone(),
            tellings: TELLINGS,
        };
        push_bounded(&mut self.changes, self.bound, change);
    }

    /// Changes to be told now, of `room` bytes together, new ones first; and whether there are others that nobody was told of.
    pub(crate) fn take_changes(&mut self, now: Instant, mut room: usize) -> (Vec<Told>, bool) {
        let mut told = Vec::new();
        // What is told now is not told again in the same report.
        let waiting = self.again.len();
        while let Some(change) = self.changes.pop_front() {
            if let Err(change) = self.take_change(now, change, &mut room, &mut told) {
                self.changes.push_front(change);
                return (told, true);
            }
        }
        for _ in 0..waiting {
            let Some(change) = self.again.pop_front() else {
                break;
            };
            if let Err(change) = self.take_change(now, change, &mut room, &mut told) {
                self.again.push_front(change);
                break;
            }
        }
        (told, false)
    }

    /// One change, where there is room for it.
    fn take_change(
        &mut self,
        now: Instant,
        mut change: Change,
        room: &mut usize,
        told: &mut Vec<Told>,
    ) -> Result<(), Change> {
        let Some(telling) = self.told(now, &change.session) else {
            return Ok(());
        };
        let Some(left) = room.checked_sub(telling.len()) else {
            return Err(change);
        };
        *room = left;
        told.push(telling);
        change.tellings -= 1;
        if change.tellings > 0 {
            push_bounded(&mut self.again, self.bound, change);
        }
        Ok(())
    }

    /// Somebody is heard, who shall know all rows soon: a `newcomer` also those that were its own.
    pub(crate) fn tell_all(&mut self, newcomer: Option<&str>) {
        self.refreshed = None;
        self.hurry = !self.rows.is_empty();
        if let Some(name) = newcomer.filter(|_| self.hurry)
            && (self.newcomers.len() < NEWCOMERS || self.newcomers.contains_key(name))
        {
            self.newcomers.insert(name.into(), TELLINGS);
        }
    }

    /// Whether `server`, this one, has the session, and holds it against another one that says so too: what it had in a former
    /// life not before [`Sessions::settle`].
    pub(crate) fn holds(&self, now: Instant, session: &[u8], server: &str) -> bool {
        let row = self.get(now, session);
        row.is_some_and(|row| *row.server == *server && (self.settled || !row.given_back))
    }

    /// While there are newcomers all rows are told once more: not at once, for what has lost a report may lose the next one, too.
    pub(crate) fn tell_newcomers_again(&mut self) {
        if self.rows.is_empty() {
            self.newcomers.clear();
        }
        if !self.newcomers.is_empty() && !self.hurry {
            self.tell_all(None);
        }
    }

    /// What this server had in a former life, and was given back `patience` ago, is its own now: whoever has taken it since has said
    /// so.
    pub(crate) fn settle(&mut self, now: Instant, patience: Duration) {
        let over = self.given_back.is_some_and(|since| now >= since + patience);
        if over && !core::mem::replace(&mut self.settled, true) {
            self.tell_all(None);
        }
    }

    /// Whether the refreshing goes on at once.
    pub(crate) fn is_in_hurry(&self) -> bool {
        self.hurry
    }

    /// The next rows of `server`, this one, and of newcomers, `most` at most and of `room` bytes together, so that all have
    /// their turn.
    pub(crate) fn refresh(
        &mut self,
        now: Instant,
        server: &str,
        most: usize,
        mut room: usize,
    ) -> Vec<Told> {
        let from = match &self.refreshed {
            Some(session) => Bound::Excluded(session.clone()),
            None => Bound::Unbounded,
        };
        let mut told = Vec::new();
        let mut looked_at = 0;
        let mut rows = self.rows.range((from, Bound::Unbounded));
        let is_told = |row: &Row| match *row.server == *server {
            true => self.settled || !row.given_back,
            false => self.newcomers.contains_key(&row.server),
        };
        while told.len() < most && looked_at < LOOKED_AT {
            let Some((session, row)) = rows.next() else {
                // From the first one on again.
                self.refreshed = None;
                if core::mem::take(&mut self.hurry) {
                    self.newcomers.retain(|_, tellings| {
                        *tellings -= 1;
                        *tellings > 0
                    });
                }
                break;
            };
            if is_told(row)
                && let Some(telling) = self.told(now, session)
            {
                let Some(left) = room.checked_sub(telling.len()) else {
                    break;
                };
                room = left;
                told.push(telling);
            }
            looked_at += 1;
            self.refreshed = Some(session.clone());
        }
        told
    }

    fn told(&self, now: Instant, session: &SessionId) -> Option<Told> {
        let row = self.rows.get(session).filter(|row| row.expires > now)?;
        Some(Told {
            session: session.clone(),
            server: row.server.clone(),
            lifetime_ms: u32::try_from(row.left(now).as_millis()).unwrap_or(u32::MAX),
        })
    }
}

/// Full: the oldest goes.
fn push_bounded(changes: &mut VecDeque<Change>, bound: usize, change: Change) {
    if changes.len() >= bound {
        changes.pop_front();
    }
    changes.push_back(change);
}

/// A row as others are told of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) session: SessionId,
    pub(crate) server: Arc<str>,
    pub(crate) lifetime_ms: u32,
}

impl Told {
    /// Bytes of its record.
    pub(crate) fn len(&self) -> usize {
        const HEADER_AND_FIELDS: usize = 4 + 8;
        HEADER_AND_FIELDS + self.session.len() + self.server.len()
    }
}

#[cfg(test)]
mod tests;
