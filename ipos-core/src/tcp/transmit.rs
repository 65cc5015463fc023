//! The sending half: sequence space, window, buffer, and what is in flight.

use ipos_proto::SeqNum;

use super::flight::Flight;
use super::ring::Ring;
use crate::time::Instant;

/// Send sequence space (RFC 9293 §3.3.1) and buffer.
#[derive(Clone, Debug)]
pub(crate) struct Transmit {
    /// Initial send sequence number.
    pub(crate) iss: SeqNum,
    /// Oldest sequence number not acknowledged.
    pub(crate) una: SeqNum,
    /// Next to be sent for the first time.
    pub(crate) nxt: SeqNum,
    /// The client's window, scaled, in bytes.
    pub(crate) wnd: u32,
    /// Sequence number of the segment that last updated it.
    pub(crate) wl1: SeqNum,
    /// Acknowledgment number of that segment.
    pub(crate) wl2: SeqNum,
    /// The greatest window that the client has announced.
    pub(crate) max_wnd: u32,
    /// A small window has stayed so for long enough to be used (RFC 9293 §3.8.6.2.1, the override timeout).
    pub(crate) small: bool,
    /// What was sent and is not acknowledged.
    pub(crate) flight: Flight,
    /// The SYN is not acknowledged yet.
    opening: bool,
    fin: Fin,
    ring: Ring,
}

/// Our FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fin {
    /// The application may write.
    No,
    /// It follows the last byte.
    Wanted,
    /// The client has it.
    Acknowledged,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Sequence number of its first byte.
    pub(crate) seq: SeqNum,
    /// Offset in the send buffer.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) len: u32,
    /// The FIN follows.
    pub(crate) fin: bool,
    /// It is the last that waits (the PSH bit's meaning).
    pub(crate) last: bool,
}

impl Piece {
    /// One past the last sequence number.
    pub(crate) fn end(&self) -> SeqNum {
        self.seq + self.len + u32::from(self.fin)
    }
}

impl Transmit {
    /// Before the SYN-ACK.
    pub(crate) fn new(iss: SeqNum) -> Transmit {
        Transmit {
            iss,
            una: iss,
            nxt: iss,
            wnd: 0,
            wl1: SeqNum::default(),
            wl2: SeqNum::default(),
            max_wnd: 0,
            small: false,
            flight: Flight::default(),
            opening: true,
            fin: Fin::No,
            ring: Ring::default(),
        }
    }

    /// From another server's values: everything before `nxt` was acknowledged there.
    pub(crate) fn resume(iss: SeqNum, nxt: SeqNum) -> Transmit {
        Transmit {
            una: nxt,
            nxt,
            opening: false,
            ..Transmit::new(iss)
        }
    }

    /// Bytes that the application may add, when it may have `limit` waiting and in flight.
    pub(crate) fn room(&self, limit: usize) -> usize {
        if self.fin == Fin::No {
            limit.saturating_sub(self.ring.len())
        } else {
            0
        }
    }

    /// Takes as much of `data` as there is room for.
    pub(crate) fn write(&mut self, data: &[u8], limit: usize) -> usize {
        let n = data.len().min(self.room(limit));
        self.ring.push(&data[..n]);
        n
    }

    /// A FIN shall follow what was written.
    pub(crate) fn close(&mut self) {
        if self.fin == Fin::No {
            self.fin = Fin::Wanted;
        }
    }

    /// Sequence number of the first byte in the buffer: data begins behind the SYN.
    fn start(&self) -> SeqNum {
        self.una + u32::from(self.opening)
    }

    /// One past the last byte written.
    fn end(&self) -> SeqNum {
        self.start() + self.ring.len() as u32
    }

    /// Bytes (and FIN) sent from `una` on.
    pub(crate) fn in_flight(&self) -> u32 {
        self.nxt.since(self.una).max(0) as u32
    }

    /// Something was sent that is not acknowledged.
    pub(crate) fn outstanding(&self) -> bool {
        self.una.lt(self.nxt)
    }

    /// Something was written, or the FIN, that was never sent.
    pub(crate) fn waiting(&self) -> bool {
        let end = self.end();
        self.nxt.lt(end) || (self.fin == Fin::Wanted && self.nxt == end)
    }

    /// Nothing that was written is left.
    pub(crate) fn drained(&self) -> bool {
        self.ring.is_empty()
    }

    /// The next piece that was never sent, if the client's window and the silly window rule of RFC 9293 §3.8.6.2.1 let it
    /// go.
    pub(crate) fn next(&self, mss: u32) -> Option<Piece> {
        if self.flight.is_full() {
            return None;
        }
        let end = self.end();
        let left = end.since(self.nxt).max(0) as u32;
        let usable = self.wnd.saturating_sub(self.in_flight());
        let len = left.min(usable).min(mss);
        // The FIN occupies a sequence number of the window too.
        let fin = self.fin == Fin::Wanted && len == left && self.nxt.le(end) && usable > len;
        if len == 0 && !fin {
            return None;
        }
        let cut_by_window = len < left && len < mss;
        if cut_by_window && len < self.max_wnd / 2 && !self.small {
            return None;
        }
        Some(self.piece(self.nxt, len, fin))
    }

    /// The first `mss` bytes at most of a segment that was sent before.
    pub(crate) fn again(&self, start: SeqNum, end: SeqNum, mss: u32) -> Piece {
        let data = end.min(self.end()).since(start).max(0) as u32;
        let len = data.min(mss);
        let fin = self.end().lt(end) && len == data;
        self.piece(start, len, fin)
    }

    fn piece(&self, seq: SeqNum, len: u32, fin: bool) -> Piece {
        let offset = seq.since(self.start()).max(0) as usize;
        Piece {
            seq,
            offset,
            len,
            fin,
            last: offset + len as usize == self.ring.len(),
        }
    }

    /// Notes that a segment was sent: for the first time, or again.
    pub(crate) fn sent(&mut self, now: Instant, start: SeqNum, end: SeqNum) {
        if start == self.nxt {
            self.small = false;
            self.flight.push(start, end, now);
            self.nxt = end;
        } else {
            self.flight
                .sent_again(start, end.since(start).max(0) as u32, now);
        }
    }

    /// `ack` acknowledges new data (una < ack <= nxt): how many bytes left the buffer, and whether the FIN is acknowledged.
    /// The flight is told apart.
    pub(crate) fn acknowledge(&mut self, ack: SeqNum) -> (u32, bool) {
        let end = self.end();
        let data = ack.min(end).since(self.start()).max(0) as u32;
        self.ring.consume(data as usize, false);
        self.una = ack;
        self.opening = false;
        let fin = self.fin == Fin::Wanted && end.lt(ack);
        if fin {
            self.fin = Fin::Acknowledged;
        }
        (data, fin)
    }

    /// Copies a piece's bytes to `out`.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) -> usize {
        self.ring.read_at(offset, out)
    }

    /// Gives back what memory is not in use; `idle`: nothing is.
    pub(crate) fn release_memory(&mut self, idle: bool) {
        self.ring.look(idle);
        if idle {
            self.flight.release();
        }
    }

    /// Bytes of memory held by the buffer.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity() + self.flight.memory()
    }
}
