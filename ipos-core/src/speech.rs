//! What an application and its client say to each other, as far as sessions depend on it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use ipos_content::ServerFlight;
use ipos_http::{HeadEnd, ResponseRewriter};

use crate::content::ssl_identifier;

/// Hexadecimal digits of a session's id: 128 bits.
pub(crate) const ID_LEN: usize = 32;
/// Sessions that one reading of a client's bytes may name; more are not noticed.
pub(crate) const SEEN: usize = 8;

/// A session's id as the cookie has it.
pub(crate) type Id = Arc<str>;

/// One endpoint's conversation. HTTP/1.x is followed; of anything else nothing is understood, and nothing is changed.
#[derive(Debug)]
pub(crate) struct Speech {
    /// Notes of each request whether its answer gets no session: it names one, or would not.
    rewriter: ResponseRewriter<bool>,
    /// Something has passed.
    begun: bool,
    /// The session that the client was given here.
    issued: Option<Id>,
    /// What the client will resume its TLS session by.
    flight: Option<ServerFlight>,
}

impl Speech {
    /// `ssl`: TLS sessions are noticed.
    pub(crate) fn new(ssl: bool) -> Speech {
        Speech {
            rewriter: ResponseRewriter::new(),
            begun: false,
            issued: None,
            flight: ssl.then(ServerFlight::new),
        }
    }

    /// The application's bytes: SSL identifiers that its client was given.
    pub(crate) fn ssl_identifiers(&mut self, bytes: &[u8]) -> ArrayVec<Box<[u8]>, SEEN> {
        let mut told = ArrayVec::new();
        if let Some(flight) = &mut self.flight {
            flight.handle(bytes, |id| {
                if !told.is_full() {
                    told.push(ssl_identifier(id));
                }
            });
        }
        self.flight.take_if(|flight| flight.is_over());
        told
    }

    /// The application reads what the client has sent. Which sessions it names, by a cookie for requests below `path`.
    pub(crate) fn handle_request(
        &mut self,
        bytes: &[u8],
        cookie: &str,
        path: Option<&str>,
    ) -> ArrayVec<Id, SEEN> {
        self.begun = true;
        let mut seen = ArrayVec::new();
        self.rewriter.handle_request(bytes, |request| {
            let id = request.cookie(cookie).and_then(well_formed);
            let elsewhere = path.is_some_and(|path| !request.is_below(path));
            let named = id.is_some() || elsewhere;
            if let Some(id) = id.filter(|_| !seen.is_full()) {
                seen.push(id.into());
            }
            named
        });
        seen
    }

    /// The application's bytes, to the end of `out`. An answer to a request that names no session is added to by `add`,
    /// which gets the session that the client was given before, and returns the one that it is given.
    pub(crate) fn handle_response(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut add: impl FnMut(&mut HeadEnd<'_>, bool, Option<Id>) -> Option<Id>,
    ) {
        self.begun = true;
        let issued = &mut self.issued;
        self.rewriter.handle_response(bytes, out, |_, named, head| {
            let given = add(head, named, issued.clone());
            *issued = given.or(issued.take());
        });
    }

    /// The application sends no more.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.rewriter.finish(out);
    }

    /// Whether another server can go on: nothing is held back, and no answer is under way.
    pub(crate) fn may_leave(&self) -> bool {
        !self.begun || self.rewriter.is_at_rest() || self.rewriter.opaque().is_some()
    }
}

/// A session's id, if it can be one of ours.
fn well_formed(value: &[u8]) -> Option<&str> {
    let digits = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let ours = value.len() == ID_LEN && value.iter().all(digits);
    ours.then(|| str::from_utf8(value).ok()).flatten()
}
