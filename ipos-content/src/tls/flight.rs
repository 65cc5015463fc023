//! What a TLS server says before it encrypts.

use tls_parser::{
    TlsExtensionType, TlsMessageHandshake, parse_tls_handshake_msg_newsessionticket,
    parse_tls_handshake_server_hello,
};

use super::records::Records;
use super::{extensions, with_length};
use crate::{REQUEST_MAX, Unreadable};

const SERVER_HELLO: u8 = 2;
const NEW_SESSION_TICKET: u8 = 4;

/// Reads what a TLS server sends first on one connection, to learn by which id the client will resume its session:
/// what [`Hello::affinity`](crate::Hello::affinity) gives when the client returns.
///
/// These are, up to TLS 1.2:
/// * the session id of the ServerHello (RFC 5246 §7.4.1.3), unless it is empty. Where the server resumes, it is the
///   one that the client has sent. A client that is also given a ticket returns with the ticket;
/// * the ticket of the NewSessionTicket (RFC 5077 §3.3), unless it is empty.
///
/// TLS 1.3 sends its tickets encrypted, and its ServerHello repeats what the client has sent: nothing is told of it.
///
/// The bytes are handed over in order; how they are cut makes no difference. Memory is taken for those two messages
/// only, less than twice [`REQUEST_MAX`], and given back where the flight is over: at the first record that holds no
/// plain handshake message (ChangeCipherSpec, alert, application data, anything malformed), behind the ticket, and
/// where a message would end behind the first [`REQUEST_MAX`] bytes. A long chain of certificates before the ticket can
/// be such a message.
///
/// ```
/// use ipos_content::ServerFlight;
///
/// // A ServerHello of TLS 1.2 with the session id `abc`, cut in two.
/// let hello = [&[22, 3, 3, 0, 45, 2, 0, 0, 41, 3, 3], &[0; 32][..], b"\x03abc\xC0\x2F\0"].concat();
/// let (first, second) = hello.split_at(20);
/// let mut flight = ServerFlight::new();
/// let mut told = Vec::new();
/// flight.handle(first, |id| told.push(id.to_vec()));
/// flight.handle(second, |id| told.push(id.to_vec()));
/// assert_eq!(told, [b"abc"]);
/// assert!(!flight.is_over());
///
/// let change_cipher_spec = [20, 3, 3, 0, 1, 1];
/// flight.handle(&change_cipher_spec, |_| unreachable!());
/// assert!(flight.is_over());
/// ```
#[derive(Debug)]
pub struct ServerFlight {
    /// `None`: it is over.
    records: Option<Records>,
    /// The ServerHello has come.
    greeted: bool,
}

impl ServerFlight {
    /// Nothing has been sent yet.
    pub fn new() -> ServerFlight {
        ServerFlight {
            records: Some(Records::new(&[SERVER_HELLO, NEW_SESSION_TICKET])),
            greeted: false,
        }
    }

    /// Bytes that the server sends; `tell` is called with each id in them, before this returns.
    pub fn handle(&mut self, bytes: &[u8], tell: impl FnMut(&[u8])) {
        if self.read(bytes, tell).is_err() {
            self.records = None;
        }
    }

    /// Whether no id will be told any more, whatever follows: the bytes need not be handed over.
    pub fn is_over(&self) -> bool {
        self.records.is_none()
    }

    /// Fails where no later byte can be read.
    fn read(&mut self, mut bytes: &[u8], mut tell: impl FnMut(&[u8])) -> Result<(), Unreadable> {
        let Some(records) = &mut self.records else {
            return Ok(());
        };
        while records.advance(&mut bytes, REQUEST_MAX)? {
            match (records.kind(), self.greeted) {
                (Some(SERVER_HELLO), false) => {
                    tell_unless_empty(session_id(records.body())?, &mut tell);
                    self.greeted = true;
                }
                (Some(NEW_SESSION_TICKET), true) => {
                    tell_unless_empty(ticket(records.body())?, &mut tell);
                    // ChangeCipherSpec is next.
                    return Err(Unreadable);
                }
                (Some(SERVER_HELLO | NEW_SESSION_TICKET), _) => return Err(Unreadable),
                _ => {}
            }
            records.next();
        }
        Ok(())
    }
}

impl Default for ServerFlight {
    fn default() -> ServerFlight {
        ServerFlight::new()
    }
}

fn tell_unless_empty(id: &[u8], tell: &mut impl FnMut(&[u8])) {
    if !id.is_empty() {
        tell(id);
    }
}

/// The session id of a ServerHello. Of TLS 1.3 and later, which select their version by an extension that nobody else
/// sends (RFC 8446 §4.2.1), it cannot be read on.
fn session_id(message: &[u8]) -> Result<&[u8], Unreadable> {
    let Ok(([], hello)) = parse_tls_handshake_server_hello(message) else {
        return Err(Unreadable);
    };
    for extension in extensions(hello.ext.unwrap_or_default()) {
        if let (TlsExtensionType::SupportedVersions, _) = extension? {
            return Err(Unreadable);
        }
    }
    Ok(hello.session_id.unwrap_or_default())
}

fn ticket(message: &[u8]) -> Result<&[u8], Unreadable> {
    let Ok(([], TlsMessageHandshake::NewSessionTicket(contents))) =
        parse_tls_handshake_msg_newsessionticket(message, message.len())
    else {
        return Err(Unreadable);
    };
    // The parser leaves the ticket's length in front of it.
    match with_length(contents.ticket)? {
        (ticket, []) => Ok(ticket),
        _ => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests;
