//! The port `ApiKeys`.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{KeyId, ProducerId},
    model::{KeyInfo, NewKey, ProducerInfo},
    ports::{ApiKeys, Missing, Page, PortError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// In the order of the primary key.
pub(super) const PRODUCERS: &str = "
    SELECT producer_id, name, created_at FROM producers WHERE producer_id > :after ORDER BY producer_id LIMIT :limit";

/// Served by `api_keys_producer`, in its order.
pub(super) const KEYS_OF_PRODUCER: &str = "
    SELECT key_id, producer_id, role, name, created_at, revoked_at FROM api_keys
    WHERE producer_id = :producer AND (created_at, key_id) > (:at, :after)
    ORDER BY created_at, key_id LIMIT :limit";

/// Served by the primary key of producers.
pub(super) const ADD_KEY: &str = "
    INSERT INTO api_keys (key_id, producer_id, role, secret_hash, name, created_at)
    SELECT :key, producer_id, :role, :secret, :name, :now FROM producers WHERE producer_id = :producer";

/// Served by the primary key.
pub(super) const ROTATE_KEY: &str = "
    UPDATE api_keys SET secret_hash = :secret WHERE key_id = :key AND producer_id = :producer AND revoked_at IS NULL
    RETURNING key_id, producer_id, role, name, created_at, revoked_at";

/// Served by the primary key.
pub(super) const REVOKE_KEY: &str = "
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, :now) WHERE key_id = :key AND producer_id = :producer";

#[async_trait]
impl ApiKeys for SqliteStore {
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

    async fn rotate_key(&self, id: KeyId, producer: ProducerId, secret_hash: &[u8; 32]) -> PortResult<Option<KeyInfo>> {
        let secret = *secret_hash;
        let rotate = move |conn: &Connection| {
            let mut update = conn.prepare_cached(ROTATE_KEY)?;
            let which = named_params! { ":key": Sql(id), ":producer": Sql(producer), ":secret": secret };
            Ok(update.query_row(which, from_row).optional()?)
        };
        self.workers.write("rotate_key", rotate).await
    }

    async fn revoke_key(&self, id: KeyId, producer: ProducerId, now: Timestamp) -> PortResult<bool> {
        let revoke = move |conn: &Connection| {
            let mut update = conn.prepare_cached(REVOKE_KEY)?;
            Ok(update.execute(named_params! { ":key": Sql(id), ":producer": Sql(producer), ":now": Sql(now) })? == 1)
        };
        self.workers.write("revoke_key", revoke).await
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeyInfo> {
    Ok(KeyInfo {
        key_id: get(row, "key_id")?,
        producer_id: get(row, "producer_id")?,
        role: get(row, "role")?,
        name: row.get("name")?,
        created_at: get(row, "created_at")?,
        revoked_at: get_opt(row, "revoked_at")?,
    })
}
