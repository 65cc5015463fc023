//! The application under the server: it does what the first line of a request says.
//!
//! A request is an HTTP head, `GET /<session>/<steps> HTTP/1.1`; the steps, with commas between them:
//!
//! ```text
//!   e     echo until the client's end       s<n>  send n bytes of the pattern
//!   r<n>  read n bytes                      R     read until the client's end
//!   w     wait for the session's signal     h     end the sending direction (half close)
//!   x     end with RST                      behind the last step: close
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipos_lab::Namespace;
use socket2::{Domain, SockRef, Socket, Type};

use crate::wire::lock;

/// A step that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections that the kernel keeps for the application; beyond that many half-open ones it uses SYN cookies.
const BACKLOG: i32 = 256;
/// Bytes that wait unread before the window closes, about.
const RECEIVE_BUFFER: usize = 64 * 1024;
/// The longest request head.
const HEAD: usize = 1024;

/// The byte at `offset` of what applications send.
pub fn pattern(offset: usize) -> u8 {
    (offset.wrapping_mul(31) ^ (offset >> 8)) as u8
}

/// What the cases and the applications know of each other.
#[derive(Default)]
pub struct Registry {
    sessions: Mutex<HashMap<u64, State>>,
    changed: Condvar,
    next: AtomicU64,
    closing: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The server that got the request.
    server: Option<&'static str>,
    signals: usize,
    received: Vec<u8>,
    /// How the session ended, for the application.
    end: Option<Result<(), io::ErrorKind>>,
}

/// A case's view of one connection of the application.
pub struct Session {
    pub number: u64,
    registry: Arc<Registry>,
}

impl Registry {
    /// A new session.
    pub fn session(self: &Arc<Registry>) -> Session {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.sessions).insert(number, State::default());
        Session {
            number,
            registry: Arc::clone(self),
        }
    }

    fn change<T>(&self, session: u64, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let result = lock(&self.sessions).get_mut(&session).map(change);
        self.changed.notify_all();
        result
    }

    /// Waits until `ready` gives something.
    fn wait<T>(
        &self,
        session: u64,
        within: Duration,
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut sessions = lock(&self.sessions);
        loop {
            if let Some(value) = ready(sessions.get_mut(&session)?) {
                return Some(value);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.closing.load(Ordering::Relaxed) {
                return None;
            }
            let waited = self.changed.wait_timeout(sessions, left);
            sessions = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No step waits any longer.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }
}

impl Session {
    /// The request that starts `steps`.
    pub fn request(&self, steps: &str) -> Vec<u8> {
        format!("GET /{}/{steps} HTTP/1.1\r\nHost: a\r\n\r\n", self.number).into_bytes()
    }

    /// The server that got the request.
    pub fn server(&self, within: Duration) -> Option<&'static str> {
        self.registry
            .wait(self.number, within, |state| state.server)
    }

    /// Ends one `w`.
    pub fn signal(&self) {
        self.registry
            .change(self.number, |state| state.signals += 1);
    }

    /// What the application has read behind the request, once it is `n` bytes.
    pub fn received(&self, n: usize, within: Duration) -> Result<Vec<u8>, String> {
        let enough =
            |state: &mut State| (state.received.len() >= n).then(|| state.received.clone());
        self.registry
            .wait(self.number, within, enough)
            .ok_or_else(|| {
                let got = self
                    .registry
                    .change(self.number, |state| state.received.len())
                    .unwrap_or(0);
                format!("the application has read {got} of {n} bytes after {within:?}")
            })
    }

    /// How the session ended for the application.
    pub fn end(&self, within: Duration) -> Result<Result<(), io::ErrorKind>, String> {
        let end = self.registry.wait(self.number, within, |state| state.end);
        end.ok_or_else(|| format!("the application's session has not ended after {within:?}"))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        lock(&self.registry.sessions).remove(&self.number);
        self.registry.changed.notify_all();
    }
}

/// An application; it ends when this is dropped.
pub struct App {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    /// Listens at `address` of `namespace` as the application of `server`.
    pub fn start(
        namespace: &Namespace,
        server: &'static str,
        address: SocketAddr,
        registry: &Arc<Registry>,
    ) -> Result<App, String> {
        let text = |error: &dyn std::fmt::Display| format!("application of {server}: {error}");
        let listen = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        };
        let listener = namespace
            .run(listen)
            .map_err(|error| text(&error))?
            .map_err(|error| text(&error))?;
        let (stop, registry) = (Arc::new(AtomicBool::new(false)), Arc::clone(registry));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            let mut open: Vec<(Weak<TcpStream>, JoinHandle<()>)> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                // The socket's receive timeout holds for accept too.
                let Ok((socket, _)) = listener.accept() else {
                    continue;
                };
                let stream = Arc::new(TcpStream::from(socket));
                // The session closes it when it ends.
                let (weak, registry) = (Arc::downgrade(&stream), Arc::clone(&registry));
                let session = std::thread::spawn(move || serve(stream, server, &registry));
                open.push((weak, session));
                open.retain(|(_, session)| !session.is_finished());
            }
            for (stream, session) in open {
                if let Some(stream) = stream.upgrade() {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                session.join().expect("a session does not panic");
            }
        };
        let thread = namespace
            .spawn(&format!("app {server}"), serve)
            .map_err(|error| text(&error))?;
        Ok(App {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the application does not panic");
        }
    }
}

/// One connection.
fn serve(stream: Arc<TcpStream>, server: &'static str, registry: &Registry) {
    let Ok(Some((session, steps))) = head(&stream) else {
        return;
    };
    registry.change(session, |state| state.server = Some(server));
    let end = steps
        .split(',')
        .try_for_each(|step| perform(&stream, session, step, registry));
    drop(stream);
    registry.change(session, |state| {
        state.end = Some(end.map_err(|error| error.kind()))
    });
}

/// Reads the request, and not a byte more; session and steps.
fn head(mut stream: &TcpStream) -> io::Result<Option<(u64, String)>> {
    let socket = SockRef::from(stream);
    // RFC 6093 §6: urgent data belongs into the stream.
    socket.set_out_of_band_inline(true)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let parts = head.split([' ', '/']).collect::<Vec<_>>();
    let &["GET", "", session, steps, ..] = parts.as_slice() else {
        return Ok(None);
    };
    Ok(session
        .parse()
        .ok()
        .map(|session| (session, steps.to_owned())))
}

fn perform(
    mut stream: &TcpStream,
    session: u64,
    step: &str,
    registry: &Registry,
) -> io::Result<()> {
    let (kind, count) = step.split_at(step.len().min(1));
    let count = count.parse().unwrap_or(usize::MAX);
    match kind {
        "e" => read(stream, count, |mut stream, bytes| stream.write_all(bytes)),
        "r" | "R" => read(stream, count, |_, bytes| {
            registry.change(session, |state| state.received.extend(bytes));
            Ok(())
        }),
        "s" => {
            let bytes: Vec<u8> = (0..count).map(pattern).collect();
            stream.write_all(&bytes)
        }
        "w" => {
            let take = |state: &mut State| (state.signals > 0).then(|| state.signals -= 1);
            registry
                .wait(session, PATIENCE, take)
                .ok_or_else(|| io::ErrorKind::TimedOut.into())
        }
        "h" => stream.shutdown(Shutdown::Write),
        "x" => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
        _ => Ok(()),
    }
}

/// Reads `left` bytes, or until the client's end.
fn read(
    mut stream: &TcpStream,
    mut left: usize,
    mut take: impl FnMut(&TcpStream, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    while left > 0 {
        let room = buffer.len().min(left);
        let read = match stream.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        take(stream, &buffer[..read])?;
        left -= read;
    }
    Ok(())
}
