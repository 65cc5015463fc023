//! The forward path: what a burst of clients' packets costs, counted.

#[path = "../../ipos-core/tests/common/mod.rs"]
mod common;
#[path = "../../ipos-core/benches/device/flows.rs"]
mod flows;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use flows::{Template, forwarding, shuffled};
use ipos_backend::memory::{Cable, Plan, Side};
use ipos_backend::{Backend, Capabilities, Frame, Statistics};
use ipos_core::Port;
use ipos_engine::{Engine, Options, Ports, clock};

const BURST: usize = 64;
/// So many that the device looks ahead.
const FLOWS: u32 = 10_000;

/// Calls of a port, and what it was given.
#[derive(Debug, Default)]
struct Calls {
    peeks: usize,
    receives: usize,
    forwards: usize,
    flushes: usize,
    payload: usize,
}

/// A port that lends frames and counts what is asked of it.
struct Counting {
    frames: Rc<RefCell<Vec<Template>>>,
    calls: Rc<RefCell<Calls>>,
    buffer: Box<[u8]>,
}

impl Backend for Counting {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hardware_address: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            burst: BURST,
        }
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        self.calls.borrow_mut().receives += 1;
        let frames = self.frames.borrow();
        let lent = frames.iter().take(budget);
        Ok(lent.map(|Template(frame)| sink(&mut &frame[..])).count())
    }

    fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) {
        self.calls.borrow_mut().peeks += 1;
        let frames = self.frames.borrow();
        let shown = frames.iter().take(budget);
        shown.for_each(|Template(frame)| sink(frame));
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize) {
        panic!("nothing of {len} bytes is to be said")
    }

    fn transmit(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), ipos_backend::Refused> {
        let mut calls = self.calls.borrow_mut();
        calls.forwards += 1;
        calls.payload += headers.len() + payload.len();
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.calls.borrow_mut().flushes += 1;
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
        unreachable!("the engine polls")
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

#[test]
fn a_burst_is_passed_on_with_one_call_each_and_without_allocation() {
    let (device, now) = forwarding(FLOWS, |_, config| {
        config.synch.silence = Duration::from_secs(3600);
    });
    while clock::now() < now {
        thread::sleep(Duration::from_millis(10));
    }
    let to = device.config().port_a.hardware;
    let frames = Rc::new(RefCell::new(Vec::new()));
    let port = |frames: &Rc<RefCell<Vec<Template>>>| {
        let calls = Rc::new(RefCell::new(Calls::default()));
        let port = Counting {
            frames: Rc::clone(frames),
            calls: Rc::clone(&calls),
            buffer: vec![0; 1514].into(),
        };
        (port, calls)
    };
    let ((a, at_a), (b, at_b)) = (port(&frames), port(&Rc::default()));
    let synch = Cable::new(Plan::default()).open(Side::Near).unwrap();
    let ports = Ports {
        a: Box::new(a),
        b: Box::new(b),
        synch: Box::new(synch),
        c: None,
    };
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut engine = Engine::new(device, ports, vec![nobody], Options::default()).unwrap();
    let mut next = shuffled(FLOWS);
    // The first turn sends adverts; later ones may, as their time comes.
    let mut quiet = 0;
    for _ in 0..200 {
        let mut template = || {
            let mut template = Template::new(to, Some(1), &[7; 100]);
            template.frame(next());
            template
        };
        *frames.borrow_mut() = (0..BURST).map(|_| template()).collect();
        let before = engine.device().counters();
        *at_a.borrow_mut() = Calls::default();
        *at_b.borrow_mut() = Calls::default();
        let sent = engine.port_statistics(Port::Synch).transmitted;
        let made = allocation_counter::measure(|| engine.step(Some(Duration::ZERO)).unwrap());
        let forwarded = engine.device().counters().forwarded - before.forwarded;
        assert_eq!(forwarded, BURST as u64);
        let (a, b) = (at_a.borrow(), at_b.borrow());
        assert_eq!((a.peeks, a.receives, a.forwards, a.flushes), (1, 1, 0, 0));
        assert_eq!((b.forwards, b.flushes), (BURST, 1));
        // 14 of a client's frame become 30.
        assert_eq!(b.payload, BURST * (20 + 20 + 100 + 30));
        let adverts = engine.port_statistics(Port::Synch).transmitted - sent;
        if adverts == 0 && made.count_total == 0 {
            quiet += 1;
        }
    }
    // Reports on the Synch LAN and the host's figures come a few times a second.
    assert!(quiet > 100, "{quiet} of 200 turns allocate nothing");
}
