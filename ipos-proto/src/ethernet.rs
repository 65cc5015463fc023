//! The Ethernet header (FIG. 11A).

use core::fmt;

use crate::bytes::{Reader, Writer};
use crate::{ETHERNET_LEN, Layer, WireError};

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// All stations of the LAN.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether this names a group of stations (broadcast included): such an address is never a
    /// source.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// An Ethernet header, 14 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ethernet {
    /// The station that the frame is for.
    pub destination: MacAddr,
    /// The station that sent it.
    pub source: MacAddr,
    /// The type of what follows; [`ETHERTYPE`](crate::ETHERTYPE) for ipOS by default.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header; also gives what follows it, padding included.
    ///
    /// # Errors
    ///
    /// Fewer than 14 bytes. The type is the caller's to judge: it is configurable.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut reader = Reader::new(bytes, Layer::Ethernet, ETHERNET_LEN)?;
        let header = Self {
            destination: MacAddr(reader.array()?),
            source: MacAddr(reader.array()?),
            ethertype: reader.u16()?,
        };
        Ok((header, reader.rest()))
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; ETHERNET_LEN] {
        let mut out = [0; ETHERNET_LEN];
        Writer::new(&mut out)
            .put(&self.destination.0)
            .put(&self.source.0)
            .u16(self.ethertype);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::{Ethernet, MacAddr};
    use alloc::string::ToString;

    #[test]
    fn addresses() {
        assert_eq!(
            MacAddr([2, 0, 0, 0, 0x0b, 0xff]).to_string(),
            "02:00:00:00:0b:ff"
        );
        assert!(MacAddr::BROADCAST.is_multicast());
        assert!(!MacAddr([2, 0, 0, 0, 0, 1]).is_multicast());
    }

    #[test]
    fn every_short_header_is_refused() {
        for len in 0..14 {
            assert!(Ethernet::parse(&[0; 14][..len]).is_err());
        }
        let (header, rest) = Ethernet::parse(&[7; 20]).unwrap();
        assert_eq!((header.ethertype, rest.len()), (0x0707, 6));
    }
}
