//! Whether a connection is at rest.

use crate::Opaque;
use crate::follow::Follower;

/// Follows an exchange of requests and answers.
///
/// The bytes are handed over in the order in which they pass: an answer after the request that it answers. How
/// they are cut makes no difference.
#[derive(Debug)]
pub struct Exchange {
    state: Result<Follower<()>, Opaque>,
}

impl Exchange {
    /// Nothing has passed yet.
    pub fn new() -> Exchange {
        Exchange {
            state: Ok(Follower::default()),
        }
    }

    /// Bytes of the client that were passed to the application.
    pub fn handle_request(&mut self, bytes: &[u8]) {
        self.handle(|follower| follower.handle_request(bytes, |_| ()));
    }

    /// Bytes of the application.
    pub fn handle_response(&mut self, bytes: &[u8]) {
        self.handle(|follower| follower.handle_response(bytes, |_| ()));
    }

    /// Whether every request has been answered, completely, and nothing else has come, from either side. Never
    /// before the first answer: an application that was asked nothing may be about to greet.
    pub fn is_at_rest(&self) -> bool {
        self.state.as_ref().is_ok_and(Follower::is_at_rest)
    }

    /// Why the exchange is never at rest again, if so.
    pub fn opaque(&self) -> Option<Opaque> {
        self.state.as_ref().err().copied()
    }

    /// What is never at rest again need not be followed.
    fn handle(&mut self, handle: impl FnOnce(&mut Follower<()>)) {
        if let Ok(follower) = &mut self.state {
            handle(follower);
            if let Some(why) = follower.opaque() {
                self.state = Err(why);
            }
        }
    }
}

impl Default for Exchange {
    fn default() -> Exchange {
        Exchange::new()
    }
}

#[cfg(test)]
mod tests;
