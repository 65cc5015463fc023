//! Both directions of one connection.

use arrayvec::ArrayVec;

use crate::body::Body;
use crate::gather::HeadGatherer;
use crate::head::{Method, RequestHead, ResponseHead, Version};

/// Most requests that wait for their answers at once (pipelining, RFC 9112 §9.3.2). More: opaque.
pub const PIPELINE_MAX: usize = 32;

/// Why an exchange is never at rest again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Opaque {
    /// It is not HTTP/1.x, or breaks its grammar.
    #[error("not a message of HTTP/1.x")]
    Malformed,
    /// A head, a chunk's line or the trailers are longer than is looked at.
    #[error("a head that is too long")]
    HeadTooLong,
    /// The framing fields conflict or cannot be understood.
    #[error("the end of a body is in doubt")]
    Framing,
    /// The connection ends behind a message.
    #[error("the connection closes behind a message")]
    Closes,
    /// CONNECT was asked, or 101 answered: other protocols follow.
    #[error("the connection changes to another protocol")]
    Upgraded,
    /// The client has authenticated the connection itself.
    #[error("the connection is authenticated")]
    Authenticated,
    /// The application sends what nobody asked for.
    #[error("an answer without a request")]
    Unsolicited,
    /// The last answer began before its request was whole: it cannot be told what becomes of the rest.
    #[error("an answer before the end of its request")]
    Early,
    /// More than [`PIPELINE_MAX`] requests wait for answers.
    #[error("too many requests at once")]
    Pipeline,
}

/// Follows an exchange of requests and answers.
///
/// The bytes are handed over in the order in which they pass: an answer after the request that it answers. How
/// they are cut makes no difference.
#[derive(Debug)]
pub struct Exchange {
    state: Result<Http, Opaque>,
}

/// An exchange that is understood so far.
#[derive(Debug, Default)]
struct Http {
    requests: Stream,
    responses: Stream,
    /// Requests whose answers are not complete, the oldest first.
    pipeline: ArrayVec<Asked, PIPELINE_MAX>,
    /// A request has been answered: the application speaks HTTP.
    answered: bool,
}

/// One direction: in a head, or in a body.
#[derive(Debug, Default)]
struct Stream {
    head: HeadGatherer,
    body: Option<Body>,
}

/// What must be known of a request when its answer comes.
#[derive(Clone, Copy, Debug)]
struct Asked {
    method: Method,
    version: Version,
}

impl Exchange {
    /// Nothing has passed yet.
    pub fn new() -> Exchange {
        Exchange {
            state: Ok(Http::default()),
        }
    }

    /// Bytes of the client that were passed to the application.
    pub fn handle_request(&mut self, bytes: &[u8]) {
        self.handle(|http| http.handle_request(bytes));
    }

    /// Bytes of the application.
    pub fn handle_response(&mut self, bytes: &[u8]) {
        self.handle(|http| http.handle_response(bytes));
    }

    /// Whether every request has been answered, completely, and nothing else has come, from either side. Never
    /// before the first answer: an application that was asked nothing may be about to greet.
    pub fn is_at_rest(&self) -> bool {
        self.state.as_ref().is_ok_and(Http::is_at_rest)
    }

    /// Why the exchange is never at rest again, if so.
    pub fn opaque(&self) -> Option<Opaque> {
        self.state.as_ref().err().copied()
    }

    fn handle(&mut self, handle: impl FnOnce(&mut Http) -> Result<(), Opaque>) {
        if let Ok(http) = &mut self.state
            && let Err(why) = handle(http)
        {
            self.state = Err(why);
        }
    }
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange::new()
    }
}

impl Http {
    /// With nothing in the pipeline, no answer is under way: its request leaves the pipeline last.
    fn is_at_rest(&self) -> bool {
        self.answered
            && self.pipeline.is_empty()
            && self.requests.head.is_empty()
            && self.requests.body.is_none()
    }

    fn handle_request(&mut self, mut bytes: &[u8]) -> Result<(), Opaque> {
        while !bytes.is_empty() {
            if let Some(body) = &mut self.requests.body {
                bytes = body.take(bytes)?;
                self.requests.body.take_if(|body| body.is_complete());
                continue;
            }
            let Some((head, rest)) = self.requests.head.gather(bytes, RequestHead::parse)? else {
                break;
            };
            self.ask(&head)?;
            bytes = rest;
        }
        Ok(())
    }

    fn ask(&mut self, head: &RequestHead) -> Result<(), Opaque> {
        let &RequestHead {
            method, version, ..
        } = head;
        if method == Method::Connect {
            return Err(Opaque::Upgraded);
        }
        if head.authenticates_connection {
            return Err(Opaque::Authenticated);
        }
        if !head.persists() {
            return Err(Opaque::Closes);
        }
        let body = Body::of_request(head)?;
        let asked = Asked { method, version };
        self.pipeline
            .try_push(asked)
            .map_err(|_| Opaque::Pipeline)?;
        self.requests.body = Some(body).filter(|body| !body.is_complete());
        Ok(())
    }

    fn handle_response(&mut self, mut bytes: &[u8]) -> Result<(), Opaque> {
        while !bytes.is_empty() {
            let asked = *self.pipeline.first().ok_or(Opaque::Unsolicited)?;
            if self.responses.body.is_none() {
                let Some((head, rest)) = self.responses.head.gather(bytes, ResponseHead::parse)?
                else {
                    break;
                };
                bytes = rest;
                if head.is_interim() {
                    interim(&head)?;
                    continue;
                }
                self.responses.body = Some(self.answer(&head, asked)?);
            }
            if let Some(body) = &mut self.responses.body {
                bytes = body.take(bytes)?;
            }
            let complete = self.responses.body.take_if(|body| body.is_complete());
            if complete.is_some() {
                self.pipeline.pop_at(0);
                self.answered = true;
            }
        }
        Ok(())
    }

    /// The body of a request's last answer.
    fn answer(&self, head: &ResponseHead, asked: Asked) -> Result<Body, Opaque> {
        if self.pipeline.len() == 1 && self.requests.body.is_some() {
            return Err(Opaque::Early);
        }
        let body = Body::of_response(head, asked.method, asked.version)?;
        match head.persists(asked.version) {
            true => Ok(body),
            false => Err(Opaque::Closes),
        }
    }
}

/// An answer that another one follows; 101 is the last one that is HTTP.
fn interim(head: &ResponseHead) -> Result<(), Opaque> {
    match (head.status, head.framing) {
        (101, _) => Err(Opaque::Upgraded),
        (_, crate::Framing::Absent) => Ok(()),
        _ => Err(Opaque::Framing),
    }
}

#[cfg(test)]
mod tests;
