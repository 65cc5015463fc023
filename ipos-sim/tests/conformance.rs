//! A LAN of the simulator carries what every backend must: its ports are ends of cables in memory, joined by the switch.

use std::error::Error;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipos_backend::conformance::Bed;
use ipos_backend::memory::{Cable, MemoryPort, Plan, Side};
use ipos_backend::{Backend, Burst, Capabilities, Frame, Statistics};
use ipos_core::Instant;
use ipos_sim::{LanConfig, LanId, Network, Node, NodeId, Outbox};

/// The largest MTU that a check asks for is below.
const LAN_MTU: u16 = 9000;
/// A frame is with its receiver by then.
const PASSAGE: Duration = Duration::from_millis(1);

/// The machine at the far end of a port's cable: it puts each frame of the LAN on it.
struct Tap(MemoryPort);

impl Node for Tap {
    fn handle_frame(&mut self, _: Instant, _: usize, frame: &[u8], _: &mut Outbox) {
        self.0
            .transmit(frame, &[])
            .expect("it is flushed each time");
        // The check has taken the interface down: the frame is lost.
        let _ = self.0.flush();
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

struct Simulated {
    cables: [Cable; 2],
    network: Arc<Mutex<Network<Tap>>>,
}

impl Simulated {
    fn new() -> io::Result<Self> {
        let plan = Plan {
            mtu: LAN_MTU,
            ring: Self::RING,
        };
        let lan = LanConfig {
            mtu: LAN_MTU,
            ..LanConfig::default()
        };
        let cables = [Cable::new(plan), Cable::new(plan)];
        let mut network = Network::new(1, &[lan]);
        for (cable, side) in cables.iter().zip([Side::Near, Side::Far]) {
            network.add_node(Tap(cable.open(side.other())?), &[LanId(0)]);
            cable.set_mtu(1500);
        }
        Ok(Self {
            cables,
            network: Arc::new(Mutex::new(network)),
        })
    }

    fn cable(&self, side: Side) -> &Cable {
        &self.cables[side as usize]
    }
}

impl Bed for Simulated {
    type Port = Port;
    const RING: usize = 256;

    fn open(&self, side: Side) -> Result<Port, Box<dyn Error + Send + Sync>> {
        Ok(Port {
            end: self.cable(side).open(side)?,
            node: NodeId(side as usize),
            network: Arc::clone(&self.network),
        })
    }

    fn set_up(&self, side: Side, up: bool) {
        self.cable(side).set_up(side, up);
    }

    fn set_mtu(&self, mtu: u16) {
        self.cables.iter().for_each(|cable| cable.set_mtu(mtu));
    }
}

/// The near end of a cable; the LAN's time goes on whenever it is flushed.
struct Port {
    end: MemoryPort,
    node: NodeId,
    network: Arc<Mutex<Network<Tap>>>,
}

impl Backend for Port {
    fn flush(&mut self) -> io::Result<()> {
        self.end.flush()?;
        let mut network = self.network.lock().expect("no check panics in here");
        network.with(self.node, |tap, _, out| {
            tap.0.receive(Simulated::RING, &mut |frame| {
                out.send(0, frame.bytes(), &[]);
            })
        });
        let then = network.now() + PASSAGE;
        network.run_until(then);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        self.end.capabilities()
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        self.end.receive(budget, sink)
    }

    fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) {
        self.end.peek(budget, sink);
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        self.end.buffer()
    }

    fn commit(&mut self, len: usize) {
        self.end.commit(len);
    }

    fn cuts_bursts(&self) -> bool {
        self.end.cuts_bursts()
    }

    fn burst_buffer(&mut self) -> Option<&mut [u8]> {
        self.end.burst_buffer()
    }

    fn commit_burst(&mut self, len: usize, burst: Burst) {
        self.end.commit_burst(len, burst);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.end.wait(timeout)
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.end.readiness()
    }

    fn statistics(&self) -> Statistics {
        self.end.statistics()
    }
}

fn bed(_: &str) -> Option<Simulated> {
    Some(Simulated::new().expect("cables that nobody else has"))
}

ipos_backend::conformance!(bed);
