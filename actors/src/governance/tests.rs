use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ids::{ContentHash, ProducerId, VersionId};

const PRODUCER: &str = "01a20944-aef3-753c-a808-cef851697fc2";

pub(super) fn now() -> Timestamp {
    "2027-03-04T05:06:07Z".parse().expect("a time")
}

pub(super) fn facts(meta: &Value) -> Facts<'_> {
    Facts {
        version_id: VersionId::next(),
        content_hash: ContentHash::from_bytes([1; 32]),
        policy_meta: meta,
        producer_id: PRODUCER.parse().expect("an id"),
        media_type: "video/mp4; codecs=avc1",
        size_bytes: 1000,
        created_at: now() - (10 * 24).hours(),
        ancestry: Some(Ancestry { depth: 3, cut: false }),
    }
}

fn policy(rules: &Value) -> Policy {
    Policy::read(json!({ "rules": rules })).expect("a policy")
}

fn requiring(condition: &Value) -> Policy {
    policy(&json!([{ "id": "r", "require": condition }]))
}

fn holds(condition: &Value, meta: &Value) -> bool {
    requiring(condition).judge(&facts(meta), now()).decision == Decision::Allow
}

#[test]
fn each_condition_means_what_the_page_says() {
    let meta = json!({
        "license": "cc-by-4.0",
        "classification": ["public", "internal"],
        "owner": "Studio",
        "empty": "",
        "nothing": null,
        "retention": { "days": 30, "a/b": { "~": true } },
        "tags": ["a"],
    });
    for (condition, expected) in [
        (json!({ "licence": ["MIT", "CC-BY-4.0"] }), true),
        (json!({ "license": ["CC-BY-4.0"] }), true),
        (json!({ "licence": ["MIT"] }), false),
        (json!({ "classification": ["public", "internal", "secret"] }), true),
        (json!({ "classification": ["public"] }), false),
        (json!({ "facets": ["owner", "/retention/days", "/retention/a~1b/~0", "tags", "/tags/0"] }), true),
        (json!({ "facets": ["owner", "missing"] }), false),
        (json!({ "facets": ["empty"] }), false),
        (json!({ "facets": ["nothing"] }), false),
        (json!({ "facets": ["/tags/1"] }), false),
        (json!({ "facet": { "path": "/retention/days", "in": [7, 30] } }), true),
        (json!({ "facet": { "path": "/retention/days", "in": ["30"] } }), false),
        (json!({ "facet": { "path": "missing", "in": [true] } }), false),
        (json!({ "producer": [PRODUCER] }), true),
        (json!({ "producer": ["01a20944-aef3-753c-a808-cef851697fc3"] }), false),
        (json!({ "mediaType": ["audio/*", "video/*"] }), true),
        (json!({ "mediaType": ["video/MP4"] }), true),
        (json!({ "mediaType": ["videos/*"] }), false),
        (json!({ "maxSizeBytes": 1000 }), true),
        (json!({ "maxSizeBytes": 999 }), false),
        (json!({ "maxAgeDays": 10 }), true),
        (json!({ "maxAgeDays": 9 }), false),
        (json!({ "lineageDepth": { "min": 3 } }), true),
        (json!({ "lineageDepth": { "min": 4 } }), false),
        (json!({ "lineageDepth": { "max": 3 } }), true),
        (json!({ "lineageDepth": { "max": 2 } }), false),
        (json!({ "lineageDepth": { "min": 1, "max": 5 } }), true),
        (json!({ "all": [{ "maxAgeDays": 10 }, { "maxSizeBytes": 1 }] }), false),
        (json!({ "any": [{ "maxAgeDays": 9 }, { "maxSizeBytes": 1000 }] }), true),
        (json!({ "not": { "maxAgeDays": 9 } }), true),
    ] {
        assert_eq!(holds(&condition, &meta), expected, "{condition}");
    }
}

#[test]
fn licences_are_found_under_their_names_and_must_be_texts() {
    let allowed = json!({ "licence": ["MIT"] });
    for (meta, expected) in [
        (json!({ "license": "MIT" }), true),
        (json!({ "licence": "mit" }), true),
        (json!({ "dct:license": ["MIT"] }), true),
        (json!({ "license": null, "licence": "MIT" }), true),
        (json!({ "license": "GPL-3.0", "licence": "MIT" }), false),
        (json!({ "license": [] }), false),
        (json!({ "license": ["MIT", "GPL-3.0"] }), false),
        (json!({ "license": ["MIT", 5] }), false),
        (json!({ "license": { "name": "MIT" } }), false),
        (json!({ "license": vec!["MIT"; TERMS] }), true),
        (json!({ "license": vec!["MIT"; TERMS + 1] }), false),
        (json!({}), false),
    ] {
        assert_eq!(holds(&allowed, &meta), expected, "{meta}");
    }
}

#[test]
fn a_reason_names_what_was_looked_at_expected_and_found() {
    let rules = json!([
        { "id": "licence", "require": { "licence": ["MIT", "ISC"] }, "reason": "Open licences only." },
        { "id": "not-secret", "require": { "not": { "classification": ["secret"] } }, "otherwise": "warn" },
        { "id": "films", "when": { "mediaType": ["audio/*"] }, "require": { "facets": ["duration"] } },
        { "id": "small", "require": { "maxSizeBytes": 5000 } },
    ]);
    let meta = json!({ "license": "GPL-3.0", "classification": "Secret" });
    let verdict = serde_json::to_value(policy(&rules).judge(&facts(&meta), now())).expect("JSON");
    assert_eq!(
        verdict,
        json!({
            "decision": "block",
            "reasons": [
                {
                    "rule": "licence",
                    "decision": "block",
                    "reason": "Open licences only.",
                    "evidence": [{
                        "path": "rules[0].require.licence",
                        "fact": "policyMeta.license",
                        "expected": "one of MIT, ISC",
                        "found": "GPL-3.0",
                    }],
                },
                {
                    "rule": "not-secret",
                    "decision": "warn",
                    "reason": "the rule not-secret is not kept",
                    "evidence": [{
                        "path": "rules[1].require.not.classification",
                        "fact": "policyMeta.classification",
                        "expected": "not secret",
                        "found": "Secret",
                    }],
                },
            ],
            "passed": ["small"],
            "notApplicable": ["films"],
        })
    );
}

#[test]
fn what_cannot_be_told_counts_against_the_asset_either_way() {
    let meta = json!({});
    let cut = Facts { ancestry: Some(Ancestry { depth: 2, cut: true }), ..facts(&meta) };
    for condition in [
        json!({ "lineageDepth": { "min": 3 } }),
        json!({ "not": { "lineageDepth": { "min": 3 } } }),
        json!({ "lineageDepth": { "max": 2 } }),
        json!({ "any": [{ "lineageDepth": { "min": 3 } }, { "maxSizeBytes": 1 }] }),
    ] {
        let verdict = requiring(&condition).judge(&cut, now());
        assert_eq!(verdict.decision, Decision::Block, "{condition}");
        let found = &verdict.reasons[0].evidence[0].found;
        assert!(found.as_str().is_some_and(|found| found.starts_with("at least 2")), "{condition} {found}");
    }
    assert_eq!(requiring(&json!({ "lineageDepth": { "min": 2 } })).judge(&cut, now()).decision, Decision::Allow);
    // A rule that may be about the asset is applied, and says why.
    let rule = json!([{ "id": "r", "when": { "lineageDepth": { "min": 3 } }, "require": { "maxSizeBytes": 1 } }]);
    let verdict = policy(&rule).judge(&cut, now());
    let paths: Vec<_> = verdict.reasons[0].evidence.iter().map(|evidence| evidence.path.as_str()).collect();
    assert_eq!(paths, ["rules[0].when.lineageDepth", "rules[0].require.maxSizeBytes"]);
}

#[test]
fn evidence_is_bounded() {
    let long = "é".repeat(10_000);
    let meta = json!({ "a": long, "license": (0..1000).collect::<Vec<_>>() });
    let many: Vec<Value> = (0..200).map(|_| json!({ "facet": { "path": "a", "in": ["b"] } })).collect();
    let verdict = requiring(&json!({ "all": many })).judge(&facts(&meta), now());
    assert_eq!(verdict.reasons[0].evidence.len(), EVIDENCE);
    let values: Vec<String> = (0..256).map(|number| format!("L-{number}")).collect();
    let verdict = requiring(&json!({ "licence": values })).judge(&facts(&meta), now());
    let evidence = &verdict.reasons[0].evidence[0];
    assert!(evidence.expected.ends_with("and 248 more"), "{}", evidence.expected);
    assert!(evidence.found.to_string().len() < 300);
}

fn flaws(document: Value) -> Vec<(String, String)> {
    let flaws = Policy::read(document).expect_err("it is flawed");
    flaws.into_iter().map(|flaw| (flaw.path, flaw.detail)).collect()
}

fn paths(document: Value) -> Vec<String> {
    flaws(document).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn every_flaw_is_told_with_its_path() {
    let document = json!({
        "descripton": "x",
        "rules": [
            { "id": "Bad Id", "require": { "licence": [] } },
            { "id": "a", "require": { "licence": ["MIT", 5, ""] }, "otherwise": "allow" },
            { "id": "a", "require": { "licences": ["MIT"] }, "when": { "a b": 1 } },
            { "id": "b", "require": { "all": [{ "not": { "producer": ["x"] } }, {}, 7, { "any": [], "all": [] }] } },
            { "id": "c", "requires": {} },
            { "id": "d", "require": { "mediaType": ["video", "*/*", "a/b;c=d"] } },
            { "id": "e", "require": { "lineageDepth": {} } },
            { "id": "f", "require": { "lineageDepth": { "min": 5, "max": 4 } } },
            { "id": "g", "require": { "lineageDepth": { "min": 11, "max": 10, "mean": 1 } } },
            { "id": "h", "require": { "maxAgeDays": 0 } },
            { "id": "i", "require": { "maxSizeBytes": -1 } },
            { "id": "j", "require": { "facets": ["/a~2", "b\n"] } },
            { "id": "k", "require": { "facet": { "in": [null, {}, "ok"] } } },
            { "id": "l", "require": { "facet": "owner" }, "reason": "" },
            5,
        ],
    });
    let expected = [
        "descripton",
        "rules[0].id",
        "rules[0].require.licence",
        "rules[1].require.licence[1]",
        "rules[1].require.licence[2]",
        "rules[1].otherwise",
        "rules[2].when[\"a b\"]",
        "rules[2].require.licences",
        "rules[3].require.all[0].not.producer[0]",
        "rules[3].require.all[1]",
        "rules[3].require.all[2]",
        "rules[3].require.all[3]",
        "rules[4].requires",
        "rules[4].require",
        "rules[5].require.mediaType[0]",
        "rules[5].require.mediaType[1]",
        "rules[5].require.mediaType[2]",
        "rules[6].require.lineageDepth",
        "rules[7].require.lineageDepth",
        "rules[8].require.lineageDepth.mean",
        "rules[8].require.lineageDepth.min",
        "rules[8].require.lineageDepth.max",
        "rules[9].require.maxAgeDays",
        "rules[10].require.maxSizeBytes",
        "rules[11].require.facets[0]",
        "rules[11].require.facets[1]",
        "rules[12].require.facet.path",
        "rules[12].require.facet.in[0]",
        "rules[12].require.facet.in[1]",
        "rules[13].require.facet",
        "rules[13].reason",
        "rules[14]",
    ];
    assert_eq!(paths(document), expected);
    let same = json!({ "rules": [
        { "id": "a", "require": { "maxAgeDays": 1 } }, { "id": "a", "require": { "maxAgeDays": 1 } },
    ] });
    assert_eq!(paths(same), ["rules[1].id"]);
    for (document, path) in [(json!([]), ""), (json!({}), "rules"), (json!({ "rules": {} }), "rules")] {
        assert_eq!(paths(document), [path]);
    }
}

/// A condition inside of so many others.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({ "maxAgeDays": 1 }), |inner, _| json!({ "not": inner }))
}

#[test]
fn a_policy_that_nests_too_deep_or_is_too_large_is_told_where() {
    assert!(Policy::read(json!({ "rules": [{ "id": "a", "require": nested(DEPTH) }] })).is_ok());
    let deep = flaws(json!({ "rules": [{ "id": "a", "require": nested(100) }] }));
    assert_eq!(deep.len(), 1);
    assert_eq!(deep[0].0, format!("rules[0].require{}", ".not".repeat(DEPTH)));
    assert!(deep[0].1.contains("nested too deep"));

    let rule = |number: usize| json!({ "id": format!("r{number}"), "require": { "maxAgeDays": 1 } });
    let rules = |count: usize| json!({ "rules": (0..count).map(rule).collect::<Vec<_>>() });
    assert!(Policy::read(rules(RULES)).is_ok());
    assert_eq!(paths(rules(RULES + 1)), ["rules"]);

    let parts = vec![json!({ "maxAgeDays": 1 }); VALUES];
    let wide = |rules: usize| {
        let rule = |number: usize| json!({ "id": format!("r{number}"), "require": { "all": parts } });
        json!({ "rules": (0..rules).map(rule).collect::<Vec<_>>() })
    };
    assert!(Policy::read(wide(1)).is_ok());
    // 1 + 256 + 1 + 254, and then one too many.
    assert_eq!(paths(wide(3)), ["rules[1].require.all[254]"]);
    let longer = json!({ "rules": [{ "id": "a", "require": { "licence": vec!["MIT"; VALUES + 1] } }] });
    assert_eq!(paths(longer), ["rules[0].require.licence"]);
    let long = json!({ "rules": [{ "id": "a", "require": { "licence": ["x".repeat(TEXT_BYTES + 1)] } }] });
    assert_eq!(paths(long), ["rules[0].require.licence[0]"]);
    let huge = json!({ "rules": [{ "id": "a", "require": { "licence": vec!["x".repeat(TEXT_BYTES); 500] } }] });
    assert_eq!(paths(huge), [""]);
    let many = json!({ "rules": (0..RULES).map(|_| json!({ "a": 1, "b": 2, "c": 3 })).collect::<Vec<_>>() });
    assert_eq!(paths(many).len(), FLAWS);
}

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
    // An even number of levels at most, so that one more "not" still fits.
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

/// Any JSON, much of it made of the language's words.
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
        match Policy::read(document.clone()) {
            Ok(policy) => prop_assert_eq!(policy.document(), &document),
            Err(flaws) => prop_assert!((1..=FLAWS).contains(&flaws.len())),
        }
    }

    #[test]
    fn a_policy_survives_its_text(condition in conditions()) {
        let policy = requiring(&condition);
        let text = serde_json::to_string(&policy).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).expect("a policy"), policy);
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
        // Whatever lies beyond the place where a walk was cut.
        let depths = if world.ancestry.cut { world.ancestry.depth..=LINEAGE_DEPTH } else { world.ancestry.depth..=world.ancestry.depth };
        for depth in depths {
            let whole = World { ancestry: Ancestry { depth, cut: false }, ..world.clone() };
            let known = truth(&condition, &whole);
            prop_assert_ne!(known, Truth::Unknown);
            prop_assert!(told == Truth::Unknown || told == known);
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

        // Neither their order nor the rest of the rules makes a rule milder.
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
