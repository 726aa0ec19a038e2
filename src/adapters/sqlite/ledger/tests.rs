//! The effect of this adapter's arithmetic on the rows; the conformance suite tests the promises of the port.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::{Credit, LeaseSizing, LostLease, NodeEpoch, Outcome, Receipt, UsageRow, WindowSet},
    ports::{Ledger as _, PortError, Receipts as _, Refill, Release, SettleBatch, Upkeep as _, Want},
    testkit::asked,
};

use super::super::{
    SqliteStore,
    testing::{CONTENT_BYTES, Database, live_node, metered_receipt},
};

const SIZING: LeaseSizing = LeaseSizing { divisor: 8 };

fn noon() -> Timestamp {
    "2026-11-23T12:30:00Z".parse().expect("a time")
}

async fn refill(store: &SqliteStore, node: NodeEpoch, receipt: &Receipt, need: Credit, want: Credit) -> Refill {
    let want = Want { receipt_id: receipt.receipt_id, content_hash: receipt.content_hash, need, want };
    store.refill(node, &[asked(want)], SIZING, noon()).await.expect("an answer").remove(0)
}

fn row(receipt: &Receipt, bytes: u64, lease_epoch: Option<i64>) -> UsageRow {
    UsageRow {
        usage_id: UsageId::next(),
        receipt_id: receipt.receipt_id,
        content_hash: receipt.content_hash,
        session_id: None,
        client: None,
        started_at: noon(),
        finished_at: noon() + SignedDuration::from_secs(1),
        bytes_sent: bytes,
        requests: 1,
        outcome: Outcome::Completed,
        lease_epoch,
    }
}

fn batch(node: NodeEpoch, sequence: i64, rows: Vec<UsageRow>) -> SettleBatch {
    SettleBatch { node, sequence, rows, releases: Vec::new() }
}

/// Used and reserved credit of the hour, after a check that the day and the month agree with it.
async fn hour(store: &SqliteStore, receipt: &Receipt) -> (Credit, Credit) {
    let view = store.quota(receipt.receipt_id, noon()).await.expect("an answer").expect("the receipt");
    let [hour, day, month] = view.windows.map(|window| (window.used, window.reserved));
    assert_eq!((hour, hour), (day, month));
    hour
}

async fn assert_audited(store: &SqliteStore) {
    let page = store.audit(None, 100).await.expect("an audit");
    assert_eq!(page.differences, []);
    assert_eq!(page.next, None);
}

#[tokio::test]
async fn a_need_of_the_whole_content_is_its_size() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 2500, noon()).await;
    let whole = Credit::new(u64::MAX, 1);
    for taken in [CONTENT_BYTES, 2 * CONTENT_BYTES] {
        let refill = refill(&store, node, &receipt, whole, Credit::new(CONTENT_BYTES, 1)).await;
        assert_eq!(refill.granted, Credit::new(CONTENT_BYTES, 1));
        assert_eq!(refill.windows[0].reserved.bytes, taken);
    }
    let refused = refill(&store, node, &receipt, whole, Credit::new(CONTENT_BYTES, 1)).await;
    assert_eq!(refused.granted, Credit::ZERO);
    assert_eq!(hour(&store, &receipt).await, (Credit::ZERO, Credit::new(2 * CONTENT_BYTES, 2)));
    assert_audited(&store).await;
}

#[tokio::test]
async fn an_unlimited_dimension_is_not_leased_and_a_large_limit_fits_its_column() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 0, noon()).await;
    let policies = store.policies().await.expect("policies");
    let mut policy = policies.into_iter().find(|policy| policy.policy_name == receipt.quota_tier).expect("the policy");
    let all = Credit::new(u64::MAX, 1);
    for (limit, granted) in [(None, 0), (Some(i64::MAX as u64), i64::MAX as u64 / 8)] {
        policy.bytes_per_hour = limit;
        assert!(!store.put_quota_policy(&policy, noon()).await.expect("a policy"));
        let refill = refill(&store, node, &receipt, Credit::ZERO, all).await;
        assert_eq!(refill.granted, Credit::new(granted, 1));
    }
    assert_audited(&store).await;
}

#[tokio::test]
async fn a_batch_that_is_sent_twice_counts_once() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 8000, noon()).await;
    let leased = refill(&store, node, &receipt, Credit::new(500, 1), Credit::new(1000, 4)).await.granted;
    assert_eq!(leased, Credit::new(1000, 4));
    let mut batch = batch(node, 1, vec![row(&receipt, 300, Some(1)), row(&receipt, 200, Some(1))]);
    batch.releases =
        vec![Release { receipt_id: receipt.receipt_id, window: noon(), epoch: 1, credit: Credit::new(100, 0) }];
    assert_eq!(store.settle(&batch).await.expect("settled").inserted, 2);
    assert_eq!(store.settle(&batch).await.expect("settled").inserted, 0);
    // The same rows under a new sequence: a replayed spool.
    batch.sequence = 2;
    batch.releases.clear();
    assert_eq!(store.settle(&batch).await.expect("settled").inserted, 0);
    assert_eq!(hour(&store, &receipt).await, (Credit::new(500, 2), Credit::new(400, 2)));
    assert_audited(&store).await;
}

#[tokio::test]
async fn a_row_of_an_unknown_receipt_is_rejected_with_its_whole_batch() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 8000, noon()).await;
    let mut stranger = row(&receipt, 10, None);
    stranger.receipt_id = ReceiptId::random();
    let known = row(&receipt, 10, None);
    let rejected = store.settle(&batch(node, 1, vec![known.clone(), stranger])).await;
    assert!(matches!(rejected, Err(PortError::Rejected { .. })), "{rejected:?}");
    assert_eq!(hour(&store, &receipt).await, (Credit::ZERO, Credit::ZERO));
    // The watermark did not move either.
    assert_eq!(store.settle(&batch(node, 1, vec![known])).await.expect("settled").inserted, 1);
}

#[tokio::test]
async fn late_rows_of_a_lost_instance_explain_what_its_lease_was_charged_for() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 8000, noon()).await;
    refill(&store, node, &receipt, Credit::new(1000, 2), Credit::new(1000, 2)).await;
    store.declare_dead(node).await.expect("its process is gone");
    let successor = NodeEpoch { epoch: 2, ..node };
    store.heartbeat(successor, Duration::from_secs(3600)).await.expect("a heartbeat");
    let reclaimed = store.reclaim(successor, &[], LostLease::Charge, noon(), 10).await.expect("reclaimed");
    assert_eq!((reclaimed.leases, reclaimed.credit, reclaimed.more), (1, Credit::new(1000, 2), false));
    assert_eq!(hour(&store, &receipt).await, (Credit::new(1000, 2), Credit::ZERO));
    assert_audited(&store).await;

    store.settle(&batch(node, 1, vec![row(&receipt, 400, Some(1))])).await.expect("settled");
    assert_eq!(hour(&store, &receipt).await, (Credit::new(1000, 2), Credit::ZERO));
    let page = store.usage(receipt.receipt_id, None, 10).await.expect("usage");
    let lost = page.items.iter().find(|row| row.outcome == Outcome::LostLease).expect("the charge");
    assert_eq!(lost.credit(), Credit::new(600, 1));
    assert_eq!(lost.started_at, WindowSet::at(noon()).hour().start);

    // More than was leased: the rest of the charge is removed, and the excess counts.
    store.settle(&batch(node, 2, vec![row(&receipt, 700, Some(1))])).await.expect("settled");
    assert_eq!(hour(&store, &receipt).await, (Credit::new(1100, 2), Credit::ZERO));
    let page = store.usage(receipt.receipt_id, None, 10).await.expect("usage");
    assert!(page.items.iter().all(|row| row.outcome == Outcome::Completed));
    assert_audited(&store).await;
}

#[tokio::test]
async fn a_window_that_was_tampered_with_is_found() {
    let database = Database::new();
    let store = database.open();
    let node = live_node(&store).await;
    let receipt = metered_receipt(&store, 8000, noon()).await;
    refill(&store, node, &receipt, Credit::new(10, 1), Credit::new(10, 1)).await;
    store.settle(&batch(node, 1, vec![row(&receipt, 300, None)])).await.expect("settled");
    assert_audited(&store).await;
    let tampered = "UPDATE quota_usage_windows SET bytes_used = 299, requests_reserved = 0 WHERE window_type = 'day'";
    database.raw().execute_batch(tampered).expect("tampered with");
    let page = store.audit(None, 100).await.expect("an audit");
    assert_eq!(page.windows, 3);
    let found: Vec<_> = page.differences.iter().map(|d| (d.reserved, d.recorded, d.recomputed)).collect();
    let (used, reserved) = (Credit::new(299, 1), Credit::new(10, 0));
    assert_eq!(found, [(false, used, Credit::new(300, 1)), (true, reserved, Credit::new(10, 1))]);
}
