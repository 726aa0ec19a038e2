//! S3 by `rusoto_s3`, which is no longer maintained: only with the cargo feature `rusoto`, for operators with reasons
//! of their own (docs/decisions.md).
//!
//! It is older than conditional writes, so this file builds the requests that write objects. It waits for a connection
//! as long as an attempt lasts, whatever `connect_timeout` is, and does not support web identities.

use std::{io, ops::Range, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::ready, stream};
use jiff::Timestamp;
use penstock_actors::ports::{PortError, PortResult};
use rusoto_core::{
    ByteStream, Client, HttpClient, Region, RusotoError,
    credential::{AwsCredentials, ChainProvider, CredentialsError, ProvideAwsCredentials},
    request::BufferedHttpResponse,
    signature::SignedRequest,
};
use rusoto_s3::{
    AbortMultipartUploadError, AbortMultipartUploadRequest, CompleteMultipartUploadRequest, CompletedMultipartUpload,
    CompletedPart, CreateMultipartUploadRequest, DeleteObjectRequest, GetObjectError, GetObjectRequest,
    HeadObjectError, HeadObjectRequest, ListObjectsV2Error, ListObjectsV2Request, S3, S3Client, UploadPartRequest,
    util::{PreSignedRequest as _, PreSignedRequestOption},
};
use tokio::sync::Mutex;

use super::{
    AccessKey, Connection,
    client::{Attempt, BucketClient, Expected, Listed, Object, SignedGet},
    error::{S3Failure, S3FailureKind, STORE},
};

/// Credentials are renewed when they are valid for less than this.
const CREDENTIALS_LEFT_SECS: i64 = 60;

pub(super) struct RusotoBucket {
    s3: S3Client,
    /// The same client, for requests that the library does not support.
    raw: Client,
    region: Region,
    /// The region and address for clients.
    public_region: Region,
    credentials: Arc<Credentials>,
    bucket: String,
}

impl RusotoBucket {
    pub(super) fn new(connection: &Connection, bucket: &str) -> PortResult<Self> {
        let Connection { endpoint, public_endpoint, region: name, access_key, .. } = connection;
        let at = |endpoint: &String| Region::Custom { name: name.clone(), endpoint: endpoint.clone() };
        let region = match endpoint {
            Some(endpoint) => at(endpoint),
            None => name.parse().map_err(|unknown| PortError::rejected(STORE, format!("{unknown}")))?,
        };
        let public_region = public_endpoint.as_ref().map_or_else(|| region.clone(), at);
        let credentials = Arc::new(Credentials::of(access_key.as_ref()));
        let connector = HttpClient::new().map_err(|error| PortError::rejected(STORE, error))?;
        let raw = Client::new_with(Arc::clone(&credentials), connector);
        let s3 = S3Client::new_with_client(raw.clone(), region.clone());
        Ok(Self { s3, raw, region, public_region, credentials, bucket: bucket.to_owned() })
    }
}

/// The source of the signing keys.
struct Credentials {
    given: Option<AwsCredentials>,
    /// The environment, a profile, or the container's or the instance's role.
    chain: ChainProvider,
    /// The last credentials of the chain. The library's own cache keeps a failure for ever.
    last: Mutex<Option<AwsCredentials>>,
}

impl Credentials {
    fn of(key: Option<&AccessKey>) -> Self {
        let given = key.map(|AccessKey { id, secret }| AwsCredentials::new(id, secret, None, None));
        Self { given, chain: ChainProvider::new(), last: Mutex::default() }
    }
}

#[async_trait]
impl ProvideAwsCredentials for Credentials {
    async fn credentials(&self) -> Result<AwsCredentials, CredentialsError> {
        if let Some(given) = &self.given {
            return Ok(given.clone());
        }
        let soon = Timestamp::now().as_second() + CREDENTIALS_LEFT_SECS;
        let mut last = self.last.lock().await;
        match &*last {
            Some(kept) if kept.expires_at().is_none_or(|end| end.timestamp() > soon) => Ok(kept.clone()),
            _ => Ok(last.insert(self.chain.credentials().await?).clone()),
        }
    }
}

#[async_trait]
impl BucketClient for RusotoBucket {
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Attempt<Object> {
        let request = GetObjectRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            range: range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end - 1)),
            ..GetObjectRequest::default()
        };
        let answer = self.s3.get_object(request).await.map_err(|error| match error {
            RusotoError::Service(GetObjectError::NoSuchKey(why)) => S3Failure::new(S3FailureKind::NotFound, why),
            error => failed(error),
        })?;
        let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
        let size = match (range, &answer.content_range) {
            (Some(range), Some(sent)) => size_in(sent, range.start),
            (Some(_), None) => None,
            (None, _) => length,
        };
        let size = size
            .ok_or_else(|| S3Failure::new(S3FailureKind::Broken, "the answer is for another range than requested"))?;
        let body = answer.body.unwrap_or_else(|| ByteStream::new(stream::empty()));
        Ok(Object { size, tag: answer.e_tag, body: body.map_err(|error| S3Failure::broken(&error)).boxed() })
    }

    async fn head(&self, key: &str) -> Attempt<u64> {
        let request =
            HeadObjectRequest { bucket: self.bucket.clone(), key: key.to_owned(), ..HeadObjectRequest::default() };
        let answer = self.s3.head_object(request).await.map_err(|error| match error {
            RusotoError::Service(HeadObjectError::NoSuchKey(why)) => S3Failure::new(S3FailureKind::NotFound, why),
            error => failed(error),
        })?;
        let size = answer.content_length.and_then(|length| u64::try_from(length).ok());
        size.ok_or_else(|| S3Failure::new(S3FailureKind::Broken, "an object without a size"))
    }

    async fn put(&self, key: &str, body: Bytes, expected: Expected<'_>) -> Attempt<()> {
        let mut request = SignedRequest::new("PUT", "s3", &self.region, &format!("/{}/{key}", self.bucket));
        match expected {
            Expected::Anything => {}
            Expected::Absent => request.add_header("if-none-match", "*"),
            Expected::Unchanged(tag) => request.add_header("if-match", tag),
        }
        request.set_payload(Some(body));
        let sent = self.raw.sign_and_dispatch(request).await;
        let mut answer = sent.map_err(|error| failed(RusotoError::<io::Error>::from(error)))?;
        if answer.status.is_success() {
            return Ok(());
        }
        let answer = answer.buffer().await.map_err(|error| S3Failure::broken(&error))?;
        Err(answered(&answer))
    }

    async fn delete(&self, key: &str) -> Attempt<()> {
        let request =
            DeleteObjectRequest { bucket: self.bucket.clone(), key: key.to_owned(), ..DeleteObjectRequest::default() };
        match self.s3.delete_object(request).await.map_err(failed) {
            Err(failure) if failure.kind == S3FailureKind::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Attempt<Vec<Listed>> {
        let mut continuation_token = None;
        loop {
            let request = ListObjectsV2Request {
                bucket: self.bucket.clone(),
                prefix: Some(prefix.to_owned()),
                start_after: (!after.is_empty()).then(|| after.to_owned()),
                max_keys: i64::try_from(limit).ok(),
                continuation_token,
                ..ListObjectsV2Request::default()
            };
            let page = self.s3.list_objects_v2(request).await.map_err(|error| match error {
                RusotoError::Service(ListObjectsV2Error::NoSuchBucket(why)) => {
                    S3Failure::new(S3FailureKind::NoBucket, why)
                }
                error => failed(error),
            })?;
            let objects = page.contents.unwrap_or_default();
            if !objects.is_empty() || page.next_continuation_token.is_none() {
                let listed = objects.into_iter().map(|object| listed(object.key, object.last_modified));
                return listed.collect();
            }
            // A page may be empty although others follow.
            continuation_token = page.next_continuation_token;
        }
    }

    async fn begin(&self, key: &str) -> Attempt<String> {
        let request = CreateMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            ..CreateMultipartUploadRequest::default()
        };
        let answer = self.s3.create_multipart_upload(request).await.map_err(failed)?;
        answer.upload_id.ok_or_else(|| S3Failure::new(S3FailureKind::Broken, "an upload without an id"))
    }

    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Attempt<String> {
        let length = body.len();
        let request = UploadPartRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            upload_id: upload.to_owned(),
            part_number: number.into(),
            content_length: i64::try_from(length).ok(),
            body: Some(ByteStream::new_with_size(stream::once(ready(Ok(body))), length)),
            ..UploadPartRequest::default()
        };
        let answer = self.s3.upload_part(request).await.map_err(failed)?;
        answer.e_tag.ok_or_else(|| S3Failure::new(S3FailureKind::Broken, "a part without a tag"))
    }

    async fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Attempt<()> {
        let parts = (1..).zip(parts);
        let parts = parts.map(|(number, tag)| CompletedPart { e_tag: Some(tag.clone()), part_number: Some(number) });
        let request = CompleteMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            upload_id: upload.to_owned(),
            multipart_upload: Some(CompletedMultipartUpload { parts: Some(parts.collect()) }),
            ..CompleteMultipartUploadRequest::default()
        };
        let answer = self.s3.complete_multipart_upload(request).await.map_err(failed)?;
        // An error after an answer that began with status 200 has no tag.
        answer.e_tag.map(drop).ok_or_else(|| S3Failure::new(S3FailureKind::Broken, "the parts were not put together"))
    }

    async fn abort(&self, key: &str, upload: &str) -> Attempt<()> {
        let request = AbortMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            upload_id: upload.to_owned(),
            ..AbortMultipartUploadRequest::default()
        };
        let aborted = self.s3.abort_multipart_upload(request).await;
        aborted.map(drop).map_err(|error| match error {
            RusotoError::Service(AbortMultipartUploadError::NoSuchUpload(why)) => {
                S3Failure::new(S3FailureKind::NotFound, why)
            }
            error => failed(error),
        })
    }

    async fn sign(&self, key: &str, wanted: &SignedGet<'_>) -> Attempt<String> {
        let request = GetObjectRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            response_content_type: Some(wanted.media_type.to_owned()),
            response_content_disposition: Some(wanted.disposition.to_owned()),
            ..GetObjectRequest::default()
        };
        let credentials =
            self.credentials.credentials().await.map_err(|error| S3Failure::new(S3FailureKind::Denied, error))?;
        let option = PreSignedRequestOption { expires_in: wanted.valid_for };
        Ok(request.get_presigned_url(&self.public_region, &credentials, &option))
    }
}

/// The total size in `bytes 0-9/100`, if the part begins where it should.
fn size_in(content_range: &str, start: u64) -> Option<u64> {
    let (part, size) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = part.split_once('-')?;
    (first.parse() == Ok(start)).then(|| size.parse().ok()).flatten()
}

fn listed(key: Option<String>, modified: Option<String>) -> Attempt<Listed> {
    let modified = modified.and_then(|text| text.parse::<Timestamp>().ok()).map(SystemTime::from);
    match (key, modified) {
        (Some(key), Some(modified)) => Ok(Listed { key, modified }),
        _ => Err(S3Failure::new(S3FailureKind::Broken, "an object without a key or a time")),
    }
}

fn failed<E: std::error::Error + 'static>(error: RusotoError<E>) -> S3Failure {
    match error {
        RusotoError::Unknown(answer) => answered(&answer),
        RusotoError::Credentials(error) => S3Failure::new(S3FailureKind::Denied, error),
        error => S3Failure::broken(&error),
    }
}

fn answered(answer: &BufferedHttpResponse) -> S3Failure {
    let retry_after = answer.headers.get("retry-after").map(String::as_str);
    S3Failure::answered(answer.status.as_u16(), retry_after, &answer.body)
}
