//! Housekeeping in the folders: listing, restoring, and sweeping up after a kill.

use std::{
    fs::{self, DirEntry, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    ports::{ListedBlob, PortResult, Sweep},
};

use super::{
    error::fault,
    layout::{Layout, sync_folder},
    temporary::Temporary,
};

/// Lists blobs in the order of their names. One shard's names are in memory at a time.
pub(super) fn list(
    layout: &Layout,
    after: Option<ContentHash>,
    min_age: Duration,
    limit: usize,
) -> PortResult<Vec<ListedBlob>> {
    let now = time_of(layout)?;
    let after = after.map(|hash| hash.to_string()).unwrap_or_default();
    let mut found = Vec::new();
    for outer in in_order(&layout.blobs_folder(), after.get(..2))? {
        // In the first shard, only later names; in further shards, all names.
        let inner_after = after.get(2..4).filter(|_| outer.file_name() == after[..2]);
        for inner in in_order(&outer.path(), inner_after)? {
            for entry in in_order(&inner.path(), None)? {
                if content_hash(&entry).is_none() {
                    continue;
                }
                if entry.file_name() <= *after.as_str() {
                    continue;
                }
                if found.len() == limit {
                    return Ok(found);
                }
                found.extend(listed(&entry, now, min_age, modified));
            }
        }
    }
    Ok(found)
}

/// Removes temporary files, and the leaf list of a commit that was interrupted after it.
///
/// A running upload touches its file, so only files unchanged for `min_age` are removed.
pub(super) fn sweep(layout: &Layout, min_age: Duration, limit: usize, dry_run: bool) -> PortResult<Sweep> {
    let now = time_of(layout)?;
    let folder = layout.temporary_folder();
    let mut swept = Sweep::default();
    for entry in entries(&folder)? {
        let entry = entry.map_err(fault("list", &folder))?;
        if swept.files == limit as u64 {
            break;
        }
        let Some(size) = aged(&entry, now, min_age, modified) else { continue };
        if !dry_run {
            if let Some(hash) = Layout::committing(&entry.path()) {
                let _held = layout.lock(hash)?;
                remove_stray_leaves(layout, hash)?;
            }
            remove(&entry.path())?;
        }
        swept.files += 1;
        swept.bytes += size;
    }
    Ok(swept)
}

/// Restores blobs that were retired at least `min_age` ago and neither restored nor discarded since: the process that
/// retired them is gone, and it was never decided whether the content is still wanted.
pub(super) fn undo_forgotten_retirements(layout: &Layout, min_age: Duration, limit: usize) -> PortResult<()> {
    let now = time_of(layout)?;
    let folder = layout.retired_folder();
    let mut forgotten = Vec::new();
    for entry in entries(&folder)? {
        let entry = entry.map_err(fault("list", &folder))?;
        if let Some(hash) = content_hash(&entry)
            && is_old(&entry, now, min_age, renamed)
        {
            forgotten.push(hash);
        }
        if forgotten.len() == limit {
            break;
        }
    }
    for hash in forgotten {
        match restore(layout, hash) {
            Ok(true) => {
                tracing::warn!(content_hash = %hash, "a blob was retired and then neither restored nor discarded; it is restored");
            }
            Ok(false) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hides a blob; false when there is none.
pub(super) fn retire(layout: &Layout, hash: ContentHash) -> PortResult<bool> {
    let _held = layout.lock(hash)?;
    let (blob, retired) = (layout.blob(hash), layout.retired(hash));
    match fs::rename(&blob, &retired) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        renamed => renamed.map_err(fault("retire", &blob))?,
    }
    sync_folder(&layout.retired_folder())?;
    sync_folder(&layout.shard(hash))?;
    Ok(true)
}

/// Restores a retired blob; returns whether the blob is visible then. A visible blob of the same name stays: it has the
/// same bytes and is newer.
pub(super) fn restore(layout: &Layout, hash: ContentHash) -> PortResult<bool> {
    let _held = layout.lock(hash)?;
    let (blob, retired) = (layout.blob(hash), layout.retired(hash));
    if blob.try_exists().map_err(fault("look for", &blob))? {
        return remove(&retired).map(|()| true);
    }
    match fs::rename(&retired, &blob) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        renamed => renamed.map_err(fault("restore", &retired))?,
    }
    sync_folder(&layout.shard(hash))?;
    Ok(true)
}

/// Marks a blob durably as one that readers were sent away from; false when there is none, or it was marked before.
pub(super) fn leave(layout: &Layout, hash: ContentHash) -> PortResult<bool> {
    let _held = layout.lock(hash)?;
    let (blob, left) = (layout.blob(hash), layout.left(hash));
    if !blob.try_exists().map_err(fault("look for", &blob))? || left.try_exists().map_err(fault("look for", &left))? {
        return Ok(false);
    }
    fs::write(&left, b"").map_err(fault("write", &left))?;
    sync_folder(&layout.shard(hash))?;
    Ok(true)
}

/// Removes a blob with all files beside it. The blob goes first. If a kill leaves other files, the next blob of this
/// name replaces them.
pub(super) fn remove_all_of(layout: &Layout, hash: ContentHash) -> PortResult<()> {
    let _held = layout.lock(hash)?;
    remove(&layout.blob(hash))?;
    remove(&layout.retired(hash))?;
    remove_stray_leaves(layout, hash)
}

/// Removes a leaf list and a mark without a blob. The caller holds the content's lock.
pub(super) fn remove_stray_leaves(layout: &Layout, hash: ContentHash) -> PortResult<()> {
    for owner in [layout.blob(hash), layout.retired(hash), layout.trashed(hash)] {
        if owner.try_exists().map_err(fault("look for", &owner))? {
            return Ok(());
        }
    }
    remove(&layout.left(hash))?;
    remove(&layout.leaves(hash))
}

/// Removes a file; a missing file is no error.
pub(super) fn remove(path: &Path) -> PortResult<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(fault("remove", path)),
    }
}

/// The time of the file system, by which its files are dated: the age of a file on a share is then the same for every
/// instance, whatever their own clocks show. Reading the time creates a file.
pub(super) fn time_of(layout: &Layout) -> PortResult<SystemTime> {
    let (temporary, file) = Temporary::create(layout.temporary())?;
    file.metadata().and_then(|metadata| modified(&metadata)).map_err(fault("stat", temporary.path()))
}

fn content_hash(entry: &DirEntry) -> Option<ContentHash> {
    entry.file_name().to_str()?.parse().ok()
}

fn modified(metadata: &Metadata) -> io::Result<SystemTime> {
    metadata.modified()
}

/// When the file got its present name: a rename changes this time, but not the time of modification.
pub(super) fn renamed(metadata: &Metadata) -> io::Result<SystemTime> {
    let seconds = u64::try_from(metadata.ctime()).map_err(io::Error::other)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A blob with the time that `since` reads from its file; `None` for other files, and for younger ones.
pub(super) fn listed(
    entry: &DirEntry,
    now: SystemTime,
    min_age: Duration,
    since: fn(&Metadata) -> io::Result<SystemTime>,
) -> Option<ListedBlob> {
    let hash = content_hash(entry)?;
    aged(entry, now, min_age, since)?;
    let since = since(&entry.metadata().ok()?).ok()?;
    Some(ListedBlob { hash, since: Timestamp::try_from(since).ok()? })
}

/// The size of a file that is at least `min_age` old. `None` for a younger file or one that is gone; a time in the
/// future counts as now.
fn aged(
    entry: &DirEntry,
    now: SystemTime,
    min_age: Duration,
    since: fn(&Metadata) -> io::Result<SystemTime>,
) -> Option<u64> {
    let metadata = entry.metadata().ok().filter(Metadata::is_file)?;
    let age = now.duration_since(since(&metadata).ok()?).unwrap_or_default();
    (age >= min_age).then_some(metadata.len())
}

fn is_old(
    entry: &DirEntry,
    now: SystemTime,
    min_age: Duration,
    since: fn(&Metadata) -> io::Result<SystemTime>,
) -> bool {
    aged(entry, now, min_age, since).is_some()
}

/// The entries of a folder, sorted by name, beginning at a name.
pub(super) fn in_order(folder: &Path, from: Option<&str>) -> PortResult<Vec<DirEntry>> {
    let mut all = entries(folder)?.collect::<Result<Vec<_>, _>>().map_err(fault("list", folder))?;
    all.retain(|entry| from.is_none_or(|from| *entry.file_name() >= *from));
    all.sort_by_key(DirEntry::file_name);
    Ok(all)
}

fn entries(folder: &Path) -> PortResult<fs::ReadDir> {
    fs::read_dir(folder).map_err(fault("list", folder))
}
