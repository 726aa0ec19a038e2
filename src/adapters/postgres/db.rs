//! The only way to the server: named statements, each one round trip, measured, bounded in time.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::ClientWrapper;
use futures::TryStreamExt;
use penstock_actors::ports::{PortError, PortResult};
use tokio::time::timeout;
use tokio_postgres::{
    Error, Row,
    types::{ToSql, Type},
};

use super::{
    error::{FaultScope, POSTGRES, error_text, from_statement, late, only_reads},
    gate::PoolLane,
    pool::{Pool, PooledConnection},
};
use crate::{config::StatementMode, telemetry::DbMetrics};

/// A statement, with the name under which metrics and the server know it.
pub(super) struct Statement {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// The parameters' types, so that a statement without a name needs no extra round trip to ask for them.
    pub(super) types: &'static [Type],
}

/// Reads the one row of the installation. A standby, and a server that accepts no writes at present, report that here.
const PING: Statement = Statement {
    name: "ping",
    sql: "
        SELECT current_setting('transaction_read_only')::boolean AS only_reads,
               EXISTS (SELECT FROM installation) AS says_whose_it_is",
    types: &[],
};

pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// The result of a statement.
struct StatementResult {
    rows: Vec<Row>,
    affected: u64,
}

/// Access to one server for calls of one [`PoolLane`].
#[derive(Clone)]
pub(super) struct Db {
    pool: Pool,
    lane: PoolLane,
    mode: StatementMode,
    statement_timeout: Duration,
    metrics: Arc<DbMetrics>,
}

impl Db {
    /// For calls of clients' requests.
    pub(super) const fn new(
        pool: Pool,
        mode: StatementMode,
        statement_timeout: Duration,
        metrics: Arc<DbMetrics>,
    ) -> Self {
        Self { pool, lane: PoolLane::Request, mode, statement_timeout, metrics }
    }

    /// The same access for calls of another lane.
    pub(super) fn in_lane(&self, lane: PoolLane) -> Self {
        Self { lane, ..self.clone() }
    }

    /// The same access for calls that are useless if they take longer.
    pub(super) fn within(&self, patience: Duration) -> Self {
        Self { statement_timeout: self.statement_timeout.min(patience), ..self.clone() }
    }

    pub(super) const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the rows of a statement.
    pub(super) async fn rows(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Vec<Row>> {
        Ok(self.run(statement, params).await?.rows)
    }

    /// The first row, for statements that return at most one.
    pub(super) async fn row_opt(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Option<Row>> {
        Ok(self.rows(statement, params).await?.into_iter().next())
    }

    /// The row of a statement that always returns one.
    pub(super) async fn row(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<Row> {
        self.row_opt(statement, params)
            .await?
            .ok_or_else(|| PortError::rejected(POSTGRES, format!("{} returned no row", statement.name)))
    }

    /// Returns how many rows a statement changed.
    pub(super) async fn execute(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<u64> {
        Ok(self.run(statement, params).await?.affected)
    }

    /// Runs a statement that is built at run time and takes no parameters, such as one that names a partition.
    pub(super) async fn utility(&self, name: &'static str, sql: &str) -> PortResult<()> {
        let client = self.pool.get(self.lane).await?;
        let trip = RoundTrip::begin(&self.metrics, name);
        match timeout(self.statement_timeout, client.batch_execute(sql)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.failed(client, &error)),
            Err(_) => {
                self.pool.abandon(client);
                return Err(late(name, self.statement_timeout));
            }
        }
        trip.succeeded();
        Ok(())
    }

    /// Succeeds when the server answers and accepts writes. A server that accepts none is left. Returns whether the
    /// database has the row of its installation: a database that was emptied has none.
    pub(super) async fn ping(&self) -> PortResult<bool> {
        let (client, answer) = self.run_on_one(&PING, &[]).await?;
        let row = answer.rows.first();
        if row.is_some_and(|row| row.get("only_reads")) {
            self.pool.leave(client, "the server is read-only");
            return Err(only_reads());
        }
        Ok(row.is_some_and(|row| row.get("says_whose_it_is")))
    }

    async fn run(&self, statement: &Statement, params: &[Param<'_>]) -> PortResult<StatementResult> {
        self.run_on_one(statement, params).await.map(|(_client, answer)| answer)
    }

    /// Returns the result of a statement, with the connection that it ran on.
    async fn run_on_one(
        &self,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> PortResult<(PooledConnection, StatementResult)> {
        let client = self.pool.get(self.lane).await?;
        match timeout(self.statement_timeout, self.ask(&client, statement, params)).await {
            Ok(Ok(answer)) => Ok((client, answer)),
            Ok(Err(error)) => Err(self.failed(client, &error)),
            Err(_) => {
                self.pool.abandon(client);
                Err(late(statement.name, self.statement_timeout))
            }
        }
    }

    /// Maps a failed statement to an error for the caller, and decides what happens to its connection.
    fn failed(&self, client: PooledConnection, error: &Error) -> PortError {
        match FaultScope::of(error) {
            FaultScope::Server => self.pool.leave(client, &error_text(error)),
            FaultScope::Connection => Pool::discard(client),
            FaultScope::Statement => {}
        }
        from_statement(error)
    }

    async fn ask(
        &self,
        client: &ClientWrapper,
        statement: &Statement,
        params: &[Param<'_>],
    ) -> Result<StatementResult, Error> {
        let params = params.iter().copied();
        let (trip, stream) = match self.mode {
            StatementMode::Named => {
                let known = client.statement_cache.size();
                let preparing = RoundTrip::begin(&self.metrics, "prepare");
                let prepared = client.prepare_typed_cached(statement.sql, statement.types).await?;
                if client.statement_cache.size() > known {
                    preparing.succeeded();
                } else {
                    preparing.not_made();
                }
                let trip = RoundTrip::begin(&self.metrics, statement.name);
                (trip, client.query_raw(&prepared, params).await?)
            }
            StatementMode::Unnamed => {
                let trip = RoundTrip::begin(&self.metrics, statement.name);
                let typed = params.zip(statement.types.iter().cloned());
                (trip, client.query_typed_raw(statement.sql, typed).await?)
            }
        };
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        trip.succeeded();
        Ok(StatementResult { rows, affected: stream.rows_affected().unwrap_or(0) })
    }
}

/// A round trip that is counted once, even if the caller drops the future.
struct RoundTrip<'a> {
    metrics: &'a DbMetrics,
    statement: &'static str,
    began: Instant,
    outcome: Option<bool>,
}

impl<'a> RoundTrip<'a> {
    fn begin(metrics: &'a DbMetrics, statement: &'static str) -> Self {
        Self { metrics, statement, began: Instant::now(), outcome: Some(false) }
    }

    fn succeeded(mut self) {
        self.outcome = Some(true);
    }

    /// The answer was already known.
    fn not_made(mut self) {
        self.outcome = None;
    }
}

impl Drop for RoundTrip<'_> {
    fn drop(&mut self) {
        if let Some(ok) = self.outcome {
            self.metrics.query_finished(self.statement, self.began, ok);
        }
    }
}
