//! Word of a change: to this instance before its answer, so that whoever made the change sees it with the next call, and to
//! the others through the shared state. That message may get lost: the others also read the log of changes.

use std::sync::Arc;

use penstock_actors::ports::{Changes, PortResult, SharedState, Tag};

/// Tells what changed.
pub struct Announcer {
    here: Box<dyn Fn(&Tag) + Send + Sync>,
    shared: Arc<dyn SharedState>,
    changes: Arc<dyn Changes>,
}

impl Announcer {
    /// `here` drops what this instance holds; it must not block.
    pub fn new(
        shared: Arc<dyn SharedState>,
        changes: Arc<dyn Changes>,
        here: impl Fn(&Tag) + Send + Sync + 'static,
    ) -> Self {
        Self { here: Box::new(here), shared, changes }
    }

    /// Tells of changes that somebody asks to be told, although the database knows of none.
    ///
    /// # Errors
    /// When they did not get into the log of changes: other instances might never hear of them.
    pub async fn tell(&self, tags: &[Tag]) -> PortResult<()> {
        self.changes.note_changes(tags).await?;
        self.hint(tags).await;
        Ok(())
    }

    /// Tells of a change that was made already, and so stands in the log.
    pub async fn publish(&self, tag: Tag) {
        self.hint(&[tag]).await;
    }

    async fn hint(&self, tags: &[Tag]) {
        tags.iter().for_each(&self.here);
        if let Err(error) = self.shared.invalidate(tags).await {
            tracing::debug!(%error, "a change could not be announced; other instances read of it in the log");
        }
    }
}
