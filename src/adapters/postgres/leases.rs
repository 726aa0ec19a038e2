//! The rows of `quota_leases`, as far as no function of the database reads and writes them.

use penstock_actors::{
    model::{Credit, NodeEpoch},
    ports::PortResult,
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement};

/// By `quota_leases_node`.
const LEASED: Statement = Statement {
    name: "leased",
    sql: "
        SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(requests), 0)::bigint AS requests
        FROM quota_leases WHERE node_id = $1 AND epoch = $2 AND state = 'live'",
    types: &[Type::UUID, Type::INT8],
};

/// The sum of the live leases of an epoch.
pub(super) async fn held(store: &PostgresStore, node: NodeEpoch) -> PortResult<Credit> {
    let row = store.upkeep.row(&LEASED, &[&node.node.as_uuid(), &node.epoch]).await?;
    Columns(&row).credit("bytes", "requests")
}
