//! The cable in memory passes what every backend must.

use std::error::Error;

use ipos_backend::conformance::Bed;
use ipos_backend::memory::{Cable, MemoryPort, Plan, Side};

struct Memory(Cable);

impl Bed for Memory {
    type Port = MemoryPort;
    const RING: usize = 256;

    fn open(&self, side: Side) -> Result<MemoryPort, Box<dyn Error + Send + Sync>> {
        Ok(self.0.open(side)?)
    }

    fn set_up(&self, side: Side, up: bool) {
        self.0.set_up(side, up);
    }

    fn set_mtu(&self, mtu: u16) {
        self.0.set_mtu(mtu);
    }
}

fn bed(_: &str) -> Option<Memory> {
    let plan = Plan {
        ring: Memory::RING,
        ..Plan::default()
    };
    Some(Memory(Cable::new(plan)))
}

ipos_backend::conformance!(bed);
