//! Closing: the end of an instance that stops. Its leases are released, and its epoch takes no more leases.

use penstock_actors::{
    model::{NodeEpoch, WindowSet},
    ports::Reclaimed,
};
use rusqlite::{Connection, Row, named_params};

use super::{
    super::{
        columns::{Sql, get, get_credit},
        error::JobFailure,
        leases::{self, LeaseKey},
        windows::{self, WindowChange},
    },
    nodes, refill,
};

/// Served by `quota_leases_node`.
pub(in super::super) const LEASES_OF_EPOCH: &str = "
    SELECT receipt_id, hour_start, bytes, requests FROM quota_leases
    WHERE node_id = :node AND epoch = :epoch AND state = 'live'
    LIMIT :limit";

pub(super) fn close(conn: &Connection, node: NodeEpoch, limit: u32) -> Result<Reclaimed, JobFailure> {
    nodes::fence(conn, node)?;
    conn.prepare_cached(refill::FORGET_AGAIN)?
        .execute(named_params! { ":node": Sql(node.node), ":epoch": node.epoch })?;
    let from_row = |row: &Row<'_>| {
        let key = LeaseKey { receipt: get(row, "receipt_id")?, node, hour: get(row, "hour_start")? };
        Ok((key, get_credit(row, "bytes", "requests")?))
    };
    // One more than the step may take, to know whether any are left.
    let which = named_params! { ":node": Sql(node.node), ":epoch": node.epoch, ":limit": i64::from(limit) + 1 };
    let mut left: Vec<_> =
        conn.prepare_cached(LEASES_OF_EPOCH)?.query_map(which, from_row)?.collect::<rusqlite::Result<_>>()?;
    let mut closed = Reclaimed { more: left.len() > limit as usize, ..Reclaimed::default() };
    left.truncate(limit as usize);
    for (key, amount) in left {
        leases::delete(conn, key)?;
        let freed = WindowChange { reserved: amount, ..WindowChange::default() };
        windows::take(conn, key.receipt, &WindowSet::at(key.hour), freed)?;
        closed.leases += 1;
        closed.credit += amount;
    }
    Ok(closed)
}
