//! Lineage: the three interfaces of the port, one file each.
//!
//! Events are stored and read in Rust between plain statements, each of which costs microseconds here: a walk through
//! the graph is a breadth-first search in one snapshot.

use penstock_actors::model::{LineageNode, NodeName};
use rusqlite::Row;

use super::columns::get;

pub(super) mod ingest;
pub(super) mod outbox;
pub(super) mod read;
pub(super) mod upkeep;

fn node_from(row: &Row<'_>) -> rusqlite::Result<LineageNode> {
    Ok(LineageNode {
        name: name_from(row)?,
        first_seen: get(row, "first_seen")?,
        last_seen: get(row, "last_seen")?,
        events: get(row, "events")?,
    })
}

fn name_from(row: &Row<'_>) -> rusqlite::Result<NodeName> {
    Ok(NodeName { kind: get(row, "kind")?, namespace: row.get("namespace")?, name: row.get("name")? })
}
