//! A blob under way: its bytes are hashed and written in strides, while the next stride arrives.
//!
//! No thread belongs to a writer. A stride is a task of its own that hashes it twice, side by side, and writes it meanwhile. So a
//! client that sends little costs no thread, and one that sends fast uses several.
//!
//! **Bound.** A writer holds two strides: one that is under way and one that arrives. When both are full, its caller waits. Bytes are
//! copied into a stride, because a part that a connection has read keeps a buffer of up to twice its size.

use std::mem;

use bytes::{Bytes, BytesMut};
use futures::future::try_join;
use tokio::task::JoinHandle;

use super::hashing::{Hashers, Hashes};
use crate::{
    ids::ContentHash,
    ports::{BlobSink, PortError, PortResult},
    task_span::InTaskSpan as _,
};

/// Bytes of a stride. It takes a processor 0.15 ms to hash it, several times what handing it to other threads takes.
const STRIDE: usize = 256 << 10;

/// Where a stride is not this small, its buffer has the size of a whole one from then on: growing means copying.
const SMALL: usize = 32 << 10;

/// A blob under way. Dropping it undoes it.
pub(crate) struct Writer {
    hashers: Hashers,
    state: WriterState,
    /// The stride that arrives.
    arriving: BytesMut,
}

enum WriterState {
    Idle(Box<Unnamed>),
    /// The last stride is hashed and written.
    UnderWay(JoinHandle<PortResult<Box<Unnamed>>>),
    /// A stride has failed, or its end was not waited for.
    Failed,
}

/// A blob that has no name yet.
struct Unnamed {
    sink: Box<dyn BlobSink>,
    hashes: Hashes,
    /// The buffer of an earlier stride, for a later one.
    spare: BytesMut,
}

impl Unnamed {
    async fn take(mut self: Box<Self>, stride: Bytes, hashers: &Hashers) -> PortResult<Box<Self>> {
        let hashes = mem::take(&mut self.hashes).add(stride.clone(), hashers);
        let (hashes, ()) = try_join(hashes, self.sink.write(stride.clone())).await?;
        self.hashes = hashes;
        self.spare = stride.try_into_mut().unwrap_or_default();
        self.spare.clear();
        Ok(self)
    }
}

impl Writer {
    pub(crate) fn start(sink: Box<dyn BlobSink>, hashers: Hashers) -> Self {
        let blob = Unnamed { sink, hashes: Hashes::default(), spare: BytesMut::new() };
        Self { hashers, state: WriterState::Idle(Box::new(blob)), arriving: BytesMut::new() }
    }

    /// Takes the next part. A write that failed shows with one of the next ones.
    pub(crate) async fn write(&mut self, mut part: Bytes) -> PortResult<()> {
        while !part.is_empty() {
            let room = STRIDE - self.arriving.len();
            if self.arriving.len() + part.len() > SMALL {
                self.arriving.reserve(room);
            }
            self.arriving.extend_from_slice(&part.split_to(part.len().min(room)));
            if self.arriving.len() == STRIDE {
                self.begin().await?;
            }
        }
        Ok(())
    }

    /// The hash and the number of the bytes written so far.
    pub(crate) async fn digest(&mut self) -> PortResult<(ContentHash, u64)> {
        let blob = self.settled().await?;
        let hashed = blob.hashes.hashed();
        self.state = WriterState::Idle(blob);
        Ok((hashed.whole, hashed.size_bytes))
    }

    /// Makes the commit [replace](BlobSink::replace) any blob that has this name.
    pub(crate) async fn replace(&mut self) -> PortResult<()> {
        let mut blob = self.settled().await?;
        blob.sink.replace();
        self.state = WriterState::Idle(blob);
        Ok(())
    }

    /// Makes the blob visible under its name.
    pub(crate) async fn commit(mut self) -> PortResult<()> {
        let Unnamed { sink, hashes, .. } = *self.settled().await?;
        let commit = async move {
            let hashed = hashes.hashed();
            sink.commit(hashed.whole, &hashed.leaves).await
        };
        ended(self.hashers.io().spawn(commit.in_task_span())).await
    }

    /// Begins with the stride that has arrived, when the one before it has ended.
    async fn begin(&mut self) -> PortResult<()> {
        let mut blob = self.idle().await?;
        let stride = mem::replace(&mut self.arriving, mem::take(&mut blob.spare)).freeze();
        let hashers = self.hashers.clone();
        let take = async move { blob.take(stride, &hashers).await };
        self.state = WriterState::UnderWay(self.hashers.io().spawn(take.in_task_span()));
        Ok(())
    }

    /// The blob, when the stride under way has ended.
    async fn idle(&mut self) -> PortResult<Box<Unnamed>> {
        match mem::replace(&mut self.state, WriterState::Failed) {
            WriterState::Idle(blob) => Ok(blob),
            WriterState::UnderWay(stride) => ended(stride).await,
            WriterState::Failed => Err(PortError::unavailable("the blob store", "an earlier write has failed")),
        }
    }

    /// The blob, when all bytes so far are hashed and written.
    async fn settled(&mut self) -> PortResult<Box<Unnamed>> {
        if !self.arriving.is_empty() {
            self.begin().await?;
        }
        self.idle().await
    }
}

async fn ended<T>(task: JoinHandle<PortResult<T>>) -> PortResult<T> {
    task.await.unwrap_or_else(|panicked| Err(PortError::unavailable("the blob store", panicked)))
}
