//! `[storage]`: where blobs are, and when they are verified.

use std::path::{Path, PathBuf};

use penstock_actors::content_store::Verify;
use serde::Deserialize;

/// What keeps the blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageBackend {
    /// Files.
    Fs,
    /// S3, see [`S3`](super::S3).
    S3,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub backend: StorageBackend,
    /// The folder of the blobs; empty means `blobs` in the data folder, see [`Config::blob_root`](super::Config::blob_root).
    pub root: PathBuf,
    /// Folders of the colder tiers; empty means none.
    pub warm_root: PathBuf,
    pub cold_root: PathBuf,
    pub verify: Verify,
}

impl Storage {
    /// The folder of a colder tier, where there is one.
    pub fn colder(root: &Path) -> Option<PathBuf> {
        (!root.as_os_str().is_empty()).then(|| root.to_owned())
    }
}
