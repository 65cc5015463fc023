//! Properties of every report: what is written is read back, what is damaged never panics.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::writer;
use crate::{MacAddr, Protocol};

/// What any record is made of.
#[derive(Debug)]
struct Ingredients {
    kind: u8,
    name: String,
    session: Vec<u8>,
    addresses: Vec<Ipv4Addr>,
    numbers: [u64; 3],
    cpu: u16,
    some: bool,
}

impl Ingredients {
    fn record(&self) -> Record<'_> {
        let (name, session) = (self.name.as_str(), self.session.as_slice());
        let [a, b, c] = self.numbers;
        let [address, other] = [Ipv4Addr::from(a as u32), Ipv4Addr::from(b as u32)];
        let socket = SocketAddrV4::new(address, c as u16);
        let [_, _, mac @ ..] = c.to_be_bytes();
        match self.kind {
            0 => Record::State(State {
                connections: a as u32,
                cpu: self.cpu,
                free_memory: b,
                free_bandwidth: c,
            }),
            1 => Record::Identity(Identity {
                name,
                port_b: address,
                hardware: MacAddr(mac),
                port_a: AddressList::new(&self.addresses).unwrap(),
            }),
            2 => {
                let protocol = if self.some {
                    Protocol::Tcp
                } else {
                    Protocol::Udp
                };
                Record::Listen(Listen {
                    address: socket,
                    protocol,
                    service: name,
                })
            }
            3 => Record::Process(Process {
                pid: b as u32,
                address: socket,
                name,
            }),
            4 => {
                let shadow = self.some.then_some(Shadow {
                    id: c | 1,
                    address: other,
                });
                Record::Object(Object {
                    id: a,
                    address,
                    shadow,
                })
            }
            5 => Record::Cookie(Cookie {
                session,
                server: name,
                lifetime_ms: a as u32,
            }),
            6 => Record::CookieRemoved(session),
            7 => {
                let subject = if self.some {
                    Subject::Process(a as u32)
                } else {
                    Subject::Object(a)
                };
                Record::Performance(Performance {
                    subject,
                    cpu: self.cpu,
                    memory: b,
                })
            }
            _ => Record::Stored(name),
        }
    }
}

fn ingredients() -> impl Strategy<Value = Ingredients> {
    let address = any::<u32>().prop_map(Ipv4Addr::from);
    let text = (
        "\\PC{1,15}",
        vec(any::<u8>(), 1..=SESSION_MAX),
        vec(address, 0..=PORT_A_MAX),
    );
    let rest = (any::<[u64; 3]>(), 0..=CPU_FULL, any::<bool>());
    (0u8..9, text, rest).prop_map(|(kind, (name, session, addresses), (numbers, cpu, some))| {
        Ingredients {
            kind,
            name,
            session,
            addresses,
            numbers,
            cpu,
            some,
        }
    })
}

/// A report of these, in datagrams of at most `limit` bytes.
fn report(all: &[Ingredients], flags: u16, limit: usize) -> Vec<Vec<u8>> {
    let flags = SynchFlags::from_bits_retain(flags);
    let mut writer = SynchWriter::new(SynchKind::Medium, flags, 1, 2, limit);
    for ingredients in all {
        writer.push(&ingredients.record()).unwrap();
    }
    writer.finish()
}

proptest! {
    #[test]
    fn reports_are_read_back(
        all in vec(ingredients(), 0..60),
        flags: u16,
        limit in 300usize..=SYNCH_DATAGRAM_MAX,
    ) {
        let datagrams = report(&all, flags, limit);
        let mut expected = all.iter().map(Ingredients::record);
        for (part, bytes) in datagrams.iter().enumerate() {
            prop_assert!(bytes.len() <= limit);
            let message = SynchMessage::parse(bytes).unwrap();
            let header = message.header();
            prop_assert_eq!(usize::from(header.part), part);
            prop_assert_eq!(usize::from(header.parts), datagrams.len());
            prop_assert_eq!(header.flags.bits(), flags);
            prop_assert_eq!(SynchHeader::parse(&header.to_bytes()).map(|it| it.0), Ok(*header));
            for record in message.records() {
                prop_assert_eq!(Some(record), expected.next());
            }
        }
        prop_assert_eq!(expected.next(), None);
    }

    #[test]
    fn a_damaged_byte_never_panics(
        all in vec(ingredients(), 1..4),
        flags: u16,
        at: prop::sample::Index,
        flip in 1u8..,
    ) {
        let mut bytes = report(&all, flags, SYNCH_DATAGRAM_MAX).swap_remove(0);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let result = SynchMessage::parse(&bytes);
        if at < KIND_AT {
            prop_assert!(result.is_err());
        }
        if let Ok(message) = result {
            prop_assert!(message.records().count() <= all.len());
        }
    }

    #[test]
    fn a_message_that_is_cut_is_refused(all in vec(ingredients(), 0..4), flags: u16) {
        let bytes = report(&all, flags, SYNCH_DATAGRAM_MAX).swap_remove(0);
        for len in 0..bytes.len() {
            prop_assert!(SynchMessage::parse(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn arbitrary_records_never_panic(body in vec(any::<u8>(), 0..300), types in vec(1u8..=8, 1..4)) {
        let _ = SynchMessage::parse(&body);
        // Records of known types around arbitrary values.
        let mut bytes = writer(SynchKind::Low, SynchFlags::default(), 1).finish().swap_remove(0);
        for (kind, value) in types.iter().zip(body.chunks(60)) {
            bytes.extend([*kind, 0, 0, value.len() as u8]);
            bytes.extend(value);
        }
        let records_len = (bytes.len() - SYNCH_HEADER_LEN) as u16;
        bytes[RECORDS_LEN_AT..SYNCH_HEADER_LEN].copy_from_slice(&records_len.to_be_bytes());
        if let Ok(message) = SynchMessage::parse(&bytes) {
            prop_assert!(message.records().count() <= types.len());
        }
    }
}
