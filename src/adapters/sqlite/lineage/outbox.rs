//! The outbox of events to emit, written by the triggers of the migration `lineage`, and for usage by the settlement of
//! a batch.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    model::{Outcome, UsageRow},
    ports::{LineageOutbox, OutboxEntry, OutboxKind, PortResult},
};
use rusqlite::{Connection, Row, named_params};
use serde_json::{Value, json};

use super::super::{
    SqliteStore,
    columns::{Sql, get},
};

/// A table of one row.
pub(in super::super) const SET_EMISSION: &str = "UPDATE lineage_emission SET enabled = :enabled";

/// A table of one row.
pub(in super::super) const IS_TELLING: &str = "SELECT enabled FROM lineage_emission";

/// Served by the primary key, from its start: claimed entries stay there for a short time only.
pub(in super::super) const CLAIM: &str = "
    UPDATE lineage_outbox SET claimed_until = :until WHERE outbox_id IN (
        SELECT outbox_id FROM lineage_outbox WHERE claimed_until <= :now ORDER BY outbox_id LIMIT :limit)
    RETURNING outbox_id, kind, happened_at, detail";

/// Served by the primary key.
pub(in super::super) const MARK_EMITTED: &str = "
    DELETE FROM lineage_outbox WHERE outbox_id IN (SELECT value FROM json_each(:ids))";

/// Served by the primary key, from its start: entries are in the order of time, except where clocks differ.
pub(in super::super) const PRUNE_OUTBOX: &str = "
    DELETE FROM lineage_outbox WHERE happened_at < :before AND outbox_id IN (
        SELECT outbox_id FROM lineage_outbox ORDER BY outbox_id LIMIT :limit)";

pub(in super::super) const TELL: &str = "
    INSERT INTO lineage_outbox (kind, happened_at, detail) VALUES (:kind, :at, :detail)";

#[async_trait]
impl LineageOutbox for SqliteStore {
    async fn set_emission(&self, enabled: bool) -> PortResult<()> {
        let set = move |conn: &Connection| {
            conn.prepare_cached(SET_EMISSION)?.execute(named_params! { ":enabled": enabled })?;
            Ok(())
        };
        self.workers.write("set_telling", set).await
    }

    async fn claim(&self, limit: u32, ttl: Duration) -> PortResult<Vec<OutboxEntry>> {
        let claim = move |conn: &Connection| {
            let now = Timestamp::now();
            let until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
            let mut statement = conn.prepare_cached(CLAIM)?;
            let chosen = named_params! { ":now": Sql(now), ":until": Sql(until), ":limit": limit };
            let mut entries = statement.query_map(chosen, entry)?.collect::<rusqlite::Result<Vec<_>>>()?;
            // RETURNING does not guarantee an order.
            entries.sort_unstable_by_key(|entry| entry.id);
            Ok(entries)
        };
        self.workers.write("claim_lineage", claim).await
    }

    async fn mark_emitted(&self, ids: &[i64]) -> PortResult<()> {
        let ids = json!(ids).to_string();
        let told = move |conn: &Connection| {
            conn.prepare_cached(MARK_EMITTED)?.execute(named_params! { ":ids": ids })?;
            Ok(())
        };
        self.workers.write("told_lineage", told).await
    }

    async fn prune_outbox(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let prune = move |conn: &Connection| {
            let old = named_params! { ":before": Sql(before), ":limit": limit };
            Ok(conn.prepare_cached(PRUNE_OUTBOX)?.execute(old)? as u64)
        };
        self.workers.write("prune_lineage_outbox", prune).await
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<OutboxEntry> {
    Ok(OutboxEntry {
        id: row.get("outbox_id")?,
        kind: get::<OutboxKind>(row, "kind")?,
        happened_at: get(row, "happened_at")?,
        detail: get::<Value>(row, "detail")?,
    })
}

/// Adds the new rows of a batch to the outbox, summed by content: one entry per content, however many rows.
pub(in super::super) fn add_streams_to_outbox<'a>(
    conn: &Connection,
    rows: impl Iterator<Item = &'a UsageRow>,
) -> rusqlite::Result<()> {
    if !conn.prepare_cached(IS_TELLING)?.query_row([], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    let mut contents = BTreeMap::<ContentHash, (u64, u64, Timestamp, Timestamp)>::new();
    // The charge for a lost lease is not a stream.
    for row in rows.filter(|row| row.outcome != Outcome::LostLease) {
        let sum = contents.entry(row.content_hash).or_insert((0, 0, row.started_at, row.finished_at));
        *sum = (sum.0 + 1, sum.1 + row.bytes_sent, sum.2.min(row.started_at), sum.3.max(row.finished_at));
    }
    let Some(at) = contents.values().map(|(.., last)| *last).max() else { return Ok(()) };
    let detail: Vec<Value> = contents
        .iter()
        .map(|(content, (streams, bytes, first, last))| {
            json!({
                "content": content, "streams": streams, "bytes": bytes,
                "first": first.as_microsecond(), "last": last.as_microsecond(),
            })
        })
        .collect();
    let entry =
        named_params! { ":kind": Sql(OutboxKind::Streams), ":at": Sql(at), ":detail": json!(detail).to_string() };
    conn.prepare_cached(TELL)?.execute(entry)?;
    Ok(())
}
