//! Whether this process may use the name that its data folder has in the ledger.
//!
//! A folder that was cloned with its machine has the name of another instance. While that instance is alive, the two
//! would end each other's epochs, and each would take the other for crashed. So before the first heartbeat, this
//! process asks the ledger: an epoch of this name that is alive belongs either to the last process on this very folder,
//! which is gone because its lock is free, or to another instance. The record beside the lock decides which: it names
//! the last epoch, and the place where the record was written.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use penstock_actors::{
    ids::{NodeId, TimelineId},
    model::{NodeEpoch, Timeline},
    node::change_follower::begin_after_restore,
    ports::{EpochStanding, Ledger, PortResult, Timelines},
    quota::node_epoch::EpochRecord,
};
use serde::{Deserialize, Serialize};

use crate::data_dir::{DataDir, FolderPlace};

/// The record that the last process of a folder wrote about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FolderRecord {
    node: NodeId,
    epoch: i64,
    /// Heartbeats of the epoch that the ledger acknowledged.
    #[serde(rename = "beats")]
    heartbeats: u64,
    /// Heartbeats of the epoch that were sent.
    #[serde(default)]
    beats_sent: u64,
    /// The timeline of the epoch.
    timeline: Option<TimelineId>,
    place: Option<FolderPlace>,
}

/// The record of a data folder.
#[derive(Debug, Clone)]
pub struct EpochFile {
    path: PathBuf,
    place: Option<FolderPlace>,
}

impl EpochFile {
    pub fn of(folder: &DataDir) -> Self {
        Self { path: folder.path().join("life.json"), place: folder.place() }
    }

    /// The last record; `None` when there is none, or it cannot be read.
    fn read(&self) -> Option<FolderRecord> {
        let text = fs::read(&self.path).ok()?;
        serde_json::from_slice(&text)
            .inspect_err(|error| {
                tracing::warn!(%error, file = %self.path.display(), "the record of the last process cannot be read; a new one is written");
            })
            .ok()
    }

    /// Writes the record of this process. It need not survive a crash of the machine, so nothing is synced.
    pub fn write(&self, &EpochRecord { node_epoch, heartbeats, heartbeats_sent, timeline }: &EpochRecord) {
        let NodeEpoch { node, epoch } = node_epoch;
        let record =
            FolderRecord { node, epoch, heartbeats, beats_sent: heartbeats_sent, timeline, place: self.place.clone() };
        if let Err(error) = self.replace(&record) {
            tracing::warn!(
                %error,
                file = %self.path.display(),
                "the record of this process cannot be written; after a crash the node may take a new identity"
            );
        }
    }

    fn replace(&self, record: &FolderRecord) -> std::io::Result<()> {
        let next = self.path.with_extension("json.next");
        fs::write(&next, serde_json::to_vec(record)?)?;
        fs::rename(next, &self.path)
    }

    /// Whether the record is from this very folder, on this machine since its last start.
    fn is_here(&self, record: &FolderRecord) -> bool {
        self.place.is_some() && record.place == self.place
    }
}

/// The dependencies of a process's identity.
pub struct IdentityDeps<'a> {
    pub ledger: &'a dyn Ledger,
    pub timelines: &'a dyn Timelines,
    /// Whether the ledger is in the data folder too, so that the holder of the folder's lock uses it alone.
    pub alone: bool,
}

/// Ensures that a restored database has a timeline of its own, and that no other process lives under the folder's name:
/// a process that had its lock is gone; because of any other process, this folder takes a new name.
///
/// Returns whether the folder provably is the one that the last process of this name had, on this machine since its last start, and
/// not an older copy that was put in its place.
///
/// # Errors
/// When the database does not answer, or the folder cannot be written to.
pub async fn settle(folder: &mut DataDir, file: &EpochFile, deps: &IdentityDeps<'_>) -> anyhow::Result<bool> {
    let node = folder.node();
    let record = file.read().filter(|record| record.node == node);
    let known = deps.ledger.standing(node).await.context("cannot read this node's epoch in the ledger")?;
    notice_restore(record.as_ref(), known, deps.timelines).await.context("cannot read the timeline of the database")?;

    let Some(EpochStanding { epoch, alive, heartbeats }) = known else { return Ok(false) };
    let here = record.filter(|record| file.is_here(record));
    // A heartbeat is recorded before it is sent, so the ledger has no more of them than the record of the very folder.
    let is_same_folder = here.as_ref().is_some_and(|record| {
        record.epoch > epoch && record.heartbeats == 0 || record.epoch == epoch && heartbeats <= record.beats_sent
    });
    if deps.alone || here.is_some_and(|record| record.epoch == epoch) {
        // Also an epoch whose time is over: then no other instance has to watch it before it is fenced.
        let last = NodeEpoch { node, epoch };
        deps.ledger.declare_dead(last).await.context("cannot end the epoch of the last process in the ledger")?;
        return Ok(is_same_folder);
    }
    if !alive {
        return Ok(is_same_folder);
    }
    folder.rename_node()?;
    tracing::warn!(
        last = %node,
        node = %folder.node(),
        "another process runs under this data folder's identity, or did a moment ago on another machine: the folder is a copy; \
            this node takes a new identity"
    );
    Ok(false)
}

/// Begins a timeline for a database that has changed its place, or that lacks commits that the last process here saw.
async fn notice_restore(
    record: Option<&FolderRecord>,
    known: Option<EpochStanding>,
    timelines: &dyn Timelines,
) -> PortResult<()> {
    let Timeline { timeline_id, moved } = timelines.timeline().await?;
    let of_it = record.filter(|record| record.timeline == Some(timeline_id) && record.heartbeats > 0);
    let behind = of_it.is_some_and(|record| EpochStanding::is_behind(known, record.epoch, record.heartbeats));
    if moved || behind {
        begin_after_restore(timelines, timeline_id).await?;
    }
    Ok(())
}
