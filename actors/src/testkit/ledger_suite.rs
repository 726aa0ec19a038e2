//! The promises of the ledger, as scenarios that every adapter runs unchanged.
//!
//! A scenario makes its own producer, content, policy, receipts and nodes under fresh random ids, so the scenarios
//! share a database with each other and with existing data. They run one after the other, and nothing else may reclaim,
//! prune or expire in that database meanwhile: those calls act on all rows that are due. No scenario sleeps: a dead
//! node is one whose heartbeat gave it no time to live.

mod closing;
mod erasure;
mod leases;
mod lost_answers;
mod receipts;
mod reclaiming;
mod scene;
mod settlement;
mod timelines;
mod upkeep;
mod walk;

use std::sync::Arc;

use super::catalog_suite::CatalogStore;
use crate::ports::{Ledger, PayerData, Receipts, Timelines, Upkeep};

/// An adapter that keeps the ledger and the catalogue: receipts are made for assets.
pub trait LedgerStore: Ledger + Receipts + Upkeep + CatalogStore + Timelines + PayerData {}

impl<S: Ledger + Receipts + Upkeep + CatalogStore + Timelines + PayerData> LedgerStore for S {}

/// The adapter under test.
type Store = Arc<dyn LedgerStore>;

/// Runs every scenario. The store's database is migrated; it may have other data.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl LedgerStore>) {
    let store: Store = store;
    Box::pin(receipts::run(&store)).await;
    Box::pin(leases::run(&store)).await;
    Box::pin(lost_answers::run(&store)).await;
    Box::pin(settlement::run(&store)).await;
    Box::pin(reclaiming::run(&store)).await;
    Box::pin(closing::run(&store)).await;
    Box::pin(upkeep::run(&store)).await;
    Box::pin(erasure::run(&store)).await;
    Box::pin(timelines::run(&store)).await;
    for seed in walk::SEEDS {
        Box::pin(walk::used_and_reserved_never_pass_the_limit_and_nothing_is_lost(&store, seed)).await;
    }
}
