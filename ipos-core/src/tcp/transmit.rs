//! The sending half: sequence space, window and buffer.

use ipos_proto::SeqNum;

use super::ring::Ring;

/// Send sequence space (RFC 9293 §3.3.1) and buffer.
#[derive(Clone, Debug)]
pub(crate) struct Transmit {
    /// Initial send sequence number.
    pub(crate) iss: SeqNum,
    /// Oldest sequence number not acknowledged.
    pub(crate) una: SeqNum,
    /// Next to be sent; behind `max` while sending again.
    pub(crate) nxt: SeqNum,
    /// One past the highest ever sent.
    pub(crate) max: SeqNum,
    /// The client's window, scaled, in bytes.
    pub(crate) wnd: u32,
    /// Sequence number of the segment that last updated it.
    pub(crate) wl1: SeqNum,
    /// Acknowledgment number of that segment.
    pub(crate) wl2: SeqNum,
    /// The greatest window that the client has announced.
    pub(crate) max_wnd: u32,
    /// Bytes that the application may have waiting and in flight.
    pub(crate) limit: u32,
    /// A FIN follows the last byte.
    closing: bool,
    ring: Ring,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Sequence number of its first byte.
    pub(crate) seq: SeqNum,
    /// Offset in the send buffer.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) len: usize,
    /// The FIN follows.
    pub(crate) fin: bool,
    /// It is the last that waits (the PSH bit's meaning).
    pub(crate) last: bool,
}

impl Transmit {
    /// Before the SYN-ACK.
    pub(crate) fn new(iss: SeqNum, limit: u32) -> Transmit {
        Transmit {
            iss,
            una: iss,
            nxt: iss,
            max: iss,
            wnd: 0,
            wl1: SeqNum::default(),
            wl2: SeqNum::default(),
            max_wnd: 0,
            limit,
            closing: false,
            ring: Ring::default(),
        }
    }

    /// Bytes that the application may add.
    pub(crate) fn room(&self) -> usize {
        if self.closing {
            0
        } else {
            (self.limit as usize).saturating_sub(self.ring.len())
        }
    }

    /// Takes as much of `data` as there is room for.
    pub(crate) fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.room());
        self.ring.push(&data[..n]);
        n
    }

    /// A FIN shall follow what was written.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// One past the last byte written. Data begins behind the SYN.
    fn end(&self) -> SeqNum {
        self.una.max(self.iss + 1) + self.ring.len() as u32
    }

    /// The FIN's sequence number has been sent at least once.
    pub(crate) fn fin_sent(&self) -> bool {
        self.closing && self.end().lt(self.max)
    }

    /// Bytes (and FIN) sent from `una` on.
    pub(crate) fn in_flight(&self) -> u32 {
        self.nxt.since(self.una).max(0) as u32
    }

    /// Something was sent that is not acknowledged.
    pub(crate) fn outstanding(&self) -> bool {
        self.una.lt(self.max)
    }

    /// There is something behind `nxt` that was never sent, or must be sent again.
    pub(crate) fn waiting(&self) -> bool {
        let end = self.end();
        self.nxt.lt(end) || (self.closing && self.nxt == end)
    }

    /// Everything written was acknowledged.
    pub(crate) fn drained(&self) -> bool {
        self.ring.is_empty()
    }

    /// The next piece from `nxt`, if a window of `window` bytes from `una` and the silly window rule of
    /// RFC 9293 §3.8.6.2.1 let it go.
    pub(crate) fn next(&self, window: u32, mss: u32) -> Option<Piece> {
        let end = self.end();
        let left = end.since(self.nxt).max(0) as u32;
        let usable = window.saturating_sub(self.in_flight());
        let len = left.min(usable).min(mss);
        // The FIN occupies a sequence number of the window too.
        let fin = self.closing && len == left && self.nxt.le(end) && usable > len;
        if len == 0 && !fin {
            return None;
        }
        let cut_by_window = len < left && len < mss;
        if cut_by_window && len < self.max_wnd / 2 && self.outstanding() {
            return None;
        }
        Some(self.piece(self.nxt, len, fin))
    }

    /// The segment at `una`, to be sent again.
    pub(crate) fn first(&self, mss: u32) -> Piece {
        let sent = self.max.since(self.una).max(0) as u32;
        let data = (self.ring.len() as u32).min(sent);
        let len = data.min(mss);
        let fin = self.fin_sent() && len == self.ring.len() as u32;
        self.piece(self.una, len, fin)
    }

    fn piece(&self, seq: SeqNum, len: u32, fin: bool) -> Piece {
        let offset = seq.since(self.una.max(self.iss + 1)).max(0) as usize;
        Piece {
            seq,
            offset,
            len: len as usize,
            fin,
            last: offset + len as usize == self.ring.len(),
        }
    }

    /// Notes that the sequence space up to `to` was sent.
    pub(crate) fn sent(&mut self, to: SeqNum) {
        self.nxt = self.nxt.max(to);
        self.max = self.max.max(to);
    }

    /// Everything from `una` on must be sent again.
    pub(crate) fn go_back(&mut self) {
        self.nxt = self.una;
    }

    /// `ack` acknowledges new data (una < ack <= max); how many bytes left the buffer, and whether
    /// the FIN is acknowledged.
    pub(crate) fn acknowledge(&mut self, ack: SeqNum) -> (u32, bool) {
        let end = self.end();
        let data_from = self.una.max(self.iss + 1);
        let data = ack.min(end).since(data_from).max(0) as u32;
        self.ring.consume(data as usize, false);
        self.una = ack;
        self.nxt = self.nxt.max(ack);
        (data, self.closing && end.lt(ack))
    }

    /// Copies a piece's bytes to `out`.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) -> usize {
        self.ring.read_at(offset, out)
    }

    /// Bytes of memory held by the buffer.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity()
    }
}
