//! The raw socket passes what every backend must, over a veth pair.

use std::error::Error;

use ipos_backend::conformance::Bed;
use ipos_backend::memory::Side;
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_lab::Pair;

/// The bed.
struct Veth(Pair);

impl Bed for Veth {
    type Port = PnetBackend;
    const RING: usize = 64;

    fn open(&self, side: Side) -> Result<PnetBackend, Box<dyn Error + Send + Sync>> {
        let options = PnetOptions {
            // Room for some hundred long frames or four hundred short ones, as the kernel counts.
            receive_buffer: 150_000,
            ..PnetOptions::default()
        };
        let open = || PnetBackend::open(Pair::INTERFACE, options);
        Ok(self.0.at(side).run(open)??)
    }

    fn set_up(&self, side: Side, up: bool) {
        self.0.set_up(side, up).unwrap();
    }

    fn set_mtu(&self, mtu: u16) {
        self.0.set_mtu(mtu).unwrap();
    }
}

fn bed(test: &str) -> Option<Veth> {
    ipos_lab::available(test).then(|| Veth(Pair::new().unwrap()))
}

ipos_backend::conformance!(bed);

/// Between interfaces that take checksums and bursts, and pass them on as they are: the port finishes what it receives.
mod offloads {
    use super::*;

    fn bed(test: &str) -> Option<Veth> {
        let bed = super::bed(test)?;
        for side in [Side::Near, Side::Far] {
            let place = bed.0.at(side);
            place.switch_offloads_on(Pair::INTERFACE).unwrap();
        }
        Some(bed)
    }

    ipos_backend::conformance!(bed);
}
