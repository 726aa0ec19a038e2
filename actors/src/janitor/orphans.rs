//! Blobs that the storage index does not know, and the trash that they go to.
//!
//! An index that lacks a blob may be the wrong one, or an older one that was restored. So nothing is removed at once: a blob that the
//! index does not know goes to the trash, where it stays for `trash_ttl`, and comes back when the index knows it again. And no more
//! than a share of what is looked at goes there without an operator's word, nor anything that is older than the index itself.

use jiff::Timestamp;

use super::{JanitorDeps, JanitorSettings, PAUSE, PassReport, STEPS_PER_PASS};
use crate::{
    clock::before,
    ids::ContentHash,
    ports::{ListedBlob, PortResult},
};

/// Blobs of one step that may go to the trash however few there are: a small store has few blobs, and an upload that broke off
/// leaves one.
const FEW: usize = 10;

/// How far the work on orphans has come: a pass is bounded, so passes that all began at the first blob would never see the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    orphans: Option<ContentHash>,
    trash: Option<ContentHash>,
    /// As many were told of as being left alone.
    held: u64,
}

/// What is done about blobs that the index does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// They go to the trash, within the bounds.
    Bounded,
    /// They go to the trash, all of them: an operator has said so.
    Confirmed,
    /// They are counted.
    Counted,
}

/// Takes orphans out of sight, looks them up once more, and only then puts them into the trash. An upload announces its content
/// before its blob becomes visible, so one that arrives in between brings the blob back.
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
        let page = deps.blobs.list(round.orphans, settings.temporary_age, step).await?;
        let hashes: Vec<_> = page.iter().map(|blob| blob.hash).collect();
        let unknown = deps.catalog.unknown_content(&hashes).await?;
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
        // After a page that is not full comes the first one again.
        round.orphans = hashes.last().copied().filter(|_| page.len() == step);
        if round.orphans.is_none() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    tell_of_held(round, report.orphans_held);
    Ok(())
}

/// Since when the index is there, in whole seconds: object storage tells ages no finer, and what came in its first second is no older
/// than the index.
async fn index_since(deps: &JanitorDeps) -> PortResult<Timestamp> {
    let made = deps.installations.installation().await?.created_at;
    Ok(Timestamp::from_second(made.as_second()).unwrap_or(made))
}

/// Of so many blobs, those that may go to the trash without a word.
fn most(looked_at: usize, share: f64) -> usize {
    // Truncated: a share of a blob is none.
    ((looked_at as f64 * share) as usize).max(FEW)
}

async fn discard(deps: &JanitorDeps, hash: ContentHash) -> PortResult<bool> {
    if !deps.blobs.retire(hash).await? {
        return Ok(false);
    }
    match deps.catalog.unknown_content(&[hash]).await {
        Ok(unknown) if !unknown.is_empty() => {
            deps.blobs.discard(hash).await?;
            tracing::info!(content_hash = %hash, "a blob that the index does not know went to the trash");
            Ok(true)
        }
        known => {
            // Also when nobody can tell: an upload may have made it visible a moment ago.
            deps.blobs.restore(hash).await?;
            known.map(|_| false)
        }
    }
}

/// Says once that blobs are left alone, and again when their number changes.
fn tell_of_held(round: &mut Round, held: u64) {
    if held != round.held && held > 0 {
        tracing::warn!(
            blobs = held,
            "the index does not know these blobs, but they are too many, or older than the index: they are left alone. If the database \
             is the right one, `penstock sweep --dry-run` counts them, and `penstock sweep --confirm` puts them into the trash"
        );
    }
    round.held = held;
}

/// Brings back what the index knows by now, and removes for good what was in the trash for long enough.
pub(super) async fn look_through_trash(
    deps: &JanitorDeps,
    settings: &JanitorSettings,
    round: &mut Round,
    now: Timestamp,
    report: &mut PassReport,
) -> PortResult<()> {
    let index_since = index_since(deps).await?;
    let (step, old) = (settings.step as usize, before(now, settings.trash_ttl));
    for _ in 0..STEPS_PER_PASS {
        let page = deps.blobs.trashed(round.trash, step).await?;
        let hashes: Vec<_> = page.iter().map(|blob| blob.hash).collect();
        let unknown = deps.catalog.unknown_content(&hashes).await?;
        for blob in &page {
            let hash = blob.hash;
            if !unknown.contains(&hash) && deps.blobs.recover(hash).await? {
                tracing::warn!(content_hash = %hash, "the index knows a blob that was in the trash: it is back");
                report.trash_recovered += 1;
            } else if blob.since <= old && blob.since >= index_since {
                // Unknown, or in sight as well.
                let bytes = deps.blobs.purge(hash).await?;
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
