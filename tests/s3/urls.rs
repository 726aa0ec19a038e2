//! URLs that S3 itself answers.

use jiff::{Timestamp, ToSpan as _};
use penstock::adapters::{
    s3::{Connection, S3Settings, S3Urls},
    urls::Origin as _,
};
use penstock_actors::{
    ids::ContentHash,
    model::StorageTier,
    ports::{PortError, UrlRequest, UrlSigner as _},
    testkit::{
        blob_store_suite::Sample,
        url_signer_suite::{self, Fetched},
    },
};

use crate::{
    HOT, LARGE, manifest,
    s3::{BUCKETS, TestBuckets, http},
    s3_proxy::S3Proxy,
};

async fn get(url: String) -> Fetched {
    let answer = http().get(url).send().await.unwrap();
    let field = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (status, media_type, disposition) =
        (answer.status().as_u16(), field("content-type"), field("content-disposition"));
    Fetched { status, media_type, disposition, body: answer.bytes().await.unwrap() }
}

fn wanted(content_hash: ContentHash) -> UrlRequest<'static> {
    let until = Timestamp::now() + 1.minute();
    UrlRequest { content_hash, until, media_type: "text/plain", disposition: "inline" }
}

on_each_client!(s3_keeps_the_promises_of_a_url_signer, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, LARGE).await;
    let urls = S3Urls::new(blobs, None);
    url_signer_suite::run(&urls, (sample.hash, sample.bytes.clone()), get).await;
});

on_each_client!(urls_are_given_for_the_tier_that_is_delivered_from, async |buckets: TestBuckets| {
    let blobs = buckets.store().await;
    let sample = buckets.stored(&blobs, 1000).await;
    let data = buckets.only_data(HOT).await;
    for (tier, given) in [(None, true), (Some(StorageTier::Hot), true), (Some(StorageTier::Cold), false)] {
        let urls = S3Urls::new(blobs.clone(), tier);
        assert_eq!(urls.sign(&wanted(sample.hash)).await.unwrap().is_some(), given, "{tier:?}");
        let path = urls.path(sample.hash).await.unwrap();
        assert_eq!(path.is_some_and(|path| path.ends_with(&data)), given, "{tier:?}");
    }
    // The content moves away, which nobody has told this store.
    buckets.put(BUCKETS[2], &data, buckets.get(HOT, &data).await).await;
    buckets.put(BUCKETS[2], &manifest(&sample), buckets.get(HOT, &manifest(&sample)).await).await;
    buckets.remove(HOT, &manifest(&sample)).await;
    buckets.remove(HOT, &data).await;
    assert_eq!(S3Urls::new(blobs.clone(), Some(StorageTier::Hot)).sign(&wanted(sample.hash)).await.unwrap(), None);
    let signed = S3Urls::new(blobs.clone(), None).sign(&wanted(sample.hash)).await.unwrap().unwrap();
    assert_eq!(get(signed.url).await.body, sample.bytes);
    // And is damaged, and lost: a URL that leads nowhere, or not to all of it, is not given.
    buckets.put(BUCKETS[2], &data, sample.bytes[..999].to_vec()).await;
    let urls = S3Urls::new(blobs, None);
    assert!(matches!(urls.sign(&wanted(sample.hash)).await, Err(PortError::Corrupt(_))));
    buckets.remove(BUCKETS[2], &data).await;
    assert!(matches!(urls.sign(&wanted(sample.hash)).await, Err(PortError::NotFound(_))));
    assert!(matches!(urls.path(Sample::of(10).hash).await, Err(PortError::NotFound(_))));
});

on_each_client!(urls_begin_with_the_address_that_clients_know, async |buckets: TestBuckets| {
    let outside = S3Proxy::before(&buckets.endpoint).await;
    let settings = buckets.settings();
    let connection = Connection { public_endpoint: Some(outside.endpoint()), ..settings.connection.clone() };
    let (blobs, _) = buckets.open(&S3Settings { connection, ..settings }).await.unwrap();
    let sample = buckets.stored(&blobs, 1000).await;
    let signed = S3Urls::new(blobs, None).sign(&wanted(sample.hash)).await.unwrap().unwrap();
    assert!(signed.url.starts_with(&format!("{}/", outside.endpoint())), "{}", signed.url);
    assert_eq!(outside.seen(), [], "the node itself goes another way");
    assert_eq!(get(signed.url).await.body, sample.bytes);
});
