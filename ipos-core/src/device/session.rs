//! Sessions: the cookie map, and the cookie in answers (FIG. 12).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::net::Ipv4Addr;

use arrayvec::ArrayVec;
use ipos_http::HeadEnd;
use ipos_proto::synch::Cookie;
use rand_core::Rng;

use super::Device;
use crate::config::Content;
use crate::speech::{ID_LEN, Id, SEEN, Speech};
use crate::time::{Duration, Instant};

/// A change is told so soon: others may follow it in the same report.
const TOGETHER: Duration = Duration::from_millis(2);
/// How long the server that a TLS session was made with is remembered (RFC 5246 §F.1.4: a day at most).
const SSL_LIFETIME: Duration = Duration::from_secs(7200);

impl Device {
    /// The conversation of an endpoint that is bound here, where sessions depend on it.
    pub(super) fn begin_speech(&mut self, endpoint: u32) {
        let Content {
            session,
            ssl_affinity,
            ..
        } = &self.config.content;
        if (session.is_some() || *ssl_affinity)
            && let Some(slot) = self.stack.get_mut(endpoint)
        {
            slot.speech = Some(Box::new(Speech::new(*ssl_affinity)));
        }
    }

    /// The host has taken the first `n` readable bytes.
    pub(super) fn hear_request(&mut self, now: Instant, endpoint: u32, n: usize) {
        let Some(session) = &self.config.content.session else {
            return;
        };
        let Some(slot) = self.stack.get_mut(endpoint) else {
            return;
        };
        let Some(speech) = slot.speech.as_deref_mut() else {
            return;
        };
        let readable = slot.tcp.readable();
        let bytes = readable.get(..n).unwrap_or(readable);
        let listener = slot.listener;
        let path = session.path.as_deref();
        for id in speech.handle_request(bytes, &session.cookie, path) {
            self.use_session(now, &id, listener);
        }
    }

    /// A request of this session is served here: it belongs to this server, unless another one has it that may be asked.
    fn use_session(&mut self, now: Instant, id: &Id, listener: usize) {
        let (Some(session), id) = (&self.config.content.session, id.as_bytes()) else {
            return;
        };
        let mine = match self.sessions.get(now, id) {
            Some(row) if *row.server == *self.config.name => {
                row.given_back || row.left(now) <= session.lifetime / 2
            }
            Some(row) => !self.may_be_asked(now, &row.server, listener),
            // It may be one that was not heard of yet; to guess it is of no use. But who has just come knows few.
            None => now >= self.me.young_until + self.config.synch.medium.saturating_mul(2),
        };
        if mine {
            let lifetime = session.lifetime;
            self.claim(now, id, lifetime);
        }
    }

    /// Whether the server of this name is alive and takes requests for such a listening socket.
    fn may_be_asked(&self, now: Instant, name: &str, listener: usize) -> bool {
        let silence = self.config.synch.silence;
        let listen = self.config.listen.get(listener);
        let mut members = self.members.iter().filter(|m| m.name == name);
        members.any(|m| {
            let serves = listen.is_some_and(|listen| m.serves(listen).is_some());
            serves && m.is_alive(now, silence) && !m.draining
        })
    }

    /// The session belongs to this server, and the others are told.
    fn claim(&mut self, now: Instant, id: &[u8], lifetime: Duration) {
        self.sessions.set(now, id, &self.name, lifetime);
        self.sessions.tell(id);
        self.me.due[0] = self.me.due[0].min(now + TOGETHER);
    }

    /// The application's bytes, with what sessions add to them; how many of them were taken.
    pub(super) fn speak(&mut self, now: Instant, endpoint: u32, data: &[u8]) -> usize {
        let Device {
            stack,
            config,
            session_rng,
            ..
        } = self;
        let session = config.content.session.as_ref();
        let direct = stack.get(endpoint).and_then(|slot| {
            let name = session?.direct.as_deref()?;
            let own = config.listen.get(slot.listener)?.address;
            (own != slot.flow.endpoint).then(|| (name, own.to_string()))
        });
        let mut given: Option<Id> = None;
        let mut add = |head: &mut HeadEnd<'_>, named: bool, issued: Option<Id>| {
            let session = session?;
            if let Some((name, own)) = &direct {
                // The configuration was validated.
                let _ = head.field(name, own);
            }
            if named {
                return None;
            }
            let id = issued.unwrap_or_else(|| new_id(session_rng));
            head.set_cookie(&session.set_cookie(&id).ok()?);
            given = Some(id.clone());
            Some(id)
        };
        let mut ssl = ArrayVec::<_, SEEN>::new();
        let taken = stack.write(now, &config.tcp, endpoint, data, |speech, data, out| {
            ssl.extend(
                speech
                    .ssl_identifiers(data)
                    .into_iter()
                    .take(ssl.remaining_capacity()),
            );
            speech.handle_response(data, out, &mut add);
        });
        let lifetime = session.map_or(SSL_LIFETIME, |session| session.lifetime);
        if let Some(id) = given
            && self.sessions.get(now, id.as_bytes()).is_none()
        {
            self.claim(now, id.as_bytes(), lifetime);
        }
        for id in ssl {
            self.claim(now, &id, SSL_LIFETIME);
        }
        taken
    }

    /// The application sends no more: what was held of a head goes out.
    pub(super) fn end_speech(&mut self, now: Instant, endpoint: u32) {
        self.stack.finish_speech(now, endpoint);
    }

    /// A COOKIE record: the session belongs to that server now.
    pub(super) fn hear_cookie(&mut self, now: Instant, from: Ipv4Addr, cookie: &Cookie<'_>) {
        let Cookie {
            session,
            server,
            lifetime_ms,
        } = *cookie;
        let lifetime = Duration::from_millis(lifetime_ms.into());
        if *server == *self.config.name {
            // What it had in a former life. Who has taken it since has the better right.
            if self.sessions.get(now, session).is_none() {
                self.sessions.give_back(now, session, &self.name, lifetime);
            }
            return;
        }
        let told_by = self.members.get_mut(from).map(|member| &*member.name);
        if told_by != Some(server) {
            // Only who has a session tells of it, but to newcomers.
            return;
        }
        let held = self.sessions.get(now, session);
        if self.sessions.holds(now, session, &self.name)
            && !self.me.draining
            && self.me.unavailable.is_empty()
            && *self.config.name < *server
        {
            // Two have taken it at once: the one whose name comes first keeps it.
            self.sessions.tell(session);
            return;
        }
        let server = match held {
            Some(row) if *row.server == *server => row.server.clone(),
            _ => Arc::from(server),
        };
        self.sessions.set(now, session, &server, lifetime);
    }

    /// The cookie map: each session's id, its server, and how long the row is good.
    pub fn sessions(&self, now: Instant) -> impl Iterator<Item = (&[u8], &str, Duration)> {
        self.sessions.iter(now)
    }
}

/// An id that nobody can guess.
fn new_id(rng: &mut impl Rng) -> Id {
    let number = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
    format!("{number:0ID_LEN$x}").into()
}
