//! The rules that every segment of a server must keep to, whatever the case.

use std::time::Duration;

use super::{Conn, Offer, offer::DEFAULT_MSS};
use crate::segment::{ACK, FIN, RST, SYN, Seen, after};

/// Segments that come within it may have been sent the other way round.
const OVERTAKING: Duration = Duration::from_millis(20);

impl Conn<'_> {
    /// What every segment of a server must keep to.
    pub(super) fn note(&mut self, seen: &Seen) {
        let line = format!("<- {} from {:02x?}", self.describe(seen), seen.from[5]);
        self.cx.log(&line);
        let cx = self.cx;
        let broken = |what: String| cx.violation(what);
        if seen.to != self.host.hardware {
            broken(format!(
                "a segment for {:02x?} is sent to {:02x?}",
                self.host.hardware, seen.to
            ));
        }
        if seen.source != self.to {
            broken(format!("a segment comes from {}", seen.source));
        }
        if !self.cx.bed.senders.contains(&seen.from) {
            broken(format!(
                "a segment comes from the hardware address {:02x?}",
                seen.from
            ));
        }
        if seen.has(RST) {
            return;
        }
        if seen.has(SYN) {
            return self.note_syn_ack(seen);
        }
        if self.syn_ack.is_none() {
            // An answer of an earlier connection, or of a server that has none.
            return;
        }
        if !self.senders.contains(&seen.from) {
            self.senders.push(seen.from);
        }
        if self.senders.last() != Some(&seen.from) {
            broken("the first server sends again on a connection that has left it".to_owned());
        }
        self.largest = self.largest.max(seen.payload.len() + seen.options_len);
        self.note_options(seen);
        self.note_numbers(seen);
        self.note_data(seen);
        self.heard = seen.at;
    }

    /// The kernel sends from every processor, so that neighbours may overtake each other.
    fn is_overtaken(&self, seen: &Seen) -> bool {
        self.cx.is_kernel() && seen.at.saturating_duration_since(self.heard) < OVERTAKING
    }

    fn note_syn_ack(&mut self, seen: &Seen) {
        let Offer {
            scale,
            sack,
            timestamps,
            ..
        } = self.offer;
        let options = &seen.options;
        for (came, offered, name) in [
            (options.scale.is_some(), scale.is_some(), "window scale"),
            (options.sack_permitted, sack, "SACK-permitted"),
            (options.timestamp.is_some(), timestamps, "timestamps"),
        ] {
            if came && !offered {
                self.cx.violation(format!(
                    "the SYN-ACK has the option {name}, which was not offered"
                ));
            }
        }
        if let Some(first) = &self.syn_ack {
            if first.seq != seen.seq {
                self.cx
                    .violation("a repeated SYN-ACK has another sequence number".to_owned());
            }
            return;
        }
        self.senders = vec![seen.from];
        (self.irs, self.rcv) = (seen.seq, seen.seq.wrapping_add(1));
        (self.acked, self.allowed) = (seen.ack, self.rcv);
        self.edge = seen.ack.wrapping_add(seen.window.into());
        self.take_timestamp(seen);
        self.syn_ack = Some(seen.clone());
    }

    fn take_timestamp(&mut self, seen: &Seen) {
        let Some((value, _)) = seen.options.timestamp else {
            return;
        };
        if let Some(last) = self.tsval
            && after(last, value)
        {
            if !self.is_overtaken(seen) {
                self.cx
                    .violation(format!("TSval goes back from {last} to {value}"));
            }
            return;
        }
        self.tsval = Some(value);
        self.recent = value;
    }

    fn note_options(&mut self, seen: &Seen) {
        let (options, agreed) = (&seen.options, self.agreed());
        if options.timestamp.is_some() != agreed.timestamp.is_some() {
            self.cx
                .violation("the timestamps option is not as agreed".to_owned());
        }
        if !options.sack.is_empty() && !agreed.sack_permitted {
            self.cx.violation("SACK without agreement".to_owned());
        }
        if options.mss.is_some() || options.scale.is_some() || options.sack_permitted {
            self.cx
                .violation("an option of SYNs in another segment".to_owned());
        }
        let largest = usize::from(self.offer.mss.unwrap_or(DEFAULT_MSS));
        if seen.has_data() && seen.payload.len() + seen.options_len > largest {
            self.cx.violation(format!(
                "{} bytes of data with {} bytes of options are above the MSS of {largest}",
                seen.payload.len(),
                seen.options_len
            ));
        }
        self.take_timestamp(seen);
    }

    fn note_numbers(&mut self, seen: &Seen) {
        if !seen.has(ACK) {
            return self.cx.violation("a segment without ACK".to_owned());
        }
        let edge = seen
            .ack
            .wrapping_add(u32::from(seen.window) << self.server_scale());
        let back = after(self.acked, seen.ack) || after(self.edge, edge);
        if back && self.is_overtaken(seen) {
            return;
        }
        if after(self.acked, seen.ack) {
            let back = self.acked.wrapping_sub(seen.ack);
            self.cx
                .violation(format!("the acknowledgment number goes back by {back}"));
        }
        if after(seen.ack, self.sent) {
            self.cx
                .violation("what was never sent is acknowledged".to_owned());
        }
        self.acked = seen.ack;
        if after(self.edge, edge) {
            let back = self.edge.wrapping_sub(edge);
            self.shrunk = true;
            if !self.may_shrink {
                self.cx
                    .violation(format!("the right edge of the window goes back by {back}"));
            }
        }
        self.edge = edge;
    }

    fn note_data(&mut self, seen: &Seen) {
        if seen.has_data() && after(seen.data_end(), self.allowed) {
            let beyond = seen.data_end().wrapping_sub(self.allowed);
            self.cx
                .violation(format!("data {beyond} bytes beyond our window"));
        }
        for (at, byte) in (self.offset(seen.seq)..).zip(&seen.payload) {
            // Below the first byte: no data can be there.
            if at > 1 << 30 {
                return self
                    .cx
                    .violation("data before the first sequence number".to_owned());
            }
            if self.bytes.len() <= at {
                self.bytes.resize(at + 1, None);
            }
            if self.bytes[at].is_some_and(|before| before != *byte) {
                return self
                    .cx
                    .violation(format!("byte {at} is another one when it is sent again"));
            }
            self.bytes[at] = Some(*byte);
        }
        if seen.has(FIN) {
            if self.fin.is_some_and(|fin| fin != seen.data_end()) {
                self.cx.violation("the FIN has moved".to_owned());
            }
            self.fin = Some(seen.data_end());
        }
    }
}
