//! Migrations, compiled in, applied by whichever instance comes first.

use anyhow::Context;
use tokio::time::timeout;
use tokio_postgres::NoTls;

use super::PostgresSettings;

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// Names the lock that one migrating instance holds. Any number does that no other user of the database takes; this one
/// spells "penstock" in ASCII.
const LOCK: i64 = 0x7065_6e73_746f_636b;

/// Applies the migrations that are missing; how many those were. Instances that start at the same time take turns.
///
/// It opens a connection of its own, whose session holds the lock, so `settings` must lead to the server itself and not
/// to a PgBouncer in transaction mode. A process that dies gives the lock back with its connection.
///
/// # Errors
/// When the server does not answer, a migration fails, or one that was applied has been changed since.
pub async fn migrate(settings: &PostgresSettings) -> anyhow::Result<usize> {
    let opening = timeout(settings.create_timeout, settings.config.connect(NoTls)).await;
    let (mut client, connection) =
        opening.context("PostgreSQL did not answer in time")?.context("cannot connect to PostgreSQL")?;
    let driver = tokio::spawn(connection);
    client
        .batch_execute(&format!("SELECT pg_advisory_lock({LOCK})"))
        .await
        .context("cannot take the migration lock")?;
    let report = embedded::migrations::runner().run_async(&mut client).await.context("cannot migrate")?;
    drop(client);
    driver.await.context("the migrating connection panicked")?.context("the migrating connection broke")?;
    Ok(report.applied_migrations().len())
}
