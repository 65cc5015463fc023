//! What can stop an engine.

use std::io;
use std::net::SocketAddrV4;

use ipos_core::Port;

/// Why an engine cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The number of applications is not that of the listening sockets.
    #[error("{listeners} listening sockets need as many application addresses, not {applications}")]
    Applications {
        /// Listening sockets in the device's configuration.
        listeners: usize,
        /// Application addresses given.
        applications: usize,
    },
    /// Neither an application in this process nor one that is told of its clients takes datagrams.
    #[error(
        "{0}: the application of a UDP listening socket is a plain address, not in this process and not behind the PROXY protocol"
    )]
    Datagrams(SocketAddrV4),
    /// The device may build frames that the port cannot carry.
    #[error("{}: the device is configured for an MTU of {configured}, the interface carries {capable}", port_name(*.port))]
    Mtu {
        /// The port.
        port: Port,
        /// What the device's configuration says, in bytes.
        configured: u16,
        /// What the backend says, in bytes.
        capable: u16,
    },
    /// The device's configuration and its ports differ in whether there is a Port C.
    #[error("Port C must be in the device's configuration and among its ports, or in neither")]
    PortC,
    /// The operating system gives no means to wait for several descriptors.
    #[error("cannot wait for ports and sockets: {0}")]
    Poll(#[source] io::Error),
    /// A port failed for good.
    #[error("{} failed: {source}", port_name(*.port))]
    Port {
        /// The port.
        port: Port,
        /// What its backend said.
        source: io::Error,
    },
    /// The thread cannot be bound to the processor that the options name.
    #[error("cannot run on processor {cpu}: {source}")]
    Cpu {
        /// The processor's number.
        cpu: usize,
        /// What the operating system said.
        source: io::Error,
    },
    /// The thread that reads the host's figures cannot be started.
    #[error("cannot start the thread that reads the host's figures: {0}")]
    Monitor(#[source] io::Error),
}

/// What the seeds call a port.
pub(crate) fn port_name(port: Port) -> &'static str {
    match port {
        Port::A => "Port A",
        Port::B => "Port B",
        Port::Synch => "Synch Port",
        Port::C => "Port C",
    }
}
