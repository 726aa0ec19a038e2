//! `ChainHandle`: the chain as those who verify payments see it, and whether it is recent enough to sell by.
//!
//! The keeper of headers writes, everybody else reads. A lock is held for as long as a look-up takes. A verification may see two tips,
//! one after the other; each root that its verdict names was on the best chain when it was looked up, and who records the payment
//! looks again at what left it ([`ChainHandle::reorganisations`]).

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::chain::{Added, Chain, NoPlace};
use crate::{
    clock::before,
    model::{ChainHeader, MerkleRoot},
    ports::BestChain,
};

/// What operators see of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainStanding {
    /// The tip's height; `None` while the node has no header.
    pub height: Option<u32>,
    /// When the tip was made, by its miner's clock.
    pub made_at: Option<Timestamp>,
    /// By how many blocks the source is ahead, when it was last asked; negative when it is behind.
    pub lag: i64,
    pub reorganisations: u64,
    /// Headers that the rules refused.
    pub refused: u64,
}

#[derive(Debug)]
struct Shared {
    chain: RwLock<Chain>,
    max_age: Duration,
    reorganisations: watch::Sender<u64>,
    lag: AtomicI64,
    refused: AtomicU64,
}

/// The chain, shared.
#[derive(Debug, Clone)]
pub struct ChainHandle(Arc<Shared>);

impl ChainHandle {
    /// An empty chain. Its tip is too old to sell by when the tip's block was made longer ago than `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self(Arc::new(Shared {
            chain: RwLock::default(),
            max_age,
            reorganisations: watch::Sender::default(),
            lag: AtomicI64::default(),
            refused: AtomicU64::default(),
        }))
    }

    /// Whether the chain may be sold by at this time: it has a tip, and the tip is not too old.
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.standing().made_at.is_some_and(|made_at| made_at >= before(now, self.0.max_age))
    }

    pub fn standing(&self) -> ChainStanding {
        let tip = self.read().best().map(|tip| (tip.height, tip.raw.time()));
        ChainStanding {
            height: tip.map(|(height, _)| height),
            made_at: tip.and_then(|(_, time)| Timestamp::from_second(time.into()).ok()),
            lag: self.0.lag.load(Relaxed),
            reorganisations: *self.0.reorganisations.borrow(),
            refused: self.0.refused.load(Relaxed),
        }
    }

    /// The number of reorganisations, which changes with each one. None reaches further back than [`KEPT`](super::chain::KEPT) blocks.
    pub fn reorganisations(&self) -> watch::Receiver<u64> {
        self.0.reorganisations.subscribe()
    }

    /// Roots of the best chain from this height on, with their heights: at most `limit`.
    pub fn roots_from(&self, height: u32, limit: usize) -> Vec<(u32, MerkleRoot)> {
        self.read().roots_from(height).take(limit).collect()
    }

    /// Gives headers that were checked their places, in this order.
    ///
    /// # Errors
    /// The height of the first header that has no place, and why. Those before it are in the chain.
    pub fn add(&self, headers: &[ChainHeader]) -> Result<(), (u32, NoPlace)> {
        let mut count = 0;
        let outcome = {
            let mut chain = self.0.chain.write().unwrap_or_else(PoisonError::into_inner);
            headers.iter().try_for_each(|header| {
                if let Added::Reorganised { depth } = chain.add(*header).map_err(|why| (header.height, why))? {
                    count += 1;
                    tracing::warn!(
                        depth,
                        height = header.height,
                        tip = %header.hash,
                        "the chain was reorganised; payments that rest on the blocks that left it are looked at again"
                    );
                }
                Ok(())
            })
        };
        if count > 0 {
            self.0.reorganisations.send_modify(|all| *all += count);
        }
        outcome
    }

    /// Forgets all headers.
    pub(super) fn clear(&self) {
        *self.0.chain.write().unwrap_or_else(PoisonError::into_inner) = Chain::default();
    }

    /// Looks at the chain. The lock is held meanwhile.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Chain) -> T) -> T {
        at(&self.read())
    }

    /// Notes the tip of the source.
    pub(super) fn note_source(&self, source_tip: u32) {
        let height = self.tip().map_or(-1, i64::from);
        self.0.lag.store(i64::from(source_tip) - height, Relaxed);
    }

    pub(super) fn note_refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Chain> {
        self.0.chain.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BestChain for ChainHandle {
    fn merkle_root(&self, height: u32) -> Option<MerkleRoot> {
        self.read().root(height)
    }

    fn tip(&self) -> Option<u32> {
        self.read().best().map(|tip| tip.height)
    }

    fn median_time_past(&self) -> Option<u32> {
        self.read().median_time_past()
    }
}
