//! The hashes of a content: of the whole, which is its name, and of each leaf.
//!
//! Both are made side by side, of the same bytes, on two threads. Up to the end of the first leaf they are the same hash, so
//! content of one leaf is hashed once.
//!
//! **Bound.** As many threads hash at a time as there are processors, whatever the number of uploads.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use bytes::Bytes;
use futures::future::try_join;
use sha2::{Digest, Sha256};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    ids::ContentHash,
    model::{LEAF_BYTES, LeafHash},
    ports::{PortError, PortResult},
};

/// So many bytes are hashed at once where they are: some 30 microseconds, which handing them to another thread would take too.
const SHORT: usize = 64 << 10;

/// The threads that hash. Clones share them.
#[derive(Debug, Clone)]
pub struct Hashers {
    io: Handle,
    turns: Arc<Semaphore>,
}

impl Hashers {
    /// They are among the blocking threads of `io`.
    pub fn new(io: Handle) -> Self {
        Self { io, turns: Arc::new(Semaphore::new(Self::threads())) }
    }

    /// The most threads that hash at a time; two, for the two hashes of an upload, also on a single processor.
    pub fn threads() -> usize {
        available_parallelism().map_or(2, NonZero::get).max(2)
    }

    pub(super) const fn io(&self) -> &Handle {
        &self.io
    }

    async fn run<T: Send + 'static>(&self, hash: impl FnOnce() -> T + Send + 'static) -> PortResult<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|closed| PortError::unavailable("hashing", closed))?;
        let hashed = self.io.spawn_blocking(move || {
            let _turn = turn;
            hash()
        });
        hashed.await.map_err(|stopped| PortError::unavailable("hashing", stopped))
    }
}

/// The running hashes of a content.
#[derive(Default)]
pub(super) struct Hashes {
    whole: WholeHash,
    leaves: LeafHashes,
}

/// The hashes of the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hashed {
    pub(super) whole: ContentHash,
    pub(super) size_bytes: u64,
    pub(super) leaves: Vec<LeafHash>,
}

impl Hashes {
    /// Adds bytes.
    pub(super) async fn add(self, part: Bytes, hashers: &Hashers) -> PortResult<Self> {
        let Self { mut whole, mut leaves } = self;
        if part.len() <= SHORT {
            whole.add(&part);
            leaves.add(&part);
            return Ok(Self { whole, leaves });
        }
        let for_whole = part.clone();
        let whole = hashers.run(move || {
            whole.add(&for_whole);
            whole
        });
        if leaves.size_bytes + part.len() as u64 <= LEAF_BYTES {
            leaves.add(&part);
            return Ok(Self { whole: whole.await?, leaves });
        }
        let leaves = hashers.run(move || {
            leaves.add(&part);
            leaves
        });
        let (whole, leaves) = try_join(whole, leaves).await?;
        Ok(Self { whole, leaves })
    }

    pub(super) fn hashed(&self) -> Hashed {
        let Self { whole: WholeHash { hash, size_bytes, first_leaf }, leaves } = self;
        let whole: [u8; 32] = hash.clone().finalize().into();
        let first = first_leaf.or_else(|| (*size_bytes > 0).then_some(whole));
        let last = leaves.has_begun().then(|| leaves.leaf.clone().finalize().into());
        let leaves = first.into_iter().chain(leaves.ended.iter().copied()).chain(last).collect();
        Hashed { whole: ContentHash::from_bytes(whole), size_bytes: *size_bytes, leaves }
    }
}

/// The running hash of the whole content.
#[derive(Default)]
struct WholeHash {
    hash: Sha256,
    size_bytes: u64,
    /// The hash at the end of the first leaf.
    first_leaf: Option<LeafHash>,
}

impl WholeHash {
    fn add(&mut self, part: &[u8]) {
        let room = usize::try_from(LEAF_BYTES.saturating_sub(self.size_bytes)).unwrap_or(usize::MAX);
        let (in_first, later) = part.split_at(part.len().min(room));
        self.hash.update(in_first);
        self.size_bytes += part.len() as u64;
        if room > 0 && in_first.len() == room {
            self.first_leaf = Some(self.hash.clone().finalize().into());
        }
        self.hash.update(later);
    }
}

/// The running hashes of all leaves but the first.
#[derive(Default)]
struct LeafHashes {
    leaf: Sha256,
    size_bytes: u64,
    ended: Vec<LeafHash>,
}

impl LeafHashes {
    fn add(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            let room = LEAF_BYTES - self.size_bytes % LEAF_BYTES;
            let (now, later) = part.split_at(part.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let is_first = self.size_bytes < LEAF_BYTES;
            self.size_bytes += now.len() as u64;
            if !is_first {
                self.leaf.update(now);
                if self.size_bytes.is_multiple_of(LEAF_BYTES) {
                    self.ended.push(self.leaf.finalize_reset().into());
                }
            }
            part = later;
        }
    }

    /// Whether a leaf after the first has bytes and has not ended.
    const fn has_begun(&self) -> bool {
        self.size_bytes > LEAF_BYTES && !self.size_bytes.is_multiple_of(LEAF_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::leaf_count;

    const LEAF: usize = LEAF_BYTES as usize;

    fn assert_hashes(size: usize, cuts: &[usize]) {
        let content: Bytes = (0..size).map(|i| (i * 31 % 251) as u8).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        let hashers = Hashers::new(runtime.handle().clone());
        let (mut hashes, mut rest, mut cuts) = (Hashes::default(), content.clone(), cuts.iter().cycle());
        while !rest.is_empty() {
            let part = rest.split_to(cuts.next().map_or(1, |cut| *cut).min(rest.len()));
            hashes = runtime.block_on(hashes.add(part, &hashers)).expect("hashed");
        }
        let whole: [u8; 32] = Sha256::digest(&content).into();
        let leaves: Vec<LeafHash> = content.chunks(LEAF).map(|leaf| Sha256::digest(leaf).into()).collect();
        assert_eq!(leaves.len() as u64, leaf_count(size as u64));
        let expected = Hashed { whole: ContentHash::from_bytes(whole), size_bytes: size as u64, leaves };
        assert_eq!(hashes.hashed(), expected, "{size} bytes");
        assert_eq!(hashes.hashed(), expected, "asking changes nothing");
    }

    #[test]
    fn the_first_leaf_is_hashed_once_and_right_at_each_end() {
        for size in [0, 1, LEAF - 1, LEAF, LEAF + 1, 2 * LEAF - 1, 2 * LEAF, 2 * LEAF + 1] {
            for cut in [LEAF / 2, LEAF - 1, LEAF, LEAF + 1] {
                assert_hashes(size, &[cut]);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn hashes_do_not_depend_on_how_the_bytes_arrive(size in 0_usize..3 << 20, cuts in proptest::collection::vec(1_usize..1 << 20, 1..8)) {
            assert_hashes(size, &cuts);
        }
    }
}
