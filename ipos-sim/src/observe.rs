//! Observers: what sees every frame.

use std::sync::{Arc, Mutex, PoisonError};

use ipos_core::Instant;

use crate::network::{LanId, NodeId};

/// One frame, at one moment, at one place.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// When.
    pub now: Instant,
    /// The LAN.
    pub lan: LanId,
    /// Who sent it, or to whom it was delivered.
    pub node: NodeId,
    /// The whole Ethernet frame, padded as on the wire.
    pub frame: &'a [u8],
}

/// Sees every frame on every LAN.
///
/// An `Arc<Mutex<O>>` of an observer is one too: keep a clone to look into it after the run.
pub trait Observer: Send {
    /// A node has sent a frame; nothing has happened to it yet.
    fn sent(&mut self, sighting: &Sighting<'_>) {
        let _ = sighting;
    }

    /// A frame arrives at a node, which has not handled it yet.
    fn delivered(&mut self, sighting: &Sighting<'_>) {
        let _ = sighting;
    }

    /// A node has lost its state, and has neither sent nor received since then.
    fn crashed(&mut self, now: Instant, node: NodeId) {
        let _ = (now, node);
    }
}

impl<O: Observer> Observer for Arc<Mutex<O>> {
    fn sent(&mut self, sighting: &Sighting<'_>) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sent(sighting);
    }

    fn delivered(&mut self, sighting: &Sighting<'_>) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .delivered(sighting);
    }

    fn crashed(&mut self, now: Instant, node: NodeId) {
        self.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .crashed(now, node);
    }
}
