//! Verifications of stored copies, the quarantine, and the last use of content.

pub(super) mod moves;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use penstock_actors::{
    ids::ContentHash,
    model::{HistoryPosition, Quarantined, StoredContent, Verification, VerificationKind},
    ports::{PortResult, QuarantineList, StoredContents, Verifications},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore,
    columns::{Sql, get, get_opt},
};

/// Served by the primary key.
pub(super) const NOTE_VERIFICATION: &str = "
    INSERT INTO storage_verifications (verification_id, content_hash, verification_type, tier, finding, expected_bytes,
        found_bytes, node_id, verified_at)
    VALUES (:id, :content, :kind, :tier, :finding, :expected, :found, :node, :at)
    ON CONFLICT (verification_id) DO NOTHING";

/// Served by `storage_verifications_content`, once per kind.
pub(super) const VERIFICATIONS: &str = "
    SELECT verification_id, content_hash, verification_type, tier, finding, expected_bytes, found_bytes, node_id,
        verified_at
    FROM storage_verifications
    WHERE content_hash = :content AND verification_type = :kind AND verified_at <= :at
        AND (verified_at < :at OR verification_id < :id)
    ORDER BY verified_at DESC, verification_id DESC LIMIT :limit";

/// Served by `storage_verifications_age`.
pub(super) const FORGET_VERIFICATIONS: &str = "
    DELETE FROM storage_verifications WHERE verification_id IN (
        SELECT verification_id FROM storage_verifications WHERE verified_at < :before ORDER BY verified_at LIMIT :limit)";

/// Served by the primary keys.
pub(super) const QUARANTINE: &str = "
    INSERT INTO storage_quarantine (content_hash, since)
    SELECT content_hash, :now FROM overlay_storage_index WHERE content_hash = :content
    ON CONFLICT (content_hash) DO NOTHING";

/// Served by the primary key.
pub(super) const LIFT_QUARANTINE: &str = "DELETE FROM storage_quarantine WHERE content_hash = :content";

/// Served by the primary key, in its order.
pub(super) const QUARANTINED: &str = "
    SELECT content_hash, since FROM storage_quarantine WHERE content_hash > :after ORDER BY content_hash LIMIT :limit";

/// Served by the primary key.
pub(super) const IS_QUARANTINED: &str = "SELECT 1 FROM storage_quarantine WHERE content_hash = :content";

/// Served by the primary keys.
pub(super) const STORED_CONTENT: &str = "
    SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at, u.used_on
    FROM overlay_storage_index c LEFT JOIN content_uses u ON u.content_hash = c.content_hash
    WHERE c.content_hash = :content AND c.state = 'stored'";

/// Served by the primary keys, in their order.
pub(super) const STORED_AFTER: &str = "
    SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at, u.used_on
    FROM overlay_storage_index c LEFT JOIN content_uses u ON u.content_hash = c.content_hash
    WHERE c.content_hash > :after AND c.state = 'stored'
    ORDER BY c.content_hash LIMIT :limit";

/// Served by the primary key.
pub(super) const NOTE_USE: &str = "
    INSERT INTO content_uses (content_hash, used_on) VALUES (:content, :day)
    ON CONFLICT (content_hash) DO UPDATE SET used_on = excluded.used_on WHERE used_on < excluded.used_on";

#[async_trait]
impl Verifications for SqliteStore {
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()> {
        let rows = rows.to_vec();
        self.workers.write("note_verifications", move |conn| Ok(note_verifications(conn, &rows)?)).await
    }

    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPosition>,
        limit: u32,
    ) -> PortResult<Vec<Verification>> {
        self.workers.read("verifications", move |conn| Ok(history(conn, hash, kind, after, limit)?)).await
    }

    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let forget = move |conn: &Connection| {
            let range = named_params! { ":before": Sql(before), ":limit": limit };
            Ok(conn.prepare_cached(FORGET_VERIFICATIONS)?.execute(range)? as u64)
        };
        self.workers.write("forget_verifications", forget).await
    }
}

#[async_trait]
impl QuarantineList for SqliteStore {
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool> {
        let quarantine = move |conn: &Connection| {
            let row = named_params! { ":content": Sql(hash), ":now": Sql(now) };
            Ok(conn.prepare_cached(QUARANTINE)?.execute(row)? == 1)
        };
        self.workers.write("quarantine", quarantine).await
    }

    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool> {
        let lift = move |conn: &Connection| {
            Ok(conn.prepare_cached(LIFT_QUARANTINE)?.execute(named_params! { ":content": Sql(hash) })? == 1)
        };
        self.workers.write("lift_quarantine", lift).await
    }

    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<Quarantined>> {
        let read = move |conn: &Connection| {
            let range = named_params! { ":after": bytes_of(after), ":limit": limit };
            let mut select = conn.prepare_cached(QUARANTINED)?;
            let rows = select.query_map(range, |row| {
                Ok(Quarantined { content_hash: get(row, "content_hash")?, since: get(row, "since")? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("quarantined", read).await
    }

    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let hashes = hashes.to_vec();
        let read = move |conn: &Connection| {
            let mut known = conn.prepare_cached(IS_QUARANTINED)?;
            let mut found = Vec::new();
            for hash in hashes {
                if known.exists(named_params! { ":content": Sql(hash) })? {
                    found.push(hash);
                }
            }
            Ok(found)
        };
        self.workers.read("quarantined_among", read).await
    }
}

#[async_trait]
impl StoredContents for SqliteStore {
    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>> {
        let read = move |conn: &Connection| {
            let mut select = conn.prepare_cached(STORED_CONTENT)?;
            Ok(select.query_row(named_params! { ":content": Sql(hash) }, stored_content).optional()?)
        };
        self.workers.read("stored_content", read).await
    }

    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>> {
        let read = move |conn: &Connection| {
            let range = named_params! { ":after": bytes_of(after), ":limit": limit };
            let mut select = conn.prepare_cached(STORED_AFTER)?;
            let rows = select.query_map(range, stored_content)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("stored_after", read).await
    }

    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()> {
        let hashes = hashes.to_vec();
        let note = move |conn: &Connection| {
            let mut insert = conn.prepare_cached(NOTE_USE)?;
            for hash in hashes {
                insert.execute(named_params! { ":content": Sql(hash), ":day": Sql(day) })?;
            }
            Ok(())
        };
        self.workers.write("note_uses", note).await
    }
}

/// The lower bound of a page; without one, a value below every hash.
fn bytes_of(after: Option<ContentHash>) -> Vec<u8> {
    after.map(|hash| hash.as_bytes().to_vec()).unwrap_or_default()
}

fn note_verifications(conn: &Connection, rows: &[Verification]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(NOTE_VERIFICATION)?;
    for row in rows {
        insert.execute(named_params! {
            ":id": Sql(row.verification_id), ":content": Sql(row.content_hash), ":kind": Sql(row.kind),
            ":tier": Sql(row.tier), ":finding": Sql(row.finding), ":expected": Sql(row.expected_bytes),
            ":found": row.found_bytes.map(Sql), ":node": Sql(row.node), ":at": Sql(row.verified_at),
        })?;
    }
    Ok(())
}

/// The newest of each kind, merged: the index is in the order of time within a kind.
fn history(
    conn: &Connection,
    hash: ContentHash,
    kind: Option<VerificationKind>,
    after: Option<HistoryPosition>,
    limit: u32,
) -> rusqlite::Result<Vec<Verification>> {
    let kinds = kind.map_or_else(|| VerificationKind::ALL.to_vec(), |kind| vec![kind]);
    let at = after.map_or(i64::MAX, |place| place.verified_at.as_microsecond());
    let id = after.map(|place| Sql(place.verification_id));
    let mut select = conn.prepare_cached(VERIFICATIONS)?;
    let mut all = Vec::new();
    for kind in kinds {
        let range = named_params! { ":content": Sql(hash), ":kind": Sql(kind), ":at": at, ":id": id, ":limit": limit };
        for row in select.query_map(range, verification)? {
            all.push(row?);
        }
    }
    all.sort_by_key(|row| std::cmp::Reverse((row.verified_at, row.verification_id)));
    all.truncate(limit as usize);
    Ok(all)
}

fn verification(row: &Row<'_>) -> rusqlite::Result<Verification> {
    Ok(Verification {
        verification_id: get(row, "verification_id")?,
        content_hash: get(row, "content_hash")?,
        kind: get(row, "verification_type")?,
        tier: get(row, "tier")?,
        finding: get(row, "finding")?,
        expected_bytes: get(row, "expected_bytes")?,
        found_bytes: get_opt(row, "found_bytes")?,
        node: get(row, "node_id")?,
        verified_at: get(row, "verified_at")?,
    })
}

fn stored_content(row: &Row<'_>) -> rusqlite::Result<StoredContent> {
    let used_on: Option<Date> = get_opt(row, "used_on")?;
    Ok(StoredContent {
        content_hash: get(row, "content_hash")?,
        size_bytes: get(row, "size_bytes")?,
        tier: get(row, "tier")?,
        stored_at: get(row, "stored_at")?,
        used_on: used_on.and_then(|day| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())),
    })
}
