//! Segments: built to be sent, right or wrong in every detail, and read back with every detail checked.

use std::fmt::{self, Write};
use std::net::SocketAddrV4;
use std::time::Instant;

use etherparse::{
    Ethernet2Slice, IpNumber, Ipv4Header, Ipv4HeaderSlice, TcpHeader, TcpOptionElement, TcpSlice,
};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// `a` comes after `b` in sequence space.
pub fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// A segment to be sent.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub urgent: u16,
    /// As they go on the wire; padded to a multiple of four bytes with zeros.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Segment {
    /// The sequence numbers that it occupies.
    pub fn len(&self) -> u32 {
        self.payload.len() as u32
            + u32::from(self.flags & SYN != 0)
            + u32::from(self.flags & FIN != 0)
    }

    pub fn flags(mut self, flags: u8) -> Segment {
        self.flags = flags;
        self
    }

    pub fn seq(mut self, seq: u32) -> Segment {
        self.seq = seq;
        self
    }

    pub fn acknowledging(mut self, ack: u32) -> Segment {
        self.ack = ack;
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> Segment {
        self.payload = payload.to_vec();
        self
    }

    pub fn options(mut self, options: &[u8]) -> Segment {
        self.options = options.to_vec();
        self
    }

    pub fn window(mut self, window: u16) -> Segment {
        self.window = window;
        self
    }

    /// The IP packet that carries it.
    pub fn packet(&self, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        let mut tcp = TcpHeader::new(from.port(), to.port(), self.seq, self.window);
        tcp.acknowledgment_number = self.ack;
        tcp.urgent_pointer = self.urgent;
        let has = |bit| self.flags & bit != 0;
        (tcp.fin, tcp.syn, tcp.rst) = (has(FIN), has(SYN), has(RST));
        (tcp.psh, tcp.ack, tcp.urg) = (has(PSH), has(ACK), has(URG));
        tcp.set_options_raw(&self.options)
            .expect("at most 40 bytes of options");
        let (source, destination) = (from.ip().octets(), to.ip().octets());
        let sum = tcp.calc_checksum_ipv4_raw(source, destination, &self.payload);
        tcp.checksum = sum.expect("shorter than a packet");
        ip_packet(
            from,
            to,
            IpNumber::TCP,
            &[&tcp.to_bytes(), &self.payload[..]].concat(),
        )
    }
}

/// An IPv4 packet.
pub fn ip_packet(
    from: SocketAddrV4,
    to: SocketAddrV4,
    protocol: IpNumber,
    payload: &[u8],
) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("shorter than a packet");
    let (source, destination) = (from.ip().octets(), to.ip().octets());
    let mut ip =
        Ipv4Header::new(len, 64, protocol, source, destination).expect("shorter than a packet");
    ip.header_checksum = ip.calc_header_checksum();
    [&ip.to_bytes(), payload].concat()
}

/// The one's complement sum of RFC 1071, complemented.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
            sum += u64::from(u16::from_be_bytes(word));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Makes the checksum of a packet's IP header right again; the header has `words` 32-bit words.
pub fn repair_ip(packet: &mut [u8], words: usize) {
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..words * 4]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Makes the TCP checksum of a packet right again, whatever its data offset says.
pub fn repair_tcp(packet: &mut [u8]) {
    let start = usize::from(packet[0] & 15) * 4;
    packet[start + 16..start + 18].fill(0);
    let len = (packet.len() - start) as u16;
    let pseudo = [&[0, 6][..], &len.to_be_bytes()].concat();
    let sum = checksum(&[&packet[12..20], &pseudo, &packet[start..]]);
    packet[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
}

/// What the options of a segment say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mss: Option<u16>,
    pub scale: Option<u8>,
    pub sack_permitted: bool,
    pub sack: Vec<(u32, u32)>,
    /// TSval and TSecr.
    pub timestamp: Option<(u32, u32)>,
}

/// A segment that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// The hardware address that sent it, and the one that it was sent to.
    pub from: [u8; 6],
    pub to: [u8; 6],
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Options,
    /// Bytes of the options.
    pub options_len: usize,
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads a frame that carries TCP; an error says what is wrong with it.
    pub fn read(at: Instant, frame: &[u8]) -> Result<Seen, String> {
        let text = |what: &str| {
            let what = what.to_owned();
            move |error: &dyn fmt::Display| format!("{what}: {error}")
        };
        let ethernet = Ethernet2Slice::from_slice_without_fcs(frame)
            .map_err(|error| text("Ethernet")(&error))?;
        let packet = ethernet.payload_slice();
        let ip = Ipv4HeaderSlice::from_slice(packet).map_err(|error| text("IPv4")(&error))?;
        if checksum(&[ip.slice()]) != 0 {
            return Err("wrong IP checksum".to_owned());
        }
        if ip.is_fragmenting_payload() {
            return Err("a fragment".to_owned());
        }
        let total = usize::from(ip.total_len());
        let padded = frame.len() <= 60;
        if total > packet.len() || (total < packet.len() && !padded) {
            let len = packet.len();
            return Err(format!(
                "IP total length {total} in a packet of {len} bytes"
            ));
        }
        let segment = packet.get(ip.slice().len()..total).unwrap_or_default();
        let tcp = TcpSlice::from_slice(segment).map_err(|error| text("TCP")(&error))?;
        let len = (segment.len() as u16).to_be_bytes();
        let pseudo = [&ip.source()[..], &ip.destination(), &[0, 6], &len].concat();
        if checksum(&[&pseudo, segment]) != 0 {
            return Err("wrong TCP checksum".to_owned());
        }
        if tcp.ns() || tcp.ece() || tcp.cwr() || tcp.urg() || segment[12] & 0x0e != 0 {
            return Err("a flag that nobody has asked for".to_owned());
        }
        let mut options = Options::default();
        for element in tcp.options_iterator() {
            match element.map_err(|error| text("options")(&error))? {
                TcpOptionElement::Noop => {}
                TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
                TcpOptionElement::WindowScale(scale) => options.scale = Some(scale),
                TcpOptionElement::SelectiveAcknowledgementPermitted => {
                    options.sack_permitted = true
                }
                TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                    options.sack.push(first);
                    options.sack.extend(more.into_iter().flatten());
                }
                TcpOptionElement::Timestamp(value, echo) => options.timestamp = Some((value, echo)),
            }
        }
        Ok(Seen {
            at,
            from: ethernet.source(),
            to: ethernet.destination(),
            source: SocketAddrV4::new(ip.source_addr(), tcp.source_port()),
            destination: SocketAddrV4::new(ip.destination_addr(), tcp.destination_port()),
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            flags: segment[13],
            window: tcp.window_size(),
            options,
            options_len: tcp.options().len(),
            payload: tcp.payload().to_vec(),
        })
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The sequence numbers that it occupies.
    pub fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// One past its last byte of data.
    pub fn data_end(&self) -> u32 {
        self.seq.wrapping_add(self.payload.len() as u32)
    }

    /// An acknowledgment and nothing else.
    pub fn is_bare_ack(&self) -> bool {
        self.flags == ACK && self.payload.is_empty()
    }

    pub fn has_data(&self) -> bool {
        !self.payload.is_empty()
    }
}

/// One line of a trace. Sequence numbers count from the initial ones.
pub fn describe(flags: u8, seq: u32, len: usize, ack: u32, window: u16) -> String {
    let mut text = String::new();
    let names = [
        (SYN, "SYN"),
        (FIN, "FIN"),
        (RST, "RST"),
        (PSH, "PSH"),
        (ACK, "ACK"),
        (URG, "URG"),
    ];
    for (bit, name) in names {
        if flags & bit != 0 {
            let _ = write!(text, "{name} ");
        }
    }
    if flags == 0 {
        text.push_str("(no flags) ");
    }
    let _ = write!(text, "seq {} len {len}", seq as i32);
    if flags & ACK != 0 {
        let _ = write!(text, " ack {}", ack as i32);
    }
    let _ = write!(text, " win {window}");
    text
}
