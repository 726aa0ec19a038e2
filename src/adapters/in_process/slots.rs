//! Stream slots: which streams run under which receipt.

use std::{collections::HashMap, time::Instant};

use penstock_actors::{
    ids::{ReceiptId, UsageId},
    model::SessionMark,
    ports::{SlotGrant, StreamSlot},
};

/// With fewer receipts than this, expired slots are not pruned: a pass is not worth it.
const PRUNE_FROM: usize = 1024;

/// The slots of all receipts. A receipt has few slots (a policy's concurrent streams), so a list is the fastest to
/// search.
#[derive(Debug, Default)]
pub(in crate::adapters) struct Slots {
    by_receipt: HashMap<ReceiptId, Vec<HeldSlot>>,
    prune_at: usize,
}

#[derive(Debug)]
struct HeldSlot {
    stream: UsageId,
    session: SessionMark,
    expires: Instant,
}

impl Slots {
    /// Takes a slot until `expires`. A stream that holds one keeps it, so that the call may be repeated.
    pub(in crate::adapters) fn take(
        &mut self,
        slot: &StreamSlot,
        limit: u32,
        now: Instant,
        expires: Instant,
    ) -> SlotGrant {
        self.prune(now);
        let &StreamSlot { receipt, stream, session } = slot;
        let slots = self.by_receipt.entry(receipt).or_default();
        slots.retain(|held| held.expires > now);
        if let Some(held) = slots.iter_mut().find(|held| held.stream == stream) {
            held.expires = expires;
            return SlotGrant::Taken;
        }
        if slots.len() >= limit as usize {
            let of_session = slots.iter().filter(|held| held.session == session);
            let same_session = of_session.map(|held| held.stream).min();
            let active = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            if slots.is_empty() {
                self.by_receipt.remove(&receipt);
            }
            return SlotGrant::Full { active, same_session };
        }
        slots.push(HeldSlot { stream, session, expires });
        SlotGrant::Taken
    }

    /// Keeps a slot until `expires`. An expired slot is not restored: another stream may hold it now.
    pub(in crate::adapters) fn refresh(&mut self, slot: &StreamSlot, now: Instant, expires: Instant) {
        let slots = self.by_receipt.get_mut(&slot.receipt).into_iter().flatten();
        for held in slots.filter(|held| held.stream == slot.stream && held.expires > now) {
            held.expires = expires;
        }
    }

    pub(in crate::adapters) fn release(&mut self, slot: &StreamSlot) {
        if let Some(slots) = self.by_receipt.get_mut(&slot.receipt) {
            slots.retain(|held| held.stream != slot.stream);
            if slots.is_empty() {
                self.by_receipt.remove(&slot.receipt);
            }
        }
    }

    /// Whether a stream holds a slot that has not expired.
    pub(in crate::adapters) fn holds(&self, slot: &StreamSlot, now: Instant) -> bool {
        let mut slots = self.by_receipt.get(&slot.receipt).into_iter().flatten();
        slots.any(|held| held.stream == slot.stream && held.expires > now)
    }

    /// Every slot that has not expired.
    pub(in crate::adapters) fn all(&self, now: Instant) -> impl Iterator<Item = StreamSlot> + '_ {
        self.by_receipt.iter().flat_map(move |(&receipt, slots)| {
            let slots = slots.iter().filter(move |held| held.expires > now);
            slots.map(move |held| StreamSlot { receipt, stream: held.stream, session: held.session })
        })
    }

    pub(in crate::adapters) fn count(&self, receipt: ReceiptId, now: Instant) -> u32 {
        self.by_receipt.get(&receipt).map_or(0, |slots| {
            u32::try_from(slots.iter().filter(|held| held.expires > now).count()).unwrap_or(u32::MAX)
        })
    }

    /// Drops expired slots once the number of receipts has doubled since the last time: amortized constant work per
    /// call.
    fn prune(&mut self, now: Instant) {
        if self.by_receipt.len() < self.prune_at.max(PRUNE_FROM) {
            return;
        }
        self.by_receipt.retain(|_, slots| {
            slots.retain(|held| held.expires > now);
            !slots.is_empty()
        });
        self.prune_at = self.by_receipt.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn slot() -> StreamSlot {
        StreamSlot { receipt: ReceiptId::random(), stream: UsageId::next(), session: SessionMark::from_bytes([7; 16]) }
    }

    #[test]
    fn slots_that_were_never_released_do_not_accumulate() {
        let (mut slots, start) = (Slots::default(), Instant::now());
        for second in 0..20_000 {
            let now = start + Duration::from_secs(second);
            slots.take(&slot(), 1, now, now + Duration::from_secs(10));
            assert!(slots.by_receipt.len() <= PRUNE_FROM);
        }
    }

    #[test]
    fn a_receipt_without_streams_takes_no_room() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        let slot = slot();
        assert_eq!(slots.take(&slot, 0, now, now), SlotGrant::Full { active: 0, same_session: None });
        assert!(slots.by_receipt.is_empty());
        slots.take(&slot, 1, now, now + Duration::from_secs(1));
        slots.release(&slot);
        assert!(slots.by_receipt.is_empty());
    }
}
