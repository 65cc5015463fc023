//! Opening: the program, the queues, the raw socket of bursts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use ipos_backend::Capabilities;
use ipos_backend::interface::{Interface, OpenError as InterfaceError};
use ipos_backend_pnet::{Frames, PnetBackend, PnetOptions};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::xdp::SocketAddrXdpFlags;

use super::{Queue, Queues, XdpBackend};
use crate::lane::Lane;
use crate::memory::Memory;
use crate::program::{KEY, assemble, keys};
use crate::socket::{XdpSocket, when_free};
use crate::sys::bpf::{self, Kind, Map};
use crate::sys::mapping::RingMapping;
use crate::{Copying, Mode, OpenError, Take, XdpOptions};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes in front of a received frame that the kernel keeps (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;
/// Frames a call.
const BURST: usize = 64;
/// EtherTypes that may be claimed.
const MOST_ETHERTYPES: usize = 64;
/// Receive queues of an interface that are looked for.
const MOST_QUEUES: u32 = 256;
/// Netlink group of changes to links (`RTNLGRP_LINK`).
const LINKS: u32 = 1;
/// Flags of attaching (`XDP_FLAGS_SKB_MODE`, `XDP_FLAGS_DRV_MODE`).
const GENERIC: u32 = 2;
const NATIVE: u32 = 4;

/// What opening needs, and how to get it.
const NEEDS: &str = "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_IPC_LOCK in the initial user namespace: run as root or with these capabilities, or use the pnet backend";

impl XdpBackend {
    /// Opens `interface` of the calling thread's network namespace with buffers of `memory`. The port may then be used from any
    /// thread.
    ///
    /// What another user has just left is waited for, half a second at most.
    ///
    /// # Errors
    /// [`OpenError`]: no such interface, not Ethernet, down, in use, too few buffers, or no right.
    pub fn open(interface: &str, memory: &Memory, options: &XdpOptions) -> Result<Self, OpenError> {
        check(options)?;
        let link = Interface::query(interface)?;
        let fails = |action| move |error| refuse(interface, action, error);

        let claims = match &options.take {
            Take::All => Vec::new(),
            Take::Claims(claims) => keys(claims),
        };
        let entries = u32::try_from(claims.len()).unwrap_or(u32::MAX).max(1);
        let claimed = Map::new(Kind::Hash, KEY, 4, entries).map_err(fails("make a BPF map"))?;
        for key in claims {
            let set = claimed.set(&key, &1u32.to_ne_bytes());
            set.map_err(fails("fill a BPF map"))?;
        }
        let sockets = Map::new(Kind::Sockets, 4, 4, MOST_QUEUES).map_err(fails(
            "make a map of AF_XDP sockets (has the kernel CONFIG_XDP_SOCKETS?)",
        ))?;
        let program = assemble(
            &options.take,
            link.hardware_address,
            sockets.as_fd(),
            claimed.as_fd(),
        );
        let program = bpf::load(&program).map_err(fails("load the XDP program"))?;
        // Until a queue has its socket in the map, its frames pass to the kernel.
        let (attached, native) = attach(program.as_fd(), link.index, options.mode)
            .map_err(fails("attach the XDP program"))?;

        let largest = usize::from(link.mtu) + ETHERNET;
        let largest = largest.min(memory.buffers().size() - HEADROOM);
        let mut queues = Queues {
            link: Some(attached),
            list: Vec::new(),
            memory: memory.clone(),
            reserved: Lane::<RingMapping>::needs(options.ring, options.ring),
        };
        queues.fill(interface, &link, native, largest, options)?;
        for (number, queue) in (options.queues.clone().unwrap_or(0..MOST_QUEUES)).zip(&queues.list)
        {
            if let Some(busy_poll) = options.busy_poll {
                let set = queue.socket.busy_poll(busy_poll);
                set.map_err(fails("set busy polling"))?;
            }
            let descriptor = queue.socket.as_fd().as_raw_fd().cast_unsigned();
            let set = sockets.set(&number.to_ne_bytes(), &descriptor.to_ne_bytes());
            set.map_err(fails("give a queue its socket"))?;
        }
        let monitor = monitor().map_err(fails("watch the links"))?;
        let only_transmits = PnetOptions {
            frames: Frames::None,
            receive_buffer: 0,
        };
        let bursts = PnetBackend::open(interface, only_transmits)?;
        Ok(Self {
            interface: interface.to_owned(),
            capabilities: Capabilities {
                hardware_address: link.hardware_address,
                mtu: u16::try_from(largest - ETHERNET).unwrap_or(u16::MAX),
                burst: BURST,
            },
            native,
            queues,
            bursts,
            in_burst: false,
            fault: None,
            turn: 0,
            monitor,
            news: Vec::with_capacity(4096),
            readiness: OnceLock::new(),
            full: None,
            down: false,
        })
    }
}

impl Queues {
    /// Binds the queues that `options` ask for.
    fn fill(
        &mut self,
        interface: &str,
        link: &Interface,
        native: bool,
        largest: usize,
        options: &XdpOptions,
    ) -> Result<(), OpenError> {
        let numbers = options.queues.clone().unwrap_or(0..MOST_QUEUES);
        let flags = flags(options.copying, native);
        for number in numbers {
            let opened = XdpSocket::open(&self.memory, link.index, number, options.ring, flags);
            let (socket, rings) = match opened {
                Ok(opened) => opened,
                // The kernel's way to say that there is no such queue: all were asked for, and there are no more.
                Err(error)
                    if error.raw_os_error() == Some(libc::EINVAL)
                        && options.queues.is_none()
                        && !self.list.is_empty() =>
                {
                    break;
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    let interface = interface.to_owned();
                    let mib = self.memory.buffers().area().1.div_ceil(1 << 20);
                    return Err(OpenError::LockedMemory { interface, mib });
                }
                Err(error) => return Err(refuse(interface, "bind an AF_XDP socket", error)),
            };
            let reserved = self.memory.reserve(self.reserved);
            let queue = reserved.map_err(|left| OpenError::Memory {
                interface: interface.to_owned(),
                needed: self.reserved,
                left,
            })?;
            let mut lane = Lane::new(self.memory.clone(), queue, rings, largest);
            lane.refill();
            self.list.push(Queue { socket, lane });
        }
        Ok(())
    }
}

/// Whether `options` can be.
fn check(options: &XdpOptions) -> Result<(), OpenError> {
    let wrong = |option, problem| Err(OpenError::Option { option, problem });
    if !options.ring.is_power_of_two() || !(64..=32_768).contains(&options.ring) {
        return wrong("ring", "a power of two from 64 to 32768 is needed");
    }
    if let Some(queues) = &options.queues
        && (queues.is_empty() || queues.end > MOST_QUEUES)
    {
        return wrong("queues", "from one queue to those below 256 are needed");
    }
    match &options.take {
        Take::Claims(claims) if claims.ethertypes.len() > MOST_ETHERTYPES => {
            wrong("take", "64 EtherTypes at most can be claimed")
        }
        _ => Ok(()),
    }
}

/// Attaches the program; whether in the driver.
fn attach(program: BorrowedFd<'_>, index: u32, mode: Mode) -> io::Result<(OwnedFd, bool)> {
    let attach = |flags| when_free(|| bpf::attach(program, index, flags));
    let native = (mode != Mode::Generic).then(|| attach(NATIVE));
    match native {
        Some(Ok(link)) => Ok((link, true)),
        Some(Err(error)) if mode == Mode::Native || error.kind() == io::ErrorKind::ResourceBusy => {
            Err(error)
        }
        _ => Ok((attach(GENERIC)?, false)),
    }
}

/// How to bind: generic mode always copies.
fn flags(copying: Copying, native: bool) -> SocketAddrXdpFlags {
    let wakeup = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    match copying {
        Copying::ZeroCopy => wakeup | SocketAddrXdpFlags::XDP_ZEROCOPY,
        Copying::Auto if native => wakeup,
        Copying::Auto | Copying::Copy => wakeup | SocketAddrXdpFlags::XDP_COPY,
    }
}

/// A socket that becomes readable with every change of a link.
fn monitor() -> io::Result<Socket> {
    let mut monitor = Socket::new(NETLINK_ROUTE)?;
    monitor.bind_auto()?;
    monitor.add_membership(LINKS)?;
    Ok(monitor)
}

/// One descriptor for all sockets.
pub(super) fn readiness(queues: &[Queue], monitor: &Socket) -> Result<OwnedFd, Errno> {
    let all = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let sockets = queues.iter().map(|queue| queue.socket.as_fd());
    for descriptor in sockets.chain([monitor.as_fd()]) {
        epoll::add(&all, descriptor, EventData::new_u64(0), EventFlags::IN)?;
    }
    Ok(all)
}

/// The error for a system call that failed.
fn refuse(interface: &str, action: &'static str, source: io::Error) -> OpenError {
    if source.kind() == io::ErrorKind::ResourceBusy {
        let interface = interface.to_owned();
        return OpenError::Busy { interface };
    }
    InterfaceError::system(interface, action, NEEDS, source).into()
}
