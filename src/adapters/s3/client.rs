//! The interface to S3: a dozen calls on one bucket. Two clients implement it; everything else in this folder is
//! shared.
//!
//! A client makes one attempt per call. It has no retries, time-outs or metrics: [`Bucket`](super::bucket::Bucket) adds
//! them once, so that both clients behave alike.
//!
//! This is the interface of S3, with its uploads in parts and its errors. A storage with another interface gets an adapter of its
//! own, which implements `StoreMarks`.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::error::S3Failure;

pub(super) type Attempt<T> = Result<T, S3Failure>;

/// One bucket, accessed by one of the clients.
#[async_trait]
pub(super) trait BucketClient: Send + Sync + 'static {
    /// Reads an object, or a non-empty range of it.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Attempt<Object>;

    /// The size of an object.
    async fn head(&self, key: &str) -> Attempt<u64>;

    /// Writes a whole object. `Precondition` when the object is not as expected.
    async fn put(&self, key: &str, body: Bytes, expected: Expected<'_>) -> Attempt<()>;

    /// Removes an object. A missing object is no error.
    async fn delete(&self, key: &str) -> Attempt<()>;

    /// Lists up to `limit` objects whose keys begin with `prefix` and sort after `after`, in order. The answer may be
    /// shorter although more follow; it is empty only when there are none.
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Attempt<Vec<Listed>>;

    /// Begins an upload in parts; returns its id.
    async fn begin(&self, key: &str) -> Attempt<String>;

    /// Sends the part of this number, from 1; returns its tag.
    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Attempt<String>;

    /// Makes one object from the parts, given by their tags in order.
    async fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Attempt<()>;

    /// Aborts an upload and removes its parts.
    async fn abort(&self, key: &str, upload: &str) -> Attempt<()>;

    /// A URL under which anyone may get an object. Makes no request, except to the credential provider if credentials
    /// are needed.
    async fn sign(&self, key: &str, wanted: &SignedGet<'_>) -> Attempt<String>;
}

/// The properties of a signed URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedGet<'a> {
    /// From the moment of signing; whole seconds.
    pub(super) valid_for: Duration,
    pub(super) media_type: &'a str,
    pub(super) disposition: &'a str,
}

/// An object being read.
pub(super) struct Object {
    /// The size of the whole object, whichever part was requested.
    pub(super) size: u64,
    /// Identifies this state of the object.
    pub(super) tag: Option<String>,
    pub(super) body: BoxStream<'static, Attempt<Bytes>>,
}

/// The condition of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected<'a> {
    Anything,
    /// The object does not exist yet.
    Absent,
    /// The object is still in the state of this tag.
    Unchanged(&'a str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) modified: SystemTime,
}
