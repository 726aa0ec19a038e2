//! The port `Assets`: assets and their prices.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ProducerId, VersionId},
    model::{Asset, NewAsset},
    ports::{Assets, NewAssetError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// Served by the primary keys of the storage index and of the producers' media types. An asset that exists (a repeated
/// call) is left unchanged.
pub(super) const CREATE_ASSET: &str = "
    INSERT INTO assets
        (version_id, content_hash, name, description, media_type, dataset_id, policy_meta, producer_id, created_at)
    SELECT :version, c.content_hash, :name, :description,
        coalesce(:media_type, said.media_type, iif(c.producer_id = :producer, c.media_type, NULL), 'application/octet-stream'),
        :dataset, :policy_meta, :producer, :now
    FROM overlay_storage_index c
    LEFT JOIN content_media_types said ON said.content_hash = c.content_hash AND said.producer_id = :producer
    WHERE c.content_hash = :content AND c.state = 'stored'
    ON CONFLICT (version_id) DO NOTHING";

/// Served by the primary key.
pub(super) const CREATE_PRICE: &str =
    "INSERT INTO prices (version_id, satoshis, updated_at) VALUES (:version, :satoshis, :now)";

/// Served by the primary keys of assets, the storage index and prices.
pub(super) const ASSET: &str = "
    SELECT a.version_id, a.content_hash, a.name, a.description, a.media_type, c.size_bytes, a.dataset_id, a.policy_meta,
        a.producer_id, coalesce(p.satoshis, 0) AS price_satoshis, a.created_at
    FROM assets a
    JOIN overlay_storage_index c ON c.content_hash = a.content_hash
    LEFT JOIN prices p ON p.version_id = a.version_id
    WHERE a.version_id = :version";

/// Served by the primary key.
pub(super) const ASSET_EXISTS: &str = "SELECT 1 FROM assets WHERE version_id = :version";

/// Served by the primary keys of assets and prices. Without a producer, the caller is an admin.
pub(super) const SET_PRICE: &str = "
    INSERT INTO prices (version_id, satoshis, updated_at)
    SELECT version_id, :satoshis, :now FROM assets
    WHERE version_id = :version AND (:producer IS NULL OR producer_id = :producer)
    ON CONFLICT (version_id) DO UPDATE SET satoshis = excluded.satoshis, updated_at = excluded.updated_at";

#[async_trait]
impl Assets for SqliteStore {
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError> {
        let new = new.clone();
        let asset = self.workers.write("create_asset", move |conn| Ok(create_asset(conn, &new)?)).await?;
        asset.ok_or(NewAssetError::ContentNotStored)
    }

    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>> {
        self.workers.read("asset", move |conn| Ok(asset(conn, id)?)).await
    }

    async fn set_price(
        &self,
        id: VersionId,
        satoshis: u64,
        producer: Option<ProducerId>,
        now: Timestamp,
    ) -> PortResult<bool> {
        let set = move |conn: &Connection| {
            let changed = conn.prepare_cached(SET_PRICE)?.execute(named_params! {
                ":version": Sql(id), ":satoshis": Sql(satoshis), ":producer": producer.map(Sql), ":now": Sql(now),
            })?;
            Ok(changed == 1)
        };
        self.workers.write("set_price", set).await
    }
}

/// Creates an asset; `None` when its content is not stored.
fn create_asset(conn: &Connection, new: &NewAsset) -> rusqlite::Result<Option<Asset>> {
    let created = conn.prepare_cached(CREATE_ASSET)?.execute(named_params! {
        ":version": Sql(new.version_id), ":content": Sql(new.content_hash), ":name": new.name,
        ":description": new.description, ":media_type": new.media_type, ":dataset": new.dataset_id,
        ":policy_meta": new.policy_meta.to_string(), ":producer": Sql(new.producer_id), ":now": Sql(new.created_at),
    })?;
    if created == 1 {
        conn.prepare_cached(CREATE_PRICE)?.execute(named_params! {
            ":version": Sql(new.version_id), ":satoshis": Sql(new.price_satoshis), ":now": Sql(new.created_at),
        })?;
    }
    asset(conn, new.version_id)
}

fn asset(conn: &Connection, id: VersionId) -> rusqlite::Result<Option<Asset>> {
    conn.prepare_cached(ASSET)?.query_row(named_params! { ":version": Sql(id) }, asset_from_row).optional()
}

pub(super) fn asset_exists(conn: &Connection, id: VersionId) -> rusqlite::Result<bool> {
    conn.prepare_cached(ASSET_EXISTS)?.exists(named_params! { ":version": Sql(id) })
}

pub(super) fn asset_from_row(row: &Row<'_>) -> rusqlite::Result<Asset> {
    Ok(Asset {
        version_id: get(row, "version_id")?,
        content_hash: get(row, "content_hash")?,
        name: row.get("name")?,
        description: row.get("description")?,
        media_type: row.get("media_type")?,
        size_bytes: get(row, "size_bytes")?,
        dataset_id: row.get("dataset_id")?,
        policy_meta: get(row, "policy_meta")?,
        producer_id: get(row, "producer_id")?,
        price_satoshis: get(row, "price_satoshis")?,
        created_at: get(row, "created_at")?,
    })
}
