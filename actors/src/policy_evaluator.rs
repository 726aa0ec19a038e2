//! Judging by governance policies: fetches a policy and the facts that it needs, judges, and records the run.
//!
//! This is no actor, since it has no state: policies come from the port (through the server's caches), and judging one is
//! arithmetic of microseconds ([`governance`](crate::governance)). Its cost for making an asset or a receipt is bounded:
//! | | port calls |
//! |---|---|
//! | the policy | one, and none while it is cached |
//! | where the content comes from | one walk with bounds, only where a rule asks for `lineageDepth` |
//! | the run | one; for a receipt only when the policy does not plainly allow it |
//!
//! A node may be bound to a policy. While that policy is missing or unreadable, nothing is published or sold: a typing
//! error in a configuration must not open the gate. A run is recorded before the object it allows is made, so no object
//! exists without its run.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    clock::Clock,
    governance::{Ancestry, Decision, Facts},
    ids::{ContentHash, GovernancePolicyId, PolicyRunId},
    model::{Direction, GraphWalk, NodeName},
    ports::{
        GovernancePolicies, GovernanceRun, LineageStore, Occasion, PortError, PortResult, Provenance,
        StoredGovernancePolicy,
    },
};

/// Called for each judgement.
pub type VerdictObserver = Arc<dyn Fn(Occasion, Decision) + Send + Sync>;

/// Dependencies of the governor.
#[derive(Clone)]
pub struct PolicyEvaluatorDeps {
    pub policies: Arc<dyn GovernancePolicies>,
    pub provenance: Arc<dyn Provenance>,
    pub clock: Arc<dyn Clock>,
    pub observer: VerdictObserver,
}

/// Why no judgement was possible.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    #[error("the policy {0}, to which this node is bound, does not exist")]
    Missing(GovernancePolicyId),
    #[error("the policy {0}, to which this node is bound, cannot be read: {1}")]
    Unreadable(GovernancePolicyId, PortError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Judges assets by policies.
#[derive(Clone)]
pub struct PolicyEvaluator {
    deps: PolicyEvaluatorDeps,
    bound_to: Option<GovernancePolicyId>,
}

impl PolicyEvaluator {
    /// `bound_to` is the policy that applies to publishing and selling on this node.
    pub const fn new(deps: PolicyEvaluatorDeps, bound_to: Option<GovernancePolicyId>) -> Self {
        Self { deps, bound_to }
    }

    /// The policy to which this node is bound.
    pub const fn bound_to(&self) -> Option<&GovernancePolicyId> {
        self.bound_to.as_ref()
    }

    /// Whether the policy to which this node is bound can be read. A node without one is fine.
    ///
    /// # Errors
    /// Why nothing can be published or sold.
    pub async fn standing(&self) -> Result<(), EvaluationError> {
        match &self.bound_to {
            Some(id) => policy_in_force(&*self.deps.policies, id).await.map(drop),
            None => Ok(()),
        }
    }

    /// Judges an asset by a policy and records the run; `None` when the policy does not exist.
    ///
    /// # Errors
    /// The ports' own.
    pub async fn evaluate(&self, id: &GovernancePolicyId, facts: Facts<'_>) -> PortResult<Option<GovernanceRun>> {
        let Some(policy) = self.deps.policies.document(id).await? else { return Ok(None) };
        let run = self.judge(&policy, Occasion::Evaluate, facts).await?;
        self.deps.policies.record_run(&run).await?;
        Ok(Some(run))
    }

    /// Judges an asset that is about to be published or sold by the policy to which this node is bound; `None` when
    /// there is no such policy. The caller must refuse an asset that is blocked.
    ///
    /// # Errors
    /// When the policy is missing or a port does not answer: then nothing may be published or sold.
    pub async fn gate(&self, occasion: Occasion, facts: Facts<'_>) -> Result<Option<GovernanceRun>, EvaluationError> {
        let Some(id) = &self.bound_to else { return Ok(None) };
        let policy = policy_in_force(&*self.deps.policies, id).await?;
        let run = self.judge(&policy, occasion, facts).await?;
        if occasion != Occasion::Receipt || run.verdict.decision != Decision::Allow {
            self.deps.policies.record_run(&run).await?;
        }
        Ok(Some(run))
    }

    async fn judge(
        &self,
        stored: &StoredGovernancePolicy,
        occasion: Occasion,
        facts: Facts<'_>,
    ) -> PortResult<GovernanceRun> {
        let ancestry = match stored.policy.lineage_depth() {
            Some(most) => Some(self.deps.provenance.ancestry(facts.content_hash, most).await?),
            None => None,
        };
        let now = self.deps.clock.now();
        let verdict = stored.policy.judge(&Facts { ancestry, ..facts }, now);
        (self.deps.observer)(occasion, verdict.decision);
        Ok(GovernanceRun {
            run_id: PolicyRunId::next(),
            policy_id: stored.policy_id.clone(),
            policy_version: stored.version,
            version_id: facts.version_id,
            occasion,
            evaluated_at: now,
            verdict,
        })
    }
}

/// The current version of the policy to which a node is bound.
///
/// # Errors
/// Why nothing can be published or sold.
pub async fn policy_in_force(
    policies: &dyn GovernancePolicies,
    id: &GovernancePolicyId,
) -> Result<Arc<StoredGovernancePolicy>, EvaluationError> {
    match policies.document(id).await {
        Ok(Some(policy)) => Ok(policy),
        Ok(None) => Err(EvaluationError::Missing(id.clone())),
        Err(error @ PortError::Corrupt(_)) => Err(EvaluationError::Unreadable(id.clone(), error)),
        Err(error) => Err(error.into()),
    }
}

/// Bounds of a walk: nodes and edges, and time. Content made from more sources is rare; its origin then counts as not
/// fully known.
const WALK_NODES: u32 = 1000;
const WALK_EDGES: u32 = 4000;
const WALK_TIME: Duration = Duration::from_millis(250);

/// Looks up the origin of a content in the graph of lineage, where a content is the dataset `content/HASH` in the
/// node's namespace.
pub struct KnownProvenance {
    pub lineage: Arc<dyn LineageStore>,
    pub namespace: String,
}

#[async_trait]
impl Provenance for KnownProvenance {
    async fn ancestry(&self, content: ContentHash, most: u32) -> PortResult<Ancestry> {
        let walk = GraphWalk {
            root: NodeName::dataset(self.namespace.as_str(), format!("content/{content}")).key(),
            direction: Direction::Up,
            depth: most,
            nodes: WALK_NODES,
            edges: WALK_EDGES,
            budget: WALK_TIME,
        };
        let Some(graph) = self.lineage.graph(&walk).await? else { return Ok(Ancestry::default()) };
        let depth = graph.nodes.iter().map(|node| node.depth).max().unwrap_or_default();
        Ok(Ancestry { depth, cut: graph.truncated && depth < most })
    }
}
