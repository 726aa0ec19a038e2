//! The mark of each root, which names the installation that owns the store. It is read before any folder is created, so
//! that the empty mount point of a disk that is not mounted stays empty.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use penstock_actors::{
    ids::{ContentHash, InstallationId, StoreId},
    model::StorageTier,
    ports::{Mark, PortError, PortResult, StoreMarks},
};

use super::{
    FileBlobs,
    error::{STORE, fault},
    folder,
    layout::{Layout, sync_folder},
    probe,
    temporary::Temporary,
};
use crate::adapters::store_mark;

#[async_trait]
impl StoreMarks for FileBlobs {
    fn place(&self, tier: StorageTier) -> String {
        let root = self.tiers.iter().find(|root| root.tier == tier);
        root.map(|root| root.layout.root().display().to_string()).unwrap_or_default()
    }

    async fn mark(&self, tier: StorageTier) -> PortResult<Mark> {
        self.blocking_in(tier, |layout| mark(layout)).await
    }

    /// A random id: folders on two machines may have the same path, and are different stores.
    fn identify(&self, _: StorageTier, _: InstallationId) -> StoreId {
        StoreId::random()
    }

    async fn set_mark(&self, tier: StorageTier, of: InstallationId, store: StoreId, replace: bool) -> PortResult<()> {
        self.blocking_in(tier, move |layout| {
            let root = layout.root();
            fs::create_dir_all(root).map_err(fault("create the folder", root))?;
            prepare(layout)?;
            let _held = layout.lock_mark()?;
            if !replace && !matches!(read(layout)?, None | Some(Mark::None { .. })) {
                return Ok(());
            }
            let (temporary, mut file) = Temporary::create(layout.temporary())?;
            let written = file.write_all(store_mark::encode(of, store).as_bytes()).and_then(|()| file.sync_all());
            written.map_err(fault("write", temporary.path()))?;
            temporary.put(&layout.mark())?;
            sync_folder(root)
        })
        .await
    }

    async fn prepare(&self, tier: StorageTier) -> PortResult<()> {
        self.blocking_in(tier, |layout| prepare(layout)).await
    }

    async fn sample(&self, tier: StorageTier, after: ContentHash, limit: usize) -> PortResult<Vec<ContentHash>> {
        self.blocking_in(tier, move |layout| {
            let listed = folder::list(layout, Some(after), Duration::ZERO, limit)?;
            Ok(listed.into_iter().map(|listed| listed.hash).collect())
        })
        .await
    }
}

/// Creates missing folders below an existing root, and checks that they are writable.
fn prepare(layout: &Layout) -> PortResult<()> {
    for folder in layout.folders() {
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(fault("create the folder", &folder))?,
        }
    }
    probe(layout)
}

fn mark(layout: &Layout) -> PortResult<Mark> {
    if let Some(mark) = read(layout)? {
        return Ok(mark);
    }
    let kept = [layout.blobs_folder(), layout.retired_folder(), layout.trash_folder()];
    for folder in kept {
        if holds_a_file(&folder).map_err(fault("look into", &folder))? {
            return Ok(Mark::None { is_empty: false });
        }
    }
    Ok(Mark::None { is_empty: true })
}

/// The content of the mark's file, if it exists.
fn read(layout: &Layout) -> PortResult<Option<Mark>> {
    let path = layout.mark();
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(store_mark::LARGEST as u64).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(Some(store_mark::decode(&text))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(PortError::unavailable(STORE, format!("{} is not a folder", layout.root().display())))
        }
        Err(error) => Err(fault("read", &path)(error)),
    }
}

/// Whether a folder, or a folder below it, holds a file. A missing folder holds none.
fn holds_a_file(folder: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || holds_a_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}
