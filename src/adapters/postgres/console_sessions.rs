//! The port `ConsoleSessions`. Always on the primary: a session that was ended must not look open on a replica that lags.

use async_trait::async_trait;
use penstock_actors::{
    ids::KeyId,
    ports::{ConsoleSession, ConsoleSessions, MOST_SESSIONS_OF_A_KEY, NewConsoleSession, PortResult},
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32, out_of_range},
    db::Statement,
};

/// Few rows: [`MOST_SESSIONS_OF_A_KEY`] of each admin key; those of one key by `console_sessions_key`. The one that begins is not among those that are counted.
const BEGIN: Statement = Statement {
    name: "begin_console_session",
    sql: "
        WITH expired AS (
            DELETE FROM console_sessions WHERE expires_at <= clock_timestamp()
        ),
        surplus AS (
            DELETE FROM console_sessions WHERE token_hash = ANY (ARRAY(
                SELECT token_hash FROM console_sessions WHERE key_id = $3 AND expires_at > clock_timestamp()
                ORDER BY made_at DESC OFFSET $5))
        )
        INSERT INTO console_sessions (token_hash, secret_hash, key_id, made_at, expires_at)
        VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp() + $4 * interval '1 millisecond')
        RETURNING secret_hash, key_id, expires_at",
    types: &[Type::BYTEA, Type::BYTEA, Type::UUID, Type::INT8, Type::INT8],
};

/// By the primary key.
const SESSION: Statement = Statement {
    name: "console_session",
    sql: "
        SELECT secret_hash, key_id, expires_at FROM console_sessions
        WHERE token_hash = $1 AND expires_at > clock_timestamp()",
    types: &[Type::BYTEA],
};

/// By the primary key.
const END: Statement = Statement {
    name: "end_console_session",
    sql: "DELETE FROM console_sessions WHERE token_hash = $1 AND expires_at > clock_timestamp()",
    types: &[Type::BYTEA],
};

#[async_trait]
impl ConsoleSessions for PostgresStore {
    async fn begin_console_session(&self, new: &NewConsoleSession) -> PortResult<ConsoleSession> {
        let ttl_ms = i64::try_from(new.ttl.as_millis()).map_err(|_| out_of_range("ttl"))?;
        let params: [super::db::Param<'_>; 5] = [
            &new.token_hash.as_slice(),
            &new.secret_hash.as_slice(),
            &new.key_id.as_uuid(),
            &ttl_ms,
            &i64::from(MOST_SESSIONS_OF_A_KEY - 1),
        ];
        session(&Columns(&self.db.row(&BEGIN, &params).await?))
    }

    async fn console_session(&self, token_hash: &[u8; 32]) -> PortResult<Option<ConsoleSession>> {
        let row = self.db.row_opt(&SESSION, &[&token_hash.as_slice()]).await?;
        row.map(|row| session(&Columns(&row))).transpose()
    }

    async fn end_console_session(&self, token_hash: &[u8; 32]) -> PortResult<bool> {
        Ok(self.db.execute(&END, &[&token_hash.as_slice()]).await? > 0)
    }
}

fn session(row: &Columns<'_>) -> PortResult<ConsoleSession> {
    Ok(ConsoleSession {
        secret_hash: bytes_32("secret_hash", row.get("secret_hash")?)?,
        key_id: KeyId::from_uuid(row.get("key_id")?),
        expires_at: row.get("expires_at")?,
    })
}
