//! A DNS query to its answer (RFC 1035). Each configured name is a zone of its own.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::rdata::{A, NS, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use ipos_core::Instant;

use super::State;
use super::choice::Choice;
use super::config::{Dns, Zone as ZoneSettings};
use super::servers::Servers;

/// Longest answer that is sent as one datagram, in bytes: no IP fragments (RFC 9715).
const DATAGRAM: u16 = 1_232;
/// Longest answer to a client that does not say how much it takes (RFC 1035 §4.2.1).
const PLAIN: u16 = 512;
/// Records that come with a query at most: EDNS and a signature, and some that nobody knows yet.
const ADDITIONALS: u16 = 4;
/// Seconds between a secondary's questions, which nobody asks: there are no transfers.
const SOA_TIMES: (i32, i32, i32) = (3_600, 600, 86_400);

/// How a query has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The names that are answered for.
pub(super) struct Zones {
    zones: Vec<Zone>,
    nameserver: Option<Name>,
    /// Seconds.
    ttl: u32,
    /// Addresses in an answer at most.
    answers: usize,
}

struct Zone {
    name: Name,
    soa: Record,
    choice: Choice,
}

impl Zones {
    pub(super) fn new(dns: Option<&Dns>) -> Zones {
        let Some(dns) = dns else {
            return Zones {
                zones: Vec::new(),
                nameserver: None,
                ttl: 0,
                answers: 0,
            };
        };
        let zones = dns.zones.iter().map(|zone| Zone::new(zone, dns));
        Zones {
            zones: zones.collect(),
            nameserver: dns.nameserver.clone(),
            ttl: dns.ttl,
            answers: dns.answers,
        }
    }

    /// The zone that a name is in: the innermost one.
    fn of(&mut self, name: &Name) -> Option<&mut Zone> {
        let around = self.zones.iter_mut().filter(|z| z.name.zone_of(name));
        around.max_by_key(|zone| zone.name.num_labels())
    }
}

impl Zone {
    fn new(zone: &ZoneSettings, dns: &Dns) -> Zone {
        let name = zone.name.clone();
        let primary = dns.nameserver.clone().unwrap_or_else(|| name.clone());
        // Where there is no room for one label more, the name stands for it.
        let mailbox = name.prepend_label("hostmaster");
        let mailbox = mailbox.unwrap_or_else(|_| name.clone());
        let (refresh, retry, expire) = SOA_TIMES;
        let soa = SOA::new(primary, mailbox, 1, refresh, retry, expire, dns.ttl);
        Zone {
            soa: Record::from_rdata(name.clone(), dns.ttl, RData::SOA(soa)),
            name,
            choice: Choice::new(&zone.target),
        }
    }
}

impl State {
    /// The answer to a DNS message; none to what is not a query.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        client: IpAddr,
        transport: Transport,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let header = Header::read(&mut BinDecoder::new(message)).ok()?;
        if header.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut answer = Message::response(header.metadata.id, header.metadata.op_code);
        answer.metadata = Metadata::response_from_request(&header.metadata);
        let size = match self.question(now, client, &header, message, &mut answer) {
            Ok(size) => size,
            Err(code) => {
                answer.metadata.response_code = code;
                PLAIN
            }
        };
        let bytes = answer.to_vec().ok()?;
        if transport == Transport::Udp && bytes.len() > usize::from(size) {
            return answer.truncate().to_vec().ok();
        }
        Some(bytes)
    }

    /// Fills in the answer; how long it may be.
    fn question(
        &mut self,
        now: Instant,
        client: IpAddr,
        header: &Header,
        message: &[u8],
        answer: &mut Message,
    ) -> Result<u16, ResponseCode> {
        if header.metadata.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        // Before anything is made room for.
        let counts = &header.counts;
        if (counts.queries, counts.answers, counts.authorities) != (1, 0, 0)
            || counts.additionals > ADDITIONALS
        {
            return Err(ResponseCode::FormErr);
        }
        let query = Message::from_vec(message).map_err(|_| ResponseCode::FormErr)?;
        let question = query.queries.first().ok_or(ResponseCode::FormErr)?;
        answer.add_query(question.clone());
        if let Some(asked) = &query.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(DATAGRAM);
            answer.set_edns(edns);
            if asked.version() > 0 {
                return Err(ResponseCode::BADVERS);
            }
        }
        let State {
            servers,
            zones,
            rng,
            ..
        } = self;
        let code = zones.find(question, answer, |zone, most| {
            addresses(now, client, zone, servers, rng, most)
        });
        answer.metadata.authoritative =
            matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        answer.metadata.response_code = code;
        Ok(query.max_payload().min(DATAGRAM))
    }
}

impl Zones {
    /// Adds the records that a question asks for. Where there are none, the zone's SOA says for how long (RFC 2308).
    fn find(
        &mut self,
        question: &Query,
        answer: &mut Message,
        addresses: impl FnOnce(&mut Zone, usize) -> Vec<Ipv4Addr>,
    ) -> ResponseCode {
        let (name, kind) = (question.name(), question.query_type());
        let (ttl, most, nameserver) = (self.ttl, self.answers, self.nameserver.clone());
        let ours = question.query_class() == DNSClass::IN
            && !matches!(kind, RecordType::AXFR | RecordType::IXFR);
        let Some(zone) = self.of(name).filter(|_| ours) else {
            return ResponseCode::Refused;
        };
        if zone.name != *name {
            answer.add_authority(zone.soa.clone());
            return ResponseCode::NXDomain;
        }
        // The owner is the name as it was asked for: a resolver may look at its case.
        let record = |data| Record::from_rdata(name.clone(), ttl, data);
        match (kind, nameserver) {
            // Of all records A alone is a good answer to ANY (RFC 8482 §4.1).
            (RecordType::A | RecordType::ANY, _) => {
                let addresses = addresses(zone, most);
                if addresses.is_empty() {
                    // Another name server may know one; "no addresses" would be remembered.
                    return ResponseCode::ServFail;
                }
                answer.add_answers(addresses.into_iter().map(|a| record(RData::A(A(a)))));
            }
            (RecordType::SOA, _) => {
                answer.add_answer(zone.soa.clone());
            }
            (RecordType::NS, Some(server)) => {
                answer.add_answer(record(RData::NS(NS(server))));
            }
            _ => {
                answer.add_authority(zone.soa.clone());
            }
        }
        ResponseCode::NoError
    }
}

/// The addresses of the zone's live servers, those of the chosen one first.
fn addresses(
    now: Instant,
    client: IpAddr,
    zone: &mut Zone,
    servers: &mut Servers,
    rng: &mut dyn rand_core::Rng,
    most: usize,
) -> Vec<Ipv4Addr> {
    let places = zone.choice.choose(now, client, None, servers, rng);
    let servers = places.iter().filter_map(|at| servers.get(*at));
    let mut all: Vec<Ipv4Addr> = Vec::new();
    for address in servers.flat_map(|server| server.addresses(zone.choice.wanted(None))) {
        if all.len() < most && !all.contains(address.ip()) {
            all.push(*address.ip());
        }
    }
    all
}
