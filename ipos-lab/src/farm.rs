//! The farm: servers, a client, three LANs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::{Capture, End, LabError, Namespace, connect};

/// Most servers: host numbers 11 to 254 of a /24.
pub const MOST_SERVERS: usize = 244;
/// Host number of the first server.
const FIRST_SERVER: u8 = 11;
/// Prefix length of every LAN.
pub const PREFIX: u8 = 24;

/// One of the farm's networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lan {
    /// Clients and the servers' Ports A: 10.77.0.0/24.
    A,
    /// The servers' Ports B: 10.88.0.0/24.
    B,
    /// The servers' Synch Ports: 10.99.0.0/24.
    Synch,
}

impl Lan {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::Synch];

    /// The name of its bridge in the switch's namespace.
    #[must_use]
    pub const fn bridge(self) -> &'static str {
        match self {
            Self::A => "lan-a",
            Self::B => "lan-b",
            Self::Synch => "synch",
        }
    }

    /// The interface that every server has on it.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::A => "a0",
            Self::B => "b0",
            Self::Synch => "c0",
        }
    }

    /// The address with this host number.
    #[must_use]
    pub const fn address(self, host: u8) -> Ipv4Addr {
        let network = match self {
            Self::A => 77,
            Self::B => 88,
            Self::Synch => 99,
        };
        Ipv4Addr::new(10, network, 0, host)
    }

    /// The locally administered hardware address with this host number; the fifth byte (0x0a, 0x0b,
    /// 0x0c) tells the LAN to a reader of captures.
    #[must_use]
    pub const fn hardware_address(self, host: u8) -> [u8; 6] {
        let lan = match self {
            Self::A => 0x0a,
            Self::B => 0x0b,
            Self::Synch => 0x0c,
        };
        [2, 0, 0, 0, lan, host]
    }
}

/// What farm to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarmPlan {
    /// Servers, 1 to [`MOST_SERVERS`].
    pub servers: usize,
    /// Largest IP packet on every LAN, in bytes.
    pub mtu: u16,
}

impl Default for FarmPlan {
    /// Three servers, Ethernet's MTU.
    fn default() -> Self {
        Self {
            servers: 3,
            mtu: 1500,
        }
    }
}

/// A farm's network on one machine: every server, the client and the switch between them in a namespace
/// of its own.
///
/// ```text
///   client c0 10.77.0.1/24 --+
///   server 1 a0 (10.77.0.11)-+- lan-a     b0 (10.88.0.11) --+- lan-b     c0 (10.99.0.11) --+- synch
///   server 2 a0 (10.77.0.12)-+            b0 (10.88.0.12) --+            c0 (10.99.0.12) --+
/// ```
///
/// The addresses in parentheses are for the devices: the kernel does not have them, or it would answer in
/// their place. Dropping the value removes everything, as the end of the process does, however it ends.
#[derive(Debug)]
pub struct Farm {
    servers: Vec<Server>,
    client: Namespace,
    switch: Namespace,
}

/// A server's namespace, with interfaces `a0`, `b0` and `c0`, and an empty loopback interface for its applications.
#[derive(Debug)]
pub struct Server {
    name: String,
    host: u8,
    namespace: Namespace,
}

impl Server {
    /// `s1`, `s2`, …
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its device and its applications run.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its device's address on `lan`.
    #[must_use]
    pub fn address(&self, lan: Lan) -> Ipv4Addr {
        lan.address(self.host)
    }

    /// Its interface's hardware address on `lan`.
    #[must_use]
    pub fn hardware_address(&self, lan: Lan) -> [u8; 6] {
        lan.hardware_address(self.host)
    }
}

impl Farm {
    /// Host number of the client.
    pub const CLIENT: u8 = 1;
    /// The client's interface.
    pub const CLIENT_INTERFACE: &'static str = "c0";

    /// Builds a farm, and returns when frames pass.
    ///
    /// # Errors
    /// [`LabError::Plan`]: too few or too many servers; [`LabError::System`]: no right to (see
    /// [`privilege`](crate::privilege)); [`LabError::NotReady`].
    pub fn build(plan: FarmPlan) -> Result<Self, LabError> {
        if !(1..=MOST_SERVERS).contains(&plan.servers) {
            return Err(LabError::Plan(format!(
                "a farm has 1 to {MOST_SERVERS} servers, not {}",
                plan.servers
            )));
        }
        let switch = Namespace::new()?;
        for lan in Lan::ALL {
            switch.add_bridge(lan.bridge(), plan.mtu)?;
        }
        let client = Namespace::new()?;
        let mut cables = vec![plug(
            (&client, Self::CLIENT_INTERFACE),
            (&switch, "client"),
            (Lan::A, Self::CLIENT),
            plan.mtu,
        )?];
        let address = Lan::A.address(Self::CLIENT);
        client.add_address(Self::CLIENT_INTERFACE, address, PREFIX)?;

        let mut servers = Vec::with_capacity(plan.servers);
        for (number, host) in (1..=plan.servers).zip(FIRST_SERVER..) {
            let server = Server {
                name: format!("s{number}"),
                host,
                namespace: Namespace::new()?,
            };
            servers.push(server);
        }
        for server in &servers {
            for lan in Lan::ALL {
                cables.push(plug(
                    (&server.namespace, lan.interface()),
                    (&switch, &format!("{}-{}", server.name, lan.interface())),
                    (lan, server.host),
                    plan.mtu,
                )?);
            }
        }
        for (namespace, interface) in cables
            .iter()
            .flat_map(|cable| [(cable.namespace, &cable.interface), (&switch, &cable.port)])
        {
            namespace.wait_ready(interface)?;
        }
        drop(cables);
        Ok(Self {
            servers,
            client,
            switch,
        })
    }

    /// The servers, `s1` first.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Where clients run: 10.77.0.1 on LAN A, the kernel's own TCP.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// Where the bridges are ([`Lan::bridge`]), and their ports: `client`, and `s1-a0` for server `s1`'s `a0`.
    #[must_use]
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Records every frame on `lan`; who sent it is told by its source address ([`Server::hardware_address`]).
    ///
    /// # Errors
    /// As [`Capture::start`].
    pub fn capture(&self, lan: Lan, path: impl Into<PathBuf>) -> Result<Capture, LabError> {
        Capture::start(&self.switch, lan.bridge(), path)
    }
}

/// A connection of an interface with a port of the switch.
struct Cable<'a> {
    namespace: &'a Namespace,
    interface: String,
    port: String,
}

/// Connects an interface with a port of `lan`'s bridge, and brings both up.
fn plug<'a>(
    (namespace, interface): (&'a Namespace, &str),
    (switch, port): (&Namespace, &str),
    (lan, host): (Lan, u8),
    mtu: u16,
) -> Result<Cable<'a>, LabError> {
    let near = End {
        namespace,
        name: interface,
        hardware_address: Some(lan.hardware_address(host)),
    };
    let far = End {
        namespace: switch,
        name: port,
        hardware_address: None,
    };
    connect(near, far, mtu)?;
    switch.attach(port, lan.bridge())?;
    namespace.set_up(interface)?;
    switch.set_up(port)?;
    Ok(Cable {
        namespace,
        interface: interface.to_owned(),
        port: port.to_owned(),
    })
}
