//! `FILE.HASH.part`: the bytes of a content that have arrived so far, beside the final name.
//!
//! The part's name contains the first digits of the content's hash, so that bytes of another content under the same
//! name are not taken for this one's beginning. The part is locked while a download writes to it, so that two cannot
//! mix their bytes. It gets its final name only when it is on the disk (fsync, rename, fsync of the folder), so FILE is
//! never incomplete.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions, TryLockError},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use penstock_actors::ids::ContentHash;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::{super::progress::Progress, target};
use crate::folders;

/// Bytes gathered before they are written. Parts of an answer arrive in a few KiB; a write for each would be mostly
/// system calls.
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// Bytes read at a time while the part of an earlier run is hashed.
const READ_BYTES: usize = 256 * 1024;

/// Digits of the content's hash in the name of its part: no two contents in a folder share so many.
const HASH_DIGITS: usize = 16;

/// The mode of the part: its owner reads and writes it, whatever the mode of the file that it replaces.
const OWNER_MODE: u32 = 0o600;

/// A file under construction.
pub(super) struct PartFile {
    target: PathBuf,
    path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    hasher: Sha256,
    len: u64,
}

impl PartFile {
    /// Opens the part of a content beside `target` and hashes the bytes of an earlier run.
    pub(super) async fn open(target: &Path, content: ContentHash) -> anyhow::Result<Self> {
        let names = part_names(target, content);
        let mode = target::standing(target).map(|standing| standing.permissions().mode());
        let opening = move || -> anyhow::Result<_> {
            let (mut file, path) = open(names)?;
            lock(&file, &path)?;
            // If others may not read the file that is replaced, they must not read the part either.
            if let Some(mode) = mode {
                let narrowed = file.set_permissions(Permissions::from_mode(mode | OWNER_MODE));
                narrowed.with_context(|| format!("cannot set the mode of {}", path.display()))?;
            }
            let (mut hasher, mut len) = (Sha256::new(), 0);
            hash_all(&mut file, &mut hasher, &mut len).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((file, path, hasher, len))
        };
        let (file, path, hasher, len) =
            tokio::task::spawn_blocking(opening).await.context("the reading of the part was stopped")??;
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
        // Seeking flushes the buffer first, so no old bytes are written after the cut.
        self.file.rewind().await.with_context(|| self.cannot("rewind"))?;
        self.file.get_ref().set_len(0).await.with_context(|| self.cannot("empty"))?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Gives the bytes their final name.
    pub(super) async fn keep(mut self) -> anyhow::Result<()> {
        self.flush().await?;
        self.file.get_ref().sync_all().await.with_context(|| self.cannot("write"))?;
        let Self { path, target, .. } = self;
        let shown = target.clone();
        let naming = move || {
            if let Some(standing) = target::standing(&target) {
                fs::set_permissions(&path, standing.permissions())?;
            }
            fs::rename(&path, &target)?;
            folders::sync(folders::of(&target))
        };
        tokio::task::spawn_blocking(naming)
            .await
            .context("the naming was stopped")?
            .with_context(|| cannot_write(&shown))
    }

    /// Deletes the bytes.
    pub(super) async fn discard(self) -> anyhow::Result<()> {
        tokio::fs::remove_file(&self.path).await.with_context(|| self.cannot("delete"))
    }

    fn cannot(&self, what: &str) -> String {
        format!("cannot {what} {}", self.path.display())
    }
}

/// Whether a file is the content already.
pub(super) async fn is_content(path: &Path, content: ContentHash) -> anyhow::Result<bool> {
    if target::standing(path).is_none() {
        return Ok(false);
    }
    let path = path.to_owned();
    let reading = move || {
        let mut hasher = Sha256::new();
        let read = File::open(path).and_then(|mut file| hash_all(&mut file, &mut hasher, &mut 0));
        // A file that cannot be read is replaced like any other.
        read.is_ok() && <[u8; 32]>::from(hasher.finalize()) == *content.as_bytes()
    };
    tokio::task::spawn_blocking(reading).await.context("the reading of the file was stopped")
}

/// The possible names of the part: after its target, or shorter if the file system does not accept a name of that
/// length.
fn part_names(target: &Path, content: ContentHash) -> [PathBuf; 2] {
    let digits = &content.to_string()[..HASH_DIGITS];
    let mut name = OsString::from(target);
    name.push(format!(".{digits}.part"));
    [name.into(), folders::of(target).join(format!("penstock-{digits}.part"))]
}

/// Opens the part under the first name that the file system accepts, and creates it if it does not exist.
fn open([name, short]: [PathBuf; 2]) -> anyhow::Result<(File, PathBuf)> {
    match open_regular(&name) {
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
            open_regular(&short).map(|file| (file, short.clone())).with_context(|| cannot_write(&short))
        }
        opened => opened.map(|file| (file, name.clone())).with_context(|| cannot_write(&name)),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// A link, a pipe or a device with this name is not a part of this program.
fn open_regular(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(standing) if !standing.is_file() => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn lock(file: &File, path: &Path) -> anyhow::Result<()> {
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another download is writing {}", path.display()),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    // Between the opening and the lock, another download may have ended and given this file its final name.
    let ours = file.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    let there = fs::symlink_metadata(path);
    if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
        Ok(())
    } else {
        bail!("another download has just finished with {}", path.display())
    }
}

/// Reads the file to its end and leaves the position there.
fn hash_all(file: &mut File, hasher: &mut Sha256, len: &mut u64) -> io::Result<()> {
    let total = file.metadata()?.len();
    let progress = Progress::new("checking the existing part", Some(total));
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

    const CONTENT: ContentHash = ContentHash::from_bytes([0xab; 32]);

    async fn part_of(target: &Path) -> PartFile {
        PartFile::open(target, CONTENT).await.unwrap()
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_is_counted_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("film.mp4");
        let mut part = part_of(&target).await;
        part.write(b"first, ").await.unwrap();
        part.flush().await.unwrap();
        drop(part);

        let mut part = part_of(&target).await;
        assert_eq!(part.len(), 7);
        part.write(b"second").await.unwrap();
        assert_eq!(part.digest(), <[u8; 32]>::from(Sha256::digest(b"first, second")));
        part.keep().await.unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first, second");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the part has become the file");
    }

    #[tokio::test]
    async fn a_restart_forgets_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let mut part = part_of(&target).await;
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
        let _first = part_of(&target).await;
        let second = PartFile::open(&target, CONTENT).await.err().unwrap();
        assert!(second.to_string().starts_with("another download is writing"), "{second}");
    }

    #[tokio::test]
    async fn two_contents_under_one_name_have_a_part_each() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        let mut one = part_of(&target).await;
        one.write(b"of one").await.unwrap();
        one.flush().await.unwrap();
        let other = PartFile::open(&target, ContentHash::from_bytes([0xcd; 32])).await.unwrap();
        assert_eq!(other.len(), 0);
    }

    #[tokio::test]
    async fn the_longest_name_of_a_file_has_a_part_too() {
        let folder = tempfile::tempdir().unwrap();
        // 255 bytes, the limit of most file systems.
        let target = folder.path().join(format!("{}.mp4", "ä".repeat(125)) + "x");
        for expected in [0, 5] {
            let mut part = part_of(&target).await;
            assert_eq!(part.len(), expected, "it is found again");
            if expected > 0 {
                part.keep().await.unwrap();
                break;
            }
            part.write(b"bytes").await.unwrap();
            part.flush().await.unwrap();
        }
        assert_eq!(fs::read(&target).unwrap(), b"bytes");
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_gives_its_mode_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        fs::write(&target, "secret").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let part = part_of(&target).await;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&part.path), 0o640, "nor is it for others to read before");
        part.keep().await.unwrap();
        assert_eq!(mode(&target), 0o640);
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_a_part_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, other) = (folder.path().join("file"), folder.path().join("other"));
        fs::write(&other, "of somebody").unwrap();
        std::os::unix::fs::symlink(&other, &part_names(&target, CONTENT)[0]).unwrap();
        let refused = PartFile::open(&target, CONTENT).await.err().unwrap();
        assert!(format!("{refused:#}").ends_with("it is not a regular file"), "{refused:#}");
        assert_eq!(fs::read(&other).unwrap(), b"of somebody");
    }
}
