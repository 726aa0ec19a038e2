//! Word of a change: to this instance before its answer, so that whoever made the change sees it with the next call, and to
//! the others through the shared state.

use std::sync::Arc;

use penstock_actors::ports::{PortResult, SharedState, Tag};

/// Tells what changed.
pub struct Announcer {
    here: Box<dyn Fn(&Tag) + Send + Sync>,
    shared: Arc<dyn SharedState>,
}

impl Announcer {
    /// `here` drops what this instance holds; it must not block.
    pub fn new(shared: Arc<dyn SharedState>, here: impl Fn(&Tag) + Send + Sync + 'static) -> Self {
        Self { here: Box::new(here), shared }
    }

    /// Tells of changes that somebody asks to be told.
    ///
    /// # Errors
    /// When the other instances could not be told.
    pub async fn tell(&self, tags: &[Tag]) -> PortResult<()> {
        tags.iter().for_each(&self.here);
        self.shared.invalidate(tags).await
    }

    /// Tells of a change that was made already, so a failure does not fail the call: the others see it when what they hold
    /// grows old.
    pub async fn publish(&self, tag: Tag) {
        if let Err(error) = self.tell(&[tag]).await {
            tracing::warn!(%error, "a change could not be announced; other instances see it when their entries expire");
        }
    }
}
