//! The catalogue of resumable uploads in memory, with faults by script.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::script::Script;
use crate::{
    clock::{Clock, SystemClock},
    ids::{ContentHash, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds},
    ports::{BeginOutcome, PortResult, ResumableUploads},
};

#[derive(Clone, Copy)]
enum PartState {
    Loose,
    Kept { from_byte: u64, size_bytes: u64 },
    Condemned,
}

#[derive(Default)]
struct Tables {
    uploads: HashMap<UploadId, ResumableUpload>,
    holders: HashMap<UploadId, (Uuid, Timestamp)>,
    parts: BTreeMap<PartName, (PartState, Timestamp)>,
}

impl Tables {
    fn free(&mut self, id: UploadId) {
        self.holders.remove(&id);
        for (name, (state, _)) in &mut self.parts {
            if name.upload_id == id && matches!(state, PartState::Kept { .. }) {
                *state = PartState::Loose;
            }
        }
    }

    fn open(&mut self, id: UploadId) -> Option<&mut ResumableUpload> {
        self.uploads.get_mut(&id).filter(|upload| upload.content_hash.is_none())
    }
}

/// The catalogue in memory.
pub struct MemoryUploads {
    /// Its scripted faults.
    pub script: Script,
    tables: Mutex<Tables>,
    clock: Arc<dyn Clock>,
}

impl Default for MemoryUploads {
    fn default() -> Self {
        Self::by(Arc::new(SystemClock))
    }
}

impl MemoryUploads {
    /// A catalogue in a database that has this clock.
    pub fn by(clock: Arc<dyn Clock>) -> Self {
        Self { script: Script::default(), tables: Mutex::default(), clock }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parts that have a row.
    pub fn parts(&self) -> usize {
        self.tables().parts.len()
    }
}

#[async_trait]
impl ResumableUploads for MemoryUploads {
    async fn begin_upload(&self, upload: &ResumableUpload, bounds: UploadBounds) -> PortResult<BeginOutcome> {
        let work = || {
            let mut tables = self.tables();
            let open = || tables.uploads.values().filter(|upload| upload.content_hash.is_none());
            if open().filter(|open| open.producer_id == upload.producer_id).count() >= bounds.per_producer as usize {
                return Ok(BeginOutcome::TooMany);
            }
            let total: u64 = open().map(|open| open.length_bytes).sum();
            if total.saturating_add(upload.length_bytes) > bounds.total_bytes {
                return Ok(BeginOutcome::NoRoom);
            }
            tables.uploads.insert(upload.upload_id, upload.clone());
            Ok(BeginOutcome::Begun)
        };
        self.script.play("begin_upload", 1, work).await
    }

    async fn resumable_upload(&self, id: UploadId) -> PortResult<Option<ResumableUpload>> {
        self.script.play("resumable_upload", 1, || Ok(self.tables().uploads.get(&id).cloned())).await
    }

    async fn add_part(&self, part: PartName, now: Timestamp) -> PortResult<()> {
        let work = || {
            self.tables().parts.insert(part, (PartState::Loose, now));
            Ok(())
        };
        self.script.play("add_part", 1, work).await
    }

    async fn keep_parts(&self, id: UploadId, from: u64, parts: &[NewPart], expires_at: Timestamp) -> PortResult<bool> {
        let work = || {
            let mut tables = self.tables();
            let names: Vec<PartName> =
                parts.iter().map(|part| PartName { upload_id: id, part_id: part.part_id }).collect();
            if !names.iter().all(|name| matches!(tables.parts.get(name), Some((PartState::Loose, _)))) {
                return Ok(false);
            }
            let Some(upload) = tables.open(id).filter(|upload| upload.offset_bytes == from) else { return Ok(false) };
            upload.offset_bytes = from + parts.iter().map(|part| part.size_bytes).sum::<u64>();
            upload.parts += u32::try_from(parts.len()).unwrap_or(u32::MAX);
            upload.expires_at = expires_at;
            for (name, &NewPart { from_byte, size_bytes, .. }) in names.iter().zip(parts) {
                if let Some((state, _)) = tables.parts.get_mut(name) {
                    *state = PartState::Kept { from_byte, size_bytes };
                }
            }
            Ok(true)
        };
        self.script.play("keep_parts", parts.len(), work).await
    }

    async fn kept_parts(&self, id: UploadId) -> PortResult<Vec<NewPart>> {
        let work = || {
            let mut kept: Vec<NewPart> = Vec::new();
            for (name, (state, _)) in &self.tables().parts {
                if let PartState::Kept { from_byte, size_bytes } = *state
                    && name.upload_id == id
                {
                    kept.push(NewPart { part_id: name.part_id, from_byte, size_bytes });
                }
            }
            kept.sort_by_key(|part| part.from_byte);
            Ok(kept)
        };
        self.script.play("kept_parts", 1, work).await
    }

    async fn hold_upload(&self, id: UploadId, holder: Uuid, ttl: Duration) -> PortResult<bool> {
        let work = || {
            let (mut tables, now) = (self.tables(), self.clock.now());
            if tables.open(id).is_none() {
                return Ok(false);
            }
            let held = tables.holders.get(&id).is_some_and(|&(other, until)| other != holder && until > now);
            if !held {
                tables.holders.insert(id, (holder, now.checked_add(ttl).unwrap_or(Timestamp::MAX)));
            }
            Ok(!held)
        };
        self.script.play("hold_upload", 1, work).await
    }

    async fn complete_upload(
        &self,
        id: UploadId,
        from: u64,
        content: ContentHash,
        expires_at: Timestamp,
    ) -> PortResult<bool> {
        let work = || {
            let mut tables = self.tables();
            let Some(upload) = tables.open(id).filter(|upload| upload.offset_bytes == from) else { return Ok(false) };
            upload.offset_bytes = upload.length_bytes;
            upload.parts = 0;
            upload.content_hash = Some(content);
            upload.expires_at = expires_at;
            tables.free(id);
            Ok(true)
        };
        self.script.play("complete_upload", 1, work).await
    }

    async fn remove_upload(&self, id: UploadId) -> PortResult<bool> {
        let work = || {
            let mut tables = self.tables();
            let removed = tables.uploads.remove(&id).is_some();
            tables.free(id);
            Ok(removed)
        };
        self.script.play("remove_upload", 1, work).await
    }

    async fn expire_uploads(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let work = || {
            let mut tables = self.tables();
            let due = tables.uploads.values().filter(|upload| upload.expires_at < before);
            let due: Vec<UploadId> = due.map(|upload| upload.upload_id).take(limit as usize).collect();
            for &id in &due {
                tables.uploads.remove(&id);
                tables.free(id);
            }
            Ok(due.len() as u64)
        };
        self.script.play("expire_uploads", limit as usize, work).await
    }

    async fn condemn_parts(&self, before: Timestamp, limit: u32) -> PortResult<Vec<PartName>> {
        let work = || {
            let mut tables = self.tables();
            let old = tables
                .parts
                .iter_mut()
                .filter(|(_, (state, added))| !matches!(state, PartState::Kept { .. }) && *added < before);
            let condemn = |(name, (state, _)): (&PartName, &mut (PartState, Timestamp))| {
                *state = PartState::Condemned;
                *name
            };
            Ok(old.take(limit as usize).map(condemn).collect())
        };
        self.script.play("condemn_parts", limit as usize, work).await
    }

    async fn forget_parts(&self, parts: &[PartName]) -> PortResult<()> {
        let work = || {
            let mut tables = self.tables();
            for name in parts {
                if !matches!(tables.parts.get(name), Some((PartState::Kept { .. }, _))) {
                    tables.parts.remove(name);
                }
            }
            Ok(())
        };
        self.script.play("forget_parts", parts.len(), work).await
    }
}
