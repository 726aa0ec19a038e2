//! The work of this node's epochs: which of them may still bring usage.
//!
//! An epoch that the ledger fenced was charged for its lost leases. Once its last stream has ended and its last row is in the
//! ledger, the node ends it there, and the rest of the charge is taken back (see [`heartbeat`](crate::quota::heartbeat)). A
//! stream holds an [`EpochWork`] from its admission until its row is durably in the ledger.
//!
//! **Bound.** One number for each fenced epoch that is not ended yet, at most [`FENCED_AT_MOST`]. A node is fenced at most once
//! in the validity of a lease. Epochs of earlier processes count among them, until what the spool has of them is settled.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Notify;

/// Fenced epochs that are remembered. More of them only come together while streams do not end for hours.
const FENCED_AT_MOST: usize = 64;

/// Shared by all work of an epoch. It tells the heartbeat when the last of it is done.
#[derive(Debug)]
struct EpochTag(Arc<Notify>);

impl Drop for EpochTag {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A stream that was admitted under an epoch and whose usage is not in the ledger yet.
#[derive(Debug)]
pub struct EpochWork(Arc<EpochTag>);

impl EpochWork {
    /// Keeps the epoch from being ended, because usage of it is lost: its lease stays charged.
    pub(crate) fn lose(self) {
        std::mem::forget(self.0);
    }
}

#[derive(Debug)]
struct EpochList {
    current: (i64, Arc<EpochTag>),
    /// The oldest first.
    fenced: VecDeque<(i64, Weak<EpochTag>)>,
}

impl EpochList {
    /// Keeps a fenced epoch, to be ended when its work is done.
    fn remember(&mut self, epoch: i64, tag: &Arc<EpochTag>) {
        self.fenced.push_back((epoch, Arc::downgrade(tag)));
        if self.fenced.len() > FENCED_AT_MOST
            && let Some((epoch, _)) = self.fenced.pop_front()
        {
            tracing::warn!(epoch, "too many fenced epochs have unsettled streams; the leases of this one stay charged");
        }
    }
}

/// The epochs of one node.
#[derive(Debug)]
pub(crate) struct EpochWorks {
    list: Mutex<EpochList>,
    done: Arc<Notify>,
}

impl EpochWorks {
    pub(crate) fn new(epoch: i64) -> Self {
        let done = Arc::new(Notify::new());
        let current = (epoch, Arc::new(EpochTag(Arc::clone(&done))));
        Self { list: Mutex::new(EpochList { current, fenced: VecDeque::new() }), done }
    }

    fn list(&self) -> MutexGuard<'_, EpochList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers work of an epoch. It may be that of a moment ago.
    pub(crate) fn begin_work(&self, epoch: i64) -> EpochWork {
        let mut list = self.list();
        if list.current.0 == epoch {
            return EpochWork(Arc::clone(&list.current.1));
        }
        let known = list.fenced.iter_mut().find(|(fenced, _)| *fenced == epoch);
        if let Some(tag) = known.as_ref().and_then(|(_, tag)| tag.upgrade()) {
            return EpochWork(tag);
        }
        let tag = Arc::new(EpochTag(Arc::clone(&self.done)));
        if let Some((_, weak)) = known {
            *weak = Arc::downgrade(&tag);
        }
        EpochWork(tag)
    }

    /// Begins an epoch. `fenced` says that the ledger fenced the one before, which is to be ended when its work is done.
    pub(crate) fn begin_epoch(&self, epoch: i64, fenced: bool) {
        let mut list = self.list();
        let (before, tag) = std::mem::replace(&mut list.current, (epoch, Arc::new(EpochTag(Arc::clone(&self.done)))));
        if fenced {
            list.remember(before, &tag);
        }
    }

    /// Takes up an epoch of an earlier process, to be ended once its work is done; returns the first work of it.
    pub(crate) fn adopt(&self, epoch: i64) -> EpochWork {
        let tag = Arc::new(EpochTag(Arc::clone(&self.done)));
        self.list().remember(epoch, &tag);
        EpochWork(tag)
    }

    /// The fenced epochs whose work is done. None of them gets work any more, if all shards know of the present epoch.
    pub(crate) fn done(&self) -> Vec<i64> {
        self.list().fenced.iter().filter(|(_, tag)| tag.strong_count() == 0).map(|&(epoch, _)| epoch).collect()
    }

    pub(crate) fn has_fenced(&self) -> bool {
        !self.list().fenced.is_empty()
    }

    /// Forgets an epoch that the ledger has ended.
    pub(crate) fn ended(&self, epoch: i64) {
        self.list().fenced.retain(|(fenced, _)| *fenced != epoch);
    }

    /// Waits until the work of some epoch is done.
    pub(crate) async fn some_is_done(&self) {
        self.done.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_epoch_is_done_when_the_last_of_its_work_is() {
        let works = EpochWorks::new(1);
        let (first, second) = (works.begin_work(1), works.begin_work(1));
        works.begin_epoch(2, true);
        let late = works.begin_work(1);
        let current = works.begin_work(2);
        for work in [first, second, late] {
            assert!(works.done().is_empty());
            drop(work);
        }
        assert_eq!(works.done(), [1]);
        works.ended(1);
        assert!(works.done().is_empty() && !works.has_fenced());
        drop(current);
        assert!(works.done().is_empty(), "an epoch that goes on is never done");
    }

    #[test]
    fn a_fenced_epoch_without_work_is_done_at_once_and_an_unfenced_one_never() {
        let works = EpochWorks::new(1);
        works.begin_epoch(2, false);
        works.begin_epoch(3, true);
        assert_eq!(works.done(), [2]);
        let late = works.begin_work(2);
        assert!(works.done().is_empty(), "it was admitted a moment before the fence");
        late.lose();
        assert!(works.done().is_empty(), "its usage will never come, so the charge stays");
    }

    #[test]
    fn an_epoch_of_an_earlier_process_is_done_when_all_that_was_left_of_it_is_settled() {
        let works = EpochWorks::new(5);
        let first = works.adopt(3);
        let row = works.begin_work(3);
        drop(first);
        assert!(works.done().is_empty() && works.has_fenced());
        drop(row);
        assert_eq!(works.done(), [3]);
    }

    #[test]
    fn the_fenced_epochs_that_are_remembered_are_bounded() {
        let works = EpochWorks::new(0);
        for epoch in 1..1000 {
            works.begin_epoch(epoch, true);
        }
        assert_eq!(works.done().len(), FENCED_AT_MOST);
        assert!(works.done().contains(&998));
    }
}
