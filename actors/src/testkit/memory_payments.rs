//! Payments in memory, with their receipts and the prices of assets, and faults by script.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{payments_suite::PaymentScene, script::Script};
use crate::{
    ids::{ContentHash, ReceiptId, VersionId},
    model::{
        MerkleRoot, NewPayment, Outpoint, Payment, PaymentStage, PaymentState, Price, Receipt, ReceiptStatus, TxId,
    },
    ports::{Missing, Page, PaymentChange, Payments, PortError, PortResult, Recorded},
};

/// Tiers that exist.
const TIERS: [&str; 2] = ["standard", "premium"];

#[derive(Debug, Clone)]
struct Kept {
    payment: Payment,
    beef: Vec<u8>,
    roots: Vec<(u32, MerkleRoot)>,
}

#[derive(Debug, Default)]
struct Tables {
    /// In the order in which they were made.
    payments: Vec<Kept>,
    receipts: BTreeMap<ReceiptId, Receipt>,
    /// Who spends an output, where that transaction stands.
    spent: BTreeMap<Outpoint, TxId>,
    released: BTreeMap<TxId, BTreeSet<Outpoint>>,
    /// The price now, and the lowest that was raised.
    prices: BTreeMap<VersionId, (u64, u64)>,
}

/// Payments in memory. A price that was raised is honoured for ever, unless offers are not honoured at all.
#[derive(Default)]
pub struct MemoryPayments {
    /// Its scripted faults.
    pub script: Script,
    tables: Mutex<Tables>,
}

impl MemoryPayments {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All payments, in the order in which they were made.
    pub fn payments(&self) -> Vec<Payment> {
        self.tables().payments.iter().map(|kept| kept.payment.clone()).collect()
    }

    /// Sets the price of an asset, and makes the asset if there is none.
    pub fn set_price(&self, version: VersionId, satoshis: u64) {
        let mut tables = self.tables();
        let price = tables.prices.entry(version).or_insert((satoshis, u64::MAX));
        if price.0 > 0 && (satoshis > price.0 || satoshis == 0) {
            price.1 = price.1.min(price.0);
        }
        price.0 = satoshis;
    }
}

impl Tables {
    fn at(&mut self, outpoint: Outpoint) -> Option<&mut Kept> {
        self.payments.iter_mut().find(|kept| kept.payment.outpoint == outpoint)
    }

    fn record(&mut self, new: &NewPayment) -> PortResult<Recorded> {
        let txid = new.transaction.txid;
        if let Some(known) = self.at(new.outpoint()) {
            let same = known.payment.version_id == new.version_id && known.payment.sender == new.sender;
            let receipt = known.payment.receipt_id.filter(|_| same);
            return Ok(receipt.map_or(Recorded::Taken, |id| Recorded::Before(self.receipts[&id].clone())));
        }
        let spent = |spent: &&Outpoint| self.spent.get(spent).is_some_and(|by| *by != txid);
        let released = self.released.get(&txid).and_then(|inputs| inputs.first());
        if let Some(&conflict) = new.transaction.inputs.iter().find(spent).or(released) {
            return Ok(Recorded::Conflict(conflict));
        }
        if !self.prices.contains_key(&new.version_id) {
            return Err(PortError::NotFound(Missing::Asset));
        }
        if !TIERS.contains(&new.quota_tier.as_str()) {
            return Err(PortError::NotFound(Missing::QuotaTier));
        }
        self.spent.extend(new.transaction.inputs.iter().map(|spent| (*spent, txid)));
        let pending = new.state == PaymentState::Pending;
        let receipt = Receipt {
            receipt_id: new.receipt_id,
            version_id: new.version_id,
            content_hash: ContentHash::from_bytes([7; 32]),
            quota_tier: new.quota_tier.clone(),
            status: if pending { ReceiptStatus::Pending } else { ReceiptStatus::Confirmed },
            expires_at: new.receipt_expires_at,
            total_satoshis: new.output.satoshis,
            created_at: new.made_at,
            epoch: 0,
        };
        self.receipts.insert(new.receipt_id, receipt.clone());
        let payment = Payment {
            outpoint: new.outpoint(),
            satoshis: new.output.satoshis,
            price_satoshis: new.price_satoshis,
            sender: new.sender,
            payee: new.payee,
            derivation: new.derivation.clone(),
            version_id: new.version_id,
            receipt_id: Some(new.receipt_id),
            state: new.state,
            made_at: new.made_at,
            changed_at: new.made_at,
        };
        self.payments.push(Kept { payment, beef: new.beef.clone(), roots: new.transaction.roots.clone() });
        Ok(Recorded::New(receipt))
    }

    fn change(&mut self, change: &PaymentChange, now: Timestamp) -> Option<Payment> {
        let txid = change.outpoint.txid;
        let kept = self.at(change.outpoint).filter(|kept| kept.payment.state == change.from)?;
        kept.payment.state = change.to;
        kept.payment.changed_at = now;
        let payment = kept.payment.clone();
        let stands =
            |kept: &Kept| kept.payment.outpoint.txid == txid && kept.payment.state != PaymentState::Invalidated;
        let released = !self.payments.iter().any(stands);
        if let Some(receipt) = payment.receipt_id.and_then(|id| self.receipts.get_mut(&id)) {
            let to = match change.to {
                PaymentState::Invalidated => ReceiptStatus::Refunded,
                PaymentState::Pending => receipt.status,
                _ if receipt.status == ReceiptStatus::Pending => ReceiptStatus::Confirmed,
                _ => receipt.status,
            };
            if receipt.status != to && receipt.status.may_become(to) {
                receipt.status = to;
                receipt.epoch += 1;
            }
        }
        if released {
            let inputs = self.spent.extract_if(.., |_, by| *by == txid).map(|(spent, _)| spent);
            self.released.insert(txid, inputs.collect());
        }
        Some(payment)
    }
}

#[async_trait]
impl Payments for MemoryPayments {
    async fn record_payment(&self, new: &NewPayment) -> PortResult<Recorded> {
        self.script.play("record_payment", 1, || self.tables().record(new)).await
    }

    async fn change_payment(&self, change: &PaymentChange, now: Timestamp) -> PortResult<Option<Payment>> {
        self.script.play("change_payment", 1, || Ok(self.tables().change(change, now))).await
    }

    async fn price(&self, version: VersionId, honoured: Duration) -> PortResult<Option<Price>> {
        let price = || self.tables().prices.get(&version).copied();
        self.script
            .play("price", 1, || {
                Ok(price().map(|(asked, raised)| Price {
                    asked,
                    least: if honoured.is_zero() { asked } else { asked.min(raised) },
                }))
            })
            .await
    }

    async fn payment(&self, outpoint: &Outpoint) -> PortResult<Option<Payment>> {
        self.script.play("payment", 1, || Ok(self.tables().at(*outpoint).map(|kept| kept.payment.clone()))).await
    }

    async fn payment_of_receipt(&self, receipt: ReceiptId) -> PortResult<Option<Payment>> {
        Ok(self.payments().into_iter().find(|payment| payment.receipt_id == Some(receipt)))
    }

    async fn beef(&self, outpoint: &Outpoint) -> PortResult<Option<Vec<u8>>> {
        Ok(self.tables().at(*outpoint).map(|kept| kept.beef.clone()))
    }

    async fn payments_page(
        &self,
        stage: Option<PaymentStage>,
        after: Option<Outpoint>,
        limit: u32,
    ) -> PortResult<Page<Payment>> {
        let mut payments = self.payments();
        payments.sort_by_key(|payment| (payment.made_at, payment.outpoint));
        let from = after.and_then(|after| payments.iter().position(|payment| payment.outpoint == after));
        let rest = payments.into_iter().skip(from.map_or(0, |from| from + 1));
        let of_stage = rest.filter(|payment| stage.is_none_or(|stage| payment.state.stage() == stage));
        Ok(Page::of(of_stage.take(limit as usize + 1).collect(), limit))
    }

    async fn payments_on_lost_roots(&self, roots: &[(u32, MerkleRoot)], limit: u32) -> PortResult<Vec<Payment>> {
        let Some((first, _)) = roots.first() else { return Ok(Vec::new()) };
        let tables = self.tables();
        let lost = |kept: &&Kept| {
            kept.payment.state != PaymentState::Invalidated
                && kept.roots.iter().any(|root| root.0 >= *first && !roots.contains(root))
        };
        Ok(tables.payments.iter().filter(lost).take(limit as usize).map(|kept| kept.payment.clone()).collect())
    }
}

#[async_trait]
impl PaymentScene for MemoryPayments {
    async fn asset_for(&self, price: u64) -> VersionId {
        let version = VersionId::next();
        self.set_price(version, price);
        version
    }

    async fn reprice(&self, version: VersionId, satoshis: u64) {
        self.set_price(version, satoshis);
    }

    async fn receipt_of(&self, id: ReceiptId) -> Option<Receipt> {
        self.tables().receipts.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testkit::payments_suite;

    #[tokio::test]
    async fn payments_in_memory_keep_the_promises_of_their_port() {
        payments_suite::run_payments(Arc::new(MemoryPayments::default())).await;
    }
}
