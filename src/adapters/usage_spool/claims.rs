//! Claims: for which epochs of the node the spool provably has all usage.
//!
//! A claim is a file named by its epoch, made before the epoch's first heartbeat. It names the node and the place of the data folder:
//! this very folder on this machine since its last start. At a gap, the claim is removed, which needs no room on the disk. After a
//! power cut or in a copy of the folder the place is another one, so the claim proves nothing: notes may be missing.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::disk::SpoolDisk;

const SUFFIX: &str = ".complete";

pub(super) struct Claims {
    disk: Arc<dyn SpoolDisk>,
    /// The text of this process's claims; `None` when the system does not tell one place from another.
    mark: Option<String>,
    /// Epochs that this process claims.
    current: Mutex<BTreeSet<i64>>,
}

fn name(epoch: i64) -> String {
    format!("{epoch}{SUFFIX}")
}

impl Claims {
    pub(super) fn new(disk: Arc<dyn SpoolDisk>, mark: Option<String>) -> Self {
        Self { disk, mark, current: Mutex::default() }
    }

    fn current(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epochs that earlier processes claimed, if what they wrote is `trusted` to be all that they noted. Removes all other claims.
    pub(super) fn of_earlier_processes(&self, names: &[String], trusted: bool) -> io::Result<Vec<i64>> {
        let mut proven = Vec::new();
        for file in names {
            let Some(epoch) = file.strip_suffix(SUFFIX) else { continue };
            let is_here = || {
                self.disk.read(file).is_ok_and(|text| self.mark.as_ref().is_some_and(|mark| mark.as_bytes() == text))
            };
            match epoch.parse() {
                Ok(epoch) if trusted && is_here() => proven.push(epoch),
                _ => self.disk.remove(file)?,
            }
        }
        proven.sort_unstable();
        Ok(proven)
    }

    pub(super) fn begin(&self, epoch: i64) {
        let Some(mark) = &self.mark else { return };
        let made = self.disk.create(&name(epoch), mark.len() as u64).and_then(|file| file.write_at(mark.as_bytes(), 0));
        match made {
            Ok(()) => drop(self.current().insert(epoch)),
            Err(error) => {
                tracing::warn!(%error, epoch, "the usage spool cannot claim an epoch; if the node is killed, the rest of its leases is charged or released as lost");
            }
        }
    }

    pub(super) fn end(&self, epoch: i64) {
        self.current().remove(&epoch);
        if let Err(error) = self.disk.remove(&name(epoch)) {
            tracing::warn!(%error, epoch, "the claim of an ended epoch cannot be removed; the next start ends the epoch once more");
        }
    }

    /// Withdraws all claims of this process: something was not noted, or may not last, because of this failure.
    pub(super) fn withdraw(&self, failure: &io::Error) -> io::Result<()> {
        let mut current = self.current();
        if !current.is_empty() {
            tracing::error!(error = %failure, "the usage spool has a gap; if the node is killed, the rest of its leases is charged or released as lost, and usage on tiers without limits may be lost");
        }
        while let Some(&epoch) = current.first() {
            self.disk.remove(&name(epoch))?;
            current.remove(&epoch);
        }
        Ok(())
    }
}
