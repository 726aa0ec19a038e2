//! Leases that no node knows of: an audit shows them while the node lives, and shows none in normal running.

use futures::future::join_all;
use serde_json::json;

use crate::{
    node::{On, Setup, TestNode, sample},
    patience::eventually,
    still::nothing_held,
};

const SIZE: usize = 100_000;

/// A lease that was granted and whose answer was never heard, or an operator's slip: the reserves agree with the leases.
const STRAY: &str = "
    UPDATE quota_leases SET bytes = bytes + 1000 WHERE state = 'live';
    UPDATE quota_usage_windows SET bytes_reserved = bytes_reserved + 1000;";

async fn lose_a_lease(node: &TestNode) {
    if let Some(database) = &node.database {
        database.client().await.batch_execute(STRAY).await.unwrap();
    } else {
        let file = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
        file.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
        file.execute_batch(&format!("BEGIN IMMEDIATE; {STRAY} COMMIT")).unwrap();
    }
}

async fn audit(node: &TestNode) -> (bool, String) {
    let audit = node.run(&["audit"]).await;
    (audit.status.success(), String::from_utf8(audit.stdout).unwrap())
}

async fn an_audit_shows_what_a_live_node_does_not_know_of(on: On) {
    let mut node = Setup::new(on)
        .env("PENSTOCK_QUOTA__HEARTBEAT", "100ms")
        // What is leased stays leased.
        .env("PENSTOCK_QUOTA__ENTRY_TTL", "10min")
        .env("PENSTOCK_USAGE__BATCH_AGE", "20ms")
        .start()
        .await;
    node.tier("small", json!({ "bytesPerMonth": 1000 * SIZE, "maxConcurrentStreams": 100 })).await;
    let paid = node.paid(&sample(84, SIZE), "small").await;
    let crowd = join_all((0..40).map(|_| async {
        assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), SIZE);
    }));
    let audits = async {
        for _ in 0..3 {
            let (agrees, told) = audit(&node).await;
            assert!(agrees && !told.contains("does not know of"), "{told}");
        }
    };
    futures::join!(crowd, audits);
    nothing_held(&node).await;
    let known = "instances alive: 1; 1 know of all that is leased to them";
    eventually("it has compared", async || audit(&node).await.1.contains(known)).await;

    lose_a_lease(&node).await;
    eventually("the audit shows it", async || {
        let (agrees, told) = audit(&node).await;
        !agrees && told.contains("0 differences") && told.contains("1000 bytes and 0 requests are leased to it")
    })
    .await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_shows_what_a_live_node_on_postgresql_does_not_know_of() {
    an_audit_shows_what_a_live_node_does_not_know_of(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_shows_what_a_live_node_on_sqlite_does_not_know_of() {
    an_audit_shows_what_a_live_node_does_not_know_of(On::Sqlite).await;
}
