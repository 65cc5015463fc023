//! The AF_PACKET socket under the channel: its filter, its buffer, its count of lost frames.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::sockopt::{GetStruct, RcvBufForce, SetBool, SndBufForce};
use nix::sys::socket::{GetSockOpt, setsockopt};
use socket2::{Domain, SockFilter, Socket, Type};

use crate::{Frames, PnetOptions};

/// Frame type of a frame that was for another station (`PACKET_OTHERHOST`).
const OTHER_HOST: u32 = libc::PACKET_OTHERHOST as u32;
/// Frame type of a frame that this host sends (`PACKET_OUTGOING`).
const OUTGOING: u32 = libc::PACKET_OUTGOING as u32;

/// Size of the kernel's buffer for frames that an interface has not sent yet, in bytes as the kernel counts them.
const SEND_BUFFER: usize = 4 << 20;

/// `PACKET_VNET_HDR`: frames pass with a [`virtio`](crate::virtio) header in front.
#[derive(Clone, Copy, Debug)]
struct VirtioHeader;
nix::setsockopt_impl!(
    VirtioHeader,
    libc::SOL_PACKET,
    libc::PACKET_VNET_HDR,
    bool,
    SetBool
);

/// A socket with filter and buffer, not bound: it receives nothing before it is, so no
/// frame gets in ahead of the filter.
pub(crate) fn open(options: &PnetOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let filter = filter(options.frames);
    if !filter.is_empty() {
        socket.attach_filter(&filter)?;
    }
    if options.frames != Frames::Passing {
        setsockopt(&socket, VirtioHeader, &true)?;
    }
    // Some bursts wait for the interface.
    if setsockopt(&socket, SndBufForce, &SEND_BUFFER).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER)?;
    }
    // The option is a C int, which the kernel doubles.
    let size = options.receive_buffer.min(i32::MAX as usize / 2);
    // The forced size passes net.core.rmem_max, but only for root outside user namespaces.
    if setsockopt(&socket, RcvBufForce, &size).is_err() {
        socket.set_recv_buffer_size(size)?;
    }
    Ok(socket)
}

/// The classic BPF program for `frames`; empty: everything is accepted.
fn filter(frames: Frames) -> Vec<SockFilter> {
    let rejected: &[(i32, u32)] = match frames {
        Frames::Addressed => &[
            (libc::SKF_AD_PKTTYPE, OUTGOING),
            (libc::SKF_AD_PKTTYPE, OTHER_HOST),
            (libc::SKF_AD_VLAN_TAG_PRESENT, 1),
        ],
        Frames::Arriving => &[
            (libc::SKF_AD_PKTTYPE, OUTGOING),
            (libc::SKF_AD_VLAN_TAG_PRESENT, 1),
        ],
        Frames::Passing => return Vec::new(),
        Frames::None => return vec![SockFilter::new(RETURN, 0, 0, 0)],
    };
    let mut program = Vec::with_capacity(rejected.len() * 3 + 1);
    for &(field, value) in rejected {
        program.push(load(field));
        // Equal: the next instruction, which drops the frame. Otherwise: the one after.
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, value));
        program.push(SockFilter::new(RETURN, 0, 0, 0));
    }
    program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    program
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Loads one of the kernel's notes about the frame, which BPF reads at negative offsets.
fn load(field: i32) -> SockFilter {
    SockFilter::new(LOAD, 0, 0, (libc::SKF_AD_OFF + field).cast_unsigned())
}

/// `SO_MEMINFO`: the socket's memory and drop counters, each 32 bits wide.
#[derive(Clone, Copy)]
struct MemoryInformation;
nix::getsockopt_impl!(
    MemoryInformation,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; MEMORY_INFORMATION_FIELDS],
    GetStruct<[u32; MEMORY_INFORMATION_FIELDS]>
);
const MEMORY_INFORMATION_FIELDS: usize = 9;
/// Place of `SK_MEMINFO_DROPS`.
const DROPS: usize = 8;

/// How many frames the kernel has dropped because the socket's buffer was full. Unlike
/// `PACKET_STATISTICS`, reading does not reset it.
pub(crate) fn dropped(socket: &impl AsFd) -> u64 {
    // A kernel without the option (before 4.12) cannot tell: none are known of.
    MemoryInformation
        .get(socket)
        .map_or(0, |fields| fields[DROPS].into())
}
