//! Properties of every policy and every asset.

use jiff::ToSpan as _;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    tests::{PRODUCER, facts, now, policy, requiring},
    *,
};
use crate::ids::ProducerId;

/// Conditions over a few facts, such that each holds for some assets.
fn conditions() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        prop::sample::subsequence(vec!["MIT", "ISC", "GPL-3.0"], 1..=3).prop_map(|l| json!({ "licence": l })),
        prop::sample::subsequence(vec!["public", "secret"], 1..=2).prop_map(|c| json!({ "classification": c })),
        prop::sample::subsequence(vec!["license", "owner", "/a/b"], 1..=3).prop_map(|f| json!({ "facets": f })),
        prop::sample::subsequence(vec!["x", "y"], 1..=2)
            .prop_map(|values| json!({ "facet": { "path": "owner", "in": values } })),
        Just(json!({ "producer": [PRODUCER] })),
        Just(json!({ "mediaType": ["video/*"] })),
        (0_u64..3000).prop_map(|most| json!({ "maxSizeBytes": most })),
        (1_u32..30).prop_map(|most| json!({ "maxAgeDays": most })),
        (1_u32..6).prop_map(|least| json!({ "lineageDepth": { "min": least } })),
        (0_u32..6).prop_map(|most| json!({ "lineageDepth": { "max": most } })),
    ];
    // At most an even number of levels, so that one more "not" still fits.
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| json!({ "all": parts })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| json!({ "any": parts })),
            inner.prop_map(|part| json!({ "not": part })),
        ]
    })
}

#[derive(Debug, Clone)]
struct World {
    meta: Value,
    size: u64,
    days: i64,
    ancestry: Ancestry,
    ours: bool,
}

impl World {
    fn facts(&self) -> Facts<'_> {
        let producer_id = if self.ours { PRODUCER.parse().expect("an id") } else { ProducerId::next() };
        Facts {
            size_bytes: self.size,
            created_at: now() - (self.days * 24).hours(),
            ancestry: Some(self.ancestry),
            producer_id,
            ..facts(&self.meta)
        }
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let meta = (
        prop::option::of(prop::sample::select(vec![json!("MIT"), json!("GPL-3.0"), json!(["MIT", "ISC"]), json!(5)])),
        prop::option::of(prop::sample::select(vec![json!("public"), json!("secret")])),
        prop::option::of(prop::sample::select(vec!["x", "y", "z", ""])),
        any::<bool>(),
    );
    let meta = meta.prop_map(|(license, classification, owner, nested)| {
        let mut meta = json!({});
        for (name, value) in
            [("license", license), ("classification", classification), ("owner", owner.map(Value::from))]
        {
            if let Some(value) = value {
                meta[name] = value;
            }
        }
        if nested {
            meta["a"] = json!({ "b": 0 });
        }
        meta
    });
    (meta, 0_u64..3000, 0_i64..40, (0_u32..7, any::<bool>()), any::<bool>()).prop_map(
        |(meta, size, days, (depth, cut), ours)| World { meta, size, days, ancestry: Ancestry { depth, cut }, ours },
    )
}

fn truth(condition: &Value, world: &World) -> Truth {
    let policy = requiring(condition);
    policy.rules()[0].require.truth(&world.facts(), now())
}

/// Arbitrary JSON, much of it made of the language's words.
fn documents() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "rules",
        "id",
        "when",
        "require",
        "otherwise",
        "all",
        "any",
        "not",
        "licence",
        "facet",
        "path",
        "in",
        "lineageDepth",
        "min",
        "warn",
        "a",
        "",
        "~",
        "\u{0}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(word.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_read_or_refused_with_paths(document in documents()) {
        match GovernancePolicy::read(document.clone()) {
            Ok(policy) => prop_assert_eq!(policy.document(), &document),
            Err(flaws) => prop_assert!((1..=FLAWS).contains(&flaws.len())),
        }
    }

    #[test]
    fn a_policy_survives_its_text(condition in conditions()) {
        let policy = requiring(&condition);
        let text = serde_json::to_string(&policy).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<GovernancePolicy>(&text).expect("a policy"), policy);
    }

    #[test]
    fn all_any_and_not_are_what_de_morgan_says(a in conditions(), b in conditions(), world in worlds()) {
        let not_all = truth(&json!({ "not": { "all": [a, b] } }), &world);
        prop_assert_eq!(not_all, truth(&json!({ "any": [{ "not": a }, { "not": b }] }), &world));
        let not_any = truth(&json!({ "not": { "any": [a, b] } }), &world);
        prop_assert_eq!(not_any, truth(&json!({ "all": [{ "not": a }, { "not": b }] }), &world));
        prop_assert_eq!(truth(&json!({ "not": { "not": a } }), &world), truth(&a, &world));
    }

    #[test]
    fn what_is_unknown_may_come_out_either_way_and_what_is_known_stays(condition in conditions(), world in worlds()) {
        let told = truth(&condition, &world);
        // All depths that are possible beyond the place where a walk was cut.
        let depths = if world.ancestry.cut { world.ancestry.depth..=LINEAGE_DEPTH } else { world.ancestry.depth..=world.ancestry.depth };
        for depth in depths {
            let whole = World { ancestry: Ancestry { depth, cut: false }, ..world.clone() };
            prop_assert!(told == Truth::Unknown || told == truth(&condition, &whole));
        }
    }

    #[test]
    fn each_rule_stands_in_one_list_and_the_gravest_reason_decides(
        rules in prop::collection::vec((prop::option::of(conditions()), conditions(), any::<bool>()), 0..6),
        world in worlds(),
    ) {
        let rules: Vec<_> = rules.iter().enumerate().map(|(number, (when, require, warns))| {
            let otherwise = if *warns { "warn" } else { "block" };
            let mut rule = json!({ "id": format!("r{number}"), "require": require, "otherwise": otherwise });
            if let Some(when) = when {
                rule["when"] = when.clone();
            }
            rule
        }).collect();
        let facts = world.facts();
        let verdict = policy(&json!(rules)).judge(&facts, now());
        let mut told: Vec<_> = verdict.reasons.iter().map(|reason| reason.rule.clone()).collect();
        told.extend(verdict.passed.iter().chain(&verdict.not_applicable).cloned());
        told.sort();
        prop_assert_eq!(told, (0..rules.len()).map(|number| format!("r{number}")).collect::<Vec<_>>());
        let gravest = verdict.reasons.iter().map(|reason| reason.decision).max().unwrap_or(Decision::Allow);
        prop_assert_eq!(verdict.decision, gravest);
        for reason in &verdict.reasons {
            prop_assert!(reason.decision > Decision::Allow);
            prop_assert!((1..=EVIDENCE).contains(&reason.evidence.len()), "{:?}", reason);
        }
        let again: Verdict = serde_json::from_value(json!(verdict)).expect("a verdict");
        prop_assert_eq!(&again, &verdict);

        // Neither the order of the rules nor the other rules soften a rule.
        let mut turned = rules;
        turned.reverse();
        prop_assert_eq!(policy(&json!(turned)).judge(&facts, now()).decision, verdict.decision);
        turned.pop();
        prop_assert!(policy(&json!(turned)).judge(&facts, now()).decision <= verdict.decision);
    }

    #[test]
    fn lineage_is_followed_as_far_as_it_can_matter(condition in conditions(), world in worlds(), beyond in 0_u32..5) {
        let policy = requiring(&condition);
        let known = World { ancestry: Ancestry { cut: false, ..world.ancestry }, ..world };
        let most = policy.lineage_depth().unwrap_or(0);
        let decide = |ancestry| policy.judge(&Facts { ancestry, ..known.facts() }, now()).decision;
        let seen = Ancestry { depth: (known.ancestry.depth + beyond).min(most), cut: false };
        let whole = Ancestry { depth: known.ancestry.depth + beyond, cut: false };
        let asks = policy.lineage_depth().is_some();
        prop_assert_eq!(decide(asks.then_some(seen)), decide(Some(whole)));
    }
}
