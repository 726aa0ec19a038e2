//! Backup and restore as `docs/operations.md` tells it, on both databases, with content in files and in S3: all is lost but the
//! backup, and what it has is there again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use penstock::config::S3Client;
use tempfile::TempDir;

use crate::{
    cluster::program,
    node::{On, Paid, Setup, TestNode, sample},
    patience::eventually,
    s3::{BUCKETS, TestBuckets},
    still::nothing_held,
};

const SIZE: usize = 6 << 20;

/// Where the content is, and the backup of it.
enum Content {
    Files { root: TempDir, backup: TempDir },
    S3 { buckets: TestBuckets, backup: TestBuckets },
}

impl Content {
    fn in_files() -> Self {
        let [root, backup] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        Self::Files { root, backup }
    }

    fn in_s3() -> Self {
        let [buckets, backup] = [(); 2].map(|()| TestBuckets::new(S3Client::ObjectStore));
        Self::S3 { buckets, backup }
    }

    fn setup(&self, on: On) -> Setup {
        match self {
            Self::Files { root, .. } => Setup::new(on).env("DATA_ROOT", root.path().to_str().unwrap()),
            Self::S3 { buckets, .. } => Setup::new(on).envs(buckets.env()),
        }
    }

    async fn back_up(&self) {
        match self {
            Self::Files { root, backup } => copy_what_is_missing(root.path(), backup.path()),
            Self::S3 { buckets, backup } => buckets.copy_to(backup).await,
        }
    }

    async fn lose(&self) {
        match self {
            Self::Files { root, .. } => {
                for entry in fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()) {
                    if entry.is_dir() { fs::remove_dir_all(entry).unwrap() } else { fs::remove_file(entry).unwrap() }
                }
            }
            Self::S3 { buckets, .. } => {
                for bucket in BUCKETS {
                    for key in buckets.keys(bucket, "").await {
                        buckets.remove(bucket, &key).await;
                    }
                }
            }
        }
    }

    async fn restore(&self) {
        match self {
            Self::Files { root, backup } => copy_what_is_missing(backup.path(), root.path()),
            Self::S3 { buckets, backup } => backup.copy_to(buckets).await,
        }
    }
}

/// `rsync -a --ignore-existing`.
fn copy_what_is_missing(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_what_is_missing(&source, &target);
        } else if !target.exists() {
            fs::copy(source, target).unwrap();
        }
    }
}

async fn is_whole(node: &TestNode, paid: &Paid, seed: u64) -> bool {
    let answer = node.stream(paid).send().await.unwrap();
    answer.status() == 200 && answer.bytes().await.unwrap() == sample(seed, SIZE)
}

async fn succeeds(node: &TestNode, arguments: &[&str]) {
    let output = node.run(arguments).await;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

async fn all_is_lost_but_the_backup(on: On, content: Content) {
    let mut node = content.setup(on).env("PENSTOCK_LINEAGE__EMIT", "false").start().await;
    let kept = node.paid(&sample(1, SIZE), "unlimited").await;
    assert!(is_whole(&node, &kept, 1).await);
    nothing_held(&node).await;

    // While the node runs: the database first, the blobs after it.
    let copy: PathBuf = node.folder.path().join("copy");
    match &node.database {
        None => succeeds(&node, &["backup", copy.to_str().unwrap()]).await,
        Some(database) => database.dump(&program("pg_dump"), &copy),
    }
    content.back_up().await;
    let late = node.paid(&sample(2, SIZE), "unlimited").await;
    assert!(node.terminate().await.success());

    content.lose().await;
    fs::remove_dir_all(node.data_dir()).unwrap();
    match &node.database {
        None => succeeds(&node, &["restore", copy.to_str().unwrap()]).await,
        Some(database) => {
            database.restore(&program("pg_restore"), &copy).await;
            succeeds(&node, &["restore-done"]).await;
        }
    }
    content.restore().await;
    succeeds(&node, &["audit"]).await;
    succeeds(&node, &["check"]).await;

    node.boot().await;
    eventually("all is well", async || {
        let ready = node.get("/health/ready").send().await.unwrap();
        ready.json::<serde_json::Value>().await.unwrap()["status"] == "ok"
    })
    .await;
    assert!(is_whole(&node, &kept, 1).await);
    assert_eq!(node.stream(&late).send().await.unwrap().status(), 404, "it came after the backup");
    let again = node.paid(&sample(2, SIZE), "unlimited").await;
    assert!(is_whole(&node, &again, 2).await);
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_sqlite_and_files_brings_all_back() {
    all_is_lost_but_the_backup(On::Sqlite, Content::in_files()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_sqlite_and_s3_brings_all_back() {
    all_is_lost_but_the_backup(On::Sqlite, Content::in_s3()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_postgres_and_files_brings_all_back() {
    all_is_lost_but_the_backup(On::Postgres, Content::in_files()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_postgres_and_s3_brings_all_back() {
    all_is_lost_but_the_backup(On::Postgres, Content::in_s3()).await;
}
