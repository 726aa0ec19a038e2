//! Delegation: another server delivers the content, under a URL. The receipt is charged when the URL is issued.
//!
//! The node does not see such a delivery: how much is fetched, how often, how fast, and whether the receipt is revoked
//! meanwhile. So the whole reservation is charged, its slot is given back at once, and the URL lives for a short,
//! bounded time that never exceeds the receipt's. If no URL can be signed, nothing is charged.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    ports::{Missing, PortError, SignedUrl, UrlRequest, UrlSigner},
    quota::{book::Grant, cache::Reservation},
};

/// A store that takes longer than this to say whether it has a content hangs, and counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// URLs carry whole seconds: a URL that would not last a second is not issued.
const SHORTEST: Duration = Duration::from_secs(1);

/// Issues URLs under which other servers deliver.
#[derive(Clone)]
pub struct Delegator {
    signer: Arc<dyn UrlSigner>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
}

/// The outcome of a delegation.
pub enum DelegationResult {
    /// The reservation was charged, for this URL.
    Given(SignedUrl),
    /// The store of this content has no URLs: the node streams it itself, on the same reservation.
    Kept(Box<Reservation>),
}

/// Why no URL was issued. Nothing was charged.
#[derive(Debug, thiserror::Error)]
pub enum DelegationError {
    /// The receipt ends within a second.
    #[error("the receipt has no time left")]
    Expired,
    /// The receipt was revoked while the URL was made; a new request is told why.
    #[error("the receipt lost its right")]
    Revoked,
    #[error(transparent)]
    Store(#[from] PortError),
}

impl Delegator {
    /// URLs are good for at most `ttl`.
    pub fn new(signer: Arc<dyn UrlSigner>, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self { signer, clock, ttl }
    }

    /// Makes a URL for a reservation, and charges it. `disposition` is the `Content-Disposition` that the URL's answer
    /// should have.
    ///
    /// # Errors
    /// The store's own, or that the receipt is no longer good. The whole reservation is then given back.
    pub async fn delegate(
        &self,
        reservation: Reservation,
        disposition: &str,
    ) -> Result<DelegationResult, DelegationError> {
        let signed = self.sign(reservation.grant(), disposition);
        let signed = tokio::time::timeout(PATIENCE, signed)
            .await
            .unwrap_or_else(|elapsed| Err(PortError::unavailable("the blob store", elapsed).into()))?;
        // Signing may have asked the store; meanwhile a refund may have come.
        if reservation.grant().revocation.is_raised() {
            return Err(DelegationError::Revoked);
        }
        Ok(match signed {
            Some(signed) => {
                reservation.delegate()?;
                DelegationResult::Given(signed)
            }
            None => DelegationResult::Kept(Box::new(reservation)),
        })
    }

    async fn sign(&self, grant: &Grant, disposition: &str) -> Result<Option<SignedUrl>, DelegationError> {
        let view = &grant.view;
        let Some(content) = &view.content else { return Err(PortError::NotFound(Missing::Content).into()) };
        let until = last_moment(self.clock.now(), self.ttl, view.receipt.expires_at).ok_or(DelegationError::Expired)?;
        let wanted =
            UrlRequest { content_hash: content.content_hash, until, media_type: &content.media_type, disposition };
        Ok(self.signer.sign(&wanted).await?)
    }
}

/// The last moment at which a URL issued now may be good; `None` when its receipt has less than a second left.
fn last_moment(now: Timestamp, ttl: Duration, receipt_expires_at: Timestamp) -> Option<Timestamp> {
    let until = now.saturating_add(ttl).unwrap_or(Timestamp::MAX).min(receipt_expires_at);
    let shortest = now.saturating_add(SHORTEST).unwrap_or(Timestamp::MAX);
    (until >= shortest).then_some(until)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_url_outlives_its_time_or_its_receipt(
            now in 0_i64..4_000_000_000_000_000,
            ttl in 1_u64..100_000,
            receipt in -10_000_000_i64..200_000_000_000,
        ) {
            let at = |micros| Timestamp::from_microsecond(micros).expect("in range");
            let (now, expires_at, ttl) = (at(now), at(now + receipt), Duration::from_secs(ttl));
            match last_moment(now, ttl, expires_at) {
                Some(until) => {
                    prop_assert!(until <= expires_at && until <= now + ttl && until >= now + SHORTEST);
                    prop_assert!(until == expires_at || until == now + ttl, "the URL lives as long as it may");
                }
                None => prop_assert!(expires_at < now + SHORTEST),
            }
        }
    }
}
