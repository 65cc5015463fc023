//! The `dissect` program: ipOS frames and Synch messages, from a capture or from hexadecimal,
//! as text or as JSON.
//!
//! One description of a frame, a JSON object, serves both outputs: numbers stand under their names in
//! the wire formats as they are on the wire, and what a number means under the same name with `_name`.

mod capture;
mod describe;
mod packet;
mod sequence;
mod synch;
mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Parser;
use serde_json::Value;

use crate::program::in_one_line;
use capture::{Capture, Captured};
use describe::Description;
use sequence::Sequences;

/// What is written for one frame.
type Fields = serde_json::Map<String, Value>;

/// Decodes ipOS frames, from Ethernet to the control block, and Synch messages.
#[derive(Debug, Parser)]
#[command(name = "dissect", version)]
struct Options {
    /// Capture to read: pcap or pcapng, of Ethernet; `-` follows standard input, as in `tcpdump -U -w - | dissect -`
    capture: Option<PathBuf>,

    /// Decode these hexadecimal bytes instead: an Ethernet frame, or bytes from the ipOS header on,
    /// or a Synch message
    #[arg(long, value_name = "BYTES", conflicts_with = "capture")]
    hex: Option<String>,

    /// Ethernet type of the farm's Port B
    #[arg(long, value_name = "TYPE", default_value = "0x0007", value_parser = parse_ethertype)]
    ethertype: u16,

    /// One JSON object a line for each frame
    #[arg(long)]
    json: bool,

    /// Hand-overs as sequences: a line for each frame of a connection that says something new, with the time since its first
    #[arg(long, conflicts_with_all = ["json", "hex"])]
    handovers: bool,
}

/// Why the program ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// What the user gave is at fault.
    #[error("{0}")]
    Input(String),
    /// Nobody reads the output any more, or it cannot be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the program with these arguments, the program's name first; gives its exit status: 0,
/// 2 for bad input, which one line on `err` names, 1 when the output cannot be written.
pub fn run<A>(args: A, out: &mut impl Write, err: &mut impl Write) -> u8
where
    A: IntoIterator<Item: Into<OsString> + Clone>,
{
    let failure = match try_run(args, out, err) {
        Ok(()) => return 0,
        Err(failure) => failure,
    };
    let status = match &failure {
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
        Failure::Output(_) => 1,
        Failure::Input(_) => 2,
    };
    // Without a standard error there is nobody left to tell.
    let _ = writeln!(err, "dissect: {failure}");
    status
}

fn try_run<A>(args: A, out: &mut impl Write, err: &mut impl Write) -> Result<(), Failure>
where
    A: IntoIterator<Item: Into<OsString> + Clone>,
{
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) if !error.use_stderr() => {
            // --help and --version.
            write!(out, "{error}")?;
            return Ok(());
        }
        Err(error) => {
            let text = in_one_line(&error.to_string());
            let what = text.trim_start_matches("error: ");
            return Err(Failure::Input(what.to_owned()));
        }
    };
    match (&options.capture, &options.hex) {
        (Some(path), _) => {
            let capture = Capture::open(path).map_err(Failure::Input)?;
            dissect_capture(capture, &options, out, err)
        }
        (None, Some(hex)) => {
            let bytes = parse_hex(hex).map_err(Failure::Input)?;
            let description = describe::given(&bytes, options.ethertype);
            let mut fields = Fields::new();
            fields.insert("frame".into(), 1.into());
            let text = frame_text(fields, description, options.json);
            write_piece(&text, false, out)
        }
        (None, None) => {
            let reason = "nothing to decode: give a capture file, or --hex and bytes (see --help)";
            Err(Failure::Input(reason.into()))
        }
    }
}

/// How many frames of a capture were what.
#[derive(Debug, Default)]
struct Summary {
    frames: u64,
    ipos: u64,
    synch: u64,
    malformed: u64,
    skipped: u64,
}

fn dissect_capture(
    mut capture: Capture,
    options: &Options,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), Failure> {
    let mut summary = Summary::default();
    let followed = capture.is_followed();
    let mut sequences = Sequences::new(followed);
    let result = loop {
        let captured = match capture.next_frame() {
            None => break Ok(()),
            Some(Ok(captured)) => captured,
            Some(Err(reason)) => break Err(Failure::Input(reason)),
        };
        summary.frames += 1;
        let Captured {
            time,
            length,
            ethernet,
            bytes,
        } = captured;
        let described = if ethernet {
            describe::captured(&bytes, options.ethertype)
        } else {
            None
        };
        let Some(description) = described else {
            tracing::debug!(
                frame = summary.frames,
                length,
                "neither ipOS nor Synch: skipped"
            );
            summary.skipped += 1;
            continue;
        };
        match description.protocol {
            describe::Protocol::Ipos => summary.ipos += 1,
            describe::Protocol::Synch => summary.synch += 1,
            describe::Protocol::Unknown => {}
        }
        summary.malformed += u64::from(description.is_malformed());
        if options.handovers {
            let lines = sequences.frame(time.as_deref(), &description.fields);
            write_piece(&lines, followed, out)?;
            continue;
        }
        let mut fields = Fields::new();
        fields.insert("frame".into(), summary.frames.into());
        if let Some(time) = time {
            fields.insert("time".into(), time.into());
        }
        fields.insert("length".into(), length.into());
        fields.insert("captured".into(), bytes.len().into());
        let text = frame_text(fields, description, options.json);
        write_piece(&text, followed, out)?;
    };
    out.write_all(sequences.end().as_bytes())?;
    out.flush()?;
    let Summary {
        frames,
        ipos,
        synch,
        malformed,
        skipped,
    } = summary;
    let _ = writeln!(
        err,
        "dissect: {frames} frames: {ipos} ipOS, {synch} Synch, {malformed} of these malformed; \
         {skipped} others skipped"
    );
    result
}

/// Writes one frame in one piece, so that an interrupted run ends with a whole one; at once, where somebody waits for it.
fn write_piece(text: &str, at_once: bool, out: &mut impl Write) -> Result<(), Failure> {
    out.write_all(text.as_bytes())?;
    if at_once {
        out.flush()?;
    }
    Ok(())
}

fn frame_text(mut fields: Fields, description: Description, json: bool) -> String {
    let title = description.title();
    fields.extend(description.fields);
    match json {
        true => format!("{}\n", Value::Object(fields)),
        false => text::block(&title, &fields),
    }
}

fn parse_ethertype(text: &str) -> Result<u16, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "not a number from 0 to 0xffff".to_string())
}

/// Bytes written as hexadecimal digits; blanks, colons and a leading `0x` do not count.
fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::with_capacity(text.len());
    for (position, character) in text.chars().enumerate() {
        if character.is_whitespace() || character == ':' {
            continue;
        }
        let digit = character.to_digit(16).ok_or_else(|| {
            let place = position + 1;
            format!("--hex: character {place}, {character:?}, is not a hexadecimal digit")
        })?;
        digits.push(digit as u8);
    }
    if digits.is_empty() {
        return Err("--hex: no hexadecimal digits".into());
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        let count = digits.len();
        return Err(format!(
            "--hex: {count} hexadecimal digits are not whole bytes"
        ));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests;
