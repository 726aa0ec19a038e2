//! Messages about changes: to this instance before the answer, so that the client that made the change sees it with the
//! next call, and to the others over the invalidation bus. That message may get lost: the others also read the change
//! log.

use std::sync::Arc;

use penstock_actors::ports::{Changes, InvalidationBus, PortResult, Tag};

/// Announces changes.
pub struct ChangePublisher {
    local: Box<dyn Fn(&Tag) + Send + Sync>,
    bus: Arc<dyn InvalidationBus>,
    changes: Arc<dyn Changes>,
}

impl ChangePublisher {
    /// `here` drops the entries that this instance holds; it must not block.
    pub fn new(
        bus: Arc<dyn InvalidationBus>,
        changes: Arc<dyn Changes>,
        local: impl Fn(&Tag) + Send + Sync + 'static,
    ) -> Self {
        Self { local: Box::new(local), bus, changes }
    }

    /// Announces changes that an operator names, of which the database has no record.
    ///
    /// # Errors
    /// When they were not written to the change log: other instances might never see them.
    pub async fn tell(&self, tags: &[Tag]) -> PortResult<()> {
        self.changes.note_changes(tags).await?;
        self.hint(tags).await;
        Ok(())
    }

    /// Announces a change that was committed, and so is in the change log.
    pub async fn publish(&self, tag: Tag) {
        self.hint(&[tag]).await;
    }

    async fn hint(&self, tags: &[Tag]) {
        tags.iter().for_each(&self.local);
        if let Err(error) = self.bus.invalidate(tags).await {
            tracing::debug!(%error, "the shared state did not take an announcement; other instances read the change from the change log");
        }
    }
}
