//! Delegation: content that somebody else delivers, under a URL that its receipt is charged for when it is given.
//!
//! What a stream shows while it runs, nobody sees here: how much is fetched, how often, how fast, and whether the receipt is
//! revoked meanwhile. So the whole reservation is charged, its slot is given back at once, and a URL is short-lived: its time
//! is bounded, and never goes past that of the receipt. What cannot be signed is charged nothing.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    ports::{PortError, SignedUrl, UrlRequest, UrlSigner},
    quota_book::Grant,
    quota_cache::Reservation,
};

/// A store that takes longer than this to say whether it has a content has failed: it hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// URLs tell whole seconds: one that would not last a second is none.
const SHORTEST: Duration = Duration::from_secs(1);

/// Gives URLs under which others deliver.
#[derive(Clone)]
pub struct Delegator {
    signer: Arc<dyn UrlSigner>,
    clock: Arc<dyn Clock>,
    ttl: Duration,
}

/// What became of a reservation.
pub enum Delegated {
    /// It was charged, and this is what for.
    Given(SignedUrl),
    /// There are no URLs for where the content is stored: the node is to stream it itself, on the same reservation.
    Kept(Box<Reservation>),
}

/// Why no URL was given. Nothing was charged.
#[derive(Debug, thiserror::Error)]
pub enum NotDelegated {
    /// The receipt ends within a second.
    #[error("the receipt has no time left")]
    Expired,
    /// The receipt lost its right while the URL was made; asking again tells why.
    #[error("the receipt lost its right")]
    Revoked,
    #[error(transparent)]
    Store(#[from] PortError),
}

impl Delegator {
    /// URLs are good for `ttl` at the longest.
    pub fn new(signer: Arc<dyn UrlSigner>, clock: Arc<dyn Clock>, ttl: Duration) -> Self {
        Self { signer, clock, ttl }
    }

    /// Makes a URL for what was reserved, and charges it. `disposition` is what its answer should say as
    /// `Content-Disposition`.
    ///
    /// # Errors
    /// The store's, or that the receipt is no longer good; the reservation is then given back whole.
    pub async fn delegate(&self, reservation: Reservation, disposition: &str) -> Result<Delegated, NotDelegated> {
        let signed = self.sign(reservation.grant(), disposition);
        let signed = tokio::time::timeout(PATIENCE, signed)
            .await
            .unwrap_or_else(|elapsed| Err(PortError::unavailable("the blob store", elapsed).into()))?;
        // Signing may have asked the store: time in which a refund may have come.
        if reservation.grant().revocation.is_raised() {
            return Err(NotDelegated::Revoked);
        }
        Ok(match signed {
            Some(signed) => {
                reservation.delegate();
                Delegated::Given(signed)
            }
            None => Delegated::Kept(Box::new(reservation)),
        })
    }

    async fn sign(&self, grant: &Grant, disposition: &str) -> Result<Option<SignedUrl>, NotDelegated> {
        let view = &grant.view;
        let Some(content) = &view.content else { return Err(PortError::NotFound("content").into()) };
        let until = last_moment(self.clock.now(), self.ttl, view.receipt.expires_at).ok_or(NotDelegated::Expired)?;
        let wanted =
            UrlRequest { content_hash: content.content_hash, until, media_type: &content.media_type, disposition };
        Ok(self.signer.sign(&wanted).await?)
    }
}

/// Until when a URL may be good that is given now; `None` when its receipt has no second left.
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
                    prop_assert!(until == expires_at || until == now + ttl, "it is as long as it may be");
                }
                None => prop_assert!(expires_at < now + SHORTEST),
            }
        }
    }
}
