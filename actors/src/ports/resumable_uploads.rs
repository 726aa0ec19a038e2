//! The catalogue of resumable uploads and of their parts.
//!
//! A part is **loose** from before its object is written until the upload counts it, and again when the upload has ended. A loose part
//! that is old is **condemned**, and then removed. So each object in the store has a row here, and a node that is killed leaves
//! nothing that the Janitor does not find.
//!
//! **Callers:** `ResumableIngest` and the Janitor. **Errors:** after `Unavailable` it is unknown whether an upload counts a part, so the
//! caller leaves the part alone. **Bound:** [`UploadBounds`]; the callers bound the parts of an upload and of each step.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::PortResult;
use crate::{
    ids::{ContentHash, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds},
};

/// Whether an upload was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    Begun,
    /// The producer has as many uploads as it may have.
    TooMany,
    /// All uploads together would be longer than they may be.
    NoRoom,
}

/// The catalogue of resumable uploads.
#[async_trait]
pub trait ResumableUploads: Send + Sync + 'static {
    /// Adds a new upload within the bounds, which hold whatever other instances add at the same time.
    async fn begin_upload(&self, upload: &ResumableUpload, bounds: UploadBounds) -> PortResult<BeginOutcome>;

    async fn resumable_upload(&self, id: UploadId) -> PortResult<Option<ResumableUpload>>;

    /// Notes a loose part before its object is written.
    async fn add_part(&self, part: PartName, now: Timestamp) -> PortResult<()>;

    /// Counts loose parts, which follow one another from the byte `from`, as the next bytes of an upload: all or none.
    /// False when the upload does not end at `from`, or has ended, or the parts are no longer loose: of several writers that
    /// begin at the same byte, one succeeds.
    async fn keep_parts(&self, id: UploadId, from: u64, parts: &[NewPart], expires_at: Timestamp) -> PortResult<bool>;

    /// The parts that an upload counts, in order.
    async fn kept_parts(&self, id: UploadId) -> PortResult<Vec<NewPart>>;

    /// Lets one holder at a time complete an upload, for `ttl` by the database's clock; a holder may renew. False while there is
    /// another holder, and for an upload that has ended. The result of a completion does not depend on it: it saves work.
    async fn hold_upload(&self, id: UploadId, holder: Uuid, ttl: Duration) -> PortResult<bool>;

    /// Completes an upload whose content is stored; its parts are loose. False when it does not end at `from`, or has ended.
    async fn complete_upload(
        &self,
        id: UploadId,
        from: u64,
        content: ContentHash,
        expires_at: Timestamp,
    ) -> PortResult<bool>;

    /// Removes an upload; its parts are loose. False when there is none.
    async fn remove_upload(&self, id: UploadId) -> PortResult<bool>;

    /// Removes up to `limit` uploads that expired before `before`; their parts are loose. Returns how many.
    async fn expire_uploads(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Up to `limit` parts that were added before `before` and that no upload counts. From now on none can count them.
    async fn condemn_parts(&self, before: Timestamp, limit: u32) -> PortResult<Vec<PartName>>;

    /// Forgets parts whose objects are removed. A part that an upload counts stays.
    async fn forget_parts(&self, parts: &[PartName]) -> PortResult<()>;
}
