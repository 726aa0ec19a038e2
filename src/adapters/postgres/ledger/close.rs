//! Closing: the end of an epoch whose usage is settled. It takes no more leases, those that it has are released, and what is
//! left of the charge for those that were lost is taken back.

use penstock_actors::{
    model::NodeEpoch,
    ports::{Closed, PortResult},
};
use tokio_postgres::types::Type;

use super::super::{PostgresStore, columns::Columns, db::Statement};

/// The epoch by its primary key, its leases by `quota_leases_node`, the rest by primary keys, inside the function.
const CLOSE: Statement = Statement {
    name: "close",
    sql: "
        SELECT taken_leases, taken_bytes, taken_requests, uncharged_leases, uncharged_bytes, uncharged_requests, more
        FROM penstock_end_epoch($1, $2, $3)",
    types: &[Type::UUID, Type::INT8, Type::INT8],
};

pub(super) async fn close(store: &PostgresStore, node: NodeEpoch, limit: u32) -> PortResult<Closed> {
    let row = store.ledger.row(&CLOSE, &[&node.node.as_uuid(), &node.epoch, &i64::from(limit)]).await?;
    let row = Columns(&row);
    Ok(Closed {
        leases: row.amount("taken_leases")?,
        credit: row.credit("taken_bytes", "taken_requests")?,
        uncharged_leases: row.amount("uncharged_leases")?,
        uncharged: row.credit("uncharged_bytes", "uncharged_requests")?,
        more: row.get("more")?,
    })
}
