//! Signed URLs of data objects: any client that holds one gets the content from the storage itself.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use penstock_actors::{
    ids::ContentHash,
    ports::{Missing, PortError, PortResult, SignedUrl, UrlRequest, UrlSigner},
};

use super::{
    S3Blobs, StorageTier,
    client::SignedGet,
    error::STORE,
    store::{Placed, StoreContext, has_data, size_of},
};
use crate::adapters::urls::Origin;

/// Signs URLs of contents, or of those in one tier.
#[derive(Clone)]
pub struct S3Urls {
    blobs: S3Blobs,
    tier: Option<StorageTier>,
}

impl S3Urls {
    /// `tier`: the tier for which URLs are given; `None` for any.
    pub const fn new(blobs: S3Blobs, tier: Option<StorageTier>) -> Self {
        Self { blobs, tier }
    }

    /// The present place of a content. The cached manifest may be out of date, and a URL cannot be corrected later, so
    /// this checks that the data exists in full.
    async fn place(
        store: &StoreContext,
        tier: Option<StorageTier>,
        hash: ContentHash,
    ) -> PortResult<Option<Arc<Placed>>> {
        let mut placed = store.open(hash).await?;
        if !has_data(&placed.bucket, &placed.manifest).await? {
            placed = store.open_afresh(hash).await?;
            let size = placed.manifest.size_bytes;
            let found = size_of(&placed.bucket, &placed.manifest.data).await?;
            if found != Some(size) {
                store.forget(hash).await;
                return Err(match found {
                    None => PortError::NotFound(Missing::Blob),
                    Some(found) => PortError::Corrupt(format!("blob {hash} has {found} bytes of {size}")),
                });
            }
        }
        Ok(tier.is_none_or(|tier| placed.bucket.tier == tier).then_some(placed))
    }
}

#[async_trait]
impl UrlSigner for S3Urls {
    async fn sign(&self, wanted: &UrlRequest<'_>) -> PortResult<Option<SignedUrl>> {
        let UrlRequest { content_hash, until, media_type, disposition } = *wanted;
        let (media_type, disposition, tier) = (media_type.to_owned(), disposition.to_owned(), self.tier);
        self.blobs
            .on_io(async move |store| {
                let Some(placed) = Self::place(&store, tier, content_hash).await? else { return Ok(None) };
                loop {
                    // The time of signing is cut to whole seconds, and so must be the remaining time.
                    let left = until.as_second() - Timestamp::now().as_second();
                    let valid_for = Duration::from_secs(u64::try_from(left).unwrap_or(0));
                    let get = SignedGet { valid_for, media_type: &media_type, disposition: &disposition };
                    let url = placed.bucket.sign(&placed.manifest.data, &get).await?;
                    let expires_at = expiry(&url)
                        .ok_or_else(|| PortError::rejected(STORE, "a signed URL does not say when it expires"))?;
                    // Unless the next second began before the signing.
                    if expires_at <= until || left <= 0 {
                        return Ok(Some(SignedUrl { url, expires_at }));
                    }
                }
            })
            .await
    }
}

/// A CDN, or another server that fetches without signatures, finds the content under the key of its data.
#[async_trait]
impl Origin for S3Urls {
    async fn path(&self, hash: ContentHash) -> PortResult<Option<String>> {
        let tier = self.tier;
        let placed = self.blobs.on_io(async move |store| Self::place(&store, tier, hash).await).await?;
        Ok(placed.map(|placed| placed.manifest.data.clone()))
    }
}

/// When a signed URL expires, read from the URL itself.
fn expiry(url: &str) -> Option<Timestamp> {
    let (_, query) = url.split_once('?')?;
    let value = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let signed_at = DateTime::strptime("%Y%m%dT%H%M%SZ", value("X-Amz-Date")?).ok()?;
    let seconds: u32 = value("X-Amz-Expires")?.parse().ok()?;
    let signed_at = signed_at.to_zoned(TimeZone::UTC).ok()?.timestamp();
    signed_at.checked_add(Duration::from_secs(seconds.into())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_url_says_when_it_expires() {
        let url = "http://s3/b/k?a=b&X-Amz-Date=20261124T235959Z&X-Amz-Expires=61&X-Amz-Signature=0";
        assert_eq!(expiry(url), Some("2026-11-25T00:01:00Z".parse().unwrap()));
        for nonsense in ["http://s3/b/k", "http://s3/b/k?X-Amz-Date=today&X-Amz-Expires=61", "?X-Amz-Expires=1"] {
            assert_eq!(expiry(nonsense), None);
        }
    }
}
