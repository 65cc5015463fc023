//! What every backend must do, as tests: [`conformance!`](crate::conformance!) makes one test of each of these functions.
//!
//! ```
//! use std::error::Error;
//! use ipos_backend::conformance::Bed;
//! use ipos_backend::memory::{Cable, MemoryPort, Plan, Side};
//!
//! struct Ours(Cable);
//!
//! impl Bed for Ours {
//!     type Port = MemoryPort;
//!     const RING: usize = 1024;
//!     fn open(&self, side: Side) -> Result<MemoryPort, Box<dyn Error + Send + Sync>> {
//!         Ok(self.0.open(side)?)
//!     }
//!     fn set_up(&self, side: Side, up: bool) {
//!         self.0.set_up(side, up);
//!     }
//!     fn set_mtu(&self, mtu: u16) {
//!         self.0.set_mtu(mtu);
//!     }
//! }
//!
//! /// `None`, said on standard error, where this machine cannot have the test bed `_test` asks for.
//! fn bed(_test: &str) -> Option<Ours> {
//!     Some(Ours(Cable::new(Plan::default())))
//! }
//!
//! ipos_backend::conformance!(bed);
//! # fn main() {}
//! ```

use std::error::Error;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

mod bursts;

pub use self::bursts::{a_burst_needs_a_buffer, bursts_are_cut};
pub use crate::memory::Side;
use crate::{Backend, Statistics};

/// A check fails when frames stay away for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an Ethernet header: no frame is shorter.
const HEADER: usize = 14;
/// The EtherTypes of the checks' frames, all of which a port must receive: those of Port B.
pub const ETHERTYPES: [u16; 2] = [0x0007, 0x88b5];

/// Two interfaces and the link between them, without other traffic. Each check has a bed of its own.
pub trait Bed {
    /// The backend under test.
    type Port: Backend;

    /// So many frames wait at a port without loss; short ones, not more than 16 times as many.
    const RING: usize;

    /// Opens a port; 1,500 bytes is its MTU unless [`Bed::set_mtu`] has changed it. Both ports may be open at once, and their
    /// addresses differ.
    ///
    /// # Errors
    /// The interface cannot be opened.
    fn open(&self, side: Side) -> Result<Self::Port, Box<dyn Error + Send + Sync>>;

    /// Takes the interface up or down, and returns when that has come about: frames pass through one that is up.
    fn set_up(&self, side: Side, up: bool);

    /// Sets the MTU of both interfaces; ports that are open keep the one that they have told.
    fn set_mtu(&self, mtu: u16);
}

/// Makes a test of each check. The argument names a `fn(test: &str) -> Option<impl Bed>`.
#[macro_export]
macro_rules! conformance {
    ($bed:path) => {
        $crate::conformance!(@tests $bed: frames_pass_whole_and_in_order, a_budget_is_kept, a_burst_waits,
            own_frames_are_not_received, a_look_takes_nothing, a_full_receive_ring_loses_the_newest, a_full_transmit_ring_is_told,
            short_frames_pass, large_frames_are_dropped_whole, bursts_are_cut, a_burst_needs_a_buffer, an_interface_goes_down_and_up,
            a_second_port_does_no_harm);
        $crate::conformance!(@pairs $bed: lent_frames_are_forwarded, a_dead_exit_costs_nothing);
    };
    (@tests $bed:path: $($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                if let Some(bed) = $bed(stringify!($name)) {
                    $crate::conformance::$name(&bed);
                }
            }
        )+
    };
    (@pairs $bed:path: $($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                if let (Some(one), Some(two)) = ($bed(stringify!($name)), $bed(stringify!($name))) {
                    $crate::conformance::$name(&one, &two);
                }
            }
        )+
    };
}

/// Opens both ports.
fn both<B: Bed>(bed: &B) -> (B::Port, B::Port) {
    (open(bed, Side::Near), open(bed, Side::Far))
}

fn open<B: Bed>(bed: &B, side: Side) -> B::Port {
    bed.open(side)
        .unwrap_or_else(|error| panic!("{side:?} does not open: {error}"))
}

/// A frame of `len` bytes between two ports that no other `seed` gives.
pub fn frame(
    from: &impl Backend,
    to: &impl Backend,
    ethertype: u16,
    len: usize,
    seed: usize,
) -> Vec<u8> {
    let address = |port: &dyn Backend| port.capabilities().hardware_address;
    let mut frame = [address(to), address(from)].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend((seed as u64).to_be_bytes());
    frame.extend((frame.len()..len).map(|i| (i * 31 + seed * 7) as u8));
    frame.truncate(len);
    frame
}

/// So many frames of 100 bytes.
fn short(from: &impl Backend, to: &impl Backend, count: usize) -> Vec<Vec<u8>> {
    let one = |seed| frame(from, to, ETHERTYPES[0], 100, seed);
    (0..count).map(one).collect()
}

/// Queues `frame`, for which there must be room.
pub fn queue(port: &mut impl Backend, frame: &[u8]) {
    port.transmit(frame, &[]).expect("the queue has room");
}

/// Sends `frames`, flushing where the queue is full.
pub fn send(port: &mut impl Backend, frames: &[Vec<u8>]) {
    let start = Instant::now();
    for frame in frames {
        while port.transmit(frame, &[]).is_err() {
            assert!(start.elapsed() < PATIENCE, "the queue stays full");
            port.flush().unwrap();
        }
    }
    settle(port);
}

/// Flushes until the queue is surely empty: an interface may take less than all at once.
fn settle(port: &mut impl Backend) {
    let start = Instant::now();
    loop {
        let before = port.statistics();
        port.flush().unwrap();
        if port.statistics() == before {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the queue does not empty");
    }
}

/// What waits now, as copies.
pub fn drain(port: &mut impl Backend) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut sink = |frame: &mut dyn crate::Frame| frames.push(frame.bytes().to_vec());
    while port.receive(64, &mut sink).unwrap() == 64 {}
    frames
}

/// The frames that come until `count` have come or been lost.
fn receive_or_lose(port: &mut impl Backend, count: usize) -> Vec<Vec<u8>> {
    let start = Instant::now();
    let mut frames = Vec::new();
    loop {
        let lost = usize::try_from(port.statistics().receive_dropped).unwrap();
        if frames.len() + lost >= count {
            return frames;
        }
        let got = frames.len();
        assert!(
            start.elapsed() < PATIENCE,
            "{got} came, {lost} were lost, of {count}"
        );
        port.wait(Some(Duration::from_millis(10))).unwrap();
        frames.extend(drain(port));
    }
}

/// The next `count` frames, none of them lost.
pub fn receive(port: &mut impl Backend, count: usize) -> Vec<Vec<u8>> {
    let lost = port.statistics().receive_dropped;
    let start = Instant::now();
    let mut frames = Vec::new();
    while frames.len() < count {
        let got = frames.len();
        assert!(start.elapsed() < PATIENCE, "{got} of {count}");
        port.wait(Some(Duration::from_secs(1))).unwrap();
        frames.extend(drain(port));
    }
    assert_eq!(port.statistics().receive_dropped, lost, "frames were lost");
    frames
}

/// Frames of every length pass both ways, byte for byte, in order, and each is counted once.
pub fn frames_pass_whole_and_in_order<B: Bed>(bed: &B) {
    let (mut near, mut far) = both(bed);
    assert_eq!(near.capabilities().mtu, 1500);
    let lengths: Vec<usize> = (60..=1514).collect();
    for ethertype in ETHERTYPES {
        for burst in lengths.chunks(B::RING.min(64)) {
            let there: Vec<_> = burst
                .iter()
                .map(|&len| frame(&near, &far, ethertype, len, len))
                .collect();
            let back: Vec<_> = burst
                .iter()
                .map(|&len| frame(&far, &near, ethertype, len, len + 1))
                .collect();
            send(&mut near, &there);
            send(&mut far, &back);
            assert_eq!(receive(&mut far, there.len()), there);
            assert_eq!(receive(&mut near, back.len()), back);
        }
    }
    let all = lengths.len() as u64 * 2;
    let expected = Statistics {
        received: all,
        transmitted: all,
        ..Statistics::default()
    };
    assert_eq!(near.statistics(), expected);
    assert_eq!(far.statistics(), expected);
}

/// Not more frames are lent than were asked for; a number below it means that the port is empty.
pub fn a_budget_is_kept(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let frames = short(&near, &far, 10);
    send(&mut near, &frames);
    far.wait(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    let mut sink = |frame: &mut dyn crate::Frame| got.push(frame.bytes().to_vec());
    assert_eq!(far.receive(0, &mut sink).unwrap(), 0);
    let mut taken = Vec::new();
    let start = Instant::now();
    while taken.iter().sum::<usize>() < 10 {
        assert!(start.elapsed() < PATIENCE);
        far.wait(Some(Duration::from_millis(10))).unwrap();
        taken.push(far.receive(3, &mut sink).unwrap());
    }
    assert!(taken.iter().all(|&n| n <= 3), "{taken:?}");
    assert_eq!(far.receive(3, &mut sink).unwrap(), 0);
    assert_eq!(got, frames);
}

/// A burst waits for its receiver without loss.
pub fn a_burst_waits<B: Bed>(bed: &B) {
    let (mut near, mut far) = both(bed);
    let frames = short(&near, &far, B::RING);
    send(&mut near, &frames);
    assert_eq!(near.statistics().transmitted, B::RING as u64);
    assert_eq!(receive(&mut far, B::RING), frames);
}

/// What is shown beforehand is lent afterwards, in the same order, and counted once.
pub fn a_look_takes_nothing(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let mut frames = short(&near, &far, 10);
    frames.insert(5, frame(&near, &far, ETHERTYPES[0], 1514, 10));
    send(&mut near, &frames);
    let (mut shown, mut got) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while got.len() < frames.len() {
        assert!(start.elapsed() < PATIENCE);
        far.wait(Some(Duration::from_millis(10))).unwrap();
        for _ in 0..2 {
            shown.clear();
            far.peek(3, &mut |frame| shown.push(frame.to_vec()));
            assert!(shown.len() <= 3);
        }
        let before = got.len();
        let mut sink = |frame: &mut dyn crate::Frame| got.push(frame.bytes().to_vec());
        far.receive(4, &mut sink).unwrap();
        assert!(got[before..].starts_with(&shown));
    }
    assert_eq!(got, frames);
    assert_eq!(far.statistics().received, 11);
}

/// What a port transmits, it does not receive.
pub fn own_frames_are_not_received(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let mut everyone = short(&near, &far, 1);
    everyone[0][..6].fill(0xff);
    send(&mut near, &everyone);
    assert_eq!(receive(&mut far, 1), everyone);
    let back = short(&far, &near, 1);
    send(&mut far, &back);
    assert_eq!(receive(&mut near, 1), back);
    assert_eq!(drain(&mut near), Vec::<Vec<u8>>::new());
}

/// More frames than the ring holds: the newest are lost, each is counted, and the port goes on.
pub fn a_full_receive_ring_loses_the_newest<B: Bed>(bed: &B) {
    let (mut near, mut far) = both(bed);
    let count = B::RING * 32;
    let frames = short(&near, &far, count);
    send(&mut near, &frames);
    let got = receive_or_lose(&mut far, count);
    let statistics = far.statistics();
    assert!(statistics.receive_dropped > 0, "nothing was lost");
    assert!(got.len() >= B::RING, "{} waited", got.len());
    assert_eq!(
        got.len() as u64 + statistics.receive_dropped,
        count as u64,
        "each frame is counted once"
    );
    assert_eq!(statistics.received, got.len() as u64);
    assert_eq!(
        got,
        frames[..got.len()],
        "those that came first are those that waited"
    );
    assert_eq!(far.statistics(), statistics, "asking changes nothing");
    send(&mut near, &frames[..10]);
    let mut far_again = Vec::new();
    let start = Instant::now();
    while far_again.len() < 10 {
        assert!(start.elapsed() < PATIENCE, "the port does not go on");
        far.wait(Some(Duration::from_millis(10))).unwrap();
        far_again.extend(drain(&mut far));
    }
    assert_eq!(far_again, frames[..10]);
}

/// Frames that are queued without a flush: the port takes them or says that it is full, and what it took is not lost.
pub fn a_full_transmit_ring_is_told<B: Bed>(bed: &B) {
    let (mut near, mut far) = both(bed);
    let frames = short(&near, &far, B::RING * 4);
    let mut sent = 0;
    let mut got = Vec::new();
    let mut full = 0;
    let start = Instant::now();
    while sent < frames.len() {
        assert!(start.elapsed() < PATIENCE, "the queue stays full");
        if near.transmit(&frames[sent], &[]).is_ok() {
            sent += 1;
            if sent.is_multiple_of(B::RING) {
                settle(&mut near);
                got.extend(receive(&mut far, sent - got.len()));
            }
        } else {
            assert!(near.buffer().is_none(), "full for every caller");
            full += 1;
            settle(&mut near);
            got.extend(drain(&mut far));
        }
    }
    assert!(full < frames.len(), "a flush makes room");
    assert_eq!(got, frames);
    assert_eq!(near.statistics().transmitted, frames.len() as u64);
    assert_eq!(near.statistics().transmit_failed, 0);
}

/// Frames below Ethernet's minimum pass, padded perhaps; what has no header is refused, and so is what no buffer holds.
pub fn short_frames_pass(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    near.commit(60);
    assert_eq!(near.statistics().transmit_failed, 1, "no buffer was lent");
    let room = near.buffer().expect("the queue has room").len();
    assert!(room >= 1514);
    near.commit(room + 1);
    assert_eq!(near.statistics().transmit_failed, 2, "beyond the buffer");
    for len in 0..HEADER {
        near.buffer().expect("the queue has room");
        near.commit(len);
    }
    let failed = 2 + HEADER as u64;
    assert_eq!(near.statistics().transmit_failed, failed, "no header");
    assert_eq!(
        near.transmit(&[0; 60], &vec![0; room]),
        Err(crate::Refused::Oversize)
    );
    let frames: Vec<_> = (HEADER..60)
        .map(|len| frame(&near, &far, ETHERTYPES[1], len, len))
        .collect();
    send(&mut near, &frames);
    let got = receive(&mut far, frames.len());
    assert_eq!(got.len(), frames.len());
    for (got, frame) in got.iter().zip(&frames) {
        assert!(got.starts_with(frame), "{got:x?} of {frame:x?}");
        assert!(got.len() == frame.len() || got.len() == 60);
    }
    assert_eq!(near.statistics().transmit_failed, failed);
}

/// Frames that are larger than the MTU that the port has told are dropped, whole, and counted.
pub fn large_frames_are_dropped_whole(bed: &impl Bed) {
    let mut far = open(bed, Side::Far);
    bed.set_mtu(3000);
    let mut near = open(bed, Side::Near);
    assert_eq!(near.capabilities().mtu, 3000);
    assert!(near.buffer().expect("the queue has room").len() >= 3014);
    let frames: Vec<_> = [1514, 1515, 2000, 3014, 60]
        .map(|len| frame(&near, &far, ETHERTYPES[0], len, len))
        .into();
    send(&mut near, &frames);
    let got = receive_or_lose(&mut far, 5);
    assert_eq!(got, [frames[0].clone(), frames[4].clone()]);
    assert_eq!(far.statistics().receive_dropped, 3);
    assert_eq!(far.statistics().received, 2);
}

/// An interface that goes down is told once, what is queued then fails, and the port works again when it is up.
pub fn an_interface_goes_down_and_up(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let frames = short(&near, &far, 3);
    send(&mut near, &frames[..1]);
    assert_eq!(receive(&mut far, 1), frames[..1]);
    for _ in 0..2 {
        bed.set_up(Side::Near, false);
        near.wait(None).unwrap();
        let error = near.receive(64, &mut |_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkDown, "{error}");
        assert_eq!(near.receive(64, &mut |_| {}).unwrap(), 0, "told once");
        let before = near.statistics();
        queue(&mut near, &frames[1]);
        assert_eq!(near.flush().unwrap_err().kind(), ErrorKind::NetworkDown);
        assert_eq!(
            near.statistics().transmit_failed,
            before.transmit_failed + 1
        );
        near.flush().expect("nothing is queued");
        bed.set_up(Side::Near, true);
        send(&mut near, &frames[2..]);
        let got = receive(&mut far, 1);
        assert_eq!(got, frames[2..], "what failed is not sent later");
        let back = short(&far, &near, 1);
        send(&mut far, &back);
        assert_eq!(receive(&mut near, 1), back);
    }
}

/// A second port on an interface is refused, or receives every frame too; the first one does not notice. When the
/// first is closed, the interface can be opened again.
pub fn a_second_port_does_no_harm(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let frames = short(&near, &far, 3);
    let second = bed.open(Side::Far).ok();
    send(&mut near, &frames[..1]);
    assert_eq!(receive(&mut far, 1), frames[..1]);
    if let Some(mut second) = second {
        assert_eq!(receive(&mut second, 1), frames[..1]);
    }
    send(&mut near, &frames[1..2]);
    assert_eq!(receive(&mut far, 1), frames[1..2]);
    drop(far);
    let mut far = open(bed, Side::Far);
    send(&mut near, &frames[2..]);
    assert_eq!(receive(&mut far, 1), frames[2..]);
}

/// Frames go from one port to another with new headers, as a device forwards them: `entry`'s far port lends them,
/// `exit`'s near port transmits them. Backends whose ports can share memory call this with beds that do and with beds that do not.
pub fn lent_frames_are_forwarded<B: Bed>(entry: &B, exit: &B) {
    let mut way = Way::open(entry, exit);
    for round in 0..100 {
        let frames = [60, 100, 1000, 1498].map(|len| way.frame(len, round));
        send(&mut way.source, &frames);
        let lent = way.relay(frames.len(), |frame, exit, headers| {
            let len = frame.bytes().len();
            let beyond = exit.forward(frame, headers, HEADER..len + 1);
            assert_eq!(beyond, Err(crate::Refused::Oversize));
            assert_eq!(frame.bytes().len(), len, "a refused frame stays lent");
            exit.forward(frame, headers, HEADER..len).unwrap();
        });
        assert_eq!(lent, frames.len());
        settle(&mut way.exit);
        let expected = frames.map(|frame| way.expected(&frame));
        assert_eq!(receive(&mut way.target, expected.len()), expected);
    }
    let statistics = way.entry.statistics();
    assert_eq!(statistics.received, 400);
    assert_eq!(statistics.receive_dropped, 0);
    assert_eq!(way.exit.statistics().transmitted, 400);
}

/// A port that takes frames and cannot send them: it says so, and the port that lends them is as it was.
pub fn a_dead_exit_costs_nothing<B: Bed>(entry: &B, exit: &B) {
    let mut way = Way::open(entry, exit);
    exit.set_up(Side::Near, false);
    for round in 0..64 {
        let frames: Vec<_> = (0..B::RING).map(|_| way.frame(100, round)).collect();
        send(&mut way.source, &frames);
        let lent = way.relay(frames.len(), |frame, exit, headers| {
            let payload = HEADER..frame.bytes().len();
            // Full is an answer too.
            let _ = exit.forward(frame, headers, payload);
        });
        assert_eq!(lent, frames.len());
        let _ = way.exit.flush();
    }
    exit.set_up(Side::Near, true);
    let _ = way.exit.flush();
    let frame = way.frame(200, 64);
    send(&mut way.source, std::slice::from_ref(&frame));
    way.relay(1, |frame, exit, headers| {
        let payload = HEADER..frame.bytes().len();
        exit.forward(frame, headers, payload).unwrap();
    });
    settle(&mut way.exit);
    let expected = way.expected(&frame);
    let start = Instant::now();
    // What an interface was given before it went down may come first.
    while !drain(&mut way.target).contains(&expected) {
        assert!(start.elapsed() < PATIENCE, "the exit does not work again");
        way.target.wait(Some(Duration::from_millis(10))).unwrap();
    }
}

/// Four ports in a row: source, entry, exit, target.
struct Way<P> {
    source: P,
    entry: P,
    exit: P,
    target: P,
    headers: Vec<u8>,
}

impl<P: Backend> Way<P> {
    fn open<B: Bed<Port = P>>(entry: &B, exit: &B) -> Self {
        let (source, entry) = both(entry);
        let (exit, target) = both(exit);
        // As Port B's: an Ethernet header and 16 bytes.
        let headers = frame(&exit, &target, ETHERTYPES[1], 30, 9);
        Self {
            source,
            entry,
            exit,
            target,
            headers,
        }
    }

    fn frame(&self, len: usize, seed: usize) -> Vec<u8> {
        frame(&self.source, &self.entry, ETHERTYPES[0], len, seed)
    }

    /// What the target gets of a frame.
    fn expected(&self, frame: &[u8]) -> Vec<u8> {
        [&self.headers, &frame[HEADER..]].concat()
    }

    /// Hands the next `count` frames to `each` with the exit and the headers; how many came.
    fn relay(
        &mut self,
        count: usize,
        mut each: impl FnMut(&mut dyn crate::Frame, &mut P, &[u8]),
    ) -> usize {
        let Self {
            entry,
            exit,
            headers,
            ..
        } = self;
        let start = Instant::now();
        let mut lent = 0;
        while lent < count {
            assert!(start.elapsed() < PATIENCE, "{lent} of {count} were lent");
            entry.wait(Some(Duration::from_millis(10))).unwrap();
            let mut sink = |frame: &mut dyn crate::Frame| each(frame, exit, headers);
            lent += entry.receive(64, &mut sink).unwrap();
        }
        lent
    }
}
