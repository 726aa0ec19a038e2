//! Governance policies by version, and their runs. They are read from the primary alone, because they are cached and
//! decide about requests.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    governance::GovernancePolicy,
    ids::{GovernancePolicyId, PolicyRunId, VersionId},
    ports::{
        GovernancePolicies, GovernancePolicySummary, GovernanceRun, Occasion, Page, PortError, PortResult, PutOutcome,
        RunMark, StoredGovernancePolicy,
    },
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement, jsonb::to_jsonb};

/// By the primary keys. The row of the policy is locked, so that two changes at once make one version each.
const PUT: Statement = Statement {
    name: "put_document",
    sql: "
        WITH put AS (
            INSERT INTO policies AS p (policy_id, version, document, created_at) VALUES ($1, 1, $2, $3)
            ON CONFLICT (policy_id) DO UPDATE SET
                version = p.version + (p.document IS DISTINCT FROM excluded.document)::int,
                document = CASE WHEN p.document IS DISTINCT FROM excluded.document
                    THEN excluded.document ELSE p.document END,
                created_at = CASE WHEN p.document IS DISTINCT FROM excluded.document
                    THEN excluded.created_at ELSE p.created_at END
            RETURNING p.version, p.created_at, p.xmax = 0 AS made
        ),
        kept AS (
            INSERT INTO policy_versions (policy_id, version, document, created_at)
            SELECT $1, version, $2, created_at FROM put
            ON CONFLICT (policy_id, version) DO NOTHING
        )
        SELECT version, created_at, made FROM put",
    types: &[Type::TEXT, Type::JSONB, Type::TIMESTAMPTZ],
};

/// By the primary key.
const DOCUMENT: Statement = Statement {
    name: "document",
    sql: "SELECT policy_id, version, document, created_at FROM policies WHERE policy_id = $1",
    types: &[Type::TEXT],
};

/// By the primary key.
const DOCUMENT_VERSION: Statement = Statement {
    name: "document_version",
    sql: "
        SELECT policy_id, version, document, created_at FROM policy_versions WHERE policy_id = $1 AND version = $2",
    types: &[Type::TEXT, Type::INT4],
};

/// By the primary key, in its order.
const DOCUMENTS: Statement = Statement {
    name: "documents",
    sql: "
        SELECT policy_id, version, document ->> 'description' AS description, created_at
        FROM policies
        WHERE policy_id > $1
        ORDER BY policy_id
        LIMIT $2",
    types: &[Type::TEXT, Type::INT8],
};

/// By the primary key.
const RECORD: Statement = Statement {
    name: "record_policy_run",
    sql: "
        INSERT INTO policy_runs (run_id, policy_id, policy_version, version_id, occasion, decision, evaluated_at,
                                 verdict)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (run_id) DO NOTHING",
    types: &[Type::UUID, Type::TEXT, Type::INT4, Type::UUID, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::JSONB],
};

/// By `policy_runs_policy_version`, in its order.
const RUNS: Statement = Statement {
    name: "policy_runs",
    sql: "
        SELECT run_id, policy_id, policy_version, version_id, occasion, evaluated_at, verdict
        FROM policy_runs
        WHERE policy_id = $1 AND version_id = $2 AND (evaluated_at, run_id)
            < (coalesce($3, 'infinity'), coalesce($4, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        ORDER BY evaluated_at DESC, run_id DESC
        LIMIT $5",
    types: &[Type::TEXT, Type::UUID, Type::TIMESTAMPTZ, Type::UUID, Type::INT8],
};

/// By `policy_runs_age`, then by the primary key.
const FORGET_RUNS: Statement = Statement {
    name: "forget_policy_runs",
    sql: "
        DELETE FROM policy_runs
        WHERE run_id = ANY (ARRAY(
            SELECT run_id FROM policy_runs WHERE evaluated_at < $1 ORDER BY evaluated_at LIMIT $2
            FOR UPDATE SKIP LOCKED))",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// By `policy_versions_age`, in its order, then by the primary key, then by the rows' `ctid`, which cannot change while
/// the rows are locked. Per policy, the step looks at one version that has no predecessor any more.
const FORGET_VERSIONS: Statement = Statement {
    name: "forget_policy_versions",
    sql: "
        DELETE FROM policy_versions
        WHERE ctid = ANY (ARRAY(
            SELECT replaced.place
            FROM policy_versions next
            CROSS JOIN LATERAL (
                SELECT ctid AS place FROM policy_versions
                WHERE policy_id = next.policy_id AND version = next.version - 1
                FOR UPDATE SKIP LOCKED
            ) AS replaced
            WHERE next.created_at < $1
            ORDER BY next.created_at
            LIMIT $2))",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

#[async_trait]
impl GovernancePolicies for PostgresStore {
    async fn put_document(
        &self,
        id: &GovernancePolicyId,
        policy: &GovernancePolicy,
        now: Timestamp,
    ) -> PortResult<PutOutcome> {
        let row = self.db.row(&PUT, &[&id.as_str(), &*to_jsonb(policy.document()), &now]).await?;
        let row = Columns(&row);
        Ok(PutOutcome { version: version(&row, "version")?, created_at: row.get("created_at")?, new: row.get("made")? })
    }

    async fn document(&self, id: &GovernancePolicyId) -> PortResult<Option<Arc<StoredGovernancePolicy>>> {
        let row = self.db.row_opt(&DOCUMENT, &[&id.as_str()]).await?;
        row.map(|row| stored(&Columns(&row)).map(Arc::new)).transpose()
    }

    async fn document_version(
        &self,
        id: &GovernancePolicyId,
        version: u32,
    ) -> PortResult<Option<StoredGovernancePolicy>> {
        // No version is beyond the range of the column.
        let Ok(version) = i32::try_from(version) else { return Ok(None) };
        let row = self.db.row_opt(&DOCUMENT_VERSION, &[&id.as_str(), &version]).await?;
        row.map(|row| stored(&Columns(&row))).transpose()
    }

    async fn documents(
        &self,
        after: Option<&GovernancePolicyId>,
        limit: u32,
    ) -> PortResult<Page<GovernancePolicySummary>> {
        let after = after.map_or("", GovernancePolicyId::as_str);
        let rows = self.db.rows(&DOCUMENTS, &[&after, &(i64::from(limit) + 1)]).await?;
        let summary = |row: Columns<'_>| {
            Ok(GovernancePolicySummary {
                policy_id: policy_id(&row)?,
                version: version(&row, "version")?,
                created_at: row.get("created_at")?,
                description: row.get("description")?,
            })
        };
        let items = rows.iter().map(Columns).map(summary).collect::<PortResult<_>>()?;
        Ok(Page::of(items, limit))
    }

    async fn record_run(&self, run: &GovernanceRun) -> PortResult<()> {
        let version = i32::try_from(run.policy_version).map_err(|error| PortError::rejected("postgresql", error))?;
        let verdict = serde_json::json!(run.verdict);
        let params: [super::db::Param<'_>; 8] = [
            &run.run_id.as_uuid(),
            &run.policy_id.as_str(),
            &version,
            &run.version_id.as_uuid(),
            &run.occasion.as_str(),
            &run.verdict.decision.as_str(),
            &run.evaluated_at,
            &*to_jsonb(&verdict),
        ];
        self.db.execute(&RECORD, &params).await.map(drop)
    }

    async fn policy_runs(
        &self,
        id: &GovernancePolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<GovernanceRun>> {
        let at = after.map(|mark| mark.evaluated_at);
        let run = after.map(|mark| mark.run_id.as_uuid());
        let params: [super::db::Param<'_>; 5] = [&id.as_str(), &asset.as_uuid(), &at, &run, &(i64::from(limit) + 1)];
        let rows = self.db.rows(&RUNS, &params).await?;
        let items = rows.iter().map(|row| policy_run(&Columns(row))).collect::<PortResult<_>>()?;
        Ok(Page::of(items, limit))
    }

    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&FORGET_RUNS, &[&before, &i64::from(limit)]).await
    }

    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&FORGET_VERSIONS, &[&before, &i64::from(limit)]).await
    }
}

fn stored(row: &Columns<'_>) -> PortResult<StoredGovernancePolicy> {
    let policy_id = policy_id(row)?;
    // A document that this program would not have accepted.
    let policy = GovernancePolicy::read(row.json("document")?)
        .map_err(|_| PortError::Corrupt(format!("the document of the policy {policy_id} cannot be read")))?;
    Ok(StoredGovernancePolicy {
        version: version(row, "version")?,
        created_at: row.get("created_at")?,
        policy_id,
        policy,
    })
}

fn policy_run(row: &Columns<'_>) -> PortResult<GovernanceRun> {
    // As text: a value that is converted from another value has 0 for -0.
    let verdict = row.json("verdict")?.to_string();
    Ok(GovernanceRun {
        run_id: PolicyRunId::from_uuid(row.get("run_id")?),
        policy_id: policy_id(row)?,
        policy_version: version(row, "policy_version")?,
        version_id: VersionId::from_uuid(row.get("version_id")?),
        occasion: row.word("occasion", Occasion::parse)?,
        evaluated_at: row.get("evaluated_at")?,
        verdict: serde_json::from_str(&verdict).map_err(|error| PortError::Corrupt(format!("verdict: {error}")))?,
    })
}

fn policy_id(row: &Columns<'_>) -> PortResult<GovernancePolicyId> {
    row.word("policy_id", |id| id.parse().ok())
}

fn version(row: &Columns<'_>, column: &str) -> PortResult<u32> {
    u32::try_from(row.get::<i32>(column)?).map_err(|_| super::columns::out_of_range(column))
}
