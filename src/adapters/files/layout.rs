//! The paths below the root, and the locks and syncs that keep them consistent.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use penstock_actors::{
    ids::{ContentHash, UploadId},
    model::PartName,
    ports::PortResult,
};
use uuid::Uuid;

use super::error::fault;
use crate::{adapters::store_mark, folders};

/// The folders below one root. Two levels of 256 shards keep a folder at about 15 blobs when there are a million.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) const fn at(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn folders(&self) -> [PathBuf; 5] {
        let locks = self.root.join("locks");
        [self.blobs_folder(), self.temporary_folder(), self.retired_folder(), self.trash_folder(), locks]
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The file that names the owner of this store.
    pub(super) fn mark(&self) -> PathBuf {
        self.root.join(store_mark::NAME)
    }

    pub(super) fn blobs_folder(&self) -> PathBuf {
        self.root.join("blobs")
    }

    pub(super) fn temporary_folder(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn retired_folder(&self) -> PathBuf {
        self.root.join("retired")
    }

    pub(super) fn trash_folder(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// The folder of the parts of resumable uploads.
    fn parts_folder(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// The folder of the parts of one upload.
    pub(super) fn parts_of(&self, upload: UploadId) -> PathBuf {
        self.parts_folder().join(upload.to_string())
    }

    pub(super) fn part(&self, part: PartName) -> PathBuf {
        self.parts_of(part.upload_id).join(part.part_id.to_string())
    }

    /// Creates the folder of an upload's parts durably, and the folder of all parts, which an older version has not made.
    pub(super) fn make_parts_of(&self, upload: UploadId) -> PortResult<()> {
        for (parent, folder) in [(self.root.clone(), self.parts_folder()), (self.parts_folder(), self.parts_of(upload))]
        {
            match fs::create_dir(&folder) {
                Ok(()) => sync_folder(&parent)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fault("create the folder", &folder)(error)),
            }
        }
        Ok(())
    }

    /// The folder of a blob in the trash.
    pub(super) fn trash_shard(&self, hash: ContentHash) -> PathBuf {
        self.trash_folder().join(&hash.to_string()[..2])
    }

    pub(super) fn trashed(&self, hash: ContentHash) -> PathBuf {
        self.trash_shard(hash).join(hash.to_string())
    }

    /// The folder of a blob and its leaf list.
    pub(super) fn shard(&self, hash: ContentHash) -> PathBuf {
        let name = hash.to_string();
        self.blobs_folder().join(&name[..2]).join(&name[2..4])
    }

    pub(super) fn blob(&self, hash: ContentHash) -> PathBuf {
        self.shard(hash).join(hash.to_string())
    }

    /// The path of a blob below the folder of the blobs.
    pub(super) fn path_below(hash: ContentHash) -> String {
        let name = hash.to_string();
        format!("{}/{}/{name}", &name[..2], &name[2..4])
    }

    pub(super) fn leaves(&self, hash: ContentHash) -> PathBuf {
        self.shard(hash).join(format!("{hash}.leaves"))
    }

    /// The mark of a blob that readers were sent away from.
    pub(super) fn left(&self, hash: ContentHash) -> PathBuf {
        self.shard(hash).join(format!("{hash}.left"))
    }

    pub(super) fn retired(&self, hash: ContentHash) -> PathBuf {
        self.retired_folder().join(hash.to_string())
    }

    /// A unique name in `tmp/`, across all processes.
    pub(super) fn temporary(&self) -> PathBuf {
        self.temporary_folder().join(Uuid::new_v4().simple().to_string())
    }

    /// The content that a temporary file was about to become, read from the name that the commit gave it.
    pub(super) fn committing(path: &Path) -> Option<ContentHash> {
        path.extension()?.to_str()?.parse().ok()
    }

    /// Excludes other renames of this content, in this process and in others on the same root, until the returned file
    /// is dropped. An operating-system lock: it ends with its process, however that ends.
    pub(super) fn lock(&self, hash: ContentHash) -> PortResult<File> {
        self.lock_by(&hash.to_string()[..2])
    }

    /// Excludes other changes of the mark.
    pub(super) fn lock_mark(&self) -> PortResult<File> {
        self.lock_by(store_mark::NAME)
    }

    fn lock_by(&self, name: &str) -> PortResult<File> {
        let path = self.root.join("locks").join(name);
        let lock = File::options().create(true).append(true).open(&path).map_err(fault("open", &path))?;
        lock.lock().map_err(fault("lock", &path))?;
        Ok(lock)
    }

    /// Creates a blob's folder durably, so that a rename into it is durable too.
    pub(super) fn make_shard(&self, hash: ContentHash) -> PortResult<PathBuf> {
        let shard = self.shard(hash);
        let mut parent = self.blobs_folder();
        for level in shard.strip_prefix(&parent).unwrap_or(&shard) {
            let folder = parent.join(level);
            match fs::create_dir(&folder) {
                Ok(()) => sync_folder(&parent)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fault("create the folder", &folder)(error)),
            }
            parent = folder;
        }
        Ok(shard)
    }
}

/// Makes the names in a folder durable; a rename alone is not.
pub(super) fn sync_folder(path: &Path) -> PortResult<()> {
    folders::sync(path).map_err(fault("sync the folder", path))
}
