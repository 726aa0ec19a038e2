//! The contract: schemathesis calls a node as its OpenAPI document says, and otherwise, and compares each answer with the document.

use std::{path::Path, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::node::{ADMIN_KEY, TestNode, expect, text};

/// Where the test command has installed the program: a folder that Python can import it from.
const PROGRAM: &str = "PENSTOCK_TEST_SCHEMATHESIS";

/// Beyond this the program hangs: it takes some twenty seconds.
const PATIENCE: Duration = Duration::from_secs(90);

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      response_headers_conformance,negative_data_rejection,unsupported_method";

/// Types of documents that others define, or that have members of each case.
const OPEN: [&str; 3] = ["PolicyDocument", "LineageEvent", "Problem"];

const RUN: &str = "0195e6a4-3f9c-7d2a-8b1e-6c5d4e3f2a1b";

/// Objects that exist, by the names that parameters and members have.
struct Objects(Value);

impl Objects {
    async fn of(node: &TestNode) -> Self {
        let call = |path: &str, body: Value| node.admin(Method::POST, path).json(&body).send();
        let paid = node.paid(&[b'x'; 5000], "unlimited").await;
        let session = call("/v1/streaming/sessions", json!({ "receiptId": paid.receipt })).await.unwrap();
        let session = text(&expect(session, &[201]).await, "sessionId");
        let producer = expect(call("/v1/producers", json!({ "name": "Studio" })).await.unwrap(), &[201]).await;
        let upload = node.admin(Method::POST, "/v1/uploads").header("tus-resumable", "1.0.0");
        let upload = upload.header("upload-length", "5").send().await.unwrap();
        let upload = upload.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let receipt = &paid.receipt;
        Self(json!({
            "contentHash": paid.hash, "versionId": paid.version, "receiptId": receipt, "X-Receipt-Id": receipt,
            "sessionId": session, "X-Session-Id": session, "uploadId": upload, "runId": RUN,
            "producerId": producer["producerId"], "keyId": producer["keyId"],
            "policyId": "open-data", "policyName": "standard", "namespace": "films", "name": "cut",
        }))
    }
}

/// A policy and lineage, which are the same for all objects.
async fn furnish(node: &TestNode) {
    let policy = node.admin(Method::PUT, "/v1/policies/open-data").json(&json!({ "rules": [] }));
    expect(policy.send().await.unwrap(), &[201]).await;
    let event = json!({
        "eventType": "RUNNING", "eventTime": jiff::Timestamp::now().to_string(), "producer": "https://example.org/etl",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": RUN }, "job": { "namespace": "films", "name": "cut" },
        "inputs": [{ "namespace": "films", "name": "cut" }],
    });
    expect(node.admin(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap(), &[201]).await;
}

/// The document as the program reads it: objects that exist as examples, and no members in answers that it lacks.
fn prepared(mut document: Value, lasting: &Objects, spent: &Objects) -> Value {
    for (path, calls) in document["paths"].as_object_mut().unwrap() {
        for (method, call) in calls.as_object_mut().unwrap() {
            // What a call ends is not what others name.
            let ends = matches!(method.as_str(), "delete" | "patch")
                || path.ends_with("/rotate")
                || path == "/v1/uploads/{uploadId}";
            let objects = if ends && method != "get" && method != "head" { spent } else { lasting };
            for parameter in call.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(known) = parameter["name"].as_str().and_then(|name| objects.0.get(name))
                    && path != "/v1/catalog"
                {
                    parameter["example"] = known.clone();
                }
            }
            // Calls are made with a key, not with made-up signatures.
            if call.get("security").is_some() {
                call["security"] = json!([{ "key": [] }]);
            }
        }
    }
    for (name, form) in document["components"]["schemas"].as_object_mut().unwrap() {
        if OPEN.contains(&name.as_str()) || form["type"] != "object" || form.get("properties").is_none() {
            continue;
        }
        let is_request = form.get("additionalProperties").is_some();
        form["additionalProperties"] = false.into();
        for (member, form) in form["properties"].as_object_mut().unwrap() {
            if let Some(known) = lasting.0.get(member).filter(|_| is_request && member != "name") {
                form["example"] = known.clone();
            }
        }
    }
    document
}

on_sqlite!(a_node_answers_as_its_document_says, async |node: &mut TestNode| {
    furnish(node).await;
    let (lasting, spent) = (Objects::of(node).await, Objects::of(node).await);
    let document = expect(node.get("/openapi.json").send().await.unwrap(), &[200]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, prepared(document, &lasting, &spent).to_string()).unwrap();

    let program = std::env::var(PROGRAM).unwrap_or_else(|_| panic!("{PROGRAM} is not set: run ./test"));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/contract");
    let run = Command::new("python3")
        .args(["-B", "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--config-file"])
        .arg(ours.join("schemathesis.toml"))
        .arg("run")
        .arg(&file)
        .args([
            "--url",
            &node.url(""),
            "--checks",
            CHECKS,
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "10",
        ])
        .args(["--seed", "1", "--generation-database", "none", "--continue-on-failure", "--no-color"])
        // An answer that does not end.
        .args(["--suppress-health-check", "all", "--exclude-path", "/dashboard/events"])
        .args(["--header", &format!("Authorization: Bearer {ADMIN_KEY}")])
        .env("PYTHONPATH", format!("{program}:{}", ours.display()))
        .env("SCHEMATHESIS_HOOKS", "serializers")
        .env("NO_PROXY", "127.0.0.1")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(PATIENCE, run).await.expect("the program ends").unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));

    // The calls that matter most were made as they should be, not only refused.
    for (method, path) in [
        ("GET", "/v1/streaming/data/{contentHash}"),
        ("POST", "/v1/content"),
        ("POST", "/v1/assets"),
        ("POST", "/v1/receipts"),
        ("PATCH", "/v1/receipts/{receiptId}"),
        ("GET", "/v1/streaming/quotas/{receiptId}"),
        ("GET", "/v1/catalog"),
    ] {
        let labels = format!(r#"method="{method}",outcome="completed",route="{path}",status="2"#);
        assert!(node.metric("penstock_http_requests_total", &labels).await > 0.0, "{method} {path} never succeeded");
    }
});
