//! Small frames by hand: a SYN, a segment of a server, and the hand-over between two servers.

use ipos_proto::{ControlBlock, Epoch, FrameType, Protocol, Trailer};
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
    /// That of the last offer.
    epoch: u32,
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
            epoch: 0,
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
        let frame = self.goes(from, to, frame_type, message);
        self.check.delivered(&Sighting {
            now: Instant::ZERO,
            lan: B,
            node: NodeId(to),
            frame: &frame,
        });
    }

    /// A 0x02 that does not arrive.
    fn leaves(&mut self, from: usize, to: usize) {
        let bytes = packet(client(), server(0).http(), TcpControl::Psh, 8);
        self.goes(from, to, FrameType::Packet, Message::Packet(&bytes));
    }

    /// A frame on Port B is sent.
    fn goes(
        &mut self,
        from: usize,
        to: usize,
        frame_type: FrameType,
        message: Message<'_>,
    ) -> Vec<u8> {
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
        frame
    }

    /// Each offer has an epoch of its own.
    fn offer(&mut self, from: usize, to: usize) {
        self.epoch += 1;
        self.offer_again(from, to, self.epoch);
    }

    fn offer_again(&mut self, from: usize, to: usize, epoch: u32) {
        let connection = ConnectionInfo::Tcp {
            first: server(0).http(),
            control: ControlBlock {
                epoch: Epoch::new(epoch),
                ..control_block()
            },
        };
        let message = Message::Endpoint {
            connection,
            trailer: None,
        };
        self.passes(from, to, FrameType::Endpoint, message);
    }

    /// Answers the last offer.
    fn accept(&mut self, from: usize, to: usize) {
        let trailer = Trailer {
            epoch: Epoch::new(self.epoch),
            ..Trailer::default()
        };
        let message = Message::Acknowledgement {
            trailer: Some(trailer),
        };
        self.passes(from, to, FrameType::Acknowledgement, message);
    }

    /// The first server learns who the owner is.
    fn moved(&mut self, owner: usize) {
        let target = SocketAddrV4::new(server(owner).b.1, 80);
        let message = Message::Moved {
            target,
            trailer: None,
        };
        self.passes(owner, 0, FrameType::Moved, message);
    }

    fn lost(&self) -> bool {
        self.check
            .is_bereaved(&Flow::tcp(client(), server(0).http()))
    }

    fn crash(&mut self, server: usize) {
        self.check.crashed(Instant::ZERO, NodeId(server));
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
    bench.accept(0, 1);
    assert_eq!(bench.speaks(0), 1, "not before its owner's packet");
    bench.replay(1, 0);
    assert_eq!(bench.speaks(0), 1);
    assert_eq!(bench.speaks(1), 2, "no more");
    bench.hand_over(0, 2);
    assert_eq!(bench.speaks(2), 2);
    bench.hand_over(2, 1);
    assert_eq!(bench.speaks(1), 2);
    bench.replay(0, 2);
    assert_eq!(bench.speaks(2), 3, "its offer was used up");
}

#[test]
fn only_the_giver_hands_over() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 0);
    bench.offer(1, 2);
    bench.accept(2, 1);
    bench.replay(0, 2);
    assert_eq!(bench.speaks(2), 1, "the first server does not know");
    assert_eq!(bench.speaks(1), 1, "the owner still is");
    bench.replay(1, 2);
    assert_eq!(bench.speaks(2), 1);
}

#[test]
fn an_offer_counts_once() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 0);
    bench.hand_over(1, 0);
    assert_eq!(bench.speaks(0), 0);
    bench.offer_again(0, 1, 1);
    bench.accept(1, 0);
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late copy of the first offer");
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
    bench.crash(0);
    assert_eq!(bench.speaks(0), 1, "the first server forgot");
}

#[test]
fn a_crash_is_remembered_where_the_connection_needed_the_server() {
    /// What happens, who crashes then, and whether the connection is lost by it.
    type Case = (fn(&mut Bench), usize, bool);
    let cases: [Case; 9] = [
        (|_| {}, 1, false),
        (|bench| bench.hand_over(0, 1), 1, true),
        (|bench| bench.hand_over(0, 1), 2, false),
        // The offer is not answered, or the answer is under way.
        (|bench| bench.offer(0, 1), 1, false),
        (
            |bench| {
                bench.offer(0, 1);
                bench.accept(1, 0);
            },
            1,
            false,
        ),
        // Between two owners.
        (
            |bench| {
                bench.hand_over(0, 1);
                bench.speaks(1);
                bench.offer(1, 2);
                bench.accept(2, 1);
                bench.leaves(1, 2);
            },
            1,
            true,
        ),
        (
            |bench| {
                bench.hand_over(0, 1);
                bench.speaks(1);
                bench.offer(1, 2);
                bench.accept(2, 1);
                bench.leaves(1, 2);
            },
            2,
            true,
        ),
        // The first server takes its former owner for the owner, until it is told.
        (
            |bench| {
                bench.hand_over(0, 1);
                bench.speaks(1);
                bench.hand_over(1, 2);
                bench.speaks(2);
            },
            1,
            true,
        ),
        (
            |bench| {
                bench.hand_over(0, 1);
                bench.speaks(1);
                bench.hand_over(1, 2);
                bench.speaks(2);
                bench.moved(2);
            },
            1,
            false,
        ),
    ];
    for (number, (prepare, crashed, lost)) in cases.into_iter().enumerate() {
        let mut bench = Bench::new();
        bench.syn(1);
        prepare(&mut bench);
        assert_eq!(bench.check.count(), 0, "case {number}");
        bench.crash(crashed);
        assert_eq!(bench.lost(), lost, "case {number}");
    }
}

#[test]
fn an_answer_may_outlive_its_server() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.offer(0, 1);
    bench.accept(1, 0);
    bench.crash(1);
    assert!(!bench.lost());
    bench.replay(0, 1);
    assert!(
        bench.lost(),
        "handed over to a server that has forgotten it"
    );
    bench.sends(0, TcpControl::Rst);
    assert_eq!(bench.check.count(), 0);
}

#[test]
fn a_packet_that_came_corrupt_gives_nothing() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.offer(0, 1);
    bench.accept(1, 0);
    let mut bytes = packet(client(), server(0).http(), TcpControl::Psh, 8);
    // The window, which the client's checksum covers.
    bytes[34] ^= 1;
    bench.passes(0, 1, FrameType::Packet, Message::Packet(&bytes));
    assert_eq!(bench.speaks(1), 1);
}
