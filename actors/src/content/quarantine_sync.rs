//! Keeps the list of quarantined content on this instance equal to the database's.
//!
//! [`Quarantine`] holds the list, and is told which content has changed. [`follow`] asks the database about that content, and
//! has the reader forget what it knew. **When the database does not answer**, the list stays as it was, and the database is
//! asked again after [`PAUSE`].
//!
//! [`Quarantine`]: crate::content::quarantine::Quarantine

use std::{collections::HashSet, sync::Arc, time::Duration};

use crate::{
    content::{quarantine::Heard, reader::ContentStore},
    ids::ContentHash,
    ports::{PortResult, QuarantineList},
};

/// The wait between two attempts to ask a database that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Follows reported changes for as long as the process lives. The open blob and the verification of a changed content are
/// forgotten before its readers go on: another copy may be the one to read, and the old verification says nothing about it.
pub async fn follow(content: ContentStore, list: Arc<dyn QuarantineList>) {
    let quarantine = content.quarantine().clone();
    loop {
        let Heard { hashes, anything } = quarantine.next_heard().await;
        while let Err(error) = learn(&content, &*list, &hashes, anything).await {
            tracing::debug!(%error, "the quarantine could not be read from the database; this node keeps its list and tries again");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn learn(
    content: &ContentStore,
    list: &dyn QuarantineList,
    hashes: &HashSet<ContentHash>,
    anything: bool,
) -> PortResult<()> {
    let quarantine = content.quarantine();
    if anything {
        quarantine.load(list).await?;
        content.forget_all();
    }
    let hashes: Vec<_> = hashes.iter().copied().collect();
    if hashes.is_empty() {
        return Ok(());
    }
    let held: HashSet<_> = list.quarantined_among(&hashes).await?.into_iter().collect();
    for hash in hashes {
        content.forget(hash).await;
        quarantine.set(hash, held.contains(&hash));
    }
    Ok(())
}
