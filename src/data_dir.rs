//! The data folder: what belongs to this instance alone, and the lock that keeps it so.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use penstock_actors::ids::NodeId;

/// An instance's data folder, held by this process.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    node: NodeId,
    /// The lock ends with the process, however it ends.
    _lock: File,
}

impl DataDir {
    /// Makes the folder if it is missing, and takes it for this process. Two instances in one folder would share a name in
    /// the ledger, and take each other's leases.
    ///
    /// # Errors
    /// When it cannot be made or read, or when another process has it.
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
                bail!("another penstock has the data folder {}; give this one its own with --data-dir", path.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        let node = node_id(&path.join("node-id"))?;
        Ok(Self { path: path.to_owned(), node, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of this instance in the ledger, the same for as long as the folder lives.
    pub const fn node(&self) -> NodeId {
        self.node
    }
}

fn node_id(path: &Path) -> anyhow::Result<NodeId> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().with_context(|| format!("{} does not hold a node id", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let node = NodeId::random();
            let mut file = File::options().create_new(true).write(true).mode(0o600).open(path)?;
            writeln!(file, "{node}")?;
            file.sync_all()?;
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
}
