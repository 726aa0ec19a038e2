//! The rows of `ledger_nodes`: the epochs that may hold leases, per instance.

use std::time::Duration;

use penstock_actors::{
    ids::NodeId,
    model::{Credit, NodeEpoch},
    ports::{EpochStanding, PortError, PortResult, Pulse},
};
use tokio_postgres::{Row, types::Type};

use super::super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
};

/// The node's epochs by the primary key.
const HEARTBEAT: Statement = Statement {
    name: "heartbeat",
    sql: "
        INSERT INTO ledger_nodes AS n (node_id, epoch, alive_until, beats, lease_ms)
        SELECT $1, $2, clock_timestamp() + make_interval(secs => $3), 1, ($3 * 1000)::bigint
        WHERE NOT EXISTS (SELECT FROM ledger_nodes later WHERE later.node_id = $1 AND later.epoch > $2)
        ON CONFLICT (node_id, epoch) DO UPDATE SET
            alive_until = excluded.alive_until, beats = n.beats + 1, lease_ms = excluded.lease_ms,
            on_time = CASE WHEN n.alive_until > clock_timestamp() THEN n.on_time + 1 ELSE 0 END
        WHERE NOT n.fenced",
    types: &[Type::UUID, Type::INT8, Type::FLOAT8],
};

/// The latest epoch of a node, by the primary key.
const STANDING: Statement = Statement {
    name: "standing",
    sql: "
        SELECT epoch, beats, NOT fenced AND alive_until > clock_timestamp() AS alive
        FROM ledger_nodes WHERE node_id = $1 ORDER BY epoch DESC LIMIT 1",
    types: &[Type::UUID],
};

/// By the primary key.
const DECLARE_DEAD: Statement = Statement {
    name: "declare_dead",
    sql: "
        UPDATE ledger_nodes SET fenced = true, alive_until = least(alive_until, clock_timestamp())
        WHERE node_id = $1 AND epoch = $2 AND NOT fenced",
    types: &[Type::UUID, Type::INT8],
};

/// By `ledger_nodes_alive`, later epochs by the primary key.
const PULSES: Statement = Statement {
    name: "pulses",
    sql: "
        SELECT node_id, epoch, beats, lease_ms, alive_until > clock_timestamp() AND NOT EXISTS (
            SELECT FROM ledger_nodes later WHERE later.node_id = n.node_id AND later.epoch > n.epoch) AS alive
        FROM ledger_nodes n WHERE NOT fenced",
    types: &[],
};

/// By the primary key.
const NOTE_UNKNOWN: Statement = Statement {
    name: "note_unknown",
    sql: "
        UPDATE ledger_nodes SET unknown_bytes = $3, unknown_requests = $4, compared_at = clock_timestamp()
        WHERE node_id = $1 AND epoch = $2",
    types: &[Type::UUID, Type::INT8, Type::INT8, Type::INT8],
};

pub(super) async fn heartbeat(store: &PostgresStore, node: NodeEpoch, ttl: Duration) -> PortResult<()> {
    let kept = store.ledger.execute(&HEARTBEAT, &[&node.node.as_uuid(), &node.epoch, &ttl.as_secs_f64()]).await?;
    if kept == 0 { Err(PortError::Fenced) } else { Ok(()) }
}

pub(super) async fn standing(store: &PostgresStore, node: NodeId) -> PortResult<Option<EpochStanding>> {
    let row = store.ledger.row_opt(&STANDING, &[&node.as_uuid()]).await?;
    let standing = |row: &Row| {
        let row = Columns(row);
        Ok(EpochStanding { epoch: row.get("epoch")?, heartbeats: row.amount("beats")?, alive: row.get("alive")? })
    };
    row.as_ref().map(standing).transpose()
}

pub(super) async fn declare_dead(store: &PostgresStore, node: NodeEpoch) -> PortResult<()> {
    store.ledger.execute(&DECLARE_DEAD, &[&node.node.as_uuid(), &node.epoch]).await.map(drop)
}

pub(super) async fn pulses(store: &PostgresStore) -> PortResult<Vec<Pulse>> {
    let rows = store.ledger.rows(&PULSES, &[]).await?;
    rows.iter().map(pulse).collect()
}

pub(super) async fn note_unknown(store: &PostgresStore, node: NodeEpoch, unknown: Credit) -> PortResult<()> {
    let (id, bytes, requests) = (node.node.as_uuid(), signed(unknown.bytes), signed(unknown.requests));
    store.upkeep.execute(&NOTE_UNKNOWN, &[&id, &node.epoch, &bytes, &requests]).await.map(drop)
}

fn pulse(row: &Row) -> PortResult<Pulse> {
    let row = Columns(row);
    let node_epoch = NodeEpoch { node: NodeId::from_uuid(row.get("node_id")?), epoch: row.get("epoch")? };
    let lease = row.get::<Option<i64>>("lease_ms")?;
    let lease = lease.map(|millis| Duration::from_millis(millis.try_into().unwrap_or_default()));
    Ok(Pulse { node_epoch, heartbeats: row.amount("beats")?, lease, alive: row.get("alive")? })
}
