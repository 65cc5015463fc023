//! Between smoltcp and the network: for nodes that run it, see [`Node`](crate::Node).

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
pub fn moment(now: Instant) -> SmolInstant {
    SmolInstant::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// Our moment.
pub fn instant(moment: SmolInstant) -> Instant {
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
pub struct Wire<'a> {
    received: Option<&'a [u8]>,
    out: &'a mut Outbox,
    frame: usize,
    unoffered: &'a [u8],
}

impl<'a> Wire<'a> {
    /// For one call at `now`. `frame`: the largest frame, in bytes.
    pub fn new(
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
    pub fn without_options(self, kinds: &'a [u8]) -> Wire<'a> {
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
pub struct Received<'a>(&'a [u8]);

/// The right to send a frame.
pub struct Sending<'a> {
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
pub struct Socket<'a>(pub &'a mut tcp::Socket<'static>);

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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetAddress, EthernetRepr, IpAddress, Ipv4Repr, TcpControl, TcpRepr, TcpSeqNumber,
    };

    use super::*;

    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    /// A segment with every option, as it goes out when the options of these kinds are not offered.
    fn sent(control: TcpControl, unoffered: &[u8]) -> Vec<u8> {
        let tcp = TcpRepr {
            src_port: 1,
            dst_port: 2,
            control,
            seq_number: TcpSeqNumber(7),
            ack_number: None,
            window_len: 1000,
            window_scale: Some(3),
            max_seg_size: Some(1400),
            sack_permitted: true,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let ip = Ipv4Repr {
            src_addr: SOURCE,
            dst_addr: DESTINATION,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let ethernet = EthernetRepr {
            src_addr: EthernetAddress([2; 6]),
            dst_addr: EthernetAddress([4; 6]),
            ethertype: EthernetProtocol::Ipv4,
        };
        let len = ethernet.buffer_len() + ip.buffer_len() + tcp.buffer_len();
        let checksums = ChecksumCapabilities::default();
        let mut out = Outbox::new(200);
        let mut wire = Wire::new(Instant::ZERO, None, &mut out, 200).without_options(unoffered);
        wire.sending().consume(len, |buffer| {
            let mut frame = EthernetFrame::new_unchecked(buffer);
            ethernet.emit(&mut frame);
            let mut packet = Ipv4Packet::new_unchecked(frame.payload_mut());
            ip.emit(&mut packet, &checksums);
            let mut segment = TcpPacket::new_unchecked(packet.payload_mut());
            tcp.emit(
                &mut segment,
                &SOURCE.into(),
                &DESTINATION.into(),
                &checksums,
            );
        });
        let (_, frame) = out.waiting().next().unwrap();
        frame[ethernet.buffer_len() + ip.buffer_len()..].to_vec()
    }

    fn read(segment: &[u8]) -> TcpRepr<'_> {
        let segment = TcpPacket::new_checked(segment).unwrap();
        let (source, destination): (IpAddress, IpAddress) = (SOURCE.into(), DESTINATION.into());
        let checksums = ChecksumCapabilities::default();
        TcpRepr::parse(&segment, &source, &destination, &checksums).unwrap()
    }

    #[test]
    fn options_that_are_not_offered_are_not_in_the_syn() {
        for kinds in [&[][..], &[2], &[3], &[4], &[3, 4], &[2, 3, 4]] {
            let bytes = sent(TcpControl::Syn, kinds);
            let syn = read(&bytes);
            assert_eq!(syn.max_seg_size.is_none(), kinds.contains(&2), "{kinds:?}");
            assert_eq!(syn.window_scale.is_none(), kinds.contains(&3), "{kinds:?}");
            assert_eq!(!syn.sack_permitted, kinds.contains(&4), "{kinds:?}");
        }
        let other = sent(TcpControl::None, &[2, 3, 4]);
        assert_eq!(read(&other).max_seg_size, Some(1400), "only SYNs offer");
    }
}
