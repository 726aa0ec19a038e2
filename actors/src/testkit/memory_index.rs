//! The content index in memory, with faults by script.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::script::Script;
use crate::{
    ids::{ContentHash, ProducerId},
    model::ContentMeta,
    ports::{ContentIndex, PortResult},
};

/// The storage index in memory.
#[derive(Default)]
pub struct MemoryIndex {
    /// Its scripted faults.
    pub script: Script,
    /// Each with whether it is stored, and not only announced.
    contents: Mutex<HashMap<ContentHash, (ContentMeta, bool)>>,
    uploads: Mutex<HashSet<(ContentHash, ProducerId)>>,
}

impl MemoryIndex {
    fn contents(&self) -> MutexGuard<'_, HashMap<ContentHash, (ContentMeta, bool)>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn uploads(&self) -> MutexGuard<'_, HashSet<(ContentHash, ProducerId)>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stored content.
    pub fn put(&self, meta: ContentMeta) {
        self.contents().insert(meta.content_hash, (meta, true));
    }

    /// Contents that are announced and not stored.
    pub fn announced(&self) -> usize {
        self.contents().values().filter(|(_, stored)| !stored).count()
    }
}

#[async_trait]
impl ContentIndex for MemoryIndex {
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>> {
        let work = || {
            let contents = self.contents();
            Ok(contents.get(&hash).filter(|(_, stored)| *stored).map(|(meta, _)| meta.clone()))
        };
        self.script.play("content", 1, work).await
    }

    async fn content_of(&self, hash: ContentHash, _: ProducerId) -> PortResult<Option<ContentMeta>> {
        self.content(hash).await
    }

    async fn announce_content(&self, meta: &ContentMeta, _: ProducerId) -> PortResult<()> {
        let work = || {
            self.contents().entry(meta.content_hash).or_insert_with(|| (meta.clone(), false));
            Ok(())
        };
        self.script.play("announce_content", 1, work).await
    }

    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool> {
        let work = || {
            let mut contents = self.contents();
            Ok(contents.get_mut(&hash).is_some_and(|(_, stored)| !std::mem::replace(stored, true)))
        };
        self.script.play("complete_content", 1, work).await
    }

    async fn note_upload(&self, hash: ContentHash, by: ProducerId) -> PortResult<bool> {
        let work = || Ok(self.uploads().insert((hash, by)));
        self.script.play("note_upload", 1, work).await
    }

    async fn has_uploaded(&self, hash: ContentHash, producer: ProducerId) -> PortResult<bool> {
        let work = || Ok(self.uploads().contains(&(hash, producer)));
        self.script.play("has_uploaded", 1, work).await
    }

    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let work = || {
            let contents = self.contents();
            Ok(hashes.iter().copied().filter(|hash| !contents.contains_key(hash)).collect())
        };
        self.script.play("unknown_content", hashes.len(), work).await
    }

    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let work = || {
            let mut contents = self.contents();
            let all = contents.len();
            contents.retain(|_, (meta, stored)| *stored || meta.stored_at >= before);
            Ok((all - contents.len()) as u64)
        };
        self.script.play("withdraw_announcements", limit as usize, work).await
    }
}
