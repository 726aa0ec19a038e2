//! A blob being written: a temporary file that becomes a blob with its leaf list, or is removed.

use std::{fs::File, io::Write, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, leaf_count},
    ports::{BlobSink, PortError, PortResult},
};

use super::{
    Root,
    error::{STORE, fault},
    folder::{remove, remove_stray_leaves},
    is_in_colder,
    layout::{Layout, sync_folder},
    temporary::Temporary,
};
use crate::adapters::leaf_list::LeafList;

/// An upload that will become a blob.
#[derive(Debug)]
pub(super) struct FileSink {
    layout: Arc<Layout>,
    /// Where the same content may exist already, so that this upload is not needed.
    tiers: Option<Arc<[Root]>>,
    file: File,
    temporary: Temporary,
    size_bytes: u64,
}

impl FileSink {
    pub(super) fn create(layout: Arc<Layout>, tiers: Option<Arc<[Root]>>) -> PortResult<Self> {
        let (temporary, file) = Temporary::create(layout.temporary())?;
        Ok(Self { layout, tiers, file, temporary, size_bytes: 0 })
    }
}

#[async_trait]
impl BlobSink for FileSink {
    async fn write(&mut self, part: Bytes) -> PortResult<()> {
        self.file.write_all(&part).map_err(fault("write", self.temporary.path()))?;
        self.size_bytes += part.len() as u64;
        Ok(())
    }

    fn replace(&mut self) {
        self.tiers = None;
    }

    async fn commit(self: Box<Self>, hash: ContentHash, leaves: &[LeafHash]) -> PortResult<()> {
        let Self { layout, tiers, file, temporary, size_bytes } = *self;
        if leaves.len() as u64 != leaf_count(size_bytes) {
            return Err(PortError::rejected(STORE, format!("{} leaves for {size_bytes} bytes", leaves.len())));
        }
        if tiers.is_some_and(|tiers| is_in_colder(&tiers, hash, size_bytes)) {
            return Ok(());
        }
        file.sync_all().map_err(fault("sync", temporary.path()))?;
        let (list, mut list_file) = Temporary::create(temporary.path().with_added_extension("leaves"))?;
        list_file
            .write_all(&LeafList::encode(hash, size_bytes, leaves))
            .and_then(|()| list_file.sync_all())
            .map_err(fault("write", list.path()))?;

        let _held = layout.lock(hash)?;
        put_in_place(&layout, hash, list, temporary).inspect_err(|_| {
            // Best effort: a list without a blob is never read, and a later upload of the content replaces it.
            let _ = remove_stray_leaves(&layout, hash);
        })
    }
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
