//! Judging through the governor: its calls to the ports, and what it refuses when they fail.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use penstock_actors::{
    clock::Clock as _,
    governance::{Ancestry, Decision, Facts, GovernancePolicy},
    ids::{ContentHash, GovernancePolicyId, ProducerId, VersionId},
    policy_evaluator::{EvaluationError, PolicyEvaluator, PolicyEvaluatorDeps},
    ports::{GovernancePolicies as _, Occasion, PortError},
    testkit::{
        clock::ManualClock,
        governance_suite,
        memory_governance::{MemoryGovernancePolicies, MemoryProvenance},
        script::Fault,
    },
};
use serde_json::{Value, json};

use crate::rig::START;

struct Scene {
    policies: Arc<MemoryGovernancePolicies>,
    provenance: Arc<MemoryProvenance>,
    clock: Arc<ManualClock>,
    judged: Arc<Mutex<Vec<(Occasion, Decision)>>>,
    governor: PolicyEvaluator,
}

fn id() -> GovernancePolicyId {
    "house".parse().expect("an id")
}

impl Scene {
    async fn bound(rules: Option<Value>) -> Self {
        let policies = Arc::<MemoryGovernancePolicies>::default();
        let provenance = Arc::<MemoryProvenance>::default();
        let clock = Arc::new(ManualClock::at(START));
        let judged = Arc::<Mutex<Vec<_>>>::default();
        let observer = {
            let judged = Arc::clone(&judged);
            Arc::new(move |occasion, decision| judged.lock().expect("no panic").push((occasion, decision)))
        };
        let deps = PolicyEvaluatorDeps {
            policies: policies.clone(),
            provenance: provenance.clone(),
            clock: clock.clone(),
            observer,
        };
        let scene = Self { policies, provenance, clock, judged, governor: PolicyEvaluator::new(deps, Some(id())) };
        if let Some(rules) = rules {
            scene.put(rules).await;
        }
        scene
    }

    async fn put(&self, rules: Value) {
        let policy = GovernancePolicy::read(json!({ "rules": rules })).expect("a policy");
        self.policies.put_document(&id(), &policy, self.clock.now()).await.expect("put");
    }

    fn calls(&self, call: &'static str) -> usize {
        self.policies.script.calls(call).len() + self.provenance.script.calls(call).len()
    }
}

fn facts(meta: &Value, created_at: Timestamp) -> Facts<'_> {
    Facts {
        version_id: VersionId::next(),
        content_hash: ContentHash::from_bytes([1; 32]),
        policy_meta: meta,
        producer_id: ProducerId::next(),
        media_type: "text/csv",
        size_bytes: 10,
        created_at,
        ancestry: None,
    }
}

fn licence() -> Value {
    json!([{ "id": "licence", "require": { "licence": ["CC0-1.0"] } }])
}

#[actix::test]
async fn the_policies_in_memory_keep_the_promises_of_their_port() {
    governance_suite::run(Arc::<MemoryGovernancePolicies>::default()).await;
}

#[actix::test]
async fn every_publication_records_a_run_and_a_receipt_only_a_refusal_or_warning() {
    let scene = Scene::bound(Some(licence())).await;
    for (occasion, meta, decision, kept) in [
        (Occasion::Publish, json!({ "license": "CC0-1.0" }), Decision::Allow, 1),
        (Occasion::Publish, json!({}), Decision::Block, 2),
        (Occasion::Receipt, json!({ "license": "CC0-1.0" }), Decision::Allow, 2),
        (Occasion::Receipt, json!({}), Decision::Block, 3),
    ] {
        let run = scene.governor.gate(occasion, facts(&meta, scene.clock.now())).await.expect("judged");
        let run = run.expect("the node is bound");
        assert_eq!(run.verdict.decision, decision);
        assert_eq!(scene.policies.runs().len(), kept, "{occasion:?} {decision:?}");
        assert_eq!(scene.judged.lock().expect("no panic").last(), Some(&(occasion, decision)));
    }
    assert_eq!(scene.calls("ancestry"), 0, "no rule asks for it");
    assert_eq!(scene.calls("document"), 4, "one question for each");
}

#[actix::test]
async fn lineage_is_asked_once_and_no_farther_than_a_rule_looks() {
    let rules = json!([
        { "id": "known", "require": { "lineageDepth": { "min": 2 } } },
        { "id": "not-too-long", "require": { "lineageDepth": { "max": 4 } }, "otherwise": "warn" },
    ]);
    let scene = Scene::bound(Some(rules)).await;
    let meta = json!({});
    for (depth, cut, decision) in [
        (0, false, Decision::Block),
        (2, false, Decision::Allow),
        (4, false, Decision::Allow),
        (9, false, Decision::Warn),
        // An unknown condition counts against the asset.
        (1, true, Decision::Block),
        (3, true, Decision::Warn),
    ] {
        scene.provenance.set(Ancestry { depth, cut });
        let run = scene.governor.evaluate(&id(), facts(&meta, scene.clock.now())).await.expect("judged");
        assert_eq!(run.expect("the policy is there").verdict.decision, decision, "{depth} {cut}");
    }
    assert_eq!(scene.provenance.script.calls("ancestry"), [5; 6]);
}

#[actix::test]
async fn age_is_by_the_clock_of_the_judgement() {
    let scene = Scene::bound(Some(json!([{ "id": "fresh", "require": { "maxAgeDays": 30 } }]))).await;
    let (meta, made) = (json!({}), scene.clock.now());
    let decide = async || {
        let run = scene.governor.gate(Occasion::Receipt, facts(&meta, made)).await.expect("judged");
        run.expect("bound").verdict.decision
    };
    assert_eq!(decide().await, Decision::Allow);
    scene.clock.advance(std::time::Duration::from_secs(30 * 86_400));
    assert_eq!(decide().await, Decision::Allow);
    scene.clock.advance(std::time::Duration::from_micros(1));
    assert_eq!(decide().await, Decision::Block);
}

#[actix::test]
async fn nothing_passes_while_the_policy_is_missing_or_cannot_be_asked_for() {
    let scene = Scene::bound(None).await;
    let meta = json!({ "license": "CC0-1.0" });
    let gate = async || scene.governor.gate(Occasion::Publish, facts(&meta, scene.clock.now())).await;
    assert!(matches!(gate().await, Err(EvaluationError::Missing(missing)) if missing == id()));
    assert!(matches!(scene.governor.standing().await, Err(EvaluationError::Missing(_))));
    scene.put(licence()).await;
    assert!(scene.governor.standing().await.is_ok());
    assert!(gate().await.expect("judged").is_some());
    for call in ["document", "record_run"] {
        scene.policies.script.next(call, [Fault::Unavailable]);
        let failed = gate().await;
        assert!(matches!(failed, Err(EvaluationError::Port(PortError::Unavailable { .. }))), "{call}: {failed:?}");
    }
    scene.put(json!([{ "id": "known", "require": { "lineageDepth": { "min": 1 } } }])).await;
    scene.provenance.script.next("ancestry", [Fault::Unavailable]);
    assert!(gate().await.is_err());
}

#[actix::test]
async fn a_node_that_is_bound_to_nothing_asks_nothing() {
    let scene = Scene::bound(Some(licence())).await;
    let deps = PolicyEvaluatorDeps {
        policies: scene.policies.clone(),
        provenance: scene.provenance.clone(),
        clock: scene.clock.clone(),
        observer: Arc::new(|_, _| ()),
    };
    let free = PolicyEvaluator::new(deps, None);
    let meta = json!({});
    assert!(free.standing().await.is_ok());
    assert_eq!(free.gate(Occasion::Publish, facts(&meta, scene.clock.now())).await.expect("no gate"), None);
    assert_eq!(scene.calls("document"), 0);
    let unknown = "no-such-policy".parse().expect("an id");
    assert_eq!(free.evaluate(&unknown, facts(&meta, scene.clock.now())).await.expect("an answer"), None);
}
