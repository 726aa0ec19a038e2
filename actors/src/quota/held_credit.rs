//! The credit that this node holds according to the ledger's answers: granted, and neither spent nor given back.
//!
//! The ledger has its own count. When no statement is under way between the two, they must agree. Credit that only the
//! ledger counts belongs to leases that no node knows of ([`Heartbeat`](crate::quota::heartbeat) compares the two).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::Credit;

#[derive(Debug, Default)]
struct CreditCounts {
    epoch: i64,
    held: Credit,
    /// Statements that change leases and are not answered yet.
    under_way: u64,
    /// Statements sent so far.
    sent: u64,
}

/// The credit of one node. Its lock is held for one addition.
#[derive(Debug, Default)]
pub struct HeldCredit(Mutex<CreditCounts>);

/// The credit held at a moment when no statement was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtRest {
    pub(crate) held: Credit,
    sent: u64,
}

impl HeldCredit {
    fn books(&self) -> MutexGuard<'_, CreditCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a statement that changes leases, before it is sent.
    pub(crate) fn asks(&self) {
        let mut books = self.books();
        books.under_way += 1;
        books.sent += 1;
    }

    /// Counts a statement as done: its effect is known, or it was never sent.
    pub(crate) fn knows(&self) {
        let mut books = self.books();
        books.under_way = books.under_way.saturating_sub(1);
    }

    pub(crate) fn granted(&self, epoch: i64, credit: Credit) {
        let mut books = self.books();
        if books.epoch == epoch {
            books.held += credit;
        }
    }

    pub(crate) fn returned(&self, epoch: i64, credit: Credit) {
        let mut books = self.books();
        if books.epoch == epoch {
            books.held = books.held - credit.min(books.held);
        }
    }

    /// A new epoch holds nothing.
    pub(crate) fn begin(&self, epoch: i64) {
        let mut books = self.books();
        books.epoch = epoch;
        books.held = Credit::ZERO;
    }

    /// The credit held, if no statement is under way. Two equal values mean that no statement ran in between.
    pub(crate) fn at_rest(&self) -> Option<AtRest> {
        let books = self.books();
        (books.under_way == 0).then_some(AtRest { held: books.held, sent: books.sent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_at_rest_when_all_that_was_sent_is_answered() {
        let held = HeldCredit::default();
        held.begin(7);
        let before = held.at_rest();
        held.asks();
        assert_eq!(held.at_rest(), None);
        held.granted(7, Credit::new(10, 1));
        held.granted(6, Credit::new(10, 1));
        held.knows();
        let after = held.at_rest().expect("at rest");
        assert_eq!(after.held, Credit::new(10, 1), "an epoch that is over holds nothing");
        assert_ne!(before, Some(after));
        held.asks();
        held.knows();
        assert_ne!(held.at_rest(), Some(after), "a statement ran in between, though the credit is the same");
        held.returned(7, Credit::new(4, 0));
        assert_eq!(held.at_rest().expect("at rest").held, Credit::new(6, 1));
        held.begin(8);
        assert_eq!(held.at_rest().expect("at rest").held, Credit::ZERO);
    }
}
