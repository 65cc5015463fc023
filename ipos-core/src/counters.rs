//! Counters: every verdict and every reason has one.

use crate::histogram::Histogram;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum DropReason { $($(#[$doc])* $name,)* }

        impl DropReason {
            /// All reasons.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];

            /// The reason as it is written in reports.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $label,)* }
            }
        }
    };
}

drop_reasons! {
    /// Not an Ethernet frame, ARP or IPv4 packet that can be read.
    Malformed = "malformed",
    /// An EtherType that the port does not serve.
    EtherType = "ethertype",
    /// The IPv4 header's checksum is wrong.
    IpChecksum = "ip-checksum",
    /// The TCP or UDP checksum is wrong.
    TransportChecksum = "transport-checksum",
    /// The destination is not one of the device's addresses.
    NotOurs = "not-ours",
    /// A source that is no client's: unspecified, broadcast, multicast, or the device's own.
    Source = "source",
    /// A protocol that the device does not serve.
    Protocol = "protocol",
    /// A fragment of an IP packet.
    Fragment = "fragment",
    /// No flow, no listening socket.
    Unmatched = "unmatched",
    /// The table that would take the flow is full.
    TableFull = "table-full",
    /// More of a request than may be kept while its server is not settled.
    RequestFull = "request-full",
    /// The packet does not fit into Port B's MTU with its encapsulation.
    TooBig = "too-big",
    /// The encapsulation header is corrupt, or the frame cannot be read.
    Encapsulation = "encapsulation",
    /// The sender is not a member of the farm.
    Stranger = "stranger",
    /// A farm key is set, and there is no tag.
    NoTag = "no-tag",
    /// The tag is not right: of another key, forged, of another sender, or harmed on its way.
    Tag = "tag",
    /// There is a tag, and no farm key is set.
    NoKey = "no-key",
    /// The tag is right, and the sender is not who said it in its present life: on Port B the counter has come before, or is of another
    /// life; a Synch message tells of another server.
    Replayed = "replayed",
    /// A packet (0x02) without an endpoint.
    NoEndpoint = "no-endpoint",
    /// A migration message that fits no migration under way.
    Stale = "stale",
    /// A message that fits two connections of the same client's port.
    Ambiguous = "ambiguous",
    /// A message type that this device does not act on.
    Unsupported = "unsupported",
    /// A Synch message that cannot be read.
    Synch = "synch",
    /// More datagrams wait for the host than may.
    HostBusy = "host-busy",
    /// An old or reordered Synch message.
    SynchOld = "synch-old",
    /// The device's own frame came back.
    Own = "own",
}

/// What a device has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub frames: u64,
    /// Client packets forwarded as 0x02, those of a replayed request included.
    pub forwarded: u64,
    /// Connections bound to an application here without migration.
    pub local: u64,
    /// Connections migrated to another server.
    pub migrated_out: u64,
    /// Connections migrated to this server, from the first packet on.
    pub migrated_in: u64,
    /// Endpoints installed whose client's packets never came.
    pub never_owned: u64,
    /// 0x01 frames sent again.
    pub offers_repeated: u64,
    /// Hand-overs refused by the other server.
    pub refused: u64,
    /// Hand-overs that the other server did not answer.
    pub unanswered: u64,
    /// Selections where the cookie, or else the map, or the application, names servers of which none could be asked: silent, draining,
    /// without the application.
    pub unavailable: u64,
    /// Connections given up here because the server that had them died.
    pub owners_lost: u64,
    /// RST segments of no endpoint: answers to segments of no connection, and ends of connections whose server died.
    pub resets: u64,
    /// SYNs answered with a cookie because the temporary table was full.
    pub cookies_sent: u64,
    /// Connections opened by a cookie.
    pub cookies_accepted: u64,
    /// Frames dropped because an outbox was full.
    pub outbox_dropped: u64,
    /// Of connections that moved from here to another server: from the first 0x01 to the 0x03.
    pub handover: Histogram,
    /// From the first bytes of a connection's first request until its server was selected: how long it was gathered.
    pub decision: Histogram,
    dropped: [u64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Frames dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Every counter with its name, the drop reasons' behind the others.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let Counters {
            frames,
            forwarded,
            local,
            migrated_out,
            migrated_in,
            never_owned,
            offers_repeated,
            refused,
            unanswered,
            unavailable,
            owners_lost,
            resets,
            cookies_sent,
            cookies_accepted,
            outbox_dropped,
            handover: _,
            decision: _,
            dropped,
        } = self;
        let named = [
            ("frames", *frames),
            ("forwarded", *forwarded),
            ("local", *local),
            ("migrated-out", *migrated_out),
            ("migrated-in", *migrated_in),
            ("never-owned", *never_owned),
            ("offers-repeated", *offers_repeated),
            ("refused", *refused),
            ("unanswered", *unanswered),
            ("unavailable", *unavailable),
            ("owners-lost", *owners_lost),
            ("resets", *resets),
            ("cookies-sent", *cookies_sent),
            ("cookies-accepted", *cookies_accepted),
            ("outbox-dropped", *outbox_dropped),
        ];
        named.into_iter().chain(
            DropReason::ALL
                .iter()
                .map(|reason| (reason.name(), dropped[*reason as usize])),
        )
    }
}
