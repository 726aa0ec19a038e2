//! The old way to keep a quota: nginx asks a small service before each file (`auth_request`), and the service asks PostgreSQL. It is as fast
//! as such a service can be: one statement, prepared once, on a kept connection, counts the windows and records the usage.

use std::{net::SocketAddr, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;
use deadpool_postgres::{Config, Pool, PoolConfig, Runtime};
use tokio_postgres::NoTls;

/// Connections to the database. More would only wait for the processors and for each other's rows.
const CONNECTIONS: usize = 32;

/// Longer than nginx keeps a connection: the one that asks closes first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The address that was asked for, as nginx hands it on.
const ASKED_FOR: &str = "x-original-uri";

/// A row for each receipt, for each of its windows, and for each use. Nothing more is indexed, so this is the least work.
pub(crate) const TABLES: &str = "
    CREATE TABLE receipts (id text PRIMARY KEY, confirmed boolean NOT NULL, bytes bigint NOT NULL, most bigint NOT NULL);
    CREATE TABLE windows (receipt text, length text, began timestamptz, bytes bigint NOT NULL, requests bigint NOT NULL,
        PRIMARY KEY (receipt, length, began)) WITH (fillfactor = 50);
    CREATE TABLE usage (receipt text NOT NULL, bytes bigint NOT NULL, at timestamptz NOT NULL)";

/// One round trip and one transaction: whether the receipt is known, and whether its hour and its day have room. The primary keys of
/// `receipts` and `windows` serve it.
const SPEND: &str = "
    WITH receipt AS (SELECT id, bytes, most FROM receipts WHERE id = $1 AND confirmed),
    hour AS (INSERT INTO windows AS w SELECT id, 'hour', date_trunc('hour', now()), bytes, 1 FROM receipt
        ON CONFLICT (receipt, length, began) DO UPDATE SET bytes = w.bytes + excluded.bytes, requests = w.requests + 1
        WHERE w.bytes + excluded.bytes <= (SELECT most FROM receipt) RETURNING 1),
    day AS (INSERT INTO windows AS w SELECT id, 'day', date_trunc('day', now()), bytes, 1 FROM receipt
        WHERE EXISTS (SELECT FROM hour)
        ON CONFLICT (receipt, length, began) DO UPDATE SET bytes = w.bytes + excluded.bytes, requests = w.requests + 1
        WHERE w.bytes + excluded.bytes <= (SELECT most FROM receipt) RETURNING 1),
    used AS (INSERT INTO usage SELECT id, bytes, now() FROM receipt WHERE EXISTS (SELECT FROM day))
    SELECT EXISTS (SELECT FROM receipt), EXISTS (SELECT FROM day)";

/// Serves until the process ends.
pub(crate) async fn serve(bind: SocketAddr, database: String) -> anyhow::Result<()> {
    let mut config = Config::new();
    config.url = Some(database);
    config.pool = Some(PoolConfig::new(CONNECTIONS));
    let pool = web::Data::new(config.create_pool(Some(Runtime::Tokio1), NoTls).context("cannot make a pool")?);
    HttpServer::new(move || App::new().app_data(pool.clone()).default_service(web::to(answer)))
        .keep_alive(KEEP_ALIVE)
        .bind(bind)
        .context("cannot listen")?
        .run()
        .await
        .context("the quota service ended")
}

async fn answer(request: HttpRequest, pool: web::Data<Pool>) -> HttpResponse {
    let uri = request.headers().get(ASKED_FOR).and_then(|uri| uri.to_str().ok()).unwrap_or_default();
    let Some(receipt) = receipt(uri) else { return HttpResponse::Forbidden().finish() };
    match spend(&pool, receipt).await {
        Ok((true, true)) => HttpResponse::NoContent().finish(),
        // nginx hands on 401 and 403 alone; why does not matter here.
        Ok(_) => HttpResponse::Forbidden().finish(),
        Err(error) => {
            eprintln!("the quota service cannot ask the database: {error:#}");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn spend(pool: &Pool, receipt: &str) -> anyhow::Result<(bool, bool)> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(SPEND).await?;
    let row = client.query_one(&statement, &[&receipt]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The receipt of an address such as `/4-kib?receipt=r1`.
fn receipt(uri: &str) -> Option<&str> {
    uri.split_once('?')?.1.split('&').find_map(|part| part.strip_prefix("receipt="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receipt_is_found_in_the_address() {
        assert_eq!(receipt("/4-kib?receipt=r1"), Some("r1"));
        assert_eq!(receipt("/4-kib?a=b&receipt=r2"), Some("r2"));
        assert_eq!(receipt("/4-kib"), None);
    }
}
