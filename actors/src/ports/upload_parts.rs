//! The bytes of resumable uploads, in parts, until they are a content.
//!
//! **Callers:** `ResumableIngest` and the Janitor. **Errors:** `NotFound` says that the store has no such part. **Bound:** a part is at
//! most [`PART_BYTES`], and a call holds one part in memory.

use async_trait::async_trait;
use bytes::Bytes;

use super::PortResult;
use crate::model::PartName;

/// The largest part: what a node holds in memory for an upload, and what a client sends again after a kill. Smaller parts cost more
/// requests to S3.
pub const PART_BYTES: usize = 8 << 20;

/// Stores parts.
#[async_trait]
pub trait UploadParts: Send + Sync + 'static {
    /// Makes the bytes of a new part durable.
    async fn put_part(&self, part: PartName, bytes: Bytes) -> PortResult<()>;

    /// All bytes of a part.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    async fn read_part(&self, part: PartName) -> PortResult<Bytes>;

    /// Removes a part. Succeeds when there is none.
    async fn remove_part(&self, part: PartName) -> PortResult<()>;
}
