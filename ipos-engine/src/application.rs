//! Where the connections of a listening socket go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, SocketAddrV4};

use ipos_core::ListenerId;
use ipos_core::config::Listen;
use ipos_proto::Protocol;

use crate::error::EngineError;
use crate::socket::Backlog;

/// The application behind a listening socket.
#[derive(Debug)]
pub enum Application {
    /// Any program that listens on this address of the host: the bridge connects to it.
    Address(SocketAddr),
    /// The same, and each connection begins with a header of the PROXY protocol, version 2: the application sees who its client
    /// is, and must expect the header.
    Proxied(SocketAddr),
    /// It is in this process, and accepts from a [`Listener`](crate::socket::Listener).
    Socket(Backlog),
}

impl Application {
    /// Its address, unless it is in this process.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Application::Address(address) | Application::Proxied(address) => Some(*address),
            Application::Socket(_) => None,
        }
    }
}

/// The applications of a device, each kind by itself.
pub(crate) struct Served {
    pub(crate) addresses: BTreeMap<ListenerId, SocketAddr>,
    /// Those of the addresses that are told who their clients are.
    pub(crate) proxied: BTreeSet<ListenerId>,
    pub(crate) sockets: BTreeMap<ListenerId, (SocketAddrV4, Backlog)>,
}

impl Served {
    /// One application for each listening socket, in order.
    pub(crate) fn new(
        listen: &[Listen],
        applications: Vec<Application>,
    ) -> Result<Served, EngineError> {
        let mut served = Served {
            addresses: BTreeMap::new(),
            proxied: BTreeSet::new(),
            sockets: BTreeMap::new(),
        };
        for (at, (listen, application)) in listen.iter().zip(applications).enumerate() {
            let listener = ListenerId(at);
            match application {
                Application::Address(address) => {
                    served.addresses.insert(listener, address);
                }
                Application::Proxied(_) | Application::Socket(_)
                    if listen.protocol == Protocol::Udp =>
                {
                    return Err(EngineError::Datagrams(listen.address));
                }
                Application::Proxied(address) => {
                    served.addresses.insert(listener, address);
                    served.proxied.insert(listener);
                }
                Application::Socket(backlog) => {
                    served.sockets.insert(listener, (listen.address, backlog));
                }
            }
        }
        Ok(served)
    }
}

impl From<SocketAddr> for Application {
    fn from(address: SocketAddr) -> Application {
        Application::Address(address)
    }
}

impl From<Backlog> for Application {
    fn from(backlog: Backlog) -> Application {
        Application::Socket(backlog)
    }
}
