//! Doors without privilege: connections of this host, joined to connections of smoltcp's TCP on LAN A in memory.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipos_backend::Backend;
use ipos_lab::{Farm, Lan, PREFIX};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpEndpoint};

use super::cable::Cable;
use crate::farm::FarmError;

/// Connections at once; more wait in the kernel's queue.
const MOST: usize = 512;
/// Bytes of each of a connection's buffers.
const BUFFER: usize = 64 * 1024;
/// The first of the ports that connections come from.
const FIRST_PORT: u16 = 20_000;
/// A port that takes no more is tried again so soon.
const RETRY: Duration = Duration::from_millis(1);
const PORT: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// Of all connections: their edges only wake, and every turn looks at each of them.
const LOOK: Token = Token(usize::MAX - 2);

/// The doors' thread; it ends when this is dropped.
pub(super) struct Gateway {
    ended: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Takes connections from `doors`, each for the server in its place.
    pub(super) fn open(
        port: Cable,
        doors: Vec<TcpListener>,
        servers: Vec<SocketAddrV4>,
    ) -> Result<Gateway, FarmError> {
        let failed = || FarmError::of::<std::io::Error>("doors");
        let poll = Poll::new().map_err(failed())?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(failed())?);
        if let Some(descriptor) = port.readiness() {
            let descriptor = descriptor.as_raw_fd();
            let mut source = SourceFd(&descriptor);
            let registered = poll
                .registry()
                .register(&mut source, PORT, Interest::READABLE);
            registered.map_err(failed())?;
        }
        let mut listeners = Vec::new();
        for (at, door) in doors.into_iter().enumerate() {
            let mut door = mio::net::TcpListener::from_std(door);
            let registered = poll
                .registry()
                .register(&mut door, Token(at), Interest::READABLE);
            registered.map_err(failed())?;
            listeners.push(door);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let station = Station::new(port, listeners, servers, poll);
        let thread = thread::Builder::new().name("doors".to_owned());
        let thread = thread.spawn(move || {
            if let Err(error) = station.run(&end) {
                tracing::error!(%error, "the doors are closed");
            }
        });
        Ok(Gateway {
            ended,
            waker,
            thread: Some(thread.map_err(failed())?),
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::debug!(%error, "the doors close later");
            return;
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the doors panicked");
        }
    }
}

/// The doors' host on LAN A.
struct Station {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    doors: Vec<mio::net::TcpListener>,
    servers: Vec<SocketAddrV4>,
    poll: Poll,
    port: u16,
    start: Instant,
}

/// A connection of this host, and the one of smoltcp's that goes on from it.
struct Connection {
    stream: TcpStream,
    handle: SocketHandle,
    /// The ends of the two directions were passed on.
    up: bool,
    down: bool,
}

impl Station {
    fn new(
        port: Cable,
        doors: Vec<mio::net::TcpListener>,
        servers: Vec<SocketAddrV4>,
        poll: Poll,
    ) -> Station {
        let mut card = Card { port };
        let hardware = EthernetAddress(Lan::A.hardware_address(Farm::CLIENT));
        let mut config = Config::new(HardwareAddress::Ethernet(hardware));
        config.random_seed = u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut card, Moment::ZERO);
        interface.update_ip_addrs(|addresses| {
            let address = IpCidr::new(Lan::A.address(Farm::CLIENT).into(), PREFIX);
            // There is room for one.
            let _ = addresses.push(address);
        });
        Station {
            card,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            doors,
            servers,
            poll,
            port: FIRST_PORT,
            start: Instant::now(),
        }
    }

    fn run(mut self, ended: &AtomicBool) -> std::io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !ended.load(Ordering::Acquire) {
            let delay = self.interface.poll_delay(self.now(), &self.sockets);
            let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
            let retry = self.card.port.buffer().is_none().then_some(RETRY);
            let timeout = [delay, retry].into_iter().flatten().min();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.accept();
            loop {
                let now = self.now();
                let polled = self.interface.poll(now, &mut self.card, &mut self.sockets);
                let moved = self.exchange();
                self.card.port.flush()?;
                if polled == smoltcp::iface::PollResult::None && !moved {
                    break;
                }
            }
        }
        Ok(())
    }

    fn now(&self) -> Moment {
        let micros = i64::try_from(self.start.elapsed().as_micros());
        Moment::from_micros(micros.unwrap_or(i64::MAX))
    }

    fn accept(&mut self) {
        for at in 0..self.doors.len() {
            while self.connections.len() < MOST {
                let (Some(door), Some(&server)) = (self.doors.get(at), self.servers.get(at)) else {
                    break;
                };
                let Ok((stream, _)) = door.accept() else {
                    break;
                };
                if let Err(error) = self.connect(stream, server) {
                    tracing::debug!(%server, %error, "door");
                }
            }
        }
    }

    fn connect(&mut self, mut stream: TcpStream, server: SocketAddrV4) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, LOOK, interest)?;
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let port = self.port;
        self.port = port.checked_add(1).unwrap_or(FIRST_PORT);
        let connecting = socket.connect(self.interface.context(), IpEndpoint::from(server), port);
        connecting.map_err(|error| std::io::Error::other(error.to_string()))?;
        let handle = self.sockets.add(socket);
        self.connections.push(Connection {
            stream,
            handle,
            up: false,
            down: false,
        });
        Ok(())
    }

    /// Moves bytes of all connections; whether there were any.
    fn exchange(&mut self) -> bool {
        let Station {
            connections,
            sockets,
            ..
        } = self;
        let mut moved = false;
        connections.retain_mut(|connection| {
            let socket = sockets.get_mut::<Socket>(connection.handle);
            let goes_on = connection.exchange(socket, &mut moved);
            if !goes_on {
                sockets.remove(connection.handle);
            }
            goes_on
        });
        moved
    }
}

impl Connection {
    /// Moves bytes both ways; whether it goes on.
    fn exchange(&mut self, socket: &mut Socket<'static>, moved: &mut bool) -> bool {
        let up = self.feed_server(socket, moved);
        let down = self.feed_client(socket, moved);
        if up.is_err() || down.is_err() {
            // The client has gone: the server hears of it, and then the socket is closed.
            socket.abort();
            (self.up, self.down) = (true, true);
            *moved = true;
            return true;
        }
        match socket.state() {
            // The client has not taken everything yet.
            _ if !self.down && socket.can_recv() => true,
            State::Closed if !self.up || !self.down => {
                // By the server: the client gets RST too.
                let linger = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                if let Err(error) = linger {
                    tracing::debug!(%error, "the client gets FIN in place of RST");
                }
                false
            }
            State::Closed | State::TimeWait => false,
            _ => true,
        }
    }

    fn feed_server(&mut self, socket: &mut Socket<'static>, moved: &mut bool) -> Result<(), ()> {
        while !self.up && socket.can_send() {
            let read = socket.send(|room| match self.stream.read(room) {
                Ok(read) => (read, Ok(read)),
                Err(error) => (0, Err(error)),
            });
            match read.map_err(|_| ())? {
                Ok(0) => {
                    self.up = true;
                    socket.close();
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(()),
            }
            *moved = true;
        }
        Ok(())
    }

    fn feed_client(&mut self, socket: &mut Socket<'static>, moved: &mut bool) -> Result<(), ()> {
        while !self.down && socket.can_recv() {
            let written = socket.recv(|bytes| match self.stream.write(bytes) {
                Ok(written) => (written, Ok(())),
                Err(error) => (0, Err(error)),
            });
            match written.map_err(|_| ())? {
                Ok(()) => *moved = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            }
        }
        let finished = matches!(
            socket.state(),
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait
        );
        if finished && !self.down && !socket.can_recv() {
            self.down = true;
            *moved = true;
            return self.stream.shutdown(Shutdown::Write).map_err(|_| ());
        }
        Ok(())
    }
}

/// The port as smoltcp wants it.
struct Card {
    port: Cable,
}

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut Cable);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        match self.0.buffer().and_then(|buffer| buffer.get_mut(..len)) {
            Some(frame) => {
                let result = f(frame);
                self.0.commit(len);
                result
            }
            // There was room when the token was given.
            None => f(&mut vec![0; len]),
        }
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Received, Sending<'_>)> {
        self.port.buffer()?;
        let mut frame = None;
        let received = self
            .port
            .receive(1, &mut |lent| frame = Some(lent.bytes().to_vec()));
        if let Err(error) = received {
            tracing::debug!(%error, "LAN A");
        }
        Some((Received(frame?), Sending(&mut self.port)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Sending<'_>> {
        self.port.buffer()?;
        Some(Sending(&mut self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = usize::from(self.port.capabilities().mtu) + 14;
        capabilities
    }
}
