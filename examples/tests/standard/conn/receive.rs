//! A connection's receiving half: what comes is waited for, read, acknowledged, or lost.

use std::time::{Duration, Instant};

use etherparse::{EtherType, Ethernet2Slice};

use super::Conn;
use crate::app::pattern;
use crate::cx::{Outcome, SOON, ensure};
use crate::segment::{FIN, RST, Seen, after};

impl Conn<'_> {
    /// The next segment of this connection.
    pub fn next(&mut self, within: Duration) -> Option<Seen> {
        if let Some(seen) = self.backlog.pop_front() {
            return Some(seen);
        }
        self.receive(within)
    }

    pub(super) fn receive(&mut self, within: Duration) -> Option<Seen> {
        let end = Instant::now() + within;
        loop {
            let (at, frame) = self
                .host
                .next(end.saturating_duration_since(Instant::now()))?;
            let ethernet = Ethernet2Slice::from_slice_without_fcs(&frame).ok()?;
            // TCP over IPv4.
            if ethernet.ether_type() != EtherType::IPV4 || frame.get(23) != Some(&6) {
                continue;
            }
            match Seen::read(at, &frame) {
                Err(what) => self
                    .cx
                    .violation(format!("the server sends a segment that is broken: {what}")),
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
    pub fn expect_within(
        &mut self,
        within: Duration,
        what: &str,
        mut matches: impl FnMut(&Seen) -> bool,
    ) -> Outcome<Seen> {
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
    pub fn refuse(
        &mut self,
        within: Duration,
        what: &str,
        mut matches: impl FnMut(&Seen) -> bool,
    ) -> Outcome {
        let rcv = self.rcv;
        // Data that is sent again says that this machine is busy, nothing else.
        let again = |seen: &Seen| seen.has_data() && !after(seen.data_end(), rcv);
        match self.expect_within(within, what, |seen| !again(seen) && matches(seen)) {
            Ok(seen) => Err(format!("{what} came: {}", self.describe(&seen))),
            Err(_) => Ok(()),
        }
    }

    /// Takes all segments until none comes for a while.
    pub fn drain(&mut self, pause: Duration) -> Vec<Seen> {
        let end = Instant::now() + SOON;
        std::iter::from_fn(|| self.next(pause))
            .take_while(|seen| seen.at < end)
            .collect()
    }

    /// Waits until the server has acknowledged everything; its data waits for the case.
    pub fn wait_acknowledged(&mut self) -> Outcome {
        let end = Instant::now() + SOON;
        while after(self.nxt, self.acked) {
            let Some(seen) = self.receive(end.saturating_duration_since(Instant::now())) else {
                let missing = self.nxt.wrapping_sub(self.acked);
                return Err(format!(
                    "the last {missing} bytes (or FIN) are not acknowledged within {SOON:?}"
                ));
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
        self.expect(what, |seen| {
            seen.is_bare_ack() && seen.ack == nxt && seen.seq == rcv
        })
    }

    /// Moves on over what has come in order.
    pub fn advance(&mut self) {
        while self
            .bytes
            .get(self.offset(self.rcv))
            .is_some_and(Option::is_some)
        {
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

    /// A segment was lost on its way: its data must come again.
    pub fn lose(&mut self, seen: &Seen) {
        self.lose_range(seen.seq, seen.payload.len());
    }

    /// As [`Conn::lose`], for `len` bytes from `seq` on.
    pub fn lose_range(&mut self, seq: u32, len: usize) {
        let from = self.offset(seq);
        if let Some(bytes) = self.bytes.get_mut(from..from + len) {
            bytes.fill(None);
        }
    }

    /// What has come behind gaps, for SACK: first the block with `latest`, at most three.
    pub fn blocks(&self, latest: u32) -> Vec<(u32, u32)> {
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for at in self.offset(self.rcv)..self.bytes.len() {
            match (self.bytes[at], blocks.last_mut()) {
                (None, _) => {}
                (Some(_), Some((_, right))) if *right == at => *right += 1,
                (Some(_), _) => blocks.push((at, at + 1)),
            }
        }
        let latest = self.offset(latest);
        blocks.sort_by_key(|(left, right)| !(*left..*right).contains(&latest));
        blocks.truncate(3);
        let seq = |at: usize| self.irs.wrapping_add(1).wrapping_add(at as u32);
        blocks
            .into_iter()
            .map(|(left, right)| (seq(left), seq(right)))
            .collect()
    }

    /// Reads the next `n` bytes, and acknowledges every segment.
    pub fn read(&mut self, n: usize) -> Outcome<Vec<u8>> {
        let (start, end) = (self.read, self.read + n);
        self.take();
        while self.offset(self.rcv) < end {
            let left = end - self.offset(self.rcv);
            self.expect(
                &format!("data, of which {left} bytes of {n} are missing,"),
                Seen::has_data,
            )?;
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
            self.expect(&format!("data or FIN after {got} of {n} bytes"), |seen| {
                seen.has_data() || seen.has(FIN)
            })?;
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
        self.echo(b"still here")
            .map_err(|error| format!("the connection does not work any more: {error}"))
    }

    /// `n` bytes that came, from `start` of the server's stream on.
    fn copy(&self, start: usize, n: usize) -> Outcome<Vec<u8>> {
        let bytes = self.bytes.get(start..start + n).unwrap_or_default();
        let bytes: Option<Vec<u8>> = bytes.iter().copied().collect();
        bytes
            .filter(|bytes| bytes.len() == n)
            .ok_or_else(|| "bytes are missing".to_owned())
    }
}

fn check_pattern(offset: usize, came: &[u8]) -> Outcome {
    match (offset..)
        .zip(came)
        .find(|&(at, byte)| pattern(at) != *byte)
    {
        Some((at, _)) => Err(format!("byte {at} of the application's data is wrong")),
        None => Ok(()),
    }
}
