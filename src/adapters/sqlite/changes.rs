//! The change log, which the triggers of the migration `change_log` write.

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::ContentHash,
    model::{IdentityKey, Timeline},
    ports::{Change, ChangeMark, ChangePage, Changes, PortResult, Tag},
};
use rusqlite::{Connection, named_params};
use uuid::Uuid;

use super::{SqliteStore, columns::Sql, timelines};

/// The newest row; the table itself is in this order.
pub(super) const NEWEST_CHANGE: &str = "SELECT coalesce(max(change_id), 0) FROM change_log";

/// By the primary key.
pub(super) const CHANGES: &str = "
    SELECT change_id, kind, subject FROM change_log WHERE change_id > :after ORDER BY change_id LIMIT :limit";

/// An insert.
pub(super) const NOTE_CHANGE: &str = "INSERT INTO change_log (kind, subject) VALUES (:kind, :subject)";

/// Served by `change_log_age`.
pub(super) const FORGET_CHANGES: &str = "
    DELETE FROM change_log WHERE change_id IN (
        SELECT change_id FROM change_log WHERE changed_at < :before ORDER BY changed_at LIMIT :limit)";

#[async_trait]
impl Changes for SqliteStore {
    async fn changes(&self, after: Option<ChangeMark>, limit: u32) -> PortResult<ChangePage> {
        let home = self.home.clone();
        let read = move |conn: &Connection| {
            let timeline = timelines::timeline(conn, &home)?;
            Ok(page(conn, after, limit, timeline)?)
        };
        self.workers.read("changes", read).await
    }

    async fn note_changes(&self, tags: &[Tag]) -> PortResult<()> {
        let tags = tags.to_vec();
        self.workers.write("note_changes", move |conn| Ok(note(conn, &tags)?)).await
    }

    async fn forget_changes(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let forget = move |conn: &Connection| {
            let range = named_params! { ":before": Sql(before), ":limit": limit };
            Ok(conn.prepare_cached(FORGET_CHANGES)?.execute(range)? as u64)
        };
        self.workers.write("forget_changes", forget).await
    }
}

fn page(conn: &Connection, after: Option<ChangeMark>, limit: u32, timeline: Timeline) -> rusqlite::Result<ChangePage> {
    let newest: i64 = conn.prepare_cached(NEWEST_CHANGE)?.query_row([], |row| row.get(0))?;
    let Some(ChangeMark(after)) = after else {
        return Ok(ChangePage { changes: Vec::new(), mark: ChangeMark(newest), timeline, anything: false });
    };
    let mut select = conn.prepare_cached(CHANGES)?;
    let mut rows = select.query(named_params! { ":after": after, ":limit": i64::from(limit) + 1 })?;
    let (mut changes, mut mark, mut anything) = (Vec::new(), after, false);
    while let Some(row) = rows.next()? {
        mark = row.get("change_id")?;
        match tag(row.get_ref("kind")?.as_str()?, row.get("subject")?) {
            Some(tag) => changes.push(Change { id: mark, tag }),
            // A tag from a later version of the program.
            None => anything = true,
        }
    }
    if changes.len() > limit as usize {
        anything = true;
        mark = newest;
    }
    Ok(ChangePage { changes, mark: ChangeMark(mark), timeline, anything })
}

fn tag(kind: &str, subject: Vec<u8>) -> Option<Tag> {
    let name = match kind {
        "policy" | "governance" | "entries" | "lineage" => String::from_utf8(subject).ok()?,
        "content" => ContentHash::from_bytes(subject.try_into().ok()?).to_string(),
        "identity" => IdentityKey::from_bytes(subject.try_into().ok()?).ok()?.to_string(),
        _ => Uuid::from_slice(&subject).ok()?.to_string(),
    };
    format!("{kind}:{name}").parse().ok()
}

pub(super) fn note(conn: &Connection, tags: &[Tag]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached(NOTE_CHANGE)?;
    for tag in tags {
        let (kind, subject) = match tag {
            Tag::Receipt(id) => ("receipt", id.as_uuid().as_bytes().to_vec()),
            Tag::Recall(id) => ("recall", id.as_uuid().as_bytes().to_vec()),
            Tag::EndStream(id) => ("end-stream", id.as_uuid().as_bytes().to_vec()),
            Tag::Asset(id) => ("asset", id.as_uuid().as_bytes().to_vec()),
            Tag::Lineage => ("lineage", b"graph".to_vec()),
            Tag::Content(hash) => ("content", hash.as_bytes().to_vec()),
            Tag::Identity(key) => ("identity", key.as_bytes().to_vec()),
            Tag::Key(id) => ("key", id.as_uuid().as_bytes().to_vec()),
            Tag::QuotaPolicy(name) => ("policy", name.clone().into_bytes()),
            Tag::Governance(id) => ("governance", id.as_str().into()),
            Tag::Entries(pattern) => ("entries", pattern.as_str().into()),
        };
        insert.execute(named_params! { ":kind": kind, ":subject": subject })?;
    }
    Ok(())
}
