//! The data folder: the data of this instance alone, and the lock that guarantees that.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use penstock_actors::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::words;

/// One folder on one machine, until the machine restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderPlace {
    boot: String,
    device: u64,
    inode: u64,
}

impl fmt::Display for FolderPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.boot, self.device, self.inode)
    }
}

/// An instance's data folder, held by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node: NodeId,
    /// The lock ends with the process, however the process ends.
    lock: File,
}

impl DataDir {
    /// Creates the folder if it is missing, and locks it for this process. Two instances in one folder would have the
    /// same name in the ledger, and use each other's leases.
    ///
    /// # Errors
    /// When the folder cannot be created or read, or when another process has locked it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot write to the data folder {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another penstock uses the data folder {}; give this one its own with --data-dir", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        let node = node_id(&path.join("node-id"))?;
        Ok(Self { path: path.to_owned(), node, lock })
    }

    /// Distinguishes this folder on this machine, since the machine's last start, from every copy of it: only this
    /// process can hold its lock. `None` if the system does not provide the information.
    pub fn place(&self) -> Option<FolderPlace> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let lock = self.lock.metadata().ok()?;
        Some(FolderPlace { boot: boot.trim().to_owned(), device: lock.dev(), inode: lock.ino() })
    }

    /// Gives this instance a new name in the ledger; the file with the old name stays beside it.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn rename_node(&mut self) -> anyhow::Result<()> {
        let (path, last) = (self.path.join("node-id"), self.path.join("node-id.last"));
        fs::rename(&path, &last).with_context(|| format!("cannot rename {}", path.display()))?;
        self.node = node_id(&path)?;
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of this instance in the ledger, the same for as long as the folder exists.
    pub const fn node(&self) -> NodeId {
        self.node
    }
}

fn node_id(path: &Path) -> anyhow::Result<NodeId> {
    match words::text_of(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} does not hold a node id", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let node = NodeId::random();
            let write = || {
                let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
                writeln!(file, "{node}")?;
                file.sync_all()
            };
            write().with_context(|| format!("cannot write {}", path.display()))?;
            Ok(node)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_process_and_one_name() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("data");
        let first = DataDir::take(&path).expect("free");
        let node = first.node();
        let taken = DataDir::take(&path).expect_err("taken").to_string();
        assert!(taken.contains("another penstock"), "{taken}");
        drop(first);
        assert_eq!(DataDir::take(&path).expect("free again").node(), node);
    }

    #[test]
    fn a_copy_of_a_folder_is_another_place_and_a_new_name_is_kept() {
        let parent = tempfile::tempdir().expect("a folder");
        let path = parent.path().join("data");
        let first = DataDir::take(&path).expect("free");
        let (node, place) = (first.node(), first.place());
        assert!(place.is_some(), "Linux says it");
        drop(first);
        let mut again = DataDir::take(&path).expect("free again");
        assert_eq!(again.place(), place);
        again.rename_node().expect("a new name");
        let renamed = again.node();
        assert_ne!(renamed, node);
        drop(again);
        assert_eq!(DataDir::take(&path).expect("free again").node(), renamed);
        let copy = parent.path().join("copy");
        fs::create_dir(&copy).expect("a folder");
        for file in ["lock", "node-id"] {
            fs::copy(path.join(file), copy.join(file)).expect("copied");
        }
        let copy = DataDir::take(&copy).expect("free");
        assert_eq!(copy.node(), renamed);
        assert_ne!(copy.place(), place);
    }
}
