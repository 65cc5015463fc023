//! Reading and writing big-endian fields one after the other.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::{Layer, SeqNum, WireError};

/// Reads fields of one layer in order; every read says where the layer was too short.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    layer: Layer,
}

impl<'a> Reader<'a> {
    /// A reader of a layer that needs `required` bytes.
    pub(crate) fn new(bytes: &'a [u8], layer: Layer, required: usize) -> Result<Self, WireError> {
        if bytes.len() < required {
            return Err(WireError::length(layer, 0, required, bytes.len()));
        }
        Ok(Self {
            bytes,
            at: 0,
            layer,
        })
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// What has not been read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        match self.rest().get(..len) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => {
                let required = self.at.saturating_add(len);
                Err(WireError::length(self.layer, 0, required, self.bytes.len()))
            }
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn seq(&mut self) -> Result<SeqNum, WireError> {
        Ok(SeqNum::new(self.u32()?))
    }

    pub(crate) fn ipv4(&mut self) -> Result<Ipv4Addr, WireError> {
        Ok(Ipv4Addr::from(self.array::<4>()?))
    }

    pub(crate) fn socket(&mut self) -> Result<SocketAddrV4, WireError> {
        Ok(SocketAddrV4::new(self.ipv4()?, self.u16()?))
    }
}

/// Writes fields in order into a buffer that the caller has measured: the lengths of all that
/// is written are constants, or were summed up to measure the buffer.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at + bytes.len();
        self.out[self.at..end].copy_from_slice(bytes);
        self.at = end;
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn seq(&mut self, value: SeqNum) -> &mut Self {
        self.u32(value.raw())
    }

    pub(crate) fn ipv4(&mut self, value: Ipv4Addr) -> &mut Self {
        self.put(&value.octets())
    }

    pub(crate) fn socket(&mut self, value: SocketAddrV4) -> &mut Self {
        self.ipv4(*value.ip()).u16(value.port())
    }
}
