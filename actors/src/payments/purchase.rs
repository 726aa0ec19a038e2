//! `Purchase`: from the envelope of a payment to a receipt.
//!
//! # The steps, with the reason for this order
//! 1. A permit: verification is the only part that costs computing time. **Bound:** [`PurchaseSettings::concurrent`] at a time; others
//!    wait for [`PurchaseSettings::patience`], and are then refused. What waits is bounded by the callers' connections.
//! 2. The verdict, on a thread for computing, by the chain that this node knows. A chain that is too old sells nothing.
//! 3. The output: which key it pays. That says who may buy for it, before the database is asked.
//! 4. What the ledger knows of the output. A payment that is recorded has its receipt, whatever the price is now.
//! 5. The price, with the offers that are still honoured.
//! 6. The record, in one transaction with the receipt. After an error it is unknown whether it stands; the same payment again makes no
//!    second receipt.
//!
//! Nothing before the last step changes anything, so a purchase that ends early, with its process or not, has cost the buyer nothing:
//! the node has told no network of the transaction.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::chain_handle::ChainHandle;
use crate::{
    clock::Clock,
    flow::admission::{Admission, Permit},
    ids::{ReceiptId, VersionId},
    model::{
        Derivation, IdentityKey, NewPayment, Outpoint, PaymentState, Price, Receipt, TxOutput, VerifiedTransaction,
    },
    ports::{PaymentFault, PaymentKeys, PaymentVerifier, Payments, PortError, Recorded},
    task_span,
};

/// The dependencies of purchases.
#[derive(Clone)]
pub struct PurchaseDeps {
    pub payments: Arc<dyn Payments>,
    pub verifier: Arc<dyn PaymentVerifier>,
    pub keys: Arc<dyn PaymentKeys>,
    /// The chain that payments are verified by.
    pub chain: ChainHandle,
    pub clock: Arc<dyn Clock>,
    /// Where verifications run.
    pub io: Handle,
    pub observer: PurchaseObserver,
}

/// Told of each verification: how long it took, and whether the envelope was valid.
pub type PurchaseObserver = Arc<dyn Fn(Duration, bool) + Send + Sync>;

/// The terms of purchases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurchaseSettings {
    /// Verifications at a time.
    pub concurrent: u32,
    /// How long one may wait for its turn.
    pub patience: Duration,
    /// How long a price is honoured after a raise.
    pub quote_ttl: Duration,
    pub quota_tier: String,
    pub receipt_ttl: Duration,
    /// What is sold before the network has the transaction.
    pub broadcast: Broadcast,
}

/// Who tells the network of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broadcast {
    /// A broadcaster does: receipts are pending until the network has the transaction.
    ByBroadcaster,
    /// The node does not: it sells what costs at most so much, and the payee's wallet broadcasts.
    ByPayee { most_satoshis: u64 },
    /// Nothing does, so nothing is sold.
    Never,
}

/// A buyer's request.
#[derive(Debug, Clone)]
pub struct Order {
    pub version_id: VersionId,
    pub beef: Vec<u8>,
    pub sender: IdentityKey,
    pub derivation: Derivation,
    /// The index of the output that pays.
    pub vout: u32,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purchased {
    New(Receipt),
    /// The payment bought this receipt before, for the same sender.
    Before(Receipt),
}

/// A verified transaction with the output that pays this node.
struct Paid {
    transaction: VerifiedTransaction,
    output: TxOutput,
    payee: IdentityKey,
}

/// Why nothing was bought.
#[derive(Debug, thiserror::Error)]
pub enum NoPurchase {
    #[error("there is no such asset")]
    UnknownAsset,
    /// It costs nothing.
    #[error("the asset has no price")]
    NotForSale,
    /// Its price is above what is sold before the network has the transaction.
    #[error("the price is above {most_satoshis} satoshis, and this node has no broadcaster")]
    TooExpensive { most_satoshis: u64 },
    #[error("this node sells nothing: it has no broadcaster")]
    NoBroadcaster,
    #[error("the headers of the chain are too old")]
    HeadersTooOld,
    #[error("too many payments are being verified")]
    Overloaded,
    #[error("the envelope proves nothing: {0}")]
    Invalid(#[from] PaymentFault),
    #[error("the transaction has no output {0}")]
    NoOutput(u32),
    #[error("the output pays no key of this node that the sender and the derivation lead to")]
    OtherKey,
    #[error("the output is worth {paid} satoshis, and the price is {price}")]
    TooLittle { paid: u64, price: u64 },
    /// It bought something else, or for another sender.
    #[error("the output was spent on another purchase")]
    Taken,
    #[error("another payment spends {0}")]
    Conflict(Outpoint),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Sells receipts for payments on chain.
#[derive(Clone)]
pub struct Purchase {
    deps: PurchaseDeps,
    settings: Arc<PurchaseSettings>,
    verifications: Admission,
}

impl Purchase {
    pub fn new(deps: PurchaseDeps, settings: PurchaseSettings) -> Self {
        let verifications = Admission::new("payments", settings.concurrent);
        Self { deps, settings: Arc::new(settings), verifications }
    }

    /// The verifications under way.
    pub const fn verifications(&self) -> &Admission {
        &self.verifications
    }

    /// The key that payers are told.
    pub fn payee(&self) -> IdentityKey {
        self.deps.keys.current()
    }

    /// The price of an asset that is for sale now.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn offer(&self, version: VersionId) -> Result<Price, NoPurchase> {
        let price = self.price(version).await?;
        self.for_sale(price.asked)?;
        self.current_headers()?;
        Ok(price)
    }

    /// Buys a receipt. If the caller stops waiting, the payment may have been recorded all the same.
    ///
    /// # Errors
    /// Why nothing was bought.
    pub async fn buy(&self, order: Order) -> Result<Purchased, NoPurchase> {
        let now = self.deps.clock.now();
        self.current_headers()?;
        let permit = self.verifications.admit(1, self.settings.patience).await.ok_or(NoPurchase::Overloaded)?;
        let (order, verdict) = self.verify(order, permit).await?;
        let paid = self.paid(&order, verdict?)?;
        let outpoint = Outpoint { txid: paid.transaction.txid, vout: order.vout };
        let price = match self.deps.payments.payment(&outpoint).await? {
            // What was enough then is not for the price of today to judge.
            Some(known) => known.price_satoshis,
            None => self.enough(order.version_id, paid.output.satoshis).await?,
        };
        self.record(&self.payment(order, paid, price, now)).await
    }

    /// The output that pays this node.
    fn paid(&self, order: &Order, transaction: VerifiedTransaction) -> Result<Paid, NoPurchase> {
        let index = usize::try_from(order.vout).ok();
        let output = index.and_then(|index| transaction.outputs.get(index)).cloned();
        let output = output.ok_or(NoPurchase::NoOutput(order.vout))?;
        let payee = self.deps.keys.payee(&output.locking_script, &order.sender, &order.derivation);
        Ok(Paid { payee: payee.ok_or(NoPurchase::OtherKey)?, transaction, output })
    }

    /// The price that so many satoshis pay.
    async fn enough(&self, version: VersionId, satoshis: u64) -> Result<u64, NoPurchase> {
        let price = self.price(version).await?;
        self.for_sale(price.least)?;
        if satoshis < price.least {
            return Err(NoPurchase::TooLittle { paid: satoshis, price: price.asked });
        }
        Ok(price.least)
    }

    async fn price(&self, version: VersionId) -> Result<Price, NoPurchase> {
        self.deps.payments.price(version, self.settings.quote_ttl).await?.ok_or(NoPurchase::UnknownAsset)
    }

    fn for_sale(&self, satoshis: u64) -> Result<(), NoPurchase> {
        if satoshis == 0 {
            return Err(NoPurchase::NotForSale);
        }
        match self.settings.broadcast {
            Broadcast::Never => Err(NoPurchase::NoBroadcaster),
            Broadcast::ByPayee { most_satoshis } if satoshis > most_satoshis => {
                Err(NoPurchase::TooExpensive { most_satoshis })
            }
            Broadcast::ByPayee { .. } | Broadcast::ByBroadcaster => Ok(()),
        }
    }

    fn current_headers(&self) -> Result<(), NoPurchase> {
        if self.deps.chain.is_current(self.deps.clock.now()) { Ok(()) } else { Err(NoPurchase::HeadersTooOld) }
    }

    /// Verifies the envelope on a thread for computing. The permit lasts as long as the work does, also when its caller has left.
    async fn verify(
        &self,
        order: Order,
        permit: Permit,
    ) -> Result<(Order, Result<VerifiedTransaction, PaymentFault>), NoPurchase> {
        let (verifier, chain) = (Arc::clone(&self.deps.verifier), self.deps.chain.clone());
        let observer = Arc::clone(&self.deps.observer);
        let span = task_span::current();
        let verifying = self.deps.io.spawn_blocking(move || {
            let _entered = span.entered();
            let began = Instant::now();
            let verdict = verifier.verify(&order.beef, &chain);
            observer(began.elapsed(), verdict.is_ok());
            drop(permit);
            (order, verdict)
        });
        verifying.await.map_err(|error| NoPurchase::Port(PortError::unavailable("the verifier", error)))
    }

    fn payment(&self, order: Order, paid: Paid, price_satoshis: u64, now: Timestamp) -> NewPayment {
        let Paid { transaction, output, payee } = paid;
        let state = match (transaction.proven_at, self.settings.broadcast) {
            (Some(height), _) => PaymentState::Proven { height },
            (None, Broadcast::ByBroadcaster) => PaymentState::Pending,
            (None, Broadcast::ByPayee { .. } | Broadcast::Never) => PaymentState::Unproven,
        };
        NewPayment {
            transaction,
            vout: order.vout,
            output,
            beef: order.beef,
            sender: order.sender,
            payee,
            derivation: order.derivation,
            version_id: order.version_id,
            price_satoshis,
            state,
            receipt_id: ReceiptId::random(),
            quota_tier: self.settings.quota_tier.clone(),
            receipt_expires_at: now + self.settings.receipt_ttl,
            made_at: now,
        }
    }

    async fn record(&self, new: &NewPayment) -> Result<Purchased, NoPurchase> {
        match self.deps.payments.record_payment(new).await? {
            Recorded::New(receipt) => Ok(Purchased::New(receipt)),
            Recorded::Before(receipt) => Ok(Purchased::Before(receipt)),
            Recorded::Taken => Err(NoPurchase::Taken),
            Recorded::Conflict(spent) => Err(NoPurchase::Conflict(spent)),
        }
    }
}
