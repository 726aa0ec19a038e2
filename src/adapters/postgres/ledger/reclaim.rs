//! Reclaiming: the leases of epochs that are silent.

use jiff::Timestamp;
use penstock_actors::{
    ids::UsageId,
    model::{LostLease, NodeEpoch},
    ports::{PortResult, Pulse, Reclaimed},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::super::{
    PostgresStore,
    columns::{Columns, signed},
    db::Statement,
};

/// Silent epochs by their primary keys, their leases by `quota_leases_node`, the rest by primary keys, inside the
/// function.
const RECLAIM: Statement = Statement {
    name: "reclaim",
    sql: "
        SELECT taken_leases, taken_bytes, taken_requests, spared_leases, spared_bytes, spared_requests, more
        FROM penstock_reclaim_silent($1, $2, $3, $4, $5, $6, $7, $8)",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::UUID_ARRAY,
    ],
};

pub(super) async fn reclaim(
    store: &PostgresStore,
    by: NodeEpoch,
    silent: &[Pulse],
    mode: LostLease,
    now: Timestamp,
    limit: u32,
) -> PortResult<Reclaimed> {
    let nodes: Vec<Uuid> = silent.iter().map(|pulse| pulse.node_epoch.node.as_uuid()).collect();
    let epochs: Vec<i64> = silent.iter().map(|pulse| pulse.node_epoch.epoch).collect();
    let heartbeats: Vec<i64> = silent.iter().map(|pulse| signed(pulse.heartbeats)).collect();
    let charges: Option<Vec<Uuid>> = match mode {
        LostLease::Charge => Some((0..limit).map(|_| UsageId::next().as_uuid()).collect()),
        LostLease::Release => None,
    };
    let (node, epoch, most) = (by.node.as_uuid(), by.epoch, i64::from(limit));
    let row = store.upkeep.row(&RECLAIM, &[&node, &epoch, &nodes, &epochs, &heartbeats, &now, &most, &charges]).await?;
    let row = Columns(&row);
    Ok(Reclaimed {
        leases: row.amount("taken_leases")?,
        credit: row.credit("taken_bytes", "taken_requests")?,
        spared_leases: row.amount("spared_leases")?,
        spared: row.credit("spared_bytes", "spared_requests")?,
        more: row.get("more")?,
    })
}
