//! An installation in memory, with faults by script.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::script::Script;
use crate::{
    ids::InstallationId,
    model::{Installation, NotedStore, StorageTier},
    ports::{Installations, PortResult},
};

/// An installation in memory.
pub struct MemoryInstallations {
    /// Its scripted faults.
    pub script: Script,
    installation: Installation,
    stores: Mutex<BTreeMap<StorageTier, NotedStore>>,
}

impl MemoryInstallations {
    /// An installation that was made at this time.
    pub fn since(created_at: Timestamp) -> Self {
        let installation = Installation { installation_id: InstallationId::random(), created_at };
        Self { script: Script::default(), installation, stores: Mutex::default() }
    }

    fn stores(&self) -> MutexGuard<'_, BTreeMap<StorageTier, NotedStore>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
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

    async fn store_of(&self, tier: StorageTier) -> PortResult<(Installation, Option<NotedStore>)> {
        self.script.play("store_of", 1, || Ok((self.installation, self.stores().get(&tier).cloned()))).await
    }

    async fn claim_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<NotedStore> {
        let claim = || {
            let mut stores = self.stores();
            let noted = stores.entry(tier).or_insert_with(|| store.clone());
            noted.store_id = noted.store_id.or(store.store_id);
            Ok(noted.clone())
        };
        self.script.play("claim_store", 1, claim).await
    }

    async fn note_store(&self, tier: StorageTier, store: &NotedStore) -> PortResult<()> {
        let note = || {
            self.stores().insert(tier, store.clone());
            Ok(())
        };
        self.script.play("note_store", 1, note).await
    }
}
