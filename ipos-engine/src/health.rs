//! Whether the applications answer: now and then the engine connects to each of them, as clients' connections do.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use ipos_core::{Device, Instant, ListenerId};
use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::connect;

/// An application that does not answer is asked again so soon: it may just be starting.
const AGAIN: Duration = Duration::from_millis(100);

/// The applications that are looked after.
pub(crate) struct Health {
    checks: Vec<Check>,
    /// Between two checks of one application, and how long one may take.
    interval: Duration,
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
    /// When the next check begins, or the one that is under way has failed.
    due: Instant,
    answers: bool,
}

impl Health {
    /// Checks of these applications; of none without an `interval`. Sockets get tokens from `base` on, as many as there are
    /// applications.
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
            due: now,
            answers: true,
        });
        Health {
            checks: checks.filter(|_| interval.is_some()).collect(),
            interval: interval.unwrap_or_default(),
            base,
        }
    }

    /// Between two checks of one application; `None`: there are no checks.
    pub(crate) fn interval(&self) -> Option<Duration> {
        (!self.interval.is_zero()).then_some(self.interval)
    }

    /// Checks of these applications, with that interval, from now on. What is known of one stays known until its next check;
    /// without checks all of them count as answering.
    pub(crate) fn reload(
        &mut self,
        device: &mut Device,
        now: Instant,
        applications: Vec<(ListenerId, SocketAddr)>,
        interval: Option<Duration>,
    ) {
        let former = std::mem::replace(self, Health::new(applications, interval, self.base, now));
        for check in former.checks {
            let mut checks = self.checks.iter_mut();
            match checks.find(|new| new.listener == check.listener) {
                Some(new) => new.answers = check.answers,
                None => device.set_available(now, check.listener, true),
            }
        }
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = |check: &Check| match check.ready {
            true => Instant::ZERO,
            false => check.due,
        };
        self.checks.iter().map(due).min()
    }

    /// An edge of a check's socket; whether the token is one's.
    pub(crate) fn handle_ready(&mut self, token: Token) -> bool {
        let at = token.0.checked_sub(self.base);
        let check = at.and_then(|at| self.checks.get_mut(at));
        check.map(|check| check.ready = true).is_some()
    }

    /// A client's connection was refused: the device knows at once. Whether checks will tell when the application can be
    /// reached again.
    pub(crate) fn refused(
        &mut self,
        device: &mut Device,
        now: Instant,
        listener: ListenerId,
        error: &Error,
    ) -> bool {
        let mut checks = self.checks.iter_mut();
        let check = checks.find(|check| check.listener == listener);
        let check = check.map(|check| check.tell(device, now, Some(error)));
        check.is_some()
    }

    /// Ends checks that are over, and begins those that are due. The listening sockets whose applications answer.
    pub(crate) fn turn(
        &mut self,
        device: &mut Device,
        now: Instant,
        registry: &Registry,
    ) -> Vec<ListenerId> {
        let mut answering = Vec::new();
        for (at, check) in self.checks.iter_mut().enumerate() {
            let ready = std::mem::take(&mut check.ready);
            let due = check.due <= now;
            if !ready && !due {
                continue;
            }
            let outcome = match &check.socket {
                Some(socket) => connect::outcome(socket).or_else(|| due.then(|| Err(late()))),
                None if due => check.dial(registry, Token(self.base + at)),
                None => None,
            };
            if due || outcome.is_some() {
                check.due = now + self.interval;
            }
            if let Some(outcome) = outcome {
                if outcome.is_err() {
                    check.due = now + self.interval.min(AGAIN);
                }
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
