//! What passed, in a pcap file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipos_backend::Backend;
use ipos_backend_pnet::{Frames, PnetBackend, PnetOptions};
use pcap_file::PcapError;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};

use crate::{LabError, Namespace};

/// How long the recorder waits for frames before it looks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(10);
/// Kernel buffer: a capture shall lose nothing while its file is written.
const BUFFER: usize = 32 << 20;
/// The longest record that the file may have; above the largest frame of [`Frames::Passing`].
const SNAPLEN: u32 = 1 << 18;

/// Records every frame that passes through an interface, in both directions and whatever
/// its length, until [`Capture::stop`] (or until the value is dropped: the file may then end anywhere).
/// On a bridge that is every frame of the LAN, once.
#[derive(Debug)]
pub struct Capture {
    path: PathBuf,
    /// Closed to tell the recorder to end.
    running: Sender<()>,
    recorder: JoinHandle<io::Result<(u64, u64)>>,
}

/// A capture that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The file: pcap, Ethernet, nanoseconds.
    pub path: PathBuf,
    /// Frames in the file.
    pub frames: u64,
    /// Frames that passed too fast to be recorded.
    pub lost: u64,
}

impl Capture {
    /// Starts to record `interface` of `namespace` into a new file at `path`; an old one is overwritten.
    /// Frames that pass after this call returned are recorded.
    ///
    /// # Errors
    /// [`LabError::Open`]: no such interface, or it is down; [`LabError::Capture`]: the file cannot be written.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        path: impl Into<PathBuf>,
    ) -> Result<Self, LabError> {
        let path = path.into();
        let file = File::create(&path).map_err(broken(&path))?;
        let header = PcapHeader {
            snaplen: SNAPLEN,
            ts_resolution: pcap_file::TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let writer = PcapWriter::with_header(BufWriter::new(file), header)
            .map_err(plain)
            .map_err(broken(&path))?;
        let options = PnetOptions {
            frames: Frames::Passing,
            receive_buffer: BUFFER,
        };
        let port = namespace.run(|| PnetBackend::open(interface, options))??;
        let (running, stop) = mpsc::channel();
        let recorder = thread::Builder::new()
            .name(format!("capture {interface}"))
            .spawn(move || record(port, writer, &stop))
            .map_err(LabError::system("start a thread"))?;
        Ok(Self {
            path,
            running,
            recorder,
        })
    }

    /// Records what has passed so far, and ends.
    ///
    /// # Errors
    /// [`LabError::Capture`]: the file could not be written.
    pub fn stop(self) -> Result<Captured, LabError> {
        drop(self.running);
        let recorded = self.recorder.join();
        let (frames, lost) = recorded
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            .map_err(broken(&self.path))?;
        Ok(Captured {
            path: self.path,
            frames,
            lost,
        })
    }
}

impl Captured {
    /// Reads the frames back, in order.
    ///
    /// # Errors
    /// [`LabError::Capture`]: the file is gone or damaged.
    pub fn read(&self) -> Result<Vec<Vec<u8>>, LabError> {
        let read = || -> io::Result<Vec<Vec<u8>>> {
            let file = BufReader::new(File::open(&self.path)?);
            let mut reader = PcapReader::new(file).map_err(plain)?;
            let mut frames = Vec::new();
            while let Some(packet) = reader.next_packet() {
                frames.push(packet.map_err(plain)?.data.into_owned());
            }
            Ok(frames)
        };
        read().map_err(broken(&self.path))
    }
}

/// The recorder's thread: frames written and frames lost.
fn record(
    mut port: PnetBackend,
    mut writer: PcapWriter<BufWriter<File>>,
    running: &Receiver<()>,
) -> io::Result<(u64, u64)> {
    let budget = port.capabilities().burst;
    let mut frames = 0;
    loop {
        // Looked at before the port: what passed before the stop is then found and recorded.
        let stopping = running.try_recv() == Err(TryRecvError::Disconnected);
        let mut written = Ok(());
        let taken = port.receive(budget, &mut |frame| {
            if written.is_ok() {
                written = write(&mut writer, frame.bytes());
                frames += 1;
            }
        });
        written?;
        // An interface that goes down passes nothing, and may come up again.
        let taken = taken.unwrap_or(0);
        if stopping && taken < budget {
            break;
        }
        if taken < budget {
            port.wait(Some(PATIENCE))?;
        }
    }
    writer.into_writer().into_inner()?;
    Ok((frames, port.statistics().receive_dropped))
}

fn write(writer: &mut PcapWriter<BufWriter<File>>, frame: &[u8]) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.unwrap_or_default();
    // The port's frames are far shorter than 4 GB.
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let packet = PcapPacket::new(time, length, frame);
    writer.write_packet(&packet).map(drop).map_err(plain)
}

/// The system's error in a pcap error, or the pcap error as one.
fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        error => io::Error::other(error),
    }
}

/// A function that says which capture file an error is about.
fn broken(path: &Path) -> impl FnOnce(io::Error) -> LabError {
    let path = path.display().to_string();
    move |source| LabError::Capture { path, source }
}
