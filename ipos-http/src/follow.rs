//! Both directions of one connection: the machine behind [`Exchange`](crate::Exchange) and
//! [`ResponseRewriter`](crate::ResponseRewriter).

use arrayvec::ArrayVec;

use crate::body::Body;
use crate::gather::HeadGatherer;
use crate::head::{Method, Request, RequestHead, ResponseHead, Version};
use crate::{Framing, Opaque};

/// Most requests that wait for their answers at once (pipelining, RFC 9112 §9.3.2). More: opaque.
pub const PIPELINE_MAX: usize = 32;

/// Finds the messages of both directions. `T` is what the user notes of a request until it is answered.
///
/// That the connection will never be at rest again does not keep it from being followed: heads and bodies are
/// found as long as it is known where the next one begins.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    requests: Stage,
    responses: Stage,
    /// Requests whose answers are not complete, the oldest first.
    pipeline: ArrayVec<Asked<T>, PIPELINE_MAX>,
    /// A request has been answered: the application speaks HTTP.
    answered: bool,
    /// Why it is never at rest again: the first reason.
    opaque: Option<Opaque>,
}

/// Where one direction is.
#[derive(Debug)]
enum Stage {
    Head(HeadGatherer),
    Body(Body),
    /// No further message is looked for.
    Lost,
}

/// What must be known of a request when its answer comes.
#[derive(Debug)]
struct Asked<T> {
    method: Method,
    version: Version,
    /// The connection ends behind its answer.
    last: bool,
    /// Until the head of the last answer has come.
    note: Option<T>,
}

/// A part of what the application sends. One after the other they are all that it has sent, but for a head that has
/// not come whole.
pub(crate) enum Piece<'p, T> {
    /// Nothing to look at.
    Bytes(&'p [u8]),
    /// The whole head of the last answer to a request, what it says, and what was noted of the request.
    Answer(&'p [u8], ResponseHead, T),
}

impl<T> Follower<T> {
    /// Why it is never at rest again, if so.
    pub(crate) fn opaque(&self) -> Option<Opaque> {
        self.opaque
    }

    /// With nothing in the pipeline, no answer is under way: its request leaves the pipeline last.
    pub(crate) fn is_at_rest(&self) -> bool {
        let between = matches!(&self.requests, Stage::Head(head) if head.is_empty());
        self.opaque.is_none() && self.answered && self.pipeline.is_empty() && between
    }

    /// Bytes of the client; `note` is asked of each request that is found.
    pub(crate) fn handle_request(
        &mut self,
        mut bytes: &[u8],
        mut note: impl FnMut(&Request<'_>) -> T,
    ) {
        while !bytes.is_empty() {
            let (next, rest) = match &mut self.requests {
                Stage::Head(gatherer) => {
                    let read = |head: &[u8]| {
                        Request::read(head, |request| (request.head(), note(request)))
                    };
                    match gatherer.gather(bytes, read) {
                        Ok(None) => return,
                        Ok(Some(((head, note), rest))) => (self.ask(&head, note), rest),
                        Err(why) => (Err(why), bytes),
                    }
                }
                Stage::Body(body) => match body.take(bytes) {
                    Ok(_) if !body.is_complete() => return,
                    Ok(rest) => (Ok(Stage::default()), rest),
                    Err(why) => (Err(why), bytes),
                },
                Stage::Lost => return,
            };
            match next {
                Ok(stage) => self.requests = stage,
                Err(why) => self.lose_requests(why),
            }
            bytes = rest;
        }
    }

    /// Puts a request into the pipeline. Where its own end is in doubt, or nothing is answered behind it, no more
    /// requests are looked for; its answer is.
    fn ask(&mut self, head: &RequestHead, note: T) -> Result<Stage, Opaque> {
        let last = !head.persists();
        let pushed = self.pipeline.try_push(Asked {
            method: head.method,
            version: head.version,
            last,
            note: Some(note),
        });
        if head.method == Method::Connect {
            return Err(Opaque::Upgraded);
        }
        if head.authenticates_connection {
            self.never_at_rest(Opaque::Authenticated);
        }
        if last {
            return Err(Opaque::Closes);
        }
        let body = Body::of_request(head)?;
        pushed.map_err(|_| Opaque::Pipeline)?;
        Ok(match body.is_complete() {
            true => Stage::default(),
            false => Stage::Body(body),
        })
    }

    /// Bytes of the application, which `pass` is given piece by piece.
    pub(crate) fn handle_response(&mut self, mut bytes: &[u8], mut pass: impl FnMut(Piece<'_, T>)) {
        while !bytes.is_empty() {
            let (next, rest) = match &mut self.responses {
                Stage::Head(gatherer) => match self.pipeline.first_mut() {
                    None => (Err(Opaque::Unsolicited), bytes),
                    Some(asked) => {
                        match gatherer.gather(bytes, |head| Ok(asked.read(head, &mut pass))) {
                            Ok(None) => return,
                            Ok(Some((head, rest))) => {
                                (head.and_then(|head| self.answer(&head)), rest)
                            }
                            Err(why) => {
                                pass(Piece::Bytes(gatherer.held()));
                                (Err(why), bytes)
                            }
                        }
                    }
                },
                Stage::Body(body) => match body.take(bytes) {
                    Ok(rest) => {
                        let taken = bytes.len() - rest.len();
                        pass(Piece::Bytes(bytes.get(..taken).unwrap_or_default()));
                        if !body.is_complete() {
                            return;
                        }
                        (self.complete(), rest)
                    }
                    Err(why) => (Err(why), bytes),
                },
                Stage::Lost => return pass(Piece::Bytes(bytes)),
            };
            match next {
                Ok(stage) => self.responses = stage,
                Err(why) => self.lose_responses(why),
            }
            bytes = rest;
        }
    }

    /// What is behind the head of an answer.
    fn answer(&mut self, head: &ResponseHead) -> Result<Stage, Opaque> {
        if head.is_interim() {
            return interim(head);
        }
        if self.pipeline.len() == 1 && matches!(self.requests, Stage::Body(_)) {
            self.lose_requests(Opaque::Early);
        }
        let asked = self.pipeline.first_mut().ok_or(Opaque::Unsolicited)?;
        if asked.tunnels(head) {
            return Err(Opaque::Upgraded);
        }
        let body = Body::of_response(head, asked.method, asked.version)?;
        if !head.persists(asked.version) {
            asked.last = true;
            self.never_at_rest(Opaque::Closes);
        }
        match body.is_complete() {
            true => self.complete(),
            false => Ok(Stage::Body(body)),
        }
    }

    /// The oldest request has been answered.
    fn complete(&mut self) -> Result<Stage, Opaque> {
        self.answered = true;
        match self.pipeline.pop_at(0) {
            Some(asked) if asked.last => Err(Opaque::Closes),
            _ => Ok(Stage::default()),
        }
    }

    /// What is held of a head that will not come whole. No message is looked for any more.
    pub(crate) fn finish(&mut self, pass: impl FnOnce(&[u8])) {
        if let Stage::Head(gatherer) = &self.responses {
            pass(gatherer.held());
        }
        self.lose_responses(Opaque::Closes);
    }

    /// What has been asked may still be answered.
    fn lose_requests(&mut self, why: Opaque) {
        self.never_at_rest(why);
        self.requests = Stage::Lost;
    }

    fn lose_responses(&mut self, why: Opaque) {
        self.lose_requests(why);
        self.responses = Stage::Lost;
        self.pipeline.clear();
    }

    fn never_at_rest(&mut self, why: Opaque) {
        self.opaque.get_or_insert(why);
    }

    /// Bytes that the heads of both directions take.
    #[cfg(test)]
    pub(crate) fn capacities(&self) -> (usize, usize) {
        let of = |stage: &Stage| match stage {
            Stage::Head(gatherer) => gatherer.capacity(),
            Stage::Body(_) | Stage::Lost => 0,
        };
        (of(&self.requests), of(&self.responses))
    }
}

impl<T> Asked<T> {
    /// Reads the whole head of an answer, and passes it.
    fn read(
        &mut self,
        bytes: &[u8],
        pass: &mut impl FnMut(Piece<'_, T>),
    ) -> Result<ResponseHead, Opaque> {
        let head = ResponseHead::parse(bytes);
        let last = |head: &ResponseHead| !head.is_interim() && !self.tunnels(head);
        let answer = head.ok().filter(last);
        pass(
            match answer.and_then(|head| Some((head, self.note.take()?))) {
                Some((head, note)) => Piece::Answer(bytes, head, note),
                None => Piece::Bytes(bytes),
            },
        );
        head
    }

    /// Whether another protocol follows at once (RFC 9110 §9.3.6).
    fn tunnels(&self, head: &ResponseHead) -> bool {
        self.method == Method::Connect && (200..300).contains(&head.status)
    }
}

/// Behind an answer that another one follows; 101 is the last one that is HTTP.
fn interim(head: &ResponseHead) -> Result<Stage, Opaque> {
    match (head.status, head.framing) {
        (101, _) => Err(Opaque::Upgraded),
        (_, Framing::Absent) => Ok(Stage::default()),
        _ => Err(Opaque::Framing),
    }
}

impl Default for Stage {
    fn default() -> Stage {
        Stage::Head(HeadGatherer::default())
    }
}

impl<T> Default for Follower<T> {
    fn default() -> Follower<T> {
        Follower {
            requests: Stage::default(),
            responses: Stage::default(),
            pipeline: ArrayVec::new(),
            answered: false,
            opaque: None,
        }
    }
}
