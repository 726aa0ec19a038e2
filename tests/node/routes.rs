//! Every route of the node, called by every kind of caller: the answers are those that docs/api.md states.

use std::collections::BTreeSet;

use penstock::http::routes::{Caller, ROUTES, RouteEntry};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::node::{ADMIN_KEY, TestNode, expect, expect_problem, hex_sha256, text};

/// An id, a name and a hash of nothing.
const UNKNOWN: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// The objects that the calls name: those of one producer, or none that exist.
#[derive(Clone)]
struct Objects {
    producer: String,
    key: String,
    key_id: String,
    hash: String,
    version: String,
    receipt: String,
    upload: String,
    session: String,
}

impl Objects {
    fn of_nothing() -> Self {
        let unknown = || UNKNOWN.to_owned();
        Self {
            producer: unknown(),
            key: String::new(),
            key_id: unknown(),
            hash: hex_sha256(b"sent by no producer"),
            version: unknown(),
            receipt: unknown(),
            upload: unknown(),
            session: unknown(),
        }
    }

    /// A producer with everything that a producer can have.
    async fn of_a_producer(node: &TestNode, content: &'static str) -> Self {
        let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": content })).send().await.unwrap();
        let made = expect(made, &[201]).await;
        let key = text(&made, "key");
        let call = |path: &str| node.client.post(node.url(path)).bearer_auth(&key);
        let upload = call("/v1/content").header("content-type", "text/plain").body(content).send().await.unwrap();
        let hash = text(&expect(upload, &[201]).await, "contentHash");
        let asset = call("/v1/assets").json(&json!({ "name": "x", "contentHash": hash })).send().await.unwrap();
        let version = text(&expect(asset, &[201]).await, "versionId");
        let receipt = call("/v1/receipts").json(&json!({ "versionId": version })).send().await.unwrap();
        let receipt = text(&expect(receipt, &[201]).await, "receiptId");
        let session = node.client.post(node.url("/v1/streaming/sessions")).json(&json!({ "receiptId": receipt }));
        let session = text(&expect(session.send().await.unwrap(), &[201]).await, "sessionId");
        let upload = call("/v1/uploads").header("tus-resumable", "1.0.0").header("upload-length", "5");
        let begun = upload.send().await.unwrap();
        assert_eq!(begun.status(), 201);
        let upload = begun.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let (producer, key_id) = (text(&made, "producerId"), text(&made, "keyId"));
        Self { producer, key_id, key, hash, version, receipt, upload, session }
    }

    /// A complete call of a route that names these objects.
    fn call(&self, node: &TestNode, route: &RouteEntry) -> RequestBuilder {
        let mut path = route.path.to_owned();
        for (parameter, value) in [
            ("{contentHash}", &*self.hash),
            ("{versionId}", &self.version),
            ("{receiptId}", &self.receipt),
            ("{uploadId}", &self.upload),
            ("{sessionId}", &self.session),
            ("{producerId}", &self.producer),
            ("{keyId}", &self.key_id),
            ("{identityKey}", IDENTITY),
            ("{policyName}", "standard"),
            ("{policyId}", "open-data"),
            ("{runId}", UNKNOWN),
            ("{namespace}", "films"),
            ("{name}", "cut"),
        ] {
            path = path.replace(parameter, value);
        }
        assert!(!path.contains('{'), "{path} has a parameter that this test does not know");
        let query = match route.path {
            "/v1/data" => format!("?contentHash={}&receiptId={}", self.hash, self.receipt),
            "/v1/streaming/data/{contentHash}" | "/v1/streaming/usage" => format!("?receiptId={}", self.receipt),
            "/v1/policies/{policyId}/runs" => format!("?versionId={}", self.version),
            "/v1/openlineage/lineage" => "?nodeId=job:films:cut".to_owned(),
            "/v1/openlineage/search" => "?q=cut".to_owned(),
            _ => String::new(),
        };
        let call = node.client.request(route.method.parse::<Method>().unwrap(), node.url(&(path + &query)));
        if route.path.starts_with("/v1/uploads") {
            // Bytes that are appended.
            let call = call.header("tus-resumable", "1.0.0").header("upload-length", "5").header("upload-offset", "0");
            return call.header("content-type", "application/offset+octet-stream").body("bytes");
        }
        match self.body(route) {
            Value::Null => call,
            body => call.json(&body),
        }
    }

    fn body(&self, route: &RouteEntry) -> Value {
        match (route.method, route.path) {
            ("POST", "/v1/assets") => json!({ "name": "x", "contentHash": self.hash }),
            ("PUT", "/v1/assets/{versionId}/price") => json!({ "satoshis": 5 }),
            ("POST", "/v1/receipts" | "/v1/policies/{policyId}/evaluate") => json!({ "versionId": self.version }),
            ("PATCH", _) => json!({ "status": "settled" }),
            ("POST", "/v1/streaming/sessions") => json!({ "receiptId": self.receipt }),
            ("POST", "/v1/producers") => json!({ "name": "x" }),
            ("POST", "/v1/producers/{producerId}/identities") => json!({ "identityKey": IDENTITY }),
            ("POST", "/v1/storage/move/{contentHash}") => json!({ "tier": "hot" }),
            ("POST", "/v1/admin/cache/invalidate") => json!({ "tags": ["policy:standard"] }),
            ("POST" | "PUT", path) if path != "/v1/content" => json!({}),
            _ => Value::Null,
        }
    }
}

/// The generator of secp256k1.
const IDENTITY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

/// The fields that differ from answer to answer. A connection is closed when the body that a refusal does not need has not come yet.
const OF_EACH_ANSWER: [&str; 4] = ["date", "x-request-id", "ratelimit", "connection"];

/// The status, and the fields with the document, without what differs from answer to answer.
async fn answer(call: RequestBuilder) -> (u16, String) {
    let answer = call.send().await.unwrap();
    let status = answer.status().as_u16();
    let fields = answer.headers().iter().filter(|(name, _)| !OF_EACH_ANSWER.contains(&name.as_str()));
    let mut fields: Vec<_> = fields.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    fields.push(answer.text().await.unwrap());
    (status, fields.join("\n"))
}

/// That a call got past the question who calls.
async fn assert_admitted(call: RequestBuilder, who: &str, route: &RouteEntry) {
    let (status, document) = answer(call).await;
    let is_forbidden = status == 403 && document.contains("urn:penstock:problem:forbidden");
    let refused = status == 401 || is_forbidden || status == 405;
    assert!(!refused, "{who}: {} {}: {status} {document}", route.method, route.path);
}

async fn assert_unauthorized(answer: Response, route: &RouteEntry) {
    assert_eq!(answer.status(), 401, "{} {}", route.method, route.path);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    expect_problem(answer, 401, "unauthorized").await;
}

/// The routes that the node's own document describes, each with its callers.
async fn documented(node: &TestNode) -> Vec<&'static RouteEntry> {
    let document = expect(node.get("/openapi.json").send().await.unwrap(), &[200]).await;
    let mut found = Vec::new();
    for (path, calls) in document["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            let entry = ROUTES.iter().find(|route| route.path == path && route.method.eq_ignore_ascii_case(method));
            let Some(entry) = entry else {
                assert!(method == "head" && calls.get("get").is_some(), "{method} {path} is no route");
                continue;
            };
            let needs_key = !matches!(entry.caller, Caller::Anyone | Caller::Holder);
            assert_eq!(call.get("security").is_some(), needs_key, "{method} {path}");
            found.push(entry);
        }
    }
    assert_eq!(found.len(), ROUTES.len(), "a route is not in the document");
    // In the order of the table, in which nothing ends what a later call names.
    found.sort_by_key(|entry| ROUTES.iter().position(|route| (route.method, route.path) == (entry.method, entry.path)));
    found
}

on_both!(every_route_refuses_the_callers_that_it_is_not_for, async |node: &mut TestNode| {
    let (mine, others) = (Objects::of_a_producer(node, "mine").await, Objects::of_a_producer(node, "others").await);
    let nothing = Objects::of_nothing();
    let routes = documented(node).await;
    for &route in &routes {
        // A proxy's field makes it a call from elsewhere.
        let call = |objects: &Objects| objects.call(node, route).header("via", "1.1 proxy");
        let (anonymous, stranger) = (call(&mine), call(&mine).bearer_auth("pk_unknown"));
        match route.caller {
            Caller::Anyone | Caller::Holder => {
                assert_admitted(anonymous, "without a key", route).await;
                assert_admitted(stranger, "with an unknown key", route).await;
            }
            Caller::Producer | Caller::Owner | Caller::Admin | Caller::Local => {
                assert_unauthorized(anonymous.send().await.unwrap(), route).await;
                assert_unauthorized(stranger.send().await.unwrap(), route).await;
            }
        }
        if route.caller == Caller::Holder {
            let (status, document) = answer(call(&nothing)).await;
            let unknown = document.contains("unknown-receipt") || document.contains("unknown-session");
            assert!(status == 404 && unknown, "{} {}: {status} {document}", route.method, route.path);
            // A receipt shows nothing of other content, not even whether it is stored.
            if matches!(route.path, "/v1/data" | "/v1/streaming/data/{contentHash}") {
                let with_hash = |hash: &str| call(&Objects { hash: hash.to_owned(), ..mine.clone() });
                // Whatever is asked: all of it, a part, a part that it does not have, or whether it has changed.
                for (field, value) in [
                    ("accept", "*/*".to_owned()),
                    ("range", "bytes=0-0".to_owned()),
                    ("range", "bytes=1000000-".to_owned()),
                    ("if-none-match", format!("\"{}\"", others.hash)),
                    ("if-match", format!("\"{}\"", others.hash)),
                    ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT".to_owned()),
                ] {
                    let asked = |hash: &str| answer(with_hash(hash).header(field, &value));
                    assert_eq!(
                        asked(&others.hash).await,
                        asked(&nothing.hash).await,
                        "{} with {field}: {value}",
                        route.path
                    );
                }
            }
        }
        let by_other = || call(&mine).bearer_auth(&others.key);
        match route.caller {
            Caller::Anyone | Caller::Holder | Caller::Producer => assert_admitted(by_other(), "another", route).await,
            Caller::Admin | Caller::Local => {
                expect_problem(by_other().send().await.unwrap(), 403, "forbidden").await;
                expect_problem(call(&nothing).bearer_auth(&mine.key).send().await.unwrap(), 403, "forbidden").await;
            }
            Caller::Owner => {
                let refused = answer(by_other()).await;
                let missing = answer(call(&nothing).bearer_auth(&others.key)).await;
                // The catalogue shows every asset, so that it is another's is no secret. All else is as if it did not exist.
                match (route.method, route.path) {
                    ("PUT", "/v1/assets/{versionId}/price") | ("POST", "/v1/receipts") => {
                        assert_eq!((refused.0, missing.0), (403, 404), "{} {}", route.method, route.path);
                        assert!(refused.1.contains("urn:penstock:problem:forbidden"), "{}", refused.1);
                    }
                    _ => assert_eq!(refused, missing, "{} {}", route.method, route.path),
                }
                assert_admitted(call(&mine).bearer_auth(&mine.key), "the owner", route).await;
            }
        }
    }
    // Last, since an admin may end the keys of the others.
    for &route in &routes {
        let call = mine.call(node, route).header("via", "1.1 proxy").bearer_auth(ADMIN_KEY);
        if route.path == "/dashboard/events" {
            // It does not end.
            assert_eq!(call.send().await.unwrap().status(), 200);
        } else {
            assert_admitted(call, "the admin", route).await;
        }
    }
});

on_sqlite!(a_path_has_the_methods_of_the_list_and_no_others, async |node: &mut TestNode| {
    let paths: BTreeSet<_> = ROUTES.iter().map(|route| route.path).collect();
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let wanted = if method == "HEAD" { "GET" } else { method };
            let listed = ROUTES.iter().any(|route| (route.path, route.method) == (path, wanted));
            let route = RouteEntry { method, path, caller: Caller::Admin };
            let status = Objects::of_nothing().call(node, &route).send().await.unwrap().status();
            assert_eq!(status != 405, listed, "{method} {path}: {status}");
        }
    }
});

/// The rows of the table of calls in docs/api.md: `` | `METHOD /path` | caller | ``.
#[test]
fn the_page_on_the_api_says_who_may_call_each_route() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md")).unwrap();
    let (_, table) = page.split_once("<!-- all calls -->").expect("the table of calls");
    let (table, _) = table.split_once("<!-- end -->").expect("its end");
    let rows: Vec<_> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(call, caller)| (call.to_owned(), caller.trim_end_matches(" |").to_owned()))
        .collect();
    let listed: Vec<_> = ROUTES
        .iter()
        .map(|route| (format!("{} {}", route.method, route.path), route.caller.as_str().to_owned()))
        .collect();
    assert_eq!(rows, listed);
}
