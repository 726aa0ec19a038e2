//! Governance policies, as versioned documents, and the runs that judged by them.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Page, PortResult};
use crate::{
    governance::{GovernancePolicy, Verdict},
    ids::{ContentHash, GovernancePolicyId, PolicyRunId, VersionId},
};

/// A version of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredGovernancePolicy {
    pub policy_id: GovernancePolicyId,
    /// Grows by one with each change, from 1.
    pub version: u32,
    /// When this version was stored.
    pub created_at: Timestamp,
    pub policy: GovernancePolicy,
}

/// A policy in a list: its current version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GovernancePolicySummary {
    pub policy_id: GovernancePolicyId,
    pub version: u32,
    pub created_at: Timestamp,
    pub description: Option<String>,
}

/// The outcome of storing a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOutcome {
    pub version: u32,
    /// When the version was stored: earlier, when the document equals the current one.
    pub created_at: Timestamp,
    /// Whether the policy is new.
    pub new: bool,
}

/// Why an asset was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A client asked for it.
    Evaluate,
    /// The asset is about to be made.
    Publish,
    /// A receipt for it is about to be made.
    Receipt,
}

impl Occasion {
    pub const ALL: [Self; 3] = [Self::Evaluate, Self::Publish, Self::Receipt];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::Publish => "publish",
            Self::Receipt => "receipt",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|occasion| occasion.as_str() == text)
    }
}

/// An asset judged by a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GovernanceRun {
    pub run_id: PolicyRunId,
    pub policy_id: GovernancePolicyId,
    pub policy_version: u32,
    /// The asset. It does not exist when it was refused before it was made.
    pub version_id: VersionId,
    pub occasion: Occasion,
    pub evaluated_at: Timestamp,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A position in the list of runs of a policy and an asset, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunMark {
    pub evaluated_at: Timestamp,
    pub run_id: PolicyRunId,
}

impl From<&GovernanceRun> for RunMark {
    fn from(run: &GovernanceRun) -> Self {
        Self { evaluated_at: run.evaluated_at, run_id: run.run_id }
    }
}

/// Policies and their runs.
#[async_trait]
pub trait GovernancePolicies: Send + Sync + 'static {
    /// Makes the document the current version of its policy: the next version, or the first. A document equal to the
    /// current one changes nothing.
    async fn put_document(
        &self,
        id: &GovernancePolicyId,
        policy: &GovernancePolicy,
        now: Timestamp,
    ) -> PortResult<PutOutcome>;

    /// The current version.
    ///
    /// # Errors
    /// `Corrupt` for an unreadable document, such as one stored by a later version of this program.
    async fn document(&self, id: &GovernancePolicyId) -> PortResult<Option<Arc<StoredGovernancePolicy>>>;

    /// A version, as long as it is kept.
    ///
    /// # Errors
    /// As [`document`](Self::document).
    async fn document_version(
        &self,
        id: &GovernancePolicyId,
        version: u32,
    ) -> PortResult<Option<StoredGovernancePolicy>>;

    /// The policies in the order of their ids, after `after`.
    async fn documents(
        &self,
        after: Option<&GovernancePolicyId>,
        limit: u32,
    ) -> PortResult<Page<GovernancePolicySummary>>;

    /// Records a run. An existing run stays as it is.
    async fn record_run(&self, run: &GovernanceRun) -> PortResult<()>;

    /// The runs of a policy for an asset, newest first, after `after`.
    async fn policy_runs(
        &self,
        id: &GovernancePolicyId,
        asset: VersionId,
        after: Option<RunMark>,
        limit: u32,
    ) -> PortResult<Page<GovernanceRun>>;

    /// Removes up to `limit` runs from before `before`, oldest first; returns how many.
    async fn forget_policy_runs(&self, before: Timestamp, limit: u32) -> PortResult<u64>;

    /// Removes up to `limit` versions that were replaced before `before`; returns how many. The current one always stays.
    async fn forget_policy_versions(&self, before: Timestamp, limit: u32) -> PortResult<u64>;
}

/// Facts about a content that its assets do not contain, as far as policies ask for them.
#[async_trait]
pub trait Provenance: Send + Sync + 'static {
    /// How far the origin of a content is known, followed no farther than `most` edges.
    async fn ancestry(&self, content: ContentHash, most: u32) -> PortResult<crate::governance::Ancestry>;
}
