//! What came from other servers, and what is left of it.

use alloc::boxed::Box;

use ipos_proto::{ControlBlock, Epoch, MacAddr, SeqNum, Trailer};

use super::{Forwarding, Retry, Target};
use crate::members::Newest;
use crate::tcp::Endpoint;
use crate::time::Instant;

/// What a connection's server may have sent that its client has not acknowledged: a window without scaling, SYN and FIN.
pub(crate) const BEYOND: u32 = (1 << 16) + 1;

/// A forward-connect record; of a connection that has come home, a local one.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) endpoint: u32,
    /// The first server: where the client's packets come from.
    pub(crate) first: Target,
    /// The first server's incarnation, where it has handed the endpoint over itself, or answered MOVED. 0: not told.
    pub(crate) incarnation: u32,
    /// The server that handed the endpoint over: it replays what it has kept.
    pub(crate) giver: Target,
    pub(crate) epoch: Epoch,
    /// The giver's packets have come: this server answers the client.
    pub(crate) owner: Option<Instant>,
    /// MOVED is repeated until the first server's record has followed.
    pub(crate) moved: Option<Retry>,
    /// What the first server had said last when it was told so: what is not newer answers something else.
    pub(crate) newest: Option<Newest>,
    /// What the giver has acknowledged to the client, and must be told of.
    pub(crate) cover: Option<SeqNum>,
    /// Where nothing was replayed: number and acknowledgment of the segment that came instead.
    pub(crate) last_word: Option<(SeqNum, SeqNum)>,
    /// The client connected here: its packets come through Port A.
    pub(crate) home: bool,
    /// Where the packets go until this server is the owner, when the flow was given away from here before.
    pub(crate) back: Option<Box<Forwarding>>,
}

/// A UDP flow of this server.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// Place of its listening socket.
    pub(crate) listener: usize,
    /// The last datagram, either way.
    pub(crate) used: Instant,
    /// It was migrated here.
    pub(crate) installed: Option<DatagramsInstalled>,
}

/// Where the datagrams of a migrated UDP flow come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramsInstalled {
    pub(crate) first: Target,
    pub(crate) epoch: Epoch,
    /// They have come: this server answers the client.
    pub(crate) owner: bool,
}

/// What is left of a connection that has ended at its owner: late frames do not bring it back. And of an endpoint whose
/// packets never came: only its own 0x01 brings that one back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    /// This server, or the one that it was given to, has answered the client.
    pub(crate) owned: bool,
    /// Tells the connection from a later one between the same ports.
    pub(crate) irs: SeqNum,
    /// Where the endpoint was here at last: it tells more surely.
    pub(crate) iss: Option<SeqNum>,
    /// Of its last owner.
    pub(crate) epoch: Epoch,
    /// What the client has acknowledged of it: a later connection between the same ports begins behind.
    pub(crate) acknowledged: SeqNum,
}

impl Tombstone {
    /// What is left of an endpoint that has ended here.
    pub(crate) fn of(tcp: &Endpoint, epoch: Epoch) -> Tombstone {
        Tombstone {
            owned: true,
            irs: tcp.irs(),
            iss: Some(tcp.iss()),
            epoch,
            acknowledged: tcp.snd_una(),
        }
    }

    /// Whether a segment acknowledges the SYN of this connection, and nothing behind it.
    pub(crate) fn is_opened_by(&self, ack: SeqNum) -> bool {
        self.iss.is_some_and(|iss| iss + 1 == ack)
    }

    /// Whether a control block is of this connection.
    pub(crate) fn is_of(&self, control: &ControlBlock) -> bool {
        match self.iss {
            Some(iss) => iss == control.iss,
            None => self.irs == control.irs,
        }
    }
}

impl Installed {
    /// Where the packets go, while this server is not the owner.
    pub(crate) fn passes_back(&self) -> Option<&Forwarding> {
        self.back.as_deref().filter(|_| self.owner.is_none())
    }

    /// Place in [`TABLES`](crate::flow_table::TABLES): a connection that has come home is local.
    pub(crate) fn table(&self) -> usize {
        if self.home { 1 } else { 2 }
    }

    /// Whether what the first server says may answer MOVED.
    pub(crate) fn is_answered_by(&self, trailer: Option<&Trailer>) -> bool {
        let newer = |trailer| self.newest.is_none_or(|newest| newest.is_before(trailer));
        self.moved.is_some() && trailer.is_none_or(newer)
    }

    /// Whether the client's packets come from the Port B with this hardware address.
    pub(crate) fn comes_from(&self, hardware: MacAddr) -> bool {
        self.first.hardware == hardware || self.giver.hardware == hardware
    }
}
