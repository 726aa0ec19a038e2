//! Whether this process may go by the name that its data folder has in the ledger.
//!
//! A folder that was cloned with its machine has the name of another instance. While that one lives, the two would end each
//! other's epochs, and each would look like the crash of the other. So before the first heartbeat the ledger is asked: an epoch of
//! this name that is alive is either the last process of this very folder, which is gone since its lock is free, or somebody
//! else's. The record beside the lock tells which: it names the last epoch, and the place that it was written in.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use penstock_actors::{
    change_follower::begin_after_restore,
    ids::{NodeId, TimelineId},
    model::{NodeEpoch, Timeline},
    node_life::LifeRecord,
    ports::{Ledger, PortResult, Standing, Timelines},
};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, Place};

/// What the last process of a folder wrote down of its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    node: NodeId,
    epoch: i64,
    /// Heartbeats of the epoch that the ledger acknowledged.
    beats: u64,
    /// The history that the epoch was of.
    timeline: Option<TimelineId>,
    place: Option<Place>,
}

/// The record of a data folder.
#[derive(Debug, Clone)]
pub struct LifeFile {
    path: PathBuf,
    place: Option<Place>,
}

impl LifeFile {
    pub fn of(folder: &DataDir) -> Self {
        Self { path: folder.path().join("life.json"), place: folder.place() }
    }

    /// What was written last; `None` when nothing was, or nothing that can be read.
    fn read(&self) -> Option<Record> {
        let text = fs::read(&self.path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                tracing::warn!(%error, file = %self.path.display(), "the record of the last life cannot be read; it is written anew");
            })
            .ok()
    }

    /// Writes down what is known of the node's life. It need not outlive the machine's own crash, so nothing is synced.
    pub fn write(&self, &LifeRecord { life, beats, timeline }: &LifeRecord) {
        let NodeEpoch { node, epoch } = life;
        let record = Record { node, epoch, beats, timeline, place: self.place.clone() };
        if let Err(error) = self.replace(&record) {
            tracing::warn!(
                %error,
                file = %self.path.display(),
                "this node's life was not written down; after a crash it may take a new identity"
            );
        }
    }

    fn replace(&self, record: &Record) -> std::io::Result<()> {
        let next = self.path.with_extension("json.next");
        fs::write(&next, serde_json::to_vec(record)?)?;
        fs::rename(next, &self.path)
    }

    /// Whether the record is of this very folder, on this machine since its last start.
    fn is_here(&self, record: &Record) -> bool {
        self.place.is_some() && record.place == self.place
    }
}

/// What the identity of a process depends on.
pub struct IdentityDeps<'a> {
    pub ledger: &'a dyn Ledger,
    pub timelines: &'a dyn Timelines,
    /// The ledger is in the data folder too, so whoever has the folder's lock is alone in it.
    pub alone: bool,
}

/// Makes sure that the database is in a history of its own if it was restored, and that no other process lives under the folder's
/// name: one that had its lock is gone; against any other this folder takes a new name.
///
/// # Errors
/// When the database does not answer, or the folder cannot be written to.
pub async fn settle(folder: &mut DataDir, file: &LifeFile, deps: &IdentityDeps<'_>) -> anyhow::Result<()> {
    let node = folder.node();
    let record = file.read().filter(|record| record.node == node);
    let known = deps.ledger.standing(node).await.context("the ledger does not say who lives")?;
    notice_restore(record.as_ref(), known, deps.timelines)
        .await
        .context("the database does not say which timeline it is in")?;

    let Some(epoch) = known.filter(|known| known.alive).map(|known| known.epoch) else { return Ok(()) };
    if deps.alone || record.is_some_and(|record| record.epoch == epoch && file.is_here(&record)) {
        let last = NodeEpoch { node, epoch };
        return deps.ledger.declare_dead(last).await.context("the ledger did not end the last process's time");
    }
    folder.rename_node()?;
    tracing::warn!(
        last = %node,
        node = %folder.node(),
        "another process lives under this data folder's identity, or did a moment ago on another machine: the folder is a copy; \
         this node takes a new identity"
    );
    Ok(())
}

/// Begins a timeline for a database that is in another place than it was, or that knows less than the last process here saw committed.
async fn notice_restore(record: Option<&Record>, known: Option<Standing>, timelines: &dyn Timelines) -> PortResult<()> {
    let Timeline { timeline_id, moved } = timelines.timeline().await?;
    let of_it = record.filter(|record| record.timeline == Some(timeline_id) && record.beats > 0);
    let behind = of_it.is_some_and(|record| Standing::is_behind(known, record.epoch, record.beats));
    if moved || behind {
        begin_after_restore(timelines, timeline_id).await?;
    }
    Ok(())
}
