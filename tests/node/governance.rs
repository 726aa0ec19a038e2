//! Policies over HTTP on both databases: versions, judgements and their runs, a node that obeys one, and many that share one.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, text};

async fn put(node: &TestNode, id: &str, document: &Value) -> Response {
    node.admin(Method::PUT, &format!("/v1/policies/{id}")).json(document).send().await.unwrap()
}

async fn get(node: &TestNode, path: &str) -> Value {
    expect(node.admin(Method::GET, path).send().await.unwrap(), &[200]).await
}

async fn evaluate(node: &TestNode, id: &str, version: &str) -> Value {
    let call = node.admin(Method::POST, &format!("/v1/policies/{id}/evaluate")).json(&json!({ "versionId": version }));
    expect(call.send().await.unwrap(), &[200]).await
}

async fn publish(node: &TestNode, hash: &str, meta: &Value) -> Response {
    let asset = json!({ "name": "x", "contentHash": hash, "policyMeta": meta });
    node.admin(Method::POST, "/v1/assets").json(&asset).send().await.unwrap()
}

async fn sell(node: &TestNode, version: &str) -> Response {
    node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": version })).send().await.unwrap()
}

fn licences(allowed: &[&str]) -> Value {
    json!({ "rules": [{ "id": "licence", "require": { "licence": allowed } }] })
}

on_both!(a_policy_has_versions_and_a_judgement_names_its_own, async |node: &mut TestNode| {
    let first = put(node, "house", &licences(&["MIT"])).await;
    assert_eq!(first.headers()["location"], "/v1/policies/house");
    let first = expect(first, &[201]).await;
    assert_eq!((&first["policyId"], &first["version"]), (&json!("house"), &json!(1)));
    assert_eq!(expect(put(node, "house", &licences(&["MIT"])).await, &[200]).await, first, "nothing has changed");
    let second = expect(put(node, "house", &licences(&["MIT", "ISC"])).await, &[200]).await;
    assert_eq!(second["version"], 2);
    assert_eq!(get(node, "/v1/policies/house").await, second);
    assert_eq!(get(node, "/v1/policies/house?version=1").await, first);
    for path in ["/v1/policies/house?version=3", "/v1/policies/other"] {
        expect_problem(node.admin(Method::GET, path).send().await.unwrap(), 404, "unknown-policy").await;
    }

    let hash = node.put(b"governed", "text/plain").await;
    let version = text(&expect(publish(node, &hash, &json!({ "license": "ISC" })).await, &[201]).await, "versionId");
    assert_eq!(evaluate(node, "house", &version).await["decision"], "allow");
    expect(put(node, "house", &licences(&["MIT"])).await, &[200]).await;
    let run = evaluate(node, "house", &version).await;
    assert_eq!((&run["decision"], &run["policyVersion"]), (&json!("block"), &json!(3)));
    let evidence = json!({
        "path": "rules[0].require.licence", "fact": "policyMeta.license", "expected": "MIT", "found": "ISC",
    });
    assert_eq!(run["reasons"][0]["evidence"], json!([evidence]));

    let unknown = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for (path, asset, problem) in [("house", unknown, "unknown-asset"), ("other", &*version, "unknown-policy")] {
        let path = format!("/v1/policies/{path}/evaluate");
        let call = node.admin(Method::POST, &path).json(&json!({ "versionId": asset }));
        expect_problem(call.send().await.unwrap(), 404, problem).await;
    }
});

on_both!(runs_are_listed_newest_first_in_pages_that_stay, async |node: &mut TestNode| {
    expect(put(node, "house", &licences(&["MIT"])).await, &[201]).await;
    let hash = node.put(b"listed", "text/plain").await;
    let version = node.publish(&hash, "x").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(evaluate(node, "house", &version).await);
    }
    made.reverse();
    let path = format!("/v1/policies/house/runs?versionId={version}");
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(node, &format!("{path}&limit=2{cursor}")).await;
        listed.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        // What comes meanwhile is newer.
        evaluate(node, "house", &version).await;
    }
    assert_eq!(listed, made);
    for bad in ["&limit=0", "&limit=101", "&cursor=x", "&page=2"] {
        let answer = node.admin(Method::GET, &format!("{path}{bad}")).send().await.unwrap();
        expect_problem(answer, 400, "malformed-request").await;
    }
    let answer = node.admin(Method::GET, "/v1/policies/house/runs").send().await.unwrap();
    expect_problem(answer, 400, "malformed-request").await;
    let answer = node.admin(Method::GET, &path.replace("house", "other")).send().await.unwrap();
    expect_problem(answer, 404, "unknown-policy").await;

    for id in ["b", "a"] {
        expect(put(node, id, &json!({ "description": id, "rules": [] })).await, &[201]).await;
    }
    let page = get(node, "/v1/policies?limit=2").await;
    let ids =
        |page: &Value| page["items"].as_array().unwrap().iter().map(|item| text(item, "policyId")).collect::<Vec<_>>();
    assert_eq!((ids(&page), &page["items"][0]["description"]), (vec!["a".to_owned(), "b".to_owned()], &json!("a")));
    let rest = get(node, &format!("/v1/policies?cursor={}", text(&page, "nextCursor"))).await;
    assert_eq!((ids(&rest), &rest["nextCursor"]), (vec!["house".to_owned()], &Value::Null));
});

/// Round trips to the database that a call makes, beside those for the policy and the asset: they come from the cache, but are
/// loaded once more when the node reads in the log of what it has changed itself.
async fn round_trips<T>(node: &TestNode, call: impl AsyncFn() -> T) -> f64 {
    let statements = ["content", "create_asset", "create_receipt", "record_policy_run", "lineage_graph"];
    let count = async || {
        let mut sum = 0.0;
        for statement in statements {
            sum += node.metric("penstock_db_queries_total", &format!("statement=\"{statement}\"")).await;
        }
        sum
    };
    call().await;
    let before = count().await;
    call().await;
    count().await - before
}

async fn obeys(on: On) {
    let mut node = Setup::new(on).env("PENSTOCK_GOVERNANCE__POLICY", "house").start().await;
    let hash = node.put(b"for sale", "text/plain").await;
    let fitting = json!({ "license": "MIT", "owner": "Studio" });
    let refused = expect_problem(publish(&node, &hash, &fitting).await, 503, "policy-missing").await;
    assert_eq!(refused["retryAfter"], 60);
    let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
    assert_eq!((&ready["status"], &ready["dependencies"]["governance"]), (&json!("degraded"), &json!("down")));

    let document = json!({ "rules": [
        { "id": "licence", "require": { "licence": ["MIT"] } },
        { "id": "owner", "require": { "facets": ["owner"] }, "otherwise": "warn" },
    ] });
    expect(put(&node, "house", &document).await, &[201]).await;
    let made = expect(publish(&node, &hash, &fitting).await, &[201]).await;
    assert_eq!(made.get("warnings"), None);
    let version = text(&made, "versionId");
    let warned = expect(publish(&node, &hash, &json!({ "license": "MIT" })).await, &[201]).await;
    assert_eq!(warned["warnings"][0]["rule"], "owner");
    let warned = text(&warned, "versionId");
    let mut told = node.command();
    told.args(["publish", "--content", &hash, "--name", "x", "--meta", "{\"license\":\"MIT\"}"]);
    let told = told.env("PENSTOCK_SERVER", node.url("")).env("PENSTOCK_KEY", ADMIN_KEY).output().await.unwrap();
    let warning = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && warning.contains("warning: owner: "), "{warning}");
    assert_eq!(expect(sell(&node, &warned).await, &[201]).await["warnings"][0]["rule"], "owner");
    let blocked = expect_problem(publish(&node, &hash, &json!({})).await, 403, "policy-blocked").await;
    // The run of what was refused is there under the id that the asset would have had.
    let runs = get(&node, &format!("/v1/policies/house/runs?versionId={}", text(&blocked, "versionId"))).await;
    assert_eq!((&runs["items"][0]["runId"], &runs["items"][0]["occasion"]), (&blocked["runId"], &json!("publish")));

    // A plain receipt costs what it costs without a policy, a publication its run.
    assert_eq!(round_trips(&node, async || expect(sell(&node, &version).await, &[201]).await).await, 1.0);
    assert_eq!(round_trips(&node, async || expect(sell(&node, &warned).await, &[201]).await).await, 2.0);
    assert_eq!(round_trips(&node, async || expect(publish(&node, &hash, &fitting).await, &[201]).await).await, 2.0);
    node.metric_becomes("penstock_policy_decisions_total", "decision=\"block\",occasion=\"publish\"", 1.0).await;

    expect(put(&node, "house", &licences(&["ISC"])).await, &[200]).await;
    let stricter = expect_problem(sell(&node, &version).await, 403, "policy-blocked").await;
    assert_eq!(stricter["policyVersion"], 2, "a change is seen with the next call");
    let check = node.run(&["check"]).await;
    assert!(String::from_utf8_lossy(&check.stdout).contains("governance: ok"));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_publishes_and_sells_by_its_policy_on_sqlite() {
    obeys(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_publishes_and_sells_by_its_policy_on_postgres() {
    obeys(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_policy_reaches_every_instance() {
    let mut one = Setup::new(On::Postgres).env("PENSTOCK_GOVERNANCE__POLICY", "house").start().await;
    let mut other = Setup::beside(&one).env("PENSTOCK_GOVERNANCE__POLICY", "house").start().await;
    let hash = one.put(b"shared", "text/plain").await;
    expect(put(&one, "house", &licences(&["MIT"])).await, &[201]).await;
    let answers = async |meta: &str, status: u16| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while publish(&other, &hash, &json!({ "license": meta })).await.status() != status {
            assert!(std::time::Instant::now() < deadline, "the other instance never heard of the change");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Also that there was none had been remembered there.
    answers("MIT", 201).await;
    expect(put(&one, "house", &licences(&["ISC"])).await, &[200]).await;
    answers("MIT", 403).await;
    answers("ISC", 201).await;
    other.terminate().await;
    one.finish().await;
}

on_both!(the_origin_of_a_content_is_what_lineage_knows_of_it, async |node: &mut TestNode| {
    let document = json!({ "rules": [{ "id": "origin", "require": { "lineageDepth": { "min": 4, "max": 6 } } }] });
    expect(put(node, "origin", &document).await, &[201]).await;
    let hash = node.put(b"derived", "text/csv").await;
    let version = node.publish(&hash, "derived").await;
    let run = evaluate(node, "origin", &version).await;
    assert_eq!(run["decision"], "block", "at most its upload is known");
    assert_eq!(run["reasons"][0]["evidence"][0]["fact"], "lineageDepth");

    // raw -> clean -> cleaned -> join -> the content, as its producer tells it.
    let event = |job: &str, from: &str, to: (&str, &str)| {
        json!({
            "eventType": "COMPLETE",
            "eventTime": jiff::Timestamp::now().to_string(),
            "producer": "urn:test",
            "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
            "run": { "runId": uuid::Uuid::new_v4() },
            "job": { "namespace": "lake", "name": job },
            "inputs": [{ "namespace": "lake", "name": from }],
            "outputs": [{ "namespace": to.0, "name": to.1 }],
        })
    };
    let content = format!("content/{hash}");
    for event in [event("join", "cleaned", ("penstock", &content)), event("clean", "raw", ("lake", "cleaned"))] {
        expect(node.admin(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap(), &[200, 201]).await;
    }
    let run = evaluate(node, "origin", &version).await;
    assert_eq!((&run["decision"], &run["passed"]), (&json!("allow"), &json!(["origin"])), "{run}");

    // A cycle above it ends, and is no deeper than its nearest way.
    let event = event("again", "cleaned", ("lake", "raw"));
    expect(node.admin(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap(), &[200, 201]).await;
    assert_eq!(evaluate(node, "origin", &version).await["decision"], "allow");
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_a_later_program_shuts_the_gate_and_nothing_else() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_GOVERNANCE__POLICY", "house").start().await;
    expect(put(&node, "house", &licences(&["MIT"])).await, &[201]).await;
    let hash = node.put(b"later", "text/plain").await;
    let made = expect(publish(&node, &hash, &json!({ "license": "MIT" })).await, &[201]).await;
    let version = text(&made, "versionId");
    let receipt = text(&expect(sell(&node, &version).await, &[201]).await, "receiptId");
    assert!(node.terminate().await.success());
    let file = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
    let later = r#"UPDATE policies SET document = '{"rules":[{"id":"a","require":{"moonPhase":"full"}}]}'"#;
    assert_eq!(file.execute(later, []).unwrap(), 1);
    drop(file);
    node.boot().await;
    expect_problem(publish(&node, &hash, &json!({ "license": "MIT" })).await, 503, "policy-missing").await;
    expect_problem(sell(&node, &version).await, 503, "policy-missing").await;
    let shown = node.admin(Method::GET, "/v1/policies/house").send().await.unwrap();
    expect_problem(shown, 500, "internal").await;
    let stream = node.get(&format!("/v1/streaming/data/{hash}?receiptId={receipt}")).send().await.unwrap();
    assert_eq!(stream.bytes().await.unwrap(), "later");
    expect(put(&node, "house", &licences(&["MIT"])).await, &[200]).await;
    expect(publish(&node, &hash, &json!({ "license": "MIT" })).await, &[201]).await;
    node.finish().await;
}

on_both!(what_policies_came_to_is_forgotten_by_the_janitor, async |node: &mut TestNode| {
    expect(put(node, "house", &licences(&["MIT"])).await, &[201]).await;
    let hash = node.put(b"old", "text/plain").await;
    let version = node.publish(&hash, "x").await;
    evaluate(node, "house", &version).await;
    let runs = format!("/v1/policies/house/runs?versionId={version}");
    assert_eq!(get(node, &runs).await["items"].as_array().unwrap().len(), 1);
    assert!(node.terminate().await.success());
    // Two days later, with a day of memory.
    make_older(node).await;
    node.set_env("PENSTOCK_GOVERNANCE__RUN_RETENTION", "24h");
    node.set_env("PENSTOCK_JANITOR__INTERVAL", "100ms");
    node.boot().await;
    node.metric_becomes("penstock_janitor_items_total", "policy_run_forgotten", 1.0).await;
    assert_eq!(get(node, &runs).await["items"], json!([]));
    assert_eq!(get(node, "/v1/policies/house").await["version"], 1, "the policy itself stays");
});

/// Moves the runs of a node that is down two days into the past.
async fn make_older(node: &TestNode) {
    match &node.database {
        Some(database) => {
            let older = "UPDATE policy_runs SET evaluated_at = evaluated_at - interval '2 days'";
            assert_eq!(database.client().await.execute(older, &[]).await.unwrap(), 1);
        }
        None => {
            let file = rusqlite::Connection::open(node.data_dir().join("penstock.sqlite3")).unwrap();
            let older = "UPDATE policy_runs SET evaluated_at = evaluated_at - 2 * 86400 * 1000000";
            assert_eq!(file.execute(older, []).unwrap(), 1);
        }
    }
}
