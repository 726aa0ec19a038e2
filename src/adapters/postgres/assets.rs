//! The port `Assets`: assets and their prices.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ProducerId, VersionId},
    model::{Asset, NewAsset},
    ports::{Assets, NewAssetError, PortResult},
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, exact},
    db::Statement,
    jsonb::to_jsonb,
    replicas::Topic,
};

/// By the primary keys. An existing asset is returned unchanged: the caller may repeat a call whose answer was lost.
const CREATE_ASSET: Statement = Statement {
    name: "create_asset",
    sql: "
        WITH content AS (
            SELECT c.content_hash, c.size_bytes,
                   coalesce(said.media_type, CASE WHEN c.producer_id = $8 THEN c.media_type END,
                            'application/octet-stream') AS media_type
            FROM overlay_storage_index c
            LEFT JOIN content_media_types said ON said.content_hash = c.content_hash AND said.producer_id = $8
            WHERE c.content_hash = $2 AND c.state = 'stored'
        ),
        made AS (
            INSERT INTO assets AS a (version_id, content_hash, name, description, media_type, dataset_id, policy_meta,
                                     producer_id, created_at)
            SELECT $1, content_hash, $3, $4, coalesce($5, media_type), $6, $7, $8, $10 FROM content
            ON CONFLICT (version_id) DO UPDATE SET name = a.name
            RETURNING *
        ),
        priced AS (
            INSERT INTO prices (version_id, satoshis, updated_at) SELECT version_id, $9, $10 FROM made
            ON CONFLICT (version_id) DO NOTHING
        )
        SELECT made.version_id, made.content_hash, made.name, made.description, made.media_type, content.size_bytes,
               made.dataset_id, made.policy_meta, made.producer_id, coalesce(p.satoshis, $9) AS satoshis,
                   made.created_at
        FROM made
        CROSS JOIN content
        LEFT JOIN prices p ON p.version_id = made.version_id",
    types: &[
        Type::UUID,
        Type::BYTEA,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::TEXT,
        Type::JSONB,
        Type::UUID,
        Type::INT8,
        Type::TIMESTAMPTZ,
    ],
};

/// By the primary keys.
const ASSET: Statement = Statement {
    name: "asset",
    sql: "
        SELECT a.version_id, a.content_hash, a.name, a.description, a.media_type, c.size_bytes, a.dataset_id,
            a.policy_meta,
               a.producer_id, p.satoshis, a.created_at
        FROM assets a
        JOIN overlay_storage_index c ON c.content_hash = a.content_hash
        JOIN prices p ON p.version_id = a.version_id
        WHERE a.version_id = $1",
    types: &[Type::UUID],
};

/// By the primary keys.
const SET_PRICE: Statement = Statement {
    name: "set_price",
    sql: "
        UPDATE prices p SET satoshis = $2, updated_at = $4
        FROM assets a
        WHERE p.version_id = $1 AND a.version_id = $1 AND ($3::uuid IS NULL OR a.producer_id = $3)",
    types: &[Type::UUID, Type::INT8, Type::UUID, Type::TIMESTAMPTZ],
};

#[async_trait]
impl Assets for PostgresStore {
    async fn create_asset(&self, new: &NewAsset) -> Result<Asset, NewAssetError> {
        let row = self
            .db
            .row_opt(
                &CREATE_ASSET,
                &[
                    &new.version_id.as_uuid(),
                    &new.content_hash.as_bytes().as_slice(),
                    &new.name,
                    &new.description,
                    &new.media_type,
                    &new.dataset_id,
                    &*to_jsonb(&new.policy_meta),
                    &new.producer_id.as_uuid(),
                    &exact(new.price_satoshis)?,
                    &new.created_at,
                ],
            )
            .await?;
        self.replicas.changed([Topic::Asset(new.version_id), Topic::Catalogue]);
        let row = row.ok_or(NewAssetError::ContentNotStored)?;
        Ok(asset(&Columns(&row))?)
    }

    async fn asset(&self, id: VersionId) -> PortResult<Option<Asset>> {
        let row = self.replicas.row_opt(Topic::Asset(id), &ASSET, &[&id.as_uuid()]).await?;
        row.map(|row| asset(&Columns(&row))).transpose()
    }

    async fn set_price(
        &self,
        id: VersionId,
        satoshis: u64,
        producer: Option<ProducerId>,
        now: Timestamp,
    ) -> PortResult<bool> {
        let producer = producer.map(|id| id.as_uuid());
        let priced = self.db.execute(&SET_PRICE, &[&id.as_uuid(), &exact(satoshis)?, &producer, &now]).await;
        // Also when the answer was lost: the price may have changed.
        self.replicas.changed([Topic::Asset(id), Topic::Catalogue]);
        Ok(priced? > 0)
    }
}

pub(super) fn asset(row: &Columns<'_>) -> PortResult<Asset> {
    Ok(Asset {
        version_id: VersionId::from_uuid(row.get("version_id")?),
        content_hash: row.hash("content_hash")?,
        name: row.get("name")?,
        description: row.get("description")?,
        media_type: row.get("media_type")?,
        size_bytes: row.amount("size_bytes")?,
        dataset_id: row.get("dataset_id")?,
        policy_meta: row.json("policy_meta")?,
        producer_id: ProducerId::from_uuid(row.get("producer_id")?),
        price_satoshis: row.amount("satoshis")?,
        created_at: row.get("created_at")?,
    })
}
