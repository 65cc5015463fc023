//! What may come of a case.

use std::time::Duration;

use ipos_core::{Failure, Instant};
use ipos_sim::{Conversation, ExchangeError};

use crate::party::{End, Ending, Report};
use crate::plan::{PERSEVERING, Plan};

/// smoltcp's TIME-WAIT: a server's FIN that is sent again after it is answered with RST.
const CLIENT_TIME_WAIT: Duration = Duration::from_secs(10);
/// A server keeps an endpoint for 2 s while its client's packets do not come; they are sent four times a second.
const INSTALLED: Duration = Duration::from_secs(1);

/// How a case ended that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Both streams arrived whole.
    Whole,
    /// One end reset the connection or let go of it, as planned.
    AsPlanned,
    /// The connection failed, and both ends have seen it.
    Failed,
    /// The client had everything, and its TCP has thrown away what its application had not read yet.
    ClientForgot,
    /// The client's TCP has stopped although it owed something.
    ClientStopped,
}

/// What is known of a case.
pub struct Judge<'a> {
    /// What was to happen.
    pub plan: &'a Plan,
    /// What LAN A showed, if the client has sent its SYN.
    pub talk: Option<&'a Conversation>,
    /// The client's end.
    pub client: &'a Report,
    /// Rules that were broken.
    pub violations: &'a mut Vec<String>,
}

impl Judge<'_> {
    /// The verdict, and which of the applications that were given the connection has had it.
    pub fn judge(&mut self, applications: &[Report]) -> (Verdict, Option<usize>) {
        // The last one, unless its client never came either.
        let owner = applications
            .iter()
            .rposition(|report| !is_never_owned(report));
        let owner = owner.filter(|&at| at + 1 == applications.len());
        let others = &applications[..owner.unwrap_or(applications.len())];
        if !others.iter().all(is_given_up) {
            self.broken("more than one application had the connection");
        }
        let server = owner.and_then(|at| applications.get(at));
        self.check_streams(server.unwrap_or(&Report::default()));
        let verdict = match (&self.client.ended, server.map(|server| &server.ended)) {
            (Some(client), Some(Some(server))) => {
                self.judge_ends(client, server, &applications[others.len()])
            }
            (Some((at, end)), None) => self.judge_unbound(*at, end),
            _ => {
                self.broken("an end is not done");
                Verdict::Failed
            }
        };
        (verdict, owner)
    }

    fn broken(&mut self, rule: impl Into<String>) {
        self.violations.push(rule.into());
    }

    /// No byte is wrong, and no stream is shorter than it seems.
    fn check_streams(&mut self, server: &Report) {
        for (name, one, other) in [
            ("client", self.client, server),
            ("server", server, self.client),
        ] {
            if let Some(wrong) = &one.wrong {
                self.violations.push(format!("{name}: {wrong}"));
            }
            if one.received > other.sent {
                self.violations.push(format!(
                    "{name}: has read {} of {} bytes",
                    one.received, other.sent
                ));
            }
            // A FIN says that every byte has come: the other end must have closed just there.
            if one.saw_end && other.closed_behind != Some(one.received) {
                self.violations.push(format!(
                    "{name}: the stream ended after {} bytes",
                    one.received
                ));
            }
        }
    }

    fn judge_ends(
        &mut self,
        (client_at, client): &(Instant, End),
        (server_at, server): &(Instant, End),
        application: &Report,
    ) -> Verdict {
        let let_go = matches!(self.plan.server.ending, Ending::LetGo(_));
        match (client, server) {
            (End::Closed, End::Closed) if application.received == self.client.sent => {
                return Verdict::Whole;
            }
            (End::Aborted, _) | (_, End::Aborted) => return Verdict::AsPlanned,
            (End::Closed | End::ClientFailed(_), End::Closed) if let_go => {
                return Verdict::AsPlanned;
            }
            _ => {}
        }
        // The moment of the failure, where the client may be the reason.
        let at = match (client, server) {
            (End::Closed, End::ServerFailed(_)) => *server_at,
            _ => *client_at,
        };
        if let Some(fault) = self.client_fault(at, client) {
            return fault;
        }
        // The client had everything and owed nothing, but we did not hear it before its TIME-WAIT ended.
        let late = *client == End::Closed
            && *server == End::ServerFailed(Failure::Reset)
            && at >= *client_at + CLIENT_TIME_WAIT
            && !self.client_owes();
        if !late && !self.may_fail() {
            self.broken(format!("the connection failed: {client:?}, {server:?}"));
        }
        Verdict::Failed
    }

    /// No application had the connection.
    fn judge_unbound(&mut self, at: Instant, client: &End) -> Verdict {
        if *client == End::Aborted {
            return Verdict::AsPlanned;
        }
        if let Some(fault) = self.client_fault(at, client) {
            return fault;
        }
        // LAN B was out while the connection was between two servers.
        let between = self.plan.parted.is_some_and(|(_, time)| time >= INSTALLED)
            && *client == End::ClientFailed(ExchangeError::Reset);
        if !between && !self.may_fail() {
            self.broken("no application was given the connection");
        }
        Verdict::Failed
    }

    fn client_owes(&self) -> bool {
        let closed = self.client.closed_behind.is_some();
        self.talk
            .is_some_and(|talk| talk.client_owes(self.client.sent, closed))
    }

    /// What the client's TCP has done wrong when the connection failed.
    fn client_fault(&mut self, at: Instant, client: &End) -> Option<Verdict> {
        let owes = self.client_owes();
        if *client == End::ClientFailed(ExchangeError::Reset) {
            let had_everything = self.talk.is_some_and(Conversation::client_had_everything);
            let forgot = !owes && had_everything;
            return forgot.then_some(Verdict::ClientForgot);
        }
        // smoltcp sends nothing but ARP requests while it is cut off.
        if !owes || self.plan.is_cut_off() {
            return None;
        }
        if self.talk.is_some_and(|talk| talk.client_is_silent(at)) {
            return Some(Verdict::ClientStopped);
        }
        // A server that has given up answers with RST.
        if *client == End::ClientFailed(ExchangeError::TimedOut) {
            self.broken("the client speaks, and nobody answers");
        }
        None
    }

    /// The client was cut off for good, or more was lost than so few repetitions can make up for.
    fn may_fail(&self) -> bool {
        let plan = self.plan;
        let lossy = plan.calm > Duration::ZERO || plan.unplugged.is_some() || plan.parted.is_some();
        plan.is_cut_off() || (lossy && plan.tcp.retries < PERSEVERING)
    }
}

/// Its client never came.
fn is_never_owned(report: &Report) -> bool {
    let never = Some(End::ServerFailed(Failure::NeverOwned));
    report.received == 0 && report.ended.as_ref().map(|(_, end)| end) == never.as_ref()
}

/// An offer that was not answered in time leaves an application whose client never comes; it may have left before.
fn is_given_up(report: &Report) -> bool {
    let left = matches!(report.ended, Some((_, End::Aborted | End::Closed)));
    is_never_owned(report) || (left && report.received == 0)
}
