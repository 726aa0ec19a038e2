//! S3 by `object_store`.
//!
//! Its own retries are off. Our connector turns every answer that is not a success into an error with the status, the
//! code and `Retry-After`, which the library's own errors lack.

use std::{error::Error, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
    },
    list::{PaginatedListOptions, PaginatedListStore as _},
    multipart::{MultipartStore as _, PartId},
    path::Path,
    signer::{Method, SignedUrlOptions, Signer as _},
};
use penstock_actors::ports::{PortError, PortResult};
use reqwest::header::{HeaderMap, HeaderValue};

use super::{
    AccessKey, Connection,
    client::{Attempt, BucketClient, Expected, Listed, Object, SignedGet},
    error::{S3Failure, S3FailureKind, STORE},
};
use crate::telemetry::TraceContext;

/// The environment variables that supply credentials. Everything else about S3 comes from the configuration alone.
const CREDENTIALS: [(&str, AmazonS3ConfigKey); 11] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_METADATA_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

pub(super) struct ObjectStoreBucket {
    s3: AmazonS3,
    /// Signs URLs, under the address by which clients reach the storage.
    signer: AmazonS3,
}

impl ObjectStoreBucket {
    pub(super) fn new(connection: &Connection, bucket: &str) -> PortResult<Self> {
        let s3 = builder(connection, bucket).build().map_err(|error| PortError::rejected(STORE, error))?;
        let signer = match &connection.public_endpoint {
            Some(public) => builder(connection, bucket)
                .with_endpoint(public)
                .with_credentials(Arc::clone(s3.credentials()))
                .build()
                .map_err(|error| PortError::rejected(STORE, error))?,
            None => s3.clone(),
        };
        Ok(Self { s3, signer })
    }
}

fn builder(connection: &Connection, bucket: &str) -> AmazonS3Builder {
    // The client of `reqwest` uses the crypto provider of the process. Another part of the process may have installed
    // it first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Connection { endpoint, region, access_key, connect_timeout, .. } = connection;
    let options = ClientOptions::new()
        // [`Bucket`](super::bucket::Bucket) times the attempts.
        .with_timeout_disabled()
        .with_connect_timeout(*connect_timeout)
        .with_allow_http(endpoint.as_ref().is_some_and(|url| url.starts_with("http://")));
    let once = RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, backoff: BackoffConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(region)
        .with_client_options(options)
        // One request per object: every storage supports that, and it costs no more.
        .with_disable_bulk_delete(true)
        .with_http_connector(Refusing)
        .with_retry(once);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    match access_key {
        Some(AccessKey { id, secret }) => builder.with_access_key_id(id).with_secret_access_key(secret),
        None => CREDENTIALS.into_iter().fold(builder, |builder, (name, key)| match std::env::var(name) {
            Ok(value) if !value.is_empty() => builder.with_config(key, value),
            _ => builder,
        }),
    }
}

#[async_trait]
impl BucketClient for ObjectStoreBucket {
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Attempt<Object> {
        let options = GetOptions { range: range.map(Into::into), ..GetOptions::default() };
        let answer = self.s3.get_opts(&path(key)?, options).await.map_err(failed)?;
        let ObjectMeta { size, e_tag, .. } = answer.meta.clone();
        Ok(Object { size, tag: e_tag, body: answer.into_stream().map(|piece| piece.map_err(failed)).boxed() })
    }

    async fn head(&self, key: &str) -> Attempt<u64> {
        Ok(self.s3.head(&path(key)?).await.map_err(failed)?.size)
    }

    async fn put(&self, key: &str, body: Bytes, expected: Expected<'_>) -> Attempt<()> {
        let mode = match expected {
            Expected::Anything => PutMode::Overwrite,
            Expected::Absent => PutMode::Create,
            Expected::Unchanged(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag.to_owned()), version: None }),
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        self.s3.put_opts(&path(key)?, PutPayload::from(body), options).await.map(drop).map_err(failed)
    }

    async fn delete(&self, key: &str) -> Attempt<()> {
        match self.s3.delete(&path(key)?).await.map_err(failed) {
            Err(failure) if failure.kind == S3FailureKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Attempt<Vec<Listed>> {
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                offset: (!after.is_empty()).then(|| after.to_owned()),
                max_keys: Some(limit),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = self.s3.list_paginated(Some(prefix), options).await.map_err(failed)?;
            if !page.result.objects.is_empty() || page.page_token.is_none() {
                return Ok(page.result.objects.into_iter().map(listed).collect());
            }
            // A page may be empty although others follow.
            page_token = page.page_token;
        }
    }

    async fn begin(&self, key: &str) -> Attempt<String> {
        self.s3.create_multipart(&path(key)?).await.map_err(failed)
    }

    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Attempt<String> {
        // The library counts from 0.
        let index = number.saturating_sub(1) as usize;
        let part = self.s3.put_part(&path(key)?, &upload.to_owned(), index, PutPayload::from(body)).await;
        Ok(part.map_err(failed)?.content_id)
    }

    async fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Attempt<()> {
        let parts = parts.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        self.s3.complete_multipart(&path(key)?, &upload.to_owned(), parts).await.map(drop).map_err(failed)
    }

    async fn abort(&self, key: &str, upload: &str) -> Attempt<()> {
        self.s3.abort_multipart(&path(key)?, &upload.to_owned()).await.map_err(failed)
    }

    async fn sign(&self, key: &str, wanted: &SignedGet<'_>) -> Attempt<String> {
        let options = SignedUrlOptions::new().with_query([
            ("response-content-type", wanted.media_type),
            ("response-content-disposition", wanted.disposition),
        ]);
        let url = self.signer.signed_url_opts(Method::GET, &path(key)?, wanted.valid_for, &options).await;
        Ok(url.map_err(failed)?.into())
    }
}

fn path(key: &str) -> Attempt<Path> {
    Path::parse(key).map_err(|error| S3Failure::new(S3FailureKind::Refused, error))
}

fn listed(object: ObjectMeta) -> Listed {
    Listed { key: object.location.into(), modified: object.last_modified.into() }
}

/// The failure that our connector put at the bottom of the library's error, or another error of the library. The
/// library's own errors repeat the URL and each other.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` wants it")]
fn failed(error: object_store::Error) -> S3Failure {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(link) = cause {
        if let Some(failure) = link.downcast_ref::<S3Failure>() {
            return failure.clone();
        }
        if let Some(http) = link.downcast_ref::<HttpError>()
            && let Some(broken) = http.source().filter(|source| !source.is::<S3Failure>())
        {
            return S3Failure::broken(broken);
        }
        cause = link.source();
    }
    S3Failure::broken(&error)
}

/// Makes HTTP clients for which an answer that is not a success is an error.
#[derive(Debug)]
struct Refusing;

impl HttpConnector for Refusing {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(RefusingClient(ReqwestConnector::default().connect(options)?)))
    }
}

/// Tells the storage the trace of the request for which it is called. The signature does not cover these fields.
fn pass_on(trace: &TraceContext, headers: &mut HeaderMap) {
    for (name, value) in [("traceparent", Some(trace.to_string())), ("tracestate", trace.state().map(str::to_owned))] {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
}

#[derive(Debug)]
struct RefusingClient(HttpClient);

#[async_trait]
impl HttpService for RefusingClient {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if let Some(trace) = TraceContext::current() {
            pass_on(&trace, request.headers_mut());
        }
        let answer = self.0.execute(request).await?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let retry_after = head.headers.get("retry-after").and_then(|value| value.to_str().ok());
        let body = body.bytes().await.unwrap_or_default();
        let failure = S3Failure::answered(head.status.as_u16(), retry_after, &body);
        // The library never retries an error of this kind.
        Err(HttpError::new(HttpErrorKind::Unknown, failure))
    }
}
