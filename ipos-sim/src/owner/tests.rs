//! Small frames by hand: a SYN, a segment of a server, and the hand-over between two servers.

use ipos_proto::{FrameType, Header, Protocol, Trailer};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::*;

const A: LanId = LanId(0);
const B: LanId = LanId(1);

struct Bench {
    check: OneOwner,
}

fn client() -> SocketAddrV4 {
    "10.77.0.100:4000".parse().unwrap()
}

fn server(index: usize) -> ServerAddresses {
    ServerAddresses::of(index)
}

fn packet(source: SocketAddrV4, destination: SocketAddrV4, control: TcpControl, sequence: i32) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control,
        seq_number: TcpSeqNumber(sequence),
        ack_number: (control != TcpControl::Syn).then_some(TcpSeqNumber(1)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None::<TcpTimestampRepr>,
        payload: b"",
    };
    let ip = Ipv4Repr {
        src_addr: *source.ip(),
        dst_addr: *destination.ip(),
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + tcp.buffer_len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
    let (source, destination) = (IpAddress::from(*source.ip()), IpAddress::from(*destination.ip()));
    tcp.emit(&mut segment, &source, &destination, &ChecksumCapabilities::default());
    bytes
}

fn frame(destination: MacAddr, source: MacAddr, ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [&Ethernet { destination, source, ethertype }.to_bytes()[..], rest].concat()
}

impl Bench {
    fn new() -> Bench {
        Bench { check: OneOwner::new(A, B, (0..3).map(NodeId)) }
    }

    fn syn(&mut self, isn: i32) {
        let bytes = packet(client(), server(0).http(), TcpControl::Syn, isn);
        let frame = frame(server(0).a.0, MacAddr([2, 0, 0, 0, 0, 9]), IPV4, &bytes);
        self.check.delivered(&Sighting { now: Instant::ZERO, lan: A, node: NodeId(0), frame: &frame });
    }

    /// Server `from` transmits to the client; how many violations there are then.
    fn speaks(&mut self, from: usize) -> u64 {
        let bytes = packet(server(0).http(), client(), TcpControl::Psh, 7);
        let frame = frame(MacAddr([2, 0, 0, 0, 0, 9]), server(from).a.0, IPV4, &bytes);
        self.check.sent(&Sighting { now: Instant::ZERO, lan: A, node: NodeId(from), frame: &frame });
        self.check.count()
    }

    /// A frame on Port B is sent, and arrives.
    fn passes(&mut self, from: usize, to: usize, frame_type: FrameType, message: Message<'_>) {
        let header = Header {
            client: client(),
            destination: server(to).b.1,
            port: 80,
            frame_type,
            protocol: Protocol::Tcp,
        };
        let mut bytes = [0; 400];
        let len = Frame { header, message }.emit(&mut bytes).unwrap();
        let frame = frame(server(to).b.0, server(from).b.0, ETHERTYPE, &bytes[..len]);
        self.check.sent(&Sighting { now: Instant::ZERO, lan: B, node: NodeId(from), frame: &frame });
        self.check.delivered(&Sighting { now: Instant::ZERO, lan: B, node: NodeId(to), frame: &frame });
    }

    fn offer(&mut self, from: usize, to: usize) {
        let vector = "0000c0002233445500000000"; // any control block that parses
        let _ = vector;
        let connection = ipos_proto::ConnectionInfo::Tcp { first: server(0).http(), control: control_block() };
        self.passes(from, to, FrameType::Endpoint, Message::Endpoint { connection, trailer: None });
    }

    fn accept(&mut self, from: usize, to: usize) {
        self.passes(from, to, FrameType::Acknowledgement, Message::Acknowledgement { trailer: None::<Trailer> });
    }

    fn replay(&mut self, from: usize, to: usize) {
        let bytes = packet(client(), server(0).http(), TcpControl::Psh, 8);
        self.passes(from, to, FrameType::Packet, Message::Packet(&bytes));
    }

    fn hand_over(&mut self, from: usize, to: usize) {
        self.offer(from, to);
        self.accept(to, from);
        self.replay(from, to);
    }
}
