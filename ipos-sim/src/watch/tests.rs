use super::*;

const NOW: Instant = Instant::ZERO;

fn seen(seq: u32, ack: u32, window: u16, payload: usize) -> Seen {
    Seen {
        seq,
        ack,
        window,
        syn: false,
        fin: false,
        rst: false,
        has_ack: true,
        payload,
        options: 0,
        mss: None,
        scale: None,
        tsval: Some(10),
    }
}

/// A connection that is open: the client's first byte is 101, the server's 501; both allow 1000 bytes.
fn open() -> Conversation {
    open_after(None)
}

fn open_after(former: Option<&Conversation>) -> Conversation {
    let mut talk = Conversation::new(NodeId(9), former);
    let syn = Seen {
        syn: true,
        has_ack: false,
        mss: Some(600),
        ..seen(100, 0, 1_000, 0)
    };
    talk.client_sends(NOW, &syn);
    // A cookie that the client does not take, and the SYN-ACK that it does.
    for (seq, scale) in [(300, Some(7)), (500, None)] {
        let syn_ack = Seen {
            syn: true,
            scale,
            ..seen(seq, 101, 1_000, 0)
        };
        talk.server_sends(NOW, &syn_ack);
    }
    let request = seen(101, 501, 1_000, 50);
    talk.client_sends(NOW, &request);
    talk.client_allows(&request);
    talk
}

fn broken(segment: Seen) -> String {
    let mut talk = open();
    talk.server_sends(NOW, &segment);
    talk.violations().join("; ")
}

#[test]
fn what_is_right_is_let_pass() {
    assert_eq!(broken(seen(501, 151, 950, 600)), "");
    assert_eq!(broken(seen(901, 101, 1_000, 600)), "", "to the edge");
    let reset = Seen {
        rst: true,
        ..seen(7, 7, 0, 0)
    };
    assert_eq!(broken(reset), "");
}

fn reset(number: u32) -> Seen {
    Seen {
        rst: true,
        ..seen(number, 0, 0, 0)
    }
}

/// The client's next byte is expected at 501.
#[test]
fn a_late_reset_is_told_from_its_own() {
    for (number, sent_before, late) in [(700, true, true), (501, true, false), (700, false, false)]
    {
        let mut former = open();
        if sent_before {
            former.server_sends(NOW, &reset(number));
        }
        let mut talk = open_after(Some(&former));
        talk.client_hears(NOW, &reset(number));
        assert_eq!(talk.late_reset(), late.then_some(NOW), "{number}");
    }
}

/// The latest are known.
#[test]
fn resets_that_are_kept_are_bounded() {
    let mut former = open();
    for number in 0..100 {
        former.server_sends(NOW, &reset(number));
    }
    let talk = open_after(Some(&former));
    assert_eq!(talk.former_resets, (92..100).collect::<Vec<_>>());
}

#[test]
fn what_a_client_could_tell_a_hand_over_by_is_found() {
    let older = Seen {
        tsval: Some(9),
        ..seen(501, 101, 1_000, 0)
    };
    for (segment, what) in [
        (seen(501, 151, 949, 0), "right edge moves left"),
        (seen(501, 100, 1_001, 0), "acknowledgment goes back"),
        (seen(501, 152, 1_000, 0), "never sent"),
        (seen(902, 101, 1_000, 600), "data up to 1502"),
        (seen(501, 101, 1_000, 601), "MSS is 600"),
        (older, "goes back by 1 ms"),
    ] {
        let found = broken(segment);
        assert!(found.contains(what), "{what}: {found}");
    }
}
