//! Sockets, and what runs on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::connections::pause;
use crate::program::refused;

use super::config::{FileError, Settings};
use super::reload::Reloader;
use super::servers::Change;
use super::{Redirector, dns, http};

/// Longest Synch message that is read, in bytes: what an Ethernet frame has room for.
const SYNCH: usize = 1_500;

/// The sockets that a configuration names.
#[derive(Debug)]
pub struct Open {
    path: PathBuf,
    settings: Settings,
    synch: StdSocket,
    http: Vec<StdListener>,
    dns: Option<(StdSocket, StdListener)>,
}

/// Opens the sockets. The settings are those of the file at `path`.
///
/// # Errors
/// An address or an interface is not this host's, is taken, or needs a right that the process does not have.
pub fn open(path: &Path, settings: Settings) -> Result<Open, FileError> {
    let wrong = |key: String, at: &dyn std::fmt::Display, error: io::Error| {
        FileError::new(path, key, refused(at, &error))
    };
    let synch = synch_socket(&settings)
        .map_err(|error| wrong("synch.interface".into(), &settings.interface, error))?;
    let mut http = Vec::new();
    for (index, entry) in settings.http.iter().enumerate() {
        let key = format!("http[{index}].listen");
        http.push(listener(entry.listen).map_err(|error| wrong(key, &entry.listen, error))?);
    }
    let dns = settings.dns.as_ref().map(|dns| {
        let sockets = || {
            let socket = StdSocket::bind(dns.listen)?;
            socket.set_nonblocking(true)?;
            Ok((socket, listener(dns.listen)?))
        };
        sockets().map_err(|error| wrong("dns.listen".into(), &dns.listen, error))
    });
    let dns = dns.transpose()?;
    Ok(Open {
        path: path.to_owned(),
        settings,
        synch,
        http,
        dns,
    })
}

fn listener(address: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Only what comes by the Synch LAN's interface is heard: clients cannot speak for servers.
fn synch_socket(settings: &Settings) -> io::Result<StdSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port)).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Runs until `end` says so, or is dropped. `seed` is the generator's, unless the configuration has one. `started` is given what
/// reads the files again.
///
/// # Errors
/// There is no runtime, a socket cannot be waited for, or `started` fails.
pub fn run(
    open: Open,
    seed: u64,
    end: oneshot::Receiver<()>,
    started: impl FnOnce(Reloader) -> io::Result<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let Open {
            path,
            settings,
            synch,
            http: listeners,
            dns,
        } = open;
        let redirector = Arc::new(Redirector::new(settings, seed));
        started(Reloader::new(&path, Arc::clone(&redirector)))?;
        let places = || Arc::new(Semaphore::new(redirector.settings.connections));
        let mut tasks = JoinSet::new();
        let synch = UdpSocket::from_std(synch)?;
        tasks.spawn(hear(Arc::clone(&redirector), synch));
        let for_http = places();
        for (at, listener) in listeners.into_iter().enumerate() {
            let listener = TcpListener::from_std(listener)?;
            let places = Arc::clone(&for_http);
            tasks.spawn(http::listen(Arc::clone(&redirector), at, listener, places));
        }
        if let Some((socket, listener)) = dns {
            let socket = UdpSocket::from_std(socket)?;
            let listener = TcpListener::from_std(listener)?;
            tasks.spawn(dns::datagrams(Arc::clone(&redirector), socket));
            tasks.spawn(dns::listen(Arc::clone(&redirector), listener, places()));
        }
        tokio::select! {
            _ = end => Ok(()),
            // None of them ends by itself.
            ended = tasks.join_next() => Err(io::Error::other(format!("a listener ended: {ended:?}"))),
        }
    })
}

/// Hears the Synch LAN, and looks who has fallen silent.
async fn hear(redirector: Arc<Redirector>, socket: UdpSocket) {
    let mut buffer = vec![0; SYNCH];
    let mut ticks = interval(redirector.settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heard = tokio::select! {
            heard = socket.recv_from(&mut buffer) => heard,
            _ = ticks.tick() => {
                let gone = redirector.with(|state, now| state.servers.look_for_silence(now));
                gone.iter().for_each(tell);
                continue;
            }
        };
        let (message, from) = match heard {
            Ok((length, from)) => (buffer.get(..length).unwrap_or_default(), from.ip()),
            Err(error) => {
                pause("Synch message", &error).await;
                continue;
            }
        };
        let IpAddr::V4(from) = from else {
            continue;
        };
        match redirector.with(|state, now| state.servers.hear(now, from, message)) {
            Ok(change) => change.iter().for_each(tell),
            Err(reason) => tracing::debug!(%from, ?reason, "Synch message ignored"),
        }
    }
}

fn tell(change: &Change) {
    match change {
        Change::Up(server) => tracing::info!(server, "server up"),
        Change::Down(server) => tracing::info!(server, "server down"),
    }
}
