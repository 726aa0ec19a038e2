//! What is asked of S3: a dozen calls on one bucket. Two clients answer them; everything else in this folder is shared.
//!
//! A client makes one attempt at each call. It knows no retries, no time-outs and no metrics: those are in
//! [`Bucket`](super::bucket::Bucket), once, so that both clients behave alike.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::failure::Failure;

pub(super) type Attempt<T> = Result<T, Failure>;

/// One bucket, as one of the clients reaches it.
#[async_trait]
pub(super) trait BucketClient: Send + Sync + 'static {
    /// An object, or a range of it that is not empty.
    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Attempt<Object>;

    /// The size of an object.
    async fn head(&self, key: &str) -> Attempt<u64>;

    /// Writes an object whole. `Precondition` when it is not as expected.
    async fn put(&self, key: &str, body: Bytes, expected: Expected<'_>) -> Attempt<()>;

    /// Removes an object. That it is not there is as good.
    async fn delete(&self, key: &str) -> Attempt<()>;

    /// Up to `limit` objects whose keys begin with `prefix` and sort after `after`, in order. Fewer than there are may come
    /// even so; none come only when there are none.
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Attempt<Vec<Listed>>;

    /// Begins an upload in parts; its id.
    async fn begin(&self, key: &str) -> Attempt<String>;

    /// Sends the part of this number, from 1; its tag.
    async fn part(&self, key: &str, upload: &str, number: u32, body: Bytes) -> Attempt<String>;

    /// Makes one object of the parts, given by their tags in order.
    async fn complete(&self, key: &str, upload: &str, parts: &[String]) -> Attempt<()>;

    /// Gives an upload up, with what was sent.
    async fn abort(&self, key: &str, upload: &str) -> Attempt<()>;

    /// A URL under which anybody may get an object. It asks nobody but, for credentials, those who give them.
    async fn sign(&self, key: &str, wanted: &SignedGet<'_>) -> Attempt<String>;
}

/// What a signed URL is to be good for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SignedGet<'a> {
    /// From the moment that it is signed; whole seconds.
    pub(super) valid_for: Duration,
    pub(super) media_type: &'a str,
    pub(super) disposition: &'a str,
}

/// An object that is being read.
pub(super) struct Object {
    /// Of the whole object, whatever part of it was asked for.
    pub(super) size: u64,
    /// Names this state of the object.
    pub(super) tag: Option<String>,
    pub(super) body: BoxStream<'static, Attempt<Bytes>>,
}

/// What must hold for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected<'a> {
    Anything,
    /// There is no such object yet.
    Absent,
    /// The object is still in the state of this tag.
    Unchanged(&'a str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) modified: SystemTime,
}
