//! Uploads, assets that name them, and sweeps at the same time, over the file store and SQLite: no content that was taken is lost.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use penstock::adapters::files::{FileBlobs, FilesSettings};
use penstock_actors::{
    clock::{Clock as _, SystemClock, ledger_clock::LedgerClock, watch::ClockWatch},
    content::upload::{Hashers, Ingest, IngestDeps, IngestError, IngestSettings, RepairCheck},
    ids::{ContentHash, KeyId, NodeId, ProducerId, VersionId},
    model::{ApiKey, LostLease, NewAsset, NewProducer, Role, StorageTier},
    node::janitor::{self, JanitorDeps, JanitorSettings, Round},
    ports::{ApiKeys as _, Assets as _, BlobStore as _, ContentIndex as _, PortError, PortResult, StoreMarks as _},
    quota::node_epoch::NodeEpochState,
    testkit::memory_time::WATCH,
};
use tokio::runtime::Handle;

use super::{SqliteStore, folder, fresh};

/// Uploads of a run; this variable sets another number.
const UPLOADS: usize = 600;
const UPLOADS_VARIABLE: &str = "PENSTOCK_TEST_COLLECTED_UPLOADS";

/// Uploads at a time. Half of them are of bytes that are in the store already, as those of an upload that a crash ended.
const AT_ONCE: usize = 60;

/// What is this old may go: a little more than an upload takes here, so that sweeps and uploads meet.
const AGE: Duration = Duration::from_millis(60);

/// Sweeps that run at a time, as on several instances.
const SWEEPS: usize = 2;

/// How long a blob may be out of sight while a sweep looks its name up once more.
const PATIENCE: Duration = Duration::from_secs(20);

struct Unused;

#[async_trait]
impl RepairCheck for Unused {
    async fn check_repair(&self, _: ContentHash) -> PortResult<()> {
        Ok(())
    }
}

struct World {
    store: Arc<SqliteStore>,
    blobs: Arc<FileBlobs>,
    ingest: Ingest,
    producer: ProducerId,
}

impl World {
    async fn upload(&self, bytes: &Bytes) -> Result<ContentHash, IngestError> {
        let mut upload = self.ingest.begin(self.producer).await?;
        upload.write(bytes.clone()).await?;
        Ok(upload.finish(None, "text/plain".into(), self.producer).await?.meta.content_hash)
    }

    /// Makes the bytes visible without an entry in the index.
    async fn leave_orphan(&self, bytes: &Bytes) {
        let hash = penstock_actors::testkit::memory_blobs::hash_of(bytes);
        let mut sink = self.blobs.create().await.expect("a sink");
        sink.write(bytes.clone()).await.expect("written");
        // A sweep may take the unfinished file away, which then leaves no orphan.
        let _ = sink.commit(hash, &[*hash.as_bytes()]).await;
    }

    /// The stored bytes, which a sweep may hide for a moment.
    async fn read(&self, hash: ContentHash) -> Bytes {
        let begun = Instant::now();
        loop {
            match self.blobs.open(hash).await {
                Ok(blob) => {
                    let size = usize::try_from(blob.size_bytes).expect("small");
                    return blob.source.read_at(0, size).await.expect("read");
                }
                Err(PortError::NotFound(_)) if begun.elapsed() < PATIENCE => tokio::task::yield_now().await,
                Err(error) => panic!("{hash}: {error}"),
            }
        }
    }

    /// Uploads until the node says that it is stored, and names it at once.
    async fn take(&self, bytes: &Bytes) -> VersionId {
        let begun = Instant::now();
        let hash = loop {
            match self.upload(bytes).await {
                Ok(hash) => break hash,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        };
        assert!(self.store.content(hash).await.expect("an answer").is_some(), "{hash} is in the index");
        let asset = NewAsset {
            version_id: VersionId::next(),
            content_hash: hash,
            name: "a".into(),
            description: String::new(),
            media_type: None,
            dataset_id: None,
            policy_meta: serde_json::Value::Null,
            producer_id: self.producer,
            price_satoshis: 1,
            created_at: SystemClock.now(),
        };
        let named = self.store.create_asset(&asset).await;
        named.unwrap_or_else(|error| panic!("{hash} cannot be named: {error:?}"));
        assert_eq!(self.read(hash).await, bytes);
        asset.version_id
    }
}

fn janitor(world: &World) -> (JanitorDeps, JanitorSettings) {
    let store = &world.store;
    let clock = Arc::new(LedgerClock::new(Arc::new(SystemClock), store.clone()));
    let deps = JanitorDeps {
        ledger: store.clone(),
        upkeep: store.clone(),
        index: store.clone(),
        changes: store.clone(),
        policies: store.clone(),
        trash: world.blobs.clone(),
        resumable: store.clone(),
        upload_parts: world.blobs.clone(),
        installations: store.clone(),
        clock: clock.clone(),
        watch: Arc::new(ClockWatch::new(clock, store.clone(), WATCH)),
    };
    let long = Duration::from_secs(90 * 86_400);
    let settings = JanitorSettings {
        interval: Duration::from_secs(1),
        step: 500,
        lost_lease: LostLease::Release,
        temporary_age: AGE,
        trash_ttl: AGE,
        orphan_share: 1.0,
        window_retention: long,
        client_key_retention: long,
        policy_retention: long,
        months_ahead: 1,
    };
    (deps, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sweep_takes_content_that_an_upload_has_stored_or_an_asset_names() {
    let uploads = env::var(UPLOADS_VARIABLE).map_or(UPLOADS, |text| text.parse().expect("a number"));
    let (database, root) = (folder(), folder());
    let store = Arc::new(fresh(&database));
    let files = FilesSettings { root: root.path().to_path_buf(), warm: None, cold: None };
    let blobs = Arc::new(FileBlobs::new(files, Handle::current()));
    blobs.prepare(StorageTier::Hot).await.expect("prepared");
    let key = ApiKey {
        key_id: KeyId::next(),
        producer_id: ProducerId::next(),
        role: Role::Producer,
        secret_hash: [7; 32],
        ends_in: None,
    };
    let made = NewProducer { name: "producer".into(), key: key.clone(), created_at: SystemClock.now() };
    store.create_producer(&made).await.expect("a producer");
    let deps = IngestDeps {
        blobs: blobs.clone(),
        index: store.clone(),
        clock: Arc::new(SystemClock),
        hashers: Hashers::new(Handle::current()),
        quarantine: Default::default(),
        repair_check: Arc::new(Unused),
    };
    let settings = IngestSettings { max_bytes: 1 << 20, concurrent: 1 << 10, in_parts: 1, stores_parts: false };
    let ingest = Ingest::new(deps, settings);
    let world = World { store, blobs, ingest, producer: key.producer_id };

    let is_over = AtomicBool::new(false);
    let sweeps = (0..SWEEPS).map(async |_| {
        let (deps, settings) = janitor(&world);
        let no_node = NodeEpochState::new(NodeId::random(), 1, Instant::now());
        let (mut round, mut trashed) = (Round::default(), 0);
        while !is_over.load(Relaxed) {
            let report = janitor::pass(&deps, &settings, &no_node, &mut round).await;
            trashed += report.orphans_trashed;
            tokio::task::yield_now().await;
        }
        trashed
    });
    let taking = async {
        let mut taken = Vec::new();
        for batch in 0..uploads.div_ceil(AT_ONCE) {
            let contents: Vec<_> = (0..AT_ONCE).map(|n| Bytes::from(format!("content {n} of batch {batch}"))).collect();
            join_all(contents.iter().step_by(2).map(|bytes| world.leave_orphan(bytes))).await;
            tokio::time::sleep(AGE).await;
            let versions = stream::iter(&contents).map(|bytes| world.take(bytes)).buffer_unordered(8);
            assert_eq!(versions.collect::<Vec<_>>().await.len(), AT_ONCE);
            taken.extend(contents);
        }
        // One more look, after every sweep that had begun earlier.
        tokio::time::sleep(AGE * 2).await;
        is_over.store(true, Relaxed);
        taken
    };
    let (taken, trashed) = tokio::join!(taking, join_all(sweeps));
    for bytes in &taken {
        let hash = penstock_actors::testkit::memory_blobs::hash_of(bytes);
        assert!(world.store.content(hash).await.expect("an answer").is_some(), "{hash}");
        assert_eq!(world.read(hash).await, bytes);
    }
    assert!(trashed.iter().sum::<u64>() > 0, "the sweeps had something to do");
}
