//! What real servers send first, `openssl s_server` 3.0 and nginx 1.22, and with what `openssl s_client` 3.0 returns to
//! them (`-sess_out`, `-sess_in`).

use ipos_content::{Hello, Inspector, Kinds, REQUEST_MAX, Reading, ServerFlight};

/// One session: what the server sends first, with what the client returns, and what the server sends then.
struct Session {
    first: &'static [u8],
    client: &'static [u8],
    resumed: &'static [u8],
}

macro_rules! session {
    ($name:literal) => {
        Session {
            first: include_bytes!(concat!("servers/", $name, ".bin")),
            client: include_bytes!(concat!("servers/", $name, "-client.bin")),
            resumed: include_bytes!(concat!("servers/", $name, "-resumed.bin")),
        }
    };
}

/// TLS 1.2 with tickets; the client of the last offers TLS 1.3 too.
const TICKETS: [Session; 3] = [
    session!("openssl-ticket"),
    session!("nginx-ticket"),
    session!("openssl-ticket-tls1_3-client"),
];
/// TLS 1.2 without tickets.
const IDS: [Session; 2] = [session!("openssl-id"), session!("nginx-id")];
/// The same, and the client offers TLS 1.3 too.
const ID_OF_NEW_CLIENT: Session = session!("openssl-id-tls1_3-client");
/// TLS 1.3, without and with a HelloRetryRequest.
const TLS1_3: [Session; 2] = [session!("openssl-tls1_3"), session!("openssl-tls1_3-retry")];

/// The ids in a flight, the same in pieces of every length. All these flights end.
fn told(bytes: &[u8]) -> Vec<Vec<u8>> {
    let of = |piece: usize| {
        let mut flight = ServerFlight::new();
        let mut told = Vec::new();
        for bytes in bytes.chunks(piece) {
            flight.handle(bytes, |id| told.push(id.to_vec()));
        }
        assert!(flight.is_over());
        told
    };
    let whole = of(bytes.len());
    for piece in 1..bytes.len() {
        assert_eq!(of(piece), whole, "{piece}");
    }
    whole
}

fn hello<T>(bytes: &[u8], read: impl FnOnce(Hello<'_>) -> T) -> T {
    match Inspector::new(Kinds::TLS, REQUEST_MAX).inspect(bytes) {
        Reading::Tls(hello) => read(hello),
        other => panic!("{other:?}"),
    }
}

fn affinity(bytes: &[u8]) -> Option<Vec<u8>> {
    hello(bytes, |hello| hello.affinity().map(<[u8]>::to_vec))
}

#[test]
fn tickets_are_what_clients_return_with() {
    for session in TICKETS {
        let ticket = affinity(session.client);
        assert!(ticket.as_ref().is_some_and(|ticket| ticket.len() > 100));
        assert_eq!(told(session.first), Vec::from_iter(ticket));
    }
}

#[test]
fn session_ids_are_what_clients_return_with() {
    for session in IDS {
        let id = affinity(session.client);
        assert!(id.as_ref().is_some_and(|id| id.len() == 32));
        let told_first = told(session.first);
        assert_eq!(told_first, Vec::from_iter(id));
        // The server resumes the same session.
        assert_eq!(told(session.resumed), told_first);
    }
}

#[test]
fn session_ids_of_clients_that_offer_tls_1_3() {
    let Session { first, client, .. } = ID_OF_NEW_CLIENT;
    assert_eq!(affinity(client), None);
    let id = hello(client, |hello| hello.session_id.to_vec());
    assert_eq!(told(first), [id]);
}

#[test]
fn resumed_by_a_ticket() {
    // The client has sent a session id with its ticket, which the server repeats.
    for session in TICKETS {
        let id = hello(session.client, |hello| hello.session_id.to_vec());
        assert_eq!(id.len(), 32);
        assert_eq!(told(session.resumed), [id]);
    }
}

#[test]
fn tls_1_3_tells_nothing_in_the_clear() {
    let nothing: [&[u8]; 0] = [];
    for session in TLS1_3 {
        assert_eq!(told(session.first), nothing);
        assert_eq!(told(session.resumed), nothing);
        // It returns with a ticket that only the server has seen.
        hello(session.client, |hello| {
            assert!(hello.psk_identity.is_some());
            assert_eq!(hello.affinity(), hello.psk_identity);
        });
    }
}
