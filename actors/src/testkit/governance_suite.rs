//! The promises of every [`GovernancePolicies`]: versions only grow, runs are read newest first, and both are forgotten in steps.
//!
//! Each promise makes its own policies under fresh ids. Forgetting acts on all rows that are old enough, so nothing
//! else may store policies older than ten years in the database.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::{
    clock::to_micros,
    governance::{Decision, Evidence, GovernancePolicy, Reason, Verdict},
    ids::{GovernancePolicyId, PolicyRunId, VersionId},
    ports::{GovernancePolicies, GovernanceRun, Occasion, PortError, RunMark},
};

/// Runs every promise.
///
/// # Panics
/// When a promise is broken.
pub async fn run(store: Arc<impl GovernancePolicies>) {
    let store = &*store;
    a_policy_is_read_as_it_was_written(store).await;
    a_change_makes_the_next_version_and_no_change_makes_none(store).await;
    a_number_that_is_spelt_otherwise_does_not_change_a_version(store).await;
    of_many_changes_at_once_each_makes_a_version(store).await;
    policies_are_listed_by_their_ids(store).await;
    runs_are_read_newest_first_page_by_page(store).await;
    a_run_is_kept_once_and_whole(store).await;
    a_run_of_no_policy_is_refused(store).await;
    old_runs_are_forgotten_oldest_first_in_steps(store).await;
    versions_are_forgotten_once_they_were_replaced_long_ago(store).await;
}

fn now() -> Timestamp {
    to_micros(Timestamp::now())
}

fn fresh() -> GovernancePolicyId {
    format!("p-{}", VersionId::next()).parse().expect("an id")
}

fn policy(licence: &str) -> GovernancePolicy {
    let large: Value = serde_json::from_str("1.0e400").expect("JSON");
    let document = json!({
        "description": "Öffentliche Daten — 公開",
        "rules": [
            { "id": "licence", "require": { "licence": [licence] } },
            {
                "id": "deep",
                "when": { "facet": { "path": "/a~1b/0", "in": [1, 2.5, large, true, "x"] } },
                "require": { "any": [{ "not": { "facets": ["owner"] } }, { "maxAgeDays": 3 }] },
                "otherwise": "warn",
                "reason": "\"quoted\" \\ and 'apostrophed'",
            },
        ],
    });
    GovernancePolicy::read(document).expect("a policy")
}

async fn put(store: &impl GovernancePolicies, id: &GovernancePolicyId, licence: &str, at: Timestamp) -> u32 {
    store.put_document(id, &policy(licence), at).await.expect("put").version
}

fn run_of(id: &GovernancePolicyId, asset: VersionId, at: Timestamp) -> GovernanceRun {
    let large: Value = serde_json::from_str("[12345678901234567890.10, 1e400, -0]").expect("JSON");
    let found: Value = json!({ "deep": [null, "é"], "large": large });
    let evidence = vec![Evidence {
        path: "rules[0].require.licence".into(),
        fact: "policyMeta.license".into(),
        expected: "CC0-1.0".into(),
        found,
    }];
    let reason = Reason { rule: "licence".into(), decision: Decision::Warn, reason: "not ours".into(), evidence };
    GovernanceRun {
        run_id: PolicyRunId::next(),
        policy_id: id.clone(),
        policy_version: 1,
        version_id: asset,
        occasion: Occasion::Publish,
        evaluated_at: at,
        verdict: Verdict {
            decision: Decision::Warn,
            reasons: vec![reason],
            passed: vec!["one".into()],
            not_applicable: vec!["other".into()],
        },
    }
}

async fn a_policy_is_read_as_it_was_written(store: &impl GovernancePolicies) {
    let (id, at) = (fresh(), now());
    assert_eq!(store.document(&id).await.expect("an answer"), None);
    let made = store.put_document(&id, &policy("CC0-1.0"), at).await.expect("put");
    assert_eq!((made.version, made.created_at, made.new), (1, at, true));
    let read = store.document(&id).await.expect("an answer").expect("the policy");
    assert_eq!((&read.policy_id, read.version, read.created_at), (&id, 1, at));
    assert_eq!(read.policy, policy("CC0-1.0"));
    assert_eq!(store.document_version(&id, 1).await.expect("an answer").as_ref(), Some(&*read));
    for version in [0, 2, u32::MAX] {
        assert_eq!(store.document_version(&id, version).await.expect("an answer"), None);
    }
}

async fn a_change_makes_the_next_version_and_no_change_makes_none(store: &impl GovernancePolicies) {
    let (id, at) = (fresh(), now());
    assert_eq!(put(store, &id, "CC0-1.0", at).await, 1);
    let again = store.put_document(&id, &policy("CC0-1.0"), at + 1.second()).await.expect("put");
    assert_eq!((again.version, again.created_at, again.new), (1, at, false));
    let changed = store.put_document(&id, &policy("MIT"), at + 2.seconds()).await.expect("put");
    assert_eq!((changed.version, changed.created_at, changed.new), (2, at + 2.seconds(), false));
    let current = store.document(&id).await.expect("an answer").expect("the policy");
    assert_eq!((current.version, &current.policy), (2, &policy("MIT")));
    let first = store.document_version(&id, 1).await.expect("an answer").expect("the first version");
    assert_eq!((first.created_at, first.policy), (at, policy("CC0-1.0")));
    assert_eq!(put(store, &id, "CC0-1.0", at + 3.seconds()).await, 3, "going back to an earlier text is a change, too");
}

async fn a_number_that_is_spelt_otherwise_does_not_change_a_version(store: &impl GovernancePolicies) {
    let id = fresh();
    for days in [json!(30), json!(30.0)] {
        let rule = json!({ "id": "r", "require": { "facet": { "path": "days", "in": [days] } } });
        let policy = GovernancePolicy::read(json!({ "rules": [rule] })).expect("a policy");
        store.put_document(&id, &policy, now()).await.expect("put");
    }
    let current = store.document(&id).await.expect("an answer").expect("the policy");
    let kept = store.document_version(&id, current.version).await.expect("an answer");
    assert_eq!(kept.as_ref(), Some(&*current));
}

async fn of_many_changes_at_once_each_makes_a_version(store: &impl GovernancePolicies) {
    let (id, at) = (fresh(), now());
    let licences: Vec<String> = (0..8).map(|number| format!("L-{number}")).collect();
    let puts = licences.iter().map(|licence| put(store, &id, licence, at));
    let mut versions = futures::future::join_all(puts).await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    for version in versions {
        assert!(store.document_version(&id, version).await.expect("an answer").is_some(), "{version}");
    }
}

async fn policies_are_listed_by_their_ids(store: &impl GovernancePolicies) {
    let prefix = fresh();
    let ids: Vec<GovernancePolicyId> =
        ["a", "b", "b-1", "c"].iter().map(|end| format!("{prefix}-{end}").parse().expect("an id")).collect();
    for id in ids.iter().rev() {
        put(store, id, "CC0-1.0", now()).await;
    }
    let mut after = Some(prefix);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let page = store.documents(after.as_ref(), 2).await.expect("a page");
        assert_eq!(page.items.len(), 2);
        after = page.items.last().map(|last| last.policy_id.clone());
        seen.extend(page.items);
    }
    assert_eq!(seen.iter().map(|summary| summary.policy_id.clone()).collect::<Vec<_>>(), ids);
    assert!(seen.iter().all(|summary| summary.version == 1 && summary.description.is_some()));
    let bare = fresh();
    let document = GovernancePolicy::read(json!({ "rules": [] })).expect("a policy");
    store.put_document(&bare, &document, now()).await.expect("put");
    let page = store.documents(None, 1000).await.expect("a page");
    let bare = page.items.iter().find(|summary| summary.policy_id == bare).expect("it is listed");
    assert_eq!(bare.description, None);
}

async fn runs_are_read_newest_first_page_by_page(store: &impl GovernancePolicies) {
    let (id, other, asset, at) = (fresh(), fresh(), VersionId::next(), now());
    put(store, &id, "CC0-1.0", at).await;
    put(store, &other, "CC0-1.0", at).await;
    let mut expected = Vec::new();
    // Several at one moment, so that the edge of a page falls among them.
    for second in [0, 1, 1, 1, 1, 2] {
        let run = run_of(&id, asset, at + second.seconds());
        store.record_run(&run).await.expect("kept");
        expected.push(run);
    }
    for foreign in [run_of(&other, asset, at), run_of(&id, VersionId::next(), at)] {
        store.record_run(&foreign).await.expect("kept");
    }
    expected.sort_by_key(|run| std::cmp::Reverse((run.evaluated_at, run.run_id)));
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let page = store.policy_runs(&id, asset, after, 2).await.expect("a page");
        assert!(page.items.len() <= 2);
        after = page.items.last().map(RunMark::from);
        read.extend(page.items);
        if !page.more {
            break;
        }
        // A run that comes meanwhile is newer, and does not change the next pages.
        store.record_run(&run_of(&id, asset, at + 3.seconds())).await.expect("kept");
    }
    assert_eq!(read, expected);
    let none = store.policy_runs(&fresh(), asset, None, 10).await.expect("a page");
    assert!(none.items.is_empty() && !none.more);
}

async fn a_run_is_kept_once_and_whole(store: &impl GovernancePolicies) {
    let (id, asset, at) = (fresh(), VersionId::next(), now());
    put(store, &id, "CC0-1.0", at).await;
    let run = run_of(&id, asset, at);
    for _ in 0..2 {
        store.record_run(&run).await.expect("kept");
    }
    assert_eq!(store.policy_runs(&id, asset, None, 10).await.expect("a page").items, [run]);
}

async fn a_run_of_no_policy_is_refused(store: &impl GovernancePolicies) {
    let refused = store.record_run(&run_of(&fresh(), VersionId::next(), now())).await;
    assert!(matches!(refused, Err(PortError::Rejected { .. })), "{refused:?}");
}

/// A time before all others.
fn long_ago() -> Timestamp {
    now() - (24 * 3650).hours()
}

async fn old_runs_are_forgotten_oldest_first_in_steps(store: &impl GovernancePolicies) {
    let (id, asset, old) = (fresh(), VersionId::next(), long_ago());
    put(store, &id, "CC0-1.0", now()).await;
    for second in [2, 0, 1, 3] {
        store.record_run(&run_of(&id, asset, old + second.seconds())).await.expect("kept");
    }
    let left = async || {
        let page = store.policy_runs(&id, asset, None, 10).await.expect("a page");
        page.items.iter().map(|run| (run.evaluated_at - old).get_seconds()).collect::<Vec<_>>()
    };
    assert_eq!(store.forget_policy_runs(old, 10).await.expect("forgot"), 0);
    assert_eq!(store.forget_policy_runs(old + 3.seconds(), 2).await.expect("forgot"), 2);
    assert_eq!(left().await, [3, 2]);
    assert_eq!(store.forget_policy_runs(old + 3.seconds(), 2).await.expect("forgot"), 1);
    assert_eq!(left().await, [3]);
    assert_eq!(store.forget_policy_runs(old + 4.seconds(), 2).await.expect("forgot"), 1);
}

async fn versions_are_forgotten_once_they_were_replaced_long_ago(store: &impl GovernancePolicies) {
    let (id, old) = (fresh(), long_ago());
    for (licence, at) in [("A", old), ("B", old + 1.second()), ("C", old + 2.seconds()), ("D", now())] {
        put(store, &id, licence, at).await;
    }
    let kept = async || {
        let mut kept = Vec::new();
        for version in 1..=4 {
            if store.document_version(&id, version).await.expect("an answer").is_some() {
                kept.push(version);
            }
        }
        kept
    };
    assert_eq!(store.forget_policy_versions(old + 1.second(), 10).await.expect("forgot"), 0);
    assert_eq!(store.forget_policy_versions(old + 1.hour(), 1).await.expect("forgot"), 1);
    assert_eq!(kept().await, [2, 3, 4]);
    assert_eq!(store.forget_policy_versions(old + 1.hour(), 10).await.expect("forgot"), 1);
    assert_eq!(kept().await, [3, 4], "the third was in force until a moment ago");
    assert_eq!(store.forget_policy_versions(old + 1.hour(), 10).await.expect("forgot"), 0);
    assert_eq!(store.document(&id).await.expect("an answer").map(|current| current.version), Some(4));
}
