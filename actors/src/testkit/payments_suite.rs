//! The promises of [`Payments`]: one payment makes one receipt, and no output is spent twice.
//!
//! Each promise makes its own assets, transactions and keys, so the suite may share a database with other tests.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use uuid::Uuid;

use super::catalog_suite::{self, CatalogStore};
use crate::{
    clock::to_micros,
    ids::{ReceiptId, VersionId},
    model::{
        ChainHash, Derivation, IdentityKey, NewPayment, Outpoint, Payment, PaymentStage, PaymentState, Price, Receipt,
        ReceiptStatus, TxOutput, VerifiedTransaction,
    },
    ports::{ErasureStep, Missing, PayerData, PaymentChange, Payments, PortError, Receipts, Recorded, Upkeep},
};

const PRICE: u64 = 1000;

/// Payments with the assets that they buy, and their receipts.
#[async_trait]
pub trait PaymentScene: Payments {
    /// An asset at this price.
    async fn asset_for(&self, price: u64) -> VersionId;

    async fn reprice(&self, version: VersionId, satoshis: u64);

    async fn receipt_of(&self, id: ReceiptId) -> Option<Receipt>;
}

#[async_trait]
impl<S: Payments + Receipts + CatalogStore> PaymentScene for S {
    async fn asset_for(&self, price: u64) -> VersionId {
        let asset = catalog_suite::asset(self).await;
        self.reprice(asset.version_id, price).await;
        asset.version_id
    }

    async fn reprice(&self, version: VersionId, satoshis: u64) {
        assert!(self.set_price(version, satoshis, None, now()).await.expect("priced"));
    }

    async fn receipt_of(&self, id: ReceiptId) -> Option<Receipt> {
        self.receipt(id).await.expect("read")
    }
}

/// Runs every promise on a database.
///
/// # Panics
/// When a promise is broken.
pub async fn run<S: Payments + Receipts + CatalogStore + PayerData + Upkeep>(store: Arc<S>) {
    run_payments(Arc::clone(&store)).await;
    a_price_is_kept_until_it_is_forgotten(&*store).await;
    a_payment_whose_receipt_was_erased_buys_nothing_again(&*store).await;
    an_expiry_by_mistake_brings_no_refunded_receipt_back(&*store).await;
}

/// Runs the promises of [`Payments`] alone.
///
/// # Panics
/// When a promise is broken.
pub async fn run_payments<S: PaymentScene>(store: Arc<S>) {
    a_payment_buys_one_receipt(&*store).await;
    of_ten_calls_with_one_payment_one_makes_the_receipt(&store).await;
    of_ten_transactions_that_spend_one_output_one_is_recorded(&store).await;
    transactions_with_inputs_in_common_never_wait_for_each_other(&store).await;
    another_buyer_or_asset_gets_nothing_for_it(&*store).await;
    two_outputs_of_one_transaction_buy_two_receipts(&*store).await;
    what_does_not_exist_is_named_and_nothing_is_kept(&*store).await;
    a_pending_payment_is_confirmed_once(&*store).await;
    a_late_change_changes_nothing(&*store).await;
    an_invalidated_payment_refunds_and_frees_its_inputs(&*store).await;
    inputs_stay_spent_while_another_payment_of_the_transaction_stands(&*store).await;
    prices_are_honoured_after_a_raise(&*store).await;
    pages_are_in_the_order_of_making(&*store).await;
    payments_on_lost_roots_are_found(&*store).await;
}

fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

fn hash() -> ChainHash {
    let mut bytes = [0; 32];
    for half in bytes.chunks_exact_mut(16) {
        half.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    ChainHash::from_wire(bytes)
}

fn key() -> IdentityKey {
    let mut bytes = [2; 33];
    bytes[1..].copy_from_slice(hash().as_wire());
    IdentityKey::from_bytes(bytes).expect("a compressed key")
}

fn output() -> Outpoint {
    Outpoint { txid: hash(), vout: 3 }
}

/// A payment with two inputs of its own.
pub fn new_payment(version_id: VersionId) -> NewPayment {
    let output_ = TxOutput { satoshis: PRICE + 1, locking_script: vec![0x76, 0xa9] };
    NewPayment {
        transaction: VerifiedTransaction {
            txid: hash(),
            raw: vec![1, 2, 3],
            inputs: vec![output(), output()],
            outputs: vec![TxOutput { satoshis: 5, locking_script: vec![] }, output_.clone()],
            proven_at: None,
            roots: vec![(u32::MAX / 2, hash())],
        },
        vout: 1,
        output: output_,
        beef: vec![9; 300],
        sender: key(),
        payee: key(),
        derivation: Derivation { prefix: "a prefix".into(), suffix: "b/c=".into() },
        version_id,
        price_satoshis: PRICE,
        state: PaymentState::Unproven,
        receipt_id: ReceiptId::random(),
        quota_tier: "standard".into(),
        receipt_expires_at: now() + Duration::from_secs(86_400),
        made_at: now(),
    }
}

/// The same payment as another call of the same buyer would record it.
fn again(new: &NewPayment) -> NewPayment {
    NewPayment { receipt_id: ReceiptId::random(), made_at: now(), ..new.clone() }
}

fn spending(mut new: NewPayment, inputs: Vec<Outpoint>) -> NewPayment {
    new.transaction.inputs = inputs;
    new
}

async fn record(store: &dyn Payments, new: &NewPayment) -> Recorded {
    store.record_payment(new).await.expect("answered")
}

async fn made(store: &dyn Payments, new: &NewPayment) -> Receipt {
    match record(store, new).await {
        Recorded::New(receipt) => receipt,
        other => panic!("it is new: {other:?}"),
    }
}

async fn change(store: &dyn Payments, of: &NewPayment, from: PaymentState, to: PaymentState) -> Option<Payment> {
    let change = PaymentChange { outpoint: of.outpoint(), from, to };
    store.change_payment(&change, now()).await.expect("answered")
}

async fn a_payment_buys_one_receipt(store: &impl PaymentScene) {
    let new = new_payment(store.asset_for(PRICE).await);
    let receipt = made(store, &new).await;
    assert_eq!((receipt.receipt_id, receipt.version_id), (new.receipt_id, new.version_id));
    assert_eq!((receipt.status, receipt.total_satoshis), (ReceiptStatus::Confirmed, PRICE + 1), "what was paid");
    assert_eq!((receipt.expires_at, receipt.quota_tier.as_str()), (new.receipt_expires_at, "standard"));
    assert_eq!(store.receipt_of(receipt.receipt_id).await, Some(receipt.clone()));

    let payment = store.payment(&new.outpoint()).await.expect("read").expect("it is there");
    assert_eq!((payment.sender, payment.payee, &payment.derivation), (new.sender, new.payee, &new.derivation));
    assert_eq!((payment.satoshis, payment.price_satoshis), (PRICE + 1, PRICE));
    assert_eq!((payment.state, payment.receipt_id), (PaymentState::Unproven, Some(receipt.receipt_id)));
    assert_eq!(store.payment_of_receipt(receipt.receipt_id).await.expect("read"), Some(payment));
    assert_eq!(store.beef(&new.outpoint()).await.expect("read"), Some(new.beef.clone()));

    assert_eq!(record(store, &again(&new)).await, Recorded::Before(receipt));
    assert_eq!(store.payment(&output()).await.expect("read"), None);
    assert_eq!(store.beef(&output()).await.expect("read"), None);
}

async fn of_ten_calls_with_one_payment_one_makes_the_receipt<S: PaymentScene>(store: &Arc<S>) {
    let new = new_payment(store.asset_for(PRICE).await);
    let calls = (0..10).map(|_| {
        let (store, new) = (Arc::clone(store), again(&new));
        tokio::spawn(async move { record(&*store, &new).await })
    });
    let answers: Vec<Recorded> = join_all(calls).await.into_iter().map(|answer| answer.expect("no panic")).collect();
    let first = |answer: &&Recorded| matches!(answer, Recorded::New(_));
    assert_eq!(answers.iter().filter(first).count(), 1, "{answers:?}");
    let bought: Vec<ReceiptId> = answers
        .iter()
        .map(|answer| match answer {
            Recorded::New(receipt) | Recorded::Before(receipt) => receipt.receipt_id,
            other => panic!("each is the same payment: {other:?}"),
        })
        .collect();
    assert!(bought.iter().all(|id| *id == bought[0]), "{bought:?}");
}

async fn of_ten_transactions_that_spend_one_output_one_is_recorded<S: PaymentScene>(store: &Arc<S>) {
    let (version, common) = (store.asset_for(PRICE).await, output());
    let rivals: Vec<NewPayment> =
        (0..10).map(|_| spending(new_payment(version), vec![output(), common, output()])).collect();
    let calls = rivals.iter().map(|new| {
        let (store, new) = (Arc::clone(store), new.clone());
        tokio::spawn(async move { record(&*store, &new).await })
    });
    let answers: Vec<Recorded> = join_all(calls).await.into_iter().map(|answer| answer.expect("no panic")).collect();
    let won: Vec<_> = answers.iter().filter(|answer| matches!(answer, Recorded::New(_))).collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == Recorded::Conflict(common)).count(), 9, "{answers:?}");
    for (new, answer) in rivals.iter().zip(&answers) {
        let stands = matches!(answer, Recorded::New(_));
        assert_eq!(store.payment(&new.outpoint()).await.expect("read").is_some(), stands);
        assert_eq!(store.receipt_of(new.receipt_id).await.is_some(), stands, "no receipt without its payment");
    }
}

async fn transactions_with_inputs_in_common_never_wait_for_each_other<S: PaymentScene>(store: &Arc<S>) {
    let version = store.asset_for(PRICE).await;
    for _ in 0..10 {
        let (one, other) = (output(), output());
        let rivals = [vec![one, other], vec![other, one]].map(|inputs| spending(new_payment(version), inputs));
        let calls = rivals.map(|new| {
            let store = Arc::clone(store);
            tokio::spawn(async move { record(&*store, &new).await })
        });
        let answers: Vec<Recorded> = join_all(calls).await.into_iter().map(|done| done.expect("no panic")).collect();
        let won = answers.iter().filter(|answer| matches!(answer, Recorded::New(_))).count();
        assert_eq!(won, 1, "{answers:?}");
    }
}

async fn another_buyer_or_asset_gets_nothing_for_it(store: &impl PaymentScene) {
    let new = new_payment(store.asset_for(PRICE).await);
    made(store, &new).await;
    let by_another = NewPayment { sender: key(), ..again(&new) };
    let for_another = NewPayment { version_id: store.asset_for(PRICE).await, ..again(&new) };
    for other in [by_another, for_another] {
        assert_eq!(record(store, &other).await, Recorded::Taken);
        assert_eq!(store.receipt_of(other.receipt_id).await, None);
    }
}

async fn two_outputs_of_one_transaction_buy_two_receipts(store: &impl PaymentScene) {
    let new = new_payment(store.asset_for(PRICE).await);
    let other = NewPayment { vout: 0, ..again(&new) };
    let (first, second) = (made(store, &new).await, made(store, &other).await);
    assert_ne!(first.receipt_id, second.receipt_id);
}

async fn what_does_not_exist_is_named_and_nothing_is_kept(store: &impl PaymentScene) {
    let no_asset = new_payment(VersionId::next());
    let no_tier = NewPayment { quota_tier: "no such tier".into(), ..new_payment(store.asset_for(PRICE).await) };
    let refused = store.record_payment(&no_asset).await;
    assert!(matches!(refused, Err(PortError::NotFound(Missing::Asset))), "{refused:?}");
    let refused = store.record_payment(&no_tier).await;
    assert!(matches!(refused, Err(PortError::NotFound(Missing::QuotaTier))), "{refused:?}");
    for new in [no_asset, no_tier] {
        assert_eq!(store.payment(&new.outpoint()).await.expect("read"), None);
        assert_eq!(store.receipt_of(new.receipt_id).await, None);
    }
}

async fn a_pending_payment_is_confirmed_once(store: &impl PaymentScene) {
    let proven = PaymentState::Proven { height: 800_000 };
    let new = NewPayment { state: PaymentState::Pending, ..new_payment(store.asset_for(PRICE).await) };
    let receipt = made(store, &new).await;
    assert_eq!(receipt.status, ReceiptStatus::Pending);
    let changed = change(store, &new, PaymentState::Pending, PaymentState::Unproven).await.expect("changed");
    assert_eq!((changed.state, changed.receipt_id), (PaymentState::Unproven, Some(receipt.receipt_id)));
    let confirmed = store.receipt_of(receipt.receipt_id).await.expect("there");
    assert_eq!((confirmed.status, confirmed.epoch), (ReceiptStatus::Confirmed, receipt.epoch + 1));
    assert_eq!(change(store, &new, PaymentState::Unproven, proven).await.expect("changed").state, proven);
    assert_eq!(store.receipt_of(receipt.receipt_id).await, Some(confirmed.clone()), "a proof changes no receipt");
    // A reorganisation takes the block away.
    assert!(change(store, &new, proven, PaymentState::Unproven).await.is_some());
    assert_eq!(store.receipt_of(receipt.receipt_id).await, Some(confirmed));
}

async fn a_late_change_changes_nothing(store: &impl PaymentScene) {
    let new = NewPayment { state: PaymentState::Proven { height: 7 }, ..new_payment(store.asset_for(PRICE).await) };
    let receipt = made(store, &new).await;
    for from in [PaymentState::Pending, PaymentState::Unproven, PaymentState::Proven { height: 8 }] {
        assert_eq!(change(store, &new, from, PaymentState::Invalidated).await, None);
    }
    let unknown = new_payment(new.version_id);
    assert_eq!(change(store, &unknown, PaymentState::Pending, PaymentState::Invalidated).await, None);
    assert_eq!(store.receipt_of(receipt.receipt_id).await, Some(receipt));
}

async fn an_invalidated_payment_refunds_and_frees_its_inputs(store: &impl PaymentScene) {
    let new = new_payment(store.asset_for(PRICE).await);
    let rival = spending(new_payment(new.version_id), new.transaction.inputs.clone());
    let receipt = made(store, &new).await;
    assert!(matches!(record(store, &rival).await, Recorded::Conflict(_)));
    assert!(change(store, &new, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    let refunded = store.receipt_of(receipt.receipt_id).await.expect("there");
    assert_eq!((refunded.status, refunded.epoch), (ReceiptStatus::Refunded, receipt.epoch + 1));
    made(store, &rival).await;
    assert_eq!(record(store, &again(&new)).await, Recorded::Before(refunded), "its buyer sees what became of it");
    let other_output = NewPayment { vout: 0, ..again(&new) };
    assert!(matches!(record(store, &other_output).await, Recorded::Conflict(_)), "the transaction is not valid");
}

async fn inputs_stay_spent_while_another_payment_of_the_transaction_stands(store: &impl PaymentScene) {
    let new = new_payment(store.asset_for(PRICE).await);
    let other = NewPayment { vout: 0, ..again(&new) };
    let rival = spending(new_payment(new.version_id), new.transaction.inputs.clone());
    made(store, &new).await;
    made(store, &other).await;
    assert!(change(store, &new, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    assert!(matches!(record(store, &rival).await, Recorded::Conflict(_)));
    assert!(change(store, &other, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    made(store, &rival).await;
}

async fn prices_are_honoured_after_a_raise(store: &impl PaymentScene) {
    let (hour, none) = (Duration::from_secs(3600), Duration::ZERO);
    let version = store.asset_for(PRICE).await;
    let price = async |honoured| store.price(version, honoured).await.expect("answered").expect("an asset");
    assert_eq!(price(none).await, Price { asked: PRICE, least: PRICE });
    for satoshis in [3000, 2000, 4000] {
        store.reprice(version, satoshis).await;
    }
    assert_eq!(price(hour).await, Price { asked: 4000, least: PRICE });
    assert_eq!(price(none).await, Price { asked: 4000, least: 4000 });
    store.reprice(version, 10).await;
    assert_eq!(price(hour).await, Price { asked: 10, least: 10 });
    // 0 is no price, and what was asked before is honoured when there is one again.
    store.reprice(version, 0).await;
    store.reprice(version, 30).await;
    assert_eq!(price(hour).await, Price { asked: 30, least: 10 });
    let new = store.asset_for(0).await;
    store.reprice(new, PRICE).await;
    let price = store.price(new, hour).await.expect("answered");
    assert_eq!(price, Some(Price { asked: PRICE, least: PRICE }));
    assert_eq!(store.price(VersionId::next(), hour).await.expect("answered"), None);
}

async fn pages_are_in_the_order_of_making(store: &impl PaymentScene) {
    let version = store.asset_for(PRICE).await;
    // Later than all that other scenarios make.
    let base = now() + Duration::from_secs(86_400);
    let at = |second: u64| base + Duration::from_secs(second);
    let mut wanted = Vec::new();
    for second in [2, 0, 1, 1] {
        let new = NewPayment { made_at: at(second), state: PaymentState::Pending, ..new_payment(version) };
        made(store, &new).await;
        wanted.push((second, new.outpoint()));
    }
    wanted.sort_unstable();
    let wanted: Vec<Outpoint> = wanted.into_iter().map(|(_, outpoint)| outpoint).collect();
    for stage in [None, Some(PaymentStage::Pending)] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.payments_page(stage, after, 3).await.expect("a page");
            after = page.items.last().map(|payment| payment.outpoint);
            found.extend(page.items);
            if !page.more {
                break;
            }
        }
        let ours: Vec<_> = found.iter().map(|payment| payment.outpoint).filter(|at| wanted.contains(at)).collect();
        assert_eq!(ours, wanted, "each once");
        assert!(stage.is_none_or(|stage| found.iter().all(|payment| payment.state.stage() == stage)));
    }
    let proven = store.payments_page(Some(PaymentStage::Proven), None, 1000).await.expect("a page").items;
    assert!(proven.iter().all(|payment| !wanted.contains(&payment.outpoint)));
}

async fn payments_on_lost_roots_are_found(store: &impl PaymentScene) {
    let version = store.asset_for(PRICE).await;
    // Higher than those of other scenarios.
    let height = u32::MAX - 10;
    let resting = |roots: Vec<(u32, ChainHash)>| {
        let mut new = new_payment(version);
        new.transaction.roots = roots;
        new
    };
    let (low, high) = ((height, hash()), (height + 1, hash()));
    let on_both = resting(vec![low, high]);
    let on_lost = resting(vec![low, (height + 1, hash())]);
    let above = resting(vec![(height + 5, hash())]);
    let invalid = resting(vec![(height, hash())]);
    for new in [&on_both, &on_lost, &above, &invalid] {
        made(store, new).await;
    }
    assert!(change(store, &invalid, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    let lost = store.payments_on_lost_roots(&[low, high], 100).await.expect("read");
    let mut lost: Vec<Outpoint> = lost.into_iter().map(|payment| payment.outpoint).collect();
    lost.sort_unstable();
    let mut wanted = vec![on_lost.outpoint(), above.outpoint()];
    wanted.sort_unstable();
    assert_eq!(lost, wanted);
    assert_eq!(store.payments_on_lost_roots(&[low, high], 1).await.expect("read").len(), 1);
    assert!(store.payments_on_lost_roots(&[], 1).await.expect("read").is_empty());
    // So that the scenario may run again.
    for new in [&on_both, &on_lost, &above] {
        assert!(change(store, new, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    }
}

async fn a_price_is_kept_until_it_is_forgotten<S: PaymentScene + Upkeep>(store: &S) {
    let hour = Duration::from_secs(3600);
    let version = store.asset_for(PRICE).await;
    store.reprice(version, PRICE + 1).await;
    let least = async || store.price(version, hour).await.expect("answered").expect("an asset").least;
    while store.forget_prices(now() - hour, 1).await.expect("forgot") > 0 {}
    assert_eq!(least().await, PRICE);
    while store.forget_prices(now() + hour, 1).await.expect("forgot") > 0 {}
    assert_eq!(least().await, PRICE + 1);
}

async fn a_payment_whose_receipt_was_erased_buys_nothing_again<S: PaymentScene + PayerData>(store: &S) {
    let new = new_payment(store.asset_for(PRICE).await);
    let receipt = made(store, &new).await.receipt_id;
    assert!(change(store, &new, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    assert_eq!(store.erase(receipt, 10).await.expect("erased"), ErasureStep::Done(0));
    let payment = store.payment(&new.outpoint()).await.expect("read").expect("the payment stays");
    assert_eq!(payment.receipt_id, None);
    assert_eq!(record(store, &again(&new)).await, Recorded::Taken);
}

async fn an_expiry_by_mistake_brings_no_refunded_receipt_back<S: PaymentScene + Upkeep>(store: &S) {
    let far = now() + Duration::from_secs(10 * 365 * 86_400);
    let new = NewPayment { receipt_expires_at: far, ..new_payment(store.asset_for(PRICE).await) };
    let receipt = made(store, &new).await.receipt_id;
    while store.expire_receipts(far, 100).await.expect("expired") > 0 {}
    assert!(change(store, &new, PaymentState::Unproven, PaymentState::Invalidated).await.is_some());
    while store.restore_receipts(now(), 100).await.expect("restored") > 0 {}
    let status = store.receipt_of(receipt).await.expect("there").status;
    assert!(!status.may_stream(), "{status}");
}
