//! Steps that fail pass after pass, as all that need the store of blobs do while it is away: told of when that begins and when it ends.

use std::collections::BTreeMap;

use crate::ports::PortError;

/// Steps that failed when they were last tried, with how often that was in a row. It has a place for each step that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Troubles(BTreeMap<&'static str, u64>);

impl Troubles {
    pub(super) fn failed(&mut self, step: &'static str, error: &PortError) {
        let times = self.0.entry(step).or_default();
        *times += 1;
        if *times == 1 {
            tracing::warn!(step, %error, "a clean-up step failed; each pass tries it again, and the log tells when it works");
        } else {
            tracing::debug!(step, %error, times, "a clean-up step failed again");
        }
    }

    pub(super) fn succeeded(&mut self, step: &'static str) {
        if let Some(times) = self.0.remove(step) {
            tracing::info!(step, times, "a clean-up step that had failed works again");
        }
    }
}
