//! The parts of resumable uploads: one file each, in a folder for each upload.
//!
//! A part is written in place, because no reader knows of it before its writer has made it durable.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    model::{PartName, StorageTier},
    ports::{Missing, PortError, PortResult, UploadParts},
};

use super::{
    FileBlobs,
    error::fault,
    layout::{Layout, sync_folder},
};

#[async_trait]
impl UploadParts for FileBlobs {
    async fn put_part(&self, part: PartName, bytes: Bytes) -> PortResult<()> {
        self.blocking_in(StorageTier::Hot, move |layout| put(layout, part, &bytes)).await
    }

    async fn read_part(&self, part: PartName) -> PortResult<Bytes> {
        let read = move |layout: &std::sync::Arc<Layout>| {
            let path = layout.part(part);
            match fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Err(PortError::NotFound(Missing::Blob)),
                read => read.map(Bytes::from).map_err(fault("read", &path)),
            }
        };
        self.blocking_in(StorageTier::Hot, read).await
    }

    async fn remove_part(&self, part: PartName) -> PortResult<()> {
        self.blocking_in(StorageTier::Hot, move |layout| remove(layout, part)).await
    }
}

fn put(layout: &Layout, part: PartName, bytes: &[u8]) -> PortResult<()> {
    let (folder, path) = (layout.parts_of(part.upload_id), layout.part(part));
    let create = || File::options().write(true).create_new(true).open(&path);
    layout.make_parts_of(part.upload_id)?;
    let mut file = match create() {
        // The last part of the upload was removed meanwhile, and its folder with it.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            layout.make_parts_of(part.upload_id)?;
            create()
        }
        created => created,
    }
    .map_err(fault("create", &path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault("write", &path))?;
    sync_folder(&folder)
}

/// Removes a part, and the folder of its upload if it was the last one.
fn remove(layout: &Layout, part: PartName) -> PortResult<()> {
    let path = layout.part(part);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(fault("remove", &path)(error)),
        _ => {}
    }
    let folder = layout.parts_of(part.upload_id);
    match fs::remove_dir(&folder) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(fault("remove the folder", &folder)(error))
        }
        _ => Ok(()),
    }
}
