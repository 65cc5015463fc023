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
    /// Bounded as the rows are: full, the oldest is left to the refreshing.
    changes: VecDeque<Change>,
    /// Behind this one the refreshing goes on.
    refreshed: Option<SessionId>,
}

impl Sessions {
    pub(crate) fn new(bound: usize) -> Sessions {
        Sessions {
            rows: BTreeMap::new(),
            expiries: BTreeSet::new(),
            bound,
            changes: VecDeque::new(),
            refreshed: None,
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
        let session = session.clone();
        if self.changes.len() >= self.bound {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            session,
            tellings: TELLINGS,
        });
    }

    /// Changes to be told now, of `room` bytes together; and whether there are others that nobody was told of.
    pub(crate) fn take_changes(&mut self, now: Instant, room: usize) -> (Vec<Told>, bool) {
        let (mut told, mut used) = (Vec::new(), 0);
        for _ in 0..self.changes.len() {
            let Some(mut change) = self.changes.pop_front() else {
                break;
            };
            let Some(telling) = self.told(now, &change.session) else {
                continue;
            };
            used += telling.len();
            if used > room {
                self.changes.push_front(change);
                break;
            }
            told.push(telling);
            change.tellings -= 1;
            if change.tellings > 0 {
                self.changes.push_back(change);
            }
        }
        let front = self.changes.front();
        (
            told,
            front.is_some_and(|change| change.tellings == TELLINGS),
        )
    }

    /// The next rows of `server`, `most` at most, so that all have their turn.
    pub(crate) fn refresh(&mut self, now: Instant, server: &str, most: usize) -> Vec<Told> {
        let from = match self.refreshed.take() {
            Some(session) => Bound::Excluded(session),
            None => Bound::Unbounded,
        };
        let mut told = Vec::new();
        let mut looked_at = 0;
        let mut rows = self.rows.range((from, Bound::Unbounded));
        while told.len() < most && looked_at < LOOKED_AT {
            let Some((session, row)) = rows.next() else {
                // From the first one on again.
                self.refreshed = None;
                break;
            };
            looked_at += 1;
            self.refreshed = Some(session.clone());
            if *row.server == *server {
                told.extend(self.told(now, session));
            }
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

/// A row as others are told of it.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) session: SessionId,
    pub(crate) server: Arc<str>,
    pub(crate) lifetime_ms: u32,
}

impl Told {
    /// Bytes of its record.
    fn len(&self) -> usize {
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
        while !sessions.changes.is_empty() {
            count += sessions.take_changes(at(0), 10 * one).0.len();
            rounds += 1;
        }
        assert_eq!((count, rounds), (9, 3));
        let mut turns = |most| sessions.refresh(at(0), "s1", most).len();
        assert_eq!([turns(2), turns(2), turns(2)], [2, 1, 2]);
    }
}
