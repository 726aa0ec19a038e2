//! The promises of every [`UrlSigner`] and of the server that delivers under its URLs: the suite is given a way to fetch.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    ids::ContentHash,
    ports::{PortError, SignedUrl, UrlRequest, UrlSigner},
};

const MEDIA_TYPE: &str = "text/plain; charset=utf-8";
const DISPOSITION: &str = "inline; filename=\"F__e & more.txt\"; filename*=UTF-8''F%C3%BC%C3%9Fe%20%26%20more.txt";

/// How long a URL is good for that must outlive its use.
const LONG: Duration = Duration::from_secs(60);

/// The longest wait until an expired URL is refused.
const PATIENCE: Duration = Duration::from_secs(30);

/// The answer to a GET.
#[derive(Debug)]
pub struct Fetched {
    pub status: u16,
    pub media_type: Option<String>,
    pub disposition: Option<String>,
    pub body: Bytes,
}

/// Runs the whole suite. `stored` is in the store, and `get` fetches a URL without following redirects.
///
/// # Panics
/// When a promise is broken.
pub async fn run(signer: &dyn UrlSigner, stored: (ContentHash, Bytes), get: impl AsyncFn(String) -> Fetched) {
    let (get, (hash, bytes)) = (&get, stored);
    a_url_gives_the_content_under_the_name_and_type_that_were_asked_for(signer, hash, &bytes, get).await;
    it_says_exactly_when_it_expires_and_never_too_late(signer, hash).await;
    an_altered_url_gives_nothing(signer, hash, get).await;
    it_is_refused_once_it_has_expired(signer, hash, get).await;
    there_is_none_for_what_is_not_stored(signer).await;
}

async fn a_url_gives_the_content_under_the_name_and_type_that_were_asked_for(
    signer: &dyn UrlSigner,
    hash: ContentHash,
    bytes: &Bytes,
    get: &impl AsyncFn(String) -> Fetched,
) {
    let signed = sign(signer, hash, Timestamp::now() + LONG).await;
    assert!(signed.url.bytes().all(|byte| byte.is_ascii_graphic()), "{}", signed.url);
    // Not once but for a time: its holder may fetch again.
    for _ in 0..2 {
        let fetched = get(signed.url.clone()).await;
        assert_eq!(fetched.status, 200, "{fetched:?}");
        assert_eq!(fetched.body, bytes);
        assert_eq!(fetched.media_type.as_deref(), Some(MEDIA_TYPE));
        assert_eq!(fetched.disposition.as_deref(), Some(DISPOSITION));
    }
}

async fn it_says_exactly_when_it_expires_and_never_too_late(signer: &dyn UrlSigner, hash: ContentHash) {
    for millis in [1000, 1999, 2500, 60_000, 3_600_001] {
        let until = Timestamp::now() + Duration::from_millis(millis);
        let signed = sign(signer, hash, until).await;
        assert!(signed.expires_at <= until, "{} is after {until}", signed.expires_at);
        assert!(signed.expires_at > until - Duration::from_secs(2), "{} is long before {until}", signed.expires_at);
        assert_eq!(signed.expires_at.subsec_nanosecond(), 0, "URLs carry whole seconds");
    }
}

async fn an_altered_url_gives_nothing(
    signer: &dyn UrlSigner,
    hash: ContentHash,
    get: &impl AsyncFn(String) -> Fetched,
) {
    let url = sign(signer, hash, Timestamp::now() + LONG).await.url;
    let (path, query) = url.split_once('?').expect("a signature in the query");
    let mut altered = vec![path.to_owned(), format!("{}?{query}", other(path))];
    for (position, parameter) in query.split('&').enumerate() {
        let mut parameters: Vec<_> = query.split('&').map(str::to_owned).collect();
        parameters.remove(position);
        altered.push(format!("{path}?{}", parameters.join("&")));
        parameters.insert(position, other(parameter));
        altered.push(format!("{path}?{}", parameters.join("&")));
    }
    for url in altered {
        let fetched = get(url.clone()).await;
        assert!((400..500).contains(&fetched.status), "{} for {url}", fetched.status);
    }
}

/// The same text with another last character of the same kind.
fn other(text: &str) -> String {
    let mut text = text.to_owned();
    let last = text.pop().expect("not empty");
    text.push(if last == '1' { '2' } else { '1' });
    text
}

async fn it_is_refused_once_it_has_expired(
    signer: &dyn UrlSigner,
    hash: ContentHash,
    get: &impl AsyncFn(String) -> Fetched,
) {
    let signed = sign(signer, hash, Timestamp::now() + Duration::from_secs(2)).await;
    let deadline = Timestamp::now() + PATIENCE;
    loop {
        let fetched = get(signed.url.clone()).await;
        if Timestamp::now() < signed.expires_at {
            assert_eq!(fetched.status, 200, "{fetched:?}");
        } else if (400..500).contains(&fetched.status) {
            return;
        }
        assert!(Timestamp::now() < deadline, "it is still accepted {PATIENCE:?} after it was made");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn there_is_none_for_what_is_not_stored(signer: &dyn UrlSigner) {
    let until = Timestamp::now() + LONG;
    let absent = signer.sign(&wanted(ContentHash::from_bytes([9; 32]), until)).await;
    assert!(matches!(absent, Err(PortError::NotFound(_))), "{absent:?}");
}

async fn sign(signer: &dyn UrlSigner, hash: ContentHash, until: Timestamp) -> SignedUrl {
    signer.sign(&wanted(hash, until)).await.expect("the store answers").expect("it signs URLs")
}

fn wanted(content_hash: ContentHash, until: Timestamp) -> UrlRequest<'static> {
    UrlRequest { content_hash, until, media_type: MEDIA_TYPE, disposition: DISPOSITION }
}
