//! The bytes to store: a file, or the input of a pipe.
//!
//! Their hash goes with the request, and a failed request is repeated, so the bytes are read at least twice. A file is
//! read in place. The input of a pipe can be read only once: it is first written to a temporary file without a name, in
//! the folder that `TMPDIR` names, which disappears with the process.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use penstock_actors::ids::ContentHash;
use sha2::{Digest, Sha256};

use super::super::{error::UnreadableFile, progress::Progress, silence::ProgressSignal};

/// Bytes read at a time: few enough system calls to keep up with a fast disk, small enough for a cache.
const PART_BYTES: usize = 256 * 1024;

/// Bytes that can be read repeatedly.
pub(super) struct UploadSource {
    file: Arc<File>,
    pub(super) size_bytes: u64,
    pub(super) digest: [u8; 32],
}

impl UploadSource {
    /// Opens and hashes the input on a blocking thread: hashing is CPU work.
    pub(super) async fn open(input: PathBuf) -> anyhow::Result<Self> {
        let shown = shown(&input);
        let measuring = tokio::task::spawn_blocking(move || read(&input));
        measuring.await.context("the hashing was stopped")?.with_context(|| format!("cannot read {shown}"))
    }

    pub(super) fn hash(&self) -> ContentHash {
        ContentHash::from_bytes(self.digest)
    }

    /// The bytes in parts, no more than were measured: if the file has grown, the rest is ignored; if it has shrunk,
    /// the stream ends with an error.
    pub(super) fn parts(
        &self,
        progress: Progress,
        moved: ProgressSignal,
    ) -> impl Stream<Item = io::Result<Bytes>> + use<> {
        let (file, size) = (Arc::clone(&self.file), self.size_bytes);
        stream::try_unfold(0, move |place| {
            let (file, progress, moved) = (Arc::clone(&file), progress.clone(), moved.clone());
            async move {
                moved.tell();
                let length = usize::try_from(size - place).map_or(PART_BYTES, |left| left.min(PART_BYTES));
                if length == 0 {
                    return Ok(None);
                }
                let reading = tokio::task::spawn_blocking(move || part_at(&file, place, length));
                let part = reading.await.map_err(io::Error::other)?.map_err(UnreadableFile::told)?;
                progress.advance(part.len());
                let next = place + part.len() as u64;
                Ok(Some((part, next)))
            }
        })
    }
}

fn shown(input: &Path) -> String {
    if is_standard_input(input) { "standard input".to_owned() } else { input.display().to_string() }
}

pub(super) fn is_standard_input(input: &Path) -> bool {
    input.as_os_str() == "-"
}

fn read(input: &Path) -> io::Result<UploadSource> {
    if is_standard_input(input) {
        return spool(io::stdin().lock());
    }
    let file = File::open(input)?;
    let standing = file.metadata()?;
    if standing.is_dir() {
        return Err(io::Error::other("it is a folder, not a file"));
    }
    if !standing.is_file() {
        return spool(file);
    }
    let progress = Progress::new("hashing", Some(standing.len()));
    let (size_bytes, digest) = measure(&file, &progress, |_| Ok(()))?;
    Ok(UploadSource { file: Arc::new(file), size_bytes, digest })
}

/// Stores the input of a pipe.
fn spool(from: impl Read) -> io::Result<UploadSource> {
    let in_folder = |error: io::Error| {
        let folder = std::env::temp_dir();
        io::Error::new(error.kind(), format!("cannot keep it in {}: {error}", folder.display()))
    };
    let mut kept = tempfile::tempfile().map_err(in_folder)?;
    let progress = Progress::new("reading", None);
    let (size_bytes, digest) = measure(from, &progress, |part| kept.write_all(part).map_err(in_folder))?;
    Ok(UploadSource { file: Arc::new(kept), size_bytes, digest })
}

/// Reads to the end; returns the length and the SHA-256.
fn measure(
    mut from: impl Read,
    progress: &Progress,
    mut keep: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<(u64, [u8; 32])> {
    let (mut hasher, mut size_bytes) = (Sha256::new(), 0);
    let mut part = vec![0; PART_BYTES];
    loop {
        let count = match from.read(&mut part) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&part[..count]);
        keep(&part[..count])?;
        size_bytes += count as u64;
        progress.advance(count);
    }
    progress.clear();
    Ok((size_bytes, hasher.finalize().into()))
}

fn part_at(file: &File, place: u64, length: usize) -> Result<Bytes, UnreadableFile> {
    let mut part = BytesMut::zeroed(length);
    file.read_exact_at(&mut part, place).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => UnreadableFile::Shorter,
        _ => UnreadableFile::System(error),
    })?;
    Ok(part.freeze())
}
