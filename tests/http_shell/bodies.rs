//! Bodies whose values are of another type than the call wants: each is told where, whatever is there instead.

use actix_http::Method;
use actix_web::{http::header, test::TestRequest};
use serde_json::{Map, Value, json};

use crate::{
    node::{Node, STORED, call},
    words::{assert_none_of_theirs, assert_ours},
};

/// Calls with a body, and for each one that has all of its members. Sessions need a ledger, which this shell has not.
fn calls() -> Vec<(Method, &'static str, Value)> {
    let id = "0190d3a4-0000-7000-8000-000000000001";
    vec![
        (Method::POST, "/v1/producers", json!({ "name": "Studio" })),
        (
            Method::POST,
            "/v1/assets",
            json!({
                "name": "a", "description": "b", "contentHash": STORED, "mediaType": "a/b", "datasetId": "c",
                "policyMeta": { "d": 1 }, "priceSatoshis": 1,
            }),
        ),
        (Method::PUT, "/v1/assets/0190d3a4-0000-7000-8000-000000000001/price", json!({ "satoshis": 1 })),
        (
            Method::POST,
            "/v1/receipts",
            json!({ "versionId": id, "quotaTier": "standard", "expiresAt": "2030-01-01T00:00:00Z", "status": "confirmed" }),
        ),
        (Method::PATCH, "/v1/receipts/67e55044-10b1-426f-9247-bb680e5fe0c8", json!({ "status": "refunded" })),
        (
            Method::PUT,
            "/v1/streaming/policies/trial",
            json!({
                "description": "a", "bytesPerHour": 1, "maxConcurrentStreams": 1, "maxBandwidthMbps": 1.5,
                "burstDurationMinutes": 1, "allowedContentTypes": ["video/*"],
            }),
        ),
        (Method::POST, "/v1/policies/open-data/evaluate", json!({ "versionId": id })),
        (Method::POST, "/v1/admin/cache/invalidate", json!({ "tags": ["policy:a"], "pattern": "assets:*" })),
    ]
}

/// Values of every type that JSON has.
fn values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(5),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("gold"),
        json!([]),
        json!([1]),
        json!({}),
        json!({ "a": 1 }),
    ]
}

#[actix_web::test]
async fn a_value_of_any_other_type_is_reported_with_its_place_and_in_our_words() {
    let node = Node::new().await;
    let app = node.serve().await;
    let send = async |method: &Method, path: &str, body: String| {
        let request = TestRequest::with_uri(path)
            .method(method.clone())
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .set_payload(body);
        call(&app, request, Some(&node.admin), None).await
    };
    for (method, path, body) in calls() {
        let whole: Map<String, Value> = body.as_object().expect("an object").clone();
        let mut bodies: Vec<(Option<&str>, String)> =
            values().into_iter().filter(|value| !value.is_object()).map(|value| (None, value.to_string())).collect();
        for member in whole.keys() {
            for value in values() {
                let mut body = whole.clone();
                body.insert(member.clone(), value);
                bodies.push((Some(member.as_str()), Value::Object(body).to_string()));
            }
            let mut huge = whole.clone();
            huge.insert(member.clone(), json!("HUGE"));
            let huge = Value::Object(huge).to_string().replace("\"HUGE\"", "1e400");
            bodies.push((Some(member.as_str()), huge));
        }
        for (member, body) in bodies {
            let answer = send(&method, path, body.clone()).await;
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.status != 400 && answer.status.as_u16() < 500, "{method} {path} {body}: {told}");
            if answer.status != 422 || answer.json()["errors"].is_null() {
                continue;
            }
            for error in answer.json()["errors"].as_array().expect("a list") {
                assert_ours(error["detail"].as_str().expect("a detail"), &body);
            }
            let place = answer.json()["errors"][0]["path"].as_str().expect("a path").to_owned();
            assert!(place.starts_with(member.unwrap_or_default()), "{method} {path} {body}: {told}");
        }
    }
}

#[actix_web::test]
async fn a_list_is_no_object_however_many_entries_it_has() {
    let node = Node::new().await;
    let app = node.serve().await;
    for (method, path, body) in calls() {
        let values: Vec<Value> = body.as_object().expect("an object").values().cloned().collect();
        let lists = (0..=16).map(|length| vec![json!("a"); length]).chain([vec![json!(1)], values]);
        for list in lists {
            let body = format!(" {}", Value::from(list));
            let request = TestRequest::with_uri(path)
                .method(method.clone())
                .insert_header((header::CONTENT_TYPE, "application/json"))
                .set_payload(body.clone());
            let answer = call(&app, request, Some(&node.admin), None).await;
            assert_eq!(answer.status, 422, "{method} {path} {body}");
            assert_eq!(
                answer.json()["errors"],
                json!([{ "path": "", "detail": "must be an object" }]),
                "{path} {body}"
            );
        }
    }
}

#[actix_web::test]
async fn null_means_absent_for_every_optional_member() {
    let node = Node::new().await;
    let app = node.serve().await;
    let asset = json!({
        "name": "a", "contentHash": STORED, "description": null, "mediaType": null, "datasetId": null, "policyMeta": null,
        "priceSatoshis": null,
    });
    let made = call(&app, TestRequest::post().uri("/v1/assets"), Some(&node.producer), Some(asset)).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    let receipt =
        json!({ "versionId": made.json()["versionId"], "quotaTier": null, "expiresAt": null, "status": null });
    let made = call(&app, TestRequest::post().uri("/v1/receipts"), Some(&node.producer), Some(receipt)).await;
    assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
    assert_eq!((&made.json()["quotaTier"], &made.json()["status"]), (&json!("standard"), &json!("confirmed")));
}

#[actix_web::test]
async fn what_is_no_json_is_reported_in_plain_words() {
    let node = Node::new().await;
    let app = node.serve().await;
    for body in ["", "{", "{\"name\":\"a\\ud800\"}", "{\"name\":NaN}", "name=a", "{\"name\":\"a\"}}", "\u{feff}{}"] {
        let request = TestRequest::post()
            .uri("/v1/producers")
            .insert_header((header::CONTENT_TYPE, "application/json"))
            .set_payload(body);
        let answer = call(&app, request, Some(&node.admin), None).await;
        assert_eq!(answer.problem(), "malformed-request", "{body}");
        let told = answer.json()["detail"].as_str().expect("a detail").to_owned();
        assert!(told.starts_with("the body is not JSON"), "{body}: {told}");
        assert_none_of_theirs(&told, body);
    }
}
