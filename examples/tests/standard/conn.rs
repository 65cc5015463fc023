//! A client's end of a connection: sends what the case says, and watches what every segment of the server must keep to.

mod offer;
mod watch;

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::time::{Duration, Instant};

use etherparse::{Ethernet2Slice, EtherType};

use crate::app::pattern;
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
    born: Instant,
}

impl<'a> Conn<'a> {
    pub fn new(cx: &'a Cx<'a>, offer: Offer) -> Conn<'a> {
        Conn::on(cx, Rc::new(cx.bed.wire.host()), FIRST_PORT, offer)
    }

    fn on(cx: &'a Cx<'a>, host: Rc<Host>, port: u16, offer: Offer) -> Conn<'a> {
        // Different for every connection, and about to wrap for some.
        let iss = u32::from_be_bytes(host.address.octets()).wrapping_mul(0x9e37_79b1).wrapping_add(port.into());
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
        FIRST_TSVAL + self.born.elapsed().as_millis() as u32
    }

    fn agreed(&self) -> &crate::segment::Options {
        static NONE: crate::segment::Options =
            crate::segment::Options { mss: None, scale: None, sack_permitted: false, sack: Vec::new(), timestamp: None };
        self.syn_ack.as_ref().map_or(&NONE, |syn_ack| &syn_ack.options)
    }

    /// Both sides do timestamps.
    pub fn has_timestamps(&self) -> bool {
        self.agreed().timestamp.is_some()
    }

    /// The shift of the windows that we announce.
    pub fn scale(&self) -> u8 {
        self.agreed().scale.and(self.offer.scale).unwrap_or(0).min(14)
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
        Segment { seq: self.iss, flags: SYN, window: self.window, options, ..Segment::default() }
    }

    /// A segment in its place, without data.
    pub fn segment(&self) -> Segment {
        let mut options = Vec::new();
        if self.has_timestamps() {
            options.extend([1, 1]);
            options.extend(timestamp(self.tsval(), self.recent));
        }
        Segment { seq: self.nxt, ack: self.rcv, flags: ACK, window: self.window, options, ..Segment::default() }
    }

    /// Our address.
    pub fn from(&self) -> SocketAddrV4 {
        self.host.socket(self.port)
    }

    /// Sends `segment`, whatever it is; what we have sent and allowed is noted.
    pub fn send(&mut self, segment: &Segment) {
        let Segment { seq, ack, flags, window, ref payload, .. } = *segment;
        let relative = |seq: u32, first: u32| seq.wrapping_sub(first);
        let what = describe(flags, relative(seq, self.iss), payload.len(), relative(ack, self.irs), window);
        let options = if segment.options.is_empty() { String::new() } else { format!(" options {:02x?}", segment.options) };
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
        self.host.send(self.cx.bed.hardware, &segment.packet(self.from(), self.to));
    }

    /// Sends an IP packet that no segment describes.
    pub fn send_packet(&mut self, what: &str, packet: &[u8]) {
        self.cx.log(&format!("-> {what}: packet of {} bytes", packet.len()));
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

    /// Ends the connection with the RST that the server must believe.
    pub fn reset(&mut self) {
        if self.syn_ack.is_some() {
            let segment = Segment { seq: self.acked, flags: RST, ..Segment::default() };
            self.send(&segment);
        }
    }

    /// The handshake. As every client, we send our SYN again after a second.
    pub fn connect(&mut self) -> Outcome<Seen> {
        let syn = self.syn();
        for _ in 0..SOON.as_secs() {
            self.send(&syn);
            if self.expect_within(Duration::from_secs(1), "SYN-ACK", |seen| seen.flags == SYN | ACK).is_ok() {
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
        ensure!(syn_ack.ack == self.nxt, "the SYN-ACK acknowledges {} and not the SYN", syn_ack.ack.wrapping_sub(self.iss));
        Ok(syn_ack)
    }

    /// The next segment of this connection.
    pub fn next(&mut self, within: Duration) -> Option<Seen> {
        if let Some(seen) = self.backlog.pop_front() {
            return Some(seen);
        }
        self.receive(within)
    }

    fn receive(&mut self, within: Duration) -> Option<Seen> {
        let end = Instant::now() + within;
        loop {
            let (at, frame) = self.host.next(end.saturating_duration_since(Instant::now()))?;
            let ethernet = Ethernet2Slice::from_slice_without_fcs(&frame).ok()?;
            // TCP over IPv4.
            if ethernet.ether_type() != EtherType::IPV4 || frame.get(23) != Some(&6) {
                continue;
            }
            match Seen::read(at, &frame) {
                Err(what) => self.cx.violation(format!("the server sends a segment that is broken: {what}")),
                Ok(seen) if seen.destination.port() != self.port => {}
                Ok(seen) => {
                    self.note(&seen);
                    return Some(seen);
                }
            }
        }
    }

    /// Skips to a segment that `matches`.
    pub fn expect(&mut self, what: &str, matches: impl FnMut(&Seen) -> bool) -> Outcome<Seen> {
        self.expect_within(SOON, what, matches)
    }

    /// As [`Conn::expect`], for what may take longer.
    pub fn expect_within(&mut self, within: Duration, what: &str, mut matches: impl FnMut(&Seen) -> bool) -> Outcome<Seen> {
        let end = Instant::now() + within;
        loop {
            match self.next(end.saturating_duration_since(Instant::now())) {
                Some(seen) if matches(&seen) => return Ok(seen),
                Some(_) => {}
                None => return Err(format!("no {what} within {within:?}")),
            }
        }
    }

    /// Nothing that `matches` may come for a while.
    pub fn refuse(&mut self, within: Duration, what: &str, matches: impl FnMut(&Seen) -> bool) -> Outcome {
        match self.expect_within(within, what, matches) {
            Ok(seen) => Err(format!("{what} came: {}", self.describe(&seen))),
            Err(_) => Ok(()),
        }
    }

    /// Takes all segments until none comes for a while.
    pub fn drain(&mut self, pause: Duration) -> Vec<Seen> {
        std::iter::from_fn(|| self.next(pause)).collect()
    }

    /// Waits until the server has acknowledged everything; its data waits for the case.
    pub fn wait_acknowledged(&mut self) -> Outcome {
        let end = Instant::now() + SOON;
        while self.acked != self.nxt {
            let Some(seen) = self.receive(end.saturating_duration_since(Instant::now())) else {
                let missing = self.nxt.wrapping_sub(self.acked);
                return Err(format!("the last {missing} bytes (or FIN) are not acknowledged within {SOON:?}"));
            };
            if seen.len() > 0 || seen.has(RST) {
                self.backlog.push_back(seen);
            }
        }
        Ok(())
    }

    /// An acknowledgment of exactly what we have sent in order, where the server has sent exactly what we have read.
    pub fn expect_ack(&mut self, what: &str) -> Outcome<Seen> {
        let (nxt, rcv) = (self.nxt, self.rcv);
        self.expect(what, |seen| seen.is_bare_ack() && seen.ack == nxt && seen.seq == rcv)
    }

    /// Moves on over what has come in order.
    pub fn advance(&mut self) {
        while self.bytes.get(self.offset(self.rcv)).is_some_and(Option::is_some) {
            self.rcv = self.rcv.wrapping_add(1);
        }
        if self.fin == Some(self.rcv) && !self.finished {
            self.rcv = self.rcv.wrapping_add(1);
            self.finished = true;
        }
    }

    /// What has come and was not read is lost: it must come again.
    pub fn forget(&mut self) {
        let at = self.offset(self.rcv);
        self.bytes.truncate(at);
        self.backlog.clear();
    }

    /// Moves on over what has come, and acknowledges it.
    fn take(&mut self) {
        self.advance();
        if self.told != self.rcv {
            self.acknowledge();
        }
    }

    /// Reads the next `n` bytes, and acknowledges every segment.
    pub fn read(&mut self, n: usize) -> Outcome<Vec<u8>> {
        let (start, end) = (self.read, self.read + n);
        self.take();
        while self.offset(self.rcv) < end {
            let left = end - self.offset(self.rcv);
            self.expect(&format!("data, of which {left} bytes of {n} are missing,"), Seen::has_data)?;
            self.take();
        }
        self.read = end;
        self.copy(start, n)
    }

    /// Reads and acknowledges until the server's FIN, which comes after the next `n` bytes.
    pub fn read_to_end(&mut self, n: usize) -> Outcome<Vec<u8>> {
        let start = self.read;
        self.take();
        while !self.finished {
            let got = self.offset(self.rcv) - start;
            self.expect(&format!("data or FIN after {got} of {n} bytes"), |seen| seen.has_data() || seen.has(FIN))?;
            self.take();
        }
        // The FIN has a number too.
        self.read = self.offset(self.rcv) - 1;
        let came = self.read - start;
        ensure!(came == n, "FIN after {came} bytes, not {n}");
        self.copy(start, n)
    }

    /// As [`Conn::read`], for the application's pattern from `offset` on.
    pub fn read_pattern(&mut self, offset: usize, n: usize) -> Outcome {
        let came = self.read(n)?;
        check_pattern(offset, &came)
    }

    /// As [`Conn::read_to_end`], for the application's pattern from `offset` on.
    pub fn read_pattern_to_end(&mut self, offset: usize, n: usize) -> Outcome {
        let came = self.read_to_end(n)?;
        check_pattern(offset, &came)
    }

    /// Sends `data` to an application that echoes, and reads it back.
    pub fn echo(&mut self, data: &[u8]) -> Outcome {
        self.data(data);
        self.read_echo(data)
    }

    /// Reads `data` back that was sent before.
    pub fn read_echo(&mut self, data: &[u8]) -> Outcome {
        let came = self.read(data.len())?;
        match came.iter().zip(data).position(|(came, sent)| came != sent) {
            Some(at) => Err(format!("byte {at} of {} of the echo is wrong", data.len())),
            None => Ok(()),
        }
    }

    /// The connection still works, both ways, and not a byte is missing or too many. Its application echoes.
    pub fn alive(&mut self) -> Outcome {
        self.echo(b"still here").map_err(|error| format!("the connection does not work any more: {error}"))
    }

    /// `n` bytes that came, from `start` of the server's stream on.
    fn copy(&self, start: usize, n: usize) -> Outcome<Vec<u8>> {
        let bytes = self.bytes.get(start..start + n).unwrap_or_default();
        let bytes: Option<Vec<u8>> = bytes.iter().copied().collect();
        bytes.filter(|bytes| bytes.len() == n).ok_or_else(|| "bytes are missing".to_owned())
    }

    /// The place of a byte in the server's stream.
    pub fn offset(&self, seq: u32) -> usize {
        seq.wrapping_sub(self.irs).wrapping_sub(1) as usize
    }

    pub fn describe(&self, seen: &Seen) -> String {
        let (seq, ack) = (seen.seq.wrapping_sub(self.irs), seen.ack.wrapping_sub(self.iss));
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

fn check_pattern(offset: usize, came: &[u8]) -> Outcome {
    match (offset..).zip(came).find(|&(at, byte)| pattern(at) != *byte) {
        Some((at, _)) => Err(format!("byte {at} of the application's data is wrong")),
        None => Ok(()),
    }
}
