//! Hand-overs as readable sequences: a line for each frame that says something new about a connection, the lines of a
//! connection together. Bytes are counted from the begin of the client's stream, and of the server's.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use serde_json::Value;

use super::Fields;

/// Connections that are followed at once. Full: the one that began first is forgotten, and is a new one if it goes on.
const CONNECTIONS: usize = 4_096;
/// Lines of a connection that wait for others. Full: they are written, and what follows comes later.
const LINES: usize = 64;
/// Ports B whose address is known. Full: others are shown by their hardware address.
const SERVERS: usize = 1_024;

/// A client's port, in one protocol: which server it belongs to is what the frames are about.
type Client = (String, u64, u64);

/// The two streams of a connection.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Client,
    Server,
}

/// What is known of a connection.
#[derive(Debug)]
struct Connection {
    number: u64,
    /// Nanoseconds since 1970, of its first frame.
    began: Option<u128>,
    /// The address that the client connected to, once a frame has told it.
    endpoint: Option<String>,
    /// Of the last 0x01.
    epoch: Option<u64>,
    /// First sequence numbers of the client's and of the server's stream, once a 0x01 has told them.
    streams: Option<(u32, u32)>,
    /// Packets (0x02) since the last line, and bytes of them; `None`: the last frame was none.
    packets: Option<(u64, u64)>,
    /// Lines that wait.
    lines: Vec<Line>,
}

/// A line. Whose hardware address its frame came from may be known only later.
#[derive(Debug)]
struct Line {
    before: String,
    source: String,
    after: String,
}

/// Port B addresses by hardware address.
type Servers = HashMap<String, String>;

/// All connections of a capture.
#[derive(Debug)]
pub(super) struct Sequences {
    /// Nothing waits: somebody looks on.
    live: bool,
    connections: HashMap<Client, Connection>,
    /// In the order of their begin.
    order: VecDeque<Client>,
    servers: Servers,
    numbers: u64,
}

impl Sequences {
    /// `live`: of frames that are captured now.
    pub(super) fn new(live: bool) -> Sequences {
        Sequences {
            live,
            connections: HashMap::new(),
            order: VecDeque::new(),
            servers: HashMap::new(),
            numbers: 0,
        }
    }

    /// A further frame; the lines to be written now, which may be none.
    pub(super) fn frame(&mut self, time: Option<&str>, fields: &Fields) -> String {
        let mut out = String::new();
        let Some(client) = client(fields) else {
            return out;
        };
        self.learn(fields);
        let at = time.and_then(nanoseconds);
        self.begin(&mut out, &client, at, fields);
        let Some(connection) = self.connections.get_mut(&client) else {
            return out;
        };
        let kind = number(fields, "header", "type");
        let is_packet = kind == Some(2);
        if let (true, Some((packets, bytes))) = (is_packet, &mut connection.packets) {
            *packets += 1;
            *bytes += number(fields, "packet", "payload_length").unwrap_or(0);
            return out;
        }
        connection.end_packets();
        connection.packets = is_packet.then_some((0, 0));
        let since = match (at, connection.began) {
            (Some(at), Some(began)) => at.saturating_sub(began) as f64 / 1e6,
            _ => 0.0,
        };
        let what = connection.what(fields);
        let to = text(fields, "header", "destination");
        connection.lines.push(Line {
            before: format!("#{} {since:>+12.3} ms  ", connection.number),
            source: text(fields, "ethernet", "source").to_owned(),
            after: format!(" > {to}  {what}\n"),
        });
        let released = kind == Some(0x10);
        if self.live || released || connection.lines.len() >= LINES {
            connection.write(&mut out, &self.servers);
        }
        out
    }

    /// What is still to be said at the end.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        for client in &self.order {
            if let Some(connection) = self.connections.get_mut(client) {
                connection.end(&mut out, &self.servers);
            }
        }
        out
    }

    /// A heading, where this is the first frame of a connection.
    fn begin(&mut self, out: &mut String, client: &Client, at: Option<u128>, fields: &Fields) {
        let endpoint = endpoint(fields);
        if let Some(connection) = self.connections.get_mut(client) {
            let known = connection.endpoint.as_ref().zip(endpoint.as_ref());
            if known.is_none_or(|(known, told)| known == told) {
                connection.endpoint = connection.endpoint.take().or(endpoint);
                return;
            }
            // Another one, from the same port.
            connection.end(out, &self.servers);
            self.order.retain(|known| known != client);
        }
        if self.order.len() >= CONNECTIONS
            && let Some(first) = self.order.pop_front()
            && let Some(mut first) = self.connections.remove(&first)
        {
            first.end(out, &self.servers);
        }
        self.numbers += 1;
        let port = number(fields, "header", "port").unwrap_or(0);
        let (address, client_port, _) = client;
        let shown = endpoint.clone().unwrap_or_else(|| format!("?:{port}"));
        let protocol = text(fields, "header", "protocol_name");
        let mut connection = Connection {
            number: self.numbers,
            began: at,
            endpoint,
            epoch: None,
            streams: None,
            packets: None,
            lines: Vec::new(),
        };
        connection.say(format_args!("{protocol} {address}:{client_port} > {shown}"));
        self.connections.insert(client.clone(), connection);
        self.order.push_back(client.clone());
    }

    /// Frames name the Port B address of their receiver, and the hardware addresses of both.
    fn learn(&mut self, fields: &Fields) {
        let hardware = text(fields, "ethernet", "destination");
        let address = text(fields, "header", "destination");
        let room = self.servers.len() < SERVERS || self.servers.contains_key(hardware);
        if !hardware.is_empty() && room {
            self.servers.insert(hardware.to_owned(), address.to_owned());
        }
    }
}

impl Connection {
    fn say(&mut self, line: fmt::Arguments<'_>) {
        self.lines.push(Line {
            before: format!("#{} {line}\n", self.number),
            source: String::new(),
            after: String::new(),
        });
    }

    /// Says how many packets followed the one that had a line.
    fn end_packets(&mut self) {
        if let Some((packets @ 1.., bytes)) = self.packets.take() {
            let s = if packets == 1 { "" } else { "s" };
            self.say(format_args!(
                "{packets:>12} more packet{s} (0x02), {bytes} bytes"
            ));
        }
    }

    /// Writes the lines that wait.
    fn write(&mut self, out: &mut String, servers: &Servers) {
        for line in self.lines.drain(..) {
            let source = servers.get(&line.source).unwrap_or(&line.source);
            out.extend([&*line.before, source, &line.after]);
        }
    }

    fn end(&mut self, out: &mut String, servers: &Servers) {
        self.end_packets();
        self.write(out, servers);
    }

    /// How far a sequence number is in its stream, in bytes; the number itself, while that is not known.
    fn place(&self, stream: Stream, number: u64) -> String {
        let begin = self.streams.map(|(client, server)| match stream {
            Stream::Client => client,
            Stream::Server => server,
        });
        match begin {
            Some(begin) => (number as u32).wrapping_sub(begin).to_string(),
            None => format!("sequence number {number}"),
        }
    }

    /// What the frame says.
    fn what(&mut self, fields: &Fields) -> String {
        let kind = number(fields, "header", "type").unwrap_or(0);
        let mut what = format!("{kind:#04x} {}", text(fields, "header", "type_name"));
        let epoch = number(fields, "control_block", "epoch");
        let epoch = epoch.or_else(|| number(fields, "trailer", "epoch"));
        let mut parts = Vec::new();
        if let Some(epoch) = epoch.filter(|epoch| *epoch > 0) {
            parts.push(format!("epoch {epoch}"));
        }
        match kind {
            1 => {
                if self.epoch.is_some() && self.epoch == epoch {
                    what += ", again";
                }
                self.epoch = epoch;
                parts.extend(self.endpoint_parts(fields));
            }
            2 => parts.extend(self.packet_parts(fields)),
            _ => {}
        }
        parts.extend(self.trailer_parts(kind, fields));
        if let Some(port) = number(fields, "named_server", "port") {
            let server = text(fields, "named_server", "port_b_address");
            parts.push(format!("to {server}:{port}"));
        }
        if let Some(error) = fields.get("error") {
            let part = |name| error.get(name).map(plain).unwrap_or_default();
            let (layer, offset, reason) = (part("layer"), part("offset"), part("reason"));
            parts.push(format!("malformed: {layer}, offset {offset}: {reason}"));
        }
        if !parts.is_empty() {
            what += ": ";
            what += &parts.join(", ");
        }
        what
    }

    /// The endpoint that moves.
    fn endpoint_parts(&mut self, fields: &Fields) -> Vec<String> {
        let of_block = |name| number(fields, "control_block", name);
        let first = |isn: u64| (isn as u32).wrapping_add(1);
        if let (Some(irs), Some(iss)) = (of_block("irs"), of_block("iss")) {
            self.streams = Some((first(irs), first(iss)));
        }
        let state = text(fields, "control_block", "state_name");
        let mut parts = Vec::new();
        if let (Some(received), Some(sent)) = (of_block("rcv_nxt"), of_block("snd_nxt")) {
            let received = self.place(Stream::Client, received);
            let sent = self.place(Stream::Server, sent);
            parts.push(state.to_owned());
            parts.push(format!("received up to {received}"));
            parts.push(format!("sent up to {sent}"));
        }
        parts
    }

    /// The client's packet.
    fn packet_parts(&self, fields: &Fields) -> Vec<String> {
        let flags = text(fields, "packet", "flags_name");
        let mut parts = vec![flags.to_uppercase().replace(", ", " ")];
        parts.retain(|part| !part.is_empty());
        let bytes = number(fields, "packet", "payload_length");
        match (bytes, number(fields, "packet", "sequence_number")) {
            (Some(bytes @ 1..), Some(from)) => {
                let from = self.place(Stream::Client, from);
                parts.push(format!("{bytes} bytes from {from} on"));
            }
            (Some(bytes), None) => parts.push(format!("{bytes} bytes")),
            _ => {}
        }
        parts
    }

    fn trailer_parts(&self, kind: u64, fields: &Fields) -> Vec<String> {
        let flags = text(fields, "trailer", "flags_name").split(", ");
        let flags: Vec<_> = flags.filter(|flag| !flag.is_empty()).collect();
        let told = flags.contains(&"rcv nxt") && kind != 1;
        let received = number(fields, "trailer", "rcv_nxt").filter(|_| told);
        let received = received.map(|received| {
            let received = self.place(Stream::Client, received);
            format!("received up to {received}")
        });
        let others = flags.into_iter().filter(|flag| *flag != "rcv nxt");
        received
            .into_iter()
            .chain(others.map(str::to_owned))
            .collect()
    }
}

fn client(fields: &Fields) -> Option<Client> {
    let port = number(fields, "header", "client_port")?;
    let protocol = number(fields, "header", "protocol")?;
    let address = text(fields, "header", "client_address");
    Some((address.to_owned(), port, protocol))
}

/// The address that the client connected to, where the frame tells it.
fn endpoint(fields: &Fields) -> Option<String> {
    let told = [
        (
            "connection_information",
            "first_server_address",
            "first_server_port",
        ),
        ("packet", "destination", "destination_port"),
    ];
    told.into_iter().find_map(|(layer, address, port)| {
        let port = number(fields, layer, port)?;
        Some(format!("{}:{port}", text(fields, layer, address)))
    })
}

fn number(fields: &Fields, layer: &str, name: &str) -> Option<u64> {
    fields.get(layer)?.get(name)?.as_u64()
}

/// Empty, where there is none.
fn text<'a>(fields: &'a Fields, layer: &str, name: &str) -> &'a str {
    let value = fields
        .get(layer)
        .and_then(|layer| layer.get(name)?.as_str());
    value.unwrap_or_default()
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Seconds with all their digits, as a capture has them.
fn nanoseconds(seconds: &str) -> Option<u128> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let digits = fraction.chars().chain("000000000".chars()).take(9);
    let fraction: u128 = digits.collect::<String>().parse().ok()?;
    Some(u128::from(whole.parse::<u64>().ok()?) * 1_000_000_000 + fraction)
}
