//! The way of blobs out of the store. The trash has those that the index did not know, hidden until they are recovered or purged.

use std::{fs, io::ErrorKind, time::Duration};

use async_trait::async_trait;
use penstock_actors::{
    ids::ContentHash,
    ports::{BlobTrash, ListedBlob, Missing, PortError, PortResult, Sweep},
};

use super::{
    FileBlobs, Root,
    error::fault,
    folder::{self, in_order, listed, remove_stray_leaves, renamed, time_of},
    layout::{Layout, sync_folder},
};

#[async_trait]
impl BlobTrash for FileBlobs {
    async fn list(&self, after: Option<ContentHash>, min_age: Duration, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.blocking(move |tiers| {
            let mut all = Vec::new();
            for root in tiers {
                all.extend(folder::list(&root.layout, after, min_age, limit)?);
            }
            Ok(ListedBlob::merged(all, limit))
        })
        .await
    }

    async fn retire(&self, hash: ContentHash) -> PortResult<bool> {
        self.blocking(move |tiers| {
            let mut any = false;
            for root in tiers {
                any |= folder::retire(&root.layout, hash)?;
            }
            Ok(any)
        })
        .await
    }

    async fn restore(&self, hash: ContentHash) -> PortResult<()> {
        self.blocking(move |tiers| {
            let mut any = false;
            for root in tiers {
                any |= folder::restore(&root.layout, hash)?;
            }
            if any { Ok(()) } else { Err(PortError::NotFound(Missing::Blob)) }
        })
        .await
    }

    async fn discard(&self, hash: ContentHash) -> PortResult<()> {
        self.blocking(move |tiers| tiers.iter().try_for_each(|root| discard(&root.layout, hash))).await
    }

    async fn trashed(&self, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
        self.blocking(move |tiers| {
            let mut all = Vec::new();
            for root in tiers {
                all.extend(list(&root.layout, after, limit)?);
            }
            Ok(ListedBlob::merged(all, limit))
        })
        .await
    }

    async fn recover(&self, hash: ContentHash) -> PortResult<bool> {
        self.blocking(move |tiers| {
            let mut any = false;
            for root in tiers {
                any |= recover(&root.layout, hash)?;
            }
            Ok(any)
        })
        .await
    }

    async fn purge(&self, hash: ContentHash) -> PortResult<u64> {
        self.blocking(move |tiers| tiers.iter().map(|root| purge(&root.layout, hash)).sum()).await
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
        self.blocking(move |tiers| {
            let mut swept = Sweep::default();
            for Root { layout, .. } in tiers {
                if !dry_run {
                    folder::undo_forgotten_retirements(layout, min_age, limit)?;
                }
                let left = usize::try_from(limit as u64 - swept.files).unwrap_or(usize::MAX);
                let Sweep { files, bytes, .. } = folder::sweep(layout, min_age, left, dry_run)?;
                swept = Sweep { files: swept.files + files, bytes: swept.bytes + bytes, ..swept };
            }
            Ok(swept)
        })
        .await
    }
}

/// Puts a retired blob into the trash. Its leaf list stays where it is, so each way is one rename. If the same content
/// was uploaded again meanwhile, the blob in the trash does no harm.
fn discard(layout: &Layout, hash: ContentHash) -> PortResult<()> {
    let _held = layout.lock(hash)?;
    let (retired, trashed) = (layout.retired(hash), layout.trashed(hash));
    let shard = layout.trash_shard(hash);
    match fs::create_dir(&shard) {
        Ok(()) => sync_folder(&layout.trash_folder())?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fault("create the folder", &shard)(error)),
    }
    match fs::rename(&retired, &trashed) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed.map_err(fault("put into the trash", &retired))?,
    }
    sync_folder(&shard)?;
    sync_folder(&layout.retired_folder())
}

/// Lists blobs in the order of their names, with the time of the rename that brought them here.
fn list(layout: &Layout, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
    let now = time_of(layout)?;
    let after = after.map(|hash| hash.to_string()).unwrap_or_default();
    let mut found = Vec::new();
    for shard in in_order(&layout.trash_folder(), after.get(..2))? {
        for entry in in_order(&shard.path(), None)? {
            if entry.file_name() <= *after.as_str() {
                continue;
            }
            if found.len() == limit {
                return Ok(found);
            }
            found.extend(listed(&entry, now, Duration::ZERO, renamed));
        }
    }
    Ok(found)
}

/// Recovers a blob; false when it is not here, or there is a visible one of its name.
fn recover(layout: &Layout, hash: ContentHash) -> PortResult<bool> {
    let _held = layout.lock(hash)?;
    let (blob, trashed) = (layout.blob(hash), layout.trashed(hash));
    // First: with an empty trash there is nothing to recover, whatever the state of the visible blob.
    if !trashed.try_exists().map_err(fault("look for", &trashed))? {
        return Ok(false);
    }
    if blob.try_exists().map_err(fault("look for", &blob))? {
        return Ok(false);
    }
    match fs::rename(&trashed, &blob) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        renamed => renamed.map_err(fault("bring back", &trashed))?,
    }
    sync_folder(&layout.shard(hash))?;
    Ok(true)
}

/// Purges a blob; returns its bytes.
fn purge(layout: &Layout, hash: ContentHash) -> PortResult<u64> {
    let _held = layout.lock(hash)?;
    let trashed = layout.trashed(hash);
    let bytes = match fs::metadata(&trashed) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        metadata => metadata.map_err(fault("stat", &trashed))?.len(),
    };
    fs::remove_file(&trashed).map_err(fault("remove", &trashed))?;
    remove_stray_leaves(layout, hash)?;
    Ok(bytes)
}
