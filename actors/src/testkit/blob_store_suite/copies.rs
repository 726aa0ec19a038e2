//! The promises of [`BlobCopies`]. With one tier, those that apply to it.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Sample,
    trash::{hashes, predecessor},
};
use crate::{
    model::StorageTier,
    ports::{BlobCopies, BlobStore, BlobTrash, PortError},
};

pub(super) async fn run(store: &(impl BlobStore + BlobCopies + BlobTrash)) {
    new_content_is_in_the_hot_tier_alone(store).await;
    a_copy_that_is_made_anew_takes_the_place_of_the_old_one(store).await;
    a_removed_copy_is_gone(store).await;
    assert_eq!(store.tiers().first(), Some(&StorageTier::Hot));
    for tier in store.tiers().into_iter().skip(1) {
        content_moves_there_and_back_under_its_readers(store, tier).await;
        a_content_is_read_from_what_is_left_of_it(store, tier).await;
        content_in_this_tier_is_one_content(store, tier).await;
        content_of_this_tier_that_comes_again_is_not_stored_twice(store, tier).await;
    }
}

impl Sample {
    /// Writes a copy into one tier.
    ///
    /// # Errors
    /// The store's own.
    pub async fn copy_to(&self, store: &dyn BlobCopies, tier: StorageTier) -> Result<(), PortError> {
        let mut sink = store.create_copy(tier).await?;
        for start in (0..self.bytes.len()).step_by(1 << 20) {
            sink.write(self.bytes.slice(start..self.bytes.len().min(start + (1 << 20)))).await?;
        }
        sink.commit(self.hash, &self.leaves).await
    }

    /// The bytes that readers get.
    ///
    /// # Errors
    /// The store's own.
    pub async fn read(&self, store: &dyn BlobStore) -> Result<Bytes, PortError> {
        let blob = store.open(self.hash).await?;
        assert_eq!(*blob.leaves, *self.leaves);
        blob.source.read_at(0, usize::try_from(blob.size_bytes).expect("a small sample")).await
    }
}

/// The tiers that have a copy, and whether readers were switched to another one.
async fn copies(store: &dyn BlobCopies, sample: &Sample) -> Vec<(StorageTier, bool)> {
    let mut copies = Vec::new();
    for tier in store.tiers() {
        if let Some(copy) = store.open_copy(sample.hash, tier).await.expect("looked") {
            assert!(copy.is_usable, "{tier}");
            assert_eq!(copy.size_bytes, sample.bytes.len() as u64);
            let bytes = copy.source.read_at(0, sample.bytes.len()).await.expect("read");
            assert_eq!(bytes, sample.bytes, "{tier}");
            copies.push((tier, copy.is_demoted));
        }
    }
    copies
}

async fn new_content_is_in_the_hot_tier_alone(store: &(impl BlobStore + BlobCopies)) {
    let sample = Sample::of(1000);
    assert_eq!(copies(store, &sample).await, []);
    sample.store(store).await.expect("stored");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false)]);
}

async fn a_copy_that_is_made_anew_takes_the_place_of_the_old_one(store: &(impl BlobStore + BlobCopies)) {
    let sample = Sample::of(3_000_000);
    sample.store(store).await.expect("stored");
    let open = store.open(sample.hash).await.expect("opened").source;
    sample.copy_to(store, StorageTier::Hot).await.expect("copied");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false)]);
    assert_eq!(open.read_at(7, 2_000_000).await.expect("read"), sample.bytes[7..2_000_007]);
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
}

async fn a_removed_copy_is_gone(store: &(impl BlobStore + BlobCopies + BlobTrash)) {
    let sample = Sample::of(1000);
    store.remove_copy(sample.hash, StorageTier::Hot).await.expect("removing an absent copy succeeds");
    sample.store(store).await.expect("stored");
    store.remove_copy(sample.hash, StorageTier::Hot).await.expect("removed");
    assert_eq!(copies(store, &sample).await, []);
    assert!(!store.exists(sample.hash).await.expect("looked"));
    assert!(matches!(store.open(sample.hash).await, Err(PortError::NotFound(_))));
    assert!(matches!(store.restore(sample.hash).await, Err(PortError::NotFound(_))));
    assert!(!store.demote_copy(sample.hash, StorageTier::Hot).await.expect("nothing to leave"));
    sample.store(store).await.expect("stored anew");
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
}

async fn content_moves_there_and_back_under_its_readers(store: &(impl BlobStore + BlobCopies), tier: StorageTier) {
    let sample = Sample::of(3_000_000);
    sample.store(store).await.expect("stored");
    let open = store.open(sample.hash).await.expect("opened").source;
    let read = async |source: &dyn crate::ports::BlobSource| source.read_at(5, 2_500_000).await.expect("read");

    sample.copy_to(store, tier).await.expect("copied");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false), (tier, false)]);
    assert!(store.demote_copy(sample.hash, StorageTier::Hot).await.expect("left"));
    assert!(!store.demote_copy(sample.hash, StorageTier::Hot).await.expect("left before"));
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, true), (tier, false)]);
    assert_eq!(read(&*open).await, sample.bytes[5..2_500_005]);
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
    store.remove_copy(sample.hash, StorageTier::Hot).await.expect("removed");
    assert_eq!(copies(store, &sample).await, [(tier, false)]);
    assert_eq!(read(&*open).await, sample.bytes[5..2_500_005]);
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);

    // And back again, over an old mark.
    sample.copy_to(store, StorageTier::Hot).await.expect("copied");
    assert!(store.demote_copy(sample.hash, tier).await.expect("left"));
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false), (tier, true)]);
    sample.copy_to(store, tier).await.expect("copied");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false), (tier, false)], "a new copy is in use");
    store.remove_copy(sample.hash, tier).await.expect("removed");
    assert_eq!(read(&*open).await, sample.bytes[5..2_500_005]);
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
}

/// A copy that readers were switched away from still serves when the other one is gone.
async fn a_content_is_read_from_what_is_left_of_it(store: &(impl BlobStore + BlobCopies), tier: StorageTier) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    sample.copy_to(store, tier).await.expect("copied");
    store.remove_copy(sample.hash, StorageTier::Hot).await.expect("removed");
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
    assert!(store.exists(sample.hash).await.expect("looked"));
}

async fn content_of_this_tier_that_comes_again_is_not_stored_twice(
    store: &(impl BlobStore + BlobCopies),
    tier: StorageTier,
) {
    let sample = Sample::of(1000);
    sample.copy_to(store, tier).await.expect("copied");
    sample.store(store).await.expect("stored before");
    assert_eq!(copies(store, &sample).await, [(tier, false)]);
    // Unless the sink is to replace it: the existing copy only looks intact.
    let mut sink = store.create().await.expect("created");
    sink.write(sample.bytes.clone()).await.expect("written");
    sink.replace();
    sink.commit(sample.hash, &sample.leaves).await.expect("committed");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false), (tier, false)]);
    store.remove_copy(sample.hash, StorageTier::Hot).await.expect("removed");
    // Or the existing copy is about to be removed.
    assert!(store.demote_copy(sample.hash, tier).await.expect("left"));
    sample.store(store).await.expect("stored");
    assert_eq!(copies(store, &sample).await, [(StorageTier::Hot, false), (tier, true)]);
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
}

async fn content_in_this_tier_is_one_content(store: &(impl BlobStore + BlobCopies + BlobTrash), tier: StorageTier) {
    let sample = Sample::of(1000);
    sample.store(store).await.expect("stored");
    sample.copy_to(store, tier).await.expect("copied");
    let listed = store.list(Some(predecessor(sample.hash)), Duration::ZERO, 1).await.expect("listed");
    assert_eq!(hashes(&listed), [sample.hash]);
    assert!(store.retire(sample.hash).await.expect("retired"));
    assert!(!store.exists(sample.hash).await.expect("looked"));
    store.restore(sample.hash).await.expect("restored");
    assert_eq!(sample.read(store).await.expect("read"), sample.bytes);
    assert!(store.retire(sample.hash).await.expect("retired"));
    store.discard(sample.hash).await.expect("discarded");
    assert_eq!(store.purge(sample.hash).await.expect("purged"), 2000, "in both tiers");
    assert_eq!(copies(store, &sample).await, []);
    store.sweep(Duration::ZERO, usize::MAX, false).await.expect("swept");
}
