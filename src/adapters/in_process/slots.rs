//! Stream slots: which streams run under which receipt.

use std::{collections::HashMap, time::Instant};

use penstock_actors::{
    ids::{ReceiptId, UsageId},
    ports::SlotGrant,
};

/// With fewer receipts than this, expired slots are not pruned: a pass is not worth it.
const PRUNE_FROM: usize = 1024;

/// The slots of all receipts. A receipt has few slots (a policy's concurrent streams), so a list is the fastest to
/// search.
#[derive(Debug, Default)]
pub(in crate::adapters) struct Slots {
    by_receipt: HashMap<ReceiptId, Vec<(UsageId, Instant)>>,
    prune_at: usize,
}

impl Slots {
    /// Takes a slot until `expires`. A stream that holds one keeps it, so that the call may be repeated.
    pub(in crate::adapters) fn take(
        &mut self,
        receipt: ReceiptId,
        stream: UsageId,
        limit: u32,
        now: Instant,
        expires: Instant,
    ) -> SlotGrant {
        self.prune(now);
        let slots = self.by_receipt.entry(receipt).or_default();
        slots.retain(|&(_, expires)| expires > now);
        if let Some(held) = slots.iter_mut().find(|(holder, _)| *holder == stream) {
            held.1 = expires;
            return SlotGrant::Taken;
        }
        if slots.len() >= limit as usize {
            let running = count(slots);
            if slots.is_empty() {
                self.by_receipt.remove(&receipt);
            }
            return SlotGrant::Full(running);
        }
        slots.push((stream, expires));
        SlotGrant::Taken
    }

    /// Keeps a slot until `expires`. An expired slot is not restored: another stream may hold it now.
    pub(in crate::adapters) fn refresh(&mut self, receipt: ReceiptId, stream: UsageId, now: Instant, expires: Instant) {
        let slots = self.by_receipt.get_mut(&receipt).into_iter().flatten();
        for (_, until) in slots.filter(|(holder, until)| *holder == stream && *until > now) {
            *until = expires;
        }
    }

    pub(in crate::adapters) fn release(&mut self, receipt: ReceiptId, stream: UsageId) {
        if let Some(slots) = self.by_receipt.get_mut(&receipt) {
            slots.retain(|(holder, _)| *holder != stream);
            if slots.is_empty() {
                self.by_receipt.remove(&receipt);
            }
        }
    }

    /// Whether a stream holds a slot that has not expired.
    pub(in crate::adapters) fn holds(&self, receipt: ReceiptId, stream: UsageId, now: Instant) -> bool {
        let slots = self.by_receipt.get(&receipt).into_iter().flatten();
        slots.into_iter().any(|&(holder, expires)| holder == stream && expires > now)
    }

    /// Every slot that has not expired.
    pub(in crate::adapters) fn all(&self, now: Instant) -> impl Iterator<Item = (ReceiptId, UsageId)> + '_ {
        self.by_receipt.iter().flat_map(move |(&receipt, slots)| {
            slots.iter().filter(move |(_, expires)| *expires > now).map(move |&(stream, _)| (receipt, stream))
        })
    }

    pub(in crate::adapters) fn count(&self, receipt: ReceiptId, now: Instant) -> u32 {
        self.by_receipt.get(&receipt).map_or(0, |slots| {
            u32::try_from(slots.iter().filter(|(_, expires)| *expires > now).count()).unwrap_or(u32::MAX)
        })
    }

    /// Drops expired slots once the number of receipts has doubled since the last time: amortized constant work per
    /// call.
    fn prune(&mut self, now: Instant) {
        if self.by_receipt.len() < self.prune_at.max(PRUNE_FROM) {
            return;
        }
        self.by_receipt.retain(|_, slots| {
            slots.retain(|&(_, expires)| expires > now);
            !slots.is_empty()
        });
        self.prune_at = self.by_receipt.len() * 2;
    }
}

fn count(slots: &[(UsageId, Instant)]) -> u32 {
    u32::try_from(slots.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn slots_that_were_never_released_do_not_accumulate() {
        let (mut slots, start) = (Slots::default(), Instant::now());
        for second in 0..20_000 {
            let now = start + Duration::from_secs(second);
            slots.take(ReceiptId::random(), UsageId::next(), 1, now, now + Duration::from_secs(10));
            assert!(slots.by_receipt.len() <= PRUNE_FROM);
        }
    }

    #[test]
    fn a_receipt_without_streams_takes_no_room() {
        let (mut slots, now) = (Slots::default(), Instant::now());
        let (receipt, stream) = (ReceiptId::random(), UsageId::next());
        assert_eq!(slots.take(receipt, stream, 0, now, now), SlotGrant::Full(0));
        assert!(slots.by_receipt.is_empty());
        slots.take(receipt, stream, 1, now, now + Duration::from_secs(1));
        slots.release(receipt, stream);
        assert!(slots.by_receipt.is_empty());
    }
}
