//! Small frames by hand: a SYN, a segment of a server, and the hand-over between two servers.

use ipos_proto::{ConnectionInfo, ControlBlock, FrameType, Header, Protocol};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::*;

const A: LanId = LanId(0);
const B: LanId = LanId(1);

/// The control block of `wire.md`.
const CONTROL: &str = "01020007000000010707000005a405a4112233441122334511223345112233450000fb00a0000001\
    112233450000fb0000003868ffffffff11223344a0000000a00000010000ffffa0010000a0000001\
    00000352000001a900030d4000000316000003e80000000300005000000000000000000200000000\
    0000000000000000000000000000000000000000";

fn control_block() -> ControlBlock {
    let digits: Vec<u8> = CONTROL
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect();
    ControlBlock::parse(&bytes).unwrap()
}

struct Bench {
    check: OneOwner,
}

fn client() -> SocketAddrV4 {
    "10.77.0.100:4000".parse().unwrap()
}

fn server(index: usize) -> ServerAddresses {
    ServerAddresses::of(index)
}

fn packet(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    control: TcpControl,
    sequence: i32,
) -> Vec<u8> {
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
    let (source, destination) = (
        IpAddress::from(*source.ip()),
        IpAddress::from(*destination.ip()),
    );
    tcp.emit(
        &mut segment,
        &source,
        &destination,
        &ChecksumCapabilities::default(),
    );
    bytes
}

fn frame(destination: MacAddr, source: MacAddr, ethertype: u16, rest: &[u8]) -> Vec<u8> {
    [
        &Ethernet {
            destination,
            source,
            ethertype,
        }
        .to_bytes()[..],
        rest,
    ]
    .concat()
}

impl Bench {
    fn new() -> Bench {
        Bench {
            check: OneOwner::new(A, B, (0..3).map(NodeId)),
        }
    }

    fn syn(&mut self, isn: i32) {
        let bytes = packet(client(), server(0).http(), TcpControl::Syn, isn);
        let frame = frame(server(0).a.0, MacAddr([2, 0, 0, 0, 0, 9]), IPV4, &bytes);
        self.check.delivered(&Sighting {
            now: Instant::ZERO,
            lan: A,
            node: NodeId(0),
            frame: &frame,
        });
    }

    /// Server `from` transmits data to the client; how many violations there are then.
    fn speaks(&mut self, from: usize) -> u64 {
        self.sends(from, TcpControl::Psh);
        self.check.count()
    }

    fn sends(&mut self, from: usize, control: TcpControl) {
        let bytes = packet(server(0).http(), client(), control, 7);
        let frame = frame(MacAddr([2, 0, 0, 0, 0, 9]), server(from).a.0, IPV4, &bytes);
        self.check.sent(&Sighting {
            now: Instant::ZERO,
            lan: A,
            node: NodeId(from),
            frame: &frame,
        });
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
        self.check.sent(&Sighting {
            now: Instant::ZERO,
            lan: B,
            node: NodeId(from),
            frame: &frame,
        });
        self.check.delivered(&Sighting {
            now: Instant::ZERO,
            lan: B,
            node: NodeId(to),
            frame: &frame,
        });
    }

    fn offer(&mut self, from: usize, to: usize) {
        let connection = ConnectionInfo::Tcp {
            first: server(0).http(),
            control: control_block(),
        };
        self.passes(
            from,
            to,
            FrameType::Endpoint,
            Message::Endpoint {
                connection,
                trailer: None,
            },
        );
    }

    fn accept(&mut self, from: usize, to: usize) {
        self.passes(
            from,
            to,
            FrameType::Acknowledgement,
            Message::Acknowledgement { trailer: None },
        );
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

#[test]
fn the_first_server_may_speak_others_may_not() {
    let mut bench = Bench::new();
    assert_eq!(bench.speaks(1), 0, "nothing is known of the flow");
    bench.syn(1);
    assert_eq!(bench.speaks(0), 0);
    assert_eq!(bench.speaks(1), 1);
    assert_eq!(bench.speaks(0), 1, "and the first one still may");
    let violation = &bench.check.violations()[0];
    assert_eq!((violation.server, violation.owner), (1, Some(0)));
    assert_eq!(violation.flow, Flow::tcp(client(), server(0).http()));
}

#[test]
fn ownership_follows_the_first_packet() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.offer(0, 1);
    bench.accept(1, 0);
    assert_eq!(bench.speaks(0), 0, "installed, but without a packet");
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 0);
    assert_eq!(bench.speaks(0), 1, "handed over");
    assert_eq!(bench.speaks(2), 2);
}

#[test]
fn a_packet_without_an_answered_offer_gives_nothing() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.offer(0, 1);
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_connection_may_come_home_and_go_to_a_third() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 0);
    bench.offer(1, 0);
    assert_eq!(bench.speaks(0), 1, "not before its acknowledgement");
    bench.accept(0, 1);
    assert_eq!(bench.speaks(0), 1);
    assert_eq!(bench.speaks(1), 2, "no more");
    bench.hand_over(0, 2);
    assert_eq!(bench.speaks(2), 2);
}

#[test]
fn after_release_there_is_nothing_but_rst() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 0);
    bench.passes(0, 1, FrameType::Release, Message::Release { trailer: None });
    assert_eq!(
        bench.speaks(1),
        0,
        "it was not the first server's to release"
    );
    bench.passes(1, 0, FrameType::Release, Message::Release { trailer: None });
    bench.sends(0, TcpControl::Rst);
    assert_eq!(bench.check.count(), 0);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late 0x01 brought it back");
}

#[test]
fn an_owner_that_never_spoke_may_release_too() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    let release = Message::Release { trailer: None };
    bench.passes(1, 0, FrameType::Release, release);
    bench.sends(0, TcpControl::Rst);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_crash_and_a_new_connection_free_the_flow() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.hand_over(0, 1);
    bench.syn(2);
    assert_eq!(bench.speaks(0), 1, "a repeated SYN changes nothing");
    bench.syn(3);
    assert_eq!(bench.speaks(0), 1);

    bench.hand_over(0, 1);
    bench.check.crashed(Instant::ZERO, NodeId(0));
    assert_eq!(bench.speaks(0), 1, "the first server forgot");
}
