//! A client's end of a connection: sends what the case says, and watches what every segment of the server must keep to.

mod offer;
mod receive;
mod watch;

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::cx::{Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, RST, SYN, Seen, Segment, after, describe};
use crate::wire::Host;

use offer::DEFAULT_MSS;
pub use offer::{Offer, sack, timestamp};

/// The first port of a case.
const FIRST_PORT: u16 = 40_000;
/// The first TSval, in ms.
const FIRST_TSVAL: u32 = 1_000_000;

/// One connection, seen by its client.
pub struct Conn<'a> {
    cx: &'a Cx<'a>,
    pub host: Rc<Host>,
    pub port: u16,
    pub to: SocketAddrV4,
    pub offer: Offer,
    /// Our initial sequence number, and the next one that we send.
    pub iss: u32,
    pub nxt: u32,
    /// The server's initial sequence number, and the next one that we expect.
    pub irs: u32,
    pub rcv: u32,
    /// What stands in the window field of our segments.
    pub window: u16,
    /// The server's SYN-ACK, once it has come.
    pub syn_ack: Option<Seen>,
    /// The server's last TSval.
    pub recent: u32,
    /// The highest acknowledgment number from the server, and the right edge of its window.
    pub acked: u32,
    pub edge: u32,
    /// Hardware addresses of the server's segments, in the order of their first one.
    pub senders: Vec<[u8; 6]>,
    /// Bytes of the server's stream that the case has read.
    read: usize,
    /// The highest acknowledgment number that we have sent.
    told: u32,
    /// When the last segment came.
    heard: Instant,
    /// The server may take back a part of its window, and has done so.
    pub may_shrink: bool,
    pub shrunk: bool,
    /// The server's FIN has come in its place.
    pub finished: bool,
    /// The most bytes of options and data that a segment had; a case may set it back.
    pub largest: usize,
    /// One past the last sequence number that we may have sent.
    sent: u32,
    /// The right edge that we have allowed the server.
    allowed: u32,
    tsval: Option<u32>,
    /// All bytes of the server that ever came, by their offset.
    bytes: Vec<Option<u8>>,
    fin: Option<u32>,
    backlog: VecDeque<Seen>,
    /// The TSval of the connection's birth, in ms.
    pub clock: u32,
    born: Instant,
}

impl<'a> Conn<'a> {
    pub fn new(cx: &'a Cx<'a>, offer: Offer) -> Conn<'a> {
        Conn::on(cx, Rc::new(cx.bed.wire.host()), FIRST_PORT, offer)
    }

    fn on(cx: &'a Cx<'a>, host: Rc<Host>, port: u16, offer: Offer) -> Conn<'a> {
        // Different for every connection, and about to wrap for some.
        let iss = u32::from_be_bytes(host.address.octets())
            .wrapping_mul(0x9e37_79b1)
            .wrapping_add(port.into());
        Conn {
            cx,
            host,
            port,
            to: cx.bed.server,
            offer,
            iss,
            nxt: iss,
            irs: 0,
            rcv: 0,
            window: u16::MAX,
            syn_ack: None,
            recent: 0,
            acked: iss,
            edge: iss,
            senders: Vec::new(),
            read: 0,
            told: 0,
            heard: Instant::now(),
            may_shrink: false,
            shrunk: false,
            finished: false,
            largest: 0,
            sent: iss,
            allowed: 0,
            tsval: None,
            bytes: Vec::new(),
            fin: None,
            backlog: VecDeque::new(),
            clock: FIRST_TSVAL,
            born: Instant::now(),
        }
    }

    /// Ends the connection with RST, and begins anew from `port` of the same host.
    pub fn renew(self, port: u16) -> Conn<'a> {
        self.renew_from(port, None)
    }

    /// As [`Conn::renew`]; without RST where the new initial sequence number is given.
    pub fn renew_from(mut self, port: u16, iss: Option<u32>) -> Conn<'a> {
        if iss.is_none() {
            self.reset();
        }
        self.syn_ack = None;
        let mut conn = Conn::on(self.cx, Rc::clone(&self.host), port, self.offer);
        conn.born = self.born;
        if let Some(iss) = iss {
            (conn.iss, conn.nxt, conn.acked, conn.edge, conn.sent) = (iss, iss, iss, iss, iss);
        }
        conn
    }

    /// A TSval of now.
    pub fn tsval(&self) -> u32 {
        self.clock
            .wrapping_add(self.born.elapsed().as_millis() as u32)
    }

    fn agreed(&self) -> &crate::segment::Options {
        static NONE: crate::segment::Options = crate::segment::Options {
            mss: None,
            scale: None,
            sack_permitted: false,
            sack: Vec::new(),
            timestamp: None,
        };
        self.syn_ack
            .as_ref()
            .map_or(&NONE, |syn_ack| &syn_ack.options)
    }

    /// Both sides do timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.agreed().timestamp.is_some()
    }

    /// The shift of the windows that we announce.
    pub fn scale(&self) -> u8 {
        self.agreed()
            .scale
            .and(self.offer.scale)
            .unwrap_or(0)
            .min(14)
    }

    /// The shift of the server's windows.
    fn server_scale(&self) -> u8 {
        self.agreed().scale.unwrap_or(0)
    }

    /// The largest payload that the server takes, with the options that we send.
    pub fn mss(&self) -> usize {
        let options = if self.has_timestamps() { 12 } else { 0 };
        usize::from(self.agreed().mss.unwrap_or(DEFAULT_MSS)) - options
    }

    /// The segment that opens the connection.
    pub fn syn(&self) -> Segment {
        let options = self.offer.to_wire(self.tsval());
        Segment {
            seq: self.iss,
            flags: SYN,
            window: self.window,
            options,
            ..Segment::default()
        }
    }

    /// A segment in its place, without data.
    pub fn segment(&self) -> Segment {
        let mut options = Vec::new();
        if self.has_timestamps() {
            options.extend([1, 1]);
            options.extend(timestamp(self.tsval(), self.recent));
        }
        Segment {
            seq: self.nxt,
            ack: self.rcv,
            flags: ACK,
            window: self.window,
            options,
            ..Segment::default()
        }
    }

    /// Our address.
    pub fn from(&self) -> SocketAddrV4 {
        self.host.socket(self.port)
    }

    /// Sends `segment`, whatever it is; what we have sent and allowed is noted.
    pub fn send(&mut self, segment: &Segment) {
        let Segment {
            seq,
            ack,
            flags,
            window,
            ref payload,
            ..
        } = *segment;
        let relative = |seq: u32, first: u32| seq.wrapping_sub(first);
        let what = describe(
            flags,
            relative(seq, self.iss),
            payload.len(),
            relative(ack, self.irs),
            window,
        );
        let options = if segment.options.is_empty() {
            String::new()
        } else {
            format!(" options {:02x?}", segment.options)
        };
        self.cx.log(&format!("-> {what}{options}"));
        if after(seq.wrapping_add(segment.len()), self.sent) {
            self.sent = seq.wrapping_add(segment.len());
        }
        if flags & ACK != 0 && flags & SYN == 0 && self.syn_ack.is_some() {
            let edge = ack.wrapping_add(u32::from(window) << self.scale());
            if after(edge, self.allowed) {
                self.allowed = edge;
            }
            self.told = ack;
        }
        self.host
            .send(self.cx.bed.hardware, &segment.packet(self.from(), self.to));
    }

    /// Sends an IP packet that no segment describes.
    pub fn send_packet(&mut self, what: &str, packet: &[u8]) {
        self.cx
            .log(&format!("-> {what}: packet of {} bytes", packet.len()));
        // Whatever it carries.
        let end = self.nxt.wrapping_add(1_500);
        if after(end, self.sent) {
            self.sent = end;
        }
        self.host.send(self.cx.bed.hardware, packet);
    }

    /// Sends data in order, in segments of the server's MSS, with PSH on the last one.
    pub fn data(&mut self, data: &[u8]) {
        let pieces = data.chunks(self.mss());
        let last = pieces.len();
        for (number, piece) in pieces.enumerate() {
            let push = if number + 1 == last { PSH } else { 0 };
            let segment = self.segment().flags(ACK | push).payload(piece);
            self.send(&segment);
            self.nxt = self.nxt.wrapping_add(piece.len() as u32);
        }
    }

    /// Acknowledges what came in order.
    pub fn acknowledge(&mut self) {
        let segment = self.segment();
        self.send(&segment);
    }

    /// Ends our direction.
    pub fn fin(&mut self) {
        let segment = self.segment().flags(FIN | ACK);
        self.send(&segment);
        self.nxt = self.nxt.wrapping_add(1);
    }

    /// Ends the connection with RST: the server expects what it has acknowledged last, or what we would send next.
    pub fn reset(&mut self) {
        while self.receive(Duration::ZERO).is_some() {}
        let exact = [self.acked, self.nxt];
        for seq in exact
            .iter()
            .take(if self.acked == self.nxt { 1 } else { 2 })
        {
            let segment = Segment {
                seq: *seq,
                flags: RST,
                ..Segment::default()
            };
            if self.syn_ack.is_some() {
                self.send(&segment);
            }
        }
    }

    /// The handshake. As every client, we send our SYN again after a second.
    pub fn connect(&mut self) -> Outcome<Seen> {
        let syn = self.syn();
        for _ in 0..SOON.as_secs() {
            self.send(&syn);
            if self
                .expect_within(Duration::from_secs(1), "SYN-ACK", |seen| {
                    seen.flags == SYN | ACK
                })
                .is_ok()
            {
                break;
            }
        }
        let syn_ack = self.syn_ack.clone().ok_or("no SYN is answered")?;
        self.nxt = self.iss.wrapping_add(1);
        self.acknowledge();
        Ok(syn_ack)
    }

    /// Waits for the SYN-ACK that answers our SYN.
    pub fn answer_syn(&mut self) -> Outcome<Seen> {
        let syn_ack = self.expect("SYN-ACK", |seen| seen.flags == SYN | ACK)?;
        self.nxt = self.iss.wrapping_add(1);
        ensure!(
            syn_ack.ack == self.nxt,
            "the SYN-ACK acknowledges {} and not the SYN",
            syn_ack.ack.wrapping_sub(self.iss)
        );
        Ok(syn_ack)
    }

    /// The place of a byte in the server's stream.
    pub fn offset(&self, seq: u32) -> usize {
        seq.wrapping_sub(self.irs).wrapping_sub(1) as usize
    }

    pub fn describe(&self, seen: &Seen) -> String {
        let (seq, ack) = (
            seen.seq.wrapping_sub(self.irs),
            seen.ack.wrapping_sub(self.iss),
        );
        let mut text = describe(seen.flags, seq, seen.payload.len(), ack, seen.window);
        if seen.options_len > 0 {
            let mut options = seen.options.clone();
            for (left, right) in &mut options.sack {
                *left = left.wrapping_sub(self.iss);
                *right = right.wrapping_sub(self.iss);
            }
            text.push_str(&format!(" {options:?}"));
        }
        text
    }
}

impl Drop for Conn<'_> {
    /// Leaves nothing behind at the server.
    fn drop(&mut self) {
        self.reset();
    }
}
