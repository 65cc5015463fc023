//! The XDP program: which frames the device takes from an interface that it shares with the kernel.
//!
//! ```text
//!    for another station, or a VLAN's ---------------------------> the kernel
//!    one of the EtherTypes (Port B) -----------------------------> the device
//!    IPv4, to one of the addresses (or address and UDP port) ----> the device
//!    ARP, about one of the addresses ----------------------------> the device
//!    anything else ----------------------------------------------> the kernel
//! ```
//!
//! "About" is the target protocol address: whoever asks for a device's address is answered by the device, and answers
//! to what the device has asked go to the device, because it asks in its own address's name. What the kernel asks and is asked
//! for passes to the kernel. A gratuitous ARP names its sender as the target: the kernel sees it, the device asks again
//! when its entry grows old.
//!
//! The program is a few dozen instructions, put together here: no compiler for BPF is needed, and constants such as
//! the interface's address are part of it.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Claims, Take};

/// One instruction (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    opcode: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Bytes of a key of the claims map: an address, a UDP port (0: all of IPv4 and ARP), two zero bytes.
pub(crate) const KEY: u32 = 8;

/// The key of a claim.
pub(crate) fn key(address: Ipv4Addr, port: u16) -> [u8; KEY as usize] {
    let [a, b, c, d] = address.octets();
    let [e, f] = port.to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

/// The keys of all claims.
pub(crate) fn keys(claims: &Claims) -> Vec<[u8; KEY as usize]> {
    let addresses = claims.addresses.iter().map(|&address| key(address, 0));
    let ports = claims
        .udp_ports
        .iter()
        // Port 0 would claim the whole address.
        .filter(|(_, port)| *port != 0)
        .map(|&(address, port)| key(address, port));
    addresses.chain(ports).collect()
}

// Registers: context and packet survive calls in the callee's own.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;
const CONTEXT: u8 = 6;
const DATA: u8 = 7;
const END: u8 = 8;
const STACK: u8 = 10;

// Operations (`linux/bpf_common.h`, `linux/bpf.h`).
const LOAD_DOUBLE: u8 = 0x18;
const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const LOAD_BYTE: u8 = 0x71;
const STORE_WORD: u8 = 0x63;
const STORE_HALF: u8 = 0x6b;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const JUMP: u8 = 0x05;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The immediate is a map's descriptor.
const PSEUDO_MAP: u8 = 1;

const MAP_LOOKUP: i32 = 1;
const REDIRECT_MAP: i32 = 51;
const XDP_PASS: i32 = 2;

// struct xdp_md.
const MD_DATA: i16 = 0;
const MD_END: i16 = 4;
const MD_QUEUE: i16 = 16;

// Offsets in a frame.
const ETHERTYPE: i16 = 12;
const IP: i16 = 14;
const IP_FRAGMENT: i16 = 20;
const IP_PROTOCOL: i16 = 23;
const IP_DESTINATION: i16 = 30;
const UDP_DESTINATION: i16 = 36;
const ARP_TARGET: i16 = 38;

/// Where a jump goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// To the kernel.
    Pass,
    /// To the device.
    Take,
    /// Past the check of the destination.
    Ours,
    Ip,
    Arp,
}

/// Instructions so far, labels, and the jumps to them.
#[derive(Default)]
struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    fn push(&mut self, opcode: u8, to: u8, from: u8, offset: i16, immediate: i32) {
        let (low, high) = if cfg!(target_endian = "little") {
            (to, from)
        } else {
            (from, to)
        };
        self.code.push(Instruction {
            opcode,
            registers: low | high << 4,
            offset,
            immediate,
        });
    }

    fn load(&mut self, opcode: u8, to: u8, from: u8, offset: i16) {
        self.push(opcode, to, from, offset, 0);
    }

    fn immediate(&mut self, opcode: u8, to: u8, immediate: i32) {
        self.push(opcode, to, 0, 0, immediate);
    }

    /// Jumps where the register compares with the number, read as the frame's two bytes were.
    fn jump(&mut self, opcode: u8, register: u8, immediate: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.push(opcode, register, 0, 0, immediate);
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.code.len()));
    }

    /// To the kernel if the frame ends before `len` bytes.
    fn require(&mut self, len: i32) {
        self.load(MOVE, R4, DATA, 0);
        self.immediate(ADD, R4, len);
        self.jumps.push((self.code.len(), Label::Pass));
        self.push(JUMP_GREATER, R4, END, 0, 0);
    }

    fn map(&mut self, to: u8, map: BorrowedFd<'_>) {
        self.push(LOAD_DOUBLE, to, PSEUDO_MAP, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    /// Takes the frame if the map has the key that lies below the stack.
    fn take_if_in(&mut self, map: BorrowedFd<'_>) {
        self.map(R1, map);
        self.load(MOVE, R2, STACK, 0);
        self.immediate(ADD, R2, -(KEY as i32));
        self.immediate(CALL, 0, MAP_LOOKUP);
        self.jump(JUMP_NOT_EQUAL, R0, 0, Label::Take);
    }

    /// The program, jumps and all.
    fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let place = self.labels.iter().find(|(known, _)| *known == label);
            let target = place.map_or(at, |(_, place)| *place);
            // Forward, and the program is far shorter than the field's 32,767 instructions.
            if let (Some(jump), Ok(offset)) = (
                self.code.get_mut(at),
                i16::try_from(target as i64 - at as i64 - 1),
            ) {
                jump.offset = offset;
            }
        }
        self.code
    }
}

/// A frame's two bytes as a load gives them.
fn half(bytes: [u8; 2]) -> i32 {
    u16::from_ne_bytes(bytes).into()
}

/// The program for a station with this address. Frames that it takes go to the socket in `sockets` at the receive
/// queue's number, or to the kernel where there is none.
pub(crate) fn assemble(
    take: &Take,
    hardware: [u8; 6],
    sockets: BorrowedFd<'_>,
    claims: BorrowedFd<'_>,
) -> Vec<Instruction> {
    let mut a = Assembler::default();
    a.load(MOVE, CONTEXT, R1, 0);
    a.load(LOAD_WORD, DATA, CONTEXT, MD_DATA);
    a.load(LOAD_WORD, END, CONTEXT, MD_END);
    a.require(14);
    // For this station, or a group of them.
    a.load(LOAD_BYTE, R5, DATA, 0);
    a.immediate(AND, R5, 1);
    a.jump(JUMP_NOT_EQUAL, R5, 0, Label::Ours);
    let [b0, b1, b2, b3, b4, b5] = hardware;
    for (offset, bytes) in [(0, [b0, b1]), (2, [b2, b3]), (4, [b4, b5])] {
        a.load(LOAD_HALF, R5, DATA, offset);
        a.jump(JUMP_NOT_EQUAL, R5, half(bytes), Label::Pass);
    }
    a.label(Label::Ours);
    a.load(LOAD_HALF, R5, DATA, ETHERTYPE);
    match take {
        Take::All => {
            for vlan in [0x8100u16, 0x88a8] {
                a.jump(JUMP_EQUAL, R5, half(vlan.to_be_bytes()), Label::Pass);
            }
            a.jump(JUMP, 0, 0, Label::Take);
        }
        Take::Claims(list) => claimed(&mut a, list, claims),
    }
    a.label(Label::Take);
    a.map(R1, sockets);
    a.load(LOAD_WORD, R2, CONTEXT, MD_QUEUE);
    a.immediate(MOVE_IMMEDIATE, R3, XDP_PASS);
    a.immediate(CALL, 0, REDIRECT_MAP);
    a.push(EXIT, 0, 0, 0, 0);
    a.label(Label::Pass);
    a.immediate(MOVE_IMMEDIATE, R0, XDP_PASS);
    a.push(EXIT, 0, 0, 0, 0);
    a.finish()
}

/// What of an interface is the device's; falls through to the kernel's.
fn claimed(a: &mut Assembler, list: &Claims, claims: BorrowedFd<'_>) {
    for ethertype in &list.ethertypes {
        a.jump(JUMP_EQUAL, R5, half(ethertype.to_be_bytes()), Label::Take);
    }
    a.jump(JUMP_EQUAL, R5, half([0x08, 0x00]), Label::Ip);
    a.jump(JUMP_EQUAL, R5, half([0x08, 0x06]), Label::Arp);
    a.jump(JUMP, 0, 0, Label::Pass);

    a.label(Label::Arp);
    a.require(42);
    // The target's address; its halves are aligned on every machine.
    for (offset, place) in [(ARP_TARGET, -8), (ARP_TARGET + 2, -6)] {
        a.load(LOAD_HALF, R5, DATA, offset);
        a.push(STORE_HALF, STACK, R5, place, 0);
    }
    a.immediate(MOVE_IMMEDIATE, R5, 0);
    a.push(STORE_WORD, STACK, R5, -4, 0);
    a.take_if_in(claims);
    a.jump(JUMP, 0, 0, Label::Pass);

    a.label(Label::Ip);
    a.require(34);
    for (offset, place) in [(IP_DESTINATION, -8), (IP_DESTINATION + 2, -6)] {
        a.load(LOAD_HALF, R5, DATA, offset);
        a.push(STORE_HALF, STACK, R5, place, 0);
    }
    a.immediate(MOVE_IMMEDIATE, R5, 0);
    a.push(STORE_WORD, STACK, R5, -4, 0);
    a.take_if_in(claims);
    if list.udp_ports.is_empty() {
        a.jump(JUMP, 0, 0, Label::Pass);
        return;
    }
    // UDP in an IPv4 packet without options that is no fragment, or none but the first.
    a.load(LOAD_BYTE, R5, DATA, IP_PROTOCOL);
    a.jump(JUMP_NOT_EQUAL, R5, 17, Label::Pass);
    a.load(LOAD_BYTE, R5, DATA, IP);
    a.jump(JUMP_NOT_EQUAL, R5, 0x45, Label::Pass);
    a.load(LOAD_HALF, R5, DATA, IP_FRAGMENT);
    a.immediate(AND, R5, half([0x1f, 0xff]));
    a.jump(JUMP_NOT_EQUAL, R5, 0, Label::Pass);
    a.require(38);
    a.load(LOAD_HALF, R5, DATA, UDP_DESTINATION);
    a.push(STORE_HALF, STACK, R5, -4, 0);
    a.take_if_in(claims);
    a.jump(JUMP, 0, 0, Label::Pass);
}
