//! Steps that fail in many passes, as all steps on the store of blobs do while it is away: the log tells when that begins
//! and when it ends.

use std::collections::BTreeMap;

use crate::ports::PortError;

/// The steps that failed in the last pass, with the number of failures in a row. Bounded by the number of steps.
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
