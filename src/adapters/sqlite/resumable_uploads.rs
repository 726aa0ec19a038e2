//! The port `ResumableUploads`: uploads that arrive in several requests, and their parts.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds},
    ports::{BeginOutcome, PortResult, ResumableUploads},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// Served by `resumable_uploads_open`.
pub(super) const OF_PRODUCER: &str = "
    SELECT count(*) FROM resumable_uploads WHERE producer_id = :producer AND content_hash IS NULL";

/// Served by `resumable_uploads_open`, which it reads from end to end: the bound on uploads bounds it.
pub(super) const TOTAL_BYTES: &str = "
    SELECT coalesce(sum(length_bytes), 0) FROM resumable_uploads WHERE content_hash IS NULL";

/// Inserts.
pub(super) const BEGIN: &str = "
    INSERT INTO resumable_uploads (upload_id, producer_id, kind, concat, length_bytes, media_type, declared_hash,
        metadata, expires_at)
    VALUES (:upload, :producer, :kind, :concat, :length, :media_type, :declared, :metadata, :expires)";

/// Served by the primary key.
pub(super) const UPLOAD: &str = "
    SELECT upload_id, producer_id, kind, concat, length_bytes, offset_bytes, parts, media_type, declared_hash, metadata,
        content_hash, expires_at
    FROM resumable_uploads WHERE upload_id = :upload";

/// Inserts.
pub(super) const ADD_PART: &str = "
    INSERT INTO resumable_upload_parts (upload_id, part_id, state, added_at) VALUES (:upload, :part, 'loose', :now)
    ON CONFLICT (upload_id, part_id) DO NOTHING";

/// Served by the primary key.
pub(super) const IS_LOOSE: &str = "
    SELECT 1 FROM resumable_upload_parts WHERE upload_id = :upload AND part_id = :part AND state = 'loose'";

/// Served by the primary key.
pub(super) const ADVANCE: &str = "
    UPDATE resumable_uploads SET offset_bytes = :end, parts = parts + :parts, expires_at = :expires
    WHERE upload_id = :upload AND offset_bytes = :start AND content_hash IS NULL";

/// Served by the primary key.
pub(super) const KEEP_PART: &str = "
    UPDATE resumable_upload_parts SET state = 'kept', from_byte = :start, size_bytes = :size
    WHERE upload_id = :upload AND part_id = :part";

/// Served by the primary key.
pub(super) const KEPT_PARTS: &str = "
    SELECT part_id, from_byte, size_bytes FROM resumable_upload_parts
    WHERE upload_id = :upload AND state = 'kept'";

/// Served by the primary key.
pub(super) const HOLD: &str = "
    UPDATE resumable_uploads SET holder = :holder, held_until = :until
    WHERE upload_id = :upload AND content_hash IS NULL
      AND (holder IS NULL OR holder = :holder OR held_until <= :now)";

/// Served by the primary key.
pub(super) const COMPLETE: &str = "
    UPDATE resumable_uploads
    SET offset_bytes = length_bytes, content_hash = :content, expires_at = :expires, holder = NULL, held_until = NULL
    WHERE upload_id = :upload AND offset_bytes = :start AND content_hash IS NULL";

/// Served by the primary key.
pub(super) const FREE_PARTS: &str = "
    UPDATE resumable_upload_parts SET state = 'loose' WHERE upload_id = :upload AND state = 'kept'";

/// Served by the primary key.
pub(super) const REMOVE: &str = "DELETE FROM resumable_uploads WHERE upload_id = :upload";

/// Served by `resumable_uploads_expiry`, oldest first.
pub(super) const EXPIRED: &str = "
    SELECT upload_id FROM resumable_uploads WHERE expires_at < :before ORDER BY expires_at LIMIT :limit";

/// Served by `resumable_upload_parts_unkept`, oldest first.
pub(super) const OLD_PARTS: &str = "
    SELECT upload_id, part_id FROM resumable_upload_parts
    WHERE state <> 'kept' AND added_at < :before
    ORDER BY added_at LIMIT :limit";

/// Served by the primary key.
pub(super) const CONDEMN_PART: &str = "
    UPDATE resumable_upload_parts SET state = 'condemned' WHERE upload_id = :upload AND part_id = :part";

/// Served by the primary key.
pub(super) const FORGET_PART: &str = "
    DELETE FROM resumable_upload_parts WHERE upload_id = :upload AND part_id = :part AND state <> 'kept'";

#[async_trait]
impl ResumableUploads for SqliteStore {
    async fn begin_upload(&self, upload: &ResumableUpload, bounds: UploadBounds) -> PortResult<BeginOutcome> {
        let upload = upload.clone();
        self.workers.write("begin_upload", move |conn| Ok(begin(conn, &upload, bounds)?)).await
    }

    async fn resumable_upload(&self, id: UploadId) -> PortResult<Option<ResumableUpload>> {
        let find = move |conn: &Connection| {
            let mut select = conn.prepare_cached(UPLOAD)?;
            Ok(select.query_row(named_params! { ":upload": Sql(id) }, upload_from_row).optional()?)
        };
        self.workers.read("resumable_upload", find).await
    }

    async fn add_part(&self, part: PartName, now: Timestamp) -> PortResult<()> {
        let add = move |conn: &Connection| {
            conn.prepare_cached(ADD_PART)?.execute(named_params! {
                ":upload": Sql(part.upload_id), ":part": Sql(part.part_id), ":now": Sql(now),
            })?;
            Ok(())
        };
        self.workers.write("add_upload_part", add).await
    }

    async fn keep_parts(&self, id: UploadId, from: u64, parts: &[NewPart], expires_at: Timestamp) -> PortResult<bool> {
        let parts = parts.to_vec();
        self.workers.write("keep_upload_parts", move |conn| Ok(keep(conn, id, from, &parts, expires_at)?)).await
    }

    async fn kept_parts(&self, id: UploadId) -> PortResult<Vec<NewPart>> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(KEPT_PARTS)?;
            let part = |row: &Row<'_>| {
                Ok(NewPart {
                    part_id: get(row, "part_id")?,
                    from_byte: get(row, "from_byte")?,
                    size_bytes: get(row, "size_bytes")?,
                })
            };
            let rows = select.query_map(named_params! { ":upload": Sql(id) }, part)?;
            let mut parts = rows.collect::<rusqlite::Result<Vec<NewPart>>>()?;
            parts.sort_unstable_by_key(|part| part.from_byte);
            Ok(parts)
        };
        self.workers.read("kept_upload_parts", read).await
    }

    async fn hold_upload(&self, id: UploadId, holder: Uuid, ttl: Duration) -> PortResult<bool> {
        let hold = move |conn: &Connection| {
            let now = Timestamp::now();
            let until = now.checked_add(ttl).unwrap_or(Timestamp::MAX);
            let held = conn.prepare_cached(HOLD)?.execute(named_params! {
                ":upload": Sql(id), ":holder": holder.as_bytes(), ":until": Sql(until), ":now": Sql(now),
            })?;
            Ok(held == 1)
        };
        self.workers.write("hold_upload", hold).await
    }

    async fn complete_upload(
        &self,
        id: UploadId,
        from: u64,
        content: ContentHash,
        expires_at: Timestamp,
    ) -> PortResult<bool> {
        let complete = move |conn: &Connection| {
            let completed = conn.prepare_cached(COMPLETE)?.execute(named_params! {
                ":upload": Sql(id), ":start": Sql(from), ":content": Sql(content), ":expires": Sql(expires_at),
            })?;
            if completed == 1 {
                free_parts(conn, id)?;
            }
            Ok(completed == 1)
        };
        self.workers.write("complete_upload", complete).await
    }

    async fn remove_upload(&self, id: UploadId) -> PortResult<bool> {
        self.workers.write("remove_upload", move |conn| Ok(remove(conn, id)?)).await
    }

    async fn expire_uploads(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let expire = move |conn: &Connection| {
            let mut select = conn.prepare_cached(EXPIRED)?;
            let range = named_params! { ":before": Sql(before), ":limit": limit };
            let due = select.query_map(range, |row| get::<UploadId>(row, "upload_id"))?;
            let due = due.collect::<rusqlite::Result<Vec<_>>>()?;
            for &id in &due {
                remove(conn, id)?;
            }
            Ok(due.len() as u64)
        };
        self.workers.write("expire_uploads", expire).await
    }

    async fn condemn_parts(&self, before: Timestamp, limit: u32) -> PortResult<Vec<PartName>> {
        let condemn = move |conn: &Connection| {
            let mut select = conn.prepare_cached(OLD_PARTS)?;
            let name =
                |row: &Row<'_>| Ok(PartName { upload_id: get(row, "upload_id")?, part_id: get(row, "part_id")? });
            let old = select.query_map(named_params! { ":before": Sql(before), ":limit": limit }, name)?;
            let old = old.collect::<rusqlite::Result<Vec<_>>>()?;
            for part in &old {
                of_part(conn, CONDEMN_PART, *part)?;
            }
            Ok(old)
        };
        self.workers.write("condemn_upload_parts", condemn).await
    }

    async fn forget_parts(&self, parts: &[PartName]) -> PortResult<()> {
        let parts = parts.to_vec();
        let forget = move |conn: &Connection| {
            for part in &parts {
                of_part(conn, FORGET_PART, *part)?;
            }
            Ok(())
        };
        self.workers.write("forget_upload_parts", forget).await
    }
}

fn begin(conn: &Connection, upload: &ResumableUpload, bounds: UploadBounds) -> rusqlite::Result<BeginOutcome> {
    let of_producer = named_params! { ":producer": Sql(upload.producer_id) };
    let open: u32 = conn.prepare_cached(OF_PRODUCER)?.query_row(of_producer, |row| row.get(0))?;
    if open >= bounds.per_producer {
        return Ok(BeginOutcome::TooMany);
    }
    let total: Sql<u64> = conn.prepare_cached(TOTAL_BYTES)?.query_row([], |row| row.get(0))?;
    if total.0.saturating_add(upload.length_bytes) > bounds.total_bytes {
        return Ok(BeginOutcome::NoRoom);
    }
    conn.prepare_cached(BEGIN)?.execute(named_params! {
        ":upload": Sql(upload.upload_id), ":producer": Sql(upload.producer_id), ":kind": Sql(upload.kind),
        ":concat": upload.concat, ":length": Sql(upload.length_bytes), ":media_type": upload.media_type,
        ":declared": upload.declared_hash.map(Sql), ":metadata": upload.metadata, ":expires": Sql(upload.expires_at),
    })?;
    Ok(BeginOutcome::Begun)
}

fn keep(
    conn: &Connection,
    id: UploadId,
    from: u64,
    parts: &[NewPart],
    expires_at: Timestamp,
) -> rusqlite::Result<bool> {
    let mut is_loose = conn.prepare_cached(IS_LOOSE)?;
    for part in parts {
        if !is_loose.exists(named_params! { ":upload": Sql(id), ":part": Sql(part.part_id) })? {
            return Ok(false);
        }
    }
    let end = from + parts.iter().map(|part| part.size_bytes).sum::<u64>();
    let advanced = conn.prepare_cached(ADVANCE)?.execute(named_params! {
        ":upload": Sql(id), ":start": Sql(from), ":end": Sql(end), ":parts": Sql(parts.len() as u64),
        ":expires": Sql(expires_at),
    })?;
    if advanced == 0 {
        return Ok(false);
    }
    let mut keep = conn.prepare_cached(KEEP_PART)?;
    for part in parts {
        keep.execute(named_params! {
            ":upload": Sql(id), ":part": Sql(part.part_id), ":start": Sql(part.from_byte), ":size": Sql(part.size_bytes),
        })?;
    }
    Ok(true)
}

fn remove(conn: &Connection, id: UploadId) -> rusqlite::Result<bool> {
    let removed = conn.prepare_cached(REMOVE)?.execute(named_params! { ":upload": Sql(id) })?;
    free_parts(conn, id)?;
    Ok(removed == 1)
}

fn free_parts(conn: &Connection, id: UploadId) -> rusqlite::Result<()> {
    conn.prepare_cached(FREE_PARTS)?.execute(named_params! { ":upload": Sql(id) }).map(drop)
}

fn of_part(conn: &Connection, sql: &str, part: PartName) -> rusqlite::Result<()> {
    let name = named_params! { ":upload": Sql(part.upload_id), ":part": Sql(part.part_id) };
    conn.prepare_cached(sql)?.execute(name).map(drop)
}

fn upload_from_row(row: &Row<'_>) -> rusqlite::Result<ResumableUpload> {
    Ok(ResumableUpload {
        upload_id: get(row, "upload_id")?,
        producer_id: get(row, "producer_id")?,
        kind: get(row, "kind")?,
        concat: row.get("concat")?,
        length_bytes: get(row, "length_bytes")?,
        offset_bytes: get(row, "offset_bytes")?,
        parts: row.get("parts")?,
        media_type: row.get("media_type")?,
        declared_hash: get_opt::<ContentHash>(row, "declared_hash")?,
        metadata: row.get("metadata")?,
        content_hash: get_opt(row, "content_hash")?,
        expires_at: get(row, "expires_at")?,
    })
}
