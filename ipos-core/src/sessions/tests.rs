use alloc::string::ToString;

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
    assert!(sessions.get(at(30), b"b").is_none(), "it expires first");
    let server = sessions.get(at(30), b"a").map(|row| &*row.server);
    assert_eq!(server, Some("s2"));
    assert!(sessions.get(at(120), b"a").is_none());
    sessions.expire(at(120));
    assert_eq!((sessions.len(), sessions.expiries.len()), (1, 1));
    let left = sessions.get(at(120), b"c").map(|row| row.left(at(120)));
    assert_eq!(left, Some(Duration::from_millis(10)));
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
fn newcomers_are_told_what_they_had() {
    let mut sessions = Sessions::new(10);
    for (session, server) in [(b"a", "s1"), (b"b", "s2"), (b"c", "s3")] {
        sessions.set(at(0), session, &name(server), LIFETIME);
    }
    sessions.give_back(at(0), b"d", &name("s1"), LIFETIME);
    let told = |sessions: &mut Sessions| {
        let told = sessions.refresh(at(0), "s1", 10, usize::MAX);
        told.iter()
            .map(|told| told.server.to_string())
            .collect::<Vec<_>>()
    };
    sessions.tell_all(None);
    assert_eq!(told(&mut sessions), ["s1"], "heard again");
    assert!(!sessions.is_in_hurry());
    sessions.tell_all(Some("s3"));
    for _ in 0..TELLINGS {
        assert!(sessions.is_in_hurry());
        assert_eq!(told(&mut sessions), ["s1", "s3"]);
        assert!(!sessions.is_in_hurry(), "not at once again");
        sessions.tell_newcomers_again();
    }
    assert!(!sessions.is_in_hurry());
    assert_eq!(told(&mut sessions), ["s1"]);
    for newcomer in 0..2 * NEWCOMERS {
        sessions.tell_all(Some(&newcomer.to_string()));
    }
    assert_eq!(sessions.newcomers.len(), NEWCOMERS);
}

#[test]
fn what_was_given_back_is_told_in_the_end() {
    let mut sessions = Sessions::new(10);
    sessions.give_back(at(0), b"a", &name("s1"), LIFETIME);
    assert!(sessions.refresh(at(0), "s1", 10, usize::MAX).is_empty());
    let patience = Duration::from_millis(50);
    sessions.settle(at(49), patience);
    assert!(!sessions.is_in_hurry(), "others may have it");
    assert!(!sessions.holds(at(49), b"a", "s1"));
    sessions.settle(at(50), patience);
    assert!(sessions.is_in_hurry());
    assert_eq!(sessions.refresh(at(50), "s1", 10, usize::MAX).len(), 1);
    assert!(sessions.holds(at(50), b"a", "s1"));
    sessions.settle(at(51), patience);
    assert!(!sessions.is_in_hurry(), "once");
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
