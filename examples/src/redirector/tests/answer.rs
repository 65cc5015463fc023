//! Queries to answers.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::*;

use super::super::answer::Transport;
use super::*;

const SETTINGS: &str = r#"
[synch]
interface = "c0"

[dns]
listen = "10.77.0.5:53"
answers = 3

[[dns.name]]
name = "www.FirstSite.com"
service = "web"

[[dns.name]]
name = "shop.www.firstsite.com."
service = "shop"
"#;

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(state: &mut State, now: Instant, query: &Message) -> Message {
    let answer = state.answer(now, CLIENT, Transport::Udp, &query.to_vec().unwrap());
    Message::from_vec(&answer.unwrap()).unwrap()
}

fn addresses(answer: &Message) -> Vec<Ipv4Addr> {
    answer
        .answers
        .iter()
        .map(|record| match record.data {
            RData::A(address) => address.0,
            ref other => panic!("{other}"),
        })
        .collect()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

#[test]
fn addresses_of_live_servers_in_turn() {
    let mut voices = [11, 12, 13].map(Voice::new);
    let mut state = heard(SETTINGS, &mut voices);
    let www = query("www.firstsite.com.", RecordType::A);
    for expected in [[11, 12, 13], [12, 13, 11], [13, 11, 12], [11, 12, 13]] {
        let answer = ask(&mut state, at(0), &www);
        assert_eq!(addresses(&answer), expected.map(ip));
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
        assert!(!answer.metadata.recursion_available);
        assert_eq!(
            (answer.metadata.id, answer.metadata.response_code),
            (7, ResponseCode::NoError)
        );
        assert!(answer.answers.iter().all(|record| record.ttl == 5));
    }
    let later = at(0) + SILENCE + Duration::from_millis(1);
    voices[0].speak(&mut state, later, 0);
    assert_eq!(addresses(&ask(&mut state, later, &www)), [ip(11)]);
    // Not "there is no address": that would be remembered.
    let dead = later + SILENCE + SILENCE;
    let answer = ask(&mut state, dead, &www);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(answer.answers.is_empty());
}

#[test]
fn no_more_addresses_than_configured() {
    let mut state = heard(SETTINGS, &mut [11, 12, 13, 14].map(Voice::new));
    let www = query("www.firstsite.com.", RecordType::A);
    for expected in [[11, 12, 13], [12, 13, 14], [13, 14, 11]] {
        assert_eq!(addresses(&ask(&mut state, at(0), &www)), expected.map(ip));
    }
    let one = SETTINGS.replace("answers = 3", "answers = 1");
    let mut state = heard(&one, &mut [11, 12].map(Voice::new));
    for expected in [11, 12, 11] {
        assert_eq!(addresses(&ask(&mut state, at(0), &www)), [ip(expected)]);
    }
}

#[test]
fn names_and_types() {
    let mut shop = Voice::new(14);
    shop.listen = vec![(80, "shop"), (81, "shop")];
    let mut state = heard(SETTINGS, &mut [Voice::new(11), shop]);
    let mut code = |name: &str, kind| {
        let answer = ask(&mut state, at(0), &query(name, kind));
        let soas = answer.authorities.iter().map(|r| r.record_type());
        let soa = soas.eq([RecordType::SOA]);
        (answer.metadata.response_code, answer.answers.len(), soa)
    };
    use RecordType::{A, AAAA, ANY, AXFR, MX, NS, SOA};
    use ResponseCode::{NXDomain, NoError, Refused};
    for (name, kind, expected) in [
        ("WWW.firstsite.COM.", A, (NoError, 1, false)),
        ("www.firstsite.com.", ANY, (NoError, 1, false)),
        ("www.firstsite.com.", SOA, (NoError, 1, false)),
        ("www.firstsite.com.", AAAA, (NoError, 0, true)),
        ("www.firstsite.com.", MX, (NoError, 0, true)),
        ("www.firstsite.com.", NS, (NoError, 0, true)),
        ("shop.www.firstsite.com.", A, (NoError, 1, false)),
        ("x.www.firstsite.com.", A, (NXDomain, 0, true)),
        ("x.shop.www.firstsite.com.", AAAA, (NXDomain, 0, true)),
        ("firstsite.com.", A, (Refused, 0, false)),
        ("example.org.", A, (Refused, 0, false)),
        (".", A, (Refused, 0, false)),
        ("www.firstsite.com.", AXFR, (Refused, 0, false)),
    ] {
        assert_eq!(code(name, kind), expected, "{name} {kind}");
    }
    let mut chaos = query("www.firstsite.com.", A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        ask(&mut state, at(0), &chaos).metadata.response_code,
        Refused
    );
}

/// Resolvers look whether the name comes back as they wrote it.
#[test]
fn the_name_comes_back_as_it_was_asked() {
    let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
    let answer = ask(
        &mut state,
        at(0),
        &query("wWw.fIrstsite.cOm.", RecordType::A),
    );
    let owner = &answer.answers[0].name;
    assert!(owner.eq_case(&Name::from_ascii("wWw.fIrstsite.cOm.").unwrap()));
    assert!(answer.queries[0].name().eq_case(owner));
}

#[test]
fn a_name_server_that_is_configured_is_told() {
    let text = SETTINGS.replace("answers = 3", "nameserver = \"ns.firstsite.com\"");
    let mut state = heard(&text, &mut []);
    let answer = ask(
        &mut state,
        at(0),
        &query("www.firstsite.com.", RecordType::NS),
    );
    let RData::NS(server) = &answer.answers[0].data else {
        panic!("{answer}");
    };
    assert_eq!(server.0, Name::from_ascii("ns.firstsite.com.").unwrap());
}

#[test]
fn what_is_no_question_of_ours() {
    let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
    let good = query("www.firstsite.com.", RecordType::A);
    let mut send = |message: &Message| {
        let bytes = message.to_vec().unwrap();
        let answer = state.answer(at(0), CLIENT, Transport::Udp, &bytes)?;
        Some(Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    let mut response = good.clone();
    response.metadata.message_type = MessageType::Response;
    assert_eq!(send(&response), None);
    let mut notify = good.clone();
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(send(&notify), Some(ResponseCode::NotImp));
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(send(&two), Some(ResponseCode::FormErr));
    let mut none = good.clone();
    none.queries.clear();
    assert_eq!(send(&none), Some(ResponseCode::FormErr));
    let mut future = good.clone();
    future.set_edns(Edns::new().set_version(1).clone());
    // 16 is BADSIG too (RFC 6895 §2.3).
    assert_eq!(send(&future).map(u16::from), Some(16));
    let bytes = good.to_vec().unwrap();
    let cut = state.answer(at(0), CLIENT, Transport::Udp, &bytes[..bytes.len() - 1]);
    let cut = Message::from_vec(&cut.unwrap()).unwrap();
    assert_eq!(
        (cut.metadata.id, cut.metadata.response_code),
        (7, ResponseCode::FormErr)
    );
    assert_eq!(
        state.answer(at(0), CLIENT, Transport::Udp, &bytes[..11]),
        None
    );
}

/// A datagram is not longer than the client takes; over TCP all of it comes.
#[test]
fn long_answers_are_cut_in_datagrams_only() {
    let text = SETTINGS.replace("answers = 3", "answers = 64");
    let mut voices: Vec<_> = (11..71).map(Voice::new).collect();
    let mut state = heard(&text, &mut voices);
    let mut www = query("www.firstsite.com.", RecordType::A);
    let mut lengths = |message: &Message, transport| {
        let bytes = message.to_vec().unwrap();
        let bytes = state.answer(at(0), CLIENT, transport, &bytes).unwrap();
        let answer = Message::from_vec(&bytes).unwrap();
        assert_eq!(answer.queries, message.queries);
        assert_eq!(answer.edns.is_some(), message.edns.is_some());
        (
            bytes.len(),
            answer.metadata.truncation,
            answer.answers.len(),
        )
    };
    let (length, cut, answers) = lengths(&www, Transport::Udp);
    assert!(length <= 512 && cut && answers == 0, "{length}");
    let (_, cut, answers) = lengths(&www, Transport::Tcp);
    assert_eq!((cut, answers), (false, 60));
    www.set_edns(Edns::new().set_max_payload(4_096).clone());
    let (length, cut, answers) = lengths(&www, Transport::Udp);
    assert!(
        (512..=1_232).contains(&length) && !cut && answers == 60,
        "{length}"
    );
}

proptest! {
    /// Whatever comes: no panic, and an answer has the query's id and is one.
    #[test]
    fn any_message(bytes in prop::collection::vec(any::<u8>(), 0..80), good in any::<bool>(), at_byte in 0usize..60) {
        let mut state = heard(SETTINGS, &mut [Voice::new(11)]);
        let bytes = if good {
            let mut message = query("www.firstsite.com.", RecordType::A);
            message.set_edns(Edns::new());
            let mut message = message.to_vec().unwrap();
            let len = message.len();
            for (byte, noise) in message.iter_mut().skip(at_byte % len).zip(bytes.iter().take(2)) {
                *byte ^= noise;
            }
            message
        } else {
            bytes
        };
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Some(answer) = state.answer(at(0), CLIENT, transport, &bytes) {
                let message = Message::from_vec(&answer).unwrap();
                prop_assert_eq!(message.metadata.message_type, MessageType::Response);
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                prop_assert!(answer.len() <= 1_232);
            }
        }
    }
}
