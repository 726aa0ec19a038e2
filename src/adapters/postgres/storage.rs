//! Verifications of stored copies, the quarantine, and the last use of content.

mod moves;

use async_trait::async_trait;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use penstock_actors::{
    ids::{ContentHash, NodeId, VerificationId},
    model::{Finding, HistoryPosition, Quarantined, StorageTier, StoredContent, Verification, VerificationKind},
    ports::{PortResult, QuarantineList, StoredContents, Verifications},
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    columns::{Columns, exact},
    db::Statement,
};

/// By the primary key.
const NOTE_VERIFICATIONS: Statement = Statement {
    name: "note_verifications",
    sql: "
        INSERT INTO storage_verifications (verification_id, content_hash, verification_type, tier, finding,
            expected_bytes, found_bytes, node_id, verified_at)
        SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (verification_id) DO NOTHING",
    types: &[
        Type::UUID_ARRAY,
        Type::BYTEA_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::UUID_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
};

/// By `storage_verifications_content`, once per kind: the index is in the order of time within a kind.
const VERIFICATIONS: Statement = Statement {
    name: "verifications",
    sql: "
        SELECT page.*
        FROM unnest($2) AS asked (kind)
        CROSS JOIN LATERAL (
            SELECT verification_id, content_hash, verification_type, tier, finding, expected_bytes, found_bytes, node_id,
                verified_at
            FROM storage_verifications v
            WHERE v.content_hash = $1 AND v.verification_type = asked.kind
                AND v.verified_at <= $3 AND (v.verified_at, v.verification_id) < ($3, $4)
            ORDER BY v.verified_at DESC, v.verification_id DESC
            LIMIT $5
        ) AS page
        ORDER BY page.verified_at DESC, page.verification_id DESC
        LIMIT $5",
    types: &[Type::BYTEA, Type::TEXT_ARRAY, Type::TIMESTAMPTZ, Type::UUID, Type::INT8],
};

/// By `storage_verifications_age`, then by the rows' `ctid`, which cannot change while the rows are locked.
const FORGET_VERIFICATIONS: Statement = Statement {
    name: "forget_verifications",
    sql: "
        DELETE FROM storage_verifications
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM storage_verifications WHERE verified_at < $1 ORDER BY verified_at LIMIT $2
            FOR UPDATE SKIP LOCKED))",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

/// By the primary keys.
const QUARANTINE: Statement = Statement {
    name: "quarantine",
    sql: "
        INSERT INTO storage_quarantine (content_hash, since)
        SELECT content_hash, $2 FROM overlay_storage_index WHERE content_hash = $1
        ON CONFLICT (content_hash) DO NOTHING",
    types: &[Type::BYTEA, Type::TIMESTAMPTZ],
};

/// By the primary key.
const LIFT_QUARANTINE: Statement = Statement {
    name: "lift_quarantine",
    sql: "DELETE FROM storage_quarantine WHERE content_hash = $1",
    types: &[Type::BYTEA],
};

/// By the primary key, in its order.
const QUARANTINED: Statement = Statement {
    name: "quarantined",
    sql: "SELECT content_hash, since FROM storage_quarantine WHERE content_hash > $1 ORDER BY content_hash LIMIT $2",
    types: &[Type::BYTEA, Type::INT8],
};

/// By the primary key.
const QUARANTINED_AMONG: Statement = Statement {
    name: "quarantined_among",
    sql: "SELECT content_hash FROM storage_quarantine WHERE content_hash = ANY ($1)",
    types: &[Type::BYTEA_ARRAY],
};

/// By the primary keys.
const STORED_CONTENT: Statement = Statement {
    name: "stored_content",
    sql: "
        SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at, u.used_on
        FROM overlay_storage_index c LEFT JOIN content_uses u ON u.content_hash = c.content_hash
        WHERE c.content_hash = $1 AND c.state = 'stored'",
    types: &[Type::BYTEA],
};

/// By the primary keys, in their order. A subquery and not a join: for a page of this size the planner would read and
/// hash all uses.
const STORED_AFTER: Statement = Statement {
    name: "stored_after",
    sql: "
        SELECT c.content_hash, c.size_bytes, c.tier, c.stored_at,
            (SELECT u.used_on FROM content_uses u WHERE u.content_hash = c.content_hash) AS used_on
        FROM overlay_storage_index c
        WHERE c.content_hash > $1 AND c.state = 'stored'
        ORDER BY c.content_hash
        LIMIT $2",
    types: &[Type::BYTEA, Type::INT8],
};

/// By the primary key. Sorted, so that instances that note the same contents do not deadlock.
const NOTE_USES: Statement = Statement {
    name: "note_uses",
    sql: "
        INSERT INTO content_uses AS u (content_hash, used_on)
        SELECT DISTINCT content_hash, $2 FROM unnest($1) AS used (content_hash) ORDER BY content_hash
        ON CONFLICT (content_hash) DO UPDATE SET used_on = excluded.used_on WHERE u.used_on < excluded.used_on",
    types: &[Type::BYTEA_ARRAY, Type::DATE],
};

/// Sorts before every hash.
const FIRST: &[u8] = &[];

#[async_trait]
impl Verifications for PostgresStore {
    async fn note_verifications(&self, rows: &[Verification]) -> PortResult<()> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.verification_id.as_uuid()).collect();
        let contents: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_bytes().as_slice()).collect();
        let kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
        let tiers: Vec<&str> = rows.iter().map(|row| row.tier.as_str()).collect();
        let findings: Vec<&str> = rows.iter().map(|row| row.finding.as_str()).collect();
        let expected = rows.iter().map(|row| exact(row.expected_bytes)).collect::<PortResult<Vec<i64>>>()?;
        let found = rows.iter().map(|row| row.found_bytes.map(exact).transpose());
        let found = found.collect::<PortResult<Vec<Option<i64>>>>()?;
        let nodes: Vec<Uuid> = rows.iter().map(|row| row.node.as_uuid()).collect();
        let times: Vec<Timestamp> = rows.iter().map(|row| row.verified_at).collect();
        let params: [super::db::Param<'_>; 9] =
            [&ids, &contents, &kinds, &tiers, &findings, &expected, &found, &nodes, &times];
        self.upkeep.execute(&NOTE_VERIFICATIONS, &params).await.map(drop)
    }

    async fn verifications(
        &self,
        hash: ContentHash,
        kind: Option<VerificationKind>,
        after: Option<HistoryPosition>,
        limit: u32,
    ) -> PortResult<Vec<Verification>> {
        let kinds = kind.map_or_else(|| VerificationKind::ALL.to_vec(), |kind| vec![kind]);
        let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        // The range of PostgreSQL's timestamps ends earlier than ours.
        let at = after.map_or(LAST_MOMENT, |place| place.verified_at);
        let id = after.map_or(Uuid::max(), |place| place.verification_id.as_uuid());
        let params: [super::db::Param<'_>; 5] = [&hash.as_bytes().as_slice(), &kinds, &at, &id, &i64::from(limit)];
        let rows = self.db.rows(&VERIFICATIONS, &params).await?;
        rows.iter().map(|row| verification(&Columns(row))).collect()
    }

    async fn forget_verifications(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        self.upkeep.execute(&FORGET_VERIFICATIONS, &[&before, &i64::from(limit)]).await
    }
}

#[async_trait]
impl QuarantineList for PostgresStore {
    async fn quarantine(&self, hash: ContentHash, now: Timestamp) -> PortResult<bool> {
        Ok(self.db.execute(&QUARANTINE, &[&hash.as_bytes().as_slice(), &now]).await? == 1)
    }

    async fn lift_quarantine(&self, hash: ContentHash) -> PortResult<bool> {
        Ok(self.db.execute(&LIFT_QUARANTINE, &[&hash.as_bytes().as_slice()]).await? == 1)
    }

    async fn quarantined(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<Quarantined>> {
        let after = after.as_ref().map_or(FIRST, |hash| hash.as_bytes());
        let rows = self.db.rows(&QUARANTINED, &[&after, &i64::from(limit)]).await?;
        let one = |row| {
            let row = Columns(row);
            Ok(Quarantined { content_hash: row.hash("content_hash")?, since: row.get("since")? })
        };
        rows.iter().map(one).collect()
    }

    async fn quarantined_among(&self, hashes: &[ContentHash]) -> PortResult<Vec<ContentHash>> {
        let asked: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
        let rows = self.db.rows(&QUARANTINED_AMONG, &[&asked]).await?;
        rows.iter().map(|row| Columns(row).hash("content_hash")).collect()
    }
}

#[async_trait]
impl StoredContents for PostgresStore {
    async fn stored_content(&self, hash: ContentHash) -> PortResult<Option<StoredContent>> {
        let row = self.db.row_opt(&STORED_CONTENT, &[&hash.as_bytes().as_slice()]).await?;
        row.map(|row| stored_content(&Columns(&row))).transpose()
    }

    async fn stored_after(&self, after: Option<ContentHash>, limit: u32) -> PortResult<Vec<StoredContent>> {
        let after = after.as_ref().map_or(FIRST, |hash| hash.as_bytes());
        let rows = self.upkeep.rows(&STORED_AFTER, &[&after, &i64::from(limit)]).await?;
        rows.iter().map(|row| stored_content(&Columns(row))).collect()
    }

    async fn note_accesses(&self, hashes: &[ContentHash], day: Date) -> PortResult<()> {
        let used: Vec<&[u8]> = hashes.iter().map(|hash| hash.as_bytes().as_slice()).collect();
        self.upkeep.execute(&NOTE_USES, &[&used, &day]).await.map(drop)
    }
}

/// The end of the year 9998: after every verification, and within the range of both sides.
const LAST_MOMENT: Timestamp = Timestamp::constant(253_370_764_799, 0);

fn verification(row: &Columns<'_>) -> PortResult<Verification> {
    Ok(Verification {
        verification_id: VerificationId::from_uuid(row.get("verification_id")?),
        content_hash: row.hash("content_hash")?,
        kind: row.word("verification_type", VerificationKind::parse)?,
        tier: row.word("tier", StorageTier::parse)?,
        finding: row.word("finding", Finding::parse)?,
        expected_bytes: row.amount("expected_bytes")?,
        found_bytes: row.amount_opt("found_bytes")?,
        node: NodeId::from_uuid(row.get("node_id")?),
        verified_at: row.get("verified_at")?,
    })
}

fn stored_content(row: &Columns<'_>) -> PortResult<StoredContent> {
    let used_on: Option<Date> = row.get("used_on")?;
    Ok(StoredContent {
        content_hash: row.hash("content_hash")?,
        size_bytes: row.amount("size_bytes")?,
        tier: row.word("tier", StorageTier::parse)?,
        stored_at: row.get("stored_at")?,
        used_on: used_on.and_then(|day| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())),
    })
}
