//! A case: everything that happens, from its number.

use std::time::Duration;

use ipos_core::config::{CongestionControl, KeepAlive, Tcp};
use ipos_sim::campaign::Dice;
use ipos_sim::{ClientTcp, Impairments, LanConfig};

use crate::party::{Ending, PartyPlan};

/// Everything about one case.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its number.
    pub case: u64,
    /// Servers: with more than one the connection may be migrated.
    pub servers: usize,
    /// LAN A.
    pub lan_a: LanConfig,
    /// LAN B.
    pub lan_b: LanConfig,
    /// From then on no frame is impaired.
    pub calm: Duration,
    /// The client's cable is out from then on, and for so long; for ever where it is `None`.
    pub unplugged: Option<(Duration, Option<Duration>)>,
    /// LAN B is cut between the first server and the others from then on, and for so long.
    pub parted: Option<(Duration, Duration)>,
    /// The servers' TCP.
    pub tcp: Tcp,
    /// What a server keeps of a request that it may hand over, in bytes.
    pub request: usize,
    /// How long it waits for one.
    pub request_deadline: Duration,
    /// The client's TCP.
    pub client_tcp: ClientTcp,
    /// The client's MTU: its MSS is 40 less.
    pub client_mtu: u16,
    /// Size of the client's receive buffer, in bytes.
    pub receive_buffer: usize,
    /// Size of the client's send buffer, in bytes.
    pub send_buffer: usize,
    /// What the client does.
    pub client: PartyPlan,
    /// What the application does.
    pub server: PartyPlan,
}

/// A read or write buffer passes its bytes on at most so often: tiny buffers go with short streams.
const ROUNDS: u64 = 1_000;
/// Bytes of the longest stream.
const LONGEST: u64 = 200_000;

/// Retransmissions that make up for anything but a cable that is out.
pub const PERSEVERING: u8 = 40;

impl Plan {
    /// Two hosts that have nothing to say to each other, over perfect LANs.
    pub fn quiet(case: u64) -> Plan {
        Plan {
            case,
            servers: 1,
            lan_a: LanConfig::default(),
            lan_b: LanConfig::default(),
            calm: Duration::ZERO,
            unplugged: None,
            parted: None,
            tcp: Tcp::default(),
            request: 16 * 1024,
            request_deadline: Duration::from_secs(3),
            client_tcp: ClientTcp::default(),
            client_mtu: 1500,
            receive_buffer: 32 * 1024,
            send_buffer: 32 * 1024,
            client: PartyPlan {
                ending: Ending::After(Duration::ZERO),
                ..PartyPlan::default()
            },
            server: PartyPlan::default(),
        }
    }

    /// Case number `case`.
    pub fn draw(case: u64) -> Plan {
        let dice = &mut Dice::new(case, 1);
        let mut plan = Plan {
            servers: dice.one_of(&[1, 2, 3, 3]),
            tcp: server_tcp(dice),
            request: dice.magnitude(1_024..=32_768) as usize,
            request_deadline: dice.millis(&[50, 500, 3_000]),
            client_tcp: dice.client_tcp(),
            receive_buffer: buffer(dice, 1),
            send_buffer: buffer(dice, 1),
            ..Plan::quiet(case)
        };
        if dice.chance(40) {
            plan.client_mtu = dice.magnitude(104..=1_500) as u16;
        }
        plan.draw_lans(dice);
        plan.draw_cuts(dice);
        plan.draw_parties(dice);
        plan
    }

    fn draw_lans(&mut self, dice: &mut Dice) {
        let most = dice.one_of(&[0.0, 0.0, 0.01, 0.05, 0.2, 0.2]);
        self.lan_a.latency = dice.micros(10..=100_000);
        self.lan_b.latency = dice.micros(10..=20_000);
        if most == 0.0 {
            return;
        }
        self.lan_a.impairments = Impairments {
            corruption: dice.probability(most),
            ..impairments(dice, most, self.lan_a.latency)
        };
        self.lan_b.impairments = impairments(dice, most, self.lan_b.latency);
        self.calm = dice.millis(&[1_000, 10_000, 300_000]);
    }

    fn draw_cuts(&mut self, dice: &mut Dice) {
        let begin = |dice: &mut Dice| dice.micros(1_000..=5_000_000);
        let time = |dice: &mut Dice| dice.micros(1_000..=20_000_000);
        if dice.chance(3) {
            let end = dice.chance(60).then(|| time(dice));
            self.unplugged = Some((begin(dice), end));
        }
        if dice.chance(6) {
            self.parted = Some((begin(dice), time(dice)));
        }
    }

    fn draw_parties(&mut self, dice: &mut Dice) {
        let up = self
            .send_buffer
            .min(self.tcp.receive_buffer)
            .min(self.request) as u64;
        let down = self.receive_buffer.min(self.tcp.send_buffer) as u64;
        let (up, down) = ((total(dice, up), up), (total(dice, down), down));
        self.client = party(dice, up, down);
        self.server = party(dice, down, up);
        // At most one side waits for the other.
        match dice.uniform(0..=3) {
            0 => self.server.after_reading = dice.uniform(0..=self.client.total),
            1 => self.client.after_reading = dice.uniform(0..=self.server.total.min(5_000)),
            _ => {}
        }
        match dice.uniform(0..=3) {
            0 => self.client.ending = Ending::AfterPeer,
            1 => self.server.ending = Ending::AfterPeer,
            2 if dice.chance(20) => {
                self.server.ending = Ending::LetGo(dice.uniform(0..=self.client.total));
            }
            _ => {}
        }
        if dice.chance(6) {
            let bytes = dice.uniform(0..=self.client.total + self.server.total);
            let side = if dice.chance(50) {
                &mut self.client
            } else {
                &mut self.server
            };
            side.abort_after = Some(bytes);
        }
    }

    /// The client's cable stays out.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.unplugged, Some((_, None)))
    }

    /// When the client gives up.
    pub fn patience(&self) -> Duration {
        let unplugged = self
            .unplugged
            .map(|(begin, time)| begin + time.unwrap_or_default());
        let parted = self.parted.map(|(begin, time)| begin + time);
        let trip = 2 * (self.lan_a.latency + self.lan_b.latency);
        unplugged
            .into_iter()
            .chain(parted)
            .fold(self.calm, Duration::max)
            + 4 * ROUNDS as u32 * trip
            + self.client.pauses()
            + self.server.pauses()
            + Duration::from_secs(300)
    }
}

impl PartyPlan {
    /// How long all pauses together can take.
    fn pauses(&self) -> Duration {
        let end = match self.ending {
            Ending::After(pause) => pause,
            Ending::AfterPeer | Ending::LetGo(_) => Duration::ZERO,
        };
        // Pauses are drawn so that both together stay below this.
        end + self.deaf + 2 * PAUSES
    }
}

/// What the pauses of one kind take together, about.
const PAUSES: Duration = Duration::from_secs(20);

/// Bytes of a stream through a window or buffer of this size.
fn total(dice: &mut Dice, window: u64) -> u64 {
    let total = match dice.uniform(0..=19) {
        0 => 0,
        1 => dice.uniform(1..=3),
        2..=4 => dice.uniform(0..=LONGEST),
        _ => dice.magnitude(1..=LONGEST),
    };
    total.min(ROUNDS * window)
}

/// Most bytes of a piece of a stream of `total` bytes through a window or buffer of this size, the longest pause after one,
/// and its share in percent.
fn pieces(dice: &mut Dice, (total, window): (u64, u64)) -> (u64, (Duration, u64)) {
    let piece = match dice.uniform(0..=3) {
        0 => u64::MAX,
        1 => (total / ROUNDS).max(1),
        _ => dice.magnitude(total / ROUNDS + 1..=20_000),
    };
    let count = 2 * total / piece.min(window).min(total).max(1) + 1;
    let most = (PAUSES / count as u32).min(Duration::from_secs(2));
    let pause = Duration::from_micros(dice.magnitude(0..=most.as_micros() as u64));
    (piece, (pause, dice.one_of(&[0, 0, 10, 50])))
}

/// Writes one stream and reads the other, each of so many bytes through a window or buffer of that size.
fn party(dice: &mut Dice, writes: (u64, u64), reads: (u64, u64)) -> PartyPlan {
    let (piece, write_pause) = pieces(dice, writes);
    let (read, read_pause) = pieces(dice, reads);
    PartyPlan {
        total: writes.0,
        piece,
        write_pause,
        read,
        read_pause,
        deaf: if dice.chance(5) {
            dice.time(Duration::from_secs(100))
        } else {
            Duration::ZERO
        },
        ending: Ending::After(if dice.chance(30) {
            dice.time(Duration::from_secs(2))
        } else {
            Duration::ZERO
        }),
        ..PartyPlan::default()
    }
}

fn buffer(dice: &mut Dice, least: u64) -> usize {
    let range = match dice.uniform(0..=9) {
        0 => least..=least + 100,
        1..=3 => least + 100..=4_000,
        4..=8 => 4_000..=66_000,
        _ => 66_000..=500_000,
    };
    dice.magnitude(range) as usize
}

fn impairments(dice: &mut Dice, most: f64, latency: Duration) -> Impairments {
    let held = (4 * latency).min(Duration::from_millis(150));
    Impairments {
        loss: dice.probability(most),
        duplication: dice.probability(most),
        reordering: dice.probability(most),
        hold_back: dice.time(held),
        jitter: if dice.chance(50) {
            dice.time(latency)
        } else {
            Duration::ZERO
        },
        ..Impairments::default()
    }
}

fn server_tcp(dice: &mut Dice) -> Tcp {
    let receive_buffer = buffer(dice, 1_024);
    let min_rto = dice.one_of(&[10, 200, 1_000]);
    Tcp {
        // The buffer holds four units at least.
        window_scale: dice.uniform(0..=u64::from(receive_buffer.ilog2() - 2).min(14)) as u8,
        receive_buffer,
        send_buffer: buffer(dice, 1_024),
        delayed_ack: dice.millis(&[0, 10, 40, 200]),
        min_rto: Duration::from_millis(min_rto),
        max_rto: dice.millis(&[2_000, 10_000, 60_000]),
        time_wait: dice.millis(&[1_000, 10_000, 60_000]),
        fin_wait_2: Duration::from_secs(60),
        congestion: dice.one_of(&[CongestionControl::Cubic, CongestionControl::Reno]),
        // So many losses in a row make a connection fail, and then both sides must see it. smoltcp answers one probe of
        // its window a second.
        retries: if min_rto >= 200 && dice.chance(30) {
            dice.one_of(&[4, 12])
        } else {
            PERSEVERING
        },
        syn_retries: PERSEVERING,
        ..Tcp::default()
    }
}

impl Plan {
    /// Asks a client that has fallen silent, so that a server sees its end even where it has nothing to send: later than
    /// the client gives up, so that nothing is hidden by it.
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive {
            idle: self.patience() + Duration::from_secs(200),
            interval: Duration::from_secs(10),
            probes: 5,
        }
    }
}
