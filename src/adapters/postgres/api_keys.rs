//! The port `ApiKeys`. Always on the primary: a revoked key must not look valid on a replica that lags.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{KeyId, ProducerId},
    model::{ApiKey, KeyInfo, NewKey, NewProducer, ProducerInfo, Role},
    ports::{ApiKeys, Missing, Page, PortError, PortResult},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32, out_of_range},
    db::Statement,
};

/// By the primary keys.
const CREATE_PRODUCER: Statement = Statement {
    name: "create_producer",
    sql: "
        WITH producer AS (
            INSERT INTO producers (producer_id, name, created_at) VALUES ($1, $2, $3)
                ON CONFLICT (producer_id) DO NOTHING
        )
        INSERT INTO api_keys (key_id, producer_id, role, secret_hash, created_at) VALUES ($4, $1, $5, $6, $3)
        ON CONFLICT (key_id) DO NOTHING",
    types: &[Type::UUID, Type::TEXT, Type::TIMESTAMPTZ, Type::UUID, Type::TEXT, Type::BYTEA],
};

/// By the unique indexes on `secret_hash` and `previous_hash`.
const KEY: Statement = Statement {
    name: "key",
    sql: "
        SELECT key_id, producer_id, role, secret_hash, NULL::bigint AS ends_in_ms
        FROM api_keys
        WHERE secret_hash = $1 AND revoked_at IS NULL
        UNION ALL
        SELECT key_id, producer_id, role, previous_hash,
               greatest(0, extract(epoch FROM previous_until - clock_timestamp()) * 1000)::bigint
        FROM api_keys
        WHERE previous_hash = $1 AND revoked_at IS NULL AND previous_until > clock_timestamp()",
    types: &[Type::BYTEA],
};

/// By the primary key.
const REPLACE_KEY_SECRET: Statement = Statement {
    name: "replace_key_secret",
    sql: "
        UPDATE api_keys SET secret_hash = $2, previous_hash = NULL, previous_until = NULL WHERE key_id = $1",
    types: &[Type::UUID, Type::BYTEA],
};

/// In the order of the primary key.
const PRODUCERS: Statement = Statement {
    name: "producers",
    sql: "SELECT producer_id, name, created_at FROM producers WHERE producer_id > $1 ORDER BY producer_id LIMIT $2",
    types: &[Type::UUID, Type::INT8],
};

/// By `api_keys_producer`, in its order.
const OF_PRODUCER: Statement = Statement {
    name: "keys",
    sql: "
        SELECT key_id, producer_id, role, name, created_at, revoked_at, last_used_at,
               CASE WHEN revoked_at IS NULL AND previous_until > clock_timestamp() THEN previous_until END
                   AS previous_valid_until
        FROM api_keys
        WHERE producer_id = $1 AND (created_at, key_id) > ($2, $3)
        ORDER BY created_at, key_id LIMIT $4",
    types: &[Type::UUID, Type::TIMESTAMPTZ, Type::UUID, Type::INT8],
};

/// By the primary key of producers.
const ADD: Statement = Statement {
    name: "add_key",
    sql: "
        INSERT INTO api_keys (key_id, producer_id, role, secret_hash, name, created_at)
        SELECT $1, producer_id, $3, $4, $5, $6 FROM producers WHERE producer_id = $2",
    types: &[Type::UUID, Type::UUID, Type::TEXT, Type::BYTEA, Type::TEXT, Type::TIMESTAMPTZ],
};

/// By the primary key.
const ROTATE: Statement = Statement {
    name: "rotate_key",
    sql: "
        UPDATE api_keys SET
            previous_hash = CASE WHEN $4 > 0 THEN secret_hash END,
            previous_until = CASE WHEN $4 > 0 THEN clock_timestamp() + $4 * interval '1 millisecond' END,
            secret_hash = $3
        WHERE key_id = $1 AND producer_id = $2 AND revoked_at IS NULL
        RETURNING key_id, producer_id, role, name, created_at, revoked_at, last_used_at,
                  previous_until AS previous_valid_until",
    types: &[Type::UUID, Type::UUID, Type::BYTEA, Type::INT8],
};

/// By the primary key.
const REVOKE: Statement = Statement {
    name: "revoke_key",
    sql: "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE key_id = $1 AND producer_id = $2",
    types: &[Type::UUID, Type::UUID, Type::TIMESTAMPTZ],
};

/// By the primary key. `greatest` ignores a null.
const NOTE_USE: Statement = Statement {
    name: "note_key_use",
    sql: "UPDATE api_keys SET last_used_at = greatest(last_used_at, clock_timestamp()) WHERE key_id = $1",
    types: &[Type::UUID],
};

#[async_trait]
impl ApiKeys for PostgresStore {
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()> {
        let (key, producer) = (&new.key, new.key.producer_id.as_uuid());
        let params: [super::db::Param<'_>; 6] = [
            &producer,
            &new.name,
            &new.created_at,
            &key.key_id.as_uuid(),
            &key.role.as_str(),
            &key.secret_hash.as_slice(),
        ];
        self.db.execute(&CREATE_PRODUCER, &params).await.map(drop)
    }

    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>> {
        let row = self.db.row_opt(&KEY, &[&secret_hash.as_slice()]).await?;
        row.map(|row| api_key(&Columns(&row))).transpose()
    }

    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool> {
        let replaced = self.db.execute(&REPLACE_KEY_SECRET, &[&id.as_uuid(), &secret_hash.as_slice()]).await?;
        Ok(replaced > 0)
    }

    async fn producers(&self, after: Option<ProducerId>, limit: u32) -> PortResult<Page<ProducerInfo>> {
        let after = after.map_or(Uuid::nil(), |id| id.as_uuid());
        let rows = self.db.rows(&PRODUCERS, &[&after, &(i64::from(limit) + 1)]).await?;
        let producer = |row: Columns<'_>| {
            Ok(ProducerInfo {
                producer_id: ProducerId::from_uuid(row.get("producer_id")?),
                name: row.get("name")?,
                created_at: row.get("created_at")?,
            })
        };
        Ok(Page::of(rows.iter().map(|row| producer(Columns(row))).collect::<PortResult<_>>()?, limit))
    }

    async fn keys(
        &self,
        producer: ProducerId,
        after: Option<(Timestamp, KeyId)>,
        limit: u32,
    ) -> PortResult<Page<KeyInfo>> {
        let (at, after) = after.map_or((Timestamp::UNIX_EPOCH, Uuid::nil()), |(at, id)| (at, id.as_uuid()));
        let rows = self.db.rows(&OF_PRODUCER, &[&producer.as_uuid(), &at, &after, &(i64::from(limit) + 1)]).await?;
        Ok(Page::of(rows.iter().map(|row| info(&Columns(row))).collect::<PortResult<_>>()?, limit))
    }

    async fn add_key(&self, new: &NewKey) -> PortResult<()> {
        let key = &new.key;
        let params: [super::db::Param<'_>; 6] = [
            &key.key_id.as_uuid(),
            &key.producer_id.as_uuid(),
            &key.role.as_str(),
            &key.secret_hash.as_slice(),
            &new.name,
            &new.created_at,
        ];
        match self.db.execute(&ADD, &params).await? {
            0 => Err(PortError::NotFound(Missing::Producer)),
            _ => Ok(()),
        }
    }

    async fn rotate_key(
        &self,
        id: KeyId,
        producer: ProducerId,
        secret_hash: &[u8; 32],
        overlap: Duration,
    ) -> PortResult<Option<KeyInfo>> {
        let overlap_ms = i64::try_from(overlap.as_millis()).map_err(|_| out_of_range("overlap"))?;
        let params: [super::db::Param<'_>; 4] =
            [&id.as_uuid(), &producer.as_uuid(), &secret_hash.as_slice(), &overlap_ms];
        let row = self.db.row_opt(&ROTATE, &params).await?;
        row.map(|row| info(&Columns(&row))).transpose()
    }

    async fn note_key_use(&self, id: KeyId) -> PortResult<()> {
        self.db.execute(&NOTE_USE, &[&id.as_uuid()]).await.map(drop)
    }

    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool> {
        Ok(self.db.execute(&REVOKE, &[&id.as_uuid(), &producer.as_uuid(), &now]).await? > 0)
    }
}

fn api_key(row: &Columns<'_>) -> PortResult<ApiKey> {
    Ok(ApiKey {
        key_id: KeyId::from_uuid(row.get("key_id")?),
        producer_id: ProducerId::from_uuid(row.get("producer_id")?),
        role: role(row)?,
        secret_hash: bytes_32("secret_hash", row.get("secret_hash")?)?,
        ends_in: row.amount_opt("ends_in_ms")?.map(Duration::from_millis),
    })
}

fn role(row: &Columns<'_>) -> PortResult<Role> {
    row.word("role", |word| [Role::Producer, Role::Admin].into_iter().find(|role| role.as_str() == word))
}

fn info(row: &Columns<'_>) -> PortResult<KeyInfo> {
    Ok(KeyInfo {
        key_id: KeyId::from_uuid(row.get("key_id")?),
        producer_id: ProducerId::from_uuid(row.get("producer_id")?),
        role: role(row)?,
        name: row.get("name")?,
        created_at: row.get("created_at")?,
        revoked_at: row.get("revoked_at")?,
        previous_valid_until: row.get("previous_valid_until")?,
        last_used_at: row.get("last_used_at")?,
    })
}
