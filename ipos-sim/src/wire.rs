//! Between smoltcp and the network.

use std::cell::Cell;

use ipos_core::Instant;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmolInstant;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket};

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
    unoffered: &'a [u8],
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
            unoffered: &[],
        }
    }

    fn sending(&mut self) -> Sending<'_> {
        Sending {
            out: self.out,
            unoffered: self.unoffered,
        }
    }

    /// Leaves TCP options of these kinds out of SYNs: smoltcp has no switch for some that it always offers.
    pub(crate) fn without_options(self, kinds: &'a [u8]) -> Wire<'a> {
        Wire {
            unoffered: kinds,
            ..self
        }
    }
}

/// Replaces the options of these kinds in a SYN by NOPs.
fn blank_options(frame: &mut [u8], kinds: &[u8]) -> Option<()> {
    let mut frame = EthernetFrame::new_checked(frame).ok()?;
    if frame.ethertype() != EthernetProtocol::Ipv4 {
        return None;
    }
    let mut packet = Ipv4Packet::new_checked(frame.payload_mut()).ok()?;
    if packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    let mut segment = TcpPacket::new_checked(packet.payload_mut()).ok()?;
    if !segment.syn() {
        return None;
    }
    let mut rest = segment.options_mut();
    while let [kind, more @ ..] = &*rest {
        let len = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(*more.first()?),
        };
        if kinds.contains(kind) {
            rest.get_mut(..len)?.fill(1);
        }
        rest = rest.get_mut(len.max(1)..)?;
    }
    segment.fill_checksum(&source, &destination);
    Some(())
}

/// A received frame.
pub(crate) struct Received<'a>(&'a [u8]);

/// The right to send a frame.
pub(crate) struct Sending<'a> {
    out: &'a mut Outbox,
    unoffered: &'a [u8],
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut fill = Some(f);
        let mut result = None;
        self.out.build(PORT, |buffer| {
            let room = buffer.get_mut(..len)?;
            room.fill(0);
            result = fill.take().map(|fill| fill(room));
            if !self.unoffered.is_empty() {
                blank_options(room, self.unoffered);
            }
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
        let frame = self.received.take()?;
        Some((Received(frame), self.sending()))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Sending<'_>> {
        Some(self.sending())
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
