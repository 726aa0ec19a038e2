//! Verification of stored content against the SHA-256 of this machine, in turns in one run: as fast as it goes, and at a set rate.
//! Run it by `./bench verify`, which starts an S3 server on the same machine.

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/s3.rs"]
mod s3;

use std::{
    collections::BTreeMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use penstock::{
    adapters::files::{FileBlobs, FilesSettings},
    config::S3Client,
};
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    content::{
        reader::{ContentSettings, ContentStore, Verify},
        upload::Hashers,
    },
    flow::token_bucket::TokenBucket,
    ids::NodeId,
    model::{LEAF_BYTES, StorageTier, VerificationKind},
    ports::{StorageRecords, StoreMarks},
    storage::{copy_context::CopyContext, verifier::Verifier},
    testkit::{blob_store_suite::Sample, memory_records::MemoryRecords},
};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use crate::s3::TestBuckets;

const ROUNDS: usize = 5;

const ALONE: &str = "SHA-256 alone, in memory, the fastest 8 MiB";

/// Short enough that some are not interrupted.
const STRETCH: usize = 8 << 20;

/// Larger than the processor's caches, smaller than the system's cache of files.
const LARGE: usize = 256 << 20;

/// Of each set rate: so long is read.
const SECONDS: f64 = 4.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = FilesSettings { root: folder.path().to_path_buf(), warm: None, cold: None };
    let files = FileBlobs::new(settings, Handle::current());
    files.prepare(StorageTier::Hot).await.expect("a store");
    let files: Arc<dyn StoreMarks> = Arc::new(files);
    let objects: Arc<dyn StoreMarks> = Arc::new(TestBuckets::new(S3Client::ObjectStore).store().await);
    let sample = Sample::of(LARGE);
    for store in [&files, &objects] {
        sample.store(&**store).await.expect("stored");
    }
    let stores = [("files, verified", Scene::new(files, &sample)), ("S3, verified", Scene::new(objects, &sample))];

    let mut figures: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..=ROUNDS {
        let mut measured = vec![(ALONE, sha_256(&sample))];
        for (name, scene) in &stores {
            measured.push((*name, scene.verified(&sample, None).await));
        }
        // The first round pays for what everybody allocates once.
        if round > 0 {
            for (what, figure) in measured {
                figures.entry(what).or_default().push(figure);
            }
        }
    }
    let best = |rounds: &[f64]| rounds.iter().copied().fold(0.0, f64::max);
    let alone = best(&figures[ALONE]);
    for (what, mut rounds) in figures {
        rounds.sort_by(f64::total_cmp);
        // Other work on the machine only ever slows a round.
        let (median, best) = (rounds[rounds.len() / 2], best(&rounds));
        println!("{what:<44} best {best:>6.0} MiB/s  {:>4.0} %   median {median:.0}", 100.0 * best / alone);
    }

    for mebibytes_a_second in [4_u64, 16, 64, 256] {
        let rate = mebibytes_a_second << 20;
        let small = Sample::of((SECONDS * rate as f64) as usize);
        let (_, scene) = &stores[0];
        small.store(&*scene.blobs).await.expect("stored");
        scene.know(&small);
        let got = scene.verified(&small, Some(rate)).await;
        let part = 100.0 * got / mebibytes_a_second as f64;
        println!("at {mebibytes_a_second} MiB/s, for {SECONDS} s: {got:.2} MiB/s  {part:.1} %");
        scene.blobs.remove_copy(small.hash, StorageTier::Hot).await.expect("removed");
    }
}

/// One store, and what verifies it.
struct Scene {
    blobs: Arc<dyn StoreMarks>,
    records: Arc<MemoryRecords>,
    verifier: Verifier,
}

impl Scene {
    fn new(blobs: Arc<dyn StoreMarks>, sample: &Sample) -> Self {
        let content = ContentSettings { memory_cache: 0, read_ahead: 1 << 20, verify: Verify::Cold };
        let records = Arc::<MemoryRecords>::default();
        let copies = CopyContext {
            copies: blobs.clone(),
            records: StorageRecords::of(&records),
            content: ContentStore::new(blobs.clone(), content, Handle::current()),
            clock: Arc::new(SystemClock),
            node: NodeId::random(),
            io: Handle::current(),
            hashers: Hashers::new(Handle::current()),
            counters: Arc::default(),
        };
        let verifier = Verifier::new(copies, 30);
        let scene = Self { blobs, records, verifier };
        scene.know(sample);
        scene
    }

    fn know(&self, sample: &Sample) {
        self.records.put(sample.hash, sample.bytes.len() as u64, StorageTier::Hot, SystemClock.now());
    }

    /// MiB a second.
    async fn verified(&self, sample: &Sample, rate: Option<u64>) -> f64 {
        let pace = rate.map(|rate| TokenBucket::at_rate(rate, Instant::now()));
        let began = Instant::now();
        let verified = self.verifier.verify(sample.hash, VerificationKind::OnDemand, pace.as_ref()).await;
        assert!(!verified.expect("looked").expect("stored").quarantined);
        mebibytes(sample.bytes.len(), began.elapsed())
    }
}

/// What this machine hashes in MiB a second on one core when nothing disturbs it.
fn sha_256(sample: &Sample) -> f64 {
    let mut best = 0.0_f64;
    for stretch in sample.bytes.chunks(STRETCH) {
        let began = Instant::now();
        let mut hash = Sha256::new();
        for leaf in stretch.chunks(LEAF_BYTES as usize) {
            hash.update(leaf);
        }
        black_box(hash.finalize());
        best = best.max(mebibytes(stretch.len(), began.elapsed()));
    }
    best
}

fn mebibytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / took.as_secs_f64()
}
