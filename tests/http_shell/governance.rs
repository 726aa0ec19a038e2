//! Policies: putting and showing them, judging by them, and a node that obeys one.

use actix_web::{http::StatusCode, test::TestRequest};
use penstock_actors::{governance::Decision, ports::Occasion, testkit::script::Fault};
use serde_json::{Value, json};

use crate::node::{Node, STORED, ask, call};

fn licence() -> Value {
    json!([{ "id": "licence", "require": { "licence": ["CC0-1.0"] }, "reason": "Open licences only." }])
}

fn asset(licence: &str) -> Option<Value> {
    Some(json!({ "name": "x", "contentHash": STORED.to_string(), "policyMeta": { "license": licence } }))
}

fn post(path: &str) -> TestRequest {
    TestRequest::post().uri(path)
}

fn put(path: &str) -> TestRequest {
    TestRequest::put().uri(path)
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(path)
}

#[actix_web::test]
async fn policies_are_an_admins() {
    let node = Node::new().await;
    let app = node.serve().await;
    let body = || Some(json!({ "rules": [], "versionId": "01a20944-b154-778f-a620-50a69c25c144" }));
    for request in [
        || put("/v1/policies/a"),
        || get("/v1/policies/a"),
        || get("/v1/policies"),
        || post("/v1/policies/a/evaluate"),
        || get("/v1/policies/a/runs?versionId=01a20944-b154-778f-a620-50a69c25c144"),
    ] {
        assert_eq!(call(&app, request(), None, body()).await.problem(), "unauthorized");
        assert_eq!(call(&app, request(), Some(&node.producer), body()).await.problem(), "forbidden");
    }
}

#[actix_web::test]
async fn what_is_not_in_the_language_is_reported_with_its_path() {
    let node = Node::new().await;
    let app = node.serve().await;
    let answer = async |body: Value| call(&app, put("/v1/policies/a"), Some(&node.admin), Some(body)).await;
    let nested = |depth| (0..depth).fold(json!({ "maxAgeDays": 1 }), |inner, _| json!({ "not": inner }));
    let rule = |require: Value| json!({ "rules": [{ "id": "a", "require": require }] });
    for (body, path, detail) in [
        (json!({ "rulez": [] }), "rulez", "is not known here; there are description, rules"),
        (rule(json!({ "licence": [] })), "rules[0].require.licence", "must have 1 to 256 entries, and has 0"),
        (
            rule(nested(50)),
            &*format!("rules[0].require{}", ".not".repeat(8)),
            "is nested too deep: conditions go at most 8 deep",
        ),
        (
            rule(json!({ "licence": vec!["x".repeat(256); 256] })),
            "",
            "must have at most 65536 bytes as JSON, and has 66350",
        ),
    ] {
        let answer = answer(body).await;
        assert_eq!((answer.problem().as_str(), answer.status.as_u16()), ("validation-failed", 422));
        assert_eq!(answer.json()["errors"][0], json!({ "path": path, "detail": detail }));
    }
    // Deeper than the parser goes.
    let answer = answer(rule(nested(500))).await;
    assert_eq!(answer.problem(), "validation-failed");
    let path = answer.json()["errors"][0]["path"].clone();
    assert!(path.as_str().is_some_and(|path| path.starts_with("rules[0].require.not.not.")), "{path}");
    let huge = json!({ "rules": [], "description": "x".repeat(300_000) });
    let answer = call(&app, put("/v1/policies/a"), Some(&node.admin), Some(huge)).await;
    assert_eq!(answer.problem(), "upload-too-large");
    let bad = call(&app, put("/v1/policies/Not%20An%20Id"), Some(&node.admin), Some(json!({ "rules": [] }))).await;
    assert_eq!(bad.problem(), "malformed-request");
    assert_eq!(call(&app, get("/v1/policies/a"), Some(&node.admin), None).await.problem(), "unknown-policy");
}

#[actix_web::test]
async fn a_node_that_obeys_a_policy_refuses_what_that_blocks_and_says_why() {
    let mut node = Node::new().await;
    node.bind("house");
    node.put_governance_policy("house", licence()).await;
    let app = node.serve().await;
    let refused = call(&app, post("/v1/assets"), Some(&node.producer), asset("GPL-3.0")).await;
    assert_eq!((refused.problem().as_str(), refused.status), ("policy-blocked", StatusCode::FORBIDDEN));
    let problem = refused.json();
    assert_eq!((&problem["policyId"], &problem["policyVersion"]), (&json!("house"), &json!(1)));
    assert_eq!(problem["reasons"][0]["reason"], "Open licences only.");
    assert_eq!(problem["reasons"][0]["evidence"][0]["found"], "GPL-3.0");
    let runs = node.policies.runs();
    assert_eq!((runs.len(), runs[0].occasion, runs[0].verdict.decision), (1, Occasion::Publish, Decision::Block));
    assert_eq!(
        (problem["runId"].clone(), problem["versionId"].clone()),
        (json!(runs[0].run_id), json!(runs[0].version_id))
    );
    let never_made = format!("/v1/assets/{}", runs[0].version_id);
    assert_eq!(ask(&app, get(&never_made)).await.problem(), "unknown-asset");

    let made = call(&app, post("/v1/assets"), Some(&node.producer), asset("cc0-1.0")).await;
    assert_eq!((made.status, made.json().get("warnings")), (StatusCode::CREATED, None));
    // An admin's key is no way around it, and content that is not stored is still told first.
    assert_eq!(call(&app, post("/v1/assets"), Some(&node.admin), asset("MIT")).await.problem(), "policy-blocked");
    let mut unknown = asset("MIT").expect("a body");
    unknown["contentHash"] = "0".repeat(64).into();
    let unknown = call(&app, post("/v1/assets"), Some(&node.admin), Some(unknown)).await;
    assert_eq!(
        (unknown.problem().as_str(), &unknown.json()["errors"][0]["path"]),
        ("validation-failed", &json!("contentHash"))
    );

    // What was published before a policy became stricter is not sold any more.
    let receipt = || Some(json!({ "versionId": made.json()["versionId"] }));
    assert_eq!(call(&app, post("/v1/receipts"), Some(&node.producer), receipt()).await.status, StatusCode::CREATED);
    node.put_governance_policy("house", json!([{ "id": "none", "require": { "maxSizeBytes": 1 } }])).await;
    let refused = call(&app, post("/v1/receipts"), Some(&node.producer), receipt()).await;
    assert_eq!((refused.problem().as_str(), &refused.json()["policyVersion"]), ("policy-blocked", &json!(2)));
    let last = node.policies.runs().pop().expect("a run");
    assert_eq!((last.occasion, last.verdict.decision), (Occasion::Receipt, Decision::Block));
}

#[actix_web::test]
async fn what_a_policy_warns_of_is_made_and_the_answer_says_so() {
    let mut node = Node::new().await;
    node.bind("house");
    let rules =
        json!([{ "id": "owner", "require": { "facets": ["owner"] }, "otherwise": "warn", "reason": "Name an owner." }]);
    node.put_governance_policy("house", rules).await;
    let app = node.serve().await;
    let made = call(&app, post("/v1/assets"), Some(&node.producer), asset("MIT")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let warning = &made.json()["warnings"][0];
    assert_eq!((&warning["rule"], &warning["reason"]), (&json!("owner"), &json!("Name an owner.")));
    assert_eq!(warning["evidence"][0]["fact"], "policyMeta.owner");
    let shown = ask(&app, get(&format!("/v1/assets/{}", made.json()["versionId"].as_str().expect("an id")))).await;
    assert_eq!(shown.json().get("warnings"), None, "it belongs to the call and not to the asset");
    let body = Some(json!({ "versionId": made.json()["versionId"] }));
    let receipt = call(&app, post("/v1/receipts"), Some(&node.producer), body).await;
    assert_eq!((receipt.status, receipt.json()["warnings"].as_array().map(Vec::len)), (StatusCode::CREATED, Some(1)));
}

#[actix_web::test]
async fn without_the_policy_that_it_obeys_a_node_publishes_and_sells_nothing_and_says_so() {
    let mut node = Node::new().await;
    let app = node.serve().await;
    let made = call(&app, post("/v1/assets"), Some(&node.producer), asset("MIT")).await.json();
    let ready = ask(&app, get("/health/ready")).await.json();
    assert_eq!(ready["dependencies"].get("governance"), None);

    node.bind("house");
    let app = node.serve().await;
    let receipt = || Some(json!({ "versionId": made["versionId"] }));
    for (path, body) in [("/v1/assets", asset("MIT")), ("/v1/receipts", receipt())] {
        let refused = call(&app, post(path), Some(&node.producer), body).await;
        assert_eq!((refused.problem().as_str(), refused.header("retry-after")), ("policy-missing", "60"));
    }
    let ready = ask(&app, get("/health/ready")).await;
    assert_eq!((ready.status, ready.json()["status"].clone()), (StatusCode::OK, json!("degraded")));
    assert_eq!(ready.json()["dependencies"]["governance"], "down");

    node.put_governance_policy("house", licence()).await;
    let ready = ask(&app, get("/health/ready")).await.json();
    assert_eq!((&ready["status"], &ready["dependencies"]["governance"]), (&json!("ok"), &json!("ok")));
    assert_eq!(
        call(&app, post("/v1/assets"), Some(&node.producer), asset("CC0-1.0")).await.status,
        StatusCode::CREATED
    );
    node.policies.script.next("record_run", [Fault::Unavailable]);
    let refused = call(&app, post("/v1/assets"), Some(&node.producer), asset("CC0-1.0")).await;
    assert_eq!(refused.problem(), "dependency-unavailable", "nothing is published without its run");
}
