//! The port `Payments`. There is one writer, so what is looked up in a job still holds when it writes.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use penstock_actors::{
    clock::{Clock as _, SystemClock},
    ids::{ReceiptId, VersionId},
    model::{
        Derivation, MerkleRoot, NewPayment, Outpoint, Payment, PaymentStage, PaymentState, Price, Receipt,
        ReceiptStatus, TxId,
    },
    ports::{Missing, Page, PaymentChange, Payments, PortError, PortResult, Recorded},
};
use rusqlite::{Connection, OptionalExtension as _, Row, named_params};

use super::{
    SqliteStore, assets,
    columns::{Sql, get, get_opt},
    error::JobFailure,
    quota_policies, receipts,
};

/// The topic of outputs that paid for receipts.
const TOPIC: &str = "penstock_receipts";

/// Served by the primary key.
pub(super) const PAYMENT: &str = "
    SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
        receipt_id, state, height, made_at, changed_at
    FROM payments WHERE txid = :txid AND vout = :vout";

/// Served by the unique key of `receipt_id`.
pub(super) const PAYMENT_OF_RECEIPT: &str = "
    SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
        receipt_id, state, height, made_at, changed_at
    FROM payments WHERE receipt_id = :receipt";

/// Served by the primary key.
pub(super) const BEEF: &str = "SELECT beef FROM payments WHERE txid = :txid AND vout = :vout";

/// Served by `payments_made`, in its order.
pub(super) const PAYMENTS: &str = "
    SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
        receipt_id, state, height, made_at, changed_at
    FROM payments WHERE (made_at, txid, vout) > (:made, :txid, :vout) ORDER BY made_at, txid, vout LIMIT :limit";

/// Served by `payments_state`, in its order.
pub(super) const PAYMENTS_IN: &str = "
    SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
        receipt_id, state, height, made_at, changed_at
    FROM payments WHERE state = :state AND (made_at, txid, vout) > (:made, :txid, :vout)
    ORDER BY made_at, txid, vout LIMIT :limit";

/// Served by `payment_inputs_spent`.
pub(super) const SPENDER: &str = "
    SELECT spent_by FROM payment_inputs WHERE spent_txid = :txid AND spent_vout = :vout AND released = 0";

/// Served by the primary key.
pub(super) const RELEASED: &str = "
    SELECT spent_txid, spent_vout FROM payment_inputs WHERE spent_by = :txid AND released = 1 LIMIT 1";

pub(super) const SPEND: &str = "
    INSERT INTO payment_inputs (spent_txid, spent_vout, spent_by) VALUES (:txid, :vout, :by)
    ON CONFLICT (spent_by, spent_txid, spent_vout) DO NOTHING";

/// Served by the primary key.
pub(super) const RELEASE: &str = "UPDATE payment_inputs SET released = 1 WHERE spent_by = :txid";

pub(super) const REST_ON: &str = "
    INSERT INTO payment_roots (txid, height, root) VALUES (:txid, :height, :root) ON CONFLICT DO NOTHING";

pub(super) const ADMIT: &str = "
    INSERT INTO brc22_utxos (txid, vout, topic, satoshis, locking_script, admitted_at)
    VALUES (:txid, :vout, :topic, :satoshis, :script, :now) ON CONFLICT DO NOTHING";

pub(super) const ADD_PAYMENT: &str = "
    INSERT INTO payments
        (txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id, receipt_id,
         state, height, made_at, changed_at, beef)
    VALUES (:txid, :vout, :satoshis, :price, :sender, :payee, :prefix, :suffix, :version, :receipt, :state, :height, :now,
        :now, :beef)";

/// Served by the primary key of assets.
pub(super) const ADD_RECEIPT: &str = "
    INSERT INTO overlay_receipts
        (receipt_id, version_id, content_hash, quota_tier, status, expires_at, total_satoshis, created_at, updated_at)
    SELECT :receipt, version_id, content_hash, :tier, :status, :expires, :satoshis, :now, :now
    FROM assets WHERE version_id = :version";

/// Served by the primary key.
pub(super) const CHANGE: &str = "
    UPDATE payments SET state = :to, height = :to_height, changed_at = :now
    WHERE txid = :txid AND vout = :vout AND state = :from AND height IS :from_height";

/// Served by the primary key.
pub(super) const STANDS: &str = "SELECT EXISTS (SELECT 1 FROM payments WHERE txid = :txid AND +state <> 'invalidated')";

/// Served by the primary key. An expiry that may turn out to be the mistake of a clock brings nothing back.
pub(super) const REFUND: &str = "
    UPDATE overlay_receipts SET status = iif(status = 'expired', status, 'refunded'), expired_from = NULL,
        epoch = epoch + (status <> 'expired'), updated_at = :now
    WHERE receipt_id = :receipt AND status <> 'refunded'";

/// Served by the primary key.
pub(super) const CONFIRM: &str = "
    UPDATE overlay_receipts SET status = iif(status = 'pending', 'confirmed', status),
        expired_from = iif(status = 'pending', expired_from, 'confirmed'), epoch = epoch + (status = 'pending'),
        updated_at = :now
    WHERE receipt_id = :receipt AND (status = 'pending' OR expired_from = 'pending')";

/// Served by the primary keys of prices and of earlier prices.
pub(super) const PRICE: &str = "
    SELECT p.satoshis AS asked, min(p.satoshis, coalesce((
        SELECT min(e.satoshis) FROM earlier_prices e WHERE e.version_id = :version AND e.ended_at > :since),
        p.satoshis)) AS least
    FROM prices p WHERE p.version_id = :version";

/// Served by the primary key of roots from a height on, and by that of payments.
pub(super) const ON_LOST_ROOTS: &str = "
    SELECT p.txid, p.vout, p.satoshis, p.price_satoshis, p.sender, p.payee, p.derivation_prefix, p.derivation_suffix,
        p.version_id, p.receipt_id, p.state, p.height, p.made_at, p.changed_at
    FROM payments p
    WHERE +p.state <> 'invalidated' AND p.txid IN (
        SELECT r.txid FROM payment_roots r
        WHERE r.height >= :from AND (r.height, lower(hex(r.root))) NOT IN (
            SELECT value ->> 0, value ->> 1 FROM json_each(:roots)))
    LIMIT :limit";

/// Served by `earlier_prices_age`.
pub(super) const FORGET_PRICES: &str = "
    DELETE FROM earlier_prices WHERE (version_id, ended_at) IN (
        SELECT version_id, ended_at FROM earlier_prices WHERE ended_at < :before ORDER BY ended_at LIMIT :limit)";

#[async_trait]
impl Payments for SqliteStore {
    async fn record_payment(&self, new: &NewPayment) -> PortResult<Recorded> {
        let new = new.clone();
        self.workers.write("record_payment", move |conn| record(conn, &new)).await
    }

    async fn change_payment(&self, change: &PaymentChange, now: Timestamp) -> PortResult<Option<Payment>> {
        let change = *change;
        self.workers.write("change_payment", move |conn| Ok(set_state(conn, &change, now)?)).await
    }

    async fn price(&self, version: VersionId, honoured: Duration) -> PortResult<Option<Price>> {
        let honoured = SignedDuration::try_from(honoured).unwrap_or(SignedDuration::MAX);
        let since = SystemClock.now().saturating_sub(honoured).unwrap_or(Timestamp::MIN);
        let from_row = |row: &Row<'_>| Ok(Price { asked: get(row, "asked")?, least: get(row, "least")? });
        let read = move |conn: &Connection| {
            let key = named_params! { ":version": Sql(version), ":since": Sql(since) };
            Ok(conn.prepare_cached(PRICE)?.query_row(key, from_row).optional()?)
        };
        self.workers.read("price_on_chain", read).await
    }

    async fn payment(&self, outpoint: &Outpoint) -> PortResult<Option<Payment>> {
        let outpoint = *outpoint;
        self.workers.read("payment", move |conn| Ok(load(conn, outpoint)?)).await
    }

    async fn payment_of_receipt(&self, receipt: ReceiptId) -> PortResult<Option<Payment>> {
        let read = move |conn: &Connection| {
            let key = named_params! { ":receipt": Sql(receipt) };
            Ok(conn.prepare_cached(PAYMENT_OF_RECEIPT)?.query_row(key, from_row).optional()?)
        };
        self.workers.read("payment_of_receipt", read).await
    }

    async fn beef(&self, outpoint: &Outpoint) -> PortResult<Option<Vec<u8>>> {
        let Outpoint { txid, vout } = *outpoint;
        let read = move |conn: &Connection| {
            let key = named_params! { ":txid": Sql(txid), ":vout": vout };
            Ok(conn.prepare_cached(BEEF)?.query_row(key, |row| row.get("beef")).optional()?)
        };
        self.workers.read("payment_beef", read).await
    }

    async fn payments_page(
        &self,
        stage: Option<PaymentStage>,
        after: Option<Outpoint>,
        limit: u32,
    ) -> PortResult<Page<Payment>> {
        self.workers.read("payments_page", move |conn| Ok(page(conn, stage, after, limit)?)).await
    }

    async fn payments_on_lost_roots(&self, roots: &[(u32, MerkleRoot)], limit: u32) -> PortResult<Vec<Payment>> {
        let Some(&(from, _)) = roots.first() else { return Ok(Vec::new()) };
        let hex = |root: &MerkleRoot| root.as_wire().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let roots: Vec<_> = roots.iter().map(|(height, root)| (*height, hex(root))).collect();
        let read = move |conn: &Connection| {
            let params = named_params! {
                ":from": from, ":roots": serde_json::json!(roots).to_string(), ":limit": limit,
            };
            Ok(conn.prepare_cached(ON_LOST_ROOTS)?.query_map(params, from_row)?.collect::<rusqlite::Result<_>>()?)
        };
        self.workers.read("payments_on_lost_roots", read).await
    }
}

fn load(conn: &Connection, Outpoint { txid, vout }: Outpoint) -> rusqlite::Result<Option<Payment>> {
    let key = named_params! { ":txid": Sql(txid), ":vout": vout };
    conn.prepare_cached(PAYMENT)?.query_row(key, from_row).optional()
}

fn record(conn: &Connection, new: &NewPayment) -> Result<Recorded, JobFailure> {
    if let Some(known) = load(conn, new.outpoint())? {
        let same = known.version_id == new.version_id && known.sender == new.sender;
        return match known.receipt_id.filter(|_| same) {
            Some(receipt) => Ok(Recorded::Before(bought(conn, receipt)?)),
            None => Ok(Recorded::Taken),
        };
    }
    if let Some(spent) = conflict(conn, new)? {
        return Ok(Recorded::Conflict(spent));
    }
    if !assets::asset_exists(conn, new.version_id)? {
        return Err(PortError::NotFound(Missing::Asset).into());
    }
    if !quota_policies::exists(conn, &new.quota_tier)? {
        return Err(PortError::NotFound(Missing::QuotaTier).into());
    }
    write(conn, new)?;
    Ok(Recorded::New(bought(conn, new.receipt_id)?))
}

/// An input that another transaction spends; or one of this transaction, if it was invalidated.
fn conflict(conn: &Connection, new: &NewPayment) -> rusqlite::Result<Option<Outpoint>> {
    let txid = new.transaction.txid;
    let mut spender = conn.prepare_cached(SPENDER)?;
    for &spent in &new.transaction.inputs {
        let key = named_params! { ":txid": Sql(spent.txid), ":vout": spent.vout };
        let by: Option<TxId> = spender.query_row(key, |row| get(row, "spent_by")).optional()?;
        if by.is_some_and(|by| by != txid) {
            return Ok(Some(spent));
        }
    }
    let from_row = |row: &Row<'_>| Ok(Outpoint { txid: get(row, "spent_txid")?, vout: row.get("spent_vout")? });
    conn.prepare_cached(RELEASED)?.query_row(named_params! { ":txid": Sql(txid) }, from_row).optional()
}

fn write(conn: &Connection, new: &NewPayment) -> rusqlite::Result<()> {
    let NewPayment { transaction, output, derivation, .. } = new;
    let txid = Sql(transaction.txid);
    for spent in &transaction.inputs {
        let row = named_params! { ":txid": Sql(spent.txid), ":vout": spent.vout, ":by": txid };
        conn.prepare_cached(SPEND)?.execute(row)?;
    }
    let status = if new.state == PaymentState::Pending { ReceiptStatus::Pending } else { ReceiptStatus::Confirmed };
    conn.prepare_cached(ADD_RECEIPT)?.execute(named_params! {
        ":receipt": Sql(new.receipt_id), ":version": Sql(new.version_id), ":tier": new.quota_tier, ":status": Sql(status),
        ":expires": Sql(new.receipt_expires_at), ":satoshis": Sql(output.satoshis), ":now": Sql(new.made_at),
    })?;
    conn.prepare_cached(ADD_PAYMENT)?.execute(named_params! {
        ":txid": txid, ":vout": new.vout, ":satoshis": Sql(output.satoshis), ":price": Sql(new.price_satoshis),
        ":sender": Sql(new.sender), ":payee": Sql(new.payee), ":prefix": derivation.prefix, ":suffix": derivation.suffix,
        ":version": Sql(new.version_id), ":receipt": Sql(new.receipt_id), ":state": Sql(new.state.stage()),
        ":height": new.state.height(), ":now": Sql(new.made_at), ":beef": new.beef,
    })?;
    for &(height, root) in &transaction.roots {
        conn.prepare_cached(REST_ON)?
            .execute(named_params! { ":txid": txid, ":height": height, ":root": Sql(root) })?;
    }
    conn.prepare_cached(ADMIT)?.execute(named_params! {
        ":txid": txid, ":vout": new.vout, ":topic": TOPIC, ":satoshis": Sql(output.satoshis),
        ":script": output.locking_script, ":now": Sql(new.made_at),
    })?;
    Ok(())
}

/// The receipt of a payment that is recorded.
fn bought(conn: &Connection, id: ReceiptId) -> Result<Receipt, JobFailure> {
    let receipt = receipts::load(conn, id)?;
    receipt.ok_or_else(|| PortError::Corrupt(format!("the receipt {id} of a payment is not there")).into())
}

fn set_state(conn: &Connection, change: &PaymentChange, now: Timestamp) -> rusqlite::Result<Option<Payment>> {
    let PaymentChange { outpoint, from, to } = *change;
    let changed = conn.prepare_cached(CHANGE)?.execute(named_params! {
        ":txid": Sql(outpoint.txid), ":vout": outpoint.vout, ":from": Sql(from.stage()), ":from_height": from.height(),
        ":to": Sql(to.stage()), ":to_height": to.height(), ":now": Sql(now),
    })?;
    if changed == 0 {
        return Ok(None);
    }
    let payment = load(conn, outpoint)?;
    if let Some(receipt) = payment.as_ref().and_then(|payment| payment.receipt_id) {
        let key = named_params! { ":receipt": Sql(receipt), ":now": Sql(now) };
        match to {
            PaymentState::Invalidated => conn.prepare_cached(REFUND)?.execute(key)?,
            PaymentState::Unproven | PaymentState::Proven { .. } => conn.prepare_cached(CONFIRM)?.execute(key)?,
            PaymentState::Pending => 0,
        };
    }
    if to == PaymentState::Invalidated {
        let key = named_params! { ":txid": Sql(outpoint.txid) };
        let stands: bool = conn.prepare_cached(STANDS)?.query_row(key, |row| row.get(0))?;
        if !stands {
            conn.prepare_cached(RELEASE)?.execute(key)?;
        }
    }
    Ok(payment)
}

fn page(
    conn: &Connection,
    stage: Option<PaymentStage>,
    after: Option<Outpoint>,
    limit: u32,
) -> rusqlite::Result<Page<Payment>> {
    let last = after.map(|after| load(conn, after)).transpose()?.flatten();
    let made = last.as_ref().map_or(i64::MIN, |last| last.made_at.as_microsecond());
    let (txid, vout) =
        last.as_ref().map_or((Vec::new(), 0), |last| (last.outpoint.txid.as_wire().to_vec(), last.outpoint.vout));
    let most = i64::from(limit) + 1;
    let items = match stage {
        None => conn
            .prepare_cached(PAYMENTS)?
            .query_map(named_params! { ":made": made, ":txid": txid, ":vout": vout, ":limit": most }, from_row)?
            .collect::<rusqlite::Result<_>>()?,
        Some(stage) => {
            let range = named_params! {
                ":state": Sql(stage), ":made": made, ":txid": txid, ":vout": vout, ":limit": most,
            };
            conn.prepare_cached(PAYMENTS_IN)?.query_map(range, from_row)?.collect::<rusqlite::Result<_>>()?
        }
    };
    Ok(Page::of(items, limit))
}

pub(super) fn forget_prices(conn: &Connection, before: Timestamp, limit: u32) -> rusqlite::Result<u64> {
    let range = named_params! { ":before": Sql(before), ":limit": limit };
    Ok(conn.prepare_cached(FORGET_PRICES)?.execute(range)? as u64)
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Payment> {
    let stage: PaymentStage = get(row, "state")?;
    let state = PaymentState::from_parts(stage, row.get("height")?);
    Ok(Payment {
        outpoint: Outpoint { txid: get(row, "txid")?, vout: row.get("vout")? },
        satoshis: get(row, "satoshis")?,
        price_satoshis: get(row, "price_satoshis")?,
        sender: get(row, "sender")?,
        payee: get(row, "payee")?,
        derivation: Derivation { prefix: row.get("derivation_prefix")?, suffix: row.get("derivation_suffix")? },
        version_id: get(row, "version_id")?,
        receipt_id: get_opt(row, "receipt_id")?,
        state: state.ok_or_else(|| rusqlite::Error::InvalidColumnName("height".into()))?,
        made_at: get(row, "made_at")?,
        changed_at: get(row, "changed_at")?,
    })
}
