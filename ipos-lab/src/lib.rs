//! Network laboratories for examples and tests: namespaces, veth pairs and bridges, built by this process
//! and gone with it.
//!
//! No program is called and nothing gets a name outside the process: a [`Namespace`] is a file
//! descriptor, so whatever ends the process, `kill -9` included, the kernel takes the network away.
//!
//! ```no_run
//! use ipos_lab::{Farm, FarmPlan, Lan, Privilege};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // First in main, while there is one thread: unprivileged users get a laboratory too.
//! if ipos_lab::privilege()? == Privilege::UserNamespace {
//!     ipos_lab::enter_user_namespace()?;
//! }
//! let farm = Farm::build(FarmPlan { servers: 2, ..FarmPlan::default() })?;
//! let capture = farm.capture(Lan::B, "port-b.pcap")?;
//! for server in farm.servers() {
//!     server.namespace().spawn("device", || { /* open a0, b0, c0 and poll */ })?;
//! }
//! println!("{}", farm.client().command_line("curl http://10.77.0.11/"));
//! println!("{} frames on LAN B", capture.stop()?.frames);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod capture;
mod error;
mod farm;
mod link;
mod namespace;
mod netlink;
mod offload;
mod pair;
mod privilege;

pub use capture::{Capture, Captured};
pub use error::LabError;
pub use farm::{Farm, FarmPlan, Lan, MOST_SERVERS, PREFIX, Server};
pub use link::{End, connect};
pub use namespace::Namespace;
pub use pair::Pair;
pub use privilege::{Privilege, Unavailable, available, enter_user_namespace, privilege};
