//! Small frames by hand: a SYN, a segment of a server, and the hand-over between two servers.

use std::time::Duration;

use ipos_proto::{ControlBlock, Epoch, FrameType, Protocol, SeqNum, Trailer};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber,
    TcpTimestampRepr,
};

use super::*;

const A: LanId = LanId(0);
const B: LanId = LanId(1);

/// A control block, field by field.
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

/// What a host other than the servers has.
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn at(lan: LanId, node: usize, frame: &[u8]) -> Sighting<'_> {
    Sighting {
        now: Instant::ZERO,
        lan,
        node: NodeId(node),
        frame,
    }
}

/// A packet of a client's that has begun with this number.
fn data(isn: i32) -> Vec<u8> {
    packet(
        client(),
        server(0).http(),
        TcpControl::Psh,
        isn + 6,
        Some(1),
    )
}

struct Bench {
    check: OneOwner,
    /// The client's initial sequence number.
    isn: i32,
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
    acknowledgment: Option<i32>,
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control,
        seq_number: TcpSeqNumber(sequence),
        ack_number: acknowledgment.map(TcpSeqNumber),
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
            isn: 0,
            epoch: 0,
        }
    }

    /// The first server gets a SYN, and does not answer it.
    fn syn_comes(&mut self, isn: i32) {
        let bytes = packet(client(), server(0).http(), TcpControl::Syn, isn, None);
        let frame = frame(server(0).a.0, HOST, IPV4, &bytes);
        self.check.delivered(&at(A, 0, &frame));
    }

    /// The first server answers a SYN.
    fn opens(&mut self, isn: i32) {
        self.isn = isn;
        self.sends(0, TcpControl::Syn, isn + 1);
    }

    /// A connection begins.
    fn syn(&mut self, isn: i32) {
        self.syn_comes(isn);
        self.opens(isn);
    }

    /// Server `from` transmits data to the client; how many violations there are then.
    fn speaks(&mut self, from: usize) -> u64 {
        self.sends(from, TcpControl::Psh, self.isn + 1);
        self.check.count()
    }

    fn resets(&mut self, from: usize) {
        self.sends(from, TcpControl::Rst, self.isn + 1);
    }

    fn sends(&mut self, from: usize, control: TcpControl, acknowledgment: i32) {
        let (source, acknowledgment) = (server(0).http(), Some(acknowledgment));
        let bytes = packet(source, client(), control, 7, acknowledgment);
        let frame = frame(HOST, server(from).a.0, IPV4, &bytes);
        self.check.sent(&at(A, from, &frame));
    }

    /// A frame on Port B is sent, and arrives.
    fn passes(&mut self, from: usize, to: usize, frame_type: FrameType, message: Message<'_>) {
        let frame = self.goes(from, to, frame_type, message);
        self.check.delivered(&at(B, to, &frame));
    }

    /// A 0x02 that does not arrive.
    fn leaves(&mut self, from: usize, to: usize) {
        let bytes = data(self.isn);
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
        self.check.sent(&at(B, from, &frame));
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
                irs: SeqNum::new(self.isn as u32),
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

    /// The first server is told who the owner is.
    fn moved(&mut self, owner: usize) {
        let target = SocketAddrV4::new(server(owner).b.1, 80);
        let trailer = Trailer {
            epoch: Epoch::new(self.epoch),
            ..Trailer::default()
        };
        let message = Message::Moved {
            target,
            trailer: Some(trailer),
        };
        self.passes(owner, 0, FrameType::Moved, message);
    }

    fn lost(&self) -> bool {
        let flow = Flow::tcp(client(), server(0).http());
        !self.check.bereavements(&flow).is_empty()
    }

    fn crash(&mut self, server: usize) {
        self.check.crashed(Instant::ZERO, NodeId(server));
    }

    fn replay(&mut self, from: usize, to: usize) {
        let bytes = data(self.isn);
        self.passes(from, to, FrameType::Packet, Message::Packet(&bytes));
    }

    /// An offer that is answered.
    fn agree(&mut self, from: usize, to: usize) {
        self.offer(from, to);
        self.accept(to, from);
    }

    fn hand_over(&mut self, from: usize, to: usize) {
        self.agree(from, to);
        self.replay(from, to);
    }

    /// The same, and the new owner speaks.
    fn move_to(&mut self, from: usize, to: usize) {
        self.hand_over(from, to);
        assert_eq!(self.speaks(to), 0);
    }

    fn release(&mut self, from: usize, to: usize) {
        self.passes(
            from,
            to,
            FrameType::Release,
            Message::Release { trailer: None },
        );
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
    bench.agree(0, 1);
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
    bench.move_to(0, 1);
    bench.agree(1, 0);
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
    bench.move_to(0, 1);
    bench.agree(1, 2);
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
    bench.move_to(0, 1);
    bench.move_to(1, 0);
    bench.offer_again(0, 1, 1);
    bench.accept(1, 0);
    bench.replay(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late copy of the first offer");
}

#[test]
fn after_release_there_is_nothing_but_rst() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.move_to(0, 1);
    bench.release(0, 1);
    assert_eq!(
        bench.speaks(1),
        0,
        "it was not the first server's to release"
    );
    bench.release(1, 0);
    bench.resets(0);
    assert_eq!(bench.check.count(), 0);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 1, "a late 0x01 brought it back");
}

#[test]
fn an_owner_that_never_spoke_may_release_too() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.hand_over(0, 1);
    bench.release(1, 0);
    bench.resets(0);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_port_is_used_again() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.syn(2);
    assert_eq!(
        bench.check.count(),
        1,
        "a repeated SYN is not answered here"
    );
    bench.syn_comes(1 << 30);
    assert_eq!(bench.speaks(1), 1, "the owner goes on");
    bench.opens(1 << 30);
    assert_eq!(bench.check.count(), 2, "the former one has not ended");
    assert_eq!(bench.speaks(0), 2);

    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.release(1, 0);
    bench.syn_comes(1 << 30);
    bench.replay(0, 1);
    bench.opens(1 << 30);
    assert_eq!(bench.speaks(0), 0, "the SYN was passed on before");
    assert_eq!(bench.speaks(1), 1);
    bench.hand_over(0, 1);
    assert_eq!(bench.speaks(1), 1);
}

#[test]
fn a_crash_frees_the_connection() {
    let mut bench = Bench::new();
    bench.syn(2);
    bench.move_to(0, 1);
    bench.crash(0);
    assert_eq!(bench.speaks(0), 0, "the first server forgot");
    bench.syn(1 << 30);
    assert_eq!(bench.speaks(1), 1, "of the new one");
    bench.isn = 2;
    assert_eq!(bench.speaks(1), 1, "of the old one");
}

#[test]
fn an_owner_that_is_not_heard_may_be_given_up() {
    let limits = Limits {
        owner_lost: Some(Duration::from_millis(10)),
        ..Limits::default()
    };
    for (moment, count) in [(9, 1), (10, 0)] {
        let mut bench = Bench::new();
        bench.check = bench.check.with_limits(LanId(2), &limits);
        bench.syn(2);
        bench.move_to(0, 1);
        let bytes = packet(server(0).http(), client(), TcpControl::Rst, 7, Some(3));
        let frame = frame(HOST, server(0).a.0, IPV4, &bytes);
        bench.check.sent(&Sighting {
            now: Instant::from_millis(moment),
            ..at(A, 0, &frame)
        });
        assert_eq!((bench.check.count(), bench.lost()), (count, count == 0));
    }
}

#[test]
fn datagrams_are_answered_by_one_server() {
    let mut flows = DatagramFlows::default();
    flows.idle = Duration::from_secs(1);
    let (now, endpoint) = (Instant::ZERO, server(0).echo());
    let flow = Flow::udp(client(), endpoint);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));
    assert_eq!(flows.answers(now, &flow, 1, false), Err(None));
    flows.takes(1, client(), endpoint);
    assert_eq!(flows.forwards(now, flow, 1), None);
    assert_eq!(flows.answers(now, &flow, 1, false), Err(Some(1)), "not yet");
    flows.reach(flow, 1);
    assert_eq!(flows.answers(now, &flow, 1, false), Ok(()));
    assert_eq!(flows.answers(now, &flow, 0, true), Err(Some(1)));
    assert_eq!(flows.forwards(now, flow, 2), Some(1), "two owners");

    flows.takes(2, client(), endpoint);
    flows.forwards(now, flow, 2);
    flows.released(1, client(), endpoint);
    assert_eq!(
        flows.answers(now, &flow, 0, true),
        Err(Some(2)),
        "not its to release"
    );
    flows.released(2, client(), endpoint);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));

    flows.takes(2, client(), endpoint);
    flows.forwards(now, flow, 2);
    assert_eq!(
        flows.answers(now + flows.idle, &flow, 0, true),
        Ok(()),
        "idle"
    );
    flows.crashed(2, |_| false);
    assert_eq!(flows.answers(now, &flow, 0, true), Ok(()));

    flows.comes(now, flow);
    let later = Instant::from_millis(300);
    flows.takes(1, client(), endpoint);
    flows.forwards(later, flow, 1);
    assert_eq!(
        flows.answers(later, &flow, 0, true),
        Ok(()),
        "waited for ARP"
    );
    flows.crashed(1, |_| false);
    flows.forwards(now, flow, 2);
    assert_eq!(
        flows.answers(now, &flow, 0, true),
        Ok(()),
        "it does not know of it"
    );
}

#[test]
fn a_crash_is_remembered_where_the_connection_needed_the_server() {
    /// What happens, who crashes then, and whether the connection is lost by it.
    type Case = (fn(&mut Bench), usize, bool);
    fn taken(bench: &mut Bench) {
        bench.hand_over(0, 1);
    }
    fn between(bench: &mut Bench) {
        bench.move_to(0, 1);
        bench.agree(1, 2);
        bench.leaves(1, 2);
    }
    fn moved_on(bench: &mut Bench) {
        bench.move_to(0, 1);
        bench.move_to(1, 2);
    }
    let cases: [Case; 10] = [
        (|_| {}, 1, false),
        (taken, 1, true),
        (taken, 2, false),
        // The offer is not answered, or the answer is under way.
        (|bench| bench.offer(0, 1), 1, false),
        (|bench| bench.agree(0, 1), 1, false),
        (between, 1, true),
        (between, 2, true),
        // The first server takes its former owner for the owner, until it is told, and knows who tells it.
        (moved_on, 1, true),
        (
            |bench| {
                moved_on(bench);
                bench.moved(2);
            },
            1,
            true,
        ),
        (
            |bench| {
                moved_on(bench);
                bench.moved(2);
                bench.accept(0, 2);
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
    bench.agree(0, 1);
    bench.crash(1);
    assert!(!bench.lost());
    bench.replay(0, 1);
    assert!(
        bench.lost(),
        "handed over to a server that has forgotten it"
    );
    bench.resets(0);
    assert_eq!(bench.check.count(), 0);
}

#[test]
fn a_packet_that_came_corrupt_gives_nothing() {
    let mut bench = Bench::new();
    bench.syn(1);
    bench.agree(0, 1);
    let mut bytes = data(2);
    // The window, which the client's checksum covers.
    bytes[34] ^= 1;
    bench.passes(0, 1, FrameType::Packet, Message::Packet(&bytes));
    assert_eq!(bench.speaks(1), 1);
}
