//! Bodies whose values are of another type than the call wants, on the calls that only a whole node has: each is told where, in the
//! node's own words. The other calls are in `tests/http_shell/bodies.rs`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{On, Setup, TestNode, expect, sample, text},
    words::assert_ours,
};

/// Values of every type that JSON has, and a number that no other type holds.
const VALUES: [&str; 12] =
    ["null", "true", "5", "-1", "1.5", "18446744073709551615", "1e400", "\"\"", "\"gold\"", "[]", "[1]", "{\"a\": 1}"];

/// Calls with a body, and for each a body that is right.
async fn calls(node: &TestNode) -> Vec<(Method, String, Value)> {
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "Studio" })).send().await.unwrap();
    let made = expect(made, &[201]).await;
    let (producer, key) = (text(&made, "producerId"), text(&made, "keyId"));
    let paid = node.paid(&sample(1, 1000), "standard").await;
    vec![
        (Method::POST, format!("/v1/producers/{producer}/keys"), json!({ "name": "the cutting room" })),
        (Method::POST, format!("/v1/producers/{producer}/keys/{key}/rotate"), json!({ "overlapSeconds": 60 })),
        (
            Method::POST,
            format!("/v1/producers/{producer}/identities"),
            json!({ "identityKey": format!("02{}", "79".repeat(32)) }),
        ),
        (Method::POST, format!("/v1/storage/move/{}", paid.hash), json!({ "tier": "warm" })),
        (Method::POST, "/v1/streaming/sessions".to_owned(), json!({ "receiptId": paid.receipt })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_any_other_type_is_reported_with_its_place_and_in_our_words() {
    let mut node = Setup::new(On::Sqlite).start().await;
    for (method, path, body) in calls(&node).await {
        let members: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
        let whole = VALUES.iter().filter(|value| !value.starts_with('{')).map(|value| (None, (*value).to_owned()));
        let parts = members.iter().flat_map(|member| {
            VALUES.iter().map(move |value| (Some(member.as_str()), format!("{{\"{member}\": {value}}}")))
        });
        for (member, body) in whole.chain(parts) {
            let call = node.admin(method.clone(), &path).header("Content-Type", "application/json").body(body.clone());
            let answer = call.send().await.unwrap();
            let status = answer.status().as_u16();
            let told = answer.text().await.unwrap();
            assert!(status != 400 && status < 500, "{method} {path} {body}: {status} {told}");
            let told: Value = serde_json::from_str(&told).unwrap();
            if status == 422 && !told["errors"].is_null() {
                for error in told["errors"].as_array().unwrap() {
                    assert_ours(error["detail"].as_str().unwrap(), &body);
                }
                let place = told["errors"][0]["path"].as_str().unwrap();
                assert!(place.starts_with(member.unwrap_or_default()), "{method} {path} {body}: {told}");
            }
        }
    }
    node.finish().await;
}

/// An event of lineage is read by its schema, which says where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_of_any_other_type_in_an_event_of_lineage_is_reported_with_its_place() {
    let mut node = Setup::new(On::Sqlite).start().await;
    let event = json!({
        "eventTime": "2026-11-30T10:00:00Z", "producer": "https://example.org", "eventType": "START",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/definitions/RunEvent",
        "run": { "runId": "0190d3a4-0000-7000-8000-000000000001" }, "job": { "namespace": "a", "name": "b" },
        "inputs": [], "outputs": [],
    });
    for member in event.as_object().unwrap().keys() {
        for value in VALUES {
            let mut event = event.clone();
            event[member] = serde_json::from_str(value).unwrap();
            let call = node.admin(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap();
            let status = call.status().as_u16();
            let told = call.text().await.unwrap();
            assert!(matches!(status, 200..=299 | 422), "{member} {value}: {status} {told}");
            if status == 422 {
                let told: Value = serde_json::from_str(&told).unwrap();
                let place = told["errors"][0]["path"].as_str().unwrap_or_default();
                assert!(place.starts_with(member.as_str()) || place.is_empty(), "{member} {value}: {told}");
            }
        }
    }
    node.finish().await;
}
