//! The life of this node in the ledger: which epoch its leases are of, and until when it may spend them.
//!
//! Shared by reading: the lease keeper alone writes it, the quota shards read it with each decision.

use std::{
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{ids::NodeId, model::NodeEpoch};

/// Epoch and validity of this node's leases.
#[derive(Debug)]
pub struct NodeLife {
    node: NodeId,
    epoch: AtomicI64,
    began: Instant,
    /// Milliseconds after `began` until which leases may be spent; 0 is never.
    valid_until: AtomicU64,
    instances: AtomicU32,
}

impl NodeLife {
    pub const fn new(node: NodeId, epoch: i64, began: Instant) -> Self {
        Self { node, epoch: AtomicI64::new(epoch), began, valid_until: AtomicU64::new(0), instances: AtomicU32::new(1) }
    }

    pub fn current(&self) -> NodeEpoch {
        NodeEpoch { node: self.node, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// Whether leases may be spent at `now`.
    pub fn may_spend(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.began);
        elapsed < Duration::from_millis(self.valid_until.load(Ordering::Acquire))
    }

    /// Instances alive when the ledger was last asked, this one among them.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    pub(crate) fn saw_instances(&self, alive: u64) {
        self.instances.store(u32::try_from(alive).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    }

    /// Leases may be spent for `ttl` after `sent`, the moment before the heartbeat was sent. The ledger counts from a later
    /// moment, so this node stops first.
    pub(crate) fn renew(&self, sent: Instant, ttl: Duration) {
        let until = sent.saturating_duration_since(self.began) + ttl;
        self.valid_until.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// Starts a new epoch after the ledger has fenced the old one: no lease is valid until the next heartbeat.
    pub(crate) fn restart(&self, epoch: i64) {
        self.valid_until.store(0, Ordering::Release);
        self.epoch.store(epoch, Ordering::Release);
    }
}
