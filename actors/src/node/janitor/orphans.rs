//! Orphans: blobs unknown to the storage index, and the trash that they go to.
//!
//! An index that lacks a blob may be the wrong index, or an older one that was restored. So nothing is removed at once.
//! A blob unknown to the index goes to the trash, stays there for `trash_ttl`, and comes back if the index knows it
//! again. Without an operator's confirmation, only a share of the listed blobs goes there, and no blob that is older
//! than the index itself.

use jiff::Timestamp;

use super::{JanitorDeps, JanitorSettings, PAUSE, PassReport, STEPS_PER_PASS, troubles::Troubles};
use crate::{
    clock::before,
    ids::ContentHash,
    ports::{ListedBlob, PortResult},
};

/// The number of blobs of one step that may go to the trash in any case: a small store has few blobs, and an upload
/// that broke off leaves one.
const FEW: usize = 10;

/// The state that one pass leaves to the next: progress through the blobs, because a pass is bounded, so passes that all began at
/// the first blob would never reach the last; and the steps that fail.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    orphans: Option<ContentHash>,
    trash: Option<ContentHash>,
    /// The number last logged as left alone.
    held: u64,
    /// Steps that failed in the last pass.
    pub(super) troubles: Troubles,
}

/// How to treat blobs unknown to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// Move them to the trash, within the bounds.
    Bounded,
    /// Move all of them to the trash: an operator has confirmed it.
    Confirmed,
    /// Only count them.
    Counted,
}

/// Hides orphans, looks them up once more, and only then moves them to the trash. An upload announces its content
/// before its blob becomes visible, so a blob that is uploaded in between is restored.
pub(super) async fn collect(
    deps: &JanitorDeps,
    settings: &JanitorSettings,
    round: &mut Round,
    how: Orphans,
    report: &mut PassReport,
) -> PortResult<()> {
    let index_since = index_since(deps).await?;
    let step = settings.step as usize;
    for _ in 0..STEPS_PER_PASS {
        let page = deps.trash.list(round.orphans, settings.temporary_age, step).await?;
        let hashes: Vec<_> = page.iter().map(|blob| blob.hash).collect();
        let unknown = deps.index.unknown_content(&hashes).await?;
        let is_younger = |blob: &&ListedBlob| blob.since >= index_since && unknown.contains(&blob.hash);
        let all = unknown.len() as u64;
        let taken: Vec<_> = match how {
            Orphans::Counted | Orphans::Confirmed => unknown,
            Orphans::Bounded if unknown.len() > most(page.len(), settings.orphan_share) => Vec::new(),
            Orphans::Bounded => page.iter().filter(is_younger).map(|blob| blob.hash).collect(),
        };
        report.orphans_held += all - taken.len() as u64;
        for hash in taken {
            report.orphans_trashed += u64::from(how == Orphans::Counted || discard(deps, hash).await?);
        }
        // A page that is not full is the last: start again at the first.
        round.orphans = hashes.last().copied().filter(|_| page.len() == step);
        if round.orphans.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    report_held(round, report.orphans_held);
    Ok(())
}

/// When the index was made, in whole seconds: object storage reports ages no finer. A blob of the index's first second
/// does not count as older than the index.
async fn index_since(deps: &JanitorDeps) -> PortResult<Timestamp> {
    let made = deps.installations.installation().await?.created_at;
    Ok(Timestamp::from_second(made.as_second()).unwrap_or(made))
}

/// How many of these blobs may go to the trash without confirmation.
fn most(looked_at: usize, share: f64) -> usize {
    // Truncated: part of a blob counts as none.
    ((looked_at as f64 * share) as usize).max(FEW)
}

async fn discard(deps: &JanitorDeps, hash: ContentHash) -> PortResult<bool> {
    if !deps.trash.retire(hash).await? {
        return Ok(false);
    }
    match deps.index.unknown_content(&[hash]).await {
        Ok(unknown) if !unknown.is_empty() => {
            deps.trash.discard(hash).await?;
            tracing::info!(content_hash = %hash, "the index does not know this blob; it was moved to the trash");
            Ok(true)
        }
        known => {
            // Restore also when the index does not answer: an upload may have made the blob visible a moment ago.
            deps.trash.restore(hash).await?;
            known.map(|_| false)
        }
    }
}

/// Logs once that blobs are left alone, and again when their number changes.
fn report_held(round: &mut Round, held: u64) {
    if held != round.held && held > 0 {
        tracing::warn!(
            blobs = held,
            "the index does not know these blobs, but they are too many, or older than the index: this node leaves them alone. If the database \
             is the right one, `penstock sweep --dry-run` counts them, and `penstock sweep --confirm` moves them to the trash"
        );
    }
    round.held = held;
}

/// Restores blobs that the index knows by now, and removes for good those that were in the trash for long enough.
pub(super) async fn scan_trash(
    deps: &JanitorDeps,
    settings: &JanitorSettings,
    round: &mut Round,
    now: Timestamp,
    report: &mut PassReport,
) -> PortResult<()> {
    let index_since = index_since(deps).await?;
    let (step, old) = (settings.step as usize, before(now, settings.trash_ttl));
    for _ in 0..STEPS_PER_PASS {
        let page = deps.trash.trashed(round.trash, step).await?;
        let hashes: Vec<_> = page.iter().map(|blob| blob.hash).collect();
        let unknown = deps.index.unknown_content(&hashes).await?;
        for blob in &page {
            let hash = blob.hash;
            if !unknown.contains(&hash) && deps.trash.recover(hash).await? {
                tracing::warn!(content_hash = %hash, "the index knows this blob, which was in the trash; it was restored");
                report.trash_recovered += 1;
            } else if blob.since <= old && blob.since >= index_since {
                // Still unknown, or a visible blob exists as well.
                let bytes = deps.trash.purge(hash).await?;
                tracing::info!(content_hash = %hash, bytes, "a blob was removed from the trash for good");
                report.trash_removed += 1;
                report.trash_removed_bytes += bytes;
            }
        }
        round.trash = hashes.last().copied().filter(|_| page.len() == step);
        if round.trash.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_less_than_a_few() {
        assert_eq!([0, 5, 99, 100, 500].map(|looked_at| most(looked_at, 0.1)), [10, 10, 10, 10, 50]);
        assert_eq!((most(500, 1.0), most(500, 0.0)), (500, FEW));
    }
}
