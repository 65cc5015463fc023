//! bpf(2): maps, programs and links, as far as an XDP program needs them. Each is a descriptor, and gone with its last copy.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::program::Instruction;

const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;

const BPF_PROG_TYPE_XDP: u32 = 6;
/// Attach type `BPF_XDP`.
const BPF_XDP: u32 = 37;
/// The licence that the program tells the kernel.
const LICENCE: &std::ffi::CStr = c"Dual MIT/GPL";
/// Bytes of the kernel's explanation why it does not take a program.
const LOG: usize = 16 * 1024;

/// Fields of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// For BPF_MAP_UPDATE_ELEM.
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// For BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// For BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `T` has the layout of the command's part of `union bpf_attr`, and every pointer in it is good for what
/// the command does with it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads as many bytes as it is told, and the caller vouches for what they say.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        libc::c_int::try_from(result).map_err(io::Error::other)
    }
}

/// As [`bpf`], for commands that make a descriptor.
///
/// # Safety
/// As for [`bpf`]; the command returns a new descriptor, with close-on-exec set as bpf(2) does.
unsafe fn make<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for the attributes.
    let descriptor = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A descriptor's number as the kernel's structures have it.
fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// Kinds of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Looked up by key.
    Hash = 1,
    /// AF_XDP sockets by receive queue.
    Sockets = 17,
}

/// A map.
pub(crate) struct Map {
    descriptor: OwnedFd,
    key: usize,
    value: usize,
}

impl Map {
    /// A map with so many entries at most, of keys and values of so many bytes.
    pub(crate) fn new(kind: Kind, key: u32, value: u32, entries: u32) -> io::Result<Self> {
        let attributes = MapCreate {
            map_type: kind as u32,
            key_size: key,
            value_size: value,
            max_entries: entries,
            map_flags: 0,
        };
        // SAFETY: the layout is BPF_MAP_CREATE's, and there are no pointers.
        let descriptor = unsafe { make(BPF_MAP_CREATE, &attributes) }?;
        Ok(Self {
            descriptor,
            key: key as usize,
            value: value as usize,
        })
    }

    /// Sets an entry. Key and value must have the map's sizes.
    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if (key.len(), value.len()) != (self.key, self.value) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let attributes = MapUpdate {
            map_fd: number(self.descriptor.as_fd()),
            zero: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.as_ptr().expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: the layout is BPF_MAP_UPDATE_ELEM's; the kernel reads the sizes that the map was made with, which the
        // slices have.
        unsafe { bpf(BPF_MAP_UPDATE_ELEM, &attributes) }.map(drop)
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Loads an XDP program. An error other than a missing right (EPERM: the verifier's is EACCES) carries what the kernel's verifier
/// says.
pub(crate) fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = ProgLoad {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr().expose_provenance() as u64,
        license: LICENCE.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"ipos\0\0\0\0\0\0\0\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type: BPF_XDP,
    };
    // SAFETY: the layout is BPF_PROG_LOAD's; instructions and licence are read only, and live until the call returns.
    let error = match unsafe { make(BPF_PROG_LOAD, &attributes) } {
        Err(error) if error.raw_os_error() != Some(libc::EPERM) => error,
        result => return result,
    };
    let mut log = vec![0u8; LOG];
    attributes.log_level = 1;
    attributes.log_size = LOG as u32;
    attributes.log_buf = log.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: as above; the kernel writes `log_size` bytes of the log at most.
    if let Ok(descriptor) = unsafe { make(BPF_PROG_LOAD, &attributes) } {
        return Ok(descriptor);
    }
    let text = String::from_utf8_lossy(&log);
    let text = text.trim_end_matches('\0').trim();
    Err(io::Error::other(format!("{error}: {text}")))
}

/// Attaches a program to an interface until the returned link is closed. `flags` are those of XDP: 2 generic, 4 native.
pub(crate) fn attach(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        prog_fd: number(program),
        target_ifindex: interface,
        attach_type: BPF_XDP,
        flags,
    };
    // SAFETY: the layout is BPF_LINK_CREATE's, and there are no pointers.
    unsafe { make(BPF_LINK_CREATE, &attributes) }
}
