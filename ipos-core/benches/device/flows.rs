//! Connections that another server has: a device that forwards them, and their clients' packets.

use etherparse::{ArpOperation, PacketBuilder, TcpSlice};
use ipos_core::{Config, Device, Instant, ListenerId, Port};
use ipos_proto::{
    ETHERNET_LEN, Ethernet, Frame, Header, MacAddr, Message, SeqNum, Trailer, TrailerFlags,
};

use crate::common::{CLIENT, CLIENT_MAC, Farm, arp_frame, config, port_a};

/// Ports that each client uses.
const PORTS: u32 = 32;
/// Sequence number of the SYNs.
const SEQ: u32 = 100;
/// Where the source address, the source port and the window stand in a frame.
const SOURCE: usize = ETHERNET_LEN + 12;
const SOURCE_PORT: usize = ETHERNET_LEN + 20;
const WINDOW: usize = ETHERNET_LEN + 34;

/// A frame whose flow can be changed and whose checksums stay right: the halves of the source address always have the same
/// sum, and so have source port and window.
pub struct Template(pub Vec<u8>);

impl Template {
    /// A SYN to a Port A with this hardware address, or a segment behind it with this ACK.
    pub fn new(to: MacAddr, ack: Option<u32>, payload: &[u8]) -> Template {
        // 100.0.155.0, from port 1000: what one half gets the other one loses.
        let builder = PacketBuilder::ethernet2(CLIENT_MAC.0, to.0)
            .ipv4([100, 0, 155, 0], port_a(0).octets(), 64)
            .tcp(1000, 80, SEQ + u32::from(ack.is_some()), 64_000);
        let builder = match ack {
            Some(ack) => builder.ack(ack),
            None => builder.syn(),
        };
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a short frame");
        Template(frame)
    }

    /// The frame for flow `number`.
    pub fn frame(&mut self, number: u32) -> &[u8] {
        let (client, port) = ((number / PORTS) as u16, (number % PORTS) as u16);
        let frame = &mut self.0;
        let mut put = |at: usize, value: u16| {
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        let shift = |from: u16, by: u16| {
            // Ones' complement: 0xffff is 0.
            let sum = u32::from(from) + u32::from(by);
            (sum % 0xffff) as u16
        };
        put(SOURCE, shift(0x6400, client));
        put(SOURCE + 2, shift(0x9b00, 0xffff - client));
        put(SOURCE_PORT, 1000 + port);
        put(WINDOW, 64_000 - port);
        frame
    }
}

/// A device whose clients' connections all go to another server.
pub struct Giver {
    pub device: Device,
    pub now: Instant,
}

/// Such a device, and the other server's; `change` makes their configurations other than the usual ones.
pub fn pair(change: impl Fn(u8, &mut Config)) -> (Giver, Device) {
    let mut farm = Farm::with(2, |server, config| {
        // All clients are behind a router.
        config.port_a.gateway = Some(CLIENT);
        config.limits.forward = 2_000_000;
        change(server, config);
    });
    let asked = arp_frame(ArpOperation::REQUEST, MacAddr::BROADCAST, CLIENT, port_a(0));
    farm.deliver(0, Port::A, &asked);
    farm.pump();
    let now = farm.now;
    let (mut device, other) = (farm.devices.swap_remove(0), farm.devices.swap_remove(0));
    device.set_available(now, ListenerId(0), false);
    (Giver { device, now }, other)
}

impl Giver {
    /// Flow `number` is opened and asks for something: the 0x01.
    pub fn offer(&mut self, number: u32) -> Vec<u8> {
        let Giver { device, now } = self;
        let to = device.config().port_a.hardware;
        let mut buf = [0; 1514];
        device.handle_frame(*now, Port::A, Template::new(to, None, &[]).frame(number));
        let len = device.poll_transmit(*now, Port::A, &mut buf);
        let syn_ack = TcpSlice::from_slice(&buf[34..len.expect("a SYN-ACK")]);
        let ack = syn_ack.expect("a segment").sequence_number() + 1;
        let mut request = Template::new(to, Some(ack), b"x");
        device.handle_frame(*now, Port::A, request.frame(number));
        while device.poll_transmit(*now, Port::A, &mut buf).is_some() {}
        let len = device.poll_transmit(*now, Port::B, &mut buf);
        buf[..len.expect("a 0x01")].to_vec()
    }

    /// A 0x03 comes.
    pub fn answered(&mut self, frame: &[u8]) {
        let Giver { device, now } = self;
        device.handle_frame(*now, Port::B, frame);
        while device
            .poll_transmit(*now, Port::B, &mut [0; 1514])
            .is_some()
        {}
        while device.poll_event().is_some() {}
    }
}

/// A device that has forwarded so many connections to another server, whose part is played here.
pub fn forwarding(flows: u32, change: impl Fn(u8, &mut Config)) -> (Device, Instant) {
    let (mut giver, _) = pair(change);
    for flow in 0..flows {
        let offer = giver.offer(flow);
        // It is installed; what was kept for it has come.
        giver.answered(&acknowledgement(&offer, 2 * flow, false));
        giver.answered(&acknowledgement(&offer, 2 * flow + 1, true));
    }
    let Giver { device, now } = giver;
    let tables = device.tables().into_iter();
    let mut forward = tables.filter(|table| table.name == "forward");
    let forward = forward.next().map(|table| table.len);
    assert_eq!(forward, Some(flows as usize));
    (device, now)
}

/// The 0x03 that answers a 0x01, or that covers the request.
fn acknowledgement(offer: &[u8], number: u32, covers: bool) -> Vec<u8> {
    let (ethernet, rest) = Ethernet::parse(offer).expect("a frame");
    let Frame { header, message } = Frame::parse(rest).expect("a frame of ours");
    let trailer = Trailer {
        flags: match covers {
            true => TrailerFlags::RCV_NXT,
            false => TrailerFlags::empty(),
        },
        epoch: message.trailer().expect("a trailer").epoch,
        rcv_nxt: SeqNum::new(if covers { SEQ + 2 } else { 0 }),
        incarnation: 1,
        // Later than what it has said so far.
        number: 1_000 + number,
        tag: None,
    };
    let message = Message::Acknowledgement {
        trailer: Some(trailer),
    };
    let header = Header {
        destination: config(0).port_b.address,
        port: 80,
        frame_type: message.frame_type(),
        ..header
    };
    let answer = Frame { header, message };
    let mut bytes = vec![0; ETHERNET_LEN + answer.frame_len()];
    let back = Ethernet {
        destination: ethernet.source,
        source: ethernet.destination,
        ..ethernet
    };
    bytes[..ETHERNET_LEN].copy_from_slice(&back.to_bytes());
    let emitted = answer.emit(&mut bytes[ETHERNET_LEN..]);
    emitted.expect("room for the frame");
    bytes
}

/// Numbers below `flows` in no order.
pub fn shuffled(flows: u32) -> impl FnMut() -> u32 {
    let mut state = 1u64;
    move || {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((state >> 32) * u64::from(flows)) >> 32) as u32
    }
}
