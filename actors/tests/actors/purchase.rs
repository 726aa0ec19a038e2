//! A purchase over payments in memory: what is bought, what is refused, and what stands after a fault.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use jiff::Timestamp;
use penstock_actors::{
    clock::Clock as _,
    ids::VersionId,
    model::{
        ChainHash, ChainHeader, ChainWork, Derivation, HEADER_BYTES, IdentityKey, Outpoint, PaymentState, RawHeader,
        ReceiptStatus, TxOutput, VerifiedTransaction,
    },
    payments::{
        chain_handle::ChainHandle,
        purchase::{Broadcast, NoPurchase, Order, Purchase, PurchaseDeps, PurchaseSettings, Purchased},
    },
    ports::{BestChain, PaymentFault, PaymentKeys, PaymentVerifier, PortError},
    testkit::{clock::ManualClock, memory_payments::MemoryPayments, payments_suite::PaymentScene as _, script::Fault},
};
use tokio::{runtime::Handle, sync::Semaphore};

const PRICE: u64 = 1000;
const MAX_AGE: Duration = Duration::from_secs(6 * 3600);
const SCRIPT: &[u8] = b"pays the node";
const OLD_SCRIPT: &[u8] = b"pays an earlier key";

/// The first byte of an envelope names its transaction.
struct Verifier {
    transactions: Mutex<Vec<VerifiedTransaction>>,
    calls: AtomicUsize,
    /// Calls wait for one each, if there is a gate.
    gate: Option<Arc<Semaphore>>,
}

impl PaymentVerifier for Verifier {
    fn verify(&self, beef: &[u8], _: &dyn BestChain) -> Result<VerifiedTransaction, PaymentFault> {
        self.calls.fetch_add(1, SeqCst);
        if let Some(gate) = &self.gate {
            Handle::current().block_on(gate.acquire()).expect("it stays open").forget();
        }
        let transactions = self.transactions.lock().expect("no panic");
        let named = beef.first().and_then(|name| transactions.get(usize::from(*name)));
        named.cloned().ok_or(PaymentFault::MissingParent)
    }
}

struct Keys;

impl PaymentKeys for Keys {
    fn current(&self) -> IdentityKey {
        key(1)
    }

    fn payee(&self, script: &[u8], sender: &IdentityKey, derivation: &Derivation) -> Option<IdentityKey> {
        let is_derived = *sender == key(9) && derivation.prefix == "prefix";
        match script {
            SCRIPT if is_derived => Some(key(1)),
            OLD_SCRIPT if is_derived => Some(key(2)),
            _ => None,
        }
    }
}

/// A chain of one block, made at this time.
fn chain(made_at: Timestamp) -> ChainHandle {
    let mut raw = [0; HEADER_BYTES];
    let seconds = u32::try_from(made_at.as_second()).expect("before 2106");
    raw[68..72].copy_from_slice(&seconds.to_le_bytes());
    let header = ChainHeader {
        raw: RawHeader(raw),
        hash: ChainHash::from_wire([1; 32]),
        height: 0,
        total_work: ChainWork::default(),
    };
    let chain = ChainHandle::new(MAX_AGE);
    chain.add(&[header]).expect("the first block");
    chain
}

fn key(number: u8) -> IdentityKey {
    let mut bytes = [number; 33];
    bytes[0] = 2;
    IdentityKey::from_bytes(bytes).expect("a compressed key")
}

struct Shop {
    payments: Arc<MemoryPayments>,
    verifier: Arc<Verifier>,
    clock: Arc<ManualClock>,
    purchase: Purchase,
    version: VersionId,
}

fn settings() -> PurchaseSettings {
    PurchaseSettings {
        concurrent: 2,
        patience: Duration::from_secs(60),
        quote_ttl: Duration::from_secs(900),
        quota_tier: "standard".into(),
        receipt_ttl: Duration::from_secs(86_400),
        broadcast: Broadcast::ByPayee { most_satoshis: 5000 },
    }
}

impl Shop {
    async fn new(settings: PurchaseSettings) -> Self {
        Self::behind(settings, None).await
    }

    async fn behind(settings: PurchaseSettings, gate: Option<Arc<Semaphore>>) -> Self {
        let payments = Arc::new(MemoryPayments::default());
        let verifier = Arc::new(Verifier { transactions: Mutex::default(), calls: AtomicUsize::new(0), gate });
        let clock = Arc::new(ManualClock::at("2026-12-01T00:00:00Z"));
        let deps = PurchaseDeps {
            payments: payments.clone(),
            verifier: verifier.clone(),
            keys: Arc::new(Keys),
            chain: chain(clock.now()),
            clock: clock.clone(),
            io: Handle::current(),
            observer: Arc::new(|_, _| {}),
        };
        let version = payments.asset_for(PRICE).await;
        Self { payments, verifier, clock, purchase: Purchase::new(deps, settings), version }
    }

    /// A transaction whose second output pays the node; the order that names it.
    fn pays(&self, satoshis: u64, script: &[u8]) -> Order {
        let mut transactions = self.verifier.transactions.lock().expect("no panic");
        let name = u8::try_from(transactions.len()).expect("few");
        transactions.push(VerifiedTransaction {
            txid: ChainHash::from_wire([name; 32]),
            raw: vec![name],
            inputs: vec![Outpoint { txid: ChainHash::from_wire([100 + name; 32]), vout: 0 }],
            outputs: vec![
                TxOutput { satoshis: 1_000_000, locking_script: b"change".to_vec() },
                TxOutput { satoshis, locking_script: script.to_vec() },
            ],
            proven_at: None,
            roots: vec![],
        });
        Order {
            version_id: self.version,
            beef: vec![name],
            sender: key(9),
            derivation: Derivation { prefix: "prefix".into(), suffix: "suffix".into() },
            vout: 1,
        }
    }

    async fn refused(&self, order: Order) -> NoPurchase {
        let refused = self.purchase.buy(order).await.expect_err("refused");
        assert_eq!(self.payments.payments(), [], "a refusal keeps nothing");
        refused
    }
}

fn receipt(bought: Result<Purchased, NoPurchase>) -> penstock_actors::model::Receipt {
    match bought.expect("bought") {
        Purchased::New(receipt) => receipt,
        Purchased::Before(receipt) => panic!("it was bought before: {receipt:?}"),
    }
}

#[tokio::test]
async fn a_payment_of_the_price_buys_a_receipt_and_a_second_one_the_same() {
    let shop = Shop::new(settings()).await;
    let order = shop.pays(PRICE, SCRIPT);
    let bought = receipt(shop.purchase.buy(order.clone()).await);
    assert_eq!((bought.status, bought.total_satoshis), (ReceiptStatus::Confirmed, PRICE));
    let again = shop.purchase.buy(order).await.expect("the same");
    assert_eq!(again, Purchased::Before(bought));
    let payments = shop.payments.payments();
    assert_eq!(payments.len(), 1);
    assert_eq!((payments[0].payee, payments[0].state), (key(1), PaymentState::Unproven));
}

#[tokio::test]
async fn what_pays_an_earlier_key_is_a_payment_too() {
    let shop = Shop::new(settings()).await;
    receipt(shop.purchase.buy(shop.pays(PRICE, OLD_SCRIPT)).await);
    assert_eq!(shop.payments.payments()[0].payee, key(2));
}

#[tokio::test]
async fn a_payment_that_is_not_the_one_that_was_asked_for_buys_nothing() {
    let shop = Shop::new(settings()).await;
    let short = shop.refused(shop.pays(PRICE - 1, SCRIPT)).await;
    assert!(matches!(short, NoPurchase::TooLittle { paid: 999, price: PRICE }), "{short}");
    let elsewhere = shop.refused(shop.pays(PRICE, b"pays another key")).await;
    assert!(matches!(elsewhere, NoPurchase::OtherKey), "{elsewhere}");
    let change = shop.refused(Order { vout: 0, ..shop.pays(PRICE, SCRIPT) }).await;
    assert!(matches!(change, NoPurchase::OtherKey), "the other output is not the node's: {change}");
    let beyond = shop.refused(Order { vout: 2, ..shop.pays(PRICE, SCRIPT) }).await;
    assert!(matches!(beyond, NoPurchase::NoOutput(2)), "{beyond}");
    let by_another = shop.refused(Order { sender: key(8), ..shop.pays(PRICE, SCRIPT) }).await;
    assert!(matches!(by_another, NoPurchase::OtherKey), "{by_another}");
    let invalid = shop.refused(Order { beef: vec![250], ..shop.pays(PRICE, SCRIPT) }).await;
    assert!(matches!(invalid, NoPurchase::Invalid(PaymentFault::MissingParent)), "{invalid}");
    let unknown = shop.refused(Order { version_id: VersionId::next(), ..shop.pays(PRICE, SCRIPT) }).await;
    assert!(matches!(unknown, NoPurchase::UnknownAsset), "{unknown}");
}

#[tokio::test]
async fn a_price_that_was_raised_is_honoured_and_what_was_bought_is_shown_at_any_price() {
    let shop = Shop::new(settings()).await;
    let (in_time, bought_early) = (shop.pays(PRICE, SCRIPT), shop.pays(PRICE, SCRIPT));
    let early = receipt(shop.purchase.buy(bought_early.clone()).await);
    shop.payments.set_price(shop.version, 2 * PRICE);
    assert_eq!(shop.purchase.offer(shop.version).await.expect("an offer").asked, 2 * PRICE);
    receipt(shop.purchase.buy(in_time).await);

    let strict = Shop::new(PurchaseSettings { quote_ttl: Duration::ZERO, ..settings() }).await;
    let late = strict.pays(PRICE, SCRIPT);
    strict.payments.set_price(strict.version, 2 * PRICE);
    assert!(matches!(strict.refused(late).await, NoPurchase::TooLittle { price: 2000, .. }));

    shop.payments.set_price(shop.version, 1_000_000);
    let again = shop.purchase.buy(bought_early).await.expect("it was paid at its price");
    assert_eq!(again, Purchased::Before(early));
}

#[tokio::test]
async fn without_a_broadcaster_the_node_sells_up_to_its_limit_or_nothing() {
    let shop = Shop::new(settings()).await;
    shop.payments.set_price(shop.version, 5001);
    let offer = shop.purchase.offer(shop.version).await.expect_err("too expensive");
    assert!(matches!(offer, NoPurchase::TooExpensive { most_satoshis: 5000 }), "{offer}");
    shop.payments.set_price(shop.version, 0);
    assert!(matches!(shop.purchase.offer(shop.version).await, Err(NoPurchase::NotForSale)));

    let none = Shop::new(PurchaseSettings { broadcast: Broadcast::Never, ..settings() }).await;
    assert!(matches!(none.purchase.offer(none.version).await, Err(NoPurchase::NoBroadcaster)));
    assert!(matches!(none.refused(none.pays(PRICE, SCRIPT)).await, NoPurchase::NoBroadcaster));
}

#[tokio::test]
async fn with_a_broadcaster_a_receipt_is_pending_unless_a_block_has_the_payment() {
    let shop = Shop::new(PurchaseSettings { broadcast: Broadcast::ByBroadcaster, ..settings() }).await;
    let (unmined, mined) = (shop.pays(PRICE, SCRIPT), shop.pays(PRICE, SCRIPT));
    shop.verifier.transactions.lock().expect("no panic")[1].proven_at = Some(800_000);
    assert_eq!(receipt(shop.purchase.buy(unmined).await).status, ReceiptStatus::Pending);
    assert_eq!(receipt(shop.purchase.buy(mined).await).status, ReceiptStatus::Confirmed);
    let states: Vec<PaymentState> = shop.payments.payments().iter().map(|payment| payment.state).collect();
    assert_eq!(states, [PaymentState::Pending, PaymentState::Proven { height: 800_000 }]);
}

#[tokio::test]
async fn a_chain_that_is_too_old_sells_nothing_and_costs_no_verification() {
    let shop = Shop::new(settings()).await;
    shop.clock.advance(MAX_AGE + Duration::from_secs(1));
    assert!(matches!(shop.purchase.offer(shop.version).await, Err(NoPurchase::HeadersTooOld)));
    assert!(matches!(shop.refused(shop.pays(PRICE, SCRIPT)).await, NoPurchase::HeadersTooOld));
    assert_eq!(shop.verifier.calls.load(SeqCst), 0);
}

#[tokio::test]
async fn two_payments_that_spend_one_output_are_a_conflict() {
    let shop = Shop::new(settings()).await;
    let (first, second) = (shop.pays(PRICE, SCRIPT), shop.pays(PRICE, SCRIPT));
    let common = {
        let mut transactions = shop.verifier.transactions.lock().expect("no panic");
        transactions[1].inputs = transactions[0].inputs.clone();
        transactions[0].inputs[0]
    };
    receipt(shop.purchase.buy(first).await);
    let conflict = shop.purchase.buy(second).await.expect_err("spent");
    assert!(matches!(conflict, NoPurchase::Conflict(spent) if spent == common), "{conflict}");
    assert_eq!(shop.payments.payments().len(), 1);
}

#[tokio::test]
async fn a_buyer_whose_answer_was_lost_gets_the_receipt_when_it_asks_again() {
    for (call, recorded) in [("payment", 0), ("price", 0), ("record_payment", 1)] {
        let shop = Shop::new(settings()).await;
        let order = shop.pays(PRICE, SCRIPT);
        let fault = if recorded == 1 { Fault::AnswerLost } else { Fault::Unavailable };
        shop.payments.script.next(call, [fault]);
        let failed = shop.purchase.buy(order.clone()).await.expect_err("a fault");
        assert!(matches!(failed, NoPurchase::Port(PortError::Unavailable { .. })), "{call}: {failed}");
        assert_eq!(shop.payments.payments().len(), recorded, "{call}");
        let bought = shop.purchase.buy(order).await.expect("the receipt");
        assert_eq!(matches!(bought, Purchased::New(_)), recorded == 0, "{call}");
        assert_eq!(shop.payments.payments().len(), 1, "{call}: one payment, one receipt");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_calls_with_one_payment_one_makes_the_receipt() {
    let shop = Shop::new(settings()).await;
    let order = shop.pays(PRICE, SCRIPT);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (purchase, order) = (shop.purchase.clone(), order.clone());
            tokio::spawn(async move { purchase.buy(order).await.expect("bought") })
        })
        .collect();
    let mut new = 0;
    for call in calls {
        new += usize::from(matches!(call.await.expect("no panic"), Purchased::New(_)));
    }
    assert_eq!((new, shop.payments.payments().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_payments_are_verified_at_a_time_than_may_be() {
    let gate = Arc::new(Semaphore::new(0));
    let impatient = PurchaseSettings { patience: Duration::from_millis(1), ..settings() };
    let shop = Shop::behind(impatient, Some(Arc::clone(&gate))).await;
    let running: Vec<_> = (0..2)
        .map(|_| {
            let (purchase, order) = (shop.purchase.clone(), shop.pays(PRICE, SCRIPT));
            tokio::spawn(async move { purchase.buy(order).await })
        })
        .collect();
    while shop.verifier.calls.load(SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    let third = shop.purchase.buy(shop.pays(PRICE, SCRIPT)).await.expect_err("no room");
    assert!(matches!(third, NoPurchase::Overloaded), "{third}");
    gate.add_permits(2);
    for running in running {
        receipt(running.await.expect("no panic"));
    }
    assert_eq!(shop.purchase.verifications().in_use(), 0);
}
