//! Two nodes on one database: one quota.

use futures::{StreamExt as _, stream};
use serde_json::json;

use crate::{
    node::{Setup, TestNode, expect_problem, sample},
    postgres::TestDatabase,
    still::{bytes_of, usage_rows},
};

const SIZE: u64 = 100_000;
/// Forty streams, and a half that nobody can have.
const LIMIT: u64 = 40 * SIZE + SIZE / 2;

async fn quiet(node: &TestNode) {
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    node.metric_becomes("penstock_admission_in_use", "", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_never_overshoot_a_quota_by_a_byte() {
    let database = TestDatabase::empty().await;
    let blobs = tempfile::tempdir().unwrap();
    let root = blobs.path().to_str().unwrap();
    let setup = || {
        Setup::on_database_of(&database.url())
            .env("DATA_ROOT", root)
            .env("PENSTOCK_QUOTA__ENTRY_TTL", "300ms")
            .env("PENSTOCK_QUOTA__REFUSAL_TTL", "50ms")
            .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
            .start()
    };
    // At once, so that both want to migrate the same database.
    let (mut one, mut other) = tokio::join!(setup(), setup());
    one.tier("tight", json!({ "bytesPerMonth": LIMIT })).await;
    let bytes = sample(70, SIZE as usize);
    let paid = one.paid(&bytes, "tight").await;

    let nodes = [&one, &other];
    let delivered: u64 = stream::iter(0..120_usize)
        .map(|turn| {
            let (node, paid, bytes) = (nodes[turn % 2], &paid, &bytes);
            async move {
                let answer = node.stream(paid).send().await.unwrap();
                if answer.status() != 200 {
                    expect_problem(answer, 429, "quota-exceeded").await;
                    return 0;
                }
                assert_eq!(answer.bytes().await.unwrap(), bytes);
                SIZE
            }
        })
        .buffer_unordered(16)
        .fold(0, async |sum, sent| sum + sent)
        .await;
    assert!(delivered <= LIMIT, "{delivered} of {LIMIT}");

    // What one of them holds unused comes back, and then the quota can be used up on either.
    let mut delivered = delivered;
    crate::patience::eventually("all of the quota can be had", async || {
        for node in nodes {
            let answer = node.stream(&paid).send().await.unwrap();
            if answer.status() == 200 {
                delivered += answer.bytes().await.unwrap().len() as u64;
            }
        }
        assert!(delivered <= LIMIT, "{delivered} of {LIMIT}");
        delivered == 40 * SIZE
    })
    .await;

    for node in nodes {
        quiet(node).await;
        assert_eq!(node.charged(&paid.receipt).await, (delivered, 40));
    }
    assert_eq!(bytes_of(&usage_rows(&one, &paid.receipt).await), delivered);
    one.finish().await;
    other.finish().await;
}
