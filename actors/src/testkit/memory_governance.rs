//! Governance policies and their runs in memory, with faults by script. It runs the same suite as the adapters.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::script::Script;
use crate::{
    governance::{Ancestry, GovernancePolicy},
    ids::{ContentHash, GovernancePolicyId, VersionId},
    ports::{
        GovernancePolicies, GovernancePolicySummary, GovernanceRun, Page, PortError, PortResult, Provenance,
        PutOutcome, RunMark, StoredGovernancePolicy,
    },
};

#[derive(Default)]
struct Tables {
    /// The stored versions, the current one last.
    versions: BTreeMap<GovernancePolicyId, Vec<StoredGovernancePolicy>>,
    runs: Vec<GovernanceRun>,
}

/// Policies and their runs in memory.
#[derive(Default)]
pub struct MemoryGovernancePolicies {
    /// Its scripted faults.
    pub script: Script,
    tables: Mutex<Tables>,
}

impl MemoryGovernancePolicies {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All runs, in order of arrival.
    pub fn runs(&self) -> Vec<GovernanceRun> {
        self.tables().runs.clone()
    }
}

#[async_trait]
impl GovernancePolicies for MemoryGovernancePolicies {
    async fn put_document(
        &self,
        id: &GovernancePolicyId,
        policy: &GovernancePolicy,
        now: Timestamp,
    ) -> PortResult<PutOutcome> {
        let work = || {
            let mut tables = self.tables();
            let versions = tables.versions.entry(id.clone()).or_default();
            let current = versions.last();
            if let Some(current) = current.filter(|current| current.policy == *policy) {
                return Ok(PutOutcome { version: current.version, created_at: current.created_at, new: false });
            }
            let version = current.map_or(1, |current| current.version + 1);
            let policy = policy.clone();
            versions.push(StoredGovernancePolicy { policy_id: id.clone(), version, created_at: now, policy });
            Ok(PutOutcome { version, created_at: now, new: version == 1 })
        };
        self.script.play("put_document", 1, work).await
    }

    async fn document(&self, id: &GovernancePolicyId) -> PortResult<Option<Arc<StoredGovernancePolicy>>> {
        let work = || Ok(self.tables().versions.get(id).and_then(|versions| versions.last()).cloned().map(Arc::new));
        self.script.play("document", 1, work).await
    }

    async fn document_version(
        &self,
        id: &GovernancePolicyId,
        version: u32,
    ) -> PortResult<Option<StoredGovernancePolicy>> {
        let work = || {
            let tables = self.tables();
            let versions = tables.versions.get(id);
            Ok(versions.and_then(|versions| versions.iter().find(|stored| stored.version == version)).cloned())
        };
        self.script.play("document_version", 1, work).await
    }

    async fn documents(
        &self,
        after: Option<&GovernancePolicyId>,
        limit: u32,
    ) -> PortResult<Page<GovernancePolicySummary>> {
        let work = || {
            let tables = self.tables();
            let current = tables.versions.values().filter_map(|versions| versions.last());
            let items = current.filter(|stored| after.is_none_or(|after| stored.policy_id > *after)).map(|stored| {
                GovernancePolicySummary {
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

    async fn record_run(&self, run: &GovernanceRun) -> PortResult<()> {
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
        id: &GovernancePolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<GovernanceRun>> {
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
