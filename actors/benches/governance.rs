//! The cost of judging, without the ports: a policy as people write them, and the largest that the language allows.

use divan::{Bencher, black_box};
use jiff::Timestamp;
use penstock_actors::{
    governance::{Ancestry, CONDITIONS, Facts, GovernancePolicy, RULES, TERMS},
    ids::{ContentHash, ProducerId, VersionId},
};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Ten rules of the usual kinds.
fn usual() -> Value {
    let rules: Vec<Value> = [
        json!({ "licence": ["CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "MIT"] }),
        json!({ "classification": ["public", "internal"] }),
        json!({ "facets": ["owner", "purpose", "/retention/days"] }),
        json!({ "facet": { "path": "/retention/days", "in": [30, 90, 365] } }),
        json!({ "mediaType": ["text/*", "application/json"] }),
        json!({ "maxSizeBytes": 1_000_000_000 }),
        json!({ "maxAgeDays": 365 }),
        json!({ "lineageDepth": { "min": 2, "max": 9 } }),
        json!({ "any": [{ "not": { "classification": ["personal"] } }, { "facets": ["legalBasis"] }] }),
        json!({ "all": [{ "facets": ["license"] }, { "not": { "licence": ["proprietary"] } }] }),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, require)| json!({ "id": format!("rule-{number}"), "require": require, "otherwise": "warn" }))
    .collect();
    json!({ "rules": rules })
}

/// The most rules and conditions, over lists that fill the document.
fn largest() -> Value {
    // Each part is three conditions, and the "all" of a rule is one.
    let parts = (CONDITIONS / RULES - 1) / 3;
    // The asset's licences are the last of each list, so that each of them is compared with the whole list.
    let licences: Vec<&str> = std::iter::repeat_n("ab", 90).chain(["ac"]).collect();
    let part = json!({ "not": { "not": { "licence": licences } } });
    let rule = |number: usize| json!({ "id": format!("r{number}"), "require": { "all": vec![part.clone(); parts] } });
    json!({ "rules": (0..RULES).map(rule).collect::<Vec<_>>() })
}

fn usual_meta() -> Value {
    json!({
        "license": "CC-BY-4.0", "classification": "public", "owner": "Studio", "purpose": "research",
        "retention": { "days": 90 },
    })
}

fn judge(bencher: Bencher<'_, '_>, document: Value, meta: &Value) {
    let policy = GovernancePolicy::read(document).expect("a policy");
    let now = Timestamp::now();
    let facts = Facts {
        version_id: VersionId::next(),
        content_hash: ContentHash::from_bytes([1; 32]),
        policy_meta: meta,
        producer_id: ProducerId::next(),
        media_type: "text/csv",
        size_bytes: 1000,
        created_at: now,
        ancestry: Some(Ancestry { depth: 3, cut: false }),
    };
    bencher.bench_local(|| black_box(&policy).judge(black_box(&facts), now));
}

#[divan::bench]
fn ten_rules_that_pass(bencher: Bencher<'_, '_>) {
    judge(bencher, usual(), &usual_meta());
}

#[divan::bench]
fn ten_rules_of_which_most_are_broken(bencher: Bencher<'_, '_>) {
    judge(bencher, usual(), &json!({ "classification": "personal" }));
}

/// With as many licences as are checked.
#[divan::bench]
fn the_largest_policy(bencher: Bencher<'_, '_>) {
    judge(bencher, largest(), &json!({ "license": vec!["ac"; TERMS] }));
}

#[divan::bench]
fn reading_ten_rules(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(usual).bench_local_values(|document| GovernancePolicy::read(document).expect("a policy"));
}
