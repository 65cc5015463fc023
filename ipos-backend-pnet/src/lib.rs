//! ipOS frames over raw sockets: an [`ipos_backend::Backend`] on `pnet`'s datalink channel.
//!
//! `pnet` binds the socket and makes it non-blocking; what it would poll before every frame is left out.
//! The portable baseline among the backends: any Ethernet interface of any Linux, no driver support,
//! no locked memory; `CAP_NET_RAW` in the interface's network namespace is all that it needs.
//!
//! ```text
//!    interface --> AF_PACKET socket --> filter --> socket buffer --> receive()    1 call a frame
//!    interface <-- AF_PACKET socket <------------------------------- commit()     1 call a frame
//! ```
//!
//! ```no_run
//! use ipos_backend::Backend;
//! use ipos_backend_pnet::{PnetBackend, PnetOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut port = PnetBackend::open("b0", PnetOptions::default())?;
//! loop {
//!     port.wait(None)?;
//!     let burst = port.capabilities().burst;
//!     port.receive(burst, &mut |frame| println!("{} bytes", frame.bytes().len()))?;
//! }
//! # }
//! ```
//!
//! # Bursts
//!
//! The socket has `PACKET_VNET_HDR`: with each frame goes what is left to do for it. So a burst of TCP segments is one
//! call, which the kernel, or the interface, cuts and gives checksums; and a sender on the same machine, or the kernel's GRO, may
//! leave as much to the port: what it receives is cut and completed here, for a device takes packets as a wire carries them.
//! That costs one copy, where `ethtool -K <interface> gro off`, and `tx off` at the sender, cost none.
//!
//! # What is received
//!
//! The socket is bound to `ETH_P_ALL`: EtherType 0x0007 lies below 0x0600, so the kernel files such
//! frames under `ETH_P_802_2` and a socket that is bound to 0x0007 receives nothing. A
//! classic BPF program in the kernel then drops what the port must not see, so that it
//! never costs a read:
//!
//! * frames that this host itself sends: a raw socket sees them too, which is not what a port means;
//! * with [`Frames::Addressed`], the default, frames for other stations. A device announces the
//!   interface's own hardware address for every address that it owns, and its peers use broadcast
//!   otherwise, so promiscuous mode would only buy reads of frames that the device then drops;
//! * frames with a VLAN tag: the kernel takes the tag out of the frame before a socket sees it, and what
//!   belongs to another LAN would look like this one's. Open the VLAN's own interface (`b0.7`) instead.

#![forbid(unsafe_code)]

mod direct;
mod port;
mod socket;
mod virtio;

pub use ipos_backend::interface::OpenError;
pub use port::PnetBackend;

/// Which frames a port receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// Those for the interface's hardware address, broadcast, and multicast.
    #[default]
    Addressed,
    /// All that arrive, whatever their destination: promiscuous mode.
    Arriving,
    /// All that pass, this host's own included, in both directions and up to 64 kB long: for captures, not
    /// for devices. This alone departs from what [`ipos_backend::Backend::receive`] promises.
    Passing,
    /// None: a port that only transmits, beside another one that receives.
    None,
}

/// How to open a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PnetOptions {
    /// Which frames the port receives.
    pub frames: Frames,
    /// Size of the kernel's buffer for received frames, in bytes as the kernel counts them: a frame
    /// costs its length and several hundred bytes more. Without `CAP_NET_ADMIN` in the initial user
    /// namespace the kernel gives `net.core.rmem_max` at most.
    pub receive_buffer: usize,
}

impl Default for PnetOptions {
    fn default() -> Self {
        Self {
            frames: Frames::default(),
            receive_buffer: 4 << 20,
        }
    }
}

/// What opening a raw socket needs, and how to get it.
const NEEDS: &str =
    "CAP_NET_RAW: run as root, in a user namespace (unshare -Urn), or setcap cap_net_raw+ep";
