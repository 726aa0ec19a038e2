//! `Quarantine`: this instance's copy of the list of content that is withheld from readers until it is repaired.
//!
//! The list is in the database. Every instance keeps a copy in memory, since each piece of each stream checks it. The whole
//! list is read at the start, and each entry again when the log of changes names it ([`Tag::Content`]). So a content is
//! withheld on every instance within one poll of that log, also from running streams, and comes back as fast.
//!
//! **Bound.** [`MOST`] contents. Beyond that the storage as a whole is at fault, which is logged, and reads of content not in
//! the list are still verified. **When the database does not answer**, the list stays as it was, and is read again later.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::{
    ids::ContentHash,
    ports::{PortResult, QuarantineList, Tag},
};

/// Contents in the list: some 5 MB.
const MOST: usize = 100_000;

/// Contents that changed and were not read again yet; beyond that the whole list is read anew.
const MOST_HEARD: usize = 1000;

/// Contents in one page of the list.
const PAGE: u32 = 1000;

/// The contents withheld from readers.
#[derive(Debug, Clone, Default)]
pub struct Quarantine(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: RwLock<HashSet<ContentHash>>,
    /// The size of `kept`, so that a check costs nothing while it is empty.
    count: AtomicUsize,
    heard: Mutex<Heard>,
    wake: Notify,
}

/// Changes that were reported and not read yet.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) hashes: HashSet<ContentHash>,
    pub(crate) anything: bool,
}

impl Quarantine {
    /// Whether a content is withheld from readers.
    pub fn holds(&self, hash: ContentHash) -> bool {
        !self.is_empty() && self.0.kept.read().unwrap_or_else(PoisonError::into_inner).contains(&hash)
    }

    /// How many contents are withheld from readers.
    pub fn len(&self) -> usize {
        self.0.count.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Withholds a content from readers of this instance, or releases it.
    pub fn set(&self, hash: ContentHash, held: bool) {
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        if !held {
            kept.remove(&hash);
        } else if kept.len() < MOST {
            kept.insert(hash);
        } else {
            tracing::error!(content_hash = %hash, "this content is damaged, but the quarantine in memory is full: reads of it are verified instead of refused; check the storage as a whole");
        }
        self.0.count.store(kept.len(), Relaxed);
    }

    fn replace(&self, all: HashSet<ContentHash>) -> HashSet<ContentHash> {
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        self.0.count.store(all.len(), Relaxed);
        std::mem::replace(&mut kept, all)
    }

    /// Takes note of a change made here or elsewhere; `None`: anything may have changed.
    pub fn heard(&self, change: Option<&Tag>) {
        {
            let mut heard = self.noted_changes();
            match change {
                Some(Tag::Content(hash)) if heard.hashes.len() < MOST_HEARD => {
                    heard.hashes.insert(*hash);
                }
                Some(Tag::Content(_)) | None => heard.anything = true,
                Some(_) => return,
            }
        }
        self.0.wake.notify_one();
    }

    fn noted_changes(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a change is reported, and takes all changes that were reported until then.
    pub(crate) async fn next_heard(&self) -> Heard {
        self.0.wake.notified().await;
        std::mem::take(&mut *self.noted_changes())
    }

    /// Reads the whole list.
    ///
    /// # Errors
    /// The database's own; the list then stays as it was.
    pub async fn load(&self, list: &dyn QuarantineList) -> PortResult<()> {
        let (mut all, mut after) = (HashSet::new(), None);
        while all.len() < MOST {
            let page = list.quarantined(after, PAGE).await?;
            after = page.last().map(|last| last.content_hash);
            let is_last = page.len() < PAGE as usize;
            all.extend(page.iter().map(|one| one.content_hash));
            if is_last {
                break;
            }
        }
        self.replace(all);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_in_memory_is_bounded_and_what_leaves_it_makes_room() {
        let quarantine = Quarantine::default();
        let hash = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            ContentHash::from_bytes(bytes)
        };
        (0..=MOST).for_each(|n| quarantine.set(hash(n), true));
        assert_eq!((quarantine.len(), quarantine.holds(hash(0)), quarantine.holds(hash(MOST))), (MOST, true, false));
        quarantine.set(hash(0), false);
        quarantine.set(hash(MOST), true);
        assert!(quarantine.holds(hash(MOST)) && !quarantine.holds(hash(0)));
    }
}
