//! A server that runs smoltcp instead of a device.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::Instant;
use ipos_sim::addresses::{HTTP, PREFIX};
use ipos_sim::{Next, Node, Outbox, Stream};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::{BUFFER, End};

/// Largest frame, in bytes.
const FRAME: usize = 1514;

/// Where the peer listens.
pub fn address() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 250), HTTP)
}

/// A listening socket, and one end of a transfer for the connection that it gets.
pub struct Peer {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    end: Option<End>,
    due: Option<Instant>,
}

impl Peer {
    pub fn new(end: End) -> Peer {
        let mut out = Outbox::new(FRAME);
        let config = Config::new(EthernetAddress([2, 0, 0, 0, 9, 9]).into());
        let mut interface = Interface::new(config, &mut Wire(None, &mut out), SmolInstant::ZERO);
        interface.update_ip_addrs(|list| {
            let own = IpCidr::new((*address().ip()).into(), PREFIX);
            list.push(own).expect("the list is empty");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        socket.listen(HTTP).expect("the socket is new");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Peer {
            interface,
            sockets,
            handle,
            end: Some(end),
            due: None,
        }
    }

    fn drive(&mut self, now: Instant, out: &mut Outbox) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        if socket.is_active()
            && let Some(end) = &mut self.end
            && end.poll(&mut Socket(socket)) == Next::Close
        {
            socket.close();
            self.end = None;
        }
        let mut wire = Wire(None, out);
        let sockets = &mut self.sockets;
        while self.interface.poll_egress(moment(now), &mut wire, sockets) != PollResult::None {}
        self.due = self
            .interface
            .poll_at(moment(now), sockets)
            .map(|at| Instant::from_micros(at.total_micros() as u64));
    }
}

impl Node for Peer {
    fn handle_frame(&mut self, now: Instant, _: usize, frame: &[u8], out: &mut Outbox) {
        let mut wire = Wire(Some(frame), out);
        self.interface
            .poll_ingress_single(moment(now), &mut wire, &mut self.sockets);
        self.drive(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.drive(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

fn moment(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(now.as_micros() as i64)
}

/// A received frame, and where frames go.
struct Wire<'a>(Option<&'a [u8]>, &'a mut Outbox);

struct Received<'a>(&'a [u8]);

struct Sending<'a>(&'a mut Outbox);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut result = None;
        self.0.build(0, |buffer| {
            result = Some(fill(&mut buffer[..len]));
            Some(len)
        });
        result.expect("the outbox has called it")
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received<'_>, Sending<'_>)> {
        self.0
            .take()
            .map(|frame| (Received(frame), Sending(self.1)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sending<'_>> {
        Some(Sending(self.1))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

struct Socket<'a>(&'a mut tcp::Socket<'static>);

impl Stream for Socket<'_> {
    fn readable(&mut self) -> &[u8] {
        self.0.peek(usize::MAX).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        let _ = self.0.recv(|bytes| (n.min(bytes.len()), ()));
    }

    fn is_finished(&mut self) -> bool {
        self.0.peek(1) == Err(tcp::RecvError::Finished)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        self.0.send_slice(data).unwrap_or(0)
    }

    fn shutdown(&mut self) {
        self.0.close();
    }
}
