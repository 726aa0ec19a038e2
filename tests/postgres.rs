//! The PostgreSQL adapter against a real server.

#[path = "support/postgres.rs"]
mod support;

use std::sync::Arc;

use penstock::adapters::postgres::{PostgresSettings, StatementMode};
use penstock_actors::testkit::ledger_suite;
use support::{TestDatabase, store};

async fn run_the_suite(statement_mode: StatementMode) {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(PostgresSettings { statement_mode, ..database.settings() }).await;
    ledger_suite::run(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_keeps_its_promises_with_named_statements() {
    run_the_suite(StatementMode::Named).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_keeps_its_promises_with_unnamed_statements() {
    run_the_suite(StatementMode::Unnamed).await;
}
