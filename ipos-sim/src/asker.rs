//! Client hosts that send datagrams, and see whether the answers are right.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::{ETHERNET_LEN, MacAddr};
use rand_core::Rng;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::wire::{EthernetAddress, IpCidr, IpEndpoint};

use crate::addresses::PREFIX;
use crate::frame::Outbox;
use crate::neighbours::Neighbours;
use crate::network::Node;
use crate::pattern;
use crate::random::{Purpose, stream};
use crate::wire::{Wire, instant, moment};

/// Largest IP packet, in bytes.
const MTU: usize = 1500;
/// Datagrams that a socket holds, either way.
const QUEUE: usize = 64;
/// The number of a question, in front of its other bytes.
const NUMBER: usize = 4;
/// What is noted of one host's wrong datagrams; further ones are counted.
const KEPT: usize = 8;

/// What an [`Asker`] is told when it is made.
#[derive(Clone, Debug)]
pub struct AskerConfig {
    /// Its hardware address.
    pub hardware: MacAddr,
    /// Its address on LAN A.
    pub address: Ipv4Addr,
    /// Seed of its generator and of what it sends.
    pub seed: u64,
    /// What it asks, by number.
    pub questions: Vec<Question>,
    /// It asks again after so long without an answer.
    pub interval: Duration,
    /// It gives up after so long.
    pub patience: Duration,
}

/// A datagram that is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// When it is sent for the first time.
    pub at: Instant,
    /// The port that it comes from.
    pub port: u16,
    /// Where it goes to.
    pub server: SocketAddrV4,
    /// Bytes, besides its number.
    pub len: usize,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was answered at this moment.
    At(Instant),
    /// Nobody has answered until this moment.
    Never(Instant),
}

/// A host that asks servers of an echo service, see [`Web`](crate::Web).
pub struct Asker {
    config: AskerConfig,
    interface: Interface,
    neighbours: Neighbours,
    sockets: SocketSet<'static>,
    /// The socket of each port.
    ports: BTreeMap<u16, SocketHandle>,
    /// When each open question is to be asked.
    due: BTreeMap<usize, Instant>,
    answers: BTreeMap<usize, Answer>,
    wrong: Vec<String>,
    count: u64,
    /// Servers that answered, other than the last one on that flow.
    turns: u64,
    last: BTreeMap<(u16, SocketAddrV4), Vec<u8>>,
    wake: Option<Instant>,
}

impl Asker {
    /// A host that has not asked yet.
    pub fn new(config: AskerConfig) -> Asker {
        let mut smol = Config::new(EthernetAddress(config.hardware.0).into());
        let index = usize::from(config.address.octets()[3]);
        smol.random_seed = stream(config.seed, Purpose::Client, index).next_u64();
        let mut out = Outbox::new(0);
        let mut wire = Wire::new(Instant::ZERO, None, &mut out, MTU + ETHERNET_LEN);
        let mut interface = Interface::new(smol, &mut wire, moment(Instant::ZERO));
        interface.update_ip_addrs(|addresses| {
            // The list holds two by default, and is empty.
            let _ = addresses.push(IpCidr::new(config.address.into(), PREFIX));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let mut ports = BTreeMap::new();
        for question in &config.questions {
            ports.entry(question.port).or_insert_with(|| {
                let buffer = || {
                    let places = vec![udp::PacketMetadata::EMPTY; QUEUE];
                    udp::PacketBuffer::new(places, vec![0; QUEUE * MTU])
                };
                let mut socket = udp::Socket::new(buffer(), buffer());
                // Port zero, which nobody can send from: its questions are never answered.
                let _ = socket.bind(question.port);
                sockets.add(socket)
            });
        }
        let questions = config.questions.iter().enumerate();
        let due: BTreeMap<_, _> = questions
            .map(|(number, asked)| (number, asked.at))
            .collect();
        Asker {
            interface,
            neighbours: Neighbours::new(EthernetAddress(config.hardware.0), config.address),
            sockets,
            ports,
            wake: due.values().min().copied(),
            due,
            answers: BTreeMap::new(),
            wrong: Vec::new(),
            count: 0,
            turns: 0,
            last: BTreeMap::new(),
            config,
        }
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.config.address
    }

    /// Whether every question has an answer, or was given up.
    pub fn is_done(&self) -> bool {
        self.due.is_empty()
    }

    /// Every question, and what came of it where it has an end.
    pub fn answers(&self) -> impl Iterator<Item = (&Question, Option<Answer>)> {
        let questions = self.config.questions.iter().enumerate();
        questions.map(|(number, asked)| (asked, self.answers.get(&number).copied()))
    }

    /// Datagrams that answer nothing that was asked, or not with its bytes; the first ones.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// How many there were of them.
    pub fn wrong_count(&self) -> u64 {
        self.count
    }

    /// How often a flow was answered by another server than the time before.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The bytes of question `number`.
    fn payload(&self, number: usize) -> Vec<u8> {
        let len = self
            .config
            .questions
            .get(number)
            .map_or(0, |asked| asked.len);
        let mut bytes = vec![0; NUMBER + len];
        bytes[..NUMBER].copy_from_slice(&(number as u32).to_be_bytes());
        let seed = self.config.seed.wrapping_add(number as u64);
        pattern::fill(seed, 0, &mut bytes[NUMBER..]);
        bytes
    }

    fn drive(&mut self, now: Instant, out: &mut Outbox) {
        self.ask(now, out);
        let mut wire = Wire::new(now, None, out, MTU + ETHERNET_LEN);
        let (interface, sockets) = (&mut self.interface, &mut self.sockets);
        while interface.poll_egress(moment(now), &mut wire, sockets) != PollResult::None {}
        let smol = interface.poll_at(moment(now), sockets).map(instant);
        let next = self.due.values().min().copied();
        let next = next.into_iter().chain(smol).min();
        self.wake = next.map(|next| next.max(now + Duration::from_micros(1)));
    }

    /// Asks whatever is due.
    fn ask(&mut self, now: Instant, out: &mut Outbox) {
        let due = self.due.iter().filter(|(_, at)| **at <= now);
        let due: Vec<usize> = due.map(|(number, _)| *number).collect();
        for number in due {
            let Some(&Question {
                at, port, server, ..
            }) = self.config.questions.get(number)
            else {
                continue;
            };
            if now >= at + self.config.patience {
                self.end(number, Answer::Never(now));
                continue;
            }
            // A socket of smoltcp's waits for one neighbour at a time, and sends nothing to others meanwhile.
            if let Err(again) = self.neighbours.resolve(now, *server.ip(), out) {
                self.due.insert(number, again);
                continue;
            }
            self.due.insert(number, now + self.config.interval);
            let payload = self.payload(number);
            if let Some(&handle) = self.ports.get(&port) {
                let to = IpEndpoint::new((*server.ip()).into(), server.port());
                // Full: it is asked again.
                let socket = self.sockets.get_mut::<udp::Socket>(handle);
                let _ = socket.send_slice(&payload, to);
            }
        }
    }

    fn end(&mut self, number: usize, answer: Answer) {
        if self.due.remove(&number).is_some() {
            self.answers.insert(number, answer);
        }
    }

    /// Takes what has come.
    fn hear(&mut self, now: Instant) {
        let mut heard = Vec::new();
        for (&port, &handle) in &self.ports {
            let socket = self.sockets.get_mut::<udp::Socket>(handle);
            while let Ok((bytes, about)) = socket.recv() {
                heard.push((port, about.endpoint, bytes.to_vec()));
            }
        }
        for (port, from, bytes) in heard {
            if let Err(what) = self.check(now, port, from, &bytes) {
                self.count += 1;
                if self.wrong.len() < KEPT {
                    let to = self.config.address;
                    self.wrong
                        .push(format!("{from} to {to}:{port}: {what} at {now:?}"));
                }
            }
        }
    }

    /// An answer is the server's name, a line feed, and the question.
    fn check(
        &mut self,
        now: Instant,
        port: u16,
        from: IpEndpoint,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
        let (name, echo) = (parts.next(), parts.next());
        let (Some(name), Some(echo)) = (name, echo) else {
            return Err("no answer");
        };
        let number = echo
            .first_chunk()
            .map(|number| u32::from_be_bytes(*number) as usize);
        let asked = number.and_then(|number| Some((number, *self.config.questions.get(number)?)));
        let (number, asked) = asked.ok_or("an answer to nothing")?;
        let server = IpEndpoint::new((*asked.server.ip()).into(), asked.server.port());
        if asked.at > now || (asked.port, server) != (port, from) {
            return Err("an answer to what was not asked there");
        }
        if echo != self.payload(number) {
            return Err("other bytes than those of the question");
        }
        let former = self.last.insert((port, asked.server), name.to_vec());
        self.turns += u64::from(former.is_some_and(|former| former != name));
        self.end(number, Answer::At(now));
        Ok(())
    }
}

impl Node for Asker {
    fn handle_frame(&mut self, now: Instant, _: usize, frame: &[u8], out: &mut Outbox) {
        let mut wire = Wire::new(now, Some(frame), out, MTU + ETHERNET_LEN);
        self.interface
            .poll_ingress_single(moment(now), &mut wire, &mut self.sockets);
        if let Some(server) = self.neighbours.hear(now, frame) {
            for (number, due) in &mut self.due {
                let asked = self.config.questions.get(*number);
                if asked.is_some_and(|asked| *asked.server.ip() == server && asked.at <= now) {
                    *due = now;
                }
            }
        }
        self.hear(now);
        self.drive(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.drive(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ipos_core::Port;
    use ipos_core::config::Listen;
    use ipos_proto::Protocol;

    use super::*;
    use crate::addresses::{self, ServerAddresses};
    use crate::app::{Application, Session};
    use crate::farm::Farm;

    /// Answers with what it likes.
    struct Answers(&'static [u8]);

    impl Application for Answers {
        fn accept(
            &mut self,
            _: Instant,
            _: ipos_core::ListenerId,
            _: ipos_core::Flow,
            _: ipos_core::Origin,
        ) -> Box<dyn Session> {
            unreachable!("nobody connects")
        }

        fn datagram(
            &mut self,
            _: Instant,
            _: ipos_core::ListenerId,
            _: ipos_core::Flow,
            _: &[u8],
        ) -> Option<Vec<u8>> {
            Some(self.0.to_vec())
        }
    }

    /// Two questions from one port to each of two servers.
    fn ask(application: Option<&'static [u8]>) -> Arc<Mutex<Asker>> {
        let mut builder = Farm::builder()
            .servers(2)
            .requests(0)
            .configure(|index, config| {
                config.listen.push(Listen {
                    address: ServerAddresses::of(index).echo(),
                    protocol: Protocol::Udp,
                    service: "echo".into(),
                });
            });
        if let Some(bytes) = application {
            builder = builder.application(move |_| Box::new(Answers(bytes)));
        }
        let mut farm = builder.build().unwrap();
        let question = |server: usize, len| Question {
            at: Instant::from_millis(1_500),
            port: 4_000,
            server: ServerAddresses::of(server).echo(),
            len,
        };
        let (hardware, address) = addresses::client(100);
        let asker = Asker::new(AskerConfig {
            hardware,
            address,
            seed: 1,
            questions: vec![question(0, 9), question(0, 0), question(1, 1_400)],
            interval: Duration::from_millis(400),
            patience: Duration::from_secs(5),
        });
        let asker = Arc::new(Mutex::new(asker));
        farm.add_guest(asker.clone(), &[Port::A]);
        farm.run_until(Instant::from_millis(10_000));
        assert_eq!(farm.outcome().violations, 0);
        asker
    }

    #[test]
    fn questions_are_answered() {
        let asker = ask(None);
        let asker = asker.lock().unwrap();
        assert!(asker.is_done());
        assert_eq!((asker.wrong(), asker.wrong_count()), (&[][..], 0));
        let answered = |answer| matches!(answer, Some(Answer::At(_)));
        assert!(asker.answers().all(|(_, answer)| answered(answer)));
    }

    #[test]
    fn wrong_answers_are_found() {
        for bytes in [
            &b"s1"[..],
            b"s1\n",
            b"s1\n\0\0\0\x09",
            b"s1\n\0\0\0\x00123456780",
        ] {
            let asker = ask(Some(bytes));
            let asker = asker.lock().unwrap();
            assert!(asker.is_done() && asker.wrong_count() > 0, "{bytes:?}");
            let never = |answer| matches!(answer, Some(Answer::Never(_)));
            assert!(
                asker.answers().all(|(_, answer)| never(answer)),
                "{bytes:?}"
            );
        }
    }
}
