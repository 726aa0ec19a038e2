//! A blob being written: a temporary file that becomes a blob with its leaf list, or is removed.
//!
//! The file is synced while it grows ([`SYNC_AHEAD`]), so that the disk writes while more arrives, and the commit has
//! little left to wait for.

use std::{fs::File, io::Write, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, leaf_count},
    ports::{BlobSink, PortError, PortResult},
};
use tokio::task::JoinHandle;

use super::{
    Root,
    error::{STORE, fault},
    folder::{remove, remove_stray_leaves},
    is_in_colder,
    layout::{Layout, sync_folder},
    temporary::Temporary,
    writes::Writes,
};
use crate::adapters::leaf_list::LeafList;

/// After so many bytes a file is synced, beside the writes that follow. The kernel holds at most twice as many unwritten
/// bytes of an upload. A content that is smaller has one sync, that of its commit.
const SYNC_AHEAD: u64 = 32 << 20;

/// What becomes of an upload.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) layout: Arc<Layout>,
    /// Where the same content may exist already, so that this upload is not needed.
    pub(super) tiers: Option<Arc<[Root]>>,
}

/// An upload that will become a blob.
#[derive(Debug)]
pub(super) struct FileSink {
    destination: Destination,
    writes: Writes,
    /// Absent from the commit on.
    growing: Option<Growing>,
    size_bytes: u64,
    unsynced: u64,
    sync: Option<JoinHandle<PortResult<()>>>,
}

/// The file of an upload. It is removed when this is dropped, unless it was moved into place.
#[derive(Debug)]
struct Growing {
    temporary: Temporary,
    file: Arc<File>,
}

impl FileSink {
    pub(super) fn create(destination: Destination, writes: Writes) -> PortResult<Self> {
        let (temporary, file) = Temporary::create(destination.layout.temporary())?;
        let growing = Some(Growing { temporary, file: Arc::new(file) });
        Ok(Self { destination, writes, growing, size_bytes: 0, unsynced: 0, sync: None })
    }

    /// The end of the sync under way. Its error counts: the kernel reports an error to one sync only.
    async fn synced(&mut self) -> PortResult<()> {
        match self.sync.take() {
            None => Ok(()),
            Some(sync) => sync.await.unwrap_or_else(|stopped| Err(PortError::unavailable(STORE, stopped))),
        }
    }
}

#[async_trait]
impl BlobSink for FileSink {
    async fn write(&mut self, part: Bytes) -> PortResult<()> {
        let Some(Growing { temporary, file }) = &self.growing else { return Err(committed()) };
        let (path, file, bytes) = (temporary.path().to_path_buf(), Arc::clone(file), part.len() as u64);
        let (written_path, mut written_file) = (path.clone(), Arc::clone(&file));
        let write = move || written_file.write_all(&part).map_err(fault("write", &written_path));
        self.writes.run(write).await?;
        self.size_bytes += bytes;
        self.unsynced += bytes;
        if self.unsynced >= SYNC_AHEAD {
            self.synced().await?;
            self.sync = Some(self.writes.begin(move || file.sync_data().map_err(fault("sync", &path))));
            self.unsynced = 0;
        }
        Ok(())
    }

    fn replace(&mut self) {
        self.destination.tiers = None;
    }

    async fn commit(mut self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        let size_bytes = self.size_bytes;
        if leaves.len() as u64 != leaf_count(size_bytes) {
            return Err(PortError::rejected(STORE, format!("{} leaves for {size_bytes} bytes", leaves.len())));
        }
        self.synced().await?;
        let Some(growing) = self.growing.take() else { return Err(committed()) };
        let Destination { layout, tiers } = &mut self.destination;
        let destination = Destination { layout: Arc::clone(layout), tiers: tiers.take() };
        let list = LeafList::encode(hash, size_bytes, leaves);
        self.writes.run(move || commit(&destination, growing, &list, hash, size_bytes)).await
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(Growing { temporary, file }) = self.growing.take() {
            drop(temporary);
            self.writes.close(file);
        }
    }
}

fn committed() -> PortError {
    PortError::rejected(STORE, "the blob is committed already".to_owned())
}

fn commit(
    destination: &Destination,
    growing: Growing,
    list: &[u8],
    hash: ContentHash,
    size_bytes: u64,
) -> PortResult<()> {
    let (Destination { layout, tiers }, Growing { temporary, file }) = (destination, growing);
    if tiers.as_ref().is_some_and(|tiers| is_in_colder(tiers, hash, size_bytes)) {
        return Ok(());
    }
    file.sync_all().map_err(fault("sync", temporary.path()))?;
    let (list_in_tmp, mut list_file) = Temporary::create(temporary.path().with_added_extension("leaves"))?;
    list_file.write_all(list).and_then(|()| list_file.sync_all()).map_err(fault("write", list_in_tmp.path()))?;

    let _held = layout.lock(hash)?;
    put_in_place(layout, hash, list_in_tmp, temporary).inspect_err(|_| {
        // Best effort: a list without a blob is never read, and a later upload of the content replaces it.
        let _ = remove_stray_leaves(layout, hash);
    })
}

/// Makes a blob from two synced files, while its content is locked.
fn put_in_place(layout: &Layout, hash: ContentHash, list: Temporary, mut blob: Temporary) -> PortResult<()> {
    let shard = layout.make_shard(hash)?;
    // From here on a kill may leave a list without a blob. The name tells the sweep its content.
    blob.rename(blob.path().with_added_extension(hash.to_string()))?;
    list.put(&layout.leaves(hash))?;
    // Synced separately, or a power cut could keep the second rename and lose the first.
    sync_folder(&shard)?;
    blob.put(&layout.blob(hash))?;
    // A new blob has not been demoted.
    remove(&layout.left(hash))?;
    sync_folder(&shard)
}
