//! The file store: its port's suite, and what only files can get wrong.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use penstock::adapters::{
    files::{FileBlobs, FilesSettings},
    in_process::InProcessState,
};
use penstock_actors::{
    ids::{InstallationId, StoreId},
    model::StorageTier,
    ports::{BlobCopies as _, BlobStore as _, BlobTrash as _, Mark, PortError, StoreMarks as _, Sweep},
    storage::store_guard::{StandingKind, StoreGuard},
    testkit::{
        blob_store_suite::{self, Sample},
        clock::ManualClock,
        memory_index::MemoryIndex,
        memory_installations::MemoryInstallations,
        shared_state_suite,
    },
};
use tempfile::TempDir;
use tokio::runtime::Handle;

const HOUR: Duration = Duration::from_secs(3600);

/// A store in a folder of its own, and a look behind it.
struct Store {
    root: TempDir,
    blobs: FileBlobs,
}

impl Store {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let blobs = open(root.path());
        Self { root, blobs }
    }

    fn blob(&self, sample: &Sample) -> PathBuf {
        let name = sample.hash.to_string();
        self.root.path().join("blobs").join(&name[..2]).join(&name[2..4]).join(&name)
    }

    fn leaves(&self, sample: &Sample) -> PathBuf {
        self.blob(sample).with_extension("leaves")
    }

    /// A file in `tmp/` as a kill leaves it, last written to so long ago.
    fn temporary(&self, name: &str, bytes: &[u8], age: Duration) -> PathBuf {
        let path = self.root.path().join("tmp").join(name);
        fs::write(&path, bytes).unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        path
    }

    fn temporaries(&self) -> usize {
        fs::read_dir(self.root.path().join("tmp")).unwrap().count()
    }

    async fn stored(&self, size: usize) -> Sample {
        let sample = Sample::of(size);
        sample.store(&self.blobs).await.unwrap();
        sample
    }

    async fn is_not_found(&self, sample: &Sample) -> bool {
        let listed = self.blobs.list(None, Duration::ZERO, usize::MAX).await.unwrap();
        matches!(self.blobs.open(sample.hash).await, Err(PortError::NotFound(_)))
            && !self.blobs.exists(sample.hash).await.unwrap()
            && listed.iter().all(|listed| listed.hash != sample.hash)
    }

    async fn corruption(&self, sample: &Sample) -> String {
        match self.blobs.open(sample.hash).await {
            Err(PortError::Corrupt(what)) => what,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was opened"),
        }
    }

    async fn sweep(&self, min_age: Duration, limit: usize, dry_run: bool) -> Sweep {
        self.blobs.sweep(min_age, limit, dry_run).await.unwrap()
    }
}

/// A store in a folder, as one that was prepared.
fn open(root: &Path) -> FileBlobs {
    for folder in ["blobs", "tmp", "retired", "trash", "locks"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    unprepared(root)
}

fn unprepared(root: &Path) -> FileBlobs {
    FileBlobs::new(FilesSettings { root: root.to_path_buf(), warm: None, cold: None }, Handle::current())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_keep_the_promises_of_a_blob_store() {
    let store = Store::new();
    blob_store_suite::run(&store.blobs).await;
    assert_eq!(store.temporaries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_three_tiers_keep_the_promises_of_a_blob_store() {
    let roots = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [root, warm, cold] = [0, 1, 2].map(|at| roots[at].path().to_path_buf());
    let settings = FilesSettings { root, warm: Some(warm), cold: Some(cold) };
    let blobs = FileBlobs::new(settings, Handle::current());
    for tier in blobs.tiers() {
        blobs.prepare(tier).await.unwrap();
    }
    blob_store_suite::run(&blobs).await;
    for root in roots {
        assert_eq!(fs::read_dir(root.path().join("tmp")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn in_process_state_keeps_the_promises_of_shared_state() {
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z"));
    let state = Arc::new(InProcessState::new(clock.clone()).bounded_to(100));
    shared_state_suite::run(state, async |by| clock.advance(by)).await;
}

#[tokio::test]
async fn a_blob_is_a_plain_file_and_survives_a_restart() {
    let store = Store::new();
    let sample = store.stored(3_000_000).await;
    assert_eq!(fs::read(store.blob(&sample)).unwrap(), sample.bytes);
    let reopened = open(store.root.path());
    let blob = reopened.open(sample.hash).await.unwrap();
    assert_eq!(*blob.leaves, *sample.leaves);
}

#[tokio::test]
async fn a_kill_during_the_upload_leaves_nothing_visible_and_the_sweep_removes_it() {
    let store = Store::new();
    let sample = Sample::of(1000);
    store.temporary("upload", &sample.bytes[..600], 2 * HOUR);
    store.temporary("upload.leaves", b"half a li", 2 * HOUR);
    assert!(store.is_not_found(&sample).await);
    assert_eq!(store.sweep(HOUR, usize::MAX, false).await, Sweep { files: 2, bytes: 609, refused: 0 });
    assert_eq!(store.temporaries(), 0);
}

#[tokio::test]
async fn a_kill_between_list_and_blob_leaves_nothing_visible_and_a_sweep_removes_both() {
    let store = Store::new();
    let sample = store.stored(1000).await;
    // The state just before the blob's rename: its file is still in tmp/, under the name that says what it was to become.
    fs::remove_file(store.blob(&sample)).unwrap();
    store.temporary(&format!("upload.{}", sample.hash), &sample.bytes, 2 * HOUR);
    assert!(store.is_not_found(&sample).await);
    assert_eq!(store.sweep(HOUR, usize::MAX, false).await, Sweep { files: 1, bytes: 1000, refused: 0 });
    assert!(!store.leaves(&sample).exists());
    assert_eq!(store.temporaries(), 0);
}

#[tokio::test]
async fn a_commit_that_was_killed_takes_no_list_from_a_blob_that_came_since() {
    let store = Store::new();
    let sample = store.stored(1000).await;
    store.temporary(&format!("upload.{}", sample.hash), &sample.bytes, 2 * HOUR);
    store.sweep(HOUR, usize::MAX, false).await;
    assert!(store.blobs.open(sample.hash).await.is_ok());
    assert!(store.blobs.retire(sample.hash).await.unwrap());
    store.temporary(&format!("upload.{}", sample.hash), &sample.bytes, 2 * HOUR);
    store.sweep(HOUR, usize::MAX, false).await;
    store.blobs.restore(sample.hash).await.unwrap();
    assert!(store.blobs.open(sample.hash).await.is_ok());
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing() {
    let store = Store::new();
    let sample = Sample::of(1000);
    // What no rename of a file can replace.
    fs::create_dir_all(store.leaves(&sample)).unwrap();
    assert!(matches!(sample.store(&store.blobs).await, Err(PortError::Unavailable { .. })));
    assert!(store.is_not_found(&sample).await);
    assert_eq!(store.temporaries(), 0);
    fs::remove_dir(store.leaves(&sample)).unwrap();
    sample.store(&store.blobs).await.unwrap();
}

#[tokio::test]
async fn a_sweep_undoes_an_unfinished_retirement() {
    let store = Store::new();
    let sample = store.stored(1000).await;
    assert!(store.blobs.retire(sample.hash).await.unwrap());
    store.sweep(HOUR, usize::MAX, false).await;
    store.sweep(Duration::ZERO, usize::MAX, true).await;
    assert!(store.is_not_found(&sample).await, "neither a young retirement nor a dry run changes anything");
    store.sweep(Duration::ZERO, usize::MAX, false).await;
    assert!(store.blobs.open(sample.hash).await.is_ok());
}

#[tokio::test]
async fn a_sweep_honours_age_limit_and_dry_run() {
    let store = Store::new();
    for number in 0..3 {
        store.temporary(&format!("old-{number}"), b"12345", 2 * HOUR);
    }
    let young = store.temporary("young", b"123", HOUR / 2);
    assert_eq!(store.sweep(HOUR, usize::MAX, true).await, Sweep { files: 3, bytes: 15, refused: 0 });
    assert_eq!(store.temporaries(), 4);
    assert_eq!(store.sweep(HOUR, 2, false).await, Sweep { files: 2, bytes: 10, refused: 0 });
    assert_eq!(store.sweep(HOUR, 2, false).await, Sweep { files: 1, bytes: 5, refused: 0 });
    assert_eq!(store.sweep(HOUR, 2, false).await, Sweep::default());
    assert!(young.exists());
}

#[tokio::test]
async fn a_truncated_or_lengthened_blob_is_corrupt() {
    let store = Store::new();
    let sample = store.stored(1000).await;
    let open_before = store.blobs.open(sample.hash).await.unwrap();
    let file = File::options().append(true).open(store.blob(&sample)).unwrap();
    file.set_len(999).unwrap();
    assert!(store.corruption(&sample).await.ends_with("has 999 bytes of 1000"));
    assert!(matches!(open_before.source.read_at(0, 1000).await, Err(PortError::Corrupt(_))));
    assert_eq!(open_before.source.read_at(0, 999).await.unwrap(), sample.bytes[..999]);
    file.set_len(1001).unwrap();
    assert!(store.corruption(&sample).await.ends_with("has 1001 bytes of 1000"));
}

#[tokio::test]
async fn a_rotten_truncated_foreign_or_lost_leaf_list_is_corrupt() {
    let store = Store::new();
    let (sample, other) = (store.stored(2_000_000).await, store.stored(2_000_000).await);
    let list = fs::read(store.leaves(&sample)).unwrap();
    let mut rotten = list.clone();
    rotten[60] ^= 1;
    fs::write(store.leaves(&sample), rotten).unwrap();
    assert!(store.corruption(&sample).await.ends_with("does not match its checksum"));
    fs::write(store.leaves(&sample), &list[..20]).unwrap();
    assert!(store.corruption(&sample).await.ends_with("is truncated"));
    fs::copy(store.leaves(&other), store.leaves(&sample)).unwrap();
    assert!(store.corruption(&sample).await.ends_with("is of other content"));
    fs::remove_file(store.leaves(&sample)).unwrap();
    assert!(store.corruption(&sample).await.ends_with("has no leaf list"));
}

#[tokio::test]
async fn uploading_damaged_content_again_heals_it() {
    let store = Store::new();
    let sample = store.stored(1000).await;
    fs::write(store.blob(&sample), b"rot").unwrap();
    fs::write(store.leaves(&sample), b"rot").unwrap();
    sample.store(&store.blobs).await.unwrap();
    let blob = store.blobs.open(sample.hash).await.unwrap();
    assert_eq!(blob.source.read_at(0, 1000).await.unwrap(), sample.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_purges_of_one_content_never_leave_a_blob_without_its_list() {
    let store = Store::new();
    let sample = Arc::new(Sample::of(1000));
    // A second instance on the same root: the order must hold across processes, not only across threads.
    let instances = [store.blobs.clone(), open(store.root.path())];
    let mut tasks = tokio::task::JoinSet::new();
    for blobs in instances.clone() {
        let sample = Arc::clone(&sample);
        tasks.spawn(async move {
            for _ in 0..50 {
                sample.store(&blobs).await.unwrap();
                blobs.retire(sample.hash).await.unwrap();
                blobs.discard(sample.hash).await.unwrap();
                blobs.purge(sample.hash).await.unwrap();
            }
        });
    }
    for blobs in instances {
        let sample = Arc::clone(&sample);
        tasks.spawn(async move {
            for _ in 0..500 {
                match blobs.open(sample.hash).await {
                    Ok(blob) => assert_eq!(blob.source.read_at(0, 1000).await.unwrap(), sample.bytes),
                    Err(error) => assert!(matches!(error, PortError::NotFound(_)), "{error}"),
                }
            }
        });
    }
    tasks.join_all().await;
    assert!(store.is_not_found(&sample).await);
    assert_eq!(store.temporaries(), 0);
}

#[tokio::test]
async fn files_that_are_not_blobs_are_not_listed() {
    let store = Store::new();
    let sample = store.stored(10).await;
    fs::write(store.blob(&sample).with_file_name("notes.txt"), b"").unwrap();
    fs::create_dir(store.blob(&sample).with_file_name("a-folder")).unwrap();
    let listed = store.blobs.list(None, Duration::ZERO, 10).await.unwrap();
    assert_eq!(listed.iter().map(|listed| listed.hash).collect::<Vec<_>>(), [sample.hash]);
}

#[tokio::test]
async fn a_root_that_cannot_be_made_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let store = unprepared(&file.join("root"));
    let error = store
        .set_mark(StorageTier::Hot, InstallationId::random(), StoreId::random(), false)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("blob storage is unavailable: cannot create the folder "), "{error}");
    assert!(error.contains("a-file/root"), "{error}");
}

#[tokio::test]
async fn a_store_without_its_folder_reports_it() {
    let store = Store::new();
    fs::remove_dir_all(store.root.path()).unwrap();
    assert!(matches!(store.blobs.ping().await, Err(PortError::Unavailable { .. })));
    assert!(matches!(store.blobs.create().await, Err(PortError::Unavailable { .. })));
}

#[tokio::test]
async fn a_mark_is_made_once_and_replaced_only_when_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/new/root");
    let store = unprepared(&root);
    assert_eq!(store.mark(StorageTier::Hot).await.unwrap(), Mark::None { is_empty: true });
    assert!(!root.exists(), "a look makes nothing");
    let (one, other) = (InstallationId::random(), InstallationId::random());
    let [first, second] = [(); 2].map(|()| store.identify(StorageTier::Hot, one));
    assert_ne!(first, second, "folders at one path on two machines are two stores");
    store.set_mark(StorageTier::Hot, one, first, false).await.unwrap();
    store.set_mark(StorageTier::Hot, other, second, false).await.unwrap();
    assert_eq!(store.mark(StorageTier::Hot).await.unwrap(), Mark::Of(one, Some(first)));
    store.ping().await.unwrap();
    store.set_mark(StorageTier::Hot, other, second, true).await.unwrap();
    assert_eq!(store.mark(StorageTier::Hot).await.unwrap(), Mark::Of(other, Some(second)));

    Sample::of(10).store(&store).await.unwrap();
    fs::write(root.join("penstock-store"), "something else").unwrap();
    assert_eq!(store.mark(StorageTier::Hot).await.unwrap(), Mark::Unreadable);
    fs::remove_file(root.join("penstock-store")).unwrap();
    assert_eq!(store.mark(StorageTier::Hot).await.unwrap(), Mark::None { is_empty: false });
}

/// Two instances that start at once on a new database, one of them without the share: both find an empty folder.
#[tokio::test]
async fn of_two_empty_folders_that_are_marked_at_once_one_is_the_installations() {
    let installations = Arc::new(MemoryInstallations::default());
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let guards = folders.each_ref().map(|folder| {
        let store = Arc::new(unprepared(&folder.path().join("blobs")));
        StoreGuard::new(store, Arc::<MemoryInstallations>::clone(&installations), Arc::new(MemoryIndex::default()))
    });
    let held = installations.script.hold("store_of");
    let [one, other] = &guards;
    let both_have_asked = async {
        while installations.script.calls("store_of").len() < 2 {
            tokio::task::yield_now().await;
        }
        drop(held);
    };
    let (first, second, ()) = tokio::join!(one.mark_new_stores(), other.mark_new_stores(), both_have_asked);
    first.and(second).unwrap();
    let standing = |guard: &StoreGuard| guard.standings().next().unwrap().1;
    let standings = guards.each_ref().map(|guard| standing(guard));
    assert!(standings.contains(&StandingKind::Own) && standings.contains(&StandingKind::Other), "{standings:?}");

    // An operator's word: from then on the other one is.
    let (right, wrong) = if standings[0] == StandingKind::Own { (other, one) } else { (one, other) };
    right.adopt(StorageTier::Hot).await.unwrap();
    for guard in &guards {
        guard.mark_new_stores().await.unwrap();
    }
    assert_eq!((standing(right), standing(wrong)), (StandingKind::Own, StandingKind::Other));
    assert!(wrong.advice(StorageTier::Hot).unwrap().contains("mounted") && right.advice(StorageTier::Hot).is_none());
}

/// Instances that start at once with the share at all of them agree.
#[tokio::test]
async fn one_folder_that_is_marked_by_several_at_once_is_the_store_of_all() {
    let installations = Arc::new(MemoryInstallations::default());
    let folder = tempfile::tempdir().unwrap();
    let guards: Vec<_> = (0..4)
        .map(|_| {
            let store = Arc::new(unprepared(&folder.path().join("blobs")));
            StoreGuard::new(store, Arc::<MemoryInstallations>::clone(&installations), Arc::new(MemoryIndex::default()))
        })
        .collect();
    let starts = guards.iter().map(|guard| guard.mark_new_stores());
    futures::future::try_join_all(starts).await.unwrap();
    for guard in &guards {
        assert_eq!(guard.standings().next(), Some((StorageTier::Hot, StandingKind::Own)));
    }
}
