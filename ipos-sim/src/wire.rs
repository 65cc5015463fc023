//! Between smoltcp and the network.

use std::cell::Cell;

use ipos_core::Instant;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;

use crate::frame::Outbox;
use crate::stream::Stream;

/// The one port of a client.
pub(crate) const PORT: usize = 0;

/// smoltcp's moment.
pub(crate) fn moment(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// Our moment.
pub(crate) fn instant(moment: SmolInstant) -> Instant {
    Instant::from_micros(u64::try_from(moment.total_micros()).unwrap_or(0))
}

thread_local! {
    /// smoltcp asks a plain function for the timestamp option's clock (RFC 7323). [`Wire`] sets it to the virtual
    /// time before every call, so nothing of it outlives a call.
    static TIMESTAMP: Cell<u32> = const { Cell::new(0) };
}

/// The timestamp clock, in milliseconds of virtual time.
pub(crate) fn timestamp() -> u32 {
    TIMESTAMP.get()
}

/// A smoltcp device for one call: at most one received frame, and an outbox.
pub(crate) struct Wire<'a> {
    received: Option<&'a [u8]>,
    out: &'a mut Outbox,
    frame: usize,
}

impl<'a> Wire<'a> {
    /// `frame`: the largest frame, in bytes.
    pub(crate) fn new(
        now: Instant,
        received: Option<&'a [u8]>,
        out: &'a mut Outbox,
        frame: usize,
    ) -> Wire<'a> {
        TIMESTAMP.set(now.as_millis() as u32);
        Wire {
            received,
            out,
            frame,
        }
    }
}

/// A received frame.
pub(crate) struct Received<'a>(&'a [u8]);

/// The right to send a frame.
pub(crate) struct Sending<'a>(&'a mut Outbox);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut fill = Some(f);
        let mut result = None;
        self.0.build(PORT, |buffer| {
            let room = buffer.get_mut(..len)?;
            room.fill(0);
            result = fill.take().map(|fill| fill(room));
            Some(len)
        });
        match (result, fill) {
            (Some(result), _) => result,
            // Longer than any frame of the network: built for smoltcp's sake, and not sent.
            (None, Some(fill)) => fill(&mut vec![0; len]),
            (None, None) => unreachable!("a result comes from the closure, which is called once"),
        }
    }
}

impl Device for Wire<'_> {
    type RxToken<'b>
        = Received<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Sending<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received<'_>, Sending<'_>)> {
        self.received
            .take()
            .map(|frame| (Received(frame), Sending(self.out)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sending<'_>> {
        Some(Sending(self.out))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame;
        capabilities
    }
}

/// A smoltcp socket as a [`Stream`].
pub(crate) struct Socket<'a>(pub(crate) &'a mut tcp::Socket<'static>);

impl Stream for Socket<'_> {
    fn readable(&mut self) -> &[u8] {
        self.0.peek(usize::MAX).unwrap_or_default()
    }

    fn consume(&mut self, n: usize) {
        // An error means that nothing is readable, so that there is nothing to take.
        let _ = self.0.recv(|bytes| (n.min(bytes.len()), ()));
    }

    fn is_finished(&mut self) -> bool {
        self.0.peek(1) == Err(tcp::RecvError::Finished)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        // An error means that the connection takes no more bytes.
        self.0.send_slice(data).unwrap_or(0)
    }

    fn shutdown(&mut self) {
        self.0.close();
    }
}
