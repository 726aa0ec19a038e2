//! `[data]`: the data of this instance on disk.

use std::path::PathBuf;

use serde::Deserialize;

use super::problem::Rules;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The folder for all data of this instance.
    pub dir: PathBuf,
}

impl Data {
    pub(super) fn check(&self, rules: &mut Rules) {
        rules.require(!self.dir.as_os_str().is_empty(), &["data.dir"], "name a folder");
    }
}
