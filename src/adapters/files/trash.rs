//! The trash: blobs that the index did not know, hidden until they are recovered or purged.

use std::{fs, io::ErrorKind, time::Duration};

use penstock_actors::{
    ids::ContentHash,
    ports::{ListedBlob, PortResult},
};

use super::{
    error::fault,
    folder::{in_order, listed, remove_stray_leaves, renamed, time_of},
    layout::{Layout, sync_folder},
};

/// Puts a retired blob into the trash. Its leaf list stays where it is, so each way is one rename. If the same content
/// was uploaded again meanwhile, the blob in the trash does no harm.
pub(super) fn discard(layout: &Layout, hash: ContentHash) -> PortResult<()> {
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
pub(super) fn list(layout: &Layout, after: Option<ContentHash>, limit: usize) -> PortResult<Vec<ListedBlob>> {
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
pub(super) fn recover(layout: &Layout, hash: ContentHash) -> PortResult<bool> {
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
pub(super) fn purge(layout: &Layout, hash: ContentHash) -> PortResult<u64> {
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
