//! The port `Payments`. What has several steps under locks is a function of the database: `penstock_record_payment` and
//! `penstock_change_payment`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use penstock_actors::{
    ids::{ReceiptId, VersionId},
    model::{
        ChainHash, Derivation, MerkleRoot, NewPayment, Outpoint, Payment, PaymentStage, PaymentState, Price, Receipt,
    },
    ports::{Missing, Page, PaymentChange, Payments, PortError, PortResult, Receipts as _, Recorded},
};
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    columns::{Columns, bytes_32, exact, out_of_range},
    db::Statement,
};

/// Payments by their primary key, inputs by `payment_inputs_spent` and by their primary key, assets and tiers by theirs, inside the
/// function.
const RECORD: Statement = Statement {
    name: "record_payment",
    sql: "
        SELECT outcome, receipt, conflict_txid, conflict_vout
        FROM penstock_record_payment($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                                     $20, $21)",
    types: &[
        Type::BYTEA,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::BYTEA,
        Type::BYTEA,
        Type::BYTEA,
        Type::TEXT,
        Type::TEXT,
        Type::UUID,
        Type::TEXT,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::BYTEA,
        Type::UUID,
        Type::TEXT,
        Type::TIMESTAMPTZ,
        Type::BYTEA_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::BYTEA_ARRAY,
    ],
};

/// Payments, receipts and inputs by their primary keys, inside the function.
const CHANGE: Statement = Statement {
    name: "change_payment",
    sql: "
        SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
               receipt_id, state, height, made_at, changed_at
        FROM penstock_change_payment($1, $2, $3, $4, $5, $6, $7)",
    types: &[Type::BYTEA, Type::INT8, Type::TEXT, Type::INT8, Type::TEXT, Type::INT8, Type::TIMESTAMPTZ],
};

/// Prices and earlier prices by their primary keys.
const PRICE: Statement = Statement {
    name: "price_on_chain",
    sql: "
        SELECT p.satoshis AS asked, least(p.satoshis, (
            SELECT min(e.satoshis) FROM earlier_prices e
            WHERE e.version_id = $1 AND e.ended_at > clock_timestamp() - $2 * interval '1 millisecond')) AS least
        FROM prices p WHERE p.version_id = $1",
    types: &[Type::UUID, Type::INT8],
};

/// By the primary key.
const PAYMENT: Statement = Statement {
    name: "payment",
    sql: "
        SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
               receipt_id, state, height, made_at, changed_at
        FROM payments WHERE txid = $1 AND vout = $2",
    types: &[Type::BYTEA, Type::INT8],
};

/// By the unique key of `receipt_id`.
const PAYMENT_OF_RECEIPT: Statement = Statement {
    name: "payment_of_receipt",
    sql: "
        SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
               receipt_id, state, height, made_at, changed_at
        FROM payments WHERE receipt_id = $1",
    types: &[Type::UUID],
};

/// By the primary key.
const BEEF: Statement = Statement {
    name: "payment_beef",
    sql: "SELECT beef FROM payments WHERE txid = $1 AND vout = $2",
    types: &[Type::BYTEA, Type::INT8],
};

/// By `payments_made`, in its order, from the place of the payment that came before.
const PAYMENTS: Statement = Statement {
    name: "payments_page",
    sql: "
        SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
               receipt_id, state, height, made_at, changed_at
        FROM payments
        WHERE (made_at, txid, vout) > (
            coalesce((SELECT made_at FROM payments WHERE txid = $1 AND vout = $2), '-infinity'::timestamptz),
            coalesce($1, ''::bytea), coalesce($2, 0))
        ORDER BY made_at, txid, vout LIMIT $3",
    types: &[Type::BYTEA, Type::INT8, Type::INT8],
};

/// By `payments_state`, in its order, from the place of the payment that came before.
const PAYMENTS_IN: Statement = Statement {
    name: "payments_page_of_stage",
    sql: "
        SELECT txid, vout, satoshis, price_satoshis, sender, payee, derivation_prefix, derivation_suffix, version_id,
               receipt_id, state, height, made_at, changed_at
        FROM payments
        WHERE state = $4 AND (made_at, txid, vout) > (
            coalesce((SELECT made_at FROM payments WHERE txid = $1 AND vout = $2), '-infinity'::timestamptz),
            coalesce($1, ''::bytea), coalesce($2, 0))
        ORDER BY made_at, txid, vout LIMIT $3",
    types: &[Type::BYTEA, Type::INT8, Type::INT8, Type::TEXT],
};

/// Roots by their primary key from a height on, in its order, payments by theirs. A payment has a row for each of its roots that is lost.
const ON_LOST_ROOTS: Statement = Statement {
    name: "payments_on_lost_roots",
    sql: "
        SELECT p.txid, p.vout, p.satoshis, p.price_satoshis, p.sender, p.payee, p.derivation_prefix, p.derivation_suffix,
               p.version_id, p.receipt_id, p.state, p.height, p.made_at, p.changed_at
        FROM payment_roots r JOIN payments p ON p.txid = r.txid
        WHERE r.height >= $1 AND p.state <> 'invalidated' AND (r.height, r.root) NOT IN (
            SELECT best.height, best.root FROM unnest($2::bigint[], $3::bytea[]) AS best (height, root))
        ORDER BY r.height, r.root, r.txid LIMIT $4",
    types: &[Type::INT8, Type::INT8_ARRAY, Type::BYTEA_ARRAY, Type::INT8],
};

/// By `earlier_prices_age`.
const FORGET_PRICES: Statement = Statement {
    name: "forget_prices",
    sql: "
        DELETE FROM earlier_prices e USING (
            SELECT version_id, ended_at FROM earlier_prices WHERE ended_at < $1 ORDER BY ended_at LIMIT $2
            FOR UPDATE SKIP LOCKED
        ) AS old
        WHERE e.version_id = old.version_id AND e.ended_at = old.ended_at",
    types: &[Type::TIMESTAMPTZ, Type::INT8],
};

pub(super) async fn forget_prices(store: &PostgresStore, before: Timestamp, limit: u32) -> PortResult<u64> {
    store.upkeep.execute(&FORGET_PRICES, &[&before, &i64::from(limit)]).await
}

#[async_trait]
impl Payments for PostgresStore {
    async fn record_payment(&self, new: &NewPayment) -> PortResult<Recorded> {
        let NewPayment { transaction, output, derivation, .. } = new;
        let hash = |hash: &ChainHash| hash.as_wire().to_vec();
        let spent_txids: Vec<Vec<u8>> = transaction.inputs.iter().map(|spent| hash(&spent.txid)).collect();
        let spent_vouts: Vec<i64> = transaction.inputs.iter().map(|spent| i64::from(spent.vout)).collect();
        let heights: Vec<i64> = transaction.roots.iter().map(|(height, _)| i64::from(*height)).collect();
        let roots: Vec<Vec<u8>> = transaction.roots.iter().map(|(_, root)| hash(root)).collect();
        let row = self
            .db
            .row(
                &RECORD,
                &[
                    &transaction.txid.as_wire().as_slice(),
                    &i64::from(new.vout),
                    &exact(output.satoshis)?,
                    &exact(new.price_satoshis)?,
                    &output.locking_script,
                    &new.sender.as_bytes().as_slice(),
                    &new.payee.as_bytes().as_slice(),
                    &derivation.prefix,
                    &derivation.suffix,
                    &new.version_id.as_uuid(),
                    &new.state.stage().as_str(),
                    &new.state.height().map(i64::from),
                    &new.made_at,
                    &new.beef,
                    &new.receipt_id.as_uuid(),
                    &new.quota_tier,
                    &new.receipt_expires_at,
                    &spent_txids,
                    &spent_vouts,
                    &heights,
                    &roots,
                ],
            )
            .await?;
        let row = Columns(&row);
        match row.get("outcome")? {
            "new" => Ok(Recorded::New(self.bought(&row).await?)),
            "before" => Ok(Recorded::Before(self.bought(&row).await?)),
            "taken" => Ok(Recorded::Taken),
            "conflict" => Ok(Recorded::Conflict(outpoint(&row, "conflict_txid", "conflict_vout")?)),
            "no_asset" => Err(PortError::NotFound(Missing::Asset)),
            "no_tier" => Err(PortError::NotFound(Missing::QuotaTier)),
            _ => Err(out_of_range("outcome")),
        }
    }

    async fn change_payment(&self, change: &PaymentChange, now: Timestamp) -> PortResult<Option<Payment>> {
        let PaymentChange { outpoint, from, to } = change;
        let row = self
            .db
            .row_opt(
                &CHANGE,
                &[
                    &outpoint.txid.as_wire().as_slice(),
                    &i64::from(outpoint.vout),
                    &from.stage().as_str(),
                    &from.height().map(i64::from),
                    &to.stage().as_str(),
                    &to.height().map(i64::from),
                    &now,
                ],
            )
            .await?;
        row.map(|row| payment(&Columns(&row))).transpose()
    }

    async fn price(&self, version: VersionId, honoured: Duration) -> PortResult<Option<Price>> {
        let honoured = i64::try_from(honoured.as_millis()).map_err(|_| out_of_range("honoured"))?;
        let row = self.db.row_opt(&PRICE, &[&version.as_uuid(), &honoured]).await?;
        row.map(|row| Ok(Price { asked: Columns(&row).amount("asked")?, least: Columns(&row).amount("least")? }))
            .transpose()
    }

    async fn payment(&self, outpoint: &Outpoint) -> PortResult<Option<Payment>> {
        let row = self.db.row_opt(&PAYMENT, &[&outpoint.txid.as_wire().as_slice(), &i64::from(outpoint.vout)]).await?;
        row.map(|row| payment(&Columns(&row))).transpose()
    }

    async fn payment_of_receipt(&self, receipt: ReceiptId) -> PortResult<Option<Payment>> {
        let row = self.db.row_opt(&PAYMENT_OF_RECEIPT, &[&receipt.as_uuid()]).await?;
        row.map(|row| payment(&Columns(&row))).transpose()
    }

    async fn beef(&self, outpoint: &Outpoint) -> PortResult<Option<Vec<u8>>> {
        let row = self.db.row_opt(&BEEF, &[&outpoint.txid.as_wire().as_slice(), &i64::from(outpoint.vout)]).await?;
        row.map(|row| Columns(&row).get("beef")).transpose()
    }

    async fn payments_page(
        &self,
        stage: Option<PaymentStage>,
        after: Option<Outpoint>,
        limit: u32,
    ) -> PortResult<Page<Payment>> {
        let (txid, vout) = (after.map(|after| after.txid.as_wire().to_vec()), after.map(|after| i64::from(after.vout)));
        let most = i64::from(limit) + 1;
        let rows = match stage {
            None => self.db.rows(&PAYMENTS, &[&txid, &vout, &most]).await?,
            Some(stage) => self.db.rows(&PAYMENTS_IN, &[&txid, &vout, &most, &stage.as_str()]).await?,
        };
        let items = rows.iter().map(|row| payment(&Columns(row))).collect::<PortResult<_>>()?;
        Ok(Page::of(items, limit))
    }

    async fn payments_on_lost_roots(&self, roots: &[(u32, MerkleRoot)], limit: u32) -> PortResult<Vec<Payment>> {
        let Some((first, _)) = roots.first() else { return Ok(Vec::new()) };
        let heights: Vec<i64> = roots.iter().map(|(height, _)| i64::from(*height)).collect();
        let hashes: Vec<Vec<u8>> = roots.iter().map(|(_, root)| root.as_wire().to_vec()).collect();
        let params: [super::db::Param<'_>; 4] = [&i64::from(*first), &heights, &hashes, &i64::from(limit)];
        let rows = self.db.rows(&ON_LOST_ROOTS, &params).await?;
        let mut payments: Vec<Payment> = rows.iter().map(|row| payment(&Columns(row))).collect::<PortResult<_>>()?;
        payments.sort_by_key(|payment| payment.outpoint);
        payments.dedup_by_key(|payment| payment.outpoint);
        Ok(payments)
    }
}

impl PostgresStore {
    /// The receipt of a payment that is recorded.
    async fn bought(&self, row: &Columns<'_>) -> PortResult<Receipt> {
        let id = ReceiptId::from_uuid(row.get("receipt")?);
        self.receipt(id).await?.ok_or_else(|| PortError::Corrupt(format!("the receipt {id} of a payment is not there")))
    }
}

fn payment(row: &Columns<'_>) -> PortResult<Payment> {
    let height = row.amount_opt("height")?.map(|height| u32::try_from(height).map_err(|_| out_of_range("height")));
    let stage = row.word("state", PaymentStage::parse)?;
    Ok(Payment {
        outpoint: outpoint(row, "txid", "vout")?,
        satoshis: row.amount("satoshis")?,
        price_satoshis: row.amount("price_satoshis")?,
        sender: row.identity("sender")?,
        payee: row.identity("payee")?,
        derivation: Derivation { prefix: row.get("derivation_prefix")?, suffix: row.get("derivation_suffix")? },
        version_id: VersionId::from_uuid(row.get("version_id")?),
        receipt_id: row.get::<Option<_>>("receipt_id")?.map(ReceiptId::from_uuid),
        state: PaymentState::from_parts(stage, height.transpose()?).ok_or_else(|| out_of_range("state"))?,
        made_at: row.get("made_at")?,
        changed_at: row.get("changed_at")?,
    })
}

fn outpoint(row: &Columns<'_>, txid: &str, vout: &str) -> PortResult<Outpoint> {
    let index = u32::try_from(row.amount(vout)?).map_err(|_| out_of_range(vout))?;
    Ok(Outpoint { txid: ChainHash::from_wire(bytes_32(txid, row.get(txid)?)?), vout: index })
}
