//! An installation in memory, with faults by script.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::script::Script;
use crate::{
    ids::InstallationId,
    model::{Installation, Tier},
    ports::{Installations, PortResult},
};

/// An installation in memory.
pub struct MemoryInstallations {
    /// Its scripted faults.
    pub script: Script,
    installation: Installation,
    stores: Mutex<BTreeMap<Tier, String>>,
}

impl MemoryInstallations {
    /// An installation that was made at this time.
    pub fn since(created_at: Timestamp) -> Self {
        let installation = Installation { installation_id: InstallationId::random(), created_at };
        Self { script: Script::default(), installation, stores: Mutex::default() }
    }
}

/// An installation that is older than all test data.
impl Default for MemoryInstallations {
    fn default() -> Self {
        Self::since(Timestamp::UNIX_EPOCH)
    }
}

#[async_trait]
impl Installations for MemoryInstallations {
    async fn installation(&self) -> PortResult<Installation> {
        self.script.play("installation", 1, || Ok(self.installation)).await
    }

    async fn store_of(&self, tier: Tier) -> PortResult<Option<String>> {
        let stores = || Ok(self.stores.lock().unwrap_or_else(PoisonError::into_inner).get(&tier).cloned());
        self.script.play("store_of", 1, stores).await
    }

    async fn note_store(&self, tier: Tier, place: &str) -> PortResult<()> {
        let note = || {
            self.stores.lock().unwrap_or_else(PoisonError::into_inner).insert(tier, place.to_owned());
            Ok(())
        };
        self.script.play("note_store", 1, note).await
    }
}
