//! `Quarantine`: content that readers do not get until it is repaired, as this instance knows it.
//!
//! The database has the list. Every instance keeps a copy of it in memory, since each piece of each stream is looked up: all of it
//! is read at the start, and again whatever the log of changes tells of ([`Tag::Content`]). So a content that is kept from readers
//! is kept from them on every instance within a poll of that log, also from those whose stream runs, and comes back as soon.
//!
//! **Bound.** [`MOST`] contents; beyond that something is wrong with the storage as a whole, which is said, and reads of what is
//! not in the list are still verified. **When the database does not answer**, the list stays as it was, and is asked for again.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    content_store::ContentStore,
    ids::ContentHash,
    ports::{PortResult, StorageRecords, Tag},
};

/// Contents in the list: some 5 MB.
const MOST: usize = 100_000;

/// Contents that were heard of and not asked about; beyond it all are asked for anew.
const MOST_HEARD: usize = 1000;

/// Contents in one page of the list.
const PAGE: u32 = 1000;

/// Between two attempts to ask a database that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What readers do not get.
#[derive(Debug, Clone, Default)]
pub struct Quarantine(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: RwLock<HashSet<ContentHash>>,
    /// As many are kept, so that it costs nothing while none are.
    count: AtomicUsize,
    heard: Mutex<Heard>,
    wake: Notify,
}

/// What was told of and not asked about yet.
#[derive(Debug, Default)]
struct Heard {
    hashes: HashSet<ContentHash>,
    anything: bool,
}

impl Quarantine {
    /// Whether readers do not get a content.
    pub fn holds(&self, hash: ContentHash) -> bool {
        !self.is_empty() && self.0.kept.read().unwrap_or_else(PoisonError::into_inner).contains(&hash)
    }

    /// How many contents readers do not get.
    pub fn len(&self) -> usize {
        self.0.count.load(Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps a content from readers of this instance, or lets them have it.
    pub fn set(&self, hash: ContentHash, held: bool) {
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        if !held {
            kept.remove(&hash);
        } else if kept.len() < MOST {
            kept.insert(hash);
        } else {
            tracing::error!(content_hash = %hash, "more content is damaged than is kept count of");
        }
        self.0.count.store(kept.len(), Relaxed);
    }

    fn replace(&self, all: HashSet<ContentHash>) -> HashSet<ContentHash> {
        let mut kept = self.0.kept.write().unwrap_or_else(PoisonError::into_inner);
        self.0.count.store(all.len(), Relaxed);
        std::mem::replace(&mut kept, all)
    }

    /// Takes note of a change that was made here or elsewhere; `None`: anything may have changed.
    pub fn heard(&self, change: Option<&Tag>) {
        {
            let mut heard = self.heard_so_far();
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

    fn heard_so_far(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the whole list.
    ///
    /// # Errors
    /// The database's; the list then stays as it was.
    pub async fn load(&self, records: &dyn StorageRecords) -> PortResult<()> {
        let (mut all, mut after) = (HashSet::new(), None);
        while all.len() < MOST {
            let page = records.quarantined(after, PAGE).await?;
            after = page.last().copied();
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                break;
            }
        }
        self.replace(all);
        Ok(())
    }
}

/// Follows what is heard for as long as the process lives. What has changed of a content is forgotten here before its readers go
/// on: another copy may be the one to read, and what was verified of the old one says nothing about it.
pub async fn follow(content: ContentStore, records: Arc<dyn StorageRecords>) {
    let quarantine = content.quarantine().clone();
    loop {
        quarantine.0.wake.notified().await;
        let Heard { hashes, anything } = std::mem::take(&mut *quarantine.heard_so_far());
        while let Err(error) = learn(&content, &*records, &hashes, anything).await {
            tracing::debug!(%error, "what is quarantined could not be asked for; it is tried again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn learn(
    content: &ContentStore,
    records: &dyn StorageRecords,
    hashes: &HashSet<ContentHash>,
    anything: bool,
) -> PortResult<()> {
    let quarantine = content.quarantine();
    if anything {
        quarantine.load(records).await?;
        content.forget_all();
    }
    let hashes: Vec<_> = hashes.iter().copied().collect();
    if hashes.is_empty() {
        return Ok(());
    }
    let held: HashSet<_> = records.quarantined_among(&hashes).await?.into_iter().collect();
    for hash in hashes {
        content.forget(hash).await;
        quarantine.set(hash, held.contains(&hash));
    }
    Ok(())
}
