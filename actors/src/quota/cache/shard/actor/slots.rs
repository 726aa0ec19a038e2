//! The stream slots of a shard's streams, and how a newer stream of a session takes the slot of an older one.
//!
//! A player that seeks opens a second connection before it closes the first. So when a receipt has no free slot, and one of
//! its streams belongs to the session of the new one, that older stream ends: its connection is cut, it is charged for what it
//! has sent, and its slot is free. Whichever instance has the older stream learns of it through the bus; the new stream waits
//! until the slot is free, so a receipt never has more streams than its policy allows. Of two new streams of a session that
//! wait at once, the newer one gets the slot.
//!
//! **Bound.** A stream waits for [`PATIENCE`]. If the message is lost, or the older stream's instance is dead, the new stream is
//! refused as if it belonged to another session.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    ids::UsageId,
    ports::{InvalidationBus, PortResult, SlotGrant, StreamSlot, StreamSlots, Tag},
    quota::revocation::Revocation,
};

/// How long a stream waits for the slot of an older one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pauses between two requests for the slot: at first, when this instance has the older stream, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// Slots that this shard's streams hold, and what tells each stream that it has lost its slot.
#[derive(Default)]
pub(super) struct HeldSlots(HashMap<UsageId, (StreamSlot, Arc<Revocation>)>);

impl HeldSlots {
    pub(super) fn hold(&mut self, slot: StreamSlot) -> Arc<Revocation> {
        let lost = Arc::new(Revocation::default());
        self.0.insert(slot.stream, (slot, Arc::clone(&lost)));
        lost
    }

    pub(super) fn free(&mut self, stream: UsageId) -> Option<StreamSlot> {
        self.0.remove(&stream).map(|(slot, _)| slot)
    }

    /// Ends a stream, if this shard has it.
    pub(super) fn take_away(&self, stream: UsageId) -> bool {
        self.0.get(&stream).inspect(|(_, lost)| lost.raise()).is_some()
    }

    pub(super) fn all(&self) -> Vec<StreamSlot> {
        self.0.values().map(|(slot, _)| *slot).collect()
    }
}

/// A stream's request for a slot.
pub(super) struct SlotRequest {
    pub(super) slots: Arc<dyn StreamSlots>,
    pub(super) bus: Arc<dyn InvalidationBus>,
    pub(super) slot: StreamSlot,
    pub(super) limit: u32,
    pub(super) ttl: Duration,
}

impl SlotRequest {
    /// Takes a slot, if necessary that of an older stream of the same session.
    pub(super) async fn take(self) -> PortResult<SlotGrant> {
        let begun = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut is_first = true;
        loop {
            let grant = self.slots.take_slot(&self.slot, self.limit, self.ttl).await?;
            let SlotGrant::Full { same_session: Some(holder), .. } = grant else { return Ok(grant) };
            // A stream that was there before this one asked is older, whatever the clock says that made its id.
            let is_older = is_first || holder < self.slot.stream;
            if !is_older || begun.elapsed() >= PATIENCE {
                return Ok(grant);
            }
            if let Err(error) = self.bus.invalidate(&[Tag::EndStream(holder)]).await {
                tracing::debug!(%error, "other instances were not told to end an older stream of a session; this node tells them again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            is_first = false;
        }
    }
}
