//! Applications in the engine's process, on threads that wait for their sockets.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use ipos_core::Device;
use ipos_engine::socket::{Backlog, Ended, Listener, Socket, SocketLimits, listen};
use ipos_engine::{Engine, Options, clock};

use super::client::Client;
use super::cord::cord;
use super::{Server, address, config, ports};

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until `poll` is ready.
pub fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

pub fn accept(listener: &Listener) -> Socket {
    wait(|context| listener.poll_accept(context)).unwrap()
}

pub fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    wait(|context| socket.poll_read(context, buffer))
}

pub fn read_exact(socket: &Socket, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let read = read(socket, &mut bytes[at..]).unwrap();
        assert!(read > 0, "end after {at} of {len} bytes");
        at += read;
    }
    bytes
}

pub fn read_to_end(socket: &Socket) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; 65_536]);
    loop {
        match read(socket, &mut bytes).unwrap() {
            0 => return all,
            read => all.extend_from_slice(&bytes[..read]),
        }
    }
}

pub fn write(socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = wait(|context| socket.poll_write(context, bytes)).unwrap();
        bytes = &bytes[taken..];
    }
}

pub fn ended(error: &io::Error) -> Ended {
    let inner = error.get_ref().expect("an inner error");
    inner.downcast_ref::<Ended>().expect("why it ended").clone()
}

/// A server with this application.
pub fn start(
    number: u8,
    change: impl FnOnce(&mut ipos_core::Config),
    ends: [UnixDatagram; 3],
    backlog: Backlog,
    options: Options,
) -> Server {
    let mut config = config(number);
    change(&mut config);
    Server::start_with(move || {
        let ports = ports(&config, ends, |_| {});
        let device = Device::new(config, clock::now()).unwrap();
        Engine::new(device, ports, vec![backlog], options).unwrap()
    })
}

/// A server behind a client, and its application on a thread.
pub fn farm<T: Send + 'static>(
    limits: SocketLimits,
    serve: impl FnOnce(Listener) -> T + Send + 'static,
) -> (Server, Client, JoinHandle<T>, [UnixDatagram; 2]) {
    let ((a, far_a), (b, far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let (listener, backlog) = listen(limits);
    let server = start(1, |_| {}, [a, b, synch], backlog, Options::default());
    let served = thread::spawn(move || serve(listener));
    (server, Client::new(vec![far_a]), served, [far_b, far_synch])
}

/// The same, with default limits and an application of one connection.
pub fn one<T: Send + 'static>(
    serve: impl FnOnce(Socket) -> T + Send + 'static,
) -> (Server, Client, JoinHandle<T>, [UnixDatagram; 2]) {
    farm(SocketLimits::default(), |listener| serve(accept(&listener)))
}

/// A connection that is open.
pub fn open(client: &mut Client) {
    client.connect(address(1));
    client.until("open", |socket| socket.may_send().then_some(()));
}
