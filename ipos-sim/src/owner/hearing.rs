//! Which servers have been silent for so long that others may take them for dead.

use std::collections::BTreeMap;
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::Message;
use ipos_proto::synch::{SynchKind, SynchMessage};
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

/// A sign of life, as far as a device takes it for one.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    /// A packet of a migrated connection, or a note without a trailer.
    Packet,
    /// A note: incarnation and number in its trailer.
    Note(u32, u32),
    /// A report: its incarnation, kind and sequence number.
    Report(u32, usize, u32),
}

impl Sign {
    /// That of a message on LAN B.
    pub(super) fn of(message: &Message<'_>) -> Sign {
        message.trailer().map_or(Sign::Packet, |trailer| {
            Sign::Note(trailer.incarnation, trailer.number)
        })
    }

    /// That of an IP packet on the Synch LAN, if its checksums hold.
    pub(super) fn report(packet: &[u8]) -> Option<Sign> {
        let packet = Ipv4Packet::new_checked(packet).ok()?;
        if packet.next_header() != IpProtocol::Udp || !packet.verify_checksum() {
            return None;
        }
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
        if !datagram.verify_checksum(&source, &destination) {
            return None;
        }
        let message = SynchMessage::parse(datagram.payload()).ok()?;
        let header = message.header();
        let kind = match header.kind {
            SynchKind::High => 0,
            SynchKind::Medium => 1,
            SynchKind::Low => 2,
            SynchKind::Leave => 3,
        };
        Some(Sign::Report(header.incarnation, kind, header.sequence))
    }
}

/// What one server has heard of another one.
#[derive(Default)]
struct Ear {
    last: Instant,
    incarnation: u32,
    number: u32,
    sequence: [u32; 4],
}

impl Ear {
    /// Whether the sign is newer than what came before: a device takes no other.
    fn is_news(&mut self, sign: Sign) -> bool {
        if let Sign::Note(incarnation, _) | Sign::Report(incarnation, ..) = sign
            && incarnation > self.incarnation
        {
            *self = Ear {
                last: self.last,
                incarnation,
                ..Ear::default()
            };
        }
        let (incarnation, last, new) = match sign {
            Sign::Packet => return true,
            Sign::Note(incarnation, number) => (incarnation, &mut self.number, number),
            Sign::Report(incarnation, kind, sequence) => {
                (incarnation, &mut self.sequence[kind], sequence)
            }
        };
        let news = incarnation == self.incarnation && new > *last;
        if news {
            *last = new;
        }
        news
    }
}

/// Who has heard whom, and when.
#[derive(Default)]
pub(super) struct Hearing {
    /// So long a server may be silent. `None`: for ever.
    pub(super) patience: Option<Duration>,
    /// By hearer and speaker.
    ears: BTreeMap<(usize, usize), Ear>,
}

impl Hearing {
    /// A sign of `speaker` comes to `hearer`. When it may have been given up, if it was silent for so long before.
    pub(super) fn hears(
        &mut self,
        now: Instant,
        (hearer, speaker): (usize, usize),
        sign: Sign,
    ) -> Option<Instant> {
        let lost = self.lost_since(now, hearer, speaker);
        let ear = self.ears.entry((hearer, speaker)).or_default();
        if !ear.is_news(sign) {
            return None;
        }
        ear.last = now;
        lost
    }

    /// Since when `hearer` may take `speaker` for dead.
    pub(super) fn lost_since(
        &self,
        now: Instant,
        hearer: usize,
        speaker: usize,
    ) -> Option<Instant> {
        let since = self.ears.get(&(hearer, speaker))?.last + self.patience?;
        (since <= now).then_some(since)
    }

    /// The server has forgotten what it has heard.
    pub(super) fn forget(&mut self, hearer: usize) {
        self.ears.retain(|(known, _), _| *known != hearer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_heard_in_time_is_not_lost() {
        let mut hearing = Hearing {
            patience: Some(Duration::from_millis(10)),
            ..Hearing::default()
        };
        let mut hears = |at, sign| hearing.hears(Instant::from_millis(at), (0, 1), sign);
        assert_eq!(hears(20, Sign::Report(1, 0, 5)), None, "the first sign");
        assert_eq!(hears(29, Sign::Note(1, 1)), None);
        assert_eq!(hears(38, Sign::Report(1, 0, 4)), None, "a late one");
        let lost = Some(Instant::from_millis(39));
        assert_eq!(hears(39, Sign::Packet), lost);
        assert_eq!(hears(48, Sign::Report(2, 0, 1)), None, "a new life");
        assert_eq!(hears(57, Sign::Report(2, 0, 1)), None, "twice");
        assert_eq!(hearing.lost_since(Instant::from_millis(57), 0, 1), None);
        let lost = Some(Instant::from_millis(58));
        assert_eq!(hearing.lost_since(Instant::from_millis(60), 0, 1), lost);
        assert_eq!(hearing.lost_since(Instant::from_millis(60), 1, 0), None);
        hearing.forget(0);
        assert_eq!(hearing.lost_since(Instant::from_millis(60), 0, 1), None);
    }
}
