//! Judging by policies: fetches a policy and the facts that it asks for, judges, and keeps the run.
//!
//! No actor, since there is no state: policies come from the port (through the caches of the server), and judging one is
//! arithmetic of microseconds ([`governance`](crate::governance)). What it adds to making an asset or a receipt is bounded:
//!
//! | | port calls |
//! |---|---|
//! | the policy | one, and none while it is cached |
//! | where the content comes from | one walk with bounds, only where a rule asks for `lineageDepth` |
//! | the run | one; for a receipt only when the policy does not plainly allow it |
//!
//! A node may be bound to a policy. While that one is missing or cannot be read nothing is published or sold: a typing error in
//! a configuration must not open the gate. A run is kept before what it allows is made, so that nothing is there without one.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    clock::Clock,
    governance::{Ancestry, Decision, Facts},
    ids::{ContentHash, PolicyId, PolicyRunId},
    model::{Direction, NodeName, Walk},
    ports::{LineageStore, Occasion, Policies, PolicyRun, PortError, PortResult, Provenance, StoredPolicy},
};

/// Told of each judgement.
pub type VerdictObserver = Arc<dyn Fn(Occasion, Decision) + Send + Sync>;

/// What judging stands on.
#[derive(Clone)]
pub struct GovernorDeps {
    pub policies: Arc<dyn Policies>,
    pub provenance: Arc<dyn Provenance>,
    pub clock: Arc<dyn Clock>,
    pub observer: VerdictObserver,
}

/// Why nothing was judged.
#[derive(Debug, thiserror::Error)]
pub enum GovernError {
    #[error("the policy {0}, which this node is bound to, does not exist")]
    Missing(PolicyId),
    #[error("the policy {0}, which this node is bound to, cannot be read: {1}")]
    Unreadable(PolicyId, PortError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Judges assets by policies.
#[derive(Clone)]
pub struct Governor {
    deps: GovernorDeps,
    bound_to: Option<PolicyId>,
}

impl Governor {
    /// `bound_to` is the policy that publishing and selling on this node obey.
    pub const fn new(deps: GovernorDeps, bound_to: Option<PolicyId>) -> Self {
        Self { deps, bound_to }
    }

    /// The policy that this node obeys.
    pub const fn bound_to(&self) -> Option<&PolicyId> {
        self.bound_to.as_ref()
    }

    /// Whether the policy that this node obeys is there. Nothing to complain of where there is none to obey.
    ///
    /// # Errors
    /// Why nothing is published or sold.
    pub async fn standing(&self) -> Result<(), GovernError> {
        match &self.bound_to {
            Some(id) => policy_in_force(&*self.deps.policies, id).await.map(drop),
            None => Ok(()),
        }
    }

    /// Judges an asset by a policy and keeps the run; `None` when there is no such policy.
    ///
    /// # Errors
    /// What the ports answer.
    pub async fn evaluate(&self, id: &PolicyId, facts: Facts<'_>) -> PortResult<Option<PolicyRun>> {
        let Some(policy) = self.deps.policies.document(id).await? else { return Ok(None) };
        let run = self.judge(&policy, Occasion::Evaluate, facts).await?;
        self.deps.policies.record_run(&run).await?;
        Ok(Some(run))
    }

    /// Judges what is about to be published or sold by the policy that this node obeys; `None` when it obeys none. The caller
    /// must refuse what is blocked.
    ///
    /// # Errors
    /// When the policy is missing or a port does not answer: nothing may then be published or sold.
    pub async fn gate(&self, occasion: Occasion, facts: Facts<'_>) -> Result<Option<PolicyRun>, GovernError> {
        let Some(id) = &self.bound_to else { return Ok(None) };
        let policy = policy_in_force(&*self.deps.policies, id).await?;
        let run = self.judge(&policy, occasion, facts).await?;
        if occasion != Occasion::Receipt || run.verdict.decision != Decision::Allow {
            self.deps.policies.record_run(&run).await?;
        }
        Ok(Some(run))
    }

    async fn judge(&self, stored: &StoredPolicy, occasion: Occasion, facts: Facts<'_>) -> PortResult<PolicyRun> {
        let ancestry = match stored.policy.lineage_depth() {
            Some(most) => Some(self.deps.provenance.ancestry(facts.content_hash, most).await?),
            None => None,
        };
        let now = self.deps.clock.now();
        let verdict = stored.policy.judge(&Facts { ancestry, ..facts }, now);
        (self.deps.observer)(occasion, verdict.decision);
        Ok(PolicyRun {
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

/// The policy that a node obeys, as it stands.
///
/// # Errors
/// Why nothing is published or sold.
pub async fn policy_in_force(policies: &dyn Policies, id: &PolicyId) -> Result<Arc<StoredPolicy>, GovernError> {
    match policies.document(id).await {
        Ok(Some(policy)) => Ok(policy),
        Ok(None) => Err(GovernError::Missing(id.clone())),
        Err(error @ PortError::Corrupt(_)) => Err(GovernError::Unreadable(id.clone(), error)),
        Err(error) => Err(error.into()),
    }
}

/// Nodes and edges that a walk may come to, and its time: a content that is made from more is rare, and then its origin counts as
/// not known to the end.
const WALK_NODES: u32 = 1000;
const WALK_EDGES: u32 = 4000;
const WALK_TIME: Duration = Duration::from_millis(250);

/// Where contents come from by the graph of lineage, in which a content is the dataset `content/HASH` in the namespace of the
/// node.
pub struct KnownProvenance {
    pub lineage: Arc<dyn LineageStore>,
    pub namespace: String,
}

#[async_trait]
impl Provenance for KnownProvenance {
    async fn ancestry(&self, content: ContentHash, most: u32) -> PortResult<Ancestry> {
        let walk = Walk {
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
