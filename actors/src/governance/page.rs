//! The examples of docs/policies.md: each policy can be read, and its outcome is the one in the table below it.

use serde_json::Value;

use super::{
    Ancestry, Decision, Facts, GovernancePolicy,
    tests::{facts, now},
};

const PAGE: &str = include_str!("../../../docs/policies.md");

/// A line of a table below a policy.
struct Example {
    meta: Value,
    ancestry: Ancestry,
    decision: Decision,
}

fn example(line: &str) -> Option<Example> {
    let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
    let meta = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
    let meta = serde_json::from_str(meta).ok().filter(Value::is_object)?;
    let decision = Decision::parse(cells.last()?)?;
    let ancestry = match cells.as_slice() {
        [_, depth, _] => {
            let (depth, cut) = depth.strip_suffix(" or more").map_or((*depth, false), |depth| (depth, true));
            Ancestry { depth: depth.parse().ok()?, cut }
        }
        _ => Ancestry::default(),
    };
    Some(Example { meta, ancestry, decision })
}

#[test]
fn the_examples_come_to_what_the_page_says() {
    let (mut policies, mut judged) = (0, 0);
    for part in PAGE.split("```json\n").skip(1) {
        let (document, text) = part.split_once("```").expect("an example ends");
        let document: Value = serde_json::from_str(document).expect("an example is JSON");
        if document.get("rules").is_none() {
            continue;
        }
        let policy = GovernancePolicy::read(document).expect("an example is a policy");
        policies += 1;
        for example in text.lines().filter_map(example) {
            let (ancestry, media_type) = (Some(example.ancestry), "text/csv");
            let facts = Facts { ancestry, media_type, ..facts(&example.meta) };
            let verdict = policy.judge(&facts, now());
            assert_eq!(verdict.decision, example.decision, "{} {:?}", example.meta, verdict.reasons);
            judged += 1;
        }
    }
    assert_eq!((policies, judged), (3, 14), "the test reads every example on the page");
}
