//! The port `ResumableUploads`: uploads that arrive in several requests, and their parts.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ContentHash, PartId, ProducerId, UploadId},
    model::{NewPart, PartName, ResumableUpload, UploadBounds, UploadKind},
    ports::{BeginOutcome, PortResult, ResumableUploads},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32, exact, signed},
    db::{Param, Statement},
};

/// By `resumable_uploads_open`.
const BEGIN: Statement = Statement {
    name: "begin_upload",
    sql: "SELECT penstock_begin_upload($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS outcome",
    types: &[
        Type::UUID,
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::TEXT,
        Type::BYTEA,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT8,
    ],
};

/// By the primary key.
const UPLOAD: Statement = Statement {
    name: "resumable_upload",
    sql: "
        SELECT producer_id, kind, concat, length_bytes, offset_bytes, parts, media_type, declared_hash, metadata,
               content_hash, expires_at
        FROM resumable_uploads
        WHERE upload_id = $1",
    types: &[Type::UUID],
};

/// Inserts.
const ADD_PART: Statement = Statement {
    name: "add_upload_part",
    sql: "
        INSERT INTO resumable_upload_parts (upload_id, part_id, state, added_at) VALUES ($1, $2, 'loose', $3)
        ON CONFLICT (upload_id, part_id) DO NOTHING",
    types: &[Type::UUID, Type::UUID, Type::TIMESTAMPTZ],
};

/// By the primary keys. The parts are locked first, so that a Janitor that condemns one of them comes before or after.
const KEEP_PARTS: Statement = Statement {
    name: "keep_upload_parts",
    sql: "
        WITH mine AS MATERIALIZED (
            SELECT part_id FROM resumable_upload_parts
            WHERE upload_id = $1 AND part_id = ANY ($3) AND state = 'loose'
            FOR UPDATE
        ), moved AS (
            UPDATE resumable_uploads
            SET offset_bytes = $6, parts = parts + cardinality($3), expires_at = $7
            WHERE upload_id = $1 AND offset_bytes = $2 AND content_hash IS NULL
              AND (SELECT count(*) FROM mine) = cardinality($3)
            RETURNING upload_id
        )
        UPDATE resumable_upload_parts p SET state = 'kept', from_byte = k.from_byte, size_bytes = k.size_bytes
        FROM unnest($3, $4, $5) AS k (part_id, from_byte, size_bytes), moved
        WHERE p.upload_id = $1 AND p.part_id = k.part_id",
    types: &[
        Type::UUID,
        Type::INT8,
        Type::UUID_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8,
        Type::TIMESTAMPTZ,
    ],
};

/// By the primary key.
const KEPT_PARTS: Statement = Statement {
    name: "kept_upload_parts",
    sql: "
        SELECT part_id, from_byte, size_bytes FROM resumable_upload_parts
        WHERE upload_id = $1 AND state = 'kept'
        ORDER BY from_byte",
    types: &[Type::UUID],
};

/// By the primary key.
const HOLD: Statement = Statement {
    name: "hold_upload",
    sql: "
        UPDATE resumable_uploads
        SET holder = $2, held_until = clock_timestamp() + make_interval(secs => $3)
        WHERE upload_id = $1 AND content_hash IS NULL
          AND (holder IS NULL OR holder = $2 OR held_until <= clock_timestamp())",
    types: &[Type::UUID, Type::UUID, Type::FLOAT8],
};

/// By the primary keys.
const COMPLETE: Statement = Statement {
    name: "complete_upload",
    sql: "
        WITH done AS (
            UPDATE resumable_uploads
            SET offset_bytes = length_bytes, content_hash = $3, expires_at = $4, holder = NULL, held_until = NULL
            WHERE upload_id = $1 AND offset_bytes = $2 AND content_hash IS NULL
            RETURNING upload_id
        ), freed AS (
            UPDATE resumable_upload_parts p SET state = 'loose' FROM done
            WHERE p.upload_id = done.upload_id AND p.state = 'kept'
        )
        SELECT count(*) AS uploads FROM done",
    types: &[Type::UUID, Type::INT8, Type::BYTEA, Type::TIMESTAMPTZ],
};

/// By the primary keys.
const REMOVE: Statement = Statement {
    name: "remove_upload",
    sql: "
        WITH gone AS (
            DELETE FROM resumable_uploads WHERE upload_id = $1 RETURNING upload_id
        ), freed AS (
            UPDATE resumable_upload_parts p SET state = 'loose' FROM gone
            WHERE p.upload_id = gone.upload_id AND p.state = 'kept'
        )
        SELECT count(*) AS uploads FROM gone",
    types: &[Type::UUID],
};

/// By `resumable_uploads_expiry`, and the primary key of the parts.
const EXPIRE: Statement = Statement {
    name: "expire_uploads",
    sql: "
        WITH due AS (
            SELECT upload_id FROM resumable_uploads WHERE expires_at < $1
            ORDER BY expires_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM resumable_uploads u USING due WHERE u.upload_id = due.upload_id RETURNING u.upload_id
        ), freed AS (
            UPDATE resumable_upload_parts p SET state = 'loose' FROM gone
            WHERE p.upload_id = gone.upload_id AND p.state = 'kept'
        )
        SELECT count(*) AS uploads FROM gone",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// By `resumable_upload_parts_unkept`, and the primary key.
const CONDEMN: Statement = Statement {
    name: "condemn_upload_parts",
    sql: "
        WITH due AS (
            SELECT upload_id, part_id FROM resumable_upload_parts WHERE state <> 'kept' AND added_at < $1
            ORDER BY added_at
            LIMIT $2
            FOR UPDATE SKIP LOCKED
        )
        UPDATE resumable_upload_parts p SET state = 'condemned' FROM due
        WHERE p.upload_id = due.upload_id AND p.part_id = due.part_id
        RETURNING p.upload_id, p.part_id",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// By the primary key.
const FORGET: Statement = Statement {
    name: "forget_upload_parts",
    sql: "
        DELETE FROM resumable_upload_parts p USING unnest($1, $2) AS gone (upload_id, part_id)
        WHERE p.upload_id = gone.upload_id AND p.part_id = gone.part_id AND p.state <> 'kept'",
    types: &[Type::UUID_ARRAY, Type::UUID_ARRAY],
};

#[async_trait]
impl ResumableUploads for PostgresStore {
    async fn begin_upload(&self, upload: &ResumableUpload, bounds: UploadBounds) -> PortResult<BeginOutcome> {
        let declared = upload.declared_hash.as_ref().map(|hash| hash.as_bytes().as_slice());
        let params: [Param<'_>; 11] = [
            &upload.upload_id.as_uuid(),
            &upload.producer_id.as_uuid(),
            &upload.kind.as_str(),
            &upload.concat,
            &exact(upload.length_bytes)?,
            &upload.media_type,
            &declared,
            &upload.metadata,
            &upload.expires_at,
            &i64::from(bounds.per_producer),
            &signed(bounds.total_bytes),
        ];
        let row = self.db.row(&BEGIN, &params).await?;
        Columns(&row).word("outcome", |word| match word {
            "begun" => Some(BeginOutcome::Begun),
            "too_many" => Some(BeginOutcome::TooMany),
            "no_room" => Some(BeginOutcome::NoRoom),
            _ => None,
        })
    }

    async fn resumable_upload(&self, id: UploadId) -> PortResult<Option<ResumableUpload>> {
        let row = self.db.row_opt(&UPLOAD, &[&id.as_uuid()]).await?;
        row.map(|row| upload(id, &Columns(&row))).transpose()
    }

    async fn add_part(&self, part: PartName, now: Timestamp) -> PortResult<()> {
        let params: [Param<'_>; 3] = [&part.upload_id.as_uuid(), &part.part_id.as_uuid(), &now];
        self.db.execute(&ADD_PART, &params).await.map(drop)
    }

    async fn keep_parts(&self, id: UploadId, from: u64, parts: &[NewPart], expires_at: Timestamp) -> PortResult<bool> {
        let ids: Vec<Uuid> = parts.iter().map(|part| part.part_id.as_uuid()).collect();
        let starts = parts.iter().map(|part| exact(part.from_byte)).collect::<PortResult<Vec<i64>>>()?;
        let sizes = parts.iter().map(|part| exact(part.size_bytes)).collect::<PortResult<Vec<i64>>>()?;
        let end = from + parts.iter().map(|part| part.size_bytes).sum::<u64>();
        let params: [Param<'_>; 7] = [&id.as_uuid(), &exact(from)?, &ids, &starts, &sizes, &exact(end)?, &expires_at];
        Ok(self.db.execute(&KEEP_PARTS, &params).await? == parts.len() as u64)
    }

    async fn kept_parts(&self, id: UploadId) -> PortResult<Vec<NewPart>> {
        let rows = self.db.rows(&KEPT_PARTS, &[&id.as_uuid()]).await?;
        let part = |row| {
            let row = Columns(row);
            Ok(NewPart {
                part_id: PartId::from_uuid(row.get("part_id")?),
                from_byte: row.amount("from_byte")?,
                size_bytes: row.amount("size_bytes")?,
            })
        };
        rows.iter().map(part).collect()
    }

    async fn hold_upload(&self, id: UploadId, holder: Uuid, ttl: Duration) -> PortResult<bool> {
        Ok(self.db.execute(&HOLD, &[&id.as_uuid(), &holder, &ttl.as_secs_f64()]).await? > 0)
    }

    async fn complete_upload(
        &self,
        id: UploadId,
        from: u64,
        content: ContentHash,
        expires_at: Timestamp,
    ) -> PortResult<bool> {
        let params: [Param<'_>; 4] = [&id.as_uuid(), &exact(from)?, &content.as_bytes().as_slice(), &expires_at];
        Ok(Columns(&self.db.row(&COMPLETE, &params).await?).amount("uploads")? > 0)
    }

    async fn remove_upload(&self, id: UploadId) -> PortResult<bool> {
        Ok(Columns(&self.db.row(&REMOVE, &[&id.as_uuid()]).await?).amount("uploads")? > 0)
    }

    async fn expire_uploads(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let row = self.upkeep.row(&EXPIRE, &[&before, &i64::from(limit)]).await?;
        Columns(&row).amount("uploads")
    }

    async fn condemn_parts(&self, before: Timestamp, limit: u32) -> PortResult<Vec<PartName>> {
        let rows = self.upkeep.rows(&CONDEMN, &[&before, &i64::from(limit)]).await?;
        let name = |row| {
            let row = Columns(row);
            Ok(PartName {
                upload_id: UploadId::from_uuid(row.get("upload_id")?),
                part_id: PartId::from_uuid(row.get("part_id")?),
            })
        };
        rows.iter().map(name).collect()
    }

    async fn forget_parts(&self, parts: &[PartName]) -> PortResult<()> {
        let uploads: Vec<Uuid> = parts.iter().map(|part| part.upload_id.as_uuid()).collect();
        let ids: Vec<Uuid> = parts.iter().map(|part| part.part_id.as_uuid()).collect();
        self.upkeep.execute(&FORGET, &[&uploads, &ids]).await.map(drop)
    }
}

fn upload(upload_id: UploadId, row: &Columns<'_>) -> PortResult<ResumableUpload> {
    let hash = |name: &'static str| {
        let bytes = row.get::<Option<&[u8]>>(name)?;
        bytes.map(|bytes| bytes_32(name, bytes).map(ContentHash::from_bytes)).transpose()
    };
    Ok(ResumableUpload {
        upload_id,
        producer_id: ProducerId::from_uuid(row.get("producer_id")?),
        kind: row.word("kind", UploadKind::parse)?,
        concat: row.get("concat")?,
        length_bytes: row.amount("length_bytes")?,
        offset_bytes: row.amount("offset_bytes")?,
        parts: row.get::<i32>("parts")?.unsigned_abs(),
        media_type: row.get("media_type")?,
        declared_hash: hash("declared_hash")?,
        metadata: row.get("metadata")?,
        content_hash: hash("content_hash")?,
        expires_at: row.get("expires_at")?,
    })
}
