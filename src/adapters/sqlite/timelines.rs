//! The port `Timelines`. A history belongs to the file in which it was begun.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::TimelineId,
    model::{NewTimeline, Timeline},
    ports::{PortResult, Timelines},
};
use rusqlite::{Connection, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// The last row; the table itself is in this order. A file whose identity is not recorded yet counts as the right one.
pub(super) const TIMELINE: &str = "
    SELECT timeline_id, home NOT IN ('', :home) AS moved FROM timelines ORDER BY number DESC LIMIT 1";

/// Once, by the process that migrates: SQL does not know the identity of the file.
pub(super) const SETTLE_IN: &str = "UPDATE timelines SET home = :home WHERE home = ''";

/// Once per restore: reads all leases.
pub(super) const HELD: &str =
    "SELECT count(*) AS leases, coalesce(sum(bytes), 0) AS bytes FROM quota_leases WHERE state = 'live'";

/// Once per restore: reads the whole table, and finds the leases of each node by `quota_leases_node`.
pub(super) const END_EPOCHS: &str = "
    UPDATE ledger_nodes SET fenced = 1, spared = 1
    WHERE fenced = 0 OR EXISTS (
        SELECT 1 FROM quota_leases l
        WHERE l.node_id = ledger_nodes.node_id AND l.epoch = ledger_nodes.epoch AND l.state = 'live')";

/// Once per restore.
pub(super) const BEGIN: &str = "
    INSERT INTO timelines (number, timeline_id, began_at, home, reason, leases_released, bytes_released)
    SELECT max(number) + 1, :timeline, :now, :home, :reason, :leases, :bytes FROM timelines";

#[async_trait]
impl Timelines for SqliteStore {
    async fn timeline(&self) -> PortResult<Timeline> {
        let home = self.home.clone();
        self.workers.read("timeline", move |conn| Ok(timeline(conn, &home)?)).await
    }

    async fn begin_timeline(&self, after: TimelineId, reason: &str) -> PortResult<NewTimeline> {
        let (home, reason) = (self.home.clone(), reason.to_owned());
        self.workers.write("begin_timeline", move |conn| Ok(begin(conn, after, &home, &reason)?)).await
    }
}

pub(super) fn timeline(conn: &Connection, home: &str) -> rusqlite::Result<Timeline> {
    conn.prepare_cached(TIMELINE)?.query_row(named_params! { ":home": home }, |row| {
        Ok(Timeline { timeline_id: get(row, "timeline_id")?, moved: row.get("moved")? })
    })
}

/// Records the file to which the first history belongs.
pub(super) fn settle_in(conn: &Connection, home: &str) -> rusqlite::Result<()> {
    conn.execute(SETTLE_IN, named_params! { ":home": home }).map(drop)
}

pub(super) fn begin(conn: &Connection, after: TimelineId, home: &str, reason: &str) -> rusqlite::Result<NewTimeline> {
    let last = timeline(conn, home)?;
    if last.timeline_id != after && !last.moved {
        return Ok(NewTimeline { timeline_id: last.timeline_id, leases: 0, bytes: 0 });
    }
    let (leases, bytes): (u64, u64) =
        conn.prepare_cached(HELD)?.query_row([], |row| Ok((get(row, "leases")?, get(row, "bytes")?)))?;
    conn.prepare_cached(END_EPOCHS)?.execute([])?;
    let timeline_id = TimelineId::random();
    conn.prepare_cached(BEGIN)?.execute(named_params! {
        ":timeline": Sql(timeline_id), ":now": Sql(Timestamp::now()), ":home": home, ":reason": reason,
        ":leases": Sql(leases), ":bytes": Sql(bytes),
    })?;
    Ok(NewTimeline { timeline_id, leases, bytes })
}
