//! The change log, which the triggers of the migration `change_log` write.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::ports::{Change, ChangeMark, ChangePage, Changes, PortError, PortResult, Tag};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement, timelines::timeline};

/// By the primary key. `oldest` is the oldest running transaction: all transactions below it have ended, so their
/// changes are in this answer or in an earlier one, and the next read begins there. One row is returned even when
/// nothing has changed.
///
/// A mark ahead of `oldest` is from another server (a restored one, say). Its log does not tell which changes this node
/// has seen.
const CHANGES: Statement = Statement {
    name: "changes",
    sql: "
        SELECT now.oldest, t.timeline_id, t.moved, log.change_id, log.tag
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest) AS now
        CROSS JOIN penstock_timeline() AS t
        LEFT JOIN LATERAL (
            SELECT change_id, tag FROM change_log WHERE txid >= $1 ORDER BY txid, change_id LIMIT $2
        ) AS log ON true",
    types: &[Type::INT8, Type::INT8],
};

/// An insert.
const NOTE: Statement = Statement {
    name: "note_changes",
    sql: "INSERT INTO change_log (tag) SELECT unnest($1)",
    types: &[Type::TEXT_ARRAY],
};

/// By `change_log_age`, then by the rows' `ctid`, which cannot change while the rows are locked.
const FORGET: Statement = Statement {
    name: "forget_changes",
    sql: "
        DELETE FROM change_log
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM change_log WHERE changed_at < $1 ORDER BY changed_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

#[async_trait]
impl Changes for PostgresStore {
    async fn changes(&self, after: Option<ChangeMark>, limit: u32) -> PortResult<ChangePage> {
        // Beyond every transaction: only the mark is returned.
        let from = after.map_or(i64::MAX, |mark| mark.0);
        let rows = self.ledger.rows(&CHANGES, &[&from, &(i64::from(limit) + 1)]).await?;
        let first = rows.first().ok_or_else(|| PortError::Corrupt("the table timelines has no row".to_owned()))?;
        let (oldest, timeline) = (Columns(first).get("oldest")?, timeline(&Columns(first))?);
        let mut changes = Vec::with_capacity(rows.len());
        let mut anything = after.is_some() && oldest < from || rows.len() > limit as usize;
        for row in rows.iter().map(Columns) {
            let Some(id) = row.get::<Option<i64>>("change_id")? else { continue };
            match row.get::<&str>("tag")?.parse() {
                Ok(tag) => changes.push(Change { id, tag }),
                // A tag from a later version that runs side by side with this one.
                Err(_) => anything = true,
            }
        }
        Ok(ChangePage { changes, mark: ChangeMark(oldest), timeline, anything })
    }

    async fn note_changes(&self, tags: &[Tag]) -> PortResult<()> {
        let tags: Vec<String> = tags.iter().map(Tag::to_string).collect();
        self.db.execute(&NOTE, &[&tags]).await.map(drop)
    }

    async fn forget_changes(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&FORGET, &[&before, &i64::from(limit)]).await
    }
}
