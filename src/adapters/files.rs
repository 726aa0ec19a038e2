//! Blobs as files: one file per content, its leaf hashes beside it, both under one root folder.
//!
//! ```text
//! ROOT/blobs/ab/cd/HASH          the bytes, exactly as they were sent: any tool can read them
//! ROOT/blobs/ab/cd/HASH.leaves   the leaf hashes, with a checksum of their own
//! ROOT/tmp/UNIQUE                an upload under way; ROOT/tmp/UNIQUE.HASH once it is being committed
//! ROOT/retired/HASH              out of sight, until it is restored or purged
//! ROOT/locks/ab                  held for the few renames that must not mix, across threads and processes
//! ```
//!
//! What holds at every moment, whatever is killed: a file under `blobs/` that is named by a hash is complete, durable, and
//! has its leaf list. So a commit writes and syncs both files in `tmp/`, puts the list in place and syncs, and only then
//! puts the blob in place: the blob's rename is the one step that makes it visible. Retiring and restoring are each one
//! rename of the blob; the list stays where it is, being a function of the content, and goes with the purge.
//! What a kill leaves is in `tmp/` and `retired/`: [`sweep`](BlobStore::sweep) removes the former, and puts a blob back
//! that somebody retired and then neither restored nor purged, because content that is kept too long costs space, and
//! content that vanishes costs a customer.
//!
//! Names are made from [`ContentHash`] and random ids only, never from anybody's text. Blocking calls run on the blocking
//! threads of the runtime that the store was given, whose number is therefore the bound on disk operations at a time.

mod fault;
mod folder;
mod layout;
mod sink;
mod source;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use penstock_actors::{
    ids::ContentHash,
    model::LeafHash,
    ports::{BlobSink, BlobStore, PortError, PortResult, StoredBlob, Sweep},
};
use tokio::runtime::Handle;

use super::{leaf_list::LeafList, urls::Origin};
use fault::{STORE, fault};
use layout::{Layout, sync_folder};
use sink::{FileSink, Temporary};
use source::FileSource;

/// Where the blobs are.
#[derive(Debug, Clone)]
pub struct FilesSettings {
    /// All on one file system, because blobs come into place by rename. Several instances may share it.
    pub root: PathBuf,
}

/// The blob store on a file system.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    layout: Arc<Layout>,
    io: Handle,
}

impl FileBlobs {
    /// Makes the folders that are missing and proves that they can be written. `io` runs everything that blocks.
    ///
    /// # Errors
    /// `Unavailable`, naming the path, when the root cannot be made or written; `Full` when there is no room.
    pub fn open(settings: FilesSettings, io: Handle) -> PortResult<Self> {
        let layout = Layout::at(settings.root);
        for folder in layout.folders() {
            fs::create_dir_all(&folder).map_err(fault("create the folder", &folder))?;
        }
        probe(&layout)?;
        Ok(Self { layout: Arc::new(layout), io })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let layout = Arc::clone(&self.layout);
        self.io
            .spawn_blocking(move || work(&layout))
            .await
            .unwrap_or_else(|stopped| Err(PortError::unavailable(STORE, stopped)))
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        let layout = Arc::clone(&self.layout);
        self.blocking(move |_| Ok(Box::new(FileSink::create(layout)?) as Box<dyn BlobSink>)).await
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let (file, size_bytes, leaves) = self.blocking(move |layout| open_checked(layout, hash)).await?;
        Ok(StoredBlob { size_bytes, leaves, source: Arc::new(FileSource::new(file, hash, self.io.clone())) })
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        self.blocking(move |layout| {
            let path = layout.blob(hash);
            path.try_exists().map_err(fault("look for", &path))
        })
        .await
    }

    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ContentHash>> {
        self.blocking(move |layout| folder::list(layout, after, min_age, limit)).await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        self.blocking(move |layout| {
            let _held = layout.lock(hash)?;
            let (blob, retired) = (layout.blob(hash), layout.retired(hash));
            match fs::rename(&blob, &retired) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                renamed => renamed.map_err(fault("retire", &blob))?,
            }
            sync_folder(&layout.retired_folder())?;
            sync_folder(&layout.shard(hash))?;
            Ok(true)
        })
        .await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        self.blocking(move |layout| folder::restore(layout, hash)).await
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<()> {
        self.blocking(move |layout| {
            let _held = layout.lock(hash)?;
            folder::remove(&layout.retired(hash))?;
            folder::remove_stray_leaves(layout, hash)
        })
        .await
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        self.blocking(move |layout| {
            if !dry_run {
                folder::undo_forgotten_retirements(layout, min_age, limit)?;
            }
            folder::sweep(layout, min_age, limit, dry_run)
        })
        .await
    }

    async fn ping(&self) -> PortResult<()> {
        self.blocking(probe).await
    }
}

/// Below the folder `blobs` of the root.
#[async_trait]
impl Origin for FileBlobs {
    async fn path(&self, hash: ContentHash) -> PortResult<Option<String>> {
        if !self.exists(hash).await? {
            return Err(PortError::NotFound("blob"));
        }
        Ok(Some(Layout::path_below(hash)))
    }
}

/// Opens a blob and its leaf list, and checks each against the other. The file is opened first: from then on the blob can
/// be retired or replaced, and what was opened stays readable.
fn open_checked(layout: &Layout, hash: ContentHash) -> PortResult<(File, u64, Arc<[LeafHash]>)> {
    let path = layout.blob(hash);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(PortError::NotFound("blob")),
        opened => opened.map_err(fault("open", &path))?,
    };
    let size_bytes = file.metadata().map_err(fault("stat", &path))?.len();
    let leaves = match read_list(layout, hash, size_bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => read_missing_list(layout, hash, size_bytes)?,
        read => read.map_err(fault("read", &layout.leaves(hash)))?,
    };
    let list = LeafList::decode(&leaves, hash)?;
    if list.size_bytes != size_bytes {
        return Err(PortError::Corrupt(format!("blob {hash} has {size_bytes} bytes of {}", list.size_bytes)));
    }
    Ok((file, size_bytes, list.leaves))
}

/// Looks again for a list that was not there, while nothing is renamed. A blob in sight has its list, so either the blob was
/// purged since it was opened, or somebody meddled.
fn read_missing_list(layout: &Layout, hash: ContentHash, size_bytes: u64) -> PortResult<Vec<u8>> {
    let _held = layout.lock(hash)?;
    let blob = layout.blob(hash);
    if !blob.try_exists().map_err(fault("look for", &blob))? {
        return Err(PortError::NotFound("blob"));
    }
    match read_list(layout, hash, size_bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(PortError::Corrupt(format!("blob {hash} has no leaf list")))
        }
        read => read.map_err(fault("read", &layout.leaves(hash))),
    }
}

/// Reads a leaf list, but not more than one of a blob of this size can have, and a byte to tell that it is longer.
fn read_list(layout: &Layout, hash: ContentHash, size_bytes: u64) -> io::Result<Vec<u8>> {
    let longest = LeafList::encoded_len(size_bytes);
    let mut text = Vec::new();
    File::open(layout.leaves(hash))?.take(longest + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Writes and removes a file the way an upload begins, which finds a read-only mount, lost rights and a full disk.
fn probe(layout: &Layout) -> PortResult<()> {
    let (temporary, mut file) = Temporary::create(layout.temporary())?;
    file.write_all(b"penstock").map_err(fault("write", temporary.path()))
}
