//! The sale of receipts on chain.

use std::{sync::Arc, time::Duration};

use penstock_actors::payments::purchase::{Broadcast, Purchase, PurchaseDeps, PurchaseSettings};

use super::{PaymentChain, ServerParts, cores, saturate};
use crate::{
    config::{Payments, WithoutBroadcaster},
    telemetry::metrics::PaymentMetrics,
};

/// How long a payment may wait for its verification: some hundred others, at 5 ms each.
const PATIENCE: Duration = Duration::from_secs(2);

/// The sale of receipts; `None` without a payment key, or without the headers that payments are verified by.
pub(super) fn purchase(parts: &ServerParts<'_>, metrics: &PaymentMetrics) -> Option<Purchase> {
    let ServerParts { config, backends, payment_chain, io, .. } = parts;
    let keys = config.payments.keys()?;
    let PaymentChain { chain, verifier, .. } = (*payment_chain)?;
    let observer = metrics.clone();
    let deps = PurchaseDeps {
        payments: Arc::clone(&backends.payments),
        verifier: Arc::clone(verifier),
        keys: Arc::new(keys),
        chain: chain.clone(),
        clock: Arc::clone(&backends.ports.clock),
        io: (*io).clone(),
        observer: Arc::new(move |took, is_valid| observer.verified(took, is_valid)),
    };
    Some(Purchase::new(deps, settings(&config.payments)))
}

fn settings(payments: &Payments) -> PurchaseSettings {
    PurchaseSettings {
        concurrent: if payments.verifications == 0 { saturate(cores()) } else { payments.verifications },
        patience: PATIENCE,
        quote_ttl: payments.quote_ttl,
        quota_tier: payments.quota_tier.clone(),
        receipt_ttl: payments.receipt_ttl,
        broadcast: match payments.without_broadcaster {
            WithoutBroadcaster::Refuse => Broadcast::Never,
            WithoutBroadcaster::Sell => Broadcast::ByPayee { most_satoshis: payments.without_broadcaster_max_satoshis },
        },
    }
}
