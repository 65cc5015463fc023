//! The ClientHello of TLS (RFC 8446 §4.1.2), in plain records (§5.1).

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, parse_tls_extension_alpn_content,
    parse_tls_extension_sni_content, parse_tls_extension_unknown, parse_tls_handshake_client_hello,
};

use crate::{HostName, Unreadable};

/// First byte of a record with a handshake message.
pub(crate) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Bytes of a record's header.
const RECORD_HEADER: usize = 5;
/// Bytes of a handshake message's header.
const MESSAGE_HEADER: usize = 4;
/// Longest fragment in a plain record.
const FRAGMENT_MAX: usize = 1 << 14;

/// What a TLS client says first, as far as a server is selected by it. With Encrypted ClientHello (RFC 9849) this is
/// the outer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The server's name (SNI, RFC 6066 §3). `None`: it is not given, is given more than once, or is not a host name.
    pub server_name: Option<HostName>,
    /// The session to resume, in TLS 1.2 and before (RFC 5246 §7.4.1.2). Clients of TLS 1.3 send random bytes, and
    /// others may be empty.
    pub session_id: &'a [u8],
    /// The session ticket of TLS 1.2 (RFC 5077 §3.2). `None`: there is none, or it is empty.
    pub ticket: Option<&'a [u8]>,
    /// The identity of the first pre-shared key, in TLS 1.3 mostly a session ticket (RFC 8446 §4.2.11).
    pub psk_identity: Option<&'a [u8]>,
    /// Application protocols in the client's order, GREASE among them (RFC 7301, RFC 8701).
    pub alpn: Vec<&'a [u8]>,
}

impl<'a> Hello<'a> {
    /// What a returning client gives back to the server that it was connected with: the identity of a pre-shared
    /// key, or a ticket, or a session id. A new client may seem to return, with an id that nobody knows.
    pub fn affinity(&self) -> Option<&'a [u8]> {
        let id = Some(self.session_id).filter(|id| !id.is_empty());
        self.psk_identity.or(self.ticket).or(id)
    }

    /// Reads a message without its header.
    fn parse(message: &'a [u8]) -> Result<Hello<'a>, Unreadable> {
        let Ok(([], contents)) = parse_tls_handshake_client_hello(message) else {
            return Err(Unreadable);
        };
        let mut hello = Hello {
            server_name: None,
            session_id: contents.session_id.unwrap_or_default(),
            ticket: None,
            psk_identity: None,
            alpn: Vec::new(),
        };
        let mut seen = ArrayVec::<_, 4>::new();
        let mut rest = contents.ext.unwrap_or_default();
        while !rest.is_empty() {
            let Ok((behind, TlsExtension::Unknown(kind, data))) = parse_tls_extension_unknown(rest)
            else {
                return Err(Unreadable);
            };
            rest = behind;
            // Only those that are read: an extension that nobody here knows must not hide the others.
            let is_read = hello.take(kind, data)?;
            if is_read && (seen.contains(&kind) || seen.try_push(kind).is_err()) {
                return Err(Unreadable);
            }
        }
        Ok(hello)
    }

    /// Reads an extension; whether it is one that is read.
    fn take(&mut self, kind: TlsExtensionType, data: &'a [u8]) -> Result<bool, Unreadable> {
        match kind {
            TlsExtensionType::ServerName => self.server_name = server_name(data)?,
            TlsExtensionType::SessionTicketTLS => {
                self.ticket = Some(data).filter(|ticket| !ticket.is_empty());
            }
            TlsExtensionType::PreSharedKey => self.psk_identity = Some(first_identity(data)?),
            TlsExtensionType::ApplicationLayerProtocolNegotiation => {
                let Ok(([], TlsExtension::ALPN(names))) = parse_tls_extension_alpn_content(data)
                else {
                    return Err(Unreadable);
                };
                self.alpn = names;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn server_name(data: &[u8]) -> Result<Option<HostName>, Unreadable> {
    let Ok(([], TlsExtension::SNI(names))) = parse_tls_extension_sni_content(data) else {
        return Err(Unreadable);
    };
    let mut hosts = names.iter().filter(|(kind, _)| *kind == SNIType::HostName);
    Ok(match (hosts.next(), hosts.next()) {
        (Some((_, name)), None) => HostName::new(name),
        _ => None,
    })
}

fn first_identity(data: &[u8]) -> Result<&[u8], Unreadable> {
    let (identities, _binders) = with_length(data)?;
    let (identity, _age) = with_length(identities)?;
    Ok(identity)
}

/// Bytes behind their length in two bytes, and what follows them.
fn with_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let (&len, rest) = bytes.split_first_chunk().ok_or(Unreadable)?;
    rest.split_at_checked(u16::from_be_bytes(len).into())
        .ok_or(Unreadable)
}

/// Gathers the message from its records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Bytes that were taken.
    at: usize,
    /// What is left of the current record.
    left: usize,
    /// The message with its header, as far as it has come.
    message: Vec<u8>,
}

impl Records {
    /// Goes on with what is new in `bytes`, which never become more than `limit`; whether the message is whole.
    pub(crate) fn advance(&mut self, bytes: &[u8], limit: usize) -> Result<bool, Unreadable> {
        loop {
            let missing = self.missing()?;
            if missing > limit.saturating_sub(self.at) {
                return Err(Unreadable);
            }
            if missing == 0 {
                return Ok(true);
            }
            let rest = bytes.get(self.at..).unwrap_or_default();
            if self.left == 0 {
                let Some(header) = rest.first_chunk() else {
                    return Ok(false);
                };
                self.left = fragment_len(*header)?;
                self.at += RECORD_HEADER;
                continue;
            }
            let len = self.left.min(missing).min(rest.len());
            if len == 0 {
                return Ok(false);
            }
            self.message
                .extend_from_slice(rest.get(..len).unwrap_or_default());
            self.at += len;
            self.left -= len;
        }
    }

    /// Bytes that the message needs: those of its header, then those of its body.
    fn missing(&self) -> Result<usize, Unreadable> {
        let whole = match *self.message {
            [CLIENT_HELLO, l2, l1, l0, ..] => {
                MESSAGE_HEADER + u32::from_be_bytes([0, l2, l1, l0]) as usize
            }
            [] | [CLIENT_HELLO, ..] => MESSAGE_HEADER,
            _ => return Err(Unreadable),
        };
        Ok(whole.saturating_sub(self.message.len()))
    }

    /// Reads the whole message.
    pub(crate) fn read(&self) -> Result<Hello<'_>, Unreadable> {
        Hello::parse(self.message.get(MESSAGE_HEADER..).ok_or(Unreadable)?)
    }
}

/// The length that a record's header gives. All versions begin with 3; a fragment of a handshake message is never
/// empty.
fn fragment_len(header: [u8; RECORD_HEADER]) -> Result<usize, Unreadable> {
    let [kind, major, _minor, high, low] = header;
    let len = usize::from(u16::from_be_bytes([high, low]));
    match kind == HANDSHAKE && major == 3 && (1..=FRAGMENT_MAX).contains(&len) {
        true => Ok(len),
        false => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests;
