//! What clients have received, beside what the ledger says of it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use penstock_actors::{
    ids::ReceiptId,
    model::{Credit, LostLease, NodeEpoch, Outcome, WindowKind},
    testkit::model_ledger::ModelLedger,
};

/// What clients have received, and which epochs are excused.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    /// By receipt, and by the hour in which the stream began.
    received: BTreeMap<(ReceiptId, Timestamp), Credit>,
    /// The epochs of processes that crashed, or did not close theirs.
    crashed: BTreeSet<i64>,
    /// The credit of leases that were released without their rows.
    given_away: Credit,
}

impl Accounts {
    pub(crate) fn receives(&mut self, id: ReceiptId, began_at: Timestamp, credit: Credit) {
        *self.received.entry((id, WindowKind::Hour.window(began_at).start)).or_default() += credit;
    }

    pub(crate) fn crashes(&mut self, epochs: impl IntoIterator<Item = i64>) {
        self.crashed.extend(epochs);
    }

    pub(crate) fn gives_away(&mut self, credit: Credit) {
        self.given_away += credit;
    }

    /// # Panics
    /// When a limit is passed, when windows differ from their rows and leases, or when a client has received more than that.
    pub(crate) fn check(&self, ledger: &ModelLedger) {
        ledger.check_within(self.given_away);
        for (&(id, hour), &received) in &self.received {
            let (used, reserved) = ledger.hour(id, hour);
            let covered = used + reserved + self.given_away;
            assert!(
                covered.covers(received),
                "clients of the hour {hour} have received {received:?}: more than {used:?} used and {reserved:?} reserved"
            );
        }
    }

    /// After clean stops.
    ///
    /// # Panics
    /// When credit is reserved, when a charge has no crash, or when rows and clients differ.
    pub(crate) fn check_at_rest(&self, ledger: &ModelLedger, mode: LostLease) {
        self.check(ledger);
        assert_eq!(ledger.holders(), [], "nothing is reserved after clean stops");
        let charges = ledger.charges();
        assert!(mode == LostLease::Charge || charges.is_empty(), "lost leases are released, not charged: {charges:?}");
        let lived_on: Vec<&(NodeEpoch, Credit)> =
            charges.iter().filter(|(epoch, _)| !self.crashed.contains(&epoch.epoch)).collect();
        assert!(lived_on.is_empty(), "only a crash is charged, not {lived_on:?}");
        let mut settled = BTreeMap::<(ReceiptId, Timestamp), Credit>::new();
        for row in ledger.rows() {
            assert_ne!(row.outcome, Outcome::LostLease, "the model keeps charges beside its rows");
            let key = (row.receipt_id, WindowKind::Hour.window(row.started_at).start);
            *settled.entry(key).or_default() += row.credit();
        }
        for (key, &rows) in &settled {
            let received = self.received.get(key).copied().unwrap_or_default();
            assert!(received.covers(rows), "rows of {rows:?} charge more than the {received:?} that clients received");
        }
        if self.crashed.is_empty() {
            let received: BTreeMap<_, _> = self.received.clone();
            assert_eq!(settled, received, "without a crash, the rows are what clients received");
        }
    }
}
