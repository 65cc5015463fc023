//! The farm in network namespaces: real interfaces, and doors on the kernel's TCP.

use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use ipos_backend::Backend;
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_engine::Ports;
use ipos_engine::socket::Backlog;
use ipos_lab::{Farm, Lan, Namespace};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::FIRST;
use super::device::Running;
use crate::farm::FarmError;

/// Nothing is accepted for so long after an accept that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// One device in each server's namespace.
pub(super) fn devices(lab: &Farm, backlogs: Vec<Backlog>) -> Result<Vec<Running>, FarmError> {
    let servers = (FIRST..).zip(lab.servers()).zip(backlogs);
    let start = |((host, server), backlog): ((u8, &ipos_lab::Server), Backlog)| {
        Running::start(host, backlog, ports, |name, work| {
            Ok(server.namespace().spawn(name, work)?)
        })
    };
    servers.map(start).collect()
}

fn ports() -> Result<Ports, String> {
    let open = |lan: Lan| -> Result<Box<dyn Backend>, String> {
        let port = PnetBackend::open(lan.interface(), PnetOptions::default());
        Ok(Box::new(port.map_err(|error| error.to_string())?))
    };
    Ok(Ports {
        a: open(Lan::A)?,
        b: open(Lan::B)?,
        synch: open(Lan::Synch)?,
        c: None,
    })
}

/// The doors: a thread in the clients' namespace, with listening sockets that were made outside.
pub(super) struct Gate {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gate {
    pub(super) fn open(
        clients: &Namespace,
        doors: Vec<TcpListener>,
        servers: Vec<SocketAddrV4>,
    ) -> Result<Gate, FarmError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(FarmError::of("doors"))?;
        let entered = runtime.enter();
        let doors = doors.into_iter().map(tokio::net::TcpListener::from_std);
        let doors: Vec<_> = doors
            .collect::<Result<_, _>>()
            .map_err(FarmError::of("doors"))?;
        drop(entered);
        let (end, ended) = oneshot::channel::<()>();
        let thread = clients.spawn("doors", move || {
            runtime.block_on(async {
                for (door, server) in doors.into_iter().zip(servers) {
                    tokio::spawn(keep(door, server));
                }
                // An error is the end too.
                let _ = ended.await;
            });
        })?;
        Ok(Gate {
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the doors panicked");
        }
    }
}

async fn keep(door: tokio::net::TcpListener, server: SocketAddrV4) {
    loop {
        match door.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(pass(stream, server))),
            Err(error) => {
                tracing::debug!(%error, "door");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn pass(mut near: TcpStream, server: SocketAddrV4) {
    let result = async {
        let mut far = TcpStream::connect(SocketAddr::from(server)).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    if let Err(error) = result.await {
        tracing::debug!(%server, %error, "door");
    }
}
