//! Governance policies and their runs in memory, with faults by script. It runs the same suite as the adapters.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::script::Script;
use crate::{
    governance::{Ancestry, Policy},
    ids::{ContentHash, PolicyId, VersionId},
    ports::{Page, Policies, PolicyRun, PolicySummary, PortError, PortResult, Provenance, Put, RunMark, StoredPolicy},
};

#[derive(Default)]
struct Tables {
    /// The stored versions, the current one last.
    versions: BTreeMap<PolicyId, Vec<StoredPolicy>>,
    runs: Vec<PolicyRun>,
}

/// Policies and their runs in memory.
#[derive(Default)]
pub struct MemoryPolicies {
    /// Its scripted faults.
    pub script: Script,
    tables: Mutex<Tables>,
}

impl MemoryPolicies {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All runs, in order of arrival.
    pub fn runs(&self) -> Vec<PolicyRun> {
        self.tables().runs.clone()
    }
}

#[async_trait]
impl Policies for MemoryPolicies {
    async fn put_document(&self, id: &PolicyId, policy: &Policy, now: Timestamp) -> PortResult<Put> {
        let work = || {
            let mut tables = self.tables();
            let versions = tables.versions.entry(id.clone()).or_default();
            let current = versions.last();
            if let Some(current) = current.filter(|current| current.policy == *policy) {
                return Ok(Put { version: current.version, created_at: current.created_at, new: false });
            }
            let version = current.map_or(1, |current| current.version + 1);
            let policy = policy.clone();
            versions.push(StoredPolicy { policy_id: id.clone(), version, created_at: now, policy });
            Ok(Put { version, created_at: now, new: version == 1 })
        };
        self.script.play("put_document", 1, work).await
    }

    async fn document(&self, id: &PolicyId) -> PortResult<Option<Arc<StoredPolicy>>> {
        let work = || Ok(self.tables().versions.get(id).and_then(|versions| versions.last()).cloned().map(Arc::new));
        self.script.play("document", 1, work).await
    }

    async fn document_version(&self, id: &PolicyId, version: u32) -> PortResult<Option<StoredPolicy>> {
        let work = || {
            let tables = self.tables();
            let versions = tables.versions.get(id);
            Ok(versions.and_then(|versions| versions.iter().find(|stored| stored.version == version)).cloned())
        };
        self.script.play("document_version", 1, work).await
    }

    async fn documents(&self, after: Option<&PolicyId>, limit: u32) -> PortResult<Page<PolicySummary>> {
        let work = || {
            let tables = self.tables();
            let current = tables.versions.values().filter_map(|versions| versions.last());
            let items = current.filter(|stored| after.is_none_or(|after| stored.policy_id > *after)).map(|stored| {
                PolicySummary {
                    policy_id: stored.policy_id.clone(),
                    version: stored.version,
                    created_at: stored.created_at,
                    description: stored.policy.description().map(str::to_owned),
                }
            });
            Ok(Page::of(items.collect(), limit))
        };
        self.script.play("documents", limit as usize, work).await
    }

    async fn record_run(&self, run: &PolicyRun) -> PortResult<()> {
        let work = || {
            let mut tables = self.tables();
            if !tables.versions.contains_key(&run.policy_id) {
                return Err(PortError::rejected("the policies in memory", "a run of no policy"));
            }
            if tables.runs.iter().all(|known| known.run_id != run.run_id) {
                tables.runs.push(run.clone());
            }
            Ok(())
        };
        self.script.play("record_run", 1, work).await
    }

    async fn policy_runs(
        &self,
        id: &PolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<PolicyRun>> {
        let work = || {
            let mut runs = self.runs();
            runs.retain(|run| run.policy_id == *id && run.version_id == asset);
            runs.sort_by_key(|run| std::cmp::Reverse((run.evaluated_at, run.run_id)));
            if let Some(after) = after {
                runs.retain(|run| (run.evaluated_at, run.run_id) < (after.evaluated_at, after.run_id));
            }
            Ok(Page::of(runs, limit))
        };
        self.script.play("policy_runs", limit as usize, work).await
    }

    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let work = || {
            let runs = &mut self.tables().runs;
            runs.sort_by_key(|run| run.evaluated_at);
            let old = runs.iter().take(limit as usize).filter(|run| run.evaluated_at < before).count();
            runs.drain(..old);
            Ok(old as u64)
        };
        self.script.play("forget_policy_runs", limit as usize, work).await
    }

    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64> {
        let work = || {
            let mut left = limit as usize;
            for versions in self.tables().versions.values_mut() {
                let old = versions.windows(2).take_while(|pair| pair[1].created_at < before).count().min(left);
                versions.drain(..old);
                left -= old;
            }
            Ok((limit as usize - left) as u64)
        };
        self.script.play("forget_policy_versions", limit as usize, work).await
    }
}

/// Facts about contents, as a test sets them: the same for each content.
#[derive(Default)]
pub struct MemoryProvenance {
    /// Its scripted faults and its calls.
    pub script: Script,
    known: Mutex<Ancestry>,
}

impl MemoryProvenance {
    pub fn set(&self, known: Ancestry) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

#[async_trait]
impl Provenance for MemoryProvenance {
    async fn ancestry(&self, _: ContentHash, most: u32) -> PortResult<Ancestry> {
        let work = || {
            let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let depth = known.depth.min(most);
            Ok(Ancestry { depth, cut: known.cut && depth < most })
        };
        self.script.play("ancestry", most as usize, work).await
    }
}
