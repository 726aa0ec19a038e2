//! What earlier processes of this node left in the usage spool is settled, and their epochs are ended.
//!
//! A row that was settled before the kill is in the ledger already, which takes it once. An epoch of which the spool provably knows
//! all usage is ended as after a clean stop: the rest of its leases is released, and a charge that another node made for them
//! meanwhile is taken back. Any other epoch stays fenced, and its leases are charged or released as those of a lost node.
//!
//! **Bound.** Each row holds a permit of the usage queue, like the row of a stream. What the spool holds is bounded by its size.

use std::{sync::Arc, time::Duration};

use crate::{
    model::Credit,
    ports::Leftover,
    quota::{
        epoch_work::EpochWork,
        node_epoch::NodeEpochState,
        spooled_row::SpooledRow,
        usage_batcher::{RowPermit, UsageHandle},
    },
};

/// Passes what is left on to the ledger. Needs an epoch that has sent its first heartbeat: the ledger would take an unknown epoch
/// that settles for one that has ended. Returns whether all of it is settled within `patience`; if it is not, the batcher goes on.
pub(crate) async fn replay(
    left: Leftover,
    usage: &UsageHandle,
    epoch_state: &NodeEpochState,
    patience: Duration,
) -> bool {
    let Leftover { rows, complete } = left;
    if rows.is_empty() && complete.is_empty() {
        return true;
    }
    let works = epoch_state.works();
    let unfinished: Vec<EpochWork> = complete.iter().map(|&epoch| works.adopt(epoch)).collect();
    let (streams, bytes) = (rows.len(), rows.iter().map(|(_, row)| row.bytes_sent).sum::<u64>());
    for (key, row) in rows {
        let queue = loop {
            match usage.admit_left(patience).await {
                Some(queue) => break queue,
                None => tracing::warn!(
                    "the usage queue is full; this node waits before it settles more of what its spool has"
                ),
            }
        };
        let epoch = row.lease_epoch.filter(|epoch| complete.contains(epoch)).map(|epoch| works.begin_work(epoch));
        let spooled = SpooledRow::left(Arc::clone(usage.spool()), key, &row);
        // This process holds no credit of that lease.
        usage.record(row, Credit::ZERO, RowPermit { queue, epoch, spooled });
    }
    drop(unfinished);
    let settled = usage.flush(patience).await;
    let epochs = complete.len();
    if settled {
        tracing::info!(streams, bytes, epochs, "the usage that the last process left in its spool is settled");
    } else {
        tracing::warn!(
            streams,
            bytes,
            epochs,
            "the usage that the last process left in its spool is not settled yet; this node tries again"
        );
    }
    settled
}
