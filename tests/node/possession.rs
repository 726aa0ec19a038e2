//! Naming content by its digest: whatever a producer does with the digest of content that another producer has sent, it gets no right
//! to it, and learns nothing about it.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use crate::node::{TestNode, expect, expect_problem, hex_sha256, sample, text};

const SECRET: &[u8] = b"sent by its owner alone";

struct Producer<'a> {
    node: &'a TestNode,
    key: String,
}

impl<'a> Producer<'a> {
    async fn new(node: &'a TestNode, name: &str) -> Self {
        let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": name })).send().await.unwrap();
        Self { node, key: text(&expect(made, &[201]).await, "key") }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.node.client.request(method, self.node.url(path)).bearer_auth(&self.key)
    }

    fn put(&self, bytes: &'static [u8]) -> RequestBuilder {
        self.call(Method::POST, "/v1/content").header("content-type", "video/mp4").body(bytes)
    }

    fn resumable(&self, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path).header("tus-resumable", "1.0.0")
    }

    /// Begins a resumable upload; its path.
    async fn begin(&self, length: usize, fields: &[(&str, String)]) -> String {
        let call = self.resumable(Method::POST, "/v1/uploads").header("upload-length", length);
        let call = fields.iter().fold(call, |call, (name, value)| call.header(*name, value));
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()["location"].to_str().unwrap().to_owned()
    }

    async fn append(&self, path: &str, offset: usize, bytes: &'static [u8]) -> Response {
        let call = self.resumable(Method::PATCH, path).header("upload-offset", offset);
        call.header("content-type", "application/offset+octet-stream").body(bytes).send().await.unwrap()
    }

    /// That the producer may not publish the content, and is told the same as for content that no producer has sent.
    async fn has_nothing(&self, hash: &str, after: &str) {
        let publish = async |hash: &str| {
            let asset = self.call(Method::POST, "/v1/assets").json(&json!({ "name": "x", "contentHash": hash }));
            let answer = asset.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let refused = publish(hash).await;
        assert_eq!(refused.0, 422, "after {after}: {}", refused.1);
        assert_eq!(refused, publish(&hex_sha256(b"sent by no producer")).await, "after {after}");
    }
}

/// Base64, as descriptions of resumable uploads have it.
fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

on_both!(a_digest_is_no_proof_of_having_the_bytes, async |node: &mut TestNode| {
    let node: &TestNode = node;
    let (owner, other) = (Producer::new(node, "owner").await, Producer::new(node, "other").await);
    expect(owner.put(SECRET).send().await.unwrap(), &[201]).await;
    let hash = hex_sha256(SECRET);
    other.has_nothing(&hash, "nothing").await;

    // An upload that declares the digest: with no bytes, other bytes, or some of the bytes.
    let declared = format!("/v1/content?contentHash={hash}");
    for bytes in [&b""[..], b"other bytes", &SECRET[..10]] {
        let upload = other.call(Method::POST, &declared).header("content-type", "video/mp4").body(bytes);
        expect_problem(upload.send().await.unwrap(), 422, "digest-mismatch").await;
        other.has_nothing(&hash, "an upload of other bytes").await;
    }
    // One that says it is complete elsewhere: nothing skips the body.
    let upload = other.call(Method::POST, &declared).header("content-type", "video/mp4");
    let conditional = upload.header("if-none-match", format!("\"{hash}\"")).send().await.unwrap();
    expect_problem(conditional, 422, "digest-mismatch").await;

    // A resumable upload that declares the digest.
    let metadata = [("upload-metadata", format!("contentHash {}", base64(&hash)))];
    let length = SECRET.len();
    let unfinished = other.begin(length, &metadata).await;
    other.has_nothing(&hash, "a resumable upload that declares it").await;
    assert_eq!(other.append(&unfinished, 0, &SECRET[..10]).await.status(), 204);
    other.has_nothing(&hash, "a part of a resumable upload").await;
    let false_end = other.append(&unfinished, 10, b"not the rest.").await;
    assert_eq!(false_end.status(), 422);
    other.has_nothing(&hash, "a resumable upload of other bytes").await;
    // Neither appending to an upload of the owner nor taking its parts.
    let partial = owner.begin(length, &[("upload-concat", "partial".to_owned())]).await;
    assert_eq!(owner.append(&partial, 0, SECRET).await.status(), 204);
    let concat = |of: &str| {
        let call = other.resumable(Method::POST, "/v1/uploads");
        call.header("upload-concat", format!("final;{of}")).send()
    };
    let theirs = concat(&partial).await.unwrap();
    let missing = concat("/v1/uploads/67e55044-10b1-426f-9247-bb680e5fe0c8").await.unwrap();
    assert_eq!(theirs.status(), missing.status());
    assert_eq!(theirs.text().await.unwrap(), missing.text().await.unwrap());
    other.has_nothing(&hash, "a concatenation of the owner's parts").await;

    // The asset of the owner, which the catalogue shows, is not to be sold by another.
    let asset = owner.call(Method::POST, "/v1/assets").json(&json!({ "name": "x", "contentHash": hash }));
    let version = text(&expect(asset.send().await.unwrap(), &[201]).await, "versionId");
    let sale = other.call(Method::POST, "/v1/receipts").json(&json!({ "versionId": version }));
    expect_problem(sale.send().await.unwrap(), 403, "forbidden").await;
    // A receipt for content of one's own opens no other content, whatever the other members say.
    expect(other.put(b"its own").send().await.unwrap(), &[201]).await;
    let own =
        other.call(Method::POST, "/v1/assets").json(&json!({ "name": "x", "contentHash": hex_sha256(b"its own") }));
    let own = text(&expect(own.send().await.unwrap(), &[201]).await, "versionId");
    let named = other.call(Method::POST, "/v1/receipts").json(&json!({ "versionId": own, "contentHash": hash }));
    expect_problem(named.send().await.unwrap(), 422, "validation-failed").await;
    let receipt = other.call(Method::POST, "/v1/receipts").json(&json!({ "versionId": own })).send().await.unwrap();
    let receipt = text(&expect(receipt, &[201]).await, "receiptId");
    for path in [
        format!("/v1/streaming/data/{hash}?receiptId={receipt}"),
        format!("/v1/data?contentHash={hash}&receiptId={receipt}"),
    ] {
        expect_problem(node.get(&path).send().await.unwrap(), 409, "receipt-for-other-content").await;
    }
    // Lineage that names the content gives no right to it.
    let event = json!({
        "eventType": "COMPLETE", "eventTime": jiff::Timestamp::now().to_string(), "producer": "https://example.com",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": { "runId": "67e55044-10b1-426f-9247-bb680e5fe0c8" },
        "job": { "namespace": "films", "name": "cut" },
        "outputs": [{ "namespace": "penstock", "name": hash }],
    });
    let sent = other.call(Method::POST, "/api/v1/lineage").json(&event).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    other.has_nothing(&hash, "an event of lineage").await;

    // The bytes are the proof, and the answer does not tell that they were there before.
    let answer = other.put(SECRET).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    assert_eq!(expect(answer, &[201]).await["created"], true);
    let asset = other.call(Method::POST, "/v1/assets").json(&json!({ "name": "x", "contentHash": hash }));
    expect(asset.send().await.unwrap(), &[201]).await;
});

on_sqlite!(what_has_a_content_coding_is_not_unpacked, async |node: &mut TestNode| {
    // A gzip file of 10 MiB of zeros has 10 KiB; whatever the bytes are, they are not looked at.
    let bomb = sample(80, 10_000);
    let producers = node.admin(Method::POST, "/v1/producers").header("content-type", "application/json");
    let content = node.admin(Method::POST, "/v1/content").header("content-type", "video/mp4");
    let resumable = node.admin(Method::POST, "/v1/uploads").header("tus-resumable", "1.0.0");
    let resumable = resumable.header("upload-length", bomb.len());
    let resumable = resumable.header("content-type", "application/offset+octet-stream");
    for call in [producers, content, resumable] {
        for coding in ["gzip", "br", "zstd", "deflate", "identity, gzip"] {
            let call = call.try_clone().unwrap().header("content-encoding", coding).body(bomb.clone());
            let answer = call.send().await.unwrap();
            assert_eq!(answer.headers()["accept-encoding"], "identity", "{coding}");
            expect_problem(answer, 415, "unsupported-media-type").await;
        }
    }
    assert!(node.peak_memory() < 1 << 30);
});

on_sqlite!(a_hundred_thousand_ranges_cost_no_more_than_one, async |node: &mut TestNode| {
    let bytes = sample(81, 1 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    let many = |count: usize| (0..count).map(|at| format!("{at}-{at}")).collect::<Vec<_>>().join(",");
    // They do not fit into a head; nor do the shortest ones.
    for field in [many(100_000), "-1,".repeat(100_000)] {
        let answer = node.stream(&paid).header("range", format!("bytes={field}")).send().await;
        // The node may close while such a head is still on its way.
        if let Ok(answer) = answer {
            expect_problem(answer, 431, "headers-too-large").await;
        }
    }
    // As many as fit are answered by the whole content, and so are a few that overlap.
    for field in [many(3000), "0-,".repeat(9000) + "0-", "0-99,50-149".to_owned()] {
        let answer = node.stream(&paid).header("range", format!("bytes={field}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
    // Several fields of ranges are not put together.
    let twice = node.stream(&paid).header("range", "bytes=0-0").header("range", "bytes=5-5").send().await.unwrap();
    assert!(twice.bytes().await.unwrap().len() == 1);
});
