//! The promises of every [`Changes`]: each committed change is read, whichever instance made it, and reading continues
//! where it stopped.
//!
//! The log is shared with everything else in the database, so the suite looks for its own lines only.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};

use super::catalog_suite::{self, CatalogStore};
use crate::{
    clock::to_micros,
    governance::GovernancePolicy,
    ids::{ContentHash, GovernancePolicyId, ReceiptId, VersionId},
    model::{QuotaPolicy, ReceiptStatus},
    ports::{ChangeMark, Changes, GovernancePolicies, NewReceipt, Receipts, Tag},
};

/// Lines in one page: more than all suites together write. On PostgreSQL a poll begins at the oldest transaction that
/// runs on the server, which may be another test's, and so repeats lines that earlier suites wrote.
const PAGE: u32 = 100_000;

/// An adapter with the log and the data that it logs.
pub trait LoggedStore: Changes + Receipts + CatalogStore + GovernancePolicies {}

impl<S: Changes + Receipts + CatalogStore + GovernancePolicies> LoggedStore for S {}

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl LoggedStore>) {
    let store = &*store;
    every_change_is_read_and_nothing_else(store).await;
    an_asset_that_is_made_is_read_of(store).await;
    what_is_noted_is_read(store).await;
    a_page_that_is_too_small_says_that_anything_may_have_changed(store).await;
    what_is_old_is_forgotten(store).await;
}

async fn here(store: &impl Changes) -> ChangeMark {
    let page = store.changes(None, PAGE).await.expect("read");
    assert!(page.changes.is_empty() && !page.anything, "asking for the end of the log reads no lines");
    page.mark
}

/// Whether a tag is in the log after a mark.
async fn is_announced(store: &impl Changes, mark: ChangeMark, tag: &Tag) -> bool {
    let page = store.changes(Some(mark), PAGE).await.expect("read");
    assert!(!page.anything);
    page.changes.iter().any(|change| change.tag == *tag)
}

async fn every_change_is_read_and_nothing_else(store: &impl LoggedStore) {
    let asset = catalog_suite::asset(store).await;
    let now = to_micros(Timestamp::now());
    let mark = here(store).await;
    let policy = QuotaPolicy { policy_name: format!("tier-{}", ReceiptId::random()), ..QuotaPolicy::default() };
    store.put_quota_policy(&policy, now).await.expect("put");
    assert!(is_announced(store, mark, &Tag::QuotaPolicy(policy.policy_name.clone())).await);

    let receipt = NewReceipt {
        receipt_id: ReceiptId::random(),
        version_id: asset.version_id,
        quota_tier: policy.policy_name.clone(),
        status: ReceiptStatus::Pending,
        expires_at: now + 24.hours(),
        created_at: now,
    };
    store.create_receipt(&receipt).await.expect("made");
    let tag = Tag::Receipt(receipt.receipt_id);
    assert!(!is_announced(store, mark, &tag).await, "it cannot be cached anywhere yet");
    store.set_receipt_status(receipt.receipt_id, ReceiptStatus::Confirmed, now).await.expect("set");
    assert!(is_announced(store, mark, &tag).await);

    let id: GovernancePolicyId = format!("p-{}", ReceiptId::random()).parse().expect("an id");
    let governs = GovernancePolicy::read(serde_json::json!({ "rules": [] })).expect("a policy");
    store.put_document(&id, &governs, now).await.expect("put");
    let tag = Tag::Governance(id.clone());
    assert!(is_announced(store, mark, &tag).await);
    let after = here(store).await;
    store.put_document(&id, &governs, now).await.expect("put");
    let governs = GovernancePolicy::read(serde_json::json!({ "rules": [], "description": "other" })).expect("a policy");
    store.put_document(&id, &governs, now).await.expect("put");
    assert!(is_announced(store, after, &tag).await);

    // The line of the asset's creation may be read again.
    let tag = Tag::Asset(asset.version_id);
    let mark = behind(store, mark, &tag).await;
    assert!(store.set_price(asset.version_id, 7, None, now).await.expect("priced"));
    assert!(is_announced(store, mark, &tag).await);
    behind(store, mark, &tag).await;
}

/// A mark behind all lines of a tag. It exists once the transactions that ran at the time have ended.
async fn behind(store: &impl Changes, mut mark: ChangeMark, tag: &Tag) -> ChangeMark {
    while is_announced(store, mark, tag).await {
        mark = store.changes(Some(mark), PAGE).await.expect("read").mark;
        tokio::task::yield_now().await;
    }
    mark
}

async fn an_asset_that_is_made_is_read_of(store: &impl LoggedStore) {
    let mark = here(store).await;
    let asset = catalog_suite::asset(store).await;
    assert!(is_announced(store, mark, &Tag::Asset(asset.version_id)).await, "pages of the catalogue have changed");
}

async fn what_is_noted_is_read(store: &impl Changes) {
    let mark = here(store).await;
    let tags = [
        Tag::Receipt(ReceiptId::random()),
        Tag::Asset(VersionId::next()),
        Tag::QuotaPolicy("of no table".into()),
        Tag::Governance("of-no-table".parse().expect("an id")),
        Tag::Content(ContentHash::from_bytes([0x5c; 32])),
        Tag::Recall(ReceiptId::random()),
    ];
    store.note_changes(&tags).await.expect("noted");
    for tag in &tags {
        assert!(is_announced(store, mark, tag).await, "{tag}");
    }
}

async fn a_page_that_is_too_small_says_that_anything_may_have_changed(store: &impl Changes) {
    let mark = here(store).await;
    let tags: Vec<_> = std::iter::repeat_with(|| Tag::Receipt(ReceiptId::random())).take(5).collect();
    store.note_changes(&tags).await.expect("noted");
    let page = store.changes(Some(mark), 4).await.expect("read");
    assert!(page.anything);
    assert!(!store.changes(Some(page.mark), PAGE).await.expect("read").anything, "from there on the log is complete");
}

async fn what_is_old_is_forgotten(store: &impl Changes) {
    let mark = here(store).await;
    let tag = Tag::Receipt(ReceiptId::random());
    store.note_changes(std::slice::from_ref(&tag)).await.expect("noted");
    let now = Timestamp::now();
    store.forget_changes(now - 1.hour(), PAGE).await.expect("forgot");
    assert!(is_announced(store, mark, &tag).await);
    assert!(store.forget_changes(now + 1.hour(), PAGE).await.expect("forgot") > 0);
    assert!(!is_announced(store, mark, &tag).await);
    assert_eq!(store.forget_changes(now + 1.hour(), PAGE).await.expect("nothing is left"), 0);
}
