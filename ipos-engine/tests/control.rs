//! What an operator does to engines that run: look, drain, move, reload.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use ipos_core::{DropReason, Flow, ListenerId};
use ipos_engine::{ControlError, Operator, Reload};
use support::client::Client;
use support::cord::cord;
use support::http::{MANY, http, open, request};
use support::{Server, address, config};

/// Two servers that keep what they get, each with its application, and a client.
struct Bed {
    servers: [Server; 2],
    client: Client,
}

impl Bed {
    fn new() -> Bed {
        let ((a1, far1), (a2, far2)) = (cord(), cord());
        let ((b1, b2), (synch1, synch2)) = (cord(), cord());
        let keeps = |server| {
            let mut config = config(server);
            config.balance.activity_threshold.connections = 1_000;
            config
        };
        let [app1, app2] = [1, 2].map(|name| http(name, Arc::new(AtomicBool::new(false))).0);
        let servers = [
            Server::start(keeps(1), [a1, b1, synch1], app1),
            Server::start(keeps(2), [a2, b2, synch2], app2),
        ];
        let client = Client::new(vec![far1, far2]);
        let mut bed = Bed { servers, client };
        bed.wait(0, "the other server", |operator| {
            let servers = operator.device().servers(operator.now());
            servers.len() == 2 && servers.iter().all(|server| server.alive)
        });
        bed
    }

    fn ask<T: Send + 'static>(
        &self,
        server: usize,
        command: impl FnOnce(&mut Operator<'_>) -> T + Send + 'static,
    ) -> T {
        self.servers[server].ask(command)
    }

    /// Drives the client until this is so at a server.
    fn wait(&mut self, server: usize, what: &str, is: fn(&mut Operator<'_>) -> bool) {
        let server = &self.servers[server];
        let done = || server.ask(is).then_some(());
        self.client.until(what, |_| done());
    }

    fn wait_drained(&mut self) {
        self.wait(0, "drained", |operator| {
            operator.drain_status().unwrap().left == 0
        });
    }

    /// The first server's application's address.
    fn application(&self) -> SocketAddr {
        self.ask(0, |operator| operator.applications().next().unwrap().1)
    }
}

/// The only connection that a server has.
fn only_flow(operator: &mut Operator<'_>) -> Flow {
    let (rows, next) = (operator.device()).flows(0, 1_000, |table, _| table == "local");
    assert_eq!((rows.len(), next), (1, None));
    rows[0].flow
}

#[test]
fn draining_moves_idle_connections_and_says_how_far_it_is() {
    let mut bed = Bed::new();
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 1);
    assert_eq!(bed.ask(0, |operator| operator.drain_status()), None);
    bed.ask(0, |operator| operator.drain(None));
    bed.wait_drained();
    let status = bed.ask(0, |operator| operator.drain_status()).unwrap();
    assert_eq!((status.began_with, status.moved), (1, 1));
    assert_eq!((status.forwarded, status.deadline), (1, None));
    assert_eq!(request(&mut bed.client), 2);
    // What is new goes there too, until draining ends.
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 2);
    bed.ask(0, |operator| operator.undrain());
    assert_eq!(bed.ask(0, |operator| operator.drain_status()), None);
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 1);
}

#[test]
fn what_cannot_move_is_reset_at_the_deadline() {
    let mut bed = Bed::new();
    open(&mut bed.client);
    // Half a request: it is no quiet point.
    assert_eq!(request(&mut bed.client), 1);
    bed.client.send(b"GET / HT");
    // What is acknowledged has come to the application before: an engine transmits at the end of a turn.
    (bed.client).until("half a request", |socket| {
        (socket.send_queue() == 0).then_some(())
    });
    bed.ask(0, |operator| {
        operator.drain(None);
        operator.drain(Some(Duration::from_millis(1)));
        assert!(operator.drain_status().unwrap().deadline.is_some());
    });
    bed.client.until("reset", |socket| {
        (!socket.is_active() || socket.state() == support::client::State::Closed).then_some(())
    });
    bed.wait_drained();
}

#[test]
fn a_command_moves_a_connection() {
    let mut bed = Bed::new();
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 1);
    let flow = bed.ask(0, only_flow);
    assert_eq!(flow.endpoint, address(1));
    bed.ask(0, move |operator| operator.migrate(&flow, "s2").unwrap());
    bed.wait(0, "moved", |operator| {
        operator.device().counters().handover.len() == 1
    });
    assert_eq!(request(&mut bed.client), 2);
    // The first server has its owner send it home.
    bed.ask(0, move |operator| operator.migrate(&flow, "s1").unwrap());
    bed.wait(0, "home", |operator| operator.device().connections() == 1);
    assert_eq!(request(&mut bed.client), 1);
    let unknown = bed.ask(0, move |operator| operator.migrate(&flow, "s7"));
    assert!(unknown.is_err());
    assert_eq!(
        bed.ask(0, |o| o.device().counters().dropped(DropReason::Malformed)),
        0
    );
}

#[test]
fn another_application_behind_the_same_socket() {
    let mut bed = Bed::new();
    let close = Arc::new(AtomicBool::new(false));
    let (second, ends) = http(2, Arc::clone(&close));
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 1);
    let changed = bed.ask(0, move |operator| {
        let reload = Reload {
            config: operator.device().config().clone(),
            applications: [(ListenerId(0), second)].into(),
            proxied: BTreeSet::new(),
            health: Some(Duration::from_millis(10)),
        };
        operator.reload(reload).unwrap()
    });
    assert_eq!(changed, ["listen.app", "health.interval_ms"]);
    assert_eq!(bed.application(), second);
    // The connection that is up keeps its application, the next one has the other.
    assert_eq!(request(&mut bed.client), 1);
    open(&mut bed.client);
    assert_eq!(request(&mut bed.client), 2);
    // The checks have found it: they ask for nothing.
    close.store(true, Ordering::Relaxed);
    let (answered, error) = ends.recv().unwrap();
    assert_eq!((answered.min(1), error), (answered, None));
    for refused in [
        bed.ask(0, |operator| {
            let config = operator.device().config().clone();
            let reload = Reload {
                config,
                applications: BTreeMap::new(),
                proxied: BTreeSet::new(),
                health: None,
            };
            operator.reload(reload)
        }),
        bed.ask(0, |operator| {
            let mut config = operator.device().config().clone();
            config.name = "other".into();
            let reload = Reload {
                config,
                applications: operator.applications().collect(),
                proxied: BTreeSet::new(),
                health: None,
            };
            operator.reload(reload)
        }),
    ] {
        assert!(refused.is_err());
    }
    assert_eq!(bed.application(), second);
    let changed = bed.ask(0, |operator| {
        let reload = Reload {
            config: operator.device().config().clone(),
            applications: operator.applications().collect(),
            proxied: [ListenerId(0)].into(),
            health: Some(Duration::from_millis(10)),
        };
        operator.reload(reload).unwrap()
    });
    assert_eq!(changed, ["listen.proxy_protocol"]);
}

/// Nobody else would ever say that the application answers again.
#[test]
fn an_application_that_does_not_answer_is_asked_when_checks_end() {
    let mut bed = Bed::new();
    let application = bed.application();
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let reload = |application, health| {
        move |operator: &mut Operator<'_>| {
            let config = operator.device().config().clone();
            let applications = [(ListenerId(0), application)].into();
            let reload = Reload {
                config,
                applications,
                proxied: BTreeSet::new(),
                health,
            };
            operator.reload(reload).unwrap();
        }
    };
    bed.ask(0, reload(nobody, Some(Duration::from_millis(5))));
    let listener = ListenerId(0);
    bed.wait(0, "unavailable", |operator| {
        !operator.device().is_available(ListenerId(0))
    });
    bed.ask(0, reload(nobody, Some(Duration::from_secs(5))));
    assert!(!bed.ask(0, move |o| o.device().is_available(listener)));
    bed.ask(0, reload(application, None));
    bed.wait(0, "available", |operator| {
        operator.device().is_available(ListenerId(0))
    });
}

#[test]
fn commands_are_bounded_and_end_with_the_engine() {
    let mut bed = Bed::new();
    let control = bed.servers[0].control();
    let (go, wait) = channel::<()>();
    // The engine is busy with one.
    control.run(move |_| wait.recv().unwrap_or(())).unwrap();
    let busy = (0..MANY).find_map(|_| control.run(|_| {}).err());
    assert_eq!(busy, Some(ControlError::Busy));
    go.send(()).unwrap();
    (bed.client).until("ready", |_| control.run(|_| {}).ok());
    let Bed { servers, .. } = bed;
    for server in servers {
        server.stop();
    }
    assert_eq!(control.run(|_| {}), Err(ControlError::Ended));
}
