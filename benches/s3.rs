//! Blobs in S3, by each client, in turns in one run: uploads, reads by leaf, and the time to the first byte. Run it by
//! `./bench s3`, which starts a server on the same machine: what differs is what the clients cost.

#![allow(clippy::print_stdout, reason = "the figures are what this prints")]

#[path = "../tests/support/s3.rs"]
mod s3;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::future::join_all;
use penstock::{adapters::s3::S3Blobs, config::S3Client};
use penstock_actors::{model::LEAF_BYTES, ports::BlobStore as _, testkit::blob_store_suite::Sample};

use crate::s3::TestBuckets;

const ROUNDS: usize = 5;

/// Of a large content; eight parts.
const LARGE: usize = 64 << 20;

/// Small contents in a round.
const SMALL: usize = 100;

/// What a connection reads at once, and so hands to the store.
const PIECE: usize = 128 << 10;

/// Leaves that are read at a time: streams side by side.
const READERS: usize = 4;

#[cfg(feature = "rusoto")]
const CLIENTS: [(&str, S3Client); 2] = [("object_store", S3Client::ObjectStore), ("rusoto", S3Client::Rusoto)];
#[cfg(not(feature = "rusoto"))]
const CLIENTS: [(&str, S3Client); 1] = [("object_store", S3Client::ObjectStore)];

/// Figures by what is measured and client, a round each.
type Figures = BTreeMap<(&'static str, &'static str), Vec<f64>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut figures = Figures::new();
    for round in 0..=ROUNDS {
        for (name, client) in CLIENTS {
            let buckets = TestBuckets::new(client);
            let mut settings = buckets.settings();
            settings.part_bytes = 8 << 20;
            let (blobs, _) = buckets.open(&settings).await.expect("a store");
            let mut measured = Vec::new();
            large(&blobs, &mut measured).await;
            small(&blobs, &buckets, &mut measured).await;
            // The first round pays for what everybody allocates once.
            if round > 0 {
                for (what, figure) in measured {
                    figures.entry((what, name)).or_default().push(figure);
                }
            }
        }
    }
    for ((what, name), mut rounds) in figures {
        rounds.sort_by(f64::total_cmp);
        let (least, median, most) = (rounds[0], rounds[rounds.len() / 2], rounds[rounds.len() - 1]);
        println!("{what:<46} {name:<13} {median:>9.1}   ({least:.1} to {most:.1})");
    }
}

async fn large(blobs: &S3Blobs, measured: &mut Vec<(&'static str, f64)>) {
    let sample = Sample::of(LARGE);
    let (began, before) = (Instant::now(), processor_time());
    let mut sink = blobs.create().await.expect("created");
    for start in (0..LARGE).step_by(PIECE) {
        sink.write(sample.bytes.slice(start..start + PIECE)).await.expect("written");
    }
    sink.commit(sample.hash, &sample.leaves).await.expect("committed");
    measured.push(("64 MiB in, MiB/s", mebibytes(LARGE) / began.elapsed().as_secs_f64()));
    measured.push(("64 MiB in, processor ms", millis(processor_time() - before)));

    let source = blobs.open(sample.hash).await.expect("opened").source;
    let leaf = LEAF_BYTES as usize;
    let (began, before) = (Instant::now(), processor_time());
    for number in 0..LARGE / leaf {
        let bytes = source.read_at((number * leaf) as u64, leaf).await.expect("read");
        assert_eq!(bytes, sample.bytes[number * leaf..][..leaf]);
    }
    measured.push(("64 MiB out, a leaf at a time, MiB/s", mebibytes(LARGE) / began.elapsed().as_secs_f64()));
    measured.push(("64 MiB out, a leaf at a time, processor ms", millis(processor_time() - before)));
    let began = Instant::now();
    join_all((0..READERS).map(async |reader| {
        for number in (reader..LARGE / leaf).step_by(READERS) {
            source.read_at((number * leaf) as u64, leaf).await.expect("read");
        }
    }))
    .await;
    measured.push(("64 MiB out, four leaves at a time, MiB/s", mebibytes(LARGE) / began.elapsed().as_secs_f64()));
}

async fn small(blobs: &S3Blobs, buckets: &TestBuckets, measured: &mut Vec<(&'static str, f64)>) {
    let samples: Vec<_> = (0..SMALL).map(|_| Sample::of(4096)).collect();
    let began = Instant::now();
    for sample in &samples {
        sample.store(blobs).await.expect("stored");
    }
    measured.push(("4 KiB in, ms each", millis(began.elapsed()) / SMALL as f64));
    // Another store, which has no manifests in memory.
    let cold = buckets.store().await;
    for (what, blobs) in
        [("4 KiB to the first byte, ms", &cold), ("4 KiB to the first byte, manifest known, ms", blobs)]
    {
        let mut took = Vec::new();
        for sample in &samples {
            let began = Instant::now();
            let source = blobs.open(sample.hash).await.expect("opened").source;
            assert_eq!(source.read_at(0, 4096).await.expect("read"), sample.bytes);
            took.push(millis(began.elapsed()));
        }
        took.sort_by(f64::total_cmp);
        measured.push((what, took[took.len() / 2]));
    }
}

fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of this process, so of the client and the store, and not of the server.
fn processor_time() -> Duration {
    let usage =
        nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("every process has one");
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), time.tv_usec().unsigned_abs() as u32 * 1000)
    };
    time(usage.user_time()) + time(usage.system_time())
}
