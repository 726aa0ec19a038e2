//! A disk that has no room left.

use std::{path::Path, process::Command};

use reqwest::Method;

use crate::node::{On, Setup, expect_problem, sample};

/// A small file system in memory, gone when it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// # Panics
    /// Where this user may not mount: a full disk is then not tested, and that is said.
    fn mounted(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output();
        let mounted = mount.is_ok_and(|mount| mount.status.success());
        assert!(
            mounted,
            "this test mounts a small file system: run ./test as root, or leave it out with -E 'not test(a_full_disk_refuses)'"
        );
        Self(folder)
    }

    fn path(&self) -> &Path {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_the_upload_and_the_node_goes_on() {
    let disk = SmallDisk::mounted("8m");
    let root = disk.path().to_str().expect("a path");
    let mut node = Setup::new(On::Sqlite).env("DATA_ROOT", root).start().await;
    let small = sample(20, 2_000_000);
    let paid = node.paid(&small, "unlimited").await;
    let blobs = files_below(disk.path());

    for seed in 21..24 {
        let upload = node.admin(Method::POST, "/v1/content").body(sample(seed, 12_000_000));
        expect_problem(upload.send().await.unwrap(), 507, "storage-full").await;
        node.metric_becomes("penstock_uploads_active", "", 0.0).await;
        assert_eq!(files_below(disk.path()), blobs, "nothing of it is left");
    }

    // What is there is served, and what fits is taken.
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), small);
    let other = sample(25, 2_000_000);
    let paid = node.paid(&other, "unlimited").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), other);
    node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
    node.finish().await;
}

/// Files that hold something: locks are empty and stay.
fn files_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let counts = entries.map(|path| {
        let holds = path.metadata().is_ok_and(|data| data.len() > 0);
        if path.is_dir() { files_below(&path) } else { usize::from(holds) }
    });
    counts.sum()
}
