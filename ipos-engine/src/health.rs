//! Whether the applications answer: now and then the engine connects to each of them, as clients' connections do; and always to one
//! that has refused a client's, until it answers.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use ipos_core::{Device, Instant, ListenerId};
use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::connect;

/// An application that does not answer is asked again so soon: it may just be starting.
const AGAIN: Duration = Duration::from_millis(100);

/// How long a check may take where applications that answer are not asked.
const PATIENCE: Duration = Duration::from_secs(1);

/// The applications that are looked after.
pub(crate) struct Health {
    checks: Vec<Check>,
    /// Between two checks of one application that answers, and how long one may take; `None`: those are not asked.
    interval: Option<Duration>,
    /// The first token of the sockets.
    base: usize,
}

/// One application, and the check of it that is under way.
struct Check {
    listener: ListenerId,
    address: SocketAddr,
    socket: Option<TcpStream>,
    /// The socket has told of something.
    ready: bool,
    /// When the next check begins, or the one that is under way has failed; `None`: nothing is to be asked.
    due: Option<Instant>,
    answers: bool,
}

impl Health {
    /// Checks of these applications. Sockets get tokens from `base` on, as many as there are applications.
    pub(crate) fn new(
        applications: Vec<(ListenerId, SocketAddr)>,
        interval: Option<Duration>,
        base: usize,
        now: Instant,
    ) -> Health {
        let checks = applications.into_iter();
        let checks = checks.map(|(listener, address)| Check {
            listener,
            address,
            socket: None,
            ready: false,
            due: interval.map(|_| now),
            answers: true,
        });
        Health {
            checks: checks.collect(),
            interval,
            base,
        }
    }

    /// Between two checks of one application that answers; `None`: those are not asked.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Checks of these applications, with that interval, from now on. What is known of one stays known until its next check.
    pub(crate) fn reload(
        &mut self,
        now: Instant,
        applications: Vec<(ListenerId, SocketAddr)>,
        interval: Option<Duration>,
    ) {
        let former = std::mem::replace(self, Health::new(applications, interval, self.base, now));
        for check in former.checks.iter().filter(|check| !check.answers) {
            let mut checks = self.checks.iter_mut();
            if let Some(new) = checks.find(|new| new.listener == check.listener) {
                (new.answers, new.due) = (false, Some(now));
            }
        }
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = |check: &Check| match check.ready {
            true => Some(Instant::ZERO),
            false => check.due,
        };
        self.checks.iter().filter_map(due).min()
    }

    /// An edge of a check's socket; whether the token is one's.
    pub(crate) fn handle_ready(&mut self, token: Token) -> bool {
        let at = token.0.checked_sub(self.base);
        let check = at.and_then(|at| self.checks.get_mut(at));
        check.map(|check| check.ready = true).is_some()
    }

    /// A client's connection was refused: the device knows at once, and the application is asked until it answers.
    pub(crate) fn refused(
        &mut self,
        device: &mut Device,
        now: Instant,
        listener: ListenerId,
        error: &Error,
    ) {
        let again = now + self.again();
        let mut checks = self.checks.iter_mut();
        if let Some(check) = checks.find(|check| check.listener == listener) {
            check.tell(device, now, Some(error));
            if check.socket.is_none() {
                check.due = Some(check.due.map_or(again, |due| due.min(again)));
            }
        }
    }

    /// When one that does not answer is asked again.
    fn again(&self) -> Duration {
        self.interval.map_or(AGAIN, |interval| interval.min(AGAIN))
    }

    /// Ends checks that are over, and begins those that are due. The listening sockets whose applications answer.
    pub(crate) fn turn(
        &mut self,
        device: &mut Device,
        now: Instant,
        registry: &Registry,
    ) -> Vec<ListenerId> {
        let mut answering = Vec::new();
        let (again, interval) = (self.again(), self.interval);
        for (at, check) in self.checks.iter_mut().enumerate() {
            let ready = std::mem::take(&mut check.ready);
            let due = check.due.is_some_and(|due| due <= now);
            if !ready && !due {
                continue;
            }
            let outcome = match &check.socket {
                Some(socket) => connect::outcome(socket).or_else(|| due.then(|| Err(late()))),
                None if due => check.dial(registry, Token(self.base + at)),
                None => None,
            };
            if outcome.is_none() && due {
                check.due = Some(now + interval.unwrap_or(PATIENCE));
            }
            if let Some(outcome) = outcome {
                check.due = match outcome {
                    Ok(()) => interval.map(|interval| now + interval),
                    Err(_) => Some(now + again),
                };
                check.socket = None;
                answering.extend(outcome.is_ok().then_some(check.listener));
                check.tell(device, now, outcome.as_ref().err());
            }
        }
        answering
    }
}

/// What is told of an application that takes no connection.
pub(crate) fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "it does not answer")
}

impl Check {
    /// Begins to connect; `None` while that goes on.
    fn dial(&mut self, registry: &Registry, token: Token) -> Option<Result<()>> {
        match connect::dial(self.address, registry, token) {
            Ok(socket) => {
                self.socket = Some(socket);
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Tells the device and the log what has changed.
    fn tell(&mut self, device: &mut Device, now: Instant, error: Option<&Error>) {
        let answers = error.is_none();
        if std::mem::replace(&mut self.answers, answers) == answers {
            return;
        }
        device.set_available(now, self.listener, answers);
        let application = self.address;
        match error {
            None => tracing::info!(%application, "the application answers again"),
            Some(error) => tracing::warn!(
                %application,
                %error,
                "the application cannot be reached; its requests go to other servers, while there are any"
            ),
        }
    }
}
