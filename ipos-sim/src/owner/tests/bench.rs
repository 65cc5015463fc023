//! Small frames by hand: a SYN, a segment of a server, and the hand-over between two servers.

use ipos_proto::{ControlBlock, Epoch, FrameType, Protocol, SeqNum, Trailer};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber,
    TcpTimestampRepr,
};

use crate::owner::*;

pub(super) const A: LanId = LanId(0);
pub(super) const B: LanId = LanId(1);

/// A control block, field by field.
const CONTROL: &str = "01020007000000010707000005a405a4112233441122334511223345112233450000fb00a0000001\
    112233450000fb0000003868ffffffff11223344a0000000a00000010000ffffa0010000a0000001\
    00000352000001a900030d4000000316000003e80000000300005000000000000000000200000000\
    0000000000000000000000000000000000000000";

pub(super) fn control_block() -> ControlBlock {
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
pub(super) const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

pub(super) fn at(lan: LanId, node: usize, frame: &[u8]) -> Sighting<'_> {
    Sighting {
        now: Instant::ZERO,
        lan,
        node: NodeId(node),
        frame,
    }
}

/// A packet of a client's that has begun with this number.
pub(super) fn data(isn: i32) -> Vec<u8> {
    packet(
        client(),
        server(0).http(),
        TcpControl::Psh,
        isn + 6,
        Some(1),
    )
}

pub(super) struct Bench {
    pub(super) check: OneOwner,
    /// The client's initial sequence number.
    pub(super) isn: i32,
    /// That of the last offer.
    pub(super) epoch: u32,
}

pub(super) fn client() -> SocketAddrV4 {
    "10.77.0.100:4000".parse().unwrap()
}

pub(super) fn server(index: usize) -> ServerAddresses {
    ServerAddresses::of(index)
}

pub(super) fn packet(
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

pub(super) fn frame(destination: MacAddr, source: MacAddr, ethertype: u16, rest: &[u8]) -> Vec<u8> {
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
    pub(super) fn new() -> Bench {
        Bench {
            check: OneOwner::new(A, B, (0..3).map(NodeId)),
            isn: 0,
            epoch: 0,
        }
    }

    /// The first server gets a SYN, and does not answer it.
    pub(super) fn syn_comes(&mut self, isn: i32) {
        let bytes = packet(client(), server(0).http(), TcpControl::Syn, isn, None);
        let frame = frame(server(0).a.0, HOST, IPV4, &bytes);
        self.check.delivered(&at(A, 0, &frame));
    }

    /// The first server answers a SYN.
    pub(super) fn opens(&mut self, isn: i32) {
        self.isn = isn;
        self.sends(0, TcpControl::Syn, isn + 1);
    }

    /// A connection begins.
    pub(super) fn syn(&mut self, isn: i32) {
        self.syn_comes(isn);
        self.opens(isn);
    }

    /// Server `from` transmits data to the client; how many violations there are then.
    pub(super) fn speaks(&mut self, from: usize) -> u64 {
        self.sends(from, TcpControl::Psh, self.isn + 1);
        self.check.count()
    }

    pub(super) fn resets(&mut self, from: usize) {
        self.sends(from, TcpControl::Rst, self.isn + 1);
    }

    pub(super) fn sends(&mut self, from: usize, control: TcpControl, acknowledgment: i32) {
        let (source, acknowledgment) = (server(0).http(), Some(acknowledgment));
        let bytes = packet(source, client(), control, 7, acknowledgment);
        let frame = frame(HOST, server(from).a.0, IPV4, &bytes);
        self.check.sent(&at(A, from, &frame));
    }

    /// A frame on Port B is sent, and arrives.
    pub(super) fn passes(
        &mut self,
        from: usize,
        to: usize,
        frame_type: FrameType,
        message: Message<'_>,
    ) {
        let frame = self.goes(from, to, frame_type, message);
        self.check.delivered(&at(B, to, &frame));
    }

    /// A 0x02 that does not arrive.
    pub(super) fn leaves(&mut self, from: usize, to: usize) {
        let bytes = data(self.isn);
        self.goes(from, to, FrameType::Packet, Message::Packet(&bytes));
    }

    /// A frame on Port B is sent.
    pub(super) fn goes(
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
    pub(super) fn offer(&mut self, from: usize, to: usize) {
        self.epoch += 1;
        self.offer_again(from, to, self.epoch);
    }

    pub(super) fn offer_again(&mut self, from: usize, to: usize, epoch: u32) {
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
    pub(super) fn accept(&mut self, from: usize, to: usize) {
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
    pub(super) fn moved(&mut self, owner: usize) {
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

    pub(super) fn lost(&self) -> bool {
        let flow = Flow::tcp(client(), server(0).http());
        !self.check.bereavements(&flow).is_empty()
    }

    pub(super) fn crash(&mut self, server: usize) {
        self.check.crashed(Instant::ZERO, NodeId(server));
    }

    pub(super) fn replay(&mut self, from: usize, to: usize) {
        let bytes = data(self.isn);
        self.passes(from, to, FrameType::Packet, Message::Packet(&bytes));
    }

    /// An offer that is answered.
    pub(super) fn agree(&mut self, from: usize, to: usize) {
        self.offer(from, to);
        self.accept(to, from);
    }

    pub(super) fn hand_over(&mut self, from: usize, to: usize) {
        self.agree(from, to);
        self.replay(from, to);
    }

    /// The same, and the new owner speaks.
    pub(super) fn move_to(&mut self, from: usize, to: usize) {
        self.hand_over(from, to);
        assert_eq!(self.speaks(to), 0);
    }

    pub(super) fn refuse(&mut self, from: usize, to: usize) {
        let message = Message::Refuse { trailer: None };
        self.passes(from, to, FrameType::Refuse, message);
    }

    /// It has no such connection.
    pub(super) fn knows_nothing(&mut self, from: usize, to: usize) {
        let trailer = Some(Trailer::default());
        self.passes(from, to, FrameType::Release, Message::Release { trailer });
    }

    pub(super) fn release(&mut self, from: usize, to: usize) {
        self.passes(
            from,
            to,
            FrameType::Release,
            Message::Release { trailer: None },
        );
    }
}
