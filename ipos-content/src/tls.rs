//! The ClientHello of TLS (RFC 8446 §4.1.2).

use alloc::vec::Vec;
use core::iter;

use arrayvec::ArrayVec;
use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, parse_tls_extension_alpn_content,
    parse_tls_extension_sni_content, parse_tls_extension_unknown, parse_tls_handshake_client_hello,
};

use crate::{HostName, Unreadable};

mod flight;
mod records;

pub use flight::ServerFlight;
pub(crate) use records::HANDSHAKE;
use records::Records;

const CLIENT_HELLO: u8 = 1;
/// The version as the extension names it.
const TLS1_3: [u8; 2] = [3, 4];

/// What a TLS client says first, as far as a server is selected by it. With Encrypted ClientHello (RFC 9849) this is
/// the outer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The server's name (SNI, RFC 6066 §3). `None`: it is not given, is given more than once, or is not a host name.
    pub server_name: Option<HostName>,
    /// The session to resume, in TLS 1.2 and before (RFC 5246 §7.4.1.2). New clients of TLS 1.3 send random bytes
    /// (RFC 8446 App. D.4), and it may be empty.
    pub session_id: &'a [u8],
    /// The session ticket of TLS 1.2 (RFC 5077 §3.2). `None`: there is none, or it is empty.
    pub ticket: Option<&'a [u8]>,
    /// The identity of the first pre-shared key, in TLS 1.3 mostly a session ticket (RFC 8446 §4.2.11).
    pub psk_identity: Option<&'a [u8]>,
    /// Whether TLS 1.3 is among the versions that the client offers (RFC 8446 §4.2.1).
    pub offers_tls1_3: bool,
    /// Application protocols in the client's order, GREASE among them (RFC 7301, RFC 8701).
    pub alpn: Vec<&'a [u8]>,
}

impl<'a> Hello<'a> {
    /// What a returning client gives back to the server that it was connected with: the identity of a pre-shared
    /// key, or a ticket, or a session id.
    ///
    /// The session id does not count where TLS 1.3 is offered: a new client fills it with random bytes, so that it seems
    /// to be known (RFC 8446 App. D.4). A client that offers TLS 1.3 and returns to a server of TLS 1.2 that gives no
    /// tickets has its session's id there, and looks the same: who knows the ids of his sessions may look
    /// [`session_id`](Hello::session_id) up among them.
    ///
    /// Whatever it is, nobody may know it: the client chooses it.
    pub fn affinity(&self) -> Option<&'a [u8]> {
        let id = Some(self.session_id).filter(|id| !id.is_empty() && !self.offers_tls1_3);
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
            offers_tls1_3: false,
            alpn: Vec::new(),
        };
        let mut seen = ArrayVec::<_, 5>::new();
        for extension in extensions(contents.ext.unwrap_or_default()) {
            let (kind, data) = extension?;
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
            TlsExtensionType::SupportedVersions => self.offers_tls1_3 = offers_tls1_3(data)?,
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

/// The extensions of a message, up to the first that is malformed.
fn extensions(
    mut rest: &[u8],
) -> impl Iterator<Item = Result<(TlsExtensionType, &[u8]), Unreadable>> {
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = parse_tls_extension_unknown(rest);
        let Ok((behind, TlsExtension::Unknown(kind, data))) = parsed else {
            rest = &[];
            return Some(Err(Unreadable));
        };
        rest = behind;
        Some(Ok((kind, data)))
    })
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

/// The list is behind its length in one byte; GREASE may be in it.
fn offers_tls1_3(data: &[u8]) -> Result<bool, Unreadable> {
    let (&len, list) = data.split_first().ok_or(Unreadable)?;
    match list.as_chunks() {
        (versions, []) if list.len() == usize::from(len) => Ok(versions.contains(&TLS1_3)),
        _ => Err(Unreadable),
    }
}

/// Bytes behind their length in two bytes, and what follows them.
fn with_length(bytes: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    let (&len, rest) = bytes.split_first_chunk().ok_or(Unreadable)?;
    rest.split_at_checked(u16::from_be_bytes(len).into())
        .ok_or(Unreadable)
}

/// Gathers a client's first message from its records.
#[derive(Debug)]
pub(crate) struct HelloGatherer(Records);

impl HelloGatherer {
    pub(crate) fn new() -> HelloGatherer {
        HelloGatherer(Records::new(&[CLIENT_HELLO]))
    }

    /// Goes on with what is new in `bytes`, which never become more than `limit`; whether the message is whole.
    pub(crate) fn advance(&mut self, bytes: &[u8], limit: usize) -> Result<bool, Unreadable> {
        let mut new = bytes.get(self.0.taken()..).unwrap_or_default();
        let is_whole = self.0.advance(&mut new, limit)?;
        match self.0.kind() {
            None | Some(CLIENT_HELLO) => Ok(is_whole),
            Some(_) => Err(Unreadable),
        }
    }

    /// Reads the whole message.
    pub(crate) fn read(&self) -> Result<Hello<'_>, Unreadable> {
        Hello::parse(self.0.body())
    }
}

#[cfg(test)]
mod tests;
