//! What holds for every policy and every asset that it judges.

use jiff::Timestamp;
use penstock_actors::{
    governance::{Ancestry, Decision, EVIDENCE, FLAWS, Facts, GovernancePolicy, LINEAGE_DEPTH, RULES, Verdict},
    ids::{ContentHash, ProducerId, VersionId},
};
use serde_json::json;
use uuid::Uuid;

use super::*;

/// Gives the text to the node as a policy, and has it judge an asset with these properties.
///
/// # Panics
/// When the policy is read differently from other JSON, or breaks a bound of the language.
pub(crate) fn check(text: &str, policy_meta: &Value, ancestry: Option<Ancestry>) {
    let Ok(Document(document)) = serde_json::from_str(text) else { return };
    assert_eq!(serde_json::from_str(text).ok(), Some(document.clone()));
    let policy = match GovernancePolicy::read(document.clone()) {
        Ok(policy) => policy,
        Err(flaws) => return assert!((1..=FLAWS).contains(&flaws.len())),
    };
    assert_eq!(policy.document(), &document);
    assert!(policy.rules().len() <= RULES && policy.lineage_depth().is_none_or(|depth| depth <= LINEAGE_DEPTH));
    assert_eq!(serde_json::from_str::<GovernancePolicy>(&document.to_string()).ok().as_ref(), Some(&policy));

    let facts = Facts {
        version_id: VersionId::from_uuid(Uuid::nil()),
        content_hash: ContentHash::from_bytes([1; 32]),
        policy_meta,
        producer_id: ProducerId::from_uuid(Uuid::nil()),
        media_type: "video/mp4; codecs=avc1",
        size_bytes: 1000,
        created_at: Timestamp::UNIX_EPOCH,
        ancestry,
    };
    let verdict = policy.judge(&facts, Timestamp::UNIX_EPOCH);
    check_verdict(&policy, &verdict);
}

fn check_verdict(policy: &GovernancePolicy, verdict: &Verdict) {
    let judged =
        verdict.reasons.iter().map(|reason| &reason.rule).chain(&verdict.passed).chain(&verdict.not_applicable);
    let mut judged: Vec<_> = judged.collect();
    let mut rules: Vec<_> = policy.rules().iter().map(|rule| &rule.id).collect();
    judged.sort_unstable();
    rules.sort_unstable();
    assert_eq!(judged, rules, "each rule is in one list");
    let gravest = verdict.reasons.iter().map(|reason| reason.decision).max();
    assert_eq!(verdict.decision, gravest.unwrap_or(Decision::Allow));
    for reason in &verdict.reasons {
        assert!(reason.decision > Decision::Allow && (1..=EVIDENCE).contains(&reason.evidence.len()), "{reason:?}");
    }
    assert_eq!(serde_json::from_value::<Verdict>(json!(verdict)).ok().as_ref(), Some(verdict));
}
