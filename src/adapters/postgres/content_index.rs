//! The port `ContentIndex`: what is stored, or announced.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, ProducerId},
    model::{ContentMeta, UNSAID_MEDIA_TYPE},
    ports::{ContentIndex, PortResult},
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, exact},
    db::{Param, Statement},
};

/// By the primary key.
const CONTENT: Statement = Statement {
    name: "content",
    sql: "
        SELECT content_hash, size_bytes, media_type, stored_at
        FROM overlay_storage_index
        WHERE content_hash = $1 AND state = 'stored'",
    types: &[Type::BYTEA],
};

/// By the primary keys. A producer sees the media type that it declared. The one in the index counts only for the
/// producer that stored the content.
const CONTENT_OF: Statement = Statement {
    name: "content_of",
    sql: "
        SELECT c.content_hash, c.size_bytes, c.stored_at,
               coalesce(said.media_type, CASE WHEN c.producer_id = $2 THEN c.media_type END, 'application/octet-stream')
                   AS media_type
        FROM overlay_storage_index c
        LEFT JOIN content_media_types said ON said.content_hash = c.content_hash AND said.producer_id = $2
        WHERE c.content_hash = $1 AND c.state = 'stored'",
    types: &[Type::BYTEA, Type::UUID],
};

/// By the primary keys.
const ANNOUNCE_CONTENT: Statement = Statement {
    name: "announce_content",
    sql: "
        WITH announced AS (
            INSERT INTO overlay_storage_index AS c
                (content_hash, size_bytes, media_type, state, producer_id, announced_at)
            VALUES ($1, $2, $3, 'announced', $4, $5)
            ON CONFLICT (content_hash) DO UPDATE SET
                size_bytes = excluded.size_bytes,
                media_type = excluded.media_type,
                producer_id = excluded.producer_id,
                announced_at = greatest(c.announced_at, excluded.announced_at)
            WHERE c.state = 'announced'
        )
        INSERT INTO content_media_types (content_hash, producer_id, media_type) SELECT $1, $4, $3 WHERE $6
        ON CONFLICT (content_hash, producer_id) DO UPDATE SET media_type = excluded.media_type",
    types: &[Type::BYTEA, Type::INT8, Type::TEXT, Type::UUID, Type::TIMESTAMPTZ, Type::BOOL],
};

/// By the primary key. Keeps the time of the announcement.
const COMPLETE_CONTENT: Statement = Statement {
    name: "complete_content",
    sql: "
        UPDATE overlay_storage_index SET state = 'stored', stored_at = announced_at
        WHERE content_hash = $1 AND state = 'announced'",
    types: &[Type::BYTEA],
};

/// By the primary keys.
const NOTE_UPLOAD: Statement = Statement {
    name: "note_upload",
    sql: "
        INSERT INTO content_uploads (content_hash, producer_id)
        SELECT content_hash, $2 FROM overlay_storage_index WHERE content_hash = $1
        ON CONFLICT (content_hash, producer_id) DO NOTHING",
    types: &[Type::BYTEA, Type::UUID],
};

/// By the primary keys. Before uploads were noted, the index named the first producer, and a media type its producer.
const HAS_UPLOADED: Statement = Statement {
    name: "has_uploaded",
    sql: "
        SELECT EXISTS (SELECT FROM content_uploads WHERE content_hash = $1 AND producer_id = $2)
            OR EXISTS (SELECT FROM overlay_storage_index WHERE content_hash = $1 AND producer_id = $2)
            OR EXISTS (SELECT FROM content_media_types WHERE content_hash = $1 AND producer_id = $2) AS has_uploaded",
    types: &[Type::BYTEA, Type::UUID],
};

/// By the primary key.
const UNKNOWN_CONTENT: Statement = Statement {
    name: "unknown_content",
    sql: "
        SELECT asked.content_hash
        FROM unnest($1) WITH ORDINALITY AS asked (content_hash, place)
        WHERE NOT EXISTS (SELECT FROM overlay_storage_index c WHERE c.content_hash = asked.content_hash)
        ORDER BY asked.place",
    types: &[Type::BYTEA_ARRAY],
};

/// By `overlay_storage_index_announced`.
const WITHDRAW_ANNOUNCEMENTS: Statement = Statement {
    name: "withdraw_announcements",
    sql: "
        DELETE FROM overlay_storage_index c
        USING (
            SELECT content_hash
            FROM overlay_storage_index
            WHERE state = 'announced' AND announced_at < $1
            ORDER BY announced_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS due
        WHERE c.content_hash = due.content_hash",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

#[async_trait]
impl ContentIndex for PostgresStore {
    async fn content(&self, hash: ContentHash) -> PortResult<Option<ContentMeta>> {
        let row = self.db.row_opt(&CONTENT, &[&hash.as_bytes().as_slice()]).await?;
        row.map(|row| content_meta(&Columns(&row))).transpose()
    }

    async fn content_of(&self, hash: ContentHash, producer: ProducerId) -> PortResult<Option<ContentMeta>> {
        let row = self.db.row_opt(&CONTENT_OF, &[&hash.as_bytes().as_slice(), &producer.as_uuid()]).await?;
        row.map(|row| content_meta(&Columns(&row))).transpose()
    }

    async fn announce_content(&self, meta: &ContentMeta, by: ProducerId) -> PortResult<()> {
        let params: [Param<'_>; 6] = [
            &meta.content_hash.as_bytes().as_slice(),
            &exact(meta.size_bytes)?,
            &meta.media_type,
            &by.as_uuid(),
            &meta.stored_at,
            &(meta.media_type != UNSAID_MEDIA_TYPE),
        ];
        self.db.execute(&ANNOUNCE_CONTENT, &params).await.map(drop)
    }

    async fn complete_content(&self, hash: ContentHash) -> PortResult<bool> {
        Ok(self.db.execute(&COMPLETE_CONTENT, &[&hash.as_bytes().as_slice()]).await? > 0)
    }

    async fn note_upload(&self, hash: ContentHash, by: ProducerId) -> PortResult<bool> {
        Ok(self.db.execute(&NOTE_UPLOAD, &[&hash.as_bytes().as_slice(), &by.as_uuid()]).await? > 0)
    }

    async fn has_uploaded(&self, hash: ContentHash, producer: ProducerId) -> PortResult<bool> {
        let row = self.db.row(&HAS_UPLOADED, &[&hash.as_bytes().as_slice(), &producer.as_uuid()]).await?;
        Columns(&row).get("has_uploaded")
    }

    async fn unknown_content(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let asked: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
        let rows = self.upkeep.rows(&UNKNOWN_CONTENT, &[&asked]).await?;
        rows.iter().map(|row| Columns(row).hash("content_hash")).collect()
    }

    async fn withdraw_announcements(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&WITHDRAW_ANNOUNCEMENTS, &[&before, &i64::from(limit)]).await
    }
}

fn content_meta(row: &Columns<'_>) -> PortResult<ContentMeta> {
    Ok(ContentMeta {
        content_hash: row.hash("content_hash")?,
        size_bytes: row.amount("size_bytes")?,
        media_type: row.get("media_type")?,
        stored_at: row.get("stored_at")?,
    })
}
