//! The port `Timelines`. The migration `lives_and_timelines` decides which database a history belongs to.

use async_trait::async_trait;
use penstock_actors::{
    ids::TimelineId,
    model::{NewTimeline, Timeline},
    ports::{PortResult, Timelines},
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement};

/// By the primary key: the last row of a table that has one row per restore.
const TIMELINE: Statement =
    Statement { name: "timeline", sql: "SELECT timeline_id, moved FROM penstock_timeline()", types: &[] };

/// Once per restore: it reads all leases.
const BEGIN: Statement = Statement {
    name: "begin_timeline",
    sql: "SELECT timeline_id, leases, bytes FROM penstock_begin_timeline($1, $2)",
    types: &[Type::UUID, Type::TEXT],
};

pub(super) fn timeline(row: &Columns<'_>) -> PortResult<Timeline> {
    Ok(Timeline { timeline_id: TimelineId::from_uuid(row.get("timeline_id")?), moved: row.get("moved")? })
}

#[async_trait]
impl Timelines for PostgresStore {
    async fn timeline(&self) -> PortResult<Timeline> {
        timeline(&Columns(&self.ledger.row(&TIMELINE, &[]).await?))
    }

    async fn begin_timeline(&self, after: TimelineId, reason: &str) -> PortResult<NewTimeline> {
        let row = self.ledger.row(&BEGIN, &[&after.as_uuid(), &reason]).await?;
        let row = Columns(&row);
        Ok(NewTimeline {
            timeline_id: TimelineId::from_uuid(row.get("timeline_id")?),
            leases: row.amount("leases")?,
            bytes: row.amount("bytes")?,
        })
    }
}
