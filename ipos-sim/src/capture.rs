//! Captures: a pcap file of one LAN, with virtual timestamps.

use std::io::Write;
use std::time::Duration;

use pcap_file::PcapError;
use pcap_file::pcap::{PcapPacket, PcapWriter};

use crate::network::LanId;
use crate::observe::{Observer, Sighting};

/// Writes every frame that is sent on one LAN, before any impairment, in pcap format with µs timestamps.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use ipos_core::Port;
/// use ipos_sim::{Capture, Farm};
///
/// let capture = Arc::new(Mutex::new(Capture::new(Port::B.into(), Vec::new())?));
/// let mut farm = Farm::builder().requests(20).observer(capture.clone()).build()?;
/// farm.run();
/// let pcap: Vec<u8> = capture.lock().unwrap().finish()?.unwrap();
/// assert!(pcap.len() > 24);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Capture<W: Write> {
    lan: LanId,
    writer: Option<PcapWriter<W>>,
    failed: Option<PcapError>,
}

impl<W: Write> Capture<W> {
    /// Writes the file's header to `writer`. Give a buffered one for a file.
    ///
    /// # Errors
    /// `writer` fails.
    pub fn new(lan: LanId, writer: W) -> Result<Capture<W>, PcapError> {
        Ok(Capture {
            lan,
            writer: Some(PcapWriter::new(writer)?),
            failed: None,
        })
    }

    /// Ends the capture and gives the writer back; `None` on a second call.
    ///
    /// # Errors
    /// The first failure of the writer, after which nothing more was written.
    pub fn finish(&mut self) -> Result<Option<W>, PcapError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.writer.take().map(PcapWriter::into_writer)),
        }
    }
}

impl<W: Write + Send> Observer for Capture<W> {
    fn sent(&mut self, sighting: &Sighting<'_>) {
        if sighting.lan != self.lan {
            return;
        }
        if let Some(writer) = &mut self.writer {
            let len = u32::try_from(sighting.frame.len()).unwrap_or(u32::MAX);
            let moment = Duration::from_micros(sighting.now.as_micros());
            if let Err(error) = writer.write_packet(&PcapPacket::new(moment, len, sighting.frame)) {
                self.failed = Some(error);
                self.writer = None;
            }
        }
    }
}
