//! The usage spool in the data folder, and the node's part in it.

use std::sync::Arc;

use penstock_actors::{
    node::NodeFolder,
    ports::{Leftover, NoSpool},
};

use super::cores;
use crate::{
    adapters::usage_spool::{FileSpool, UsageSpoolSettings},
    config,
    data_dir::DataDir,
};

/// Opens the spool. `is_same_folder` says that the folder provably is the one that the last process had, on a machine that has run since.
///
/// A spool that cannot be opened does not stop a node: the node says what it falls back to.
pub fn open_folder(usage: &config::Usage, folder: &DataDir, is_same_folder: bool) -> NodeFolder {
    let without = || NodeFolder { node: folder.node(), spool: Arc::new(NoSpool), left: Leftover::default() };
    if usage.spool_bytes == 0 {
        tracing::warn!(
            "the node has no usage spool (usage.spool_bytes is 0): if it is killed, usage in its memory is lost, and leases are charged or released as quota.lost_lease says"
        );
        return without();
    }
    let settings = UsageSpoolSettings {
        node: folder.node(),
        place: folder.place().map(|place| place.to_string()),
        is_same_folder,
        bytes: usage.spool_bytes,
        cores: cores(),
    };
    match FileSpool::open(&folder.path().join("usage-spool"), settings, usage.spool_sync) {
        Ok((spool, left)) => NodeFolder { node: folder.node(), spool, left },
        Err(error) => {
            tracing::error!(%error, folder = %folder.path().display(), "the usage spool cannot be opened, so the node runs without: if it is killed, usage in its memory is lost, and leases are charged or released as quota.lost_lease says");
            without()
        }
    }
}
