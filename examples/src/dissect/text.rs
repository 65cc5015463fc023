//! A frame's description as text for people.

use std::fmt::Write;

use serde_json::Value;

use super::Fields;

/// Units of the numbers that have one, and numbers that are read in hexadecimal.
const UNITS: [(&str, &str); 19] = [
    ("snd_wscale", "bits"),
    ("rcv_wscale", "bits"),
    ("snd_mss", "bytes"),
    ("rcv_mss", "bytes"),
    ("snd_wnd", "bytes"),
    ("max_sndwnd", "bytes"),
    ("cwnd", "bytes"),
    ("ssthresh", "bytes"),
    ("rcv_wnd", "bytes"),
    ("srtt", "µs"),
    ("rttvar", "µs"),
    ("rto", "µs"),
    ("rtt_min", "µs"),
    ("ts_recent_age", "ms"),
    ("timer_left", "ms"),
    ("idle", "ms"),
    ("length", "bytes"),
    ("captured", "bytes"),
    ("payload_length", "bytes"),
];
const HEXADECIMAL: [&str; 3] = ["type", "flags", "checksum"];

/// A block of lines, and an empty one after it.
pub(super) fn block(title: &str, fields: &Fields) -> String {
    let mut out = String::new();
    let number = fields
        .get("frame")
        .map(Value::to_string)
        .unwrap_or_default();
    line(&mut out, 0, &format!("frame {number}: {title}"));
    for (name, value) in fields.iter().filter(|(name, _)| *name != "frame") {
        match value {
            Value::Object(layer) => {
                line(&mut out, 1, name);
                lines(&mut out, layer);
            }
            _ => line(&mut out, 1, &field(name, value, fields)),
        }
    }
    out.push('\n');
    out
}

/// The fields of a layer, a line each.
fn lines(out: &mut String, layer: &Fields) {
    for (name, value) in layer {
        match value {
            Value::Null => {}
            _ if is_meaning(name, layer) => {}
            Value::Array(records) if records.iter().all(Value::is_object) => {
                for record in records.iter().filter_map(Value::as_object) {
                    line(out, 2, &one_line(record));
                }
            }
            _ => line(out, 2, &field(name, value, layer)),
        }
    }
}

/// A record in one line, its name first.
fn one_line(record: &Fields) -> String {
    let mut parts = Vec::new();
    for (name, value) in record {
        match value {
            Value::Null => {}
            Value::String(kind) if name == "record" => parts.push(kind.clone()),
            _ if is_meaning(name, record) => {}
            _ => parts.push(field(name, value, record)),
        }
    }
    parts.join("; ")
}

/// `name: value unit (meaning)`.
fn field(name: &str, value: &Value, layer: &Fields) -> String {
    let mut text = format!("{name}: ");
    match (value, value.as_u64()) {
        (_, Some(number)) if HEXADECIMAL.contains(&name) => text += &format!("{number:#06x}"),
        (Value::String(value), _) => text += value,
        (Value::Array(values), _) => {
            let values: Vec<_> = values.iter().map(plain).collect();
            text += &values.join(", ");
        }
        _ => text += &value.to_string(),
    }
    if let Some((_, unit)) = UNITS.iter().find(|(of, _)| *of == name) {
        text += &format!(" {unit}");
    }
    match layer.get(&meaning_of(name)).and_then(Value::as_str) {
        Some(meaning) if !meaning.is_empty() => text += &format!(" ({meaning})"),
        _ => {}
    }
    text
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

fn meaning_of(name: &str) -> String {
    format!("{name}_name")
}

/// Whether this field says what another one means.
fn is_meaning(name: &str, layer: &Fields) -> bool {
    name.strip_suffix("_name")
        .is_some_and(|of| layer.contains_key(of))
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{:indent$}{text}", "", indent = depth * 2);
}
