//! The port `ApiKeys`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::{KeyId, ProducerId},
    model::{ApiKey, KeyInfo, NewKey, NewProducer, ProducerInfo},
    ports::{ApiKeys, Missing, Page, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// Served by the primary key.
pub(super) const CREATE_PRODUCER: &str = "
    INSERT INTO producers (producer_id, name, created_at) VALUES (:producer, :name, :now)
    ON CONFLICT (producer_id) DO NOTHING";

/// Served by the primary key.
pub(super) const CREATE_KEY: &str = "
    INSERT INTO api_keys (key_id, producer_id, role, secret_hash, created_at)
    VALUES (:key, :producer, :role, :secret, :now)
    ON CONFLICT (key_id) DO NOTHING";

/// Served by the unique indexes on `secret_hash` and `previous_hash`.
pub(super) const KEY: &str = "
    SELECT key_id, producer_id, role, secret_hash, NULL AS ends_at FROM api_keys
    WHERE secret_hash = :secret AND revoked_at IS NULL
    UNION ALL
    SELECT key_id, producer_id, role, previous_hash, previous_until FROM api_keys
    WHERE previous_hash = :secret AND revoked_at IS NULL AND previous_until > :now";

/// Served by the primary key.
pub(super) const REPLACE_KEY_SECRET: &str = "
    UPDATE api_keys SET secret_hash = :secret, previous_hash = NULL, previous_until = NULL WHERE key_id = :key";

/// In the order of the primary key.
pub(super) const PRODUCERS: &str = "
    SELECT producer_id, name, created_at FROM producers WHERE producer_id > :after ORDER BY producer_id LIMIT :limit";

/// Served by `api_keys_producer`, in its order.
pub(super) const KEYS_OF_PRODUCER: &str = "
    SELECT key_id, producer_id, role, name, created_at, revoked_at, last_used_at,
        iif(revoked_at IS NULL AND previous_until > :now, previous_until, NULL) AS previous_valid_until
    FROM api_keys
    WHERE producer_id = :producer AND (created_at, key_id) > (:at, :after)
    ORDER BY created_at, key_id LIMIT :limit";

/// Served by the primary key of producers.
pub(super) const ADD_KEY: &str = "
    INSERT INTO api_keys (key_id, producer_id, role, secret_hash, name, created_at)
    SELECT :key, producer_id, :role, :secret, :name, :now FROM producers WHERE producer_id = :producer";

/// Served by the primary key.
pub(super) const ROTATE_KEY: &str = "
    UPDATE api_keys SET previous_hash = iif(:until IS NULL, NULL, secret_hash), previous_until = :until, secret_hash = :secret
    WHERE key_id = :key AND producer_id = :producer AND revoked_at IS NULL
    RETURNING key_id, producer_id, role, name, created_at, revoked_at, last_used_at,
        previous_until AS previous_valid_until";

/// Served by the primary key.
pub(super) const NOTE_KEY_USE: &str =
    "UPDATE api_keys SET last_used_at = max(coalesce(last_used_at, :now), :now) WHERE key_id = :key";

/// Served by the primary key.
pub(super) const REVOKE_KEY: &str = "
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, :now) WHERE key_id = :key AND producer_id = :producer";

#[async_trait]
impl ApiKeys for SqliteStore {
    async fn create_producer(&self, new: &NewProducer) -> PortResult<()> {
        let new = new.clone();
        self.workers.write("create_producer", move |conn| Ok(create_producer(conn, &new)?)).await
    }

    async fn key(&self, secret_hash: &[u8; 32]) -> PortResult<Option<ApiKey>> {
        let secret = *secret_hash;
        self.workers.read("key", move |conn| Ok(key(conn, &secret)?)).await
    }

    async fn replace_key_secret(&self, id: KeyId, secret_hash: &[u8; 32]) -> PortResult<bool> {
        let secret = *secret_hash;
        let replace = move |conn: &Connection| {
            let mut statement = conn.prepare_cached(REPLACE_KEY_SECRET)?;
            Ok(statement.execute(named_params! { ":key": Sql(id), ":secret": secret })? == 1)
        };
        self.workers.write("replace_key_secret", replace).await
    }

    async fn producers(&self, after: Option<ProducerId>, limit: u32) -> PortResult<Page<ProducerInfo>> {
        let after = after.unwrap_or_else(|| ProducerId::from_uuid(Uuid::nil()));
        let list = move |conn: &Connection| {
            let mut select = conn.prepare_cached(PRODUCERS)?;
            let rows =
                select.query_map(named_params! { ":after": Sql(after), ":limit": i64::from(limit) + 1 }, |row| {
                    Ok(ProducerInfo {
                        producer_id: get(row, "producer_id")?,
                        name: row.get("name")?,
                        created_at: get(row, "created_at")?,
                    })
                })?;
            Ok(Page::of(rows.collect::<rusqlite::Result<_>>()?, limit))
        };
        self.workers.read("producers", list).await
    }

    async fn keys(
        &self,
        producer: ProducerId,
        after: Option<(Timestamp, KeyId)>,
        limit: u32,
    ) -> PortResult<Page<KeyInfo>> {
        let (at, after) = after.unwrap_or((Timestamp::UNIX_EPOCH, KeyId::from_uuid(Uuid::nil())));
        let list = move |conn: &Connection| {
            let mut select = conn.prepare_cached(KEYS_OF_PRODUCER)?;
            let which = named_params! {
                ":producer": Sql(producer), ":at": Sql(at), ":after": Sql(after), ":limit": i64::from(limit) + 1,
                ":now": Sql(SystemClock.now()),
            };
            Ok(Page::of(select.query_map(which, from_row)?.collect::<rusqlite::Result<_>>()?, limit))
        };
        self.workers.read("keys", list).await
    }

    async fn add_key(&self, new: &NewKey) -> PortResult<()> {
        let new = new.clone();
        let add = move |conn: &Connection| {
            let key = &new.key;
            Ok(conn.prepare_cached(ADD_KEY)?.execute(named_params! {
                ":key": Sql(key.key_id), ":producer": Sql(key.producer_id), ":role": Sql(key.role),
                ":secret": key.secret_hash, ":name": new.name, ":now": Sql(new.created_at),
            })?)
        };
        match self.workers.write("add_key", add).await? {
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
        let secret = *secret_hash;
        let until = (!overlap.is_zero()).then(|| Sql(SystemClock.now() + overlap));
        let rotate = move |conn: &Connection| {
            let mut update = conn.prepare_cached(ROTATE_KEY)?;
            let which = named_params! {
                ":key": Sql(id), ":producer": Sql(producer), ":secret": secret, ":until": until,
            };
            Ok(update.query_row(which, from_row).optional()?)
        };
        self.workers.write("rotate_key", rotate).await
    }

    async fn note_key_use(&self, id: KeyId) -> PortResult<()> {
        let note = move |conn: &Connection| {
            let which = named_params! { ":key": Sql(id), ":now": Sql(SystemClock.now()) };
            conn.prepare_cached(NOTE_KEY_USE)?.execute(which)?;
            Ok(())
        };
        self.workers.write("note_key_use", note).await
    }

    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool> {
        let revoke = move |conn: &Connection| {
            let mut update = conn.prepare_cached(REVOKE_KEY)?;
            Ok(update.execute(named_params! { ":key": Sql(id), ":producer": Sql(producer), ":now": Sql(now) })? == 1)
        };
        self.workers.write("revoke_key", revoke).await
    }
}

fn create_producer(conn: &Connection, new: &NewProducer) -> rusqlite::Result<()> {
    let key = &new.key;
    conn.prepare_cached(CREATE_PRODUCER)?.execute(named_params! {
        ":producer": Sql(key.producer_id), ":name": new.name, ":now": Sql(new.created_at),
    })?;
    conn.prepare_cached(CREATE_KEY)?.execute(named_params! {
        ":key": Sql(key.key_id), ":producer": Sql(key.producer_id), ":role": Sql(key.role),
        ":secret": key.secret_hash, ":now": Sql(new.created_at),
    })?;
    Ok(())
}

fn key(conn: &Connection, secret: &[u8; 32]) -> rusqlite::Result<Option<ApiKey>> {
    let now = SystemClock.now();
    let from_row = |row: &Row<'_>| {
        let ends_at: Option<Timestamp> = get_opt(row, "ends_at")?;
        Ok(ApiKey {
            key_id: get(row, "key_id")?,
            producer_id: get(row, "producer_id")?,
            role: get(row, "role")?,
            secret_hash: row.get("secret_hash")?,
            ends_in: ends_at.map(|at| at.duration_since(now).unsigned_abs()),
        })
    };
    conn.prepare_cached(KEY)?.query_row(named_params! { ":secret": secret, ":now": Sql(now) }, from_row).optional()
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeyInfo> {
    Ok(KeyInfo {
        key_id: get(row, "key_id")?,
        producer_id: get(row, "producer_id")?,
        role: get(row, "role")?,
        name: row.get("name")?,
        created_at: get(row, "created_at")?,
        revoked_at: get_opt(row, "revoked_at")?,
        previous_valid_until: get_opt(row, "previous_valid_until")?,
        last_used_at: get_opt(row, "last_used_at")?,
    })
}
