//! Servers, databases and roles whose defaults are others than those that the statements rely on.

use std::sync::Arc;

use penstock::{
    adapters::postgres::{PostgresStore, await_schema, is_hopeless, migrate},
    telemetry::Metrics,
};
use penstock_actors::testkit::{catalog_suite, changes_suite, ledger_suite};
use tokio::runtime::Handle;

use crate::{
    pgbouncer::PgBouncer,
    support::{TestDatabase, generous, store},
};

/// Gives the sessions of a database a default.
async fn default(database: &TestDatabase, setting: &str) {
    let name = database.config();
    let name = name.get_dbname().expect("a database");
    let alter = format!("ALTER DATABASE {name} SET {setting}");
    database.client().await.batch_execute(&alter).await.expect("set");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ports_keep_their_promises_whatever_the_defaults_of_the_database_are() {
    let database = TestDatabase::empty().await;
    for setting in [
        "default_transaction_isolation = 'serializable'",
        "standard_conforming_strings = off",
        "TimeZone = 'America/St_Johns'",
        "DateStyle = 'German'",
        "bytea_output = 'escape'",
        "lock_timeout = '1ms'",
        "statement_timeout = '1ms'",
    ] {
        default(&database, setting).await;
    }
    migrate(&database.settings()).await.expect("a migration takes the time that it takes");
    // How long a statement may take is the operator's choice.
    default(&database, "statement_timeout = 0").await;
    default(&database, "lock_timeout = 0").await;
    let (store, _metrics) = store(database.settings()).await;
    let store = Arc::new(store);
    ledger_suite::run(Arc::clone(&store)).await;
    catalog_suite::run(Arc::clone(&store)).await;
    changes_suite::run(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_with_other_session_settings_is_refused_with_a_remedy() {
    let database = TestDatabase::migrated().await;
    // The file that operators mount sets what may not be otherwise.
    default(&database, "default_transaction_isolation = 'repeatable read'").await;
    let bouncer = PgBouncer::before(&database.config(), "").await;
    let (store, _metrics) = store(generous(bouncer.config())).await;
    ledger_suite::run(Arc::new(store)).await;

    default(&database, "standard_conforming_strings = off").await;
    for settings in ["", "ignore_startup_parameters = options"] {
        let bouncer = PgBouncer::before(&database.config(), settings).await;
        let through = generous(bouncer.config());
        let error = await_schema(&through).await.expect_err("refused");
        assert!(is_hopeless(&error), "waiting does not help: {error:#}");
        let metrics = Metrics::new().expect("metrics");
        let connected = PostgresStore::connect(through, Arc::clone(&metrics.db), Handle::current()).await;
        for told in [error.to_string(), connected.err().expect("refused").to_string()] {
            for part in ["standard_conforming_strings = 'off'", "connect_query", "ALTER ROLE"] {
                assert!(told.contains(part), "{told}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_another_encoding_is_refused_in_words_before_anything_is_made() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let options = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        let database = TestDatabase::made_with(&options).await;
        let error = migrate(&database.settings()).await.expect_err("refused");
        assert!(is_hopeless(&error), "{error:#}");
        let told = error.to_string();
        assert!(told.contains(encoding) && told.contains("ENCODING 'UTF8' TEMPLATE template0"), "{told}");
        const TABLES: &str = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        let tables: i64 = database.client().await.query_one(TABLES, &[]).await.expect("counted").get(0);
        assert_eq!(tables, 0);
    }
}
