//! The JSON calls: what producers and admins make, see and may not touch.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::node::{Paid, TestNode, expect, expect_problem, hex_sha256, sample, text};

const NOBODY: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// A new producer's key.
async fn producer(node: &TestNode, name: &str) -> String {
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": name })).send().await.unwrap();
    text(&expect(made, &[201]).await, "key")
}

fn with_key(node: &TestNode, key: &str, method: Method, path: &str) -> RequestBuilder {
    node.client.request(method, node.url(path)).bearer_auth(key)
}

on_both!(an_asset_shows_what_its_producer_said, async |node: &mut TestNode| {
    let key = producer(node, "Studio").await;
    let upload = with_key(node, &key, Method::POST, "/v1/content").header("content-type", "video/mp4").body("film");
    let hash = text(&expect(upload.send().await.unwrap(), &[201]).await, "contentHash");
    let given = json!({
        "name": "A film",
        "description": "In colour.\nAnd loud.",
        "contentHash": hash,
        "datasetId": "films",
        "policyMeta": { "license": "CC-BY-4.0", "deep": [{ "a": null }] },
        "priceSatoshis": 250,
    });
    let made = with_key(node, &key, Method::POST, "/v1/assets").json(&given).send().await.unwrap();
    let location = made.headers()["location"].to_str().unwrap().to_owned();
    let made = expect(made, &[201]).await;
    for (member, value) in given.as_object().unwrap() {
        assert_eq!(&made[member], value, "{member}");
    }
    assert_eq!((&made["mediaType"], &made["sizeBytes"]), (&json!("video/mp4"), &json!(4)));
    assert_eq!(location, format!("/v1/assets/{}", text(&made, "versionId")));
    let shown = node.get(&location).send().await.unwrap();
    let tag = shown.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(expect(shown, &[200]).await, made);
    let again = node.get(&location).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), 304);

    let price = with_key(node, &key, Method::PUT, &format!("{location}/price")).json(&json!({ "satoshis": 300 }));
    let answer = expect(price.send().await.unwrap(), &[200]).await;
    assert_eq!(answer, json!({ "versionId": made["versionId"], "priceSatoshis": 300 }));
    // Whoever holds the old one is told of the new price.
    let fresh = node.get(&location).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(expect(fresh, &[200]).await["priceSatoshis"], 300);
    let receipt = json!({ "versionId": made["versionId"] });
    let receipt = with_key(node, &key, Method::POST, "/v1/receipts").json(&receipt).send().await.unwrap();
    assert_eq!(expect(receipt, &[201]).await["totalSatoshis"], 300);

    let unknown = node.get(&format!("/v1/assets/{NOBODY}")).send().await.unwrap();
    expect_problem(unknown, 404, "unknown-asset").await;
    expect_problem(node.get("/v1/assets/abc").send().await.unwrap(), 400, "malformed-request").await;
});

on_both!(values_that_break_rules_are_told_all_at_once, async |node: &mut TestNode| {
    let hash = node.put(b"x", "text/plain").await;
    let asset = json!({
        "name": "", "contentHash": hash, "mediaType": "none", "policyMeta": [], "priceSatoshis": 2_100_000_000_000_001_u64,
    });
    let answer = node.admin(Method::POST, "/v1/assets").json(&asset).send().await.unwrap();
    let problem = expect_problem(answer, 422, "validation-failed").await;
    let paths: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| text(error, "path")).collect();
    assert_eq!(paths, ["name", "mediaType", "policyMeta", "priceSatoshis"]);
    let version = node.publish(&hash, "x").await;
    for (call, body, path) in [
        ("/v1/assets", json!({ "name": "x", "contentHash": hash, "nmae": 1 }), "nmae"),
        ("/v1/assets", json!({ "name": 5, "contentHash": hash }), "name"),
        ("/v1/assets", json!({ "name": "x", "contentHash": "abc" }), "contentHash"),
        ("/v1/assets", json!({ "name": "x\u{0}", "contentHash": hash }), "name"),
        ("/v1/receipts", json!({ "versionId": version, "status": "paid" }), "status"),
        ("/v1/receipts", json!({ "versionId": version, "expiresAt": "tomorrow" }), "expiresAt"),
        ("/v1/receipts", json!({ "versionId": "abc" }), "versionId"),
    ] {
        let answer = node.admin(Method::POST, call).json(&body).send().await.unwrap();
        let problem = expect_problem(answer, 422, "validation-failed").await;
        assert_eq!(problem["errors"][0]["path"], path, "{problem}");
    }
    for (limits, path) in [
        (json!({ "bytesPerHour": -1 }), "bytesPerHour"),
        (json!({ "bytesPerHuor": 1 }), "bytesPerHuor"),
        (json!({ "maxConcurrentStreams": 0 }), "maxConcurrentStreams"),
        (json!({ "maxBandwidthMbps": 0 }), "maxBandwidthMbps"),
        (json!({ "allowedContentTypes": [] }), "allowedContentTypes"),
        (json!({ "allowedContentTypes": ["video"] }), "allowedContentTypes[0]"),
    ] {
        let answer = node.admin(Method::PUT, "/v1/streaming/policies/x").json(&limits).send().await.unwrap();
        let problem = expect_problem(answer, 422, "validation-failed").await;
        assert_eq!(problem["errors"][0]["path"], path, "{problem}");
    }
    let unknown = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": version, "quotaTier": "none" }));
    expect_problem(unknown.send().await.unwrap(), 422, "unknown-tier").await;
    let unknown = node.admin(Method::POST, "/v1/receipts").json(&json!({ "versionId": NOBODY }));
    expect_problem(unknown.send().await.unwrap(), 404, "unknown-asset").await;
});

on_both!(a_receipt_moves_forward_only, async |node: &mut TestNode| {
    let hash = node.put(b"receipts", "text/plain").await;
    let version = node.publish(&hash, "x").await;
    let allowed = |from: &str, to: &str| {
        let targets: &[&str] = match from {
            "pending" => &["confirmed", "expired", "refunded"],
            "confirmed" => &["settled", "consumed", "expired", "refunded"],
            "settled" => &["consumed", "expired", "refunded"],
            "consumed" => &["refunded"],
            _ => &[],
        };
        from == to || targets.contains(&to)
    };
    let all = ["pending", "confirmed", "settled", "consumed", "expired", "refunded"];
    for from in all {
        for to in all {
            let receipt = node.receipt(&version, json!({ "status": from })).await;
            let answer = node.set_status(&receipt, to).await;
            let expected = if allowed(from, to) {
                assert_eq!(expect(answer, &[200]).await["status"], to);
                to
            } else {
                let problem = expect_problem(answer, 409, "receipt-transition").await;
                assert_eq!((&problem["from"], &problem["to"]), (&json!(from), &json!(to)));
                from
            };
            let shown = expect(node.get(&format!("/v1/receipts/{receipt}")).send().await.unwrap(), &[200]).await;
            assert_eq!(shown["status"], expected, "{from} to {to}");
        }
    }
    let past = node.receipt(&version, json!({ "expiresAt": "2020-01-01T00:00:00Z" })).await;
    let shown = expect(node.get(&format!("/v1/receipts/{past}")).send().await.unwrap(), &[200]).await;
    assert_eq!((&shown["status"], &shown["expiresAt"]), (&json!("expired"), &json!("2020-01-01T00:00:00Z")));
    expect_problem(node.set_status(NOBODY, "settled").await, 404, "unknown-receipt").await;
    let unknown = node.get(&format!("/v1/receipts/{NOBODY}")).send().await.unwrap();
    expect_problem(unknown, 404, "unknown-receipt").await;
});

on_both!(a_confirmed_receipt_streams_at_once, async |node: &mut TestNode| {
    let hash = node.put(b"at once", "text/plain").await;
    let version = node.publish(&hash, "x").await;
    let receipt = node.receipt(&version, json!({ "status": "pending" })).await;
    let paid = Paid { hash, version, receipt };
    expect_problem(node.stream(&paid).send().await.unwrap(), 403, "receipt-not-confirmed").await;
    expect(node.set_status(&paid.receipt, "confirmed").await, &[200]).await;
    let answer = node.stream(&paid).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "at once", "nothing is left of the time before");
});

on_both!(a_producer_cannot_touch_what_is_anothers, async |node: &mut TestNode| {
    let (mine, others) = (producer(node, "Mine").await, producer(node, "Others").await);
    let hash = node.put(b"mine", "text/plain").await;
    let asset = json!({ "name": "Mine", "contentHash": hash });
    let publish = async |key: &str| with_key(node, key, Method::POST, "/v1/assets").json(&asset).send().await.unwrap();
    let upload = async |key: &str| {
        let upload = with_key(node, key, Method::POST, "/v1/content").header("content-type", "text/plain").body("mine");
        upload.send().await.unwrap().status()
    };
    // That another one has stored the bytes shows in no answer.
    let unknown = json!({ "name": "Mine", "contentHash": hex_sha256(b"stored by no producer") });
    let unknown = with_key(node, &mine, Method::POST, "/v1/assets").json(&unknown).send().await.unwrap();
    let unknown = expect_problem(unknown, 422, "validation-failed").await;
    assert_eq!(expect_problem(publish(&mine).await, 422, "validation-failed").await, unknown);
    assert_eq!((upload(&mine).await.as_u16(), upload(&mine).await.as_u16()), (201, 200), "new to this producer");
    assert_eq!(publish(&others).await.status(), 422, "the hash is no proof of having the bytes");
    let asset = with_key(node, &mine, Method::POST, "/v1/assets").json(&asset).send().await.unwrap();
    let version = text(&expect(asset, &[201]).await, "versionId");
    let receipt = json!({ "versionId": version });
    let made = with_key(node, &mine, Method::POST, "/v1/receipts").json(&receipt).send().await.unwrap();
    let id = text(&expect(made, &[201]).await, "receiptId");
    let price = format!("/v1/assets/{version}/price");
    let of_receipt = format!("/v1/receipts/{id}");
    let usage = format!("/v1/streaming/usage?receiptId={id}");
    let calls = |key: &str| {
        [
            with_key(node, key, Method::PUT, &price).json(&json!({ "satoshis": 5 })),
            with_key(node, key, Method::POST, "/v1/receipts").json(&receipt),
            with_key(node, key, Method::PATCH, &of_receipt).json(&json!({ "status": "settled" })),
            with_key(node, key, Method::GET, &usage),
        ]
    };
    // An asset is public, so the refusal says that it is another's. A receipt is not: it is as if it did not exist.
    let answers = [(403, "forbidden"), (403, "forbidden"), (404, "unknown-receipt"), (404, "unknown-receipt")];
    for (call, (status, name)) in calls(&others).into_iter().zip(answers) {
        expect_problem(call.send().await.unwrap(), status, name).await;
    }
    for call in calls("wrong") {
        let answer = call.send().await.unwrap();
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        expect_problem(answer, 401, "unauthorized").await;
    }
    let shown = expect(node.get(&of_receipt).send().await.unwrap(), &[200]).await;
    assert_eq!(shown["status"], "confirmed");
    let shown = expect(node.get(&format!("/v1/assets/{version}")).send().await.unwrap(), &[200]).await;
    assert_eq!(shown["priceSatoshis"], 0);
    for call in calls(&mine) {
        expect(call.send().await.unwrap(), &[200, 201]).await;
    }
    // What is an admin's is no producer's.
    for call in [
        with_key(node, &mine, Method::GET, "/v1/streaming/policies"),
        with_key(node, &mine, Method::PUT, "/v1/streaming/policies/mine").json(&json!({})),
        with_key(node, &mine, Method::POST, "/v1/producers").json(&json!({ "name": "x" })),
        with_key(node, &mine, Method::POST, "/v1/admin/cache/invalidate").json(&json!({ "tags": ["policy:mine"] })),
    ] {
        expect_problem(call.send().await.unwrap(), 403, "forbidden").await;
    }
});

on_both!(policies_are_made_replaced_and_listed, async |node: &mut TestNode| {
    let put = async |name: &str, limits: Value| {
        node.admin(Method::PUT, &format!("/v1/streaming/policies/{name}")).json(&limits).send().await.unwrap()
    };
    let made = expect(put("trial", json!({ "bytesPerDay": 1000, "description": "A taste" })).await, &[201]).await;
    assert_eq!((&made["bytesPerDay"], &made["bytesPerHour"]), (&json!(1000), &Value::Null));
    let replaced = expect(put("trial", json!({ "requestsPerHour": 5 })).await, &[200]).await;
    assert_eq!((&replaced["bytesPerDay"], &replaced["requestsPerHour"]), (&Value::Null, &json!(5)));
    let shown = node.admin(Method::GET, "/v1/streaming/policies/trial").send().await.unwrap();
    assert_eq!(expect(shown, &[200]).await, replaced);
    let all = expect(node.admin(Method::GET, "/v1/streaming/policies").send().await.unwrap(), &[200]).await;
    let all = all["items"].as_array().unwrap().clone();
    let names: Vec<_> = all.iter().map(|policy| text(policy, "policyName")).collect();
    for tier in ["standard", "premium", "enterprise", "unlimited", "trial"] {
        assert!(names.iter().any(|name| name == tier), "{names:?}");
    }
    let standard = &all[names.iter().position(|name| name == "standard").unwrap()];
    for (member, value) in [
        ("bytesPerHour", 1_u64 << 30),
        ("bytesPerDay", 10 << 30),
        ("bytesPerMonth", 100 << 30),
        ("requestsPerHour", 100),
        ("requestsPerDay", 1000),
        ("requestsPerMonth", 10_000),
        ("maxConcurrentStreams", 1),
    ] {
        assert_eq!(standard[member], value, "{member}");
    }
    assert_eq!(standard["maxBandwidthMbps"], 10.0);
    expect_problem(put("Not_A_Name", json!({})).await, 400, "malformed-request").await;
    let unknown = node.admin(Method::GET, "/v1/streaming/policies/none").send().await.unwrap();
    expect_problem(unknown, 404, "not-found").await;
});

on_both!(a_session_adds_up_the_streams_that_name_it, async |node: &mut TestNode| {
    let paid = node.paid(&sample(60, 1000), "unlimited").await;
    let open = node.client.post(node.url("/v1/streaming/sessions")).json(&json!({ "receiptId": paid.receipt }));
    let session = expect(open.send().await.unwrap(), &[201]).await;
    let id = text(&session, "sessionId");
    assert_eq!((&session["state"], &session["sizeBytes"]), (&json!("new"), &json!(1000)));
    for (range, state, bytes, position) in [
        ("bytes=0-399", "active", 400, 400),
        ("bytes=100-199", "active", 500, 400),
        ("bytes=400-", "complete", 1100, 1000),
    ] {
        let answer = node.stream(&paid).header("x-session-id", &id).header("range", range).send().await.unwrap();
        assert_eq!(answer.headers()["x-session-id"], id.as_str());
        answer.bytes().await.unwrap();
        // Asked after the quota, which waits for what has ended.
        node.charged(&paid.receipt).await;
        let shown = node.get(&format!("/v1/streaming/sessions/{id}")).send().await.unwrap();
        let shown = expect(shown, &[200]).await;
        assert_eq!(
            (&shown["state"], &shown["bytesDelivered"], &shown["position"]),
            (&json!(state), &json!(bytes), &json!(position))
        );
    }
    let unknown = node.get(&format!("/v1/streaming/sessions/{NOBODY}")).send().await.unwrap();
    expect_problem(unknown, 404, "unknown-session").await;
    let open = node.client.post(node.url("/v1/streaming/sessions")).json(&json!({ "receiptId": NOBODY }));
    expect_problem(open.send().await.unwrap(), 404, "unknown-receipt").await;
});

on_both!(usage_is_read_page_by_page, async |node: &mut TestNode| {
    let paid = node.paid(&sample(61, 100), "unlimited").await;
    for last in 0..7 {
        let answer = node.stream(&paid).header("range", format!("bytes=0-{last}")).send().await.unwrap();
        answer.bytes().await.unwrap();
    }
    assert_eq!(node.charged(&paid.receipt).await, (1 + 2 + 3 + 4 + 5 + 6 + 7, 7));
    let (mut sizes, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/v1/streaming/usage?receiptId={}&limit=3{cursor}", paid.receipt);
        let page = expect(node.admin(Method::GET, &path).send().await.unwrap(), &[200]).await;
        for row in page["items"].as_array().unwrap() {
            assert_eq!((&row["receiptId"], &row["contentHash"]), (&json!(paid.receipt), &json!(paid.hash)));
            assert_eq!((&row["outcome"], &row["requests"]), (&json!("completed"), &json!(1)));
            sizes.push(row["bytesSent"].as_u64().unwrap());
        }
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((sizes, pages), (vec![1, 2, 3, 4, 5, 6, 7], 3));
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=!", "cursor=AAAA", "limti=5"] {
        let path = format!("/v1/streaming/usage?receiptId={}&{query}", paid.receipt);
        expect_problem(node.admin(Method::GET, &path).send().await.unwrap(), 400, "malformed-request").await;
    }
});

on_both!(the_quota_document_shows_windows_limits_and_streams, async |node: &mut TestNode| {
    let paid = node.paid(&sample(62, 1000), "standard").await;
    node.stream(&paid).send().await.unwrap().bytes().await.unwrap();
    let quota = node.quota(&paid.receipt).await;
    assert_eq!(quota["receiptId"], paid.receipt.as_str());
    for (window, bytes, requests) in [("hour", 1_u64 << 30, 100), ("day", 10 << 30, 1000), ("month", 100 << 30, 10_000)]
    {
        let shown = &quota["windows"][window];
        assert_eq!((&shown["bytesUsed"], &shown["bytesAllowed"]), (&json!(1000), &json!(bytes)), "{window}");
        assert_eq!((&shown["requestsUsed"], &shown["requestsAllowed"]), (&json!(1), &json!(requests)), "{window}");
        assert!(text(shown, "windowStart") < text(shown, "windowEnd"));
        assert!(shown["utilizationPercentage"].is_number());
        assert!(quota["projections"][window]["bytesAtEnd"].as_u64().unwrap() >= 1000);
    }
    assert_eq!(quota["concurrent"], json!({ "activeStreams": 0, "maxAllowed": 1 }));
    assert!(quota["burst"].is_object());
    let unknown = node.get(&format!("/v1/streaming/quotas/{NOBODY}")).send().await.unwrap();
    expect_problem(unknown, 404, "unknown-receipt").await;
    expect_problem(node.get("/v1/streaming/quotas/abc").send().await.unwrap(), 400, "malformed-request").await;
});
