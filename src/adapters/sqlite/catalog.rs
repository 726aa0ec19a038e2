//! The ports `ContentIndex` and `Assets`.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, ProducerId, VersionId},
    model::{Asset, ContentMeta, NewAsset, UNSAID_MEDIA_TYPE},
    ports::{Assets, ContentIndex, NewAssetError, PortResult},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get},
};

/// Served by the primary key.
pub(super) const CONTENT: &str = "
    SELECT content_hash, size_bytes, media_type, stored_at FROM overlay_storage_index
    WHERE content_hash = :content AND state = 'stored'";

/// Served by the primary keys. A producer sees the media type that it declared. The one in the index counts only for
/// the producer that stored the content.
pub(super) const CONTENT_OF: &str = "
    SELECT c.content_hash, c.size_bytes, c.stored_at,
        coalesce(said.media_type, iif(c.producer_id = :producer, c.media_type, NULL), 'application/octet-stream')
            AS media_type
    FROM overlay_storage_index c
    LEFT JOIN content_media_types said ON said.content_hash = c.content_hash AND said.producer_id = :producer
    WHERE c.content_hash = :content AND c.state = 'stored'";

/// Served by the primary key.
pub(super) const SAY_MEDIA_TYPE: &str = "
    INSERT INTO content_media_types (content_hash, producer_id, media_type) VALUES (:content, :producer, :media_type)
    ON CONFLICT (content_hash, producer_id) DO UPDATE SET media_type = excluded.media_type";

/// Served by the primary key. The last announcement of a content counts, and never makes it older.
pub(super) const ANNOUNCE_CONTENT: &str = "
    INSERT INTO overlay_storage_index (content_hash, size_bytes, media_type, state, producer_id, announced_at)
    VALUES (:content, :size, :media_type, 'announced', :producer, :now)
    ON CONFLICT (content_hash) DO UPDATE SET
        size_bytes = excluded.size_bytes,
        media_type = excluded.media_type,
        producer_id = excluded.producer_id,
        announced_at = max(announced_at, excluded.announced_at)
    WHERE state = 'announced'";

/// Served by the primary key.
pub(super) const COMPLETE_CONTENT: &str = "
    UPDATE overlay_storage_index SET state = 'stored', stored_at = announced_at
    WHERE content_hash = :content AND state = 'announced'";

/// Served by the primary key.
pub(super) const CONTENT_KNOWN: &str = "SELECT 1 FROM overlay_storage_index WHERE content_hash = :content";

/// Served by `overlay_storage_index_announced`, oldest first.
pub(super) const WITHDRAW_ANNOUNCEMENTS: &str = "
    DELETE FROM overlay_storage_index WHERE content_hash IN (
        SELECT content_hash FROM overlay_storage_index
        WHERE state = 'announced' AND announced_at < :before
        ORDER BY announced_at LIMIT :limit)";

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
impl ContentIndex for SqliteStore {
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>> {
        let find = move |conn: &Connection| {
            let mut select = conn.prepare_cached(CONTENT)?;
            Ok(select.query_row(named_params! { ":content": Sql(hash) }, content_from_row).optional()?)
        };
        self.workers.read("content", find).await
    }

    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>> {
        let find = move |conn: &Connection| {
            let mut select = conn.prepare_cached(CONTENT_OF)?;
            let which = named_params! { ":content": Sql(hash), ":producer": Sql(producer) };
            Ok(select.query_row(which, content_from_row).optional()?)
        };
        self.workers.read("content_of", find).await
    }

    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()> {
        let meta = meta.clone();
        let announce = move |conn: &Connection| {
            conn.prepare_cached(ANNOUNCE_CONTENT)?.execute(named_params! {
                ":content": Sql(meta.content_hash), ":size": Sql(meta.size_bytes), ":media_type": meta.media_type,
                ":producer": Sql(by), ":now": Sql(meta.stored_at),
            })?;
            if meta.media_type != UNSAID_MEDIA_TYPE {
                conn.prepare_cached(SAY_MEDIA_TYPE)?.execute(named_params! {
                    ":content": Sql(meta.content_hash), ":producer": Sql(by), ":media_type": meta.media_type,
                })?;
            }
            Ok(())
        };
        self.workers.write("announce_content", announce).await
    }

    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool> {
        let complete = move |conn: &Connection| {
            Ok(conn.prepare_cached(COMPLETE_CONTENT)?.execute(named_params! { ":content": Sql(hash) })? == 1)
        };
        self.workers.write("complete_content", complete).await
    }

    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let hashes = hashes.to_vec();
        self.workers.read("unknown_content", move |conn| Ok(unknown_content(conn, &hashes)?)).await
    }

    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let withdraw = move |conn: &Connection| {
            let range = named_params! { ":before": Sql(before), ":limit": limit };
            Ok(conn.prepare_cached(WITHDRAW_ANNOUNCEMENTS)?.execute(range)? as u64)
        };
        self.workers.write("withdraw_announcements", withdraw).await
    }
}

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

fn content_from_row(row: &Row<'_>) -> rusqlite::Result<ContentMeta> {
    Ok(ContentMeta {
        content_hash: get(row, "content_hash")?,
        size_bytes: get(row, "size_bytes")?,
        media_type: row.get("media_type")?,
        stored_at: get(row, "stored_at")?,
    })
}

fn unknown_content(conn: &Connection, hashes: &[ContentHash]) -> rusqlite::Result<Vec<ContentHash>> {
    let mut known = conn.prepare_cached(CONTENT_KNOWN)?;
    let mut unknown = Vec::new();
    for &hash in hashes {
        if !known.exists(named_params! { ":content": Sql(hash) })? {
            unknown.push(hash);
        }
    }
    Ok(unknown)
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
