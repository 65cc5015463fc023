//! Applications that die and come back, behind servers that look after them.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipos_core::Config;
use ipos_engine::Options;
use socket2::{Domain, Socket, Type};
use support::client::{Client, State, take};
use support::cord::cord;
use support::{Server, address, config, engine, round_robin};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n";
/// Requests that a client makes at most until something happens that it waits for.
const MANY: usize = 10_000;
/// So soon that a test needs not wait, so late that it does not fail on a busy machine.
const SOON: Duration = Duration::from_millis(20);
/// Not in a test's life.
const NEVER: Duration = Duration::from_secs(3600);

/// An application that answers with its name until it is ended.
struct Application {
    end: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Application {
    fn start(at: SocketAddr, name: char) -> Application {
        let listener = TcpListener::bind(at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => drop(thread::spawn(move || answer(stream, name))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        Application { end, thread }
    }

    fn end(self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Answers one request. Who only looks whether the application is there closes without one.
fn answer(mut stream: TcpStream, name: char) {
    stream.set_nonblocking(false).unwrap();
    let mut request = [0; REQUEST.len()];
    if stream.read_exact(&mut request).is_ok() {
        assert_eq!(request, REQUEST);
        stream
            .write_all(format!("{HEAD}{name}").as_bytes())
            .unwrap();
    }
}

/// An address that nobody listens on.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

/// A new connection to server 1, and a request on it.
fn ask(client: &mut Client) {
    client.connect(address(1));
    client.until("open", |socket| socket.may_send().then_some(()));
    client.send(REQUEST);
}

/// The name in the answer; `None`: the connection was reset.
fn answered(client: &mut Client) -> Option<char> {
    let mut received = Vec::new();
    client.until("answer", |socket| {
        take(socket, &mut received);
        let whole = received.len() > HEAD.len();
        (whole || socket.state() == State::Closed).then_some(())
    });
    // Servers have room for a few connections only.
    client.abort();
    client.until("end", |socket| (!socket.is_open()).then_some(()));
    let name = received.strip_prefix(HEAD.as_bytes())?;
    name.first().copied().map(char::from)
}

fn request(client: &mut Client) -> Option<char> {
    ask(client);
    answered(client)
}

fn options(health: Duration) -> Options {
    Options {
        health: Some(health),
        patience: NEVER,
        ..Options::default()
    }
}

/// Two servers, and a client that sees both.
fn farm(
    config: fn(u8) -> Config,
    applications: [SocketAddr; 2],
    options: &Options,
) -> ([Server; 2], Client) {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let start = |server, ends, application| {
        let options = options.clone();
        Server::start_with(move || engine(config(server), ends, application, options))
    };
    let [app1, app2] = applications;
    let servers = [
        start(1, [a1, b1, synch1], app1),
        start(2, [a2, b2, synch2], app2),
    ];
    (servers, Client::new(vec![far1, far2]))
}

#[test]
fn an_application_that_dies_takes_its_server_out_and_back() {
    let apps = [free(), free()];
    let _app1 = Application::start(apps[0], '1');
    let app2 = Application::start(apps[1], '2');
    let (servers, mut client) = farm(round_robin, apps, &options(SOON));
    let until = |client: &mut Client, name| {
        (0..MANY).any(|_| request(client).expect("nobody is reset") == name)
    };
    assert!(until(&mut client, '2'), "the servers know each other");
    app2.end();
    // Once that is noticed, round robin has one server to go to.
    let mut in_a_row = 0;
    for _ in 0..MANY {
        let name = request(&mut client).expect("nobody is reset");
        in_a_row = if name == '1' { in_a_row + 1 } else { 0 };
        if in_a_row == 10 {
            break;
        }
    }
    assert_eq!(in_a_row, 10);
    let _app2 = Application::start(apps[1], '2');
    assert!(until(&mut client, '2'), "it is back");
    for server in servers {
        assert_eq!(server.stop().0.refused, 0);
    }
}

#[test]
fn a_request_that_its_application_refuses_goes_to_another_server() {
    // The first check finds both, and no other one comes; or there are none: the refused connection itself tells.
    for (dead, health) in [(1, Some(NEVER)), (2, Some(NEVER)), (1, None), (2, None)] {
        let options = Options {
            health,
            ..options(NEVER)
        };
        let apps = [free(), free()];
        let [app1, app2] =
            [('1', apps[0]), ('2', apps[1])].map(|(n, at)| Application::start(at, n));
        let (servers, mut client) = farm(round_robin, apps, &options);
        let both = (0..MANY).any(|_| request(&mut client) == Some('2'));
        assert!(both, "the servers know each other");
        let (dies, lives) = if dead == 1 { (app1, '2') } else { (app2, '1') };
        dies.end();
        for _ in 0..4 {
            assert_eq!(request(&mut client), Some(lives));
        }
        for server in servers {
            assert_eq!(server.stop().0.refused, 0);
        }
    }
}

/// Selection alone would leave them where they are.
#[test]
fn what_its_application_refuses_goes_to_another_server_though_this_one_keeps_requests() {
    fn keeps(server: u8) -> Config {
        let mut config = config(server);
        config.balance.activity_threshold.connections = 1_000;
        config
    }
    let apps = [free(), free()];
    let _app2 = Application::start(apps[1], '2');
    let options = Options {
        patience: NEVER,
        ..Options::default()
    };
    let (servers, mut client) = farm(keeps, apps, &options);
    for _ in 0..4 {
        assert_eq!(request(&mut client), Some('2'));
    }
    for server in servers {
        assert_eq!(server.stop().0.refused, 0);
    }
}

#[test]
fn what_no_server_s_application_takes_does_not_go_to_and_fro() {
    let options = Options {
        patience: Duration::from_millis(500),
        ..Options::default()
    };
    let apps = [free(), free()];
    let app2 = Application::start(apps[1], '2');
    let (servers, mut client) = farm(round_robin, apps, &options);
    let known = (0..MANY).any(|_| request(&mut client) == Some('2'));
    assert!(known, "the servers know each other");
    app2.end();
    for _ in 0..2 {
        assert_eq!(request(&mut client), None);
    }
    let refused = servers.map(|server| server.stop().0.refused);
    assert!(refused.iter().sum::<u64>() >= 2, "{refused:?}");
}

/// Not even a connect begins, as where no descriptor or no local port is free.
#[test]
fn a_request_for_which_there_is_no_socket_goes_to_another_server() {
    let apps = [free(), "255.255.255.255:9".parse().unwrap()];
    let _app1 = Application::start(apps[0], '1');
    let options = Options {
        patience: NEVER,
        ..Options::default()
    };
    let (servers, mut client) = farm(round_robin, apps, &options);
    let came = |server: &Server| server.ask(|operator| operator.device().counters().migrated_in);
    for _ in 0..MANY {
        assert_eq!(request(&mut client), Some('1'));
        if came(&servers[1]) >= 1 {
            break;
        }
    }
    assert!(came(&servers[1]) >= 1);
    for server in servers {
        let (statistics, _) = server.stop();
        assert_eq!((statistics.refused, statistics.bridges), (0, 0));
    }
}

/// An application that listens, and takes no connection; and who has filled its queue.
fn deaf(at: SocketAddr) -> (Socket, Vec<TcpStream>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.set_reuse_address(true).unwrap();
    listener.bind(&at.into()).unwrap();
    listener.listen(0).unwrap();
    let connect = || TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok();
    (listener, std::iter::from_fn(connect).collect())
}

#[test]
fn a_request_that_its_application_does_not_take_goes_to_another_server() {
    let apps = [free(), free()];
    let [_app1, app2] = [('1', apps[0]), ('2', apps[1])].map(|(n, at)| Application::start(at, n));
    let options = Options {
        patience: Duration::from_secs(2),
        ..options(NEVER)
    };
    let (servers, mut client) = farm(round_robin, apps, &options);
    let both = (0..MANY).any(|_| request(&mut client) == Some('2'));
    assert!(both, "the servers know each other");
    app2.end();
    let _deaf = deaf(apps[1]);
    for _ in 0..4 {
        assert_eq!(request(&mut client), Some('1'));
    }
    for server in servers {
        assert_eq!(server.stop().0.refused, 0);
    }
}

/// A server whose application is not there.
fn alone(options: Options, application: SocketAddr) -> (Server, Client, impl Sized) {
    let ((a, far_a), (b, far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let ends = [a, b, synch];
    let server = Server::start_with(move || engine(config(1), ends, application, options));
    (server, Client::new(vec![far_a]), (far_b, far_synch))
}

#[test]
fn a_request_waits_for_the_only_application() {
    // Asked all the time, or not before it refuses.
    for health in [Some(SOON), None] {
        let app = free();
        let options = Options {
            health,
            ..options(SOON)
        };
        let (server, mut client, _ends) = alone(options, app);
        ask(&mut client);
        let mut polls = 0;
        client.until("a while", |socket| {
            assert!(socket.may_send(), "reset");
            polls += 1;
            (polls > 100).then_some(())
        });
        let _app = Application::start(app, '1');
        assert_eq!(answered(&mut client), Some('1'));
        assert_eq!(server.stop().0.refused, 0);
    }
}

#[test]
fn a_request_does_not_wait_for_ever() {
    let options = Options {
        patience: SOON,
        ..options(SOON)
    };
    let (server, mut client, _ends) = alone(options, free());
    assert_eq!(request(&mut client), None);
    // What has waited is not kept.
    assert_eq!(request(&mut client), None);
    let (statistics, _) = server.stop();
    assert_eq!((statistics.refused, statistics.bridges), (2, 0));
}

#[test]
fn what_is_not_taken_ends_where_nobody_asks_the_application() {
    let app = free();
    let _deaf = deaf(app);
    let options = Options {
        patience: SOON,
        ..Options::default()
    };
    let (server, mut client, _ends) = alone(options, app);
    assert_eq!(request(&mut client), None);
    let (statistics, _) = server.stop();
    assert_eq!((statistics.refused, statistics.bridges), (1, 0));
}

#[test]
fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let app = free();
    let (server, mut client, _ends) = alone(options(SOON), app);
    ask(&mut client);
    client.abort();
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    let app = Application::start(app, '1');
    assert_eq!(request(&mut client), Some('1'));
    app.end();
    let (statistics, _) = server.stop();
    assert_eq!((statistics.refused, statistics.bridges), (0, 0));
}
