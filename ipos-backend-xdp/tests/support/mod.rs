//! A veth pair between two namespaces, and AF_XDP ports on it.

use std::error::Error;
use std::io::Write;

use ipos_backend::conformance::Bed;
use ipos_backend::interface;
use ipos_backend::memory::Side;
use ipos_backend_xdp::{Memory, MemoryOptions, Mode, OpenError, XdpBackend, XdpOptions};
use ipos_lab::{Namespace, Pair};

/// The interface's name at both ends.
pub const NAME: &str = Pair::INTERFACE;

/// The bed.
pub struct Veth {
    pair: Pair,
    pub memory: Memory,
    pub options: XdpOptions,
}

impl Veth {
    /// A bed whose interfaces are up, or `None` (said on standard error) without privilege.
    pub fn new(test: &str, mode: Mode) -> Option<Self> {
        if !ipos_lab::available(test) {
            return None;
        }
        let options = MemoryOptions {
            buffer_size: 4096,
            buffers: 4 * (2 * Self::RING as u32 + 256),
        };
        let bed = Self::on(Memory::new(options).unwrap(), mode);
        match bed.open(Side::Near) {
            Err(error) if is_privilege(&*error) => {
                // Past the capture of the test harness; without standard error there is nobody to tell.
                let _ = writeln!(std::io::stderr(), "{test}: skipped: {error}");
                None
            }
            opened => {
                opened.unwrap();
                Some(bed)
            }
        }
    }

    /// A second bed whose ports share this one's memory.
    pub fn another(&self) -> Self {
        Self::on(self.memory.clone(), self.options.mode)
    }

    fn on(memory: Memory, mode: Mode) -> Self {
        let options = XdpOptions {
            mode,
            ring: Self::RING as u32,
            ..XdpOptions::default()
        };
        Self {
            pair: Pair::new().unwrap(),
            memory,
            options,
        }
    }

    pub fn at(&self, side: Side) -> &Namespace {
        self.pair.at(side)
    }

    /// A port on a side with other options than the bed's.
    pub fn open_with(&self, side: Side, options: &XdpOptions) -> Result<XdpBackend, OpenError> {
        let open = || XdpBackend::open(NAME, &self.memory, options);
        self.at(side).run(open).unwrap()
    }
}

fn is_privilege(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(OpenError::Interface(interface::OpenError::Privilege { .. }))
    )
}

impl Bed for Veth {
    type Port = XdpBackend;
    const RING: usize = 64;

    fn open(&self, side: Side) -> Result<XdpBackend, Box<dyn Error + Send + Sync>> {
        Ok(self.open_with(side, &self.options)?)
    }

    fn set_up(&self, side: Side, up: bool) {
        self.pair.set_up(side, up).unwrap();
    }

    fn set_mtu(&self, mtu: u16) {
        self.pair.set_mtu(mtu).unwrap();
    }
}
