//! `[storage]`: where blobs are stored, and when they are verified.

use std::path::{Component, Path, PathBuf};

use penstock_actors::content::reader::Verify;
use serde::Deserialize;

use super::problem::Rules;

/// The kind of blob store.
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
    /// The folder of the blobs; empty: `blobs` in the data folder, see [`Config::blob_root`](super::Config::blob_root).
    pub root: PathBuf,
    /// Folders of the colder tiers; empty: none. They must differ: if two were the same, the old copy would be the new
    /// one, and the end of a move would remove it.
    pub warm_root: PathBuf,
    pub cold_root: PathBuf,
    pub verify: Verify,
}

impl Storage {
    /// `root`: the folder of the blobs, given or by default.
    pub(super) fn check_with(&self, root: &Path, rules: &mut Rules) {
        let steps = |path: &Path| path.components().filter(|step| *step != Component::CurDir).collect::<PathBuf>();
        let differ = |one: &Path, other: &Path| one.as_os_str().is_empty() || steps(one) != steps(other);
        rules.require(
            differ(&self.warm_root, root),
            &["storage.warm_root", "storage.root"],
            "be another folder than storage.root",
        );
        rules.require(
            differ(&self.cold_root, root) && differ(&self.cold_root, &self.warm_root),
            &["storage.cold_root", "storage.root", "storage.warm_root"],
            "be another folder than storage.root and storage.warm_root",
        );
    }

    /// The folder of a colder tier, if there is one.
    pub fn colder(root: &Path) -> Option<PathBuf> {
        (!root.as_os_str().is_empty()).then(|| root.to_owned())
    }
}
