//! Blobs as files: one file per content, its leaf hashes beside it, both under one root folder.
//!
//! ```text
//! ROOT/blobs/ab/cd/HASH          the bytes, exactly as they were sent: any tool can read them
//! ROOT/blobs/ab/cd/HASH.leaves   the leaf hashes, with a checksum of their own
//! ROOT/blobs/ab/cd/HASH.left     readers were sent to another tier, and the blob will be removed
//! ROOT/tmp/UNIQUE                an upload under way; ROOT/tmp/UNIQUE.HASH once it is being committed
//! ROOT/retired/HASH              hidden, until it is restored or discarded
//! ROOT/trash/ab/HASH             discarded, until it is recovered or purged
//! ROOT/parts/UPLOAD/PART         a part of a resumable upload, until the upload ends
//! ROOT/penstock-store            the installation that owns this store: see [`marks`]
//! ROOT/locks/ab                  locks for renames that must not interleave, across threads and processes
//! ```
//!
//! Invariant, whatever is killed: a file under `blobs/` that is named by a hash is complete, durable, and has its leaf
//! list. So a commit writes and syncs both files in `tmp/`, moves the list into place and syncs, and only then moves
//! the blob into place: the blob's rename is the one step that makes it visible. Retiring and restoring are one rename
//! of the blob each; the list, which depends on the content alone, stays where it is until the purge. A kill leaves
//! files in `tmp/` and `retired/`: [`sweep`](penstock_actors::ports::BlobTrash::sweep) removes the former, and restores a blob that was retired
//! and then neither restored nor discarded, because content that is kept too long costs space, and content that is lost
//! costs a customer.
//!
//! Each tier is a root of its own, with all of these folders, on any disk that the operator chose. The store finds
//! copies in several tiers by looking for them, the hottest first; only the mark `left` relates one copy to another.
//!
//! Names are made from [`ContentHash`] and random ids only, never from a client's text. Blocking calls run on the
//! blocking threads of the given runtime, whose number therefore bounds the concurrent disk operations; [`WRITERS`] of them
//! at most write uploads.

mod copies;
mod error;
mod folder;
mod layout;
mod marks;
mod parts;
mod sink;
mod source;
mod temporary;
mod trash;
mod writes;

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use penstock_actors::{
    ids::ContentHash,
    model::{LeafHash, StorageTier},
    ports::{BlobSink, BlobStore, Missing, PortError, PortResult, StoredBlob},
};
use tokio::runtime::Handle;

use super::{leaf_list::LeafList, urls::Origin};
use error::{STORE, fault};
use layout::Layout;
use sink::{Destination, FileSink};
use source::FileSource;
use temporary::Temporary;
use writes::Writes;

pub use writes::WRITERS;

/// The roots of the store. Several instances may share it. Everything below one root is on one file system, because
/// blobs are moved into place by rename.
#[derive(Debug, Clone)]
pub struct FilesSettings {
    pub root: PathBuf,
    /// Roots of the colder tiers, if there are any.
    pub warm: Option<PathBuf>,
    pub cold: Option<PathBuf>,
}

/// The blob store on file systems.
#[derive(Debug, Clone)]
pub struct FileBlobs {
    /// The hottest first.
    tiers: Arc<[Root]>,
    io: Handle,
    writes: Writes,
}

/// A tier.
#[derive(Debug)]
struct Root {
    tier: StorageTier,
    layout: Arc<Layout>,
}

impl FileBlobs {
    /// The store in these folders; it creates nothing yet. `io` runs all blocking work.
    pub fn new(settings: FilesSettings, io: Handle) -> Self {
        let FilesSettings { root, warm, cold } = settings;
        let roots = [(StorageTier::Hot, Some(root)), (StorageTier::Warm, warm), (StorageTier::Cold, cold)];
        let tier =
            |(tier, root): (StorageTier, Option<PathBuf>)| Some(Root { tier, layout: Arc::new(Layout::at(root?)) });
        let writes = Writes::new(io.clone());
        Self { tiers: roots.into_iter().filter_map(tier).collect(), io, writes }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&[Root]) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let tiers = Arc::clone(&self.tiers);
        self.io
            .spawn_blocking(move || work(&tiers))
            .await
            .unwrap_or_else(|stopped| Err(PortError::unavailable(STORE, stopped)))
    }

    /// Runs work in one tier.
    async fn blocking_in<T: Send + 'static>(
        &self,
        tier: StorageTier,
        work: impl FnOnce(&Arc<Layout>) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        self.blocking(move |tiers| {
            let root = tiers.iter().find(|root| root.tier == tier);
            work(&root.ok_or_else(|| PortError::rejected(STORE, format!("there is no {tier} tier")))?.layout)
        })
        .await
    }

    async fn sink(&self, tier: StorageTier, tiers: Option<Arc<[Root]>>) -> PortResult<Box<dyn BlobSink>> {
        let writes = self.writes.clone();
        let create = move |layout: &Arc<Layout>| {
            let destination = Destination { layout: Arc::clone(layout), tiers };
            Ok(Box::new(FileSink::create(destination, writes)?) as Box<dyn BlobSink>)
        };
        self.blocking_in(tier, create).await
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn create(&self) -> PortResult<Box<dyn BlobSink>> {
        let tiers = Arc::clone(&self.tiers);
        self.sink(StorageTier::Hot, Some(tiers)).await
    }

    async fn open(&self, hash: ContentHash) -> PortResult<StoredBlob> {
        let (tier, (file, size_bytes, leaves)) = self.blocking(move |tiers| open_hottest(tiers, hash)).await?;
        Ok(StoredBlob { tier, size_bytes, leaves, source: Arc::new(FileSource::new(file, hash, self.io.clone())) })
    }

    async fn exists(&self, hash: ContentHash) -> PortResult<bool> {
        self.blocking(move |tiers| {
            for root in tiers {
                if is_there(&root.layout.blob(hash))? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn ping(&self) -> PortResult<()> {
        self.blocking(|tiers| tiers.iter().try_for_each(|root| probe(&root.layout))).await
    }
}

/// Below the folder `blobs` of the hot tier's root. The node itself delivers content that is in another tier or about
/// to be removed from this one, so that a path that was given out stays valid.
#[async_trait]
impl Origin for FileBlobs {
    async fn path(&self, hash: ContentHash) -> PortResult<Option<String>> {
        let is_hot = self.blocking_in(StorageTier::Hot, move |layout| {
            Ok(is_there(&layout.blob(hash))? && !is_there(&layout.left(hash))?)
        });
        if is_hot.await? {
            return Ok(Some(Layout::path_below(hash)));
        }
        if self.exists(hash).await? { Ok(None) } else { Err(PortError::NotFound(Missing::Blob)) }
    }
}

fn is_there(path: &Path) -> PortResult<bool> {
    path.try_exists().map_err(fault("look for", path))
}

/// An open file, its size, and the leaves of its content.
type OpenFile = (File, u64, Arc<[LeafHash]>);

/// Opens the copy in the hottest tier that is usable. Demoted copies come last.
fn open_hottest(tiers: &[Root], hash: ContentHash) -> PortResult<(StorageTier, OpenFile)> {
    let [only] = tiers else { return open_one_of(tiers, hash) };
    Ok((only.tier, open_checked(&only.layout, hash)?))
}

fn open_one_of(tiers: &[Root], hash: ContentHash) -> PortResult<(StorageTier, OpenFile)> {
    let (mut left, mut failed) = (Vec::new(), None);
    for root in tiers {
        let opened = match is_there(&root.layout.left(hash)) {
            Ok(true) => {
                left.push(root);
                continue;
            }
            Ok(false) => open_checked(&root.layout, hash),
            Err(error) => Err(error),
        };
        match opened {
            Ok(opened) => return Ok((root.tier, opened)),
            Err(PortError::NotFound(_)) => {}
            // A colder tier may have it; if none has, this is the error to report.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    for root in left {
        match open_checked(&root.layout, hash) {
            Ok(opened) => return Ok((root.tier, opened)),
            Err(PortError::NotFound(_)) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or(PortError::NotFound(Missing::Blob)))
}

/// Whether a content is in a usable copy in a colder tier. A copy in the hot tier does not count: the new copy replaces
/// it, which repairs it if it is damaged.
fn is_in_colder(tiers: &[Root], hash: ContentHash, size_bytes: u64) -> bool {
    let [hot, colder @ ..] = tiers else { return false };
    if colder.is_empty() || !matches!(is_there(&hot.layout.blob(hash)), Ok(false)) {
        return false;
    }
    colder.iter().any(|Root { layout, .. }| {
        matches!(is_there(&layout.left(hash)), Ok(false))
            && open_checked(layout, hash).is_ok_and(|(_, stored, _)| stored == size_bytes)
    })
}

/// Opens a blob and its leaf list, and checks each against the other. The file is opened first: if the blob is retired
/// or replaced from then on, the open file stays readable.
fn open_checked(layout: &Layout, hash: ContentHash) -> PortResult<OpenFile> {
    let Some(file) = open_file(layout, hash)? else { return Err(PortError::NotFound(Missing::Blob)) };
    let size_bytes = size_of(&file, layout, hash)?;
    let leaves = checked_list(layout, hash, size_bytes)?;
    Ok((file, size_bytes, leaves))
}

fn open_file(layout: &Layout, hash: ContentHash) -> PortResult<Option<File>> {
    let path = layout.blob(hash);
    match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(fault("open", &path)),
    }
}

fn size_of(file: &File, layout: &Layout, hash: ContentHash) -> PortResult<u64> {
    Ok(file.metadata().map_err(fault("stat", &layout.blob(hash)))?.len())
}

/// The leaves of a blob of this size.
fn checked_list(layout: &Layout, hash: ContentHash, size_bytes: u64) -> PortResult<Arc<[LeafHash]>> {
    let leaves = match read_list(layout, hash, size_bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => read_missing_list(layout, hash, size_bytes)?,
        read => read.map_err(fault("read", &layout.leaves(hash)))?,
    };
    let list = LeafList::decode(&leaves, hash)?;
    if list.size_bytes != size_bytes {
        return Err(PortError::Corrupt(format!("blob {hash} has {size_bytes} bytes of {}", list.size_bytes)));
    }
    Ok(list.leaves)
}

/// Looks again for a missing list, under the lock that excludes renames. A visible blob has its list, so either the
/// blob was purged since it was opened, or the folder was changed by hand.
fn read_missing_list(layout: &Layout, hash: ContentHash, size_bytes: u64) -> PortResult<Vec<u8>> {
    let _held = layout.lock(hash)?;
    let blob = layout.blob(hash);
    if !blob.try_exists().map_err(fault("look for", &blob))? {
        return Err(PortError::NotFound(Missing::Blob));
    }
    match read_list(layout, hash, size_bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(PortError::Corrupt(format!("blob {hash} has no leaf list")))
        }
        read => read.map_err(fault("read", &layout.leaves(hash))),
    }
}

/// Reads a leaf list, at most as long as the list of a blob of this size, and one byte more to detect a longer one.
fn read_list(layout: &Layout, hash: ContentHash, size_bytes: u64) -> io::Result<Vec<u8>> {
    let longest = LeafList::encoded_len(size_bytes);
    let mut text = Vec::new();
    File::open(layout.leaves(hash))?.take(longest + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Writes and removes a file as an upload does, which detects a read-only mount, missing permissions and a full disk.
fn probe(layout: &Layout) -> PortResult<()> {
    let (temporary, mut file) = Temporary::create(layout.temporary())?;
    file.write_all(b"penstock").map_err(fault("write", temporary.path()))
}
