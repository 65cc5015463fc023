//! Packets in: verified views over a frame's bytes.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::Range;

use etherparse::{IpNumber, Ipv4HeaderSlice, TcpSlice, UdpSlice};
use ipos_proto::{Checksum, Protocol, internet_checksum};

use crate::counters::DropReason;
use crate::flow::Flow;

/// EtherType of IPv4.
pub(crate) const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub(crate) const ARP: u16 = 0x0806;

/// An IPv4 packet whose header is right: its length, its checksum, not a fragment.
#[derive(Clone, Debug)]
pub(crate) struct Ipv4Packet<'a> {
    header: Ipv4HeaderSlice<'a>,
    bytes: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads the packet at the start of `bytes`; what follows its total length is padding.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Ipv4Packet<'a>, DropReason> {
        let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|_| DropReason::Malformed)?;
        let bytes = bytes
            .get(..usize::from(header.total_len()))
            .ok_or(DropReason::Malformed)?;
        if header.slice().len() > bytes.len() {
            return Err(DropReason::Malformed);
        }
        if internet_checksum(header.slice()) != 0 {
            return Err(DropReason::IpChecksum);
        }
        if header.is_fragmenting_payload() {
            return Err(DropReason::Fragment);
        }
        Ok(Ipv4Packet { header, bytes })
    }

    pub(crate) fn source(&self) -> Ipv4Addr {
        self.header.source_addr()
    }

    pub(crate) fn destination(&self) -> Ipv4Addr {
        self.header.destination_addr()
    }

    pub(crate) fn protocol(&self) -> IpNumber {
        self.header.protocol()
    }

    /// The whole packet, without padding.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header.slice().len()..]
    }

    /// The TCP segment, its checksum verified.
    pub(crate) fn tcp(&self) -> Result<TcpSlice<'a>, DropReason> {
        let slice = TcpSlice::from_slice(self.payload()).map_err(|_| DropReason::Malformed)?;
        if self.has_right_checksum(IpNumber::TCP) {
            Ok(slice)
        } else {
            Err(DropReason::TransportChecksum)
        }
    }

    /// A transport checksum verifies over the pseudo header and what follows the IPv4 header.
    fn has_right_checksum(&self, protocol: IpNumber) -> bool {
        let payload = self.payload();
        // A packet's length has 16 bits.
        let length = payload.len() as u16;
        let sum = Checksum::default()
            .with(&self.header.source())
            .with(&self.header.destination())
            .with(&[0, protocol.0])
            .with(&length.to_be_bytes())
            .with(payload);
        sum.finish() == 0
    }

    /// The flow that a client's segment belongs to.
    pub(crate) fn tcp_flow(&self, slice: &TcpSlice<'_>) -> Flow {
        Flow {
            client: SocketAddrV4::new(self.source(), slice.source_port()),
            endpoint: SocketAddrV4::new(self.destination(), slice.destination_port()),
            protocol: Protocol::Tcp,
        }
    }

    /// The UDP datagram, its checksum verified (0 = none was made, RFC 768).
    pub(crate) fn verified_udp(&self) -> Result<UdpSlice<'a>, DropReason> {
        let slice = UdpSlice::from_slice(self.payload()).map_err(|_| DropReason::Malformed)?;
        if slice.checksum() == 0 {
            return Ok(slice);
        }
        let (source, destination) = (self.header.source(), self.header.destination());
        let header = slice.to_header();
        match header.calc_checksum_ipv4_raw(source, destination, slice.payload()) {
            Ok(sum) if sum == slice.checksum() => Ok(slice),
            _ => Err(DropReason::TransportChecksum),
        }
    }

    /// A client's datagram: its flow, and what it carries.
    pub(crate) fn udp(&self) -> Result<(Flow, &'a [u8]), DropReason> {
        let slice = self.verified_udp()?;
        let client = SocketAddrV4::new(self.source(), slice.source_port());
        let endpoint = SocketAddrV4::new(self.destination(), slice.destination_port());
        Ok((Flow::udp(client, endpoint), slice.payload()))
    }

    /// Where the packet lies in a frame whose Ethernet header it follows.
    pub(crate) fn range(&self) -> Range<usize> {
        ipos_proto::ETHERNET_LEN..ipos_proto::ETHERNET_LEN + self.bytes.len()
    }
}
