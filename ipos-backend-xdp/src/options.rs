//! How to open a port, and why it cannot be opened.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

/// Which frames a port takes; the kernel gets the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Take {
    /// All but those with a VLAN tag: the interface is the device's alone.
    #[default]
    All,
    /// Those of the device: the interface is the kernel's too.
    Claims(Claims),
}

/// What of an interface is the device's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Frames of these types: Port B's. At most 64.
    pub ethertypes: Vec<u16>,
    /// IPv4 packets to these addresses, and ARP about them. The kernel must not have them.
    pub addresses: Vec<Ipv4Addr>,
    /// UDP datagrams to these addresses and ports, without what belongs to the addresses otherwise: what the Synch Port
    /// hears by broadcast.
    pub udp_ports: Vec<(Ipv4Addr, u16)>,
}

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the driver if it can, else in the kernel's stack.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the kernel's stack ("SKB mode"): any interface.
    Generic,
}

/// Who moves frames between interface and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Copying {
    /// The interface itself if its driver can, else the kernel.
    #[default]
    Auto,
    /// The interface itself: the port does not open where it cannot.
    ZeroCopy,
    /// The kernel, by copying.
    Copy,
}

/// Have the driver work within the port's own system calls, not in interrupts (`SO_PREFER_BUSY_POLL`): steadier under load,
/// at the price of a core that never sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// How long one call looks for frames.
    pub patience: Duration,
    /// Frames that one call handles at most.
    pub budget: u16,
}

impl Default for BusyPoll {
    /// 20 µs, 64 frames.
    fn default() -> Self {
        Self {
            patience: Duration::from_micros(20),
            budget: 64,
        }
    }
}

/// How to open a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpOptions {
    /// Which frames are the port's.
    pub take: Take,
    /// Where the program runs.
    pub mode: Mode,
    /// Who moves frames. In generic mode the kernel does.
    pub copying: Copying,
    /// The interface's queues to receive from; `None`: all. Frames of other queues go to the kernel. The first one transmits.
    pub queues: Option<Range<u32>>,
    /// Frames that wait in each direction, for each queue: a power of two from 64 to 32,768.
    pub ring: u32,
    /// Busy polling; `None`: interrupts.
    pub busy_poll: Option<BusyPoll>,
}

impl Default for XdpOptions {
    /// All frames, all queues, rings of 2,048, the fastest way that the interface has.
    fn default() -> Self {
        Self {
            take: Take::default(),
            mode: Mode::default(),
            copying: Copying::default(),
            queues: None,
            ring: 2048,
            busy_poll: None,
        }
    }
}

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The interface, or the system.
    #[error(transparent)]
    Interface(#[from] ipos_backend::interface::OpenError),
    /// An option that no port can have.
    #[error("option {option}: {problem}")]
    Option {
        /// Its name in [`XdpOptions`].
        option: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Another process, or another port of this one, has the interface's XDP hook or the queue.
    #[error(
        "interface {interface} is in use: another program has its XDP hook or its queue (`ip link show {interface}`, `ss --xdp`)"
    )]
    Busy {
        /// The interface's name.
        interface: String,
    },
    /// The memory may not be locked: it is beyond the process's limit (`RLIMIT_MEMLOCK`).
    #[error(
        "interface {interface} needs {mib} MiB of locked memory for each queue, beyond this process's limit: give it CAP_IPC_LOCK, or `ulimit -l unlimited`"
    )]
    LockedMemory {
        /// The interface's name.
        interface: String,
        /// The memory's size in MiB.
        mib: u64,
    },
    /// The memory has too few buffers left.
    #[error(
        "interface {interface} needs {needed} buffers for each queue, and the memory has {left} left: more buffers, smaller rings, or fewer queues"
    )]
    Memory {
        /// The interface's name.
        interface: String,
        /// Buffers for one queue.
        needed: u32,
        /// Buffers that no port has.
        left: u32,
    },
}
