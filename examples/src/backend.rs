//! What carries a device's frames: the choice that `farm` and `inic` offer.

use std::fmt::Display;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::ValueEnum;
use ipos_backend::Backend;
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_backend_xdp::{BusyPoll, Claims, Memory, MemoryOptions, Take, XdpBackend, XdpOptions};
use ipos_core::Config;
use ipos_core::config::{PortA, SynchPort};
use serde::Deserialize;

/// The backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Carrier {
    /// Raw sockets: any interface, also in an unprivileged user namespace.
    #[default]
    Pnet,
    /// AF_XDP sockets: fewer system calls, no copy from Port A to Port B.
    Xdp,
}

/// Sizes of AF_XDP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sizes {
    /// Frames that wait in each direction of each queue.
    pub ring: u32,
    /// Buffers of all ports together: each queue of each needs twice its ring and 256 more.
    pub buffers: u32,
    /// How long a call looks for frames in the driver, in microseconds, instead of waiting for its interrupt. 0: not at all.
    pub busy_poll_us: u32,
}

impl Sizes {
    fn busy_poll(self) -> Option<BusyPoll> {
        (self.busy_poll_us > 0).then(|| BusyPoll {
            patience: Duration::from_micros(self.busy_poll_us.into()),
            ..BusyPoll::default()
        })
    }
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            ring: XdpOptions::default().ring,
            buffers: MemoryOptions::default().buffers,
            busy_poll_us: 0,
        }
    }
}

/// Opens the ports of one device.
pub enum Opener {
    /// Each by itself.
    Pnet,
    /// All in one memory.
    Xdp(Memory, Sizes),
}

impl Opener {
    /// What the ports of one device share.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(carrier: Carrier, sizes: Sizes) -> io::Result<Opener> {
        Ok(match carrier {
            Carrier::Pnet => Opener::Pnet,
            Carrier::Xdp => {
                let options = MemoryOptions {
                    buffers: sizes.buffers,
                    ..MemoryOptions::default()
                };
                Opener::Xdp(Memory::new(options)?, sizes)
            }
        })
    }

    /// Opens `interface`, from which `claims` are the device's.
    ///
    /// # Errors
    /// The reason, in one line.
    pub fn open(&self, interface: &str, claims: Claims) -> Result<Box<dyn Backend>, String> {
        fn boxed(
            opened: Result<impl Backend + 'static, impl Display>,
        ) -> Result<Box<dyn Backend>, String> {
            match opened {
                Ok(port) => Ok(Box::new(port)),
                Err(error) => Err(error.to_string()),
            }
        }
        match self {
            Opener::Pnet => boxed(PnetBackend::open(interface, PnetOptions::default())),
            Opener::Xdp(memory, sizes) => {
                let options = XdpOptions {
                    take: Take::Claims(claims),
                    ring: sizes.ring,
                    busy_poll: sizes.busy_poll(),
                    ..XdpOptions::default()
                };
                boxed(XdpBackend::open(interface, memory, &options))
            }
        }
    }
}

/// Port A's: all that is for the device's addresses there.
#[must_use]
pub fn claims_a(config: &Config) -> Claims {
    claims_of(Some(&config.port_a))
}

/// Port C's.
#[must_use]
pub fn claims_c(config: &Config) -> Claims {
    claims_of(config.port_c.as_ref().map(|port_c| &port_c.port))
}

/// Those of a port to clients.
fn claims_of(port: Option<&PortA>) -> Claims {
    Claims {
        addresses: port.map_or_else(Vec::new, |port| port.addresses.clone()),
        ..Claims::default()
    }
}

/// Port B's: frames of the farm's type.
#[must_use]
pub fn claims_b(config: &Config) -> Claims {
    Claims {
        ethertypes: vec![config.port_b.ethertype],
        ..Claims::default()
    }
}

/// The Synch Port's: datagrams to its port, broadcast or not.
#[must_use]
pub fn claims_synch(config: &Config) -> Claims {
    let SynchPort { address, port, .. } = config.synch;
    Claims {
        udp_ports: vec![(Ipv4Addr::BROADCAST, port), (address, port)],
        ..Claims::default()
    }
}
