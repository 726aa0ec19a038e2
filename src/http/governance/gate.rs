//! The node's own policy: evaluated before an asset or a receipt is created.
//!
//! A blocked request is refused with the reasons; with warnings, the resource is created, and the answer has the
//! reasons as `warnings`. Without a policy neither costs anything.

use penstock_actors::{
    governance::{Decision, Facts, Reason},
    model::{Asset, NewAsset},
    policy_evaluator::{EvaluationError, PolicyEvaluator},
    ports::{ContentIndex, GovernanceRun, NewAssetError, Occasion},
};
use serde::Serialize;

use super::super::problem::{Problem, blocked_by};

/// An answer with the policy's warnings.
#[derive(Serialize)]
pub(in crate::http) struct Warned<T> {
    #[serde(flatten)]
    answer: T,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Reason>,
}

/// The policy's warnings.
#[must_use]
pub(in crate::http) struct GateWarnings(Vec<Reason>);

impl GateWarnings {
    pub(in crate::http) fn with<T>(self, answer: T) -> Warned<T> {
        Warned { answer, warnings: self.0 }
    }
}

/// Evaluates an asset before it is created. If the node has a policy, it looks the content up first: properties that
/// the asset does not declare are taken from the producer's declaration of the content.
///
/// # Errors
/// `policy-blocked`, `policy-missing`, `validation-failed` when the content is not stored, or the errors of the ports.
pub(in crate::http) async fn before_publishing(
    evaluator: &PolicyEvaluator,
    index: &dyn ContentIndex,
    asset: &NewAsset,
) -> Result<GateWarnings, Problem> {
    if evaluator.bound_to().is_none() {
        return Ok(GateWarnings(Vec::new()));
    }
    let content =
        index.content_of(asset.content_hash, asset.producer_id).await?.ok_or(NewAssetError::ContentNotStored)?;
    let facts = Facts {
        version_id: asset.version_id,
        content_hash: asset.content_hash,
        policy_meta: &asset.policy_meta,
        producer_id: asset.producer_id,
        media_type: asset.media_type.as_deref().unwrap_or(&content.media_type),
        size_bytes: content.size_bytes,
        created_at: asset.created_at,
        ancestry: None,
    };
    pass(evaluator.gate(Occasion::Publish, facts).await)
}

/// Evaluates the asset of a receipt before the receipt is created.
///
/// # Errors
/// `policy-blocked`, `policy-missing`, or the errors of the ports.
pub(in crate::http) async fn before_selling(
    evaluator: &PolicyEvaluator,
    asset: &Asset,
) -> Result<GateWarnings, Problem> {
    pass(evaluator.gate(Occasion::Receipt, Facts::from(asset)).await)
}

fn pass(judged: Result<Option<GovernanceRun>, EvaluationError>) -> Result<GateWarnings, Problem> {
    match judged {
        Ok(None) => Ok(GateWarnings(Vec::new())),
        Ok(Some(run)) if run.verdict.decision == Decision::Block => Err(blocked_by(&run)),
        Ok(Some(run)) => Ok(GateWarnings(run.verdict.reasons)),
        Err(error) => Err(error.into()),
    }
}
