use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use super::*;
use crate::ids::{ContentHash, VersionId};

pub(super) const PRODUCER: &str = "01a20944-aef3-753c-a808-cef851697fc2";

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

pub(super) fn policy(rules: &Value) -> GovernancePolicy {
    GovernancePolicy::read(json!({ "rules": rules })).expect("a policy")
}

pub(super) fn requiring(condition: &Value) -> GovernancePolicy {
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
        (json!({ "facet": { "path": "/retention/days", "in": [30.0] } }), true),
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
        (json!({ "license": "", "licence": "MIT" }), true),
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
fn values_added_to_a_list_do_not_bypass_a_rule() {
    let decide = |rule: &Value, meta: &Value| policy(&json!([rule])).judge(&facts(meta), now()).decision;
    let forbids = json!({ "id": "r", "require": { "not": { "classification": ["personal"] } } });
    let about =
        json!({ "id": "r", "when": { "classification": ["personal"] }, "require": { "facets": ["legalBasis"] } });
    for (classification, decision) in [
        (json!("public"), Decision::Allow),
        (json!(["public", "internal"]), Decision::Allow),
        (json!([]), Decision::Allow),
        (json!(null), Decision::Allow),
        (json!("personal"), Decision::Block),
        (json!(["personal", "internal"]), Decision::Block),
        (json!(["internal", "Personal"]), Decision::Block),
        (json!(["personal", 5]), Decision::Block),
        (json!([5]), Decision::Block),
        (json!({ "is": "personal" }), Decision::Block),
        (json!(vec!["personal"; TERMS + 1]), Decision::Block),
    ] {
        let meta = json!({ "classification": classification });
        assert_eq!(decide(&forbids, &meta), decision, "forbids {meta}");
        assert_eq!(decide(&about, &meta), decision, "is about {meta}");
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
fn an_unknown_answer_counts_against_the_asset_either_way() {
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
    // A rule that may apply to the asset is applied, and gives its reason.
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
    let flaws = GovernancePolicy::read(document).expect_err("it is flawed");
    flaws.into_iter().map(|flaw| (flaw.path, flaw.detail)).collect()
}

fn paths(document: Value) -> Vec<String> {
    flaws(document).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn every_flaw_is_reported_with_its_path() {
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

/// A condition nested this deep.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({ "maxAgeDays": 1 }), |inner, _| json!({ "not": inner }))
}

#[test]
fn a_policy_that_nests_too_deep_or_is_too_large_is_reported_where() {
    assert!(GovernancePolicy::read(json!({ "rules": [{ "id": "a", "require": nested(DEPTH) }] })).is_ok());
    let deep = flaws(json!({ "rules": [{ "id": "a", "require": nested(100) }] }));
    assert_eq!(deep.len(), 1);
    assert_eq!(deep[0].0, format!("rules[0].require{}", ".not".repeat(DEPTH)));
    assert!(deep[0].1.contains("nested too deep"));

    let rule = |number: usize| json!({ "id": format!("r{number}"), "require": { "maxAgeDays": 1 } });
    let rules = |count: usize| json!({ "rules": (0..count).map(rule).collect::<Vec<_>>() });
    assert!(GovernancePolicy::read(rules(RULES)).is_ok());
    assert_eq!(paths(rules(RULES + 1)), ["rules"]);

    let parts = vec![json!({ "maxAgeDays": 1 }); VALUES];
    let wide = |rules: usize| {
        let rule = |number: usize| json!({ "id": format!("r{number}"), "require": { "all": parts } });
        json!({ "rules": (0..rules).map(rule).collect::<Vec<_>>() })
    };
    assert!(GovernancePolicy::read(wide(1)).is_ok());
    // 1 + 256 + 1 + 254, and then one beyond the limit.
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
