//! A server that runs smoltcp instead of a device.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::Instant;
use ipos_sim::addresses::{HTTP, PREFIX};
use ipos_sim::wire::{Socket, Wire, instant, moment};
use ipos_sim::{Next, Node, Outbox};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
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
        let mut wire = Wire::new(Instant::ZERO, None, &mut out, FRAME);
        let mut interface = Interface::new(config, &mut wire, moment(Instant::ZERO));
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
        let mut wire = Wire::new(now, None, out, FRAME);
        let sockets = &mut self.sockets;
        while self.interface.poll_egress(moment(now), &mut wire, sockets) != PollResult::None {}
        self.due = self.interface.poll_at(moment(now), sockets).map(instant);
    }
}

impl Node for Peer {
    fn handle_frame(&mut self, now: Instant, _: usize, frame: &[u8], out: &mut Outbox) {
        let mut wire = Wire::new(now, Some(frame), out, FRAME);
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
