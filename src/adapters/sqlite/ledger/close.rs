//! Closing: the end of an epoch whose usage is settled. It takes no more leases, those that it has are released, and what is
//! left of the charge for those that were lost is taken back.

use penstock_actors::{
    ids::UsageId,
    model::{Credit, NodeEpoch, WindowSet},
    ports::Closed,
};
use rusqlite::{Connection, Row, named_params};

use super::{
    super::{
        columns::{Sql, get, get_credit, get_opt},
        error::JobFailure,
        leases::{self, LeaseKey},
        usage,
        windows::{self, WindowChange},
    },
    nodes, refill,
};

/// Served by `quota_leases_node`.
pub(in super::super) const LEASES_OF_EPOCH: &str = "
    SELECT receipt_id, hour_start, bytes, requests, lost_usage_id FROM quota_leases
    WHERE node_id = :node AND epoch = :epoch
    LIMIT :limit";

/// A lease of the epoch that ends.
struct LastLease {
    key: LeaseKey,
    amount: Credit,
    /// The usage row of a lost lease's charge.
    charged_as: Option<UsageId>,
}

pub(super) fn close(conn: &Connection, node: NodeEpoch, limit: u32) -> Result<Closed, JobFailure> {
    nodes::fence(conn, node)?;
    conn.prepare_cached(refill::FORGET_AGAIN)?
        .execute(named_params! { ":node": Sql(node.node), ":epoch": node.epoch })?;
    let from_row = |row: &Row<'_>| {
        let key = LeaseKey { receipt: get(row, "receipt_id")?, node, hour: get(row, "hour_start")? };
        let charged_as = get_opt(row, "lost_usage_id")?;
        Ok(LastLease { key, amount: get_credit(row, "bytes", "requests")?, charged_as })
    };
    // One more than the step may take, to know whether any are left.
    let which = named_params! { ":node": Sql(node.node), ":epoch": node.epoch, ":limit": i64::from(limit) + 1 };
    let mut left: Vec<_> =
        conn.prepare_cached(LEASES_OF_EPOCH)?.query_map(which, from_row)?.collect::<rusqlite::Result<_>>()?;
    let mut closed = Closed { more: left.len() > limit as usize, ..Closed::default() };
    left.truncate(limit as usize);
    for LastLease { key, amount, charged_as } in left {
        leases::delete(conn, key)?;
        let freed = if let Some(row) = charged_as {
            // The row may have been pruned with its window; then there is nothing to take back.
            let used = usage::shrink(conn, row, amount)?;
            closed.uncharged_leases += u64::from(!used.is_zero());
            closed.uncharged += used;
            WindowChange { used, ..WindowChange::default() }
        } else {
            closed.leases += 1;
            closed.credit += amount;
            WindowChange { reserved: amount, ..WindowChange::default() }
        };
        windows::take(conn, key.receipt, &WindowSet::at(key.hour), freed)?;
    }
    Ok(closed)
}
