//! The rows of `ledger_nodes`: the epochs that may hold leases, per instance.
//!
//! Whether an epoch is alive is decided by this machine's clock, which all processes that share the file also share,
//! and not by a time that a caller passes: an instance with a wrong clock must not keep its leases for ever.

use std::time::Duration;

use jiff::Timestamp;
use penstock_actors::{
    ids::NodeId,
    model::{Credit, NodeEpoch},
    ports::{EpochStanding, LeaseComparison, PortError, Pulse},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::super::{
    columns::{Sql, get, get_credit, get_opt},
    error::JobFailure,
};

/// Served by the primary key, for the row and for later epochs of the node alike. A late epoch is revived unless it was
/// fenced.
pub(in super::super) const HEARTBEAT: &str = "
    INSERT INTO ledger_nodes (node_id, epoch, alive_until, beats, lease_ms)
    SELECT :node, :epoch, :alive_until, 1, :lease_ms
    WHERE NOT EXISTS (SELECT 1 FROM ledger_nodes WHERE node_id = :node AND epoch > :epoch)
    ON CONFLICT (node_id, epoch) DO UPDATE SET
        alive_until = excluded.alive_until, beats = beats + 1, lease_ms = excluded.lease_ms,
        on_time = CASE WHEN alive_until > :now THEN on_time + 1 ELSE 0 END
    WHERE fenced = 0";

/// Served by the primary key.
pub(in super::super) const STANDING: &str = "
    SELECT epoch, beats, fenced = 0 AND alive_until > :now AS alive
    FROM ledger_nodes WHERE node_id = :node ORDER BY epoch DESC LIMIT 1";

/// Served by the primary key.
pub(in super::super) const DECLARE_DEAD: &str = "
    UPDATE ledger_nodes SET fenced = 1, alive_until = min(alive_until, :now)
    WHERE node_id = :node AND epoch = :epoch AND fenced = 0";

/// Reads the whole table, which has one row per recent epoch of an instance: tens of rows, and the Janitor prunes it. Later
/// epochs are found by the primary key.
pub(in super::super) const PULSES: &str = "
    SELECT node_id, epoch, beats, lease_ms, alive_until > :now AND NOT EXISTS (
        SELECT 1 FROM ledger_nodes later WHERE later.node_id = n.node_id AND later.epoch > n.epoch) AS alive
    FROM ledger_nodes n WHERE fenced = 0";

/// Served by the primary key. An epoch that is late, or was late recently, must not fence other epochs.
pub(in super::super) const MAY_RECLAIM: &str = "
    SELECT 1 FROM ledger_nodes
    WHERE node_id = :node AND epoch = :epoch AND fenced = 0 AND alive_until > :now AND on_time >= 2";

/// Served by the primary key.
pub(in super::super) const NODE_ALIVE: &str = "
    SELECT 1 FROM ledger_nodes
    WHERE node_id = :node AND epoch = :epoch AND fenced = 0 AND alive_until > :now";

/// Served by the primary key. An unknown epoch is inserted as fenced, so that it can settle once but takes no leases.
pub(in super::super) const KNOW_NODE: &str = "
    INSERT INTO ledger_nodes (node_id, epoch, alive_until, fenced) VALUES (:node, :epoch, :now, 1)
    ON CONFLICT (node_id, epoch) DO NOTHING";

/// Served by the primary key.
pub(in super::super) const ADVANCE_WATERMARK: &str = "
    UPDATE ledger_nodes SET watermark = :sequence
    WHERE node_id = :node AND epoch = :epoch AND watermark < :sequence";

/// Served by the primary key.
pub(in super::super) const NOTE_UNKNOWN: &str = "
    UPDATE ledger_nodes SET unknown_bytes = :bytes, unknown_requests = :requests, compared_at = :now
    WHERE node_id = :node AND epoch = :epoch";

/// Reads the whole table, as `PULSES` does.
pub(in super::super) const COMPARED: &str = "
    SELECT node_id, epoch, compared_at, coalesce(unknown_bytes, 0) AS bytes, coalesce(unknown_requests, 0) AS requests
    FROM ledger_nodes WHERE fenced = 0 AND alive_until > :now ORDER BY node_id, epoch";

/// Served by the primary key.
pub(in super::super) const FENCE_SILENT: &str = "
    UPDATE ledger_nodes SET fenced = 1
    WHERE node_id = :node AND epoch = :epoch AND beats = :beats AND fenced = 0 AND alive_until <= :now";

/// Served by the primary key. An unknown epoch is inserted as fenced.
pub(in super::super) const FENCE: &str = "
    INSERT INTO ledger_nodes (node_id, epoch, alive_until, fenced) VALUES (:node, :epoch, :now, 1)
    ON CONFLICT (node_id, epoch) DO UPDATE SET fenced = 1";

pub(super) fn heartbeat(conn: &Connection, node: NodeEpoch, ttl: Duration) -> Result<(), JobFailure> {
    let now = Timestamp::now();
    let alive_until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
    let changed = conn.prepare_cached(HEARTBEAT)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":alive_until": Sql(alive_until), ":now": Sql(now),
        ":lease_ms": i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX),
    })?;
    if changed == 1 { Ok(()) } else { Err(PortError::Fenced.into()) }
}

/// Fails with `Fenced` unless the epoch may take leases now.
pub(super) fn check_alive(conn: &Connection, node: NodeEpoch) -> Result<(), JobFailure> {
    let alive = conn.prepare_cached(NODE_ALIVE)?.exists(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":now": Sql(Timestamp::now()),
    })?;
    if alive { Ok(()) } else { Err(PortError::Fenced.into()) }
}

/// Advances the watermark to `sequence`; false when the watermark has reached it already.
pub(super) fn advance_watermark(conn: &Connection, node: NodeEpoch, sequence: i64) -> rusqlite::Result<bool> {
    conn.prepare_cached(KNOW_NODE)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":now": Sql(Timestamp::now()),
    })?;
    let advanced = conn.prepare_cached(ADVANCE_WATERMARK)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":sequence": sequence,
    })?;
    Ok(advanced == 1)
}

pub(super) fn standing(conn: &Connection, node: NodeId) -> rusqlite::Result<Option<EpochStanding>> {
    let from_row = |row: &Row<'_>| {
        Ok(EpochStanding { epoch: row.get("epoch")?, heartbeats: get(row, "beats")?, alive: row.get("alive")? })
    };
    conn.prepare_cached(STANDING)?
        .query_row(named_params! { ":node": Sql(node), ":now": Sql(Timestamp::now()) }, from_row)
        .optional()
}

pub(super) fn pulses(conn: &Connection) -> rusqlite::Result<Vec<Pulse>> {
    let from_row = |row: &Row<'_>| {
        let node_epoch = NodeEpoch { node: get(row, "node_id")?, epoch: row.get("epoch")? };
        let lease = row.get::<_, Option<i64>>("lease_ms")?;
        let lease = lease.map(|millis| Duration::from_millis(millis.try_into().unwrap_or_default()));
        Ok(Pulse { node_epoch, heartbeats: get(row, "beats")?, lease, alive: row.get("alive")? })
    };
    conn.prepare_cached(PULSES)?.query_map(named_params! { ":now": Sql(Timestamp::now()) }, from_row)?.collect()
}

pub(super) fn note_unknown(conn: &Connection, node: NodeEpoch, unknown: Credit) -> rusqlite::Result<()> {
    conn.prepare_cached(NOTE_UNKNOWN)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":bytes": Sql(unknown.bytes),
        ":requests": Sql(unknown.requests), ":now": Sql(Timestamp::now()),
    })?;
    Ok(())
}

pub(in super::super) fn compared(conn: &Connection) -> rusqlite::Result<Vec<LeaseComparison>> {
    let from_row = |row: &Row<'_>| {
        let node_epoch = NodeEpoch { node: get(row, "node_id")?, epoch: row.get("epoch")? };
        let (credit, at) = (get_credit(row, "bytes", "requests")?, get_opt::<Timestamp>(row, "compared_at")?);
        Ok(LeaseComparison { node_epoch, unknown: at.map(|at| (credit, at)) })
    };
    conn.prepare_cached(COMPARED)?.query_map(named_params! { ":now": Sql(Timestamp::now()) }, from_row)?.collect()
}

pub(super) fn declare_dead(conn: &Connection, node: NodeEpoch) -> rusqlite::Result<()> {
    conn.prepare_cached(DECLARE_DEAD)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":now": Sql(Timestamp::now()),
    })?;
    Ok(())
}

/// Fences the `silent` epochs whose heartbeat has run out, if the caller is alive itself; false when it is not. One reading of
/// the clock decides both.
pub(super) fn fence_silent(conn: &Connection, by: NodeEpoch, silent: &[Pulse]) -> rusqlite::Result<bool> {
    let now = Timestamp::now();
    let may = conn.prepare_cached(MAY_RECLAIM)?.exists(named_params! {
        ":node": Sql(by.node), ":epoch": by.epoch, ":now": Sql(now),
    })?;
    if may {
        let mut fence = conn.prepare_cached(FENCE_SILENT)?;
        for Pulse { node_epoch, heartbeats, .. } in silent.iter().filter(|pulse| pulse.node_epoch != by) {
            fence.execute(named_params! {
                ":node": Sql(node_epoch.node), ":epoch": node_epoch.epoch, ":beats": Sql(*heartbeats), ":now": Sql(now),
            })?;
        }
    }
    Ok(may)
}

/// Fences one epoch, whatever its heartbeats say.
pub(super) fn fence(conn: &Connection, node: NodeEpoch) -> rusqlite::Result<()> {
    conn.prepare_cached(FENCE)?.execute(named_params! {
        ":node": Sql(node.node), ":epoch": node.epoch, ":now": Sql(Timestamp::now()),
    })?;
    Ok(())
}
