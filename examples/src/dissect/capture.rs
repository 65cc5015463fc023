//! Captures: pcap and pcapng.

use std::fs::File;
use std::io::{self, Chain, Cursor, Read};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::{ENHANCED_PACKET_BLOCK, SIMPLE_PACKET_BLOCK};
use pcap_file::{DataLink, Endianness, PcapError, PcapResult, TsResolution};

/// First bytes of a pcapng section header block, whatever its byte order.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// One frame of a capture.
#[derive(Debug)]
pub(super) struct Captured {
    /// Seconds since 1970 with all the digits of the capture, where it says.
    pub(super) time: Option<String>,
    /// Bytes that the frame had.
    pub(super) length: u32,
    /// Whether it was captured on Ethernet.
    pub(super) ethernet: bool,
    /// Bytes that were captured.
    pub(super) bytes: Vec<u8>,
}

/// A capture that is being read.
///
/// Packets of pcap and blocks of pcapng are read raw: the checked way of `pcap-file` 2.0 refuses
/// captures that `tcpdump -s` has cut, takes every time stamp of pcapng for nanoseconds, and
/// panics on some malformed blocks that are of no interest here. Of pcapng, Enhanced and Simple
/// Packet Blocks are read; the obsolete Packet Block is not.
pub(super) struct Capture {
    name: String,
    followed: bool,
    format: Format,
    frames: u64,
}

/// A file or standard input, its first bytes already read: a pipe cannot be rewound.
type Source = Chain<Cursor<[u8; 4]>, Box<dyn Read>>;

enum Format {
    Pcap(PcapReader<Source>),
    PcapNg(PcapNgReader<Source>),
}

impl Capture {
    /// Opens a capture, `-` is standard input; the error names the file.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let stdin = path == Path::new("-");
        let name = match stdin {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let at_fault = |reason: String| format!("{name}: {reason}");
        let open = || File::open(path).map_err(|error| at_fault(error.to_string()));
        // Locked for each read, so that whatever has come is read at once.
        let mut file: Box<dyn Read> = match stdin {
            true => Box::new(io::stdin()),
            false => Box::new(open()?),
        };
        let mut magic = [0; 4];
        file.read_exact(&mut magic)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    at_fault("neither pcap nor pcapng: too short".into())
                }
                _ => at_fault(error.to_string()),
            })?;
        let source = Cursor::new(magic).chain(file);
        let format = if magic == PCAPNG_MAGIC {
            PcapNgReader::new(source).map(Format::PcapNg)
        } else {
            PcapReader::new(source).map(Format::Pcap)
        };
        let format = format
            .map_err(|error| at_fault(format!("neither pcap nor pcapng: {}", text(error))))?;
        if let Format::Pcap(reader) = &format {
            let link = reader.header().datalink;
            if link != DataLink::ETHERNET {
                return Err(at_fault(format!("link type must be Ethernet, is {link:?}")));
            }
        }
        Ok(Self {
            name,
            followed: stdin,
            format,
            frames: 0,
        })
    }

    /// Whether it is standard input: somebody may be looking on.
    pub(super) fn is_followed(&self) -> bool {
        self.followed
    }

    /// The next frame; the error names the file and the frame.
    pub(super) fn next_frame(&mut self) -> Option<Result<Captured, String>> {
        let next = match &mut self.format {
            Format::Pcap(reader) => next_pcap(reader),
            Format::PcapNg(reader) => next_pcapng(reader),
        }?;
        self.frames += 1;
        Some(next.map_err(|error| {
            format!(
                "{}: frame {} cannot be read: {}",
                self.name,
                self.frames,
                text(error)
            )
        }))
    }
}

fn next_pcap(reader: &mut PcapReader<Source>) -> Option<PcapResult<Captured>> {
    let digits = match reader.header().ts_resolution {
        TsResolution::MicroSecond => 6,
        TsResolution::NanoSecond => 9,
    };
    let packet = reader.next_raw_packet()?;
    Some(packet.map(|packet| Captured {
        time: Some(format!("{}.{:0digits$}", packet.ts_sec, packet.ts_frac)),
        length: packet.orig_len,
        ethernet: true,
        bytes: packet.data.into_owned(),
    }))
}

fn next_pcapng(reader: &mut PcapNgReader<Source>) -> Option<PcapResult<Captured>> {
    loop {
        let (type_, body) = match reader.next_raw_block()? {
            Ok(block) => (block.type_, block.body.into_owned()),
            Err(error) => return Some(Err(error)),
        };
        let mut words = Words {
            bytes: &body,
            endianness: reader.section().endianness,
        };
        match type_ {
            ENHANCED_PACKET_BLOCK => return Some(enhanced_packet(&mut words, reader.interfaces())),
            SIMPLE_PACKET_BLOCK => return Some(simple_packet(&mut words, reader.interfaces())),
            _ => {}
        }
    }
}

/// The rest of a pcapng block.
struct Words<'a> {
    bytes: &'a [u8],
    endianness: Endianness,
}

impl Words<'_> {
    fn next(&mut self) -> PcapResult<u32> {
        let cut = PcapError::InvalidField("packet block is too short");
        let (word, rest) = self.bytes.split_first_chunk().ok_or(cut)?;
        self.bytes = rest;
        Ok(match self.endianness {
            Endianness::Big => u32::from_be_bytes(*word),
            Endianness::Little => u32::from_le_bytes(*word),
        })
    }
}

fn enhanced_packet(
    words: &mut Words<'_>,
    interfaces: &[InterfaceDescriptionBlock<'_>],
) -> PcapResult<Captured> {
    let id = words.next()?;
    let interface = usize::try_from(id).ok().and_then(|id| interfaces.get(id));
    let interface = interface.ok_or(PcapError::InvalidInterfaceId(id))?;
    let ticks = u64::from(words.next()?) << 32 | u64::from(words.next()?);
    let captured = words.next()?;
    let length = words.next()?;
    let cut = PcapError::InvalidField("captured length is beyond the block");
    let data = usize::try_from(captured)
        .ok()
        .and_then(|captured| words.bytes.get(..captured));
    Ok(Captured {
        time: time(ticks, interface),
        length,
        ethernet: interface.linktype == DataLink::ETHERNET,
        bytes: data.ok_or(cut)?.to_vec(),
    })
}

fn simple_packet(
    words: &mut Words<'_>,
    interfaces: &[InterfaceDescriptionBlock<'_>],
) -> PcapResult<Captured> {
    let interface = interfaces.first().ok_or(PcapError::InvalidInterfaceId(0))?;
    let length = words.next()?;
    // A snapshot length of 0 is no limit; the block is padded to whole words.
    let limit = if interface.snaplen == 0 {
        u32::MAX
    } else {
        interface.snaplen
    };
    let captured = usize::try_from(length.min(limit)).unwrap_or(usize::MAX);
    let data = words.bytes.get(..captured).unwrap_or(words.bytes);
    let ethernet = interface.linktype == DataLink::ETHERNET;
    Ok(Captured {
        time: None,
        length,
        ethernet,
        bytes: data.to_vec(),
    })
}

/// Seconds since 1970; `None` when the interface counts in units that nobody can read.
fn time(ticks: u64, interface: &InterfaceDescriptionBlock<'_>) -> Option<String> {
    const BINARY: u8 = 0x80;
    let (mut resolution, mut offset) = (6, 0);
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(value) => resolution = *value,
            InterfaceDescriptionOption::IfTsOffset(seconds) => offset = *seconds,
            _ => {}
        }
    }
    let digits = usize::from(resolution & !BINARY);
    let (unit, digits, fraction) = if resolution & BINARY == 0 {
        let unit = 10u64.checked_pow(u32::from(resolution))?;
        (unit, digits, ticks % unit)
    } else {
        let unit = 1u64.checked_shl(u32::from(resolution & !BINARY))?;
        let nanoseconds = u128::from(ticks % unit) * 1_000_000_000 / u128::from(unit);
        (unit, 9, u64::try_from(nanoseconds).ok()?)
    };
    let seconds = (ticks / unit).checked_add(offset)?;
    Some(if digits == 0 {
        seconds.to_string()
    } else {
        format!("{seconds}.{fraction:0digits$}")
    })
}

fn text(error: PcapError) -> String {
    match error {
        PcapError::IoError(error) => error.to_string(),
        other => other.to_string(),
    }
}
