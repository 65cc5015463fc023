//! Properties of every frame: what is written is read back, what is damaged never panics.

use alloc::vec::Vec;
use core::net::SocketAddrV4;

use proptest::prelude::*;

use super::emitted;
use crate::*;

fn seq() -> impl Strategy<Value = SeqNum> {
    any::<u32>().prop_map(SeqNum::new)
}

fn socket() -> impl Strategy<Value = SocketAddrV4> {
    any::<(u32, u16)>().prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port))
}

/// Any control block that an importer accepts.
fn control_block() -> impl Strategy<Value = ControlBlock> {
    // Up to half the circle ahead in all, so that the order holds.
    let ahead = 0u32..0x4000_0000;
    let head = (
        1u8..=8,
        any::<u16>(),
        any::<u32>(),
        0u8..=14,
        0u8..=14,
        any::<[u8; 2]>(),
    );
    let send = (
        seq(),
        ahead.clone(),
        ahead.clone(),
        64u16..,
        64u16..,
        any::<[u32; 8]>(),
    );
    let receive = (seq(), ahead, any::<[u32; 3]>());
    let timing = (any::<[u32; 7]>(), 0u8..=4, any::<u16>(), any::<u32>());
    (head, send, receive, timing, seq(), any::<[u8; 2]>()).prop_map(
        |(head, send, receive, timing, rcv_up, [oob_flags, oob_byte])| {
            let (state, flags, epoch, snd_wscale, rcv_wscale, [dupacks, rxtshift]) = head;
            let (snd_una, to_nxt, to_max, snd_mss, rcv_mss, send) = send;
            let [
                iss,
                snd_wnd,
                snd_wl1,
                snd_wl2,
                max_sndwnd,
                cwnd,
                ssthresh,
                recover,
            ] = send;
            let (rcv_nxt, to_adv, [irs, rcv_wnd, last_ack_sent]) = receive;
            let (timing, timer, timer_left, idle) = timing;
            let [srtt, rttvar, rto, rtt_min, ts_recent, ts_recent_age, tsval] = timing;
            ControlBlock {
                state: TcpState::from_u8(state).unwrap(),
                flags: ControlFlags::from_bits_retain(flags),
                epoch: Epoch::new(epoch),
                snd_wscale,
                rcv_wscale,
                dupacks,
                rxtshift,
                snd_mss,
                rcv_mss,
                iss: SeqNum::new(iss),
                snd_una,
                snd_nxt: snd_una + to_nxt,
                snd_max: snd_una + to_nxt + to_max,
                snd_wnd,
                snd_wl1: SeqNum::new(snd_wl1),
                snd_wl2: SeqNum::new(snd_wl2),
                max_sndwnd,
                cwnd,
                ssthresh,
                recover: SeqNum::new(recover),
                irs: SeqNum::new(irs),
                rcv_nxt,
                rcv_wnd,
                rcv_adv: rcv_nxt + to_adv,
                last_ack_sent: SeqNum::new(last_ack_sent),
                srtt,
                rttvar,
                rto,
                rtt_min,
                ts_recent,
                ts_recent_age,
                tsval,
                timer: Timer::from_u8(timer).unwrap(),
                timer_left,
                idle,
                rcv_up,
                oob_flags,
                oob_byte,
            }
        },
    )
}

fn trailer() -> impl Strategy<Value = Option<Trailer>> {
    let fields = (
        any::<u16>(),
        any::<u32>(),
        seq(),
        any::<[u32; 2]>(),
        any::<Option<[u8; 16]>>(),
    );
    proptest::option::of(
        fields.prop_map(|(flags, epoch, rcv_nxt, [incarnation, number], tag)| {
            let (flags, epoch) = (TrailerFlags::from_bits_retain(flags), Epoch::new(epoch));
            Trailer {
                flags,
                epoch,
                rcv_nxt,
                incarnation,
                number,
                tag,
            }
        }),
    )
}

/// An IPv4 packet, as far as this crate looks at it.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 20..100).prop_map(|mut packet| {
        packet[0] = 0x40 | packet[0] & 0x0f;
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    })
}

/// What any message is made of.
#[derive(Debug)]
struct Ingredients {
    frame_type: u8,
    protocol: Protocol,
    client: SocketAddrV4,
    server: SocketAddrV4,
    control: ControlBlock,
    packet: Vec<u8>,
    trailer: Option<Trailer>,
}

impl Ingredients {
    fn message(&self) -> Message<'_> {
        let Self {
            server,
            trailer,
            control,
            ..
        } = *self;
        match self.frame_type {
            1 => {
                let connection = match self.protocol {
                    Protocol::Tcp => ConnectionInfo::Tcp {
                        first: server,
                        control,
                    },
                    Protocol::Udp => ConnectionInfo::Udp { first: server },
                };
                Message::Endpoint {
                    connection,
                    trailer,
                }
            }
            2 => Message::Packet(&self.packet),
            3 => Message::Acknowledgement { trailer },
            0x10 => Message::Release { trailer },
            0x11 => Message::Refuse { trailer },
            0x12 => Message::Move {
                target: server,
                trailer,
            },
            _ => Message::Moved {
                target: server,
                trailer,
            },
        }
    }

    fn frame(&self) -> Frame<'_> {
        let header = Header {
            client: self.client,
            destination: *self.server.ip(),
            port: self.server.port(),
            frame_type: FrameType::from_u8(self.frame_type).unwrap(),
            protocol: self.protocol,
        };
        Frame {
            header,
            message: self.message(),
        }
    }
}

const TYPES: &[u8] = &[1, 2, 3, 0x10, 0x11, 0x12, 0x13];

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(&[Protocol::Tcp, Protocol::Udp][..])
}

fn ingredients() -> impl Strategy<Value = Ingredients> {
    let head = (prop::sample::select(TYPES), protocol(), socket(), socket());
    (head, control_block(), packet(), trailer()).prop_map(|(head, control, packet, trailer)| {
        let (frame_type, protocol, client, server) = head;
        Ingredients {
            frame_type,
            protocol,
            client,
            server,
            control,
            packet,
            trailer,
        }
    })
}

proptest! {
    #[test]
    fn control_blocks_are_read_back(block in control_block()) {
        prop_assert_eq!(ControlBlock::parse(&block.to_bytes()), Ok(block));
    }

    #[test]
    fn frames_are_read_back_with_padding(of in ingredients(), padding in 0usize..46) {
        let frame = of.frame();
        let mut bytes = emitted(&frame);
        bytes.resize(bytes.len() + padding, 0);
        prop_assert_eq!(Frame::parse(&bytes), Ok(frame));
        // The tag ends the frame, and covers all before it.
        let split = frame.message.trailer().and_then(|trailer| trailer.tag).map(|tag| {
            let (signed, _) = bytes.split_at(frame.frame_len() - TAG_LEN);
            (signed.to_vec(), tag)
        });
        let read = split_tag(&frame.header, &bytes).map(|(signed, tag)| (signed.to_vec(), *tag));
        prop_assert_eq!(read, split);
    }

    #[test]
    fn a_damaged_byte_never_panics_and_in_the_header_is_seen(
        of in ingredients(),
        at: prop::sample::Index,
        flip in 1u8..,
    ) {
        let mut bytes = emitted(&of.frame());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        match Frame::parse(&bytes) {
            Ok(frame) => {
                prop_assert!(at >= HEADER_LEN);
                // Another frame, that is written as it was read.
                let again = emitted(&frame);
                prop_assert_eq!(Frame::parse(&again), Ok(frame));
            }
            Err(error) if at < HEADER_LEN => prop_assert_eq!(error.layer(), Layer::Header),
            Err(_) => {}
        }
    }

    #[test]
    fn a_frame_that_is_cut_is_refused(of in ingredients()) {
        let frame = of.frame();
        let bytes = emitted(&frame);
        let trailer_len = frame.message.trailer().map_or(0, Trailer::wire_len);
        for len in 0..bytes.len() {
            let result = Frame::parse(&bytes[..len]);
            // Cut exactly before its trailer, it is a frame without one.
            prop_assert_eq!(result.is_ok(), trailer_len > 0 && len == bytes.len() - trailer_len);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..250)) {
        let _ = Ethernet::parse(&bytes);
        let _ = Header::parse(&bytes);
        let _ = Frame::parse(&bytes);
        let _ = ControlBlock::parse(&bytes);
        let _ = Trailer::parse(&bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        of in ingredients(),
        body in proptest::collection::vec(any::<u8>(), 0..250),
    ) {
        let bytes = [&of.frame().header.to_bytes(), body.as_slice()].concat();
        let _ = split_tag(&of.frame().header, &bytes);
        if let Ok(frame) = Frame::parse(&bytes) {
            let again = emitted(&frame);
            prop_assert_eq!(Frame::parse(&again), Ok(frame));
        }
    }
}

#[test]
fn numbers_in_the_header_are_those_of_the_table() {
    for value in 0..=u8::MAX {
        assert_eq!(
            FrameType::from_u8(value).map_or(value, |known| known as u8),
            value
        );
        assert_eq!(
            Protocol::from_u8(value).map_or(value, |known| known as u8),
            value
        );
        assert_eq!(
            TcpState::from_u8(value).map_or(value, |known| known as u8),
            value
        );
        assert_eq!(
            Timer::from_u8(value).map_or(value, |known| known as u8),
            value
        );
    }
    let known = |of: fn(u8) -> bool| (0..=u8::MAX).filter(|value| of(*value)).count();
    assert_eq!(known(|value| FrameType::from_u8(value).is_some()), 7);
    assert_eq!(known(|value| Protocol::from_u8(value).is_some()), 2);
    assert_eq!(known(|value| TcpState::from_u8(value).is_some()), 8);
    assert_eq!(known(|value| Timer::from_u8(value).is_some()), 5);
}
