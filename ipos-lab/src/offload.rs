//! Offloads, switched over generic netlink (`ETHTOOL_MSG_FEATURES_SET`).
//!
//! A kernel that sends through a veth leaves the checksum and the segmentation to a "hardware" that does not exist:
//! its peer sees frames of up to 64 kB with unfinished checksums. No wire carries such frames, so a
//! laboratory must not either. The messages are built here because the `ethtool` crate only reads features.

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLA_F_NESTED, ParseableParametrized};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;

use crate::{LabError, Namespace, netlink};

/// The features that make frames larger than the MTU or leave their checksums open, by the kernel's names.
const OFFLOADS: [&str; 5] = [
    "tx-checksum-ip-generic",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-generic-segmentation",
    "rx-gro",
];

/// `linux/ethtool_netlink.h`.
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_GENL_VERSION: u8 = 1;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_OMIT_REPLY: u32 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

impl Namespace {
    /// Makes `interface` send frames of the MTU at most, with right checksums, and receive them one by one.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface, or a kernel without ethtool over netlink (before 5.6).
    pub fn switch_offloads_off(&self, interface: &str) -> Result<(), LabError> {
        self.switch_offloads(interface, false)
    }

    /// Makes `interface` send what its senders leave to it, as an interface of hardware would take it, and receive
    /// several frames as one.
    ///
    /// # Errors
    /// As [`Namespace::switch_offloads_off`].
    pub fn switch_offloads_on(&self, interface: &str) -> Result<(), LabError> {
        self.switch_offloads(interface, true)
    }

    fn switch_offloads(&self, interface: &str, on: bool) -> Result<(), LabError> {
        self.run(|| {
            let family = GenlCtrl {
                cmd: GenlCtrlCmd::GetFamily,
                nlas: vec![GenlCtrlAttrs::FamilyName(Features::family_name().into())],
            };
            let family = GenlMessage::from_payload(family);
            let answers = netlink::request(NETLINK_GENERIC, family, 0)?;
            let id = answers
                .iter()
                .flat_map(|answer| &answer.payload.nlas)
                .find_map(|attribute| match attribute {
                    GenlCtrlAttrs::FamilyId(id) => Some(*id),
                    _ => None,
                })
                .ok_or(std::io::ErrorKind::Unsupported)?;
            let mut message = GenlMessage::from_payload(Features::switched(interface, on));
            message.set_resolved_family_id(id);
            netlink::request(NETLINK_GENERIC, message, 0)
        })?
        .map(drop)
        .map_err(LabError::system(format!(
            "switch the offloads of interface {interface}"
        )))
    }
}

/// A features message of the `ethtool` family.
#[derive(Debug)]
struct Features(Vec<DefaultNla>);

impl Features {
    /// The request to switch the [`OFFLOADS`] of `interface`: named bits, without a value where they shall be off.
    fn switched(interface: &str, on: bool) -> Self {
        let header = [
            text(ETHTOOL_A_HEADER_DEV_NAME, interface),
            DefaultNla::new(
                ETHTOOL_A_HEADER_FLAGS,
                ETHTOOL_FLAG_OMIT_REPLY.to_ne_bytes().to_vec(),
            ),
        ];
        let bits = OFFLOADS.map(|name| {
            let name = text(ETHTOOL_A_BITSET_BIT_NAME, name);
            let value = on.then(|| DefaultNla::new(ETHTOOL_A_BITSET_BIT_VALUE, Vec::new()));
            let bit: Vec<_> = [name].into_iter().chain(value).collect();
            nest(ETHTOOL_A_BITSET_BITS_BIT, &bit)
        });
        let bits = nest(ETHTOOL_A_BITSET_BITS, &bits);
        Self(vec![
            nest(ETHTOOL_A_FEATURES_HEADER, &header),
            nest(ETHTOOL_A_FEATURES_WANTED, &[bits]),
        ])
    }
}

fn text(kind: u16, text: &str) -> DefaultNla {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    DefaultNla::new(kind, value)
}

fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

impl GenlFamily for Features {
    fn family_name() -> &'static str {
        "ethtool"
    }

    fn command(&self) -> u8 {
        ETHTOOL_MSG_FEATURES_SET
    }

    fn version(&self) -> u8 {
        ETHTOOL_GENL_VERSION
    }
}

impl Emitable for Features {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Features {
    /// The kernel was asked to answer with an acknowledgement only: attributes would not be looked at.
    fn parse_with_param(_: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self(Vec::new()))
    }
}
