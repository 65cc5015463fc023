//! The clients' end of LAN A: one raw port, any number of hosts with addresses of their own behind it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Slice, Ipv4HeaderSlice,
};
use ipos_backend::Backend;
use ipos_backend_pnet::{Frames, PnetBackend, PnetOptions};
use ipos_lab::Namespace;

use crate::segment::ETHERNET;

/// How long the receiver sleeps before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(20);
/// Tries, and pause between them, to find a hardware address or to get a frame out.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// Room for a burst of frames while this process does something else.
const BUFFER: usize = 32 << 20;

/// Locks, also when a case panicked with the lock held: what is inside stays usable.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A frame that came, and when.
pub type Frame = (Instant, Vec<u8>);

/// The port.
pub struct Wire {
    sender: Mutex<PnetBackend>,
    hosts: Mutex<HashMap<Ipv4Addr, Registered>>,
    stop: AtomicBool,
    /// Numbers the hosts.
    next: AtomicU32,
}

/// What the wire knows of a host.
struct Registered {
    hardware: [u8; 6],
    inbox: Sender<Frame>,
}

/// Keeps the receiver's thread; ends it when dropped.
pub struct Receiving(Arc<Wire>, Option<JoinHandle<()>>);

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            thread.join().expect("the receiver does not panic");
        }
    }
}

impl Wire {
    /// Opens `interface` of `namespace` twice: to receive all that arrives, and to send.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<(Arc<Wire>, Receiving), String> {
        let open = |receive_buffer| -> Result<PnetBackend, String> {
            let options = PnetOptions {
                frames: Frames::Arriving,
                receive_buffer,
            };
            let port = namespace.run(|| PnetBackend::open(interface, options));
            port.map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())
        };
        let receiver = open(BUFFER)?;
        let wire = Arc::new(Wire {
            // What it receives is not looked at.
            sender: Mutex::new(open(1)?),
            hosts: Mutex::default(),
            stop: AtomicBool::new(false),
            next: AtomicU32::new(0),
        });
        let shared = Arc::clone(&wire);
        let thread = namespace
            .spawn("wire", move || shared.receive(receiver))
            .map_err(|error| error.to_string())?;
        Ok((Arc::clone(&wire), Receiving(wire, Some(thread))))
    }

    fn receive(&self, mut port: PnetBackend) {
        while !self.stop.load(Ordering::Relaxed) {
            port.wait(Some(PATIENCE))
                .expect("a socket can be waited for");
            let burst = port.capabilities().burst;
            // The interface stays up while anybody listens here.
            let _ = port.receive(burst, &mut |frame| self.dispatch(frame.bytes()));
        }
    }

    fn dispatch(&self, frame: &[u8]) {
        let Ok(ethernet) = Ethernet2Slice::from_slice_without_fcs(frame) else {
            return;
        };
        let payload = ethernet.payload_slice();
        let target = match ethernet.ether_type() {
            EtherType::IPV4 => Ipv4HeaderSlice::from_slice(payload)
                .map(|ip| ip.destination_addr())
                .ok(),
            EtherType::ARP => self.resolve(payload),
            _ => None,
        };
        if let Some(target) = target
            && let Some(host) = lock(&self.hosts).get(&target)
        {
            // The host may have gone.
            let _ = host.inbox.send((Instant::now(), frame.to_vec()));
        }
    }

    /// Answers a question for a host of ours; whom the packet is about.
    fn resolve(&self, packet: &[u8]) -> Option<Ipv4Addr> {
        let arp = ArpPacketSlice::from_slice(packet)
            .ok()?
            .to_packet()
            .try_eth_ipv4()
            .ok()?;
        let target = arp.target_ipv4_addr();
        let hardware = lock(&self.hosts).get(&target)?.hardware;
        if arp.operation == ArpOperation::REQUEST {
            let reply = ArpEthIpv4Packet {
                operation: ArpOperation::REPLY,
                sender_mac: hardware,
                sender_ipv4: target.octets(),
                target_mac: arp.sender_mac,
                target_ipv4: arp.sender_ipv4,
            };
            self.send(&frame(
                arp.sender_mac,
                hardware,
                EtherType::ARP,
                &reply.to_bytes(),
            ));
        }
        Some(target)
    }

    /// Sends a frame.
    pub fn send(&self, bytes: &[u8]) {
        let mut sender = lock(&self.sender);
        for _ in 0..TRIES {
            if let Some(buffer) = sender.buffer() {
                buffer[..bytes.len()].copy_from_slice(bytes);
                sender.commit(bytes.len());
                // The interface stays up.
                let _ = sender.flush();
                return;
            }
            std::thread::sleep(PAUSE);
        }
        panic!("the interface takes no frame");
    }

    /// A host with an address and a hardware address of its own.
    pub fn host(self: &Arc<Wire>) -> Host {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = ((number / 200) as u8 + 1, (number % 200) as u8 + 1);
        let address = Ipv4Addr::new(10, 77, high, low);
        let hardware = [2, 0, 0, 0xc1, high, low];
        let (sender, receiver) = channel();
        let registered = Registered {
            hardware,
            inbox: sender,
        };
        lock(&self.hosts).insert(address, registered);
        Host {
            address,
            hardware,
            inbox: receiver,
            wire: Arc::clone(self),
        }
    }
}

/// An Ethernet frame.
pub fn frame(to: [u8; 6], from: [u8; 6], kind: EtherType, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + payload.len());
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind.0.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A client: an address on LAN A, whose questions by ARP are answered.
pub struct Host {
    pub address: Ipv4Addr,
    pub hardware: [u8; 6],
    inbox: Receiver<Frame>,
    wire: Arc<Wire>,
}

impl Host {
    pub fn socket(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }

    /// The next frame for this host, ARP included.
    pub fn next(&self, within: Duration) -> Option<Frame> {
        match self.inbox.recv_timeout(within) {
            Ok(frame) => Some(frame),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                unreachable!("the wire holds the sender while the host lives")
            }
        }
    }

    /// Sends an IP packet.
    pub fn send(&self, to: [u8; 6], packet: &[u8]) {
        self.wire
            .send(&frame(to, self.hardware, EtherType::IPV4, packet));
    }

    /// Asks for the hardware address of `target`.
    pub fn ask(&self, target: Ipv4Addr) {
        let request = ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: self.hardware,
            sender_ipv4: self.address.octets(),
            target_mac: [0; 6],
            target_ipv4: target.octets(),
        };
        self.wire.send(&frame(
            [0xff; 6],
            self.hardware,
            EtherType::ARP,
            &request.to_bytes(),
        ));
    }

    /// Who has `target`, by ARP.
    pub fn resolve(&self, target: Ipv4Addr) -> Option<[u8; 6]> {
        for _ in 0..TRIES {
            self.ask(target);
            if let Some(reply) = self.arp_reply(PAUSE * 5) {
                return Some(reply.sender_mac);
            }
        }
        None
    }

    /// The next ARP reply.
    pub fn arp_reply(&self, within: Duration) -> Option<ArpEthIpv4Packet> {
        let end = Instant::now() + within;
        loop {
            let (_, frame) = self.next(end.saturating_duration_since(Instant::now()))?;
            let ethernet = Ethernet2Slice::from_slice_without_fcs(&frame).ok()?;
            if ethernet.ether_type() != EtherType::ARP {
                continue;
            }
            let arp = ArpPacketSlice::from_slice(ethernet.payload_slice())
                .ok()?
                .to_packet()
                .try_eth_ipv4()
                .ok()?;
            if arp.operation == ArpOperation::REPLY {
                return Some(arp);
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        lock(&self.wire.hosts).remove(&self.address);
    }
}
