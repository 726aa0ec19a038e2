//! An open blob: an open file, which stays readable when its name is removed.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use penstock_actors::{
    ids::ContentHash,
    ports::{BlobSource, PortError, PortResult},
};
use tokio::runtime::Handle;

use super::error::{STORE, fault};

/// One open file, read by position: any number of streams may share it.
#[derive(Debug)]
pub(super) struct FileSource {
    file: Arc<File>,
    hash: ContentHash,
    io: Handle,
}

impl FileSource {
    pub(super) fn new(file: File, hash: ContentHash, io: Handle) -> Self {
        Self { file: Arc::new(file), hash, io }
    }
}

#[async_trait]
impl BlobSource for FileSource {
    async fn read_at(&self, offset: u64, len: usize) -> PortResult<Bytes> {
        let (file, hash) = (Arc::clone(&self.file), self.hash);
        let read = move || {
            let mut part = vec![0; len];
            match file.read_exact_at(&mut part, offset) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(PortError::Corrupt(format!(
                    "blob {hash} ends before byte {}",
                    offset.saturating_add(len as u64)
                ))),
                read => read.map(|()| part.into()).map_err(fault("read blob", Path::new(&hash.to_string()))),
            }
        };
        self.io.spawn_blocking(read).await.unwrap_or_else(|stopped| Err(PortError::unavailable(STORE, stopped)))
    }
}
