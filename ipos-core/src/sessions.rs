//! The cookie map (FIG. 12): which server has a session.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use ipos_proto::synch::SESSION_MAX;

use crate::time::{Duration, Instant};

/// How often a change is told at once; later the refreshing of all rows tells it.
const TELLINGS: u8 = 3;
/// Rows that are looked at for refreshing in one go.
const LOOKED_AT: usize = 4_096;

/// Newcomers whose own rows are told. Full: what the one had that came first is not told any more.
const NEWCOMERS: usize = 16;

/// A session's id, 1 to 64 bytes.
pub(crate) type SessionId = Arc<[u8]>;

/// A change that others have not been told often enough of.
#[derive(Clone, Debug)]
struct Change {
    session: SessionId,
    tellings: u8,
}

#[derive(Clone, Debug)]
struct Row {
    server: Arc<str>,
    expires: Instant,
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
    /// Servers that have come and may know none of the rows: until the refreshing is through with them it does not wait, and tells
    /// what these had in a former life, too.
    newcomers: Vec<Arc<str>>,
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
            newcomers: Vec::new(),
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

    /// The server that has a session.
    pub(crate) fn get(&self, now: Instant, session: &[u8]) -> Option<&Arc<str>> {
        let row = self.rows.get(session)?;
        (row.expires > now).then_some(&row.server)
    }

    /// How long the session's row is good for.
    pub(crate) fn left(&self, now: Instant, session: &[u8]) -> Duration {
        let row = self.rows.get(session);
        row.map_or(Duration::ZERO, |row| row.expires.saturating_since(now))
    }

    /// All rows, by session: the server's name, and how long the row is good.
    pub(crate) fn iter(&self, now: Instant) -> impl Iterator<Item = (&[u8], &str, Duration)> {
        let left = move |row: &Row| row.expires.saturating_since(now);
        let rows = self.rows.iter();
        rows.map(move |(session, row)| (&**session, &*row.server, left(row)))
    }

    /// The session belongs to `server` for `lifetime` from now on.
    pub(crate) fn set(
        &mut self,
        now: Instant,
        session: &[u8],
        server: &Arc<str>,
        lifetime: Duration,
    ) {
        if session.is_empty() || session.len() > SESSION_MAX || self.bound == 0 {
            return;
        }
        let session = self.remove(session).unwrap_or_else(|| session.into());
        while self.rows.len() >= self.bound
            && let Some((_, first)) = self.expiries.pop_first()
        {
            self.rows.remove(&first);
        }
        let expires = now + lifetime;
        self.expiries.insert((expires, session.clone()));
        let server = server.clone();
        self.rows.insert(session, Row { server, expires });
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

    /// This server has come, and shall know all rows soon.
    pub(crate) fn tell_all(&mut self, newcomer: &str) {
        self.refreshed = None;
        if self.rows.is_empty() {
            return;
        }
        if self.newcomers.len() >= NEWCOMERS {
            self.newcomers.remove(0);
        }
        self.newcomers.push(newcomer.into());
    }

    /// Whether the refreshing goes on at once.
    pub(crate) fn is_in_hurry(&self) -> bool {
        !self.newcomers.is_empty()
    }

    /// The next rows of `server` and of newcomers, `most` at most and of `room` bytes together, so that all have their turn.
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
        let newcomers = &self.newcomers;
        let is_told = |row: &Row| *row.server == *server || newcomers.contains(&row.server);
        while told.len() < most && looked_at < LOOKED_AT {
            let Some((session, row)) = rows.next() else {
                // From the first one on again.
                self.refreshed = None;
                self.newcomers.clear();
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
        let left = row.expires.saturating_since(now).as_millis();
        Some(Told {
            session: session.clone(),
            server: row.server.clone(),
            lifetime_ms: u32::try_from(left).unwrap_or(u32::MAX),
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
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn name(name: &str) -> Arc<str> {
        name.into()
    }

    const LIFETIME: Duration = Duration::from_millis(100);

    #[test]
    fn rows_expire_and_make_room() {
        let mut sessions = Sessions::new(2);
        sessions.set(at(0), b"a", &name("s1"), LIFETIME);
        sessions.set(at(10), b"b", &name("s2"), LIFETIME);
        sessions.set(at(20), b"a", &name("s2"), LIFETIME);
        sessions.set(at(30), b"c", &name("s3"), LIFETIME);
        assert_eq!(sessions.get(at(30), b"b"), None, "it expires first");
        assert_eq!(sessions.get(at(30), b"a").map(|s| &**s), Some("s2"));
        assert_eq!(sessions.get(at(120), b"a"), None);
        sessions.expire(at(120));
        assert_eq!((sessions.len(), sessions.expiries.len()), (1, 1));
        assert_eq!(sessions.left(at(120), b"c"), Duration::from_millis(10));
        sessions.set(at(0), &[0; SESSION_MAX + 1], &name("s1"), LIFETIME);
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn changes_are_told_three_times_and_rows_in_turn() {
        let mut sessions = Sessions::new(10);
        for session in [b"a", b"b", b"c"] {
            sessions.set(at(0), session, &name("s1"), LIFETIME);
            sessions.tell(session);
        }
        sessions.set(at(0), b"d", &name("s2"), LIFETIME);
        let one = 4 + 8 + 1 + 2;
        let (told, more) = sessions.take_changes(at(0), 2 * one);
        assert_eq!((told.len(), more), (2, true));
        let (mut count, mut rounds) = (told.len(), 0);
        while !(sessions.changes.is_empty() && sessions.again.is_empty()) {
            count += sessions.take_changes(at(0), 10 * one).0.len();
            rounds += 1;
        }
        assert_eq!((count, rounds), (9, 3));
        let mut turns = |most| sessions.refresh(at(0), "s1", most, usize::MAX).len();
        assert_eq!([turns(2), turns(2), turns(2)], [2, 1, 2]);
    }

    #[test]
    fn what_nobody_was_told_of_does_not_wait_for_what_is_told_again() {
        let mut sessions = Sessions::new(10_000);
        let one = 4 + 8 + 4 + 2;
        let mut unheard = BTreeSet::new();
        for claim in 0..2_000_u32 {
            let id: SessionId = claim.to_be_bytes().as_slice().into();
            sessions.set(at(0), &id, &name("s1"), LIFETIME);
            sessions.tell(&id);
            unheard.insert(id);
            // A report has room for three: enough for each once, not for each three times with what else there is.
            if claim % 2 == 1 {
                let (told, _) = sessions.take_changes(at(0), 3 * one);
                for told in told {
                    unheard.remove(&told.session);
                }
                assert!(unheard.is_empty(), "after {claim}: {}", unheard.len());
            }
        }
        let mut reports = 0;
        while !sessions.take_changes(at(0), 100 * one).0.is_empty() {
            reports += 1;
        }
        assert!((20..60).contains(&reports), "{reports}");
    }
}
