//! Lineage: the three interfaces of the port, one file each.
//!
//! Work that needs several steps under locks (storing a batch, trimming a namespace) is done by a function of the
//! migration `lineage`, which explains its locks. Days leave the window as whole partitions, by separate statements:
//! see `upkeep`.

mod fold;
mod ingest;
mod outbox;
mod read;
mod upkeep;

use penstock_actors::{
    model::{LineageNode, NodeKey, NodeKind, NodeName},
    ports::PortResult,
};
use uuid::Uuid;

use super::columns::Columns;

/// The columns of a node that a [`LineageNode`] is read from.
fn node(row: &Columns<'_>) -> PortResult<LineageNode> {
    Ok(LineageNode {
        name: node_name(row)?,
        first_seen: row.get("first_seen")?,
        last_seen: row.get("last_seen")?,
        events: row.amount("events")?,
    })
}

fn node_name(row: &Columns<'_>) -> PortResult<NodeName> {
    Ok(NodeName { kind: row.word("kind", NodeKind::parse)?, namespace: row.get("namespace")?, name: row.get("name")? })
}

fn key(key: NodeKey) -> Uuid {
    Uuid::from_bytes(key.0)
}

fn node_key(row: &Columns<'_>, column: &str) -> PortResult<NodeKey> {
    row.get::<Uuid>(column).map(|uuid| NodeKey(uuid.into_bytes()))
}
