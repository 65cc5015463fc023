//! A client station on LAN A: smoltcp's TCP.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixDatagram;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
pub use smoltcp::socket::tcp::State;
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as Moment;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0xa, 0];
/// A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client's network card: what it sends goes to every server, what any of them sends comes here.
struct Card {
    lan: Vec<UnixDatagram>,
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<VecDeque<Vec<u8>>>,
}

impl Card {
    fn exchange(&mut self) {
        let mut frame = [0; 1514];
        for (server, queue) in self.lan.iter().zip(&mut self.outgoing) {
            while let Ok(len) = server.recv(&mut frame) {
                self.incoming.push_back(frame[..len].to_vec());
            }
            while let Some(frame) = queue.front() {
                match server.send(frame) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    _ => queue.pop_front(),
                };
            }
        }
    }
}

struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<VecDeque<Vec<u8>>>);

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        for queue in self.0 {
            queue.push_back(frame.clone());
        }
        result
    }
}

impl phy::Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Moment) -> Option<(Received, Sending<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Received(frame), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Moment) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

/// A station, and one connection at a time.
pub struct Client {
    card: Card,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    port: u16,
    start: Instant,
}

impl Client {
    /// A client that is joined to the far ends of the servers' cords.
    pub fn new(lan: Vec<UnixDatagram>) -> Client {
        let outgoing = lan.iter().map(|_| VecDeque::new()).collect();
        let mut card = Card {
            lan,
            incoming: VecDeque::new(),
            outgoing,
        };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(HARDWARE)));
        let mut interface = Interface::new(config, &mut card, Moment::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(IpAddress::Ipv4(ADDRESS), 24))
                .unwrap()
        });
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket());
        Client {
            card,
            interface,
            sockets,
            handle,
            port: 40_000,
            start: Instant::now(),
        }
    }

    /// Begins a new connection to `server`; an old one is forgotten.
    pub fn connect(&mut self, server: SocketAddrV4) {
        self.sockets.remove(self.handle);
        self.handle = self.sockets.add(socket());
        self.port += 1;
        let endpoint = IpEndpoint::new(IpAddress::Ipv4(*server.ip()), server.port());
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        socket
            .connect(self.interface.context(), endpoint, self.port)
            .unwrap();
    }

    /// Drives the station until `done` gives something.
    ///
    /// # Panics
    /// After a minute.
    pub fn until<T>(
        &mut self,
        what: &str,
        mut done: impl FnMut(&mut Socket<'static>) -> Option<T>,
    ) -> T {
        let limit = Instant::now() + PATIENCE;
        loop {
            self.card.exchange();
            let moment = Moment::from_micros(self.start.elapsed().as_micros() as i64);
            let _ = self
                .interface
                .poll(moment, &mut self.card, &mut self.sockets);
            if let Some(result) = done(self.sockets.get_mut::<Socket>(self.handle)) {
                self.card.exchange();
                return result;
            }
            assert!(Instant::now() < limit, "waited too long: {what}");
            if self.card.incoming.is_empty() {
                thread::sleep(Duration::from_micros(200));
            }
        }
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        self.until("send", |socket| {
            if socket.can_send() {
                rest = &rest[socket.send_slice(rest).unwrap()..];
            }
            rest.is_empty().then_some(())
        });
    }

    /// Drives the station until an application has ended; its result.
    pub fn join<T>(&mut self, application: JoinHandle<T>) -> T {
        self.until("application", |_| application.is_finished().then_some(()));
        application.join().unwrap()
    }

    /// Closes this side.
    pub fn close(&mut self) {
        self.sockets.get_mut::<Socket>(self.handle).close();
    }

    /// Resets the connection.
    pub fn abort(&mut self) {
        self.sockets.get_mut::<Socket>(self.handle).abort();
    }

    /// Receives until the server has closed its side.
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until("receive", |socket| {
            take(socket, &mut bytes);
            (!socket.may_recv() && !matches!(socket.state(), State::SynSent | State::SynReceived))
                .then_some(())
        });
        bytes
    }
}

/// Adds what has come to `bytes`.
pub fn take(socket: &mut Socket<'_>, bytes: &mut Vec<u8>) {
    while socket.can_recv() {
        let gather = |part: &mut [u8]| {
            bytes.extend_from_slice(part);
            (part.len(), ())
        };
        socket.recv(gather).unwrap();
    }
}

fn socket() -> Socket<'static> {
    let mut socket = Socket::new(
        SocketBuffer::new(vec![0; 64 * 1024]),
        SocketBuffer::new(vec![0; 64 * 1024]),
    );
    socket.set_nagle_enabled(false);
    socket
}
