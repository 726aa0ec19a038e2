//! Requests that two parsers could read as different ones, and bytes that could become part of an answer's head.

use serde_json::json;

use crate::{
    node::{ADMIN_KEY, TestNode, expect},
    raw_requests::problem,
    wire::exchange,
};

/// A second request, which must never be found in the body or the head of the first.
const SMUGGLED: &str = "GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n";

/// The one answer to these bytes: a refusal, after which the connection is closed.
async fn refused(node: &TestNode, request: &str) {
    let answers = exchange(node, request).await;
    let count = answers.matches("HTTP/1.1 ").count();
    // The text of a refusal names the protocol.
    let (head, _) = answers.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {request:?}"));
    assert!(head.to_lowercase().contains("connection: close"), "{request:?}: {head}");
    assert!(count <= 2 && !answers.contains("penstock_"), "{request:?}: {answers}");
    assert_eq!(problem(&answers).0, 400, "{request:?}");
}

on_sqlite!(a_request_with_two_lengths_or_an_unclear_one_is_refused, async |node: &mut TestNode| {
    for fields in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding:",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        " transfer-encoding: chunked",
        "transfer-encoding:\u{b}chunked",
        "x: y\r\n transfer-encoding: chunked",
        "transfer-encoding:\r\n chunked",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 0",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length: -5",
        "content-length: 0x5",
        "content-length: 5 5",
        "content-length: 5\u{b}",
        "content-length: 18446744073709551616",
        "content-length:",
        "content-length : 5",
        "host: other",
        // Line ends.
        "x: y\ntransfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "x: y\r\r\ntransfer-encoding: chunked",
        "x: y\u{0}z",
        "x\u{0}: y",
    ] {
        let request = format!("POST /v1/assets HTTP/1.1\r\nhost: node\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}");
        refused(node, &request).await;
    }
    for request in [
        "POST /v1/assets HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/assets HTTP/1.0\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /health/live HTTP/1.1\r\n\r\n",
        "GET /health/live HTTP/1.1\nhost: node\n\n",
        "GET /health/live HTTP/1.1\r\nhost: node\r\n\n",
        "GET /health/live HTTP/1.1\r\nhost: node\n\r\n",
        "\nGET /health/live HTTP/1.1\r\nhost: node\r\n\r\n",
        "GET  /health/live HTTP/1.1\r\nhost: node\r\n\r\n",
        "GET /health/live  HTTP/1.1\r\nhost: node\r\n\r\n",
        "GET /health/live\u{0} HTTP/1.1\r\nhost: node\r\n\r\n",
        "GET /health/live HTTP/1.1 \r\nhost: node\r\n\r\n",
        "GET /health/live\r\nhost: node\r\n\r\n",
        "GET /health/live HTTP/2.0\r\nhost: node\r\n\r\n",
    ] {
        refused(node, &format!("{request}{SMUGGLED}")).await;
    }
});

on_sqlite!(a_body_is_as_long_as_its_length_says_and_the_next_request_begins_behind_it, async |node: &mut TestNode| {
    for fields in ["content-length: 5\r\n\r\nGET /", "transfer-encoding:\tchunked \r\n\r\n5\r\nGET /\r\n0\r\n\r\n"] {
        let answers = exchange(
            node,
            &format!(
                "POST /v1/producers HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\n{fields}\
                 GET /health/live HTTP/1.1\r\nhost: node\r\n\
                 connection: close\r\n\r\n"
            ),
        )
        .await;
        assert!(answers.starts_with("HTTP/1.1 400 "), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
        assert!(answers.ends_with("{\"status\":\"ok\"}"), "{answers}");
    }
});

on_sqlite!(a_client_of_http_2_is_told_in_http_1, async |node: &mut TestNode| {
    // The preface of prior knowledge (RFC 9113, section 3.4), with the frame of settings and a flood of resets.
    let reset = "\0\0\u{4}\u{3}\0\0\0\0\u{1}\0\0\0\u{8}".repeat(1000);
    let answer = exchange(node, &format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0{reset}")).await;
    assert_eq!(problem(&answer).0, 400);
    // An offer to switch is not taken up, and the answer does not look as if it were.
    for offer in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAA\r\n",
    ] {
        let answer = exchange(node, &format!("GET /health/live HTTP/1.1\r\nhost: node\r\n{offer}\r\n")).await;
        let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
        assert!(head.contains("connection: close") && !head.contains("upgrade"), "{head}");
    }
});

on_sqlite!(a_path_leads_nowhere_but_to_its_route, async |node: &mut TestNode| {
    let closed = "host: node\r\nconnection: close\r\n\r\n";
    let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for (target, status) in [
        ("/v1/streaming/data/../../../../etc/passwd", 404),
        ("/v1/streaming/data/..%2f..%2f..%2fetc%2fpasswd?receiptId=ID", 400),
        ("/v1/streaming/data/%2e%2e%2f%2e%2e%2fetc%2fpasswd?receiptId=ID", 400),
        ("/v1/streaming/data/%252e%252e%252fetc%252fpasswd?receiptId=ID", 400),
        ("/v1/streaming/data/..%5c..%5cetc%5cpasswd?receiptId=ID", 400),
        ("/v1/streaming/data/%00?receiptId=ID", 400),
        ("/v1/streaming/data/%c0%ae%c0%ae%c0%af?receiptId=ID", 400),
        ("/v1/data?contentHash=../../etc/passwd&receiptId=ID", 400),
        ("/v1/data?contentHash=%00&receiptId=ID", 400),
        ("/v1/receipts/ID%00", 400),
        ("/v1/receipts/..%2fproducers", 400),
        ("/v1/uploads/..%2f..%2fkey", 401),
        ("/v1/receipts/ID/../../producers", 404),
        ("/v1//receipts/ID", 404),
        ("//v1/receipts/ID", 404),
        ("/v1/receipts/ID/", 404),
        ("/v1/./receipts/ID", 404),
        ("/V1/receipts/ID", 404),
        ("/v1/receipts;a=b/ID", 404),
        ("/v1%2freceipts%2fID", 404),
        ("/dashboard/..%2fdashboard.css", 404),
        ("/dashboard/../../../etc/passwd", 404),
        ("/dashboard/%2e%2e/%2e%2e/etc/passwd", 404),
        // The same route, written differently.
        ("/v1/%72eceipts/ID", 404),
        ("/health/%6cive", 200),
        ("http://node/health/live", 200),
        ("http://other.example:99/health/live", 200),
        ("http://user:password@node/v1/receipts/ID", 404),
        ("http:///health/live", 400),
        ("file:///etc/passwd", 400),
        ("*", 404),
    ] {
        let target = target.replace("ID", id);
        let answer = exchange(node, &format!("GET {target} HTTP/1.1\r\n{closed}")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(!answer.contains("root:"), "{target}: {answer}");
    }
    // A route that asks for a key asks for it however its path is written.
    for target in
        ["/v1/producers", "/v1/%70roducers", "http://other.example/v1/producers", "/v1/producers?x=/health/live"]
    {
        let answer = exchange(node, &format!("GET {target} HTTP/1.1\r\n{closed}")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{target}: {answer}");
    }
    let tunnel = exchange(node, "CONNECT other.example:443 HTTP/1.1\r\nhost: other.example:443\r\n\r\n").await;
    assert!(tunnel.starts_with("HTTP/1.1 404 "), "{tunnel}");
});

on_sqlite!(what_a_client_gives_never_becomes_a_field_of_an_answer, async |node: &mut TestNode| {
    let hash = node.put(b"a film", "video/mp4").await;
    // A name of a file is a value of a field.
    for name in
        ["a\r\nset-cookie: x=y", "a\nset-cookie: x=y", "a\"; filename=\"b\r\n\r\n<script>", "\u{2028}\u{0}\u{7f}b"]
    {
        let asset = node.admin(reqwest::Method::POST, "/v1/assets").json(&json!({ "contentHash": hash, "name": name }));
        let answer = asset.send().await.unwrap();
        if answer.status() == 422 {
            continue;
        }
        let version = crate::node::text(&expect(answer, &[201]).await, "versionId");
        let receipt = node.receipt(&version, json!({})).await;
        let request = format!(
            "GET /v1/streaming/data/{hash}?receiptId={receipt} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n"
        );
        let answer = exchange(node, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "a film");
        assert!(!head.lines().any(|line| line.to_lowercase().starts_with("set-cookie")), "{head}");
        assert!(!head.contains("<script>") || head.contains("filename"), "{head}");
    }
    // A media type is a value, in the head and between the parts of an answer with several ranges.
    for media_type in ["video/mp4\u{b}x: y", "video/mp4; a=\"\u{7f}\"", "video", "video/mp4, text/html"] {
        let upload = format!(
            "POST /v1/content HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-type: {media_type}\r\n\
             content-length: 1\r\nconnection: close\r\n\r\nx"
        );
        assert!(exchange(node, &upload).await.starts_with("HTTP/1.1 400 "), "{media_type:?}");
    }
    // Ids of requests are repeated if they are words, and replaced otherwise.
    for (id, is_kept) in [("edge-1", true), ("a b", false), ("a\tb", false), ("\u{e9}", false), ("<script>", false)] {
        let request =
            format!("GET /health/live HTTP/1.1\r\nhost: node\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n");
        let answer = exchange(node, &request).await;
        assert_eq!(answer.contains(&format!("x-request-id: {id}\r\n")), is_kept, "{answer}");
    }
    // A resumable upload gives its description back.
    let create = |metadata: &str| {
        format!(
            "POST /v1/uploads HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {ADMIN_KEY}\r\ntus-resumable: 1.0.0\r\n\
             upload-length: 5\r\nupload-metadata: {metadata}\r\nconnection: close\r\n\r\n"
        )
    };
    for metadata in ["filename YQ==,\u{b}", "filename \u{e9}", "a b c", "filename YQ"] {
        let answer = exchange(node, &create(metadata)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{metadata:?}: {answer}");
    }
    // Names and hashes in a query come back in problem documents alone.
    let answer =
        exchange(node, "GET /v1/assets/x%0d%0aset-cookie:%20a=b HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")
            .await;
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("set-cookie"), "{head}");
});

on_sqlite!(many_and_doubled_fields_are_refused_or_have_one_meaning, async |node: &mut TestNode| {
    let paid = node.paid(b"a film", "standard").await;
    let (hash, receipt) = (&paid.hash, &paid.receipt);
    let ask = async |fields: &str| {
        let request =
            format!("GET /v1/streaming/data/{hash} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{fields}\r\n");
        exchange(node, &request).await
    };
    let many: String = (0..200).map(|number| format!("x{number}: y\r\n")).collect();
    for fields in [many, "x: y\r\n".repeat(200), "x: y\r\n".repeat(30_000)] {
        let answer = ask(&fields).await;
        // The node may close while such a head is still on its way.
        assert!(answer.is_empty() || problem(&answer).0 == 431, "{answer}");
    }
    let right = format!("x-receipt-id: {receipt}\r\n");
    assert!(ask(&right).await.ends_with("a film"));
    let other = "x-receipt-id: 67e55044-10b1-426f-9247-bb680e5fe0c8\r\n";
    for twice in [right.repeat(2), format!("{right}{other}"), format!("{other}{right}")] {
        assert_eq!(problem(&ask(&twice).await).0, 400);
    }
    // Neither of two keys counts as the other one.
    let call = |keys: &str| format!("GET /v1/producers HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{keys}\r\n");
    let (good, bad) = (format!("authorization: Bearer {ADMIN_KEY}\r\n"), "authorization: Bearer pk_x\r\n");
    for keys in [format!("{bad}{good}"), format!("{good}{bad}"), good.repeat(2)] {
        assert_eq!(problem(&exchange(node, &call(&keys)).await).0, 401);
    }
    assert!(exchange(node, &call(&good)).await.starts_with("HTTP/1.1 200 "));
});
