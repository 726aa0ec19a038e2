//! The port `GovernancePolicies`: governance policies by version, and their runs.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    governance::{GovernancePolicy, Verdict},
    ids::{GovernancePolicyId, VersionId},
    ports::{
        GovernancePolicies, GovernancePolicySummary, GovernanceRun, Occasion, Page, PortError, PortResult, PutOutcome,
        RunMark, StoredGovernancePolicy,
    },
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use serde_json::Value;

use super::{
    SqliteStore,
    columns::{Sql, get},
    error::JobFailure,
};

/// Served by the primary key.
pub(super) const DOCUMENT: &str =
    "SELECT policy_id, version, document, created_at FROM policies WHERE policy_id = :policy";

/// Served by the primary key.
pub(super) const DOCUMENT_VERSION: &str = "
    SELECT policy_id, version, document, created_at FROM policy_versions
    WHERE policy_id = :policy AND version = :version";

/// Served by the primary key, in its order.
pub(super) const DOCUMENTS: &str = "
    SELECT policy_id, version, document ->> '$.description' AS description, created_at
    FROM policies WHERE policy_id > :after ORDER BY policy_id LIMIT :limit";

/// Served by the primary key.
pub(super) const PUT_DOCUMENT: &str = "
    INSERT INTO policies (policy_id, version, document, created_at) VALUES (:policy, :version, :document, :now)
    ON CONFLICT (policy_id) DO UPDATE SET
        version = excluded.version, document = excluded.document, created_at = excluded.created_at";

/// An insert.
pub(super) const KEEP_VERSION: &str = "
    INSERT INTO policy_versions (policy_id, version, document, created_at)
    VALUES (:policy, :version, :document, :now)";

/// Served by the primary key.
pub(super) const RECORD_RUN: &str = "
    INSERT INTO policy_runs
        (run_id, policy_id, policy_version, version_id, occasion, decision, evaluated_at, verdict)
    VALUES (:run, :policy, :policy_version, :version, :occasion, :decision, :now, :verdict)
    ON CONFLICT (run_id) DO NOTHING";

/// Served by `policy_runs_policy_version`, in its order.
pub(super) const POLICY_RUNS: &str = "
    SELECT run_id, policy_id, policy_version, version_id, occasion, evaluated_at, verdict FROM policy_runs
    WHERE policy_id = :policy AND version_id = :version AND (evaluated_at, run_id) < (:at, :run)
    ORDER BY evaluated_at DESC, run_id DESC LIMIT :limit";

/// Served by `policy_runs_age`.
pub(super) const FORGET_RUNS: &str = "
    DELETE FROM policy_runs WHERE run_id IN (
        SELECT run_id FROM policy_runs WHERE evaluated_at < :before ORDER BY evaluated_at LIMIT :limit)";

/// Served by `policy_versions_age`, in its order, and by the primary key. Per policy, the step looks at one version
/// that has no predecessor any more.
pub(super) const FORGET_VERSIONS: &str = "
    DELETE FROM policy_versions WHERE rowid IN (
        SELECT old.rowid FROM policy_versions next INDEXED BY policy_versions_age
        CROSS JOIN policy_versions old ON old.policy_id = next.policy_id AND old.version = next.version - 1
        WHERE next.created_at < :before ORDER BY next.created_at LIMIT :limit)";

#[async_trait]
impl GovernancePolicies for SqliteStore {
    async fn put_document(
        &self,
        id: &GovernancePolicyId,
        policy: &GovernancePolicy,
        now: Timestamp,
    ) -> PortResult<PutOutcome> {
        let (id, policy) = (id.clone(), policy.clone());
        self.workers.write("put_document", move |conn| Ok(put(conn, &id, &policy, now)?)).await
    }

    async fn document(&self, id: &GovernancePolicyId) -> PortResult<Option<Arc<StoredGovernancePolicy>>> {
        let id = id.clone();
        Ok(self.workers.read("document", move |conn| document(conn, &id)).await?.map(Arc::new))
    }

    async fn document_version(
        &self,
        id: &GovernancePolicyId,
        version: u32,
    ) -> PortResult<Option<StoredGovernancePolicy>> {
        let id = id.clone();
        let read = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(DOCUMENT_VERSION)?;
            let mut rows = statement.query(named_params! { ":policy": id.as_str(), ":version": version })?;
            rows.next()?.map(stored).transpose()
        };
        self.workers.read("document_version", read).await
    }

    async fn documents(
        &self,
        after: Option<&GovernancePolicyId>,
        limit: u32,
    ) -> PortResult<Page<GovernancePolicySummary>> {
        let after = after.map_or(String::new(), |id| id.as_str().to_owned());
        self.workers.read("documents", move |conn| documents(conn, &after, limit)).await
    }

    async fn record_run(&self, run: &GovernanceRun) -> PortResult<()> {
        let run = run.clone();
        self.workers.write("record_policy_run", move |conn| record(conn, &run)).await
    }

    async fn policy_runs(
        &self,
        id: &GovernancePolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<GovernanceRun>> {
        let id = id.clone();
        self.workers.read("policy_runs", move |conn| runs(conn, &id, asset, after, limit)).await
    }

    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.workers.write("forget_policy_runs", move |conn| Ok(forget(conn, FORGET_RUNS, before, limit)?)).await
    }

    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.workers
            .write("forget_policy_versions", move |conn| Ok(forget(conn, FORGET_VERSIONS, before, limit)?))
            .await
    }
}

/// There is one writer, so nothing changes between these statements.
fn put(
    conn: &Connection,
    id: &GovernancePolicyId,
    policy: &GovernancePolicy,
    now: Timestamp,
) -> rusqlite::Result<PutOutcome> {
    let from_row = |row: &Row<'_>| {
        Ok((row.get::<_, u32>("version")?, get::<Value>(row, "document")?, get::<Timestamp>(row, "created_at")?))
    };
    let current = conn.prepare_cached(DOCUMENT)?.query_row(named_params! { ":policy": id.as_str() }, from_row);
    let current = current.optional()?;
    if let Some((version, document, created_at)) = &current
        && document == policy.document()
    {
        return Ok(PutOutcome { version: *version, created_at: *created_at, new: false });
    }
    let replaced = current.as_ref().map(|(version, ..)| *version);
    let version = replaced.map_or(1, |version| version + 1);
    let document = policy.document().to_string();
    conn.prepare_cached(PUT_DOCUMENT)?.execute(named_params! {
        ":policy": id.as_str(), ":version": version, ":document": document, ":now": Sql(now),
    })?;
    conn.prepare_cached(KEEP_VERSION)?.execute(named_params! {
        ":policy": id.as_str(), ":version": version, ":document": document, ":now": Sql(now),
    })?;
    Ok(PutOutcome { version, created_at: now, new: replaced.is_none() })
}

fn document(conn: &Connection, id: &GovernancePolicyId) -> Result<Option<StoredGovernancePolicy>, JobFailure> {
    let mut statement = conn.prepare_cached(DOCUMENT)?;
    let mut rows = statement.query(named_params! { ":policy": id.as_str() })?;
    rows.next()?.map(stored).transpose()
}

fn stored(row: &Row<'_>) -> Result<StoredGovernancePolicy, JobFailure> {
    let policy_id = policy_id(row)?;
    let document: Value = get(row, "document")?;
    let policy = GovernancePolicy::read(document).map_err(|_| unreadable(&policy_id))?;
    Ok(StoredGovernancePolicy { version: row.get("version")?, created_at: get(row, "created_at")?, policy_id, policy })
}

/// A document that this program would not have accepted.
fn unreadable(id: &GovernancePolicyId) -> PortError {
    PortError::Corrupt(format!("the document of the policy {id} cannot be read"))
}

fn policy_id(row: &Row<'_>) -> Result<GovernancePolicyId, JobFailure> {
    let id: String = row.get("policy_id")?;
    Ok(id.parse().map_err(|error| PortError::Corrupt(format!("policy_id: {error}")))?)
}

fn documents(conn: &Connection, after: &str, limit: u32) -> Result<Page<GovernancePolicySummary>, JobFailure> {
    let mut statement = conn.prepare_cached(DOCUMENTS)?;
    let mut rows = statement.query(named_params! { ":after": after, ":limit": i64::from(limit) + 1 })?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(GovernancePolicySummary {
            policy_id: policy_id(row)?,
            version: row.get("version")?,
            created_at: get(row, "created_at")?,
            description: row.get("description")?,
        });
    }
    Ok(Page::of(items, limit))
}

fn record(conn: &Connection, run: &GovernanceRun) -> Result<(), JobFailure> {
    let verdict = serde_json::json!(run.verdict).to_string();
    conn.prepare_cached(RECORD_RUN)?.execute(named_params! {
        ":run": Sql(run.run_id), ":policy": run.policy_id.as_str(), ":policy_version": run.policy_version,
        ":version": Sql(run.version_id), ":occasion": Sql(run.occasion), ":decision": Sql(run.verdict.decision),
        ":now": Sql(run.evaluated_at), ":verdict": verdict,
    })?;
    Ok(())
}

fn runs(
    conn: &Connection,
    id: &GovernancePolicyId,
    asset: VersionId,
    after: Option<RunMark>,
    limit: u32,
) -> Result<Page<GovernanceRun>, JobFailure> {
    let mut statement = conn.prepare_cached(POLICY_RUNS)?;
    let at = after.map_or(i64::MAX, |mark| mark.evaluated_at.as_microsecond());
    let run = after.map(|mark| Sql(mark.run_id));
    let mut rows = statement.query(named_params! {
        ":policy": id.as_str(), ":version": Sql(asset), ":at": at, ":run": run, ":limit": i64::from(limit) + 1,
    })?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(GovernanceRun {
            run_id: get(row, "run_id")?,
            policy_id: policy_id(row)?,
            policy_version: row.get("policy_version")?,
            version_id: get(row, "version_id")?,
            occasion: get::<Occasion>(row, "occasion")?,
            evaluated_at: get(row, "evaluated_at")?,
            verdict: get::<Verdict>(row, "verdict")?,
        });
    }
    Ok(Page::of(items, limit))
}

fn forget(conn: &Connection, sql: &str, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    Ok(conn.prepare_cached(sql)?.execute(named_params! { ":before": Sql(before), ":limit": limit })? as u64)
}
