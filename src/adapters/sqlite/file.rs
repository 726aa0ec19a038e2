//! The identity of the database file: whether it is still the one that was opened, and whether it is a copy.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// Some tens of pages: more than a small commit adds to the log.
const ROOM: usize = 256 << 10;

/// An open database file. Its name may come to refer to another file, after a restore under a running node, say. Writes
/// then go to a file without a name, and are lost.
#[derive(Debug)]
pub struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// # Errors
    /// When there is no such file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: file.dev(), inode: file.ino() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Proves that the database's disk has room, by a file beside it that is removed at once. A write of one page may succeed on a
    /// full disk, in a part of the log that is used again, where the pages of real work do not.
    pub(super) fn prove_room(&self) -> io::Result<()> {
        let probe = self.path.with_extension("room");
        let written = fs::write(&probe, vec![0; ROOM]);
        let removed = fs::remove_file(&probe);
        written.and(removed)
    }

    /// Whether the name refers to another file, or to none. A file that cannot be inspected does not count as replaced.
    pub fn is_replaced(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(file) => (file.dev(), file.ino()) != (self.device, self.inode),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// Distinguishes a file from its copies while it stays on its file system: its inode number and, where the file system
/// records it, its creation time, because inode numbers are reused.
pub(super) fn home(path: &Path) -> io::Result<String> {
    let file = fs::metadata(path)?;
    let made = file.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_nanos());
    Ok(format!("{}:{made}", file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_or_removed_file_is_noticed_and_a_written_one_is_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, copy) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&path, "one").expect("written");
        let (file, at_home) = (DatabaseFile::of(&path).expect("a file"), home(&path).expect("a file"));
        // Held open, as a database is, so that its inode number is not reused.
        let _open = fs::File::open(&path).expect("open");
        fs::write(&path, "other").expect("written");
        assert!(!file.is_replaced());
        assert_eq!(home(&path).expect("a file"), at_home);
        fs::copy(&path, &copy).expect("copied");
        assert_ne!(home(&copy).expect("a file"), at_home);
        fs::rename(&copy, &path).expect("replaced");
        assert!(file.is_replaced());
        fs::remove_file(&path).expect("removed");
        assert!(file.is_replaced());
    }
}
