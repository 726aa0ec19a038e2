//! The port `ContentIndex`: what is stored, or announced.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, ProducerId},
    model::{ContentMeta, UNSAID_MEDIA_TYPE},
    ports::{ContentIndex, PortResult},
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
pub(super) const NOTE_UPLOAD: &str = "
    INSERT INTO content_uploads (content_hash, producer_id)
    SELECT content_hash, :producer FROM overlay_storage_index WHERE content_hash = :content
    ON CONFLICT (content_hash, producer_id) DO NOTHING";

/// Served by the primary keys. Before uploads were noted, the index named the first producer, and a media type its
/// producer.
pub(super) const HAS_UPLOADED: &str = "
    SELECT EXISTS (SELECT 1 FROM content_uploads WHERE content_hash = :content AND producer_id = :producer)
        OR EXISTS (SELECT 1 FROM overlay_storage_index WHERE content_hash = :content AND producer_id = :producer)
        OR EXISTS (SELECT 1 FROM content_media_types WHERE content_hash = :content AND producer_id = :producer)";

/// Served by the primary key.
pub(super) const CONTENT_KNOWN: &str = "SELECT 1 FROM overlay_storage_index WHERE content_hash = :content";

/// Served by `overlay_storage_index_announced`, oldest first.
pub(super) const WITHDRAW_ANNOUNCEMENTS: &str = "
    DELETE FROM overlay_storage_index WHERE content_hash IN (
        SELECT content_hash FROM overlay_storage_index
        WHERE state = 'announced' AND announced_at < :before
        ORDER BY announced_at LIMIT :limit)";

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

    async fn note_upload(&self, hash: ContentHash, by: ProducerId) -> PortResult<bool> {
        let note = move |conn: &Connection| {
            let which = named_params! { ":content": Sql(hash), ":producer": Sql(by) };
            Ok(conn.prepare_cached(NOTE_UPLOAD)?.execute(which)? == 1)
        };
        self.workers.write("note_upload", note).await
    }

    async fn has_uploaded(&self, hash: ContentHash, producer: ProducerId) -> PortResult<bool> {
        let look = move |conn: &Connection| {
            let which = named_params! { ":content": Sql(hash), ":producer": Sql(producer) };
            Ok(conn.prepare_cached(HAS_UPLOADED)?.query_row(which, |row| row.get(0))?)
        };
        self.workers.read("has_uploaded", look).await
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
