//! The port `PayerData`: usage rows of a receipt move to an anonymous one, step by step.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::{ReceiptId, UsageId},
    model::{Credit, ReceiptStatus, WindowKind, WindowSet},
    ports::{ErasureStep, PayerData, PortResult, SetAside},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};
use uuid::Uuid;

use super::{
    SqliteStore,
    columns::{Sql, get, get_credit, get_opt},
    set_aside,
    windows::{self, WindowChange},
};

/// Served by the primary key.
pub(super) const ERASED: &str = "
    SELECT status, expires_at, expired_from IS NOT NULL AS by_clock, created_at, updated_at, stand_in
    FROM overlay_receipts WHERE receipt_id = :receipt";

/// Served by the primary key.
pub(super) const HAS_LIVE_LEASE: &str =
    "SELECT EXISTS (SELECT 1 FROM quota_leases WHERE receipt_id = :receipt AND +state = 'live')";

/// Served by the primary key.
pub(super) const ADD_STAND_IN: &str = "
    INSERT INTO overlay_receipts
        (receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at, updated_at,
         anonymous)
    SELECT :stand_in, version_id, content_hash, quota_tier, status, :expires, total_satoshis, :created, :updated, 1
    FROM overlay_receipts WHERE receipt_id = :receipt";

/// Served by the primary key. The price counts once.
pub(super) const SET_STAND_IN: &str =
    "UPDATE overlay_receipts SET stand_in = :stand_in, total_satoshis = 0 WHERE receipt_id = :receipt";

/// Served by `streaming_usage_receipt`, in its order.
pub(super) const USAGE_TO_MOVE: &str = "
    SELECT usage_id, started_at, bytes_sent, requests FROM streaming_usage
    WHERE receipt_id = :receipt ORDER BY usage_id LIMIT :limit";

/// Served by the primary key.
pub(super) const MAKE_ANONYMOUS: &str = "
    UPDATE streaming_usage
    SET usage_id = :anonymous, receipt_id = :stand_in, session_id = NULL, client = NULL, lease_epoch = NULL,
        started_at = :hour, finished_at = :hour
    WHERE usage_id = :usage";

/// Served by the primary key.
pub(super) const DELETE_LEASES_OF_RECEIPT: &str = "DELETE FROM quota_leases WHERE receipt_id = :receipt";

/// Served by the primary key.
pub(super) const DELETE_EMPTY_WINDOWS: &str = "
    DELETE FROM quota_usage_windows
    WHERE receipt_id = :receipt AND bytes_used = 0 AND requests_used = 0 AND bytes_reserved = 0 AND requests_reserved = 0";

/// Scans the few nodes, and finds their rows by the primary key. CROSS JOIN keeps this order.
pub(super) const DELETE_REFILLS_OF_RECEIPT: &str = "
    DELETE FROM quota_refills_again WHERE (node_id, epoch, receipt_id) IN (
        SELECT a.node_id, a.epoch, a.receipt_id FROM ledger_nodes n
        CROSS JOIN quota_refills_again a ON a.node_id = n.node_id AND a.epoch = n.epoch AND a.receipt_id = :receipt)";

/// Served by the primary key.
pub(super) const DELETE_RECEIPT: &str = "DELETE FROM overlay_receipts WHERE receipt_id = :receipt";

pub(super) const NOTE_ERASED: &str = "INSERT INTO change_log (kind, subject) VALUES ('receipt', :receipt)";

/// Served by `usage_set_aside_receipt`.
pub(super) const SET_ASIDE_STARTS: &str =
    "SELECT usage_id, started_at FROM usage_set_aside WHERE receipt_id = :receipt";

/// Served by the primary key.
pub(super) const MAKE_SET_ASIDE_ANONYMOUS: &str = "
    UPDATE usage_set_aside SET receipt_id = :stand_in, session_id = NULL, started_at = :hour, finished_at = :hour
    WHERE usage_id = :usage";

#[async_trait]
impl PayerData for SqliteStore {
    async fn set_aside_under(&self, receipt: ReceiptId, limit: u32) -> PortResult<Vec<SetAside>> {
        self.workers.read("usage_set_aside_under", move |conn| Ok(set_aside::under(conn, receipt, limit)?)).await
    }

    async fn erase(&self, receipt: ReceiptId, limit: u32) -> PortResult<ErasureStep> {
        let now = SystemClock.now();
        self.workers.write("erase_receipt", move |conn| Ok(erase(conn, receipt, limit, now)?)).await
    }
}

/// A receipt that is being forgotten.
struct Erased {
    status: ReceiptStatus,
    expires_at: Timestamp,
    /// It was the Janitor that set `expired`.
    by_clock: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    stand_in: Option<ReceiptId>,
}

impl Erased {
    fn load(conn: &Connection, receipt: ReceiptId) -> rusqlite::Result<Option<Self>> {
        let from_row = |row: &Row<'_>| {
            Ok(Self {
                status: get(row, "status")?,
                expires_at: get(row, "expires_at")?,
                by_clock: row.get("by_clock")?,
                created_at: get(row, "created_at")?,
                updated_at: get(row, "updated_at")?,
                stand_in: get_opt(row, "stand_in")?,
            })
        };
        conn.prepare_cached(ERASED)?.query_row(named_params! { ":receipt": Sql(receipt) }, from_row).optional()
    }

    fn is_open(&self, now: Timestamp) -> bool {
        let is_over = matches!(self.status, ReceiptStatus::Consumed | ReceiptStatus::Expired | ReceiptStatus::Refunded);
        !is_over || self.by_clock && self.expires_at > now
    }
}

fn erase(conn: &Connection, receipt: ReceiptId, limit: u32, now: Timestamp) -> rusqlite::Result<ErasureStep> {
    let key = named_params! { ":receipt": Sql(receipt) };
    let Some(erased) = Erased::load(conn, receipt)? else {
        erase_set_aside(conn, receipt, ReceiptId::random())?;
        return Ok(ErasureStep::Done(0));
    };
    if erased.is_open(now) {
        return Ok(ErasureStep::Open);
    }
    if conn.prepare_cached(HAS_LIVE_LEASE)?.query_row(key, |row| row.get(0))? {
        return Ok(ErasureStep::Leased);
    }
    let stand_in = match erased.stand_in {
        Some(stand_in) => stand_in,
        None => add_stand_in(conn, receipt, &erased)?,
    };
    let moved = move_usage(conn, receipt, stand_in, limit)?;
    if moved >= u64::from(limit) {
        return Ok(ErasureStep::More(moved));
    }
    // No usage is left, so the windows are empty, and lost leases have no charge that late rows could explain. A window that is not
    // empty contradicts its rows: it keeps the receipt, for the audit to show.
    for statement in [DELETE_LEASES_OF_RECEIPT, DELETE_EMPTY_WINDOWS, DELETE_REFILLS_OF_RECEIPT, DELETE_RECEIPT] {
        conn.prepare_cached(statement)?.execute(key)?;
    }
    conn.prepare_cached(NOTE_ERASED)?.execute(key)?;
    erase_set_aside(conn, receipt, stand_in)?;
    Ok(ErasureStep::Done(moved))
}

/// Adds the anonymous receipt, with times of whole days.
fn add_stand_in(conn: &Connection, receipt: ReceiptId, erased: &Erased) -> rusqlite::Result<ReceiptId> {
    let day = |at| Sql(WindowKind::Day.window(at).start);
    let stand_in = ReceiptId::random();
    conn.prepare_cached(ADD_STAND_IN)?.execute(named_params! {
        ":receipt": Sql(receipt), ":stand_in": Sql(stand_in), ":expires": day(erased.expires_at),
        ":created": day(erased.created_at), ":updated": day(erased.updated_at),
    })?;
    conn.prepare_cached(SET_STAND_IN)?
        .execute(named_params! { ":receipt": Sql(receipt), ":stand_in": Sql(stand_in) })?;
    Ok(stand_in)
}

/// Moves up to `limit` usage rows, and what they count in the windows; returns how many.
fn move_usage(conn: &Connection, receipt: ReceiptId, stand_in: ReceiptId, limit: u32) -> rusqlite::Result<u64> {
    let from_row = |row: &Row<'_>| {
        let (usage, started_at) = (get::<UsageId>(row, "usage_id")?, get::<Timestamp>(row, "started_at")?);
        Ok((usage, started_at, get_credit(row, "bytes_sent", "requests")?))
    };
    let range = named_params! { ":receipt": Sql(receipt), ":limit": limit };
    let rows: Vec<_> =
        conn.prepare_cached(USAGE_TO_MOVE)?.query_map(range, from_row)?.collect::<rusqlite::Result<_>>()?;
    let mut hours = BTreeMap::<Timestamp, Credit>::new();
    let mut update = conn.prepare_cached(MAKE_ANONYMOUS)?;
    for &(usage, started_at, credit) in &rows {
        let hour = WindowKind::Hour.window(started_at).start;
        update.execute(named_params! {
            ":usage": Sql(usage), ":anonymous": Sql(UsageId::from_uuid(Uuid::new_v4())), ":stand_in": Sql(stand_in), ":hour": Sql(hour),
        })?;
        *hours.entry(hour).or_default() += credit;
    }
    for (hour, used) in hours {
        let (set, change) = (WindowSet::at(hour), WindowChange { used, ..WindowChange::default() });
        windows::take(conn, receipt, &set, change)?;
        windows::add(conn, stand_in, &set, change)?;
    }
    Ok(rows.len() as u64)
}

/// Usage that could not be settled; it may come after the receipt is gone.
fn erase_set_aside(conn: &Connection, receipt: ReceiptId, stand_in: ReceiptId) -> rusqlite::Result<()> {
    let from_row = |row: &Row<'_>| Ok((get::<UsageId>(row, "usage_id")?, get::<Timestamp>(row, "started_at")?));
    let rows: Vec<_> = conn
        .prepare_cached(SET_ASIDE_STARTS)?
        .query_map(named_params! { ":receipt": Sql(receipt) }, from_row)?
        .collect::<rusqlite::Result<_>>()?;
    let mut update = conn.prepare_cached(MAKE_SET_ASIDE_ANONYMOUS)?;
    for (usage, started_at) in rows {
        let hour = WindowKind::Hour.window(started_at).start;
        update.execute(named_params! { ":usage": Sql(usage), ":stand_in": Sql(stand_in), ":hour": Sql(hour) })?;
    }
    Ok(())
}
