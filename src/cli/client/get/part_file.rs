//! `FILE.part`: the bytes of a content that are there so far, beside the name that they will get.
//!
//! The part is locked while a download writes to it, so that two cannot mix their bytes. It gets its name only when it is on
//! the disk (fsync, rename, fsync of the folder), so FILE is never a beginning of something.

use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::super::progress::Progress;

/// Bytes gathered before they are written. Parts of an answer come in a few KiB; a write each would be mostly system call.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// Bytes read at a time while the part of an earlier run is hashed.
const READ_BYTES: usize = 256 * 1024;

/// A file in the making.
pub(super) struct PartFile {
    target: PathBuf,
    path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    hasher: Sha256,
    len: u64,
}

impl PartFile {
    /// Opens the part beside `target` and hashes what an earlier run has left in it.
    pub(super) async fn open(target: &Path) -> anyhow::Result<Self> {
        if target.is_dir() {
            bail!("{} is a folder, not a file", target.display());
        }
        let path = part_path(target);
        let opening = path.clone();
        let (file, hasher, len) = tokio::task::spawn_blocking(move || open_and_hash(&opening))
            .await
            .context("the reading of the part was stopped")??;
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, tokio::fs::File::from_std(file));
        Ok(Self { target: target.into(), path, file, hasher, len })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).await.with_context(|| self.cannot("write"))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        self.file.flush().await.with_context(|| self.cannot("write"))
    }

    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        // Seeking flushes the buffer first, so nothing old is written behind the cut.
        self.file.rewind().await.with_context(|| self.cannot("rewind"))?;
        self.file.get_ref().set_len(0).await.with_context(|| self.cannot("empty"))?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Gives the bytes their name, for good.
    pub(super) async fn keep(mut self) -> anyhow::Result<()> {
        self.flush().await?;
        self.file.get_ref().sync_all().await.with_context(|| self.cannot("write"))?;
        let Self { path, target, .. } = self;
        let naming = move || {
            fs::rename(&path, &target)?;
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        tokio::task::spawn_blocking(naming).await.context("the naming was stopped")?.context("cannot name the file")
    }

    /// Removes the bytes.
    pub(super) async fn discard(self) -> anyhow::Result<()> {
        tokio::fs::remove_file(&self.path).await.with_context(|| self.cannot("delete"))
    }

    fn cannot(&self, what: &str) -> String {
        format!("cannot {what} {}", self.path.display())
    }
}

fn part_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(target);
    name.push(".part");
    name.into()
}

fn open_and_hash(path: &Path) -> anyhow::Result<(File, Sha256, u64)> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    lock(&file, path)?;
    let (mut hasher, mut len) = (Sha256::new(), 0);
    hash_all(&mut file, &mut hasher, &mut len).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((file, hasher, len))
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another download is writing {}", path.display()),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    // Between the opening and the lock, a download that ended may have given this very file its name.
    let (ours, there) = (file.metadata()?, fs::metadata(path));
    if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        Ok(())
    } else {
        bail!("another download has just finished with {}", path.display())
    }
}

/// Reads the file to its end, which leaves its position there.
fn hash_all(file: &mut File, hasher: &mut Sha256, len: &mut u64) -> io::Result<()> {
    let total = file.metadata()?.len();
    let progress = Progress::new("checking what is there", Some(total));
    let mut part = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut part)?;
        if count == 0 {
            break;
        }
        hasher.update(&part[..count]);
        *len += count as u64;
        progress.advance(count);
    }
    progress.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_an_earlier_run_left_is_counted_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("film.mp4");
        let mut part = PartFile::open(&target).await.unwrap();
        part.write(b"first, ").await.unwrap();
        part.flush().await.unwrap();
        drop(part);

        let mut part = PartFile::open(&target).await.unwrap();
        assert_eq!(part.len(), 7);
        part.write(b"second").await.unwrap();
        assert_eq!(part.digest(), <[u8; 32]>::from(Sha256::digest(b"first, second")));
        part.keep().await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first, second");
        assert!(!part_path(&target).exists());
    }

    #[tokio::test]
    async fn a_restart_forgets_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let mut part = PartFile::open(&target).await.unwrap();
        part.write(b"a long beginning of something else").await.unwrap();
        part.restart().await.unwrap();
        part.write(b"this").await.unwrap();
        assert_eq!(part.len(), 4);
        part.keep().await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"this");
    }

    #[tokio::test]
    async fn two_downloads_never_write_one_part() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let _first = PartFile::open(&target).await.unwrap();
        let second = PartFile::open(&target).await.err().unwrap();
        assert!(second.to_string().starts_with("another download is writing"), "{second}");
    }
}
