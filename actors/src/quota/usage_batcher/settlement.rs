//! The settlement of one batch: repeated until the ledger has answered, and what becomes of a row that the ledger can never take.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::UsageCounters;
use crate::ports::{Ledger, PortError, PortResult, SettleBatch};

/// The first delay between retries of a batch; delays double up to the longest. Short enough that usage is settled a
/// moment after the ledger is back, and long enough not to overload one that struggles.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The outcome of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SettleOutcome {
    Settled,
    /// It was one row that can never be settled.
    SetAside,
}

/// Settles a batch. If the ledger rejects a batch of one row, that row is set aside.
pub(super) async fn take(
    ledger: Arc<dyn Ledger>,
    batch: SettleBatch,
    counters: Arc<UsageCounters>,
) -> PortResult<SettleOutcome> {
    let rows = batch.rows.len();
    let rejected = match until_answered(|| ledger.settle(&batch), rows, &counters).await {
        Ok(_) => return Ok(SettleOutcome::Settled),
        Err(error) => error,
    };
    let ([row], []) = (batch.rows.as_slice(), batch.releases.as_slice()) else { return Err(rejected) };
    let reason = rejected.to_string();
    tracing::error!(error = %rejected, ?row, "the ledger can never take this usage; it is set aside (penstock usage rejected)");
    until_answered(|| ledger.set_aside(batch.node.node, row, &reason), rows, &counters).await?;
    Ok(SettleOutcome::SetAside)
}

/// Repeats a call until the ledger has answered it or rejected it for ever.
async fn until_answered<T, F>(call: impl Fn() -> F, rows: usize, counters: &UsageCounters) -> PortResult<T>
where
    F: Future<Output = PortResult<T>>,
{
    let mut waits = backoff();
    loop {
        match call().await {
            Err(error) if !matches!(error, PortError::Rejected { .. }) => {
                counters.retries.fetch_add(1, Relaxed);
                // Jitter is added on top of the longest delay.
                let wait = waits.next().unwrap_or(LONGEST_RETRY).min(LONGEST_RETRY);
                tracing::warn!(%error, rows, ?wait, "usage could not be settled; it stays in memory, and this node tries again");
                tokio::time::sleep(wait).await;
            }
            answer => return answer,
        }
    }
}

fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(FIRST_RETRY).with_max_delay(LONGEST_RETRY);
    builder.with_jitter().without_max_times().build()
}
