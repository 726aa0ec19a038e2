//! Who may not stream: in the contract's order, each with its problem document, and none of them charged.

use serde_json::{Value, json};

use crate::{
    node::{Paid, TestNode, expect, expect_problem, hex_sha256, sample},
    wire,
};

const NOBODY: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

async fn refused(node: &TestNode, paid: &Paid, range: Option<&str>, status: u16, name: &str) -> Value {
    let mut request = node.stream(paid);
    if let Some(range) = range {
        request = request.header("range", range);
    }
    expect_problem(request.send().await.unwrap(), status, name).await
}

on_both!(each_reason_to_refuse_comes_before_the_next, async |node: &mut TestNode| {
    let bytes = sample(20, 1000);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let other = hex_sha256(b"not stored");
    // What this tier forbids comes last, so that everything else is refused in spite of it.
    node.tier("tight", json!({ "bytesPerMonth": 10, "maxFileSizeBytes": 100 })).await;
    let make = async |members: Value| {
        let mut members = members;
        members["quotaTier"] = "tight".into();
        Paid { hash: hash.clone(), version: version.clone(), receipt: node.receipt(&version, members).await }
    };

    for hash in ["abc", &"G".repeat(64), &hash.to_uppercase(), &format!("{hash}0")] {
        let path = format!("/v1/streaming/data/{hash}?receiptId=also-bad");
        expect_problem(node.get(&path).send().await.unwrap(), 400, "malformed-request").await;
    }
    for query in ["", "?receiptId=", "?receiptId=abc", "?receiptId=67e55044"] {
        let path = format!("/v1/streaming/data/{hash}{query}");
        expect_problem(node.get(&path).send().await.unwrap(), 400, "malformed-request").await;
    }
    let two = node.get(&format!("/v1/streaming/data/{hash}?receiptId={NOBODY}"));
    let two = two.header("x-receipt-id", "57e55044-10b1-426f-9247-bb680e5fe0c8").send().await.unwrap();
    expect_problem(two, 400, "malformed-request").await;
    let unnamed = node.get(&format!("/v1/data?receiptId={NOBODY}")).send().await.unwrap();
    expect_problem(unnamed, 400, "malformed-request").await;

    let bad_range = Some("bytes=5000-");
    let unknown = Paid { hash: other.clone(), version: version.clone(), receipt: NOBODY.to_owned() };
    refused(node, &unknown, bad_range, 404, "unknown-receipt").await;
    // Each of these is for other content as well, and with a bad range.
    for (members, name) in [
        (json!({ "status": "pending" }), "receipt-not-confirmed"),
        (json!({ "expiresAt": "2020-01-01T00:00:00Z" }), "receipt-expired"),
        (json!({ "status": "expired" }), "receipt-expired"),
        (json!({ "status": "refunded" }), "receipt-refunded"),
    ] {
        let receipt = make(members).await;
        refused(node, &Paid { hash: other.clone(), ..receipt.clone() }, bad_range, 403, name).await;
        assert_eq!(node.charged(&receipt.receipt).await, (0, 0));
    }
    let consumed = make(json!({ "status": "consumed" })).await;
    let elsewhere = Paid { hash: other.clone(), ..consumed.clone() };
    refused(node, &elsewhere, bad_range, 409, "receipt-for-other-content").await;
    refused(node, &consumed, bad_range, 409, "receipt-consumed").await;
    let confirmed = make(json!({ "status": "confirmed" })).await;
    refused(node, &confirmed, bad_range, 416, "range-not-satisfiable").await;
    let problem = refused(node, &confirmed, Some("bytes=0-50"), 413, "content-too-large").await;
    assert_eq!((&problem["limit"], &problem["size"]), (&json!(100), &json!(1000)));
    node.tier("tight", json!({ "bytesPerMonth": 10 })).await;
    let problem = refused(node, &confirmed, Some("bytes=0-50"), 429, "quota-exceeded").await;
    assert_eq!(problem["window"], "month");
    assert_eq!(node.charged(&confirmed.receipt).await, (0, 0));
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
});

on_both!(a_tier_names_the_media_types_that_it_streams, async |node: &mut TestNode| {
    node.tier("films", json!({ "allowedContentTypes": ["video/*", "text/plain"] })).await;
    for (seed, kind, allowed) in [
        (21, "video/mp4", true),
        (22, "text/plain; charset=utf-8", true),
        (23, "text/html", false),
        (24, "application/octet-stream", false),
    ] {
        let bytes = sample(seed, 100);
        let hash = node.put(&bytes, kind).await;
        let version = node.publish(&hash, "x").await;
        let receipt = node.receipt(&version, json!({ "quotaTier": "films" })).await;
        let paid = Paid { hash, version, receipt };
        if allowed {
            assert_eq!(node.stream(&paid).send().await.unwrap().status(), 200, "{kind}");
        } else {
            refused(node, &paid, None, 403, "media-type-not-allowed").await;
            assert_eq!(node.charged(&paid.receipt).await, (0, 0));
        }
    }
});

on_both!(a_spent_quota_says_what_is_left_and_when_to_come_back, async |node: &mut TestNode| {
    node.tier("small", json!({ "bytesPerHour": 1_000_000, "bytesPerDay": 100_000, "requestsPerMonth": 3 })).await;
    let paid = node.paid(&sample(25, 60_000), "small").await;
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap().len(), 60_000);
    let answer = node.stream(&paid).send().await.unwrap();
    let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let problem = expect_problem(answer, 429, "quota-exceeded").await;
    assert_eq!(problem["window"], "day");
    assert_eq!(problem["unit"], "bytes");
    assert_eq!(problem["limit"], 100_000);
    assert_eq!(problem["used"], 60_000);
    assert_eq!(problem["remaining"], 40_000);
    assert_eq!(problem["retryAfter"], retry_after);
    assert!((1..=24 * 60 * 60).contains(&retry_after));
    // What fits still goes through, to the last byte.
    let rest = node.stream(&paid).header("range", "bytes=0-39999").send().await.unwrap();
    assert_eq!(rest.bytes().await.unwrap().len(), 40_000);
    refused(node, &paid, Some("bytes=0-0"), 429, "quota-exceeded").await;
    assert_eq!(node.charged(&paid.receipt).await, (100_000, 2));
    let quota = node.quota(&paid.receipt).await;
    assert_eq!(quota["windows"]["day"]["bytesUsed"], 100_000);
    assert_eq!(quota["windows"]["day"]["utilizationPercentage"], 100.0);
});

on_both!(requests_are_counted_too, async |node: &mut TestNode| {
    node.tier("few", json!({ "requestsPerDay": 7 })).await;
    let paid = node.paid(&sample(26, 1000), "few").await;
    let answers = futures::future::join_all((0..20).map(|_| node.stream(&paid).send())).await;
    let mut delivered = 0;
    for answer in answers.into_iter().map(Result::unwrap) {
        if answer.status() == 200 {
            assert_eq!(answer.bytes().await.unwrap().len(), 1000);
            delivered += 1;
        } else {
            let problem = expect_problem(answer, 429, "quota-exceeded").await;
            assert_eq!(
                (&problem["window"], &problem["unit"], &problem["limit"]),
                (&json!("day"), &json!("requests"), &json!(7))
            );
        }
    }
    assert_eq!(delivered, 7);
    assert_eq!(node.charged(&paid.receipt).await, (7000, 7));
});

on_both!(a_stream_that_is_held_open_keeps_its_slot_until_its_client_leaves, async |node: &mut TestNode| {
    node.tier("two", json!({ "maxConcurrentStreams": 2 })).await;
    let paid = node.paid(&sample(27, 12 << 20), "two").await;
    let first = wire::paused_stream(node, &paid, 1).await;
    let second = wire::paused_stream(node, &paid, 1).await;
    let apart = node.stream_apart(&paid).header("range", "bytes=0-0").send().await.unwrap();
    let problem = expect_problem(apart, 429, "too-many-streams").await;
    assert_eq!((&problem["limit"], &problem["used"], &problem["remaining"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!(node.quota(&paid.receipt).await["concurrent"], json!({ "activeStreams": 2, "maxAllowed": 2 }));
    drop(first);
    node.metric_becomes("penstock_streams_active", "", 1.0).await;
    let (_, before) = node.charged(&paid.receipt).await;
    let next = node.stream(&paid).header("range", "bytes=0-9").send().await.unwrap();
    assert_eq!(next.bytes().await.unwrap().len(), 10);
    drop(second);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    assert_eq!(node.charged(&paid.receipt).await.1, before + 2, "the refused one is not charged");
    assert_eq!(node.quota(&paid.receipt).await["concurrent"]["activeStreams"], 0);
});

on_both!(streams_one_after_the_other_never_find_the_slot_taken, async |node: &mut TestNode| {
    node.tier("one", json!({ "maxConcurrentStreams": 1 })).await;
    for (seed, size) in [(28, 0), (29, 1), (30, 70_000), (31, 2_200_000)] {
        let paid = node.paid(&sample(seed, size), "one").await;
        for round in 0..25 {
            // A connection of its own, as the next player of the same client would have.
            let answer = node.stream(&paid).header("connection", "close").send().await.unwrap();
            assert_eq!(answer.status(), 200, "{size} bytes, round {round}");
            assert_eq!(answer.bytes().await.unwrap().len(), size);
            if size > 10 {
                let answer = node.stream(&paid).header("connection", "close").header("range", "bytes=0-4,8-9");
                let answer = answer.send().await.unwrap();
                assert_eq!(answer.status(), 206, "ranges of {size} bytes, round {round}");
                answer.bytes().await.unwrap();
            }
        }
    }
});

on_both!(a_refunded_receipt_stops_at_once_for_new_and_running_streams, async |node: &mut TestNode| {
    let paid = node.paid(&sample(32, 12 << 20), "unlimited").await;
    let _paused = wire::paused_stream(node, &paid, 1).await;
    let mut running = node.stream(&paid).send().await.unwrap();
    running.chunk().await.unwrap();
    expect(node.set_status(&paid.receipt, "refunded").await, &[200]).await;
    refused(node, &paid, None, 403, "receipt-refunded").await;
    let mut received = 0;
    let ended = loop {
        match running.chunk().await {
            Ok(Some(part)) => received += part.len(),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ended.is_err(), "a revoked stream is reset, never ended cleanly: {received} bytes");
});
