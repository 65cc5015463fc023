//! What LAN A shows of connections: rules that hold for every segment of a server, whichever one it is, and the clients' own
//! faults.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::Instant;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpOption, TcpPacket,
};

use crate::network::{LanId, NodeId};
use crate::observe::{Observer, Sighting};

/// RFC 9293 §3.7.1: the MSS of a client that announces none.
const DEFAULT_MSS: usize = 536;
/// Longer than any retransmission timeout or probe interval of the client, which doubles up to 60 s.
const SILENT: Duration = Duration::from_secs(70);
/// Violations that are kept of a conversation.
const KEPT: usize = 8;
/// SYN-ACKs of a conversation that are told apart: a cookie and what comes after it have numbers of their own.
const SYN_ACKS: usize = 8;
/// RSTs that are kept of a conversation, and of the end of its predecessor. Full: the oldest makes room.
const RESETS: usize = 8;
/// Conversations that are followed. Full: further ones are not.
const CONVERSATIONS: usize = 65_536;

/// Follows every TCP connection that clients open across a LAN.
///
/// Servers hand connections over, and none of it may show: acknowledgments, the window's right edge and timestamps never
/// go back, nothing is acknowledged that was not sent, no byte goes beyond the client's window, and no segment above its
/// MSS.
#[derive(Debug)]
pub struct Watch {
    lan: LanId,
    /// Those of each client's port with each server's, in the order in which they began.
    conversations: BTreeMap<(SocketAddrV4, SocketAddrV4), Vec<Conversation>>,
    count: usize,
}

/// One connection. Where the client uses a port again, the former one is not followed any more.
#[derive(Debug)]
pub struct Conversation {
    client_node: NodeId,
    syn: Option<Syn>,
    /// The servers' answers to it. Full: the others are not known.
    syn_acks: Vec<SynAck>,
    /// The one that the client has acknowledged.
    syn_ack: Option<SynAck>,
    /// One past the last byte that the client has allowed, as far as a server can know.
    edge: Option<u32>,
    /// One past the last sequence number that the client has used.
    used: Option<u32>,
    /// One past the last that a server's acknowledgment has covered when it came to the client.
    acknowledged: Option<u32>,
    /// The last that the client has acknowledged.
    taken: Option<u32>,
    /// One past a server's FIN.
    end: Option<u32>,
    /// When the client last sent the first sequence number that is not acknowledged.
    effort: Instant,
    /// The servers' latest announcement, acknowledgment and timestamp.
    announced: Option<u32>,
    last_ack: Option<u32>,
    last_tsval: Option<u32>,
    /// A server has reset it where the client believes it: what others send then, they have not heard of it.
    reset: bool,
    /// Numbers of the RSTs that servers have sent on it, the latest of them.
    resets: VecDeque<u32>,
    /// Numbers of RSTs that servers had sent before they answered its SYN, to the former connection or late segments of it.
    former_resets: VecDeque<u32>,
    /// When one of them came to the client last.
    late_reset: Option<Instant>,
    violations: Vec<String>,
}

/// What the client's SYN says.
#[derive(Debug)]
struct Syn {
    isn: u32,
    mss: usize,
    scale: Option<u8>,
}

/// What a server's SYN-ACK says.
#[derive(Clone, Copy, Debug)]
struct SynAck {
    /// One past its sequence number.
    end: u32,
    scale: Option<u8>,
}

/// What is of interest in a segment.
struct Seen {
    seq: u32,
    ack: u32,
    window: u16,
    syn: bool,
    fin: bool,
    rst: bool,
    has_ack: bool,
    payload: usize,
    options: usize,
    mss: Option<u16>,
    scale: Option<u8>,
    tsval: Option<u32>,
}

/// `a` is before `b`, modulo 2^32.
fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Moves `mark` to `to`, if that is ahead.
fn forward(mark: &mut Option<u32>, to: u32) {
    if mark.is_none_or(|mark| before(mark, to)) {
        *mark = Some(to);
    }
}

/// Keeps the number of a RST among the latest.
fn keep(resets: &mut VecDeque<u32>, number: u32) {
    if resets.len() >= RESETS {
        resets.pop_front();
    }
    resets.push_back(number);
}

impl Conversation {
    /// The one that follows `former`.
    fn new(client_node: NodeId, former: Option<&Conversation>) -> Conversation {
        let former_resets = former.map(|former| former.resets.clone());
        Conversation {
            client_node,
            syn: None,
            syn_acks: Vec::new(),
            syn_ack: None,
            edge: None,
            used: None,
            acknowledged: None,
            taken: None,
            end: None,
            effort: Instant::ZERO,
            announced: None,
            last_ack: None,
            last_tsval: None,
            reset: false,
            resets: VecDeque::new(),
            former_resets: former_resets.unwrap_or_default(),
            late_reset: None,
            violations: Vec::new(),
        }
    }

    /// Whether a SYN of the client begins another connection than this one.
    fn is_over(&self, seen: &Seen) -> bool {
        self.syn.as_ref().is_some_and(|syn| syn.isn != seen.seq)
    }

    /// Whether the servers have come to this connection: until their first SYN-ACK what they say is of the former one.
    fn is_answered_by(&self, seen: &Seen) -> bool {
        let first = self.syn.as_ref().map(|syn| syn.isn.wrapping_add(1));
        !self.syn_acks.is_empty() || (seen.syn && first == Some(seen.ack))
    }

    /// Whether a number is among those that the client has used on this connection: a late segment's is not.
    fn has_used(&self, number: u32) -> bool {
        let (Some(syn), Some(used)) = (&self.syn, self.used) else {
            return false;
        };
        !before(number, syn.isn) && !before(used, number)
    }

    /// Segments of servers that broke a rule.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Whether something of the `sent` bytes (and the FIN, where `closed`) that the client's TCP has taken is not acknowledged.
    pub fn client_owes(&self, sent: u64, closed: bool) -> bool {
        let first = self.syn.as_ref().map(|syn| syn.isn.wrapping_add(1));
        let covered = first
            .zip(self.acknowledged)
            .map_or(0, |(first, ack)| ack.wrapping_sub(first));
        u64::from(covered) < sent + u64::from(closed)
    }

    /// When a RST came that the former connection of the ports had got, after the SYN-ACK. smoltcp believes it anywhere in its window,
    /// others where they expect the next byte alone (RFC 5961 §3.2).
    pub fn late_reset(&self) -> Option<Instant> {
        self.late_reset
    }

    /// Whether the client has not sent the first thing that it owes for longer than any timeout, though it must
    /// (RFC 6298 §5.4, RFC 9293 §3.8.6.1). smoltcp does not repeat a FIN once duplicate acknowledgments came, repeats
    /// segments beyond the window, and takes no window in LAST-ACK.
    pub fn client_is_silent(&self, now: Instant) -> bool {
        now.saturating_since(self.effort) > SILENT
    }

    /// Whether the client has acknowledged everything that the servers had to say, their FIN too. What its application has
    /// not read when its TIME-WAIT ends, smoltcp throws away.
    pub fn client_had_everything(&self) -> bool {
        self.end.is_some_and(|end| self.taken == Some(end))
    }

    fn note(&mut self, now: Instant, what: String) {
        if self.violations.len() < KEPT {
            self.violations
                .push(format!("at {} µs: {what}", now.as_micros()));
        }
    }

    fn client_sends(&mut self, now: Instant, seen: &Seen) {
        if seen.rst {
            return;
        }
        if seen.syn {
            self.syn.get_or_insert(Syn {
                isn: seen.seq,
                mss: seen.mss.map_or(DEFAULT_MSS, usize::from),
                scale: seen.scale,
            });
        }
        let len = seen.payload as u32 + u32::from(seen.syn) + u32::from(seen.fin);
        let first = self.acknowledged.unwrap_or(seen.seq);
        if !before(first, seen.seq) && before(first, seen.seq.wrapping_add(len)) {
            self.effort = now;
        }
        forward(&mut self.used, seen.seq.wrapping_add(len));
        if seen.has_ack {
            forward(&mut self.taken, seen.ack);
            if self.syn_ack.is_none() {
                let mut known = self.syn_acks.iter();
                self.syn_ack = known.find(|known| known.end == seen.ack).copied();
            }
        }
    }

    /// What a client's segment allows, when it comes to the server whole.
    fn client_allows(&mut self, seen: &Seen) {
        let Some(scale) = self.syn_ack.as_ref().map(|syn_ack| syn_ack.scale) else {
            return;
        };
        if seen.rst || seen.syn || !seen.has_ack || !self.has_used(seen.seq) {
            return;
        }
        let shift = match (scale, self.syn.as_ref().and_then(|syn| syn.scale)) {
            (Some(_), Some(theirs)) => theirs,
            _ => 0,
        };
        let window = u32::from(seen.window) << shift;
        forward(&mut self.edge, seen.ack.wrapping_add(window));
    }

    fn server_sends(&mut self, now: Instant, seen: &Seen) {
        if seen.rst {
            self.reset |= self.taken == Some(seen.seq);
            keep(&mut self.resets, seen.seq);
        }
        if self.reset || seen.rst {
            return;
        }
        if seen.syn {
            let another = |accepted: &SynAck| accepted.end != seen.seq.wrapping_add(1);
            if self.end.is_some() && self.syn_ack.as_ref().is_some_and(another) {
                // The server is done, without TIME-WAIT: a late copy of the SYN opens a connection of its own, which comes to
                // nothing (RFC 9293 §3.5).
                return;
            }
            let syn_ack = SynAck {
                end: seen.seq.wrapping_add(1),
                scale: seen.scale,
            };
            let known = |known: &SynAck| known.end == syn_ack.end;
            if !self.syn_acks.iter().any(known) && self.syn_acks.len() < SYN_ACKS {
                self.syn_acks.push(syn_ack);
            }
        }
        self.check_data(now, seen);
        let shift = match &self.syn_ack {
            Some(SynAck {
                scale: Some(shift), ..
            }) if !seen.syn => *shift,
            _ => 0,
        };
        let edge = seen.ack.wrapping_add(u32::from(seen.window) << shift);
        if self
            .announced
            .is_some_and(|announced| before(edge, announced))
        {
            self.note(
                now,
                format!("the window's right edge moves left, to {edge}"),
            );
        }
        if self.last_ack.is_some_and(|last| before(seen.ack, last)) {
            self.note(
                now,
                format!("the acknowledgment goes back, to {}", seen.ack),
            );
        }
        if self.used.is_none_or(|used| before(used, seen.ack)) {
            self.note(
                now,
                format!("{} is acknowledged, which was never sent", seen.ack),
            );
        }
        if let Some(tsval) = seen.tsval {
            if let Some(last) = self.last_tsval.filter(|&last| before(tsval, last)) {
                self.note(
                    now,
                    format!("the timestamp goes back by {} ms", last.wrapping_sub(tsval)),
                );
            }
            forward(&mut self.last_tsval, tsval);
        }
        if seen.fin {
            self.end = Some(seen.seq.wrapping_add(seen.payload as u32 + 1));
        }
        forward(&mut self.announced, edge);
        forward(&mut self.last_ack, seen.ack);
    }

    /// Never a byte beyond the window, nor a segment above the MSS.
    fn check_data(&mut self, now: Instant, seen: &Seen) {
        if seen.payload == 0 {
            return;
        }
        let end = seen.seq.wrapping_add(seen.payload as u32);
        if self.edge.is_none_or(|edge| before(edge, end)) {
            self.note(
                now,
                format!("data up to {end}, the client allows {:?}", self.edge),
            );
        }
        // RFC 6691 §2: options count.
        let mss = self.syn.as_ref().map_or(DEFAULT_MSS, |syn| syn.mss);
        if seen.payload + seen.options > mss {
            self.note(
                now,
                format!(
                    "{} bytes and {} of options in a segment, the MSS is {mss}",
                    seen.payload, seen.options
                ),
            );
        }
    }

    fn client_hears(&mut self, now: Instant, seen: &Seen) {
        let opened = self.taken.is_some_and(|taken| taken != seen.seq);
        if opened && seen.rst && self.former_resets.contains(&seen.seq) {
            self.late_reset = Some(now);
        }
        if !seen.rst && seen.has_ack && self.has_used(seen.ack) {
            forward(&mut self.acknowledged, seen.ack);
        }
    }
}

impl Watch {
    /// Follows the connections on LAN `lan`.
    pub fn new(lan: LanId) -> Watch {
        Watch {
            lan,
            conversations: BTreeMap::new(),
            count: 0,
        }
    }

    /// All connections, by their client: those whose SYN was sent.
    pub fn conversations(&self) -> impl Iterator<Item = (&SocketAddrV4, &Conversation)> {
        let talks = self.conversations.iter();
        talks.flat_map(|((client, _), talks)| talks.iter().map(move |talk| (client, talk)))
    }

    /// Those between these two addresses, in the order in which they began.
    pub fn between(&self, client: SocketAddrV4, server: SocketAddrV4) -> &[Conversation] {
        let talks = self.conversations.get(&(client, server));
        talks.map_or(&[], Vec::as_slice)
    }

    /// The conversation that a frame belongs to, and whether its client is the sender. A SYN begins one.
    fn of(&mut self, node: NodeId, frame: &Segment<'_>) -> Option<(bool, &mut Conversation)> {
        let (from, to) = (frame.source, frame.destination);
        if let Some(talks) = self.conversations.get(&(to, from)) {
            let (newest, former) = talks.split_last()?;
            // An owner that has not heard of the former one's end goes on with it.
            let late = || former.iter().any(|talk| talk.has_used(frame.seen.ack));
            let ours = newest.has_used(frame.seen.ack) || !late();
            let ours = former.is_empty() || (ours && newest.is_answered_by(&frame.seen));
            let talk = self.newest(to, from)?;
            return ours.then_some((false, talk));
        }
        if frame.seen.syn && !frame.seen.has_ack && self.count < CONVERSATIONS {
            let talks = self.conversations.entry((from, to)).or_default();
            if talks.last().is_none_or(|talk| talk.is_over(&frame.seen)) {
                talks.push(Conversation::new(node, talks.last()));
                self.count += 1;
            }
        }
        Some((true, self.newest(from, to)?))
    }

    /// A server resets what has ended before the newest conversation.
    fn former_is_reset(&mut self, segment: &Segment<'_>) {
        if segment.seen.rst
            && let Some(talk) = self.newest(segment.destination, segment.source)
        {
            keep(&mut talk.former_resets, segment.seen.seq);
        }
    }

    fn newest(&mut self, client: SocketAddrV4, server: SocketAddrV4) -> Option<&mut Conversation> {
        self.conversations.get_mut(&(client, server))?.last_mut()
    }
}

/// A TCP segment, and between whom.
struct Segment<'a> {
    source: SocketAddrV4,
    destination: SocketAddrV4,
    seen: Seen,
    packet: Ipv4Packet<&'a [u8]>,
}

impl<'a> Segment<'a> {
    /// `None` for what is not TCP.
    fn read(frame: &'a [u8]) -> Option<Segment<'a>> {
        let bytes = frame.get(EthernetFrame::<&[u8]>::header_len()..)?;
        let frame = EthernetFrame::new_checked(frame).ok()?;
        if frame.ethertype() != EthernetProtocol::Ipv4 {
            return None;
        }
        let packet = Ipv4Packet::new_checked(bytes).ok()?;
        if packet.next_header() != IpProtocol::Tcp {
            return None;
        }
        let segment = TcpPacket::new_checked(packet.payload()).ok()?;
        Some(Segment {
            source: SocketAddrV4::new(packet.src_addr(), segment.src_port()),
            destination: SocketAddrV4::new(packet.dst_addr(), segment.dst_port()),
            seen: Seen::of(&segment),
            packet,
        })
    }

    /// Whether its checksums hold.
    fn is_intact(&self) -> bool {
        let packet = &self.packet;
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        packet.verify_checksum()
            && TcpPacket::new_checked(packet.payload())
                .is_ok_and(|segment| segment.verify_checksum(&source, &destination))
    }
}

impl Seen {
    fn of(segment: &TcpPacket<&[u8]>) -> Seen {
        let mut seen = Seen {
            seq: segment.seq_number().0 as u32,
            ack: segment.ack_number().0 as u32,
            window: segment.window_len(),
            syn: segment.syn(),
            fin: segment.fin(),
            rst: segment.rst(),
            has_ack: segment.ack(),
            payload: segment.payload().len(),
            options: segment.options().len(),
            mss: None,
            scale: None,
            tsval: None,
        };
        let mut rest = segment.options();
        while let Ok((next, option)) = TcpOption::parse(rest) {
            match option {
                TcpOption::EndOfList => break,
                TcpOption::MaxSegmentSize(mss) => seen.mss = Some(mss),
                TcpOption::WindowScale(shift) => seen.scale = Some(shift),
                TcpOption::TimeStamp { tsval, .. } => seen.tsval = Some(tsval),
                _ => {}
            }
            rest = next;
        }
        seen
    }
}

impl Observer for Watch {
    fn sent(&mut self, sighting: &Sighting<'_>) {
        if sighting.lan != self.lan {
            return;
        }
        let Some(segment) = Segment::read(sighting.frame) else {
            return;
        };
        match self.of(sighting.node, &segment) {
            Some((true, talk)) => talk.client_sends(sighting.now, &segment.seen),
            Some((false, talk)) => talk.server_sends(sighting.now, &segment.seen),
            None => self.former_is_reset(&segment),
        }
    }

    fn delivered(&mut self, sighting: &Sighting<'_>) {
        if sighting.lan != self.lan {
            return;
        }
        let Some(segment) = Segment::read(sighting.frame).filter(Segment::is_intact) else {
            return;
        };
        let (client, server) = (segment.source, segment.destination);
        if let Some(talk) = self.newest(client, server)
            && sighting.node != talk.client_node
        {
            talk.client_allows(&segment.seen);
        } else if let Some(talk) = self.newest(server, client)
            && sighting.node == talk.client_node
        {
            talk.client_hears(sighting.now, &segment.seen);
        }
    }
}

#[cfg(test)]
mod tests;
