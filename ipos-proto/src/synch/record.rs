//! What the records of Synch messages say.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::{MacAddr, Protocol};

/// Longest name of a server, service or process, bytes.
pub const NAME_MAX: usize = 63;
/// Longest session id, bytes.
pub const SESSION_MAX: usize = 64;
/// Longest name of an application package, bytes.
pub const PACKAGE_MAX: usize = 255;
/// Most Port A addresses of one server.
pub const PORT_A_MAX: usize = 16;
/// CPU figure of a machine whose processors all work, in 1/10000.
pub const CPU_FULL: u16 = 10_000;

/// One thing that a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record<'a> {
    /// How loaded the sender is.
    State(State),
    /// Who the sender is.
    Identity(Identity<'a>),
    /// A listening socket of the sender.
    Listen(Listen<'a>),
    /// A process that runs on the sender.
    Process(Process<'a>),
    /// An object that lives on the sender.
    Object(Object),
    /// A session now belongs to a server.
    Cookie(Cookie<'a>),
    /// A session, by its id of 1 to 64 bytes, belongs to no server any more.
    CookieRemoved(&'a [u8]),
    /// What a process or object uses.
    Performance(Performance),
    /// The name, 1 to 255 bytes, of an application package that the sender stores.
    Stored(&'a str),
}

/// STATE: the row of the server state table (FIG. 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// Connections that the server has.
    pub connections: u32,
    /// Its CPU use, 1/10000 of all processors, at most [`CPU_FULL`].
    pub cpu: u16,
    /// Its free memory, bytes.
    pub free_memory: u64,
    /// Its free bandwidth, bit/s.
    pub free_bandwidth: u64,
}

/// IDENTITY: how to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Its name, 1 to 63 bytes.
    pub name: &'a str,
    /// Address of its Port B.
    pub port_b: Ipv4Addr,
    /// Hardware address of its Port B.
    pub hardware: MacAddr,
    /// Addresses of its Port A.
    pub port_a: AddressList,
}

/// LISTEN: the row of the listening sockets table (FIG. 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen<'a> {
    /// Address and port that clients connect to.
    pub address: SocketAddrV4,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Name of the service, at most 63 bytes.
    pub service: &'a str,
}

/// PROCESS: an application process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process<'a> {
    /// Process id on its server.
    pub pid: u32,
    /// Address and port that it serves.
    pub address: SocketAddrV4,
    /// Its name, at most 63 bytes.
    pub name: &'a str,
}

/// OBJECT: a component object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// Its id in the farm.
    pub id: u64,
    /// Address of the server that it lives on.
    pub address: Ipv4Addr,
    /// Its shadow. Id 0 at address 0.0.0.0 is no shadow, and is read as `None`.
    pub shadow: Option<Shadow>,
}

/// The object that takes over when its primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// Its id in the farm.
    pub id: u64,
    /// Address of the server that it lives on.
    pub address: Ipv4Addr,
}

/// COOKIE: a row of the cookie map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie<'a> {
    /// Session id, 1 to 64 bytes.
    pub session: &'a [u8],
    /// Name of the server that has the session, 1 to 63 bytes.
    pub server: &'a str,
    /// How long the row is good from now on, ms.
    pub lifetime_ms: u32,
}

/// PERFORMANCE: what a process or object uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Performance {
    /// Of whom.
    pub subject: Subject,
    /// CPU, 1/10000 of all processors of its server, at most [`CPU_FULL`].
    pub cpu: u16,
    /// Memory, bytes.
    pub memory: u64,
}

/// A process or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The process with this id on the sender.
    Process(u32),
    /// The object with this id.
    Object(u64),
}

/// Up to [`PORT_A_MAX`] addresses.
///
/// ```
/// use core::net::Ipv4Addr;
/// use ipos_proto::synch::AddressList;
///
/// let list = AddressList::new(&[Ipv4Addr::new(10, 77, 0, 11)]).unwrap();
/// assert_eq!(list.as_slice(), [Ipv4Addr::new(10, 77, 0, 11)]);
/// assert!(AddressList::new(&[Ipv4Addr::LOCALHOST; 17]).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressList {
    len: usize,
    // Unused places are UNSPECIFIED, so that equal lists compare equal.
    addresses: [Ipv4Addr; PORT_A_MAX],
}

impl Default for AddressList {
    fn default() -> Self {
        Self {
            len: 0,
            addresses: [Ipv4Addr::UNSPECIFIED; PORT_A_MAX],
        }
    }
}

impl AddressList {
    /// The list of these addresses; `None` when there are more than [`PORT_A_MAX`].
    pub fn new(from: &[Ipv4Addr]) -> Option<Self> {
        let mut list = Self {
            len: from.len(),
            ..Self::default()
        };
        list.addresses.get_mut(..from.len())?.copy_from_slice(from);
        Some(list)
    }

    /// The addresses.
    pub fn as_slice(&self) -> &[Ipv4Addr] {
        self.addresses.get(..self.len).unwrap_or_default()
    }
}
