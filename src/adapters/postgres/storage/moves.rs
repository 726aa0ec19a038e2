//! The statements for moves between tiers.

use penstock_actors::{
    model::{ContentMove, MoveState, StorageTier},
    ports::PortResult,
};
use tokio_postgres::types::Type;

use crate::adapters::postgres::{columns::Columns, db::Statement};

/// The second attempt sees a move that another call began at the same moment, unless that move is over by then.
pub(super) const ATTEMPTS: usize = 5;

/// By the primary keys. Stored content is returned without a move if another call began one a moment ago: this
/// statement conflicts with that move but cannot see it.
pub(super) const BEGIN: Statement = Statement {
    name: "begin_move",
    sql: "
        WITH content AS (
            SELECT content_hash, size_bytes FROM overlay_storage_index WHERE content_hash = $1 AND state = 'stored'
        ),
        begun AS (
            INSERT INTO storage_moves AS m (content_hash, to_tier, state, since)
            SELECT content_hash, $2, 'copying', $3 FROM content
            ON CONFLICT (content_hash) DO UPDATE SET
                to_tier = excluded.to_tier, state = excluded.state, since = excluded.since
            WHERE (m.state = 'copying' AND m.since < $4) OR (m.state = 'leaving' AND m.to_tier <> excluded.to_tier)
            RETURNING true AS is_ours, content_hash, to_tier, state, since
        )
        SELECT m.is_ours, content_hash, content.size_bytes, m.to_tier, m.state, m.since
        FROM content
        LEFT JOIN (
            SELECT * FROM begun
            UNION ALL
            SELECT false, content_hash, to_tier, state, since
            FROM storage_moves WHERE content_hash = $1 AND NOT EXISTS (SELECT FROM begun)
        ) AS m USING (content_hash)",
    types: &[Type::BYTEA, Type::TEXT, Type::TIMESTAMPTZ, Type::TIMESTAMPTZ],
};

/// By the primary key.
pub(super) const KEEP: Statement = Statement {
    name: "keep_move",
    sql: "
        UPDATE storage_moves SET since = $3 WHERE content_hash = $1 AND to_tier = $2 AND state = 'copying'",
    types: &[Type::BYTEA, Type::TEXT, Type::TIMESTAMPTZ],
};

/// By the primary keys.
pub(super) const SWITCH: Statement = Statement {
    name: "switch_tier",
    sql: "
        WITH switched AS (
            UPDATE storage_moves SET state = 'leaving', since = $3 WHERE content_hash = $1 AND to_tier = $2
            RETURNING content_hash
        ),
        told AS (
            UPDATE overlay_storage_index c SET tier = $2 FROM switched s
            WHERE c.content_hash = s.content_hash AND c.tier <> $2
        )
        SELECT content_hash FROM switched",
    types: &[Type::BYTEA, Type::TEXT, Type::TIMESTAMPTZ],
};

/// By the primary key.
pub(super) const END: Statement = Statement {
    name: "end_move",
    sql: "DELETE FROM storage_moves WHERE content_hash = $1 AND to_tier = $2 AND state = $3",
    types: &[Type::BYTEA, Type::TEXT, Type::TEXT],
};

/// By the primary keys.
pub(super) const OF_CONTENT: Statement = Statement {
    name: "move_of",
    sql: "
        SELECT content_hash, c.size_bytes, m.to_tier, m.state, m.since
        FROM storage_moves m JOIN overlay_storage_index c USING (content_hash)
        WHERE content_hash = $1",
    types: &[Type::BYTEA],
};

/// By `storage_moves_state`, and the primary key of the storage index, which has a row for every content that moves.
pub(super) const DUE: Statement = Statement {
    name: "moves",
    sql: "
        SELECT m.content_hash,
            (SELECT c.size_bytes FROM overlay_storage_index c WHERE c.content_hash = m.content_hash) AS size_bytes,
            m.to_tier, m.state, m.since
        FROM storage_moves m
        WHERE m.state = $1 AND m.since < $2
        ORDER BY m.since
        LIMIT $3",
    types: &[Type::TEXT, Type::TIMESTAMPTZ, Type::INT8],
};

pub(super) fn content_move(row: &Columns<'_>) -> PortResult<ContentMove> {
    Ok(ContentMove {
        content_hash: row.hash("content_hash")?,
        size_bytes: row.amount("size_bytes")?,
        to: row.word("to_tier", StorageTier::parse)?,
        state: row.word("state", MoveState::parse)?,
        since: row.get("since")?,
    })
}
