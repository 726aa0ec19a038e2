//! The port `Identities`. Always on the primary: an unbound key must not be found on a replica that lags.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ProducerId,
    model::{Binding, IdentityKey},
    ports::{BindOutcome, IDENTITIES, Identities, Missing, PortError, PortResult},
};
use tokio_postgres::types::Type;

use super::{PostgresStore, columns::Columns, db::Statement};

/// By the primary key.
const IDENTITY: Statement = Statement {
    name: "identity",
    sql: "SELECT identity_key, producer_id, bound_at FROM producer_identities WHERE identity_key = $1",
    types: &[Type::BYTEA],
};

/// By the primary keys. No row means that the key is bound already, or that the producer does not exist.
const BIND: Statement = Statement {
    name: "bind_identity",
    sql: "
        INSERT INTO producer_identities (identity_key, producer_id, bound_at)
        SELECT $1, producer_id, $3 FROM producers WHERE producer_id = $2
        ON CONFLICT (identity_key) DO NOTHING
        RETURNING identity_key, producer_id, bound_at",
    types: &[Type::BYTEA, Type::UUID, Type::TIMESTAMPTZ],
};

/// By the primary key.
const UNBIND: Statement = Statement {
    name: "unbind_identity",
    sql: "DELETE FROM producer_identities WHERE identity_key = $1 AND producer_id = $2",
    types: &[Type::BYTEA, Type::UUID],
};

/// By `producer_identities_producer`, in its order.
const OF_PRODUCER: Statement = Statement {
    name: "identities",
    sql: "
        SELECT identity_key, producer_id, bound_at FROM producer_identities
        WHERE producer_id = $1 ORDER BY bound_at LIMIT $2",
    types: &[Type::UUID, Type::INT8],
};

#[async_trait]
impl Identities for PostgresStore {
    async fn identity(&self, key: IdentityKey) -> PortResult<Option<ProducerId>> {
        let row = self.db.row_opt(&IDENTITY, &[&key.as_bytes().as_slice()]).await?;
        row.map(|row| binding(&Columns(&row)).map(|binding| binding.producer_id)).transpose()
    }

    async fn bind_identity(&self, key: IdentityKey, producer: ProducerId, now: Timestamp) -> PortResult<BindOutcome> {
        let bytes = key.as_bytes().as_slice();
        if let Some(row) = self.db.row_opt(&BIND, &[&bytes, &producer.as_uuid(), &now]).await? {
            return Ok(BindOutcome::New(binding(&Columns(&row))?));
        }
        let row = self.db.row_opt(&IDENTITY, &[&bytes]).await?.ok_or(PortError::NotFound(Missing::Producer))?;
        let binding = binding(&Columns(&row))?;
        Ok(if binding.producer_id == producer { BindOutcome::Already(binding) } else { BindOutcome::Taken })
    }

    async fn unbind_identity(&self, key: IdentityKey, producer: ProducerId) -> PortResult<bool> {
        Ok(self.db.execute(&UNBIND, &[&key.as_bytes().as_slice(), &producer.as_uuid()]).await? > 0)
    }

    async fn identities(&self, producer: ProducerId) -> PortResult<Vec<Binding>> {
        let rows = self.db.rows(&OF_PRODUCER, &[&producer.as_uuid(), &(IDENTITIES as i64)]).await?;
        rows.iter().map(|row| binding(&Columns(row))).collect()
    }
}

fn binding(row: &Columns<'_>) -> PortResult<Binding> {
    Ok(Binding {
        identity_key: row.identity("identity_key")?,
        producer_id: ProducerId::from_uuid(row.get("producer_id")?),
        bound_at: row.get("bound_at")?,
    })
}
