//! The blocking threads that write blobs: apart from those that read, and shared by all uploads.

use std::sync::Arc;

use penstock_actors::ports::{PortError, PortResult};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

use super::error::STORE;

/// The most threads that write at a time: more than a disk can use. Reads have the others of the runtime's blocking threads.
pub const WRITERS: usize = 32;

/// Where writes run.
#[derive(Debug, Clone)]
pub(super) struct Writes {
    io: Handle,
    turns: Arc<Semaphore>,
}

impl Writes {
    pub(super) fn new(io: Handle) -> Self {
        Self { io, turns: Arc::new(Semaphore::new(WRITERS)) }
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|closed| PortError::unavailable(STORE, closed))?;
        let written = self.io.spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        written.await.unwrap_or_else(|stopped| Err(PortError::unavailable(STORE, stopped)))
    }

    /// Begins work whose end is asked for later.
    pub(super) fn begin(&self, work: impl FnOnce() -> PortResult<()> + Send + 'static) -> JoinHandle<PortResult<()>> {
        let writes = self.clone();
        self.io.spawn(async move { writes.run(work).await })
    }

    /// Closes a file that has no name any more: its blocks become free, which takes long for a large one.
    pub(super) fn close(&self, file: impl Send + 'static) {
        self.io.spawn_blocking(move || drop(file));
    }
}
