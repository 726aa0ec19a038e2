//! A small file system, to be filled.

use std::{fs::File, io::Write as _, path::Path, process::Command};

/// A small file system in memory, gone when it is dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// # Panics
    /// Where this user may not mount: a full disk is then not tested, and that is said.
    pub(crate) fn mounted(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = mount.is_ok_and(|mount| mount.status.success());
        assert!(
            mounted,
            "this test mounts a small file system: run ./test as root, or leave it out with -E 'not test(disk)'"
        );
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A process that still runs keeps the mount until it ends.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "unmounted");
    }
}

/// Takes all room that is left.
pub(crate) fn fill(file: &Path) {
    let mut file = File::options().append(true).create(true).open(file).expect("a file");
    while file.write_all(&[0; 4096]).is_ok() {}
}
