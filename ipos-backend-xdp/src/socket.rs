//! An AF_XDP socket: one queue of an interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size,
    set_xdp_umem_fill_ring_size, set_xdp_umem_reg, xdp_mmap_offsets, xdp_options, xdp_statistics,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpUmemReg,
    XdpUmemRegFlags,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with,
};

use crate::BusyPoll;
use crate::lane::Rings;
use crate::memory::Memory;
use crate::ring::{Consumer, Producer};
use crate::sys::mapping::RingMapping;

/// How long opening waits for a queue, or an interface's program, that the kernel has not taken from its former
/// user yet: it does so some milliseconds after the user's end.
const PATIENCE: Duration = Duration::from_millis(500);

/// Tries again what is busy, for a moment.
pub(crate) fn when_free<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// A bound socket.
pub(crate) struct XdpSocket {
    descriptor: OwnedFd,
    /// The driver works on the memory itself.
    pub(crate) zero_copy: bool,
}

impl XdpSocket {
    /// A socket on `memory` with rings of so many entries, bound to a queue.
    pub(crate) fn open(
        memory: &Memory,
        interface: u32,
        queue: u32,
        ring: u32,
        flags: SocketAddrXdpFlags,
    ) -> io::Result<(Self, Rings<RingMapping>)> {
        when_free(|| Self::try_open(memory, interface, queue, ring, flags))
    }

    fn try_open(
        memory: &Memory,
        interface: u32,
        queue: u32,
        ring: u32,
        flags: SocketAddrXdpFlags,
    ) -> io::Result<(Self, Rings<RingMapping>)> {
        let descriptor = socket_with(
            AddressFamily::XDP,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let (addr, len) = memory.buffers().area();
        let chunk_size = u32::try_from(memory.buffers().size()).map_err(io::Error::other)?;
        // Every socket registers the memory as its own: they depend on each other in nothing, neither in their order nor in how the
        // driver moves frames.
        let registration = XdpUmemReg {
            addr,
            len,
            chunk_size,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        set_xdp_umem_reg(&descriptor, registration)?;
        set_xdp_umem_fill_ring_size(&descriptor, ring)?;
        set_xdp_umem_completion_ring_size(&descriptor, ring)?;
        set_xdp_rx_ring_size(&descriptor, ring)?;
        set_xdp_tx_ring_size(&descriptor, ring)?;
        // A kernel without the option (before 6.17) sends 32 frames a call.
        let _ = setsockopt(&descriptor, TxBudget, &ring);

        let at = xdp_mmap_offsets(&descriptor)?;
        let fd = descriptor.as_fd();
        let rings = Rings {
            fill: Producer::new(RingMapping::new::<u64>(
                fd,
                XDP_UMEM_PGOFF_FILL_RING,
                &at.fr,
                ring,
            )?),
            rx: Consumer::new(RingMapping::new::<crate::ring::Descriptor>(
                fd,
                XDP_PGOFF_RX_RING,
                &at.rx,
                ring,
            )?),
            tx: Producer::new(RingMapping::new::<crate::ring::Descriptor>(
                fd,
                XDP_PGOFF_TX_RING,
                &at.tx,
                ring,
            )?),
            completion: Consumer::new(RingMapping::new::<u64>(
                fd,
                XDP_UMEM_PGOFF_COMPLETION_RING,
                &at.cr,
                ring,
            )?),
        };
        bind(&descriptor, &SocketAddrXdp::new(flags, interface, queue))?;
        let zero_copy = xdp_options(&descriptor)?.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY);
        Ok((
            Self {
                descriptor,
                zero_copy,
            },
            rings,
        ))
    }

    /// Asks the driver to work in this process's system calls, not in interrupts.
    pub(crate) fn busy_poll(&self, options: BusyPoll) -> io::Result<()> {
        let microseconds = u32::try_from(options.patience.as_micros()).unwrap_or(u32::MAX);
        setsockopt(&self.descriptor, PreferBusyPoll, &1)?;
        setsockopt(&self.descriptor, BusyPollTime, &microseconds)?;
        setsockopt(&self.descriptor, BusyPollBudget, &u32::from(options.budget))?;
        Ok(())
    }

    /// Has the kernel send what is published. `Ok`: go on while frames are taken.
    pub(crate) fn kick_tx(&self) -> Result<(), Errno> {
        send(
            &self.descriptor,
            &[],
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
        .map(drop)
    }

    /// Has the kernel use the fill ring, and tells whether the interface is there and up.
    pub(crate) fn kick_rx(&self) -> io::Result<()> {
        match recv(&self.descriptor, &mut [0u8; 0][..], RecvFlags::DONTWAIT) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::BUSY | Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Frames for this socket that the kernel could not deliver: too large, no free buffer, ring full.
    pub(crate) fn dropped(&self) -> u64 {
        // The socket is one; a kernel that cannot tell knows of none.
        xdp_statistics(&self.descriptor).map_or(0, |known| {
            known.rx_dropped + known.rx_ring_full.unwrap_or(0)
        })
    }
}

impl AsFd for XdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

const SOL_XDP: libc::c_int = 283;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

#[derive(Clone, Copy)]
struct TxBudget;
nix::setsockopt_impl!(
    TxBudget,
    SOL_XDP,
    XDP_MAX_TX_SKB_BUDGET,
    u32,
    SetStruct<u32>
);
#[derive(Clone, Copy)]
struct PreferBusyPoll;
nix::setsockopt_impl!(
    PreferBusyPoll,
    libc::SOL_SOCKET,
    SO_PREFER_BUSY_POLL,
    u32,
    SetStruct<u32>
);
#[derive(Clone, Copy)]
struct BusyPollTime;
nix::setsockopt_impl!(
    BusyPollTime,
    libc::SOL_SOCKET,
    libc::SO_BUSY_POLL,
    u32,
    SetStruct<u32>
);
#[derive(Clone, Copy)]
struct BusyPollBudget;
nix::setsockopt_impl!(
    BusyPollBudget,
    libc::SOL_SOCKET,
    SO_BUSY_POLL_BUDGET,
    u32,
    SetStruct<u32>
);
