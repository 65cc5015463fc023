//! Bursts: segments of one TCP connection that pass a port as one frame, and are cut where the port ends (what
//! Linux calls GSO, and GRO on the way in).

use ipos_proto::Checksum;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// EtherType of IPv4.
const IPV4: [u8; 2] = [0x08, 0x00];
/// RFC 9293's number in an IPv4 header.
const TCP: u8 = 6;
/// Offset of the checksum in a TCP header.
const CHECKSUM: usize = 16;
/// Offset of the control bits in a TCP header.
const FLAGS: usize = 13;
/// FIN and PSH, which belong to the last segment.
const AT_THE_END: u8 = 0x01 | 0x08;

/// How a frame with an IPv4 packet and a TCP segment, which may be longer than the MTU allows, becomes segments that are not.
///
/// The segment's checksum field holds the sum of its pseudo header (not complemented): who cuts the frame completes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Where the TCP header begins, in bytes from the frame's start.
    pub transport: u16,
    /// Bytes of data that each segment carries, but the last, which may carry less; not 0.
    pub segment: u16,
}

/// A [`Burst`] that is being cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Where the TCP header begins.
    transport: usize,
    /// Where the data begins, and where it ends.
    data: usize,
    end: usize,
    segment: usize,
    /// Where the next segment's data begins; `None`: all are cut.
    at: Option<usize>,
    index: u16,
}

impl Cut {
    /// Begins to cut `frame`. `None`: it is not what [`Burst`] says.
    #[must_use]
    pub fn new(frame: &[u8], burst: Burst) -> Option<Cut> {
        let network = frame.get(ETHERNET..)?;
        let &[version, _, high, low, .., protocol] = network.first_chunk::<10>()?;
        let total = usize::from(u16::from_be_bytes([high, low]));
        let transport = ETHERNET + usize::from(version & 0x0f) * 4;
        let data = transport + usize::from(*frame.get(transport + 12)? >> 4) * 4;
        let end = ETHERNET + total;
        let right = frame.get(12..ETHERNET)? == IPV4
            && version >> 4 == 4
            && transport >= ETHERNET + 20
            && protocol == TCP
            && transport == usize::from(burst.transport)
            && data >= transport + 20
            && (data..=frame.len()).contains(&end)
            && burst.segment > 0;
        right.then_some(Cut {
            transport,
            data,
            end,
            segment: burst.segment.into(),
            at: Some(data),
            index: 0,
        })
    }

    /// Writes the next segment's frame, of the `frame` that the cut began with, to `out`; its length. `None`: there is no more,
    /// or it does not fit.
    pub fn next(&mut self, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        let from = self.at?;
        let to = self.end.min(from + self.segment);
        let last = to == self.end;
        let len = self.data + (to - from);
        let out = out.get_mut(..len)?;
        let (headers, data) = out.split_at_mut(self.data);
        headers.copy_from_slice(frame.get(..self.data)?);
        data.copy_from_slice(frame.get(from..to)?);

        let (network, transport) = headers.split_at_mut(self.transport);
        let network = network.get_mut(ETHERNET..)?;
        network[2..4].copy_from_slice(&((len - ETHERNET) as u16).to_be_bytes());
        let identification = u16::from_be_bytes([network[4], network[5]]).wrapping_add(self.index);
        network[4..6].copy_from_slice(&identification.to_be_bytes());
        network[10..12].fill(0);
        let checksum = Checksum::default().with(network).finish();
        network[10..12].copy_from_slice(&checksum.to_be_bytes());

        let seq = u32::from_be_bytes(*transport.get(4..)?.first_chunk()?);
        let seq = seq.wrapping_add((from - self.data) as u32);
        transport[4..8].copy_from_slice(&seq.to_be_bytes());
        if !last {
            transport[FLAGS] &= !AT_THE_END;
        }
        transport[CHECKSUM..CHECKSUM + 2].fill(0);
        let length = (len - self.transport) as u16;
        let checksum = Checksum::default()
            .with(&network[12..20])
            .with(&[0, TCP])
            .with(&length.to_be_bytes())
            .with(transport)
            .with(data)
            .finish();
        transport[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());

        self.at = (!last).then_some(to);
        self.index = self.index.wrapping_add(1);
        Some(len)
    }

    /// Bytes of headers in front of the data.
    #[must_use]
    pub fn headers(&self) -> usize {
        self.data
    }

    /// How many segments there are in all.
    #[must_use]
    pub fn segments(&self) -> usize {
        (self.end - self.data).div_ceil(self.segment).max(1)
    }

    /// Every segment was written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at.is_none()
    }
}

/// Completes the checksum of a frame, of which `offset` bytes behind `start` hold the sum of what is not in the frame. Whether they are there.
pub fn complete(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(covered) = frame.get_mut(start..) else {
        return false;
    };
    if covered.len() < offset.saturating_add(2) {
        return false;
    }
    let checksum = match Checksum::default().with(covered).finish() {
        // RFC 768: 0 says that there is none. To TCP both are the same.
        0 => u16::MAX,
        checksum => checksum,
    };
    covered[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests;
