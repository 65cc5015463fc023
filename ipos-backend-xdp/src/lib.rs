//! ipOS frames over AF_XDP sockets: an [`ipos_backend::Backend`] whose frames never pass the kernel's network stack.
//!
//! An XDP program takes the device's frames where they come in and leaves all others to the kernel, so that a
//! device shares its interface with ssh. Frames lie in buffers that kernel and process own by turns: the user-level network
//! interface of WO 00/30322, FIG. 10 to 13.
//!
//! ```text
//!    interface --> XDP program --+--> the kernel's own stack          what is not the device's
//!                                +--> socket's rx ring --> receive()  the device's
//!    interface <----------------------- tx ring <------------ forward(), commit()
//!    interface <-- the kernel cuts <--- raw socket <--------- commit_burst()
//! ```
//!
//! ```no_run
//! use ipos_backend::Backend;
//! use ipos_backend_xdp::{Claims, Memory, MemoryOptions, Take, XdpBackend, XdpOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One memory for all ports of a device: what one receives, another forwards without a copy.
//! let memory = Memory::new(MemoryOptions::default())?;
//! let claims = Claims {
//!     addresses: vec!["10.77.0.11".parse()?],
//!     ..Claims::default()
//! };
//! let options = XdpOptions { take: Take::Claims(claims), ..XdpOptions::default() };
//! let mut port = XdpBackend::open("a0", &memory, &options)?;
//! loop {
//!     port.wait(None)?;
//!     let burst = port.capabilities().burst;
//!     port.receive(burst, &mut |frame| println!("{} bytes", frame.bytes().len()))?;
//! }
//! # }
//! ```
//!
//! # What it needs
//!
//! Linux 5.11, and `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_BPF` in the initial user namespace (root has them), and locked memory
//! (`CAP_IPC_LOCK`, or a limit above the size of [`Memory`] for each queue). No compiler, no library, no file: the program
//! is put together by this crate and loaded with bpf(2). It is attached by a link, a descriptor: whatever ends the
//! process, `kill -9` included, takes the program off the interface.
//!
//! # What is received
//!
//! Frames for the interface's address, and broadcast and multicast, of which [`Take`] says which are the device's. Frames with a VLAN tag
//! stay with the kernel. An interface that takes tags out of frames (`rx-vlan-offload`) hides them from the program: switch that off
//! where VLANs share the interface. In generic mode the kernel may have joined segments before the program sees them; they do not fit and
//! are lost, so `gro` has to be off there.

#![deny(unsafe_code)]

mod atomic;
#[cfg_attr(loom, allow(dead_code, reason = "its users are left out"))]
mod ring;

#[cfg(not(loom))]
mod lane;
#[cfg(not(loom))]
mod memory;
#[cfg(not(loom))]
mod options;
#[cfg(not(loom))]
mod port;
#[cfg(not(loom))]
mod program;
#[cfg(not(loom))]
mod socket;
#[cfg(not(loom))]
mod sys;

#[cfg(not(loom))]
pub use memory::{Memory, MemoryOptions};
#[cfg(not(loom))]
pub use options::{BusyPoll, Claims, Copying, Mode, OpenError, Take, XdpOptions};
#[cfg(not(loom))]
pub use port::XdpBackend;
