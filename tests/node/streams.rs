//! Content out: the whole, ranges, conditions and the headers beside them (RFC 9110).

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, Response, header::HeaderMap};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::node::{On, Paid, Setup, TestNode, expect_problem, sample};

const SIZE: usize = 2_500_000;

async fn ranged(node: &TestNode, paid: &Paid, range: &str) -> Response {
    node.stream(paid).header("range", range).send().await.unwrap()
}

on_both!(every_form_of_one_range_is_answered, async |node: &mut TestNode| {
    let bytes = sample(10, SIZE);
    let paid = node.paid(&bytes, "unlimited").await;
    for (field, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-99", 0, 99),
        ("bytes=1048570-1048590", 1_048_570, 1_048_590),
        ("bytes=1048576-2097151", 1_048_576, 2_097_151),
        ("bytes=2499999-", SIZE - 1, SIZE - 1),
        ("bytes=100-99999999999999999999999", 100, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-1500000", SIZE - 1_500_000, SIZE - 1),
        ("bytes=-99999999999999999999999", 0, SIZE - 1),
        ("Bytes= 5-6", 5, 6),
        ("bytes=7-8,9999999-", 7, 8),
        ("bytes=,7-8,", 7, 8),
    ] {
        let answer = ranged(node, &paid, field).await;
        assert_eq!(answer.status(), 206, "{field}");
        assert_eq!(answer.headers()["content-range"], format!("bytes {first}-{last}/{SIZE}"), "{field}");
        assert_eq!(answer.headers()["content-length"], (last - first + 1).to_string(), "{field}");
        assert!(answer.bytes().await.unwrap() == bytes[first..=last], "{field}");
    }
});

on_sqlite!(a_range_that_cannot_be_served_is_416_with_the_size, async |node: &mut TestNode| {
    let paid = node.paid(&sample(11, 1000), "unlimited").await;
    for field in ["bytes=1000-", "bytes=1000-1000", "bytes=99999999999999999999-", "bytes=-0", "bytes=5-2", "bytes=x-y"]
    {
        let answer = ranged(node, &paid, field).await;
        assert_eq!(answer.headers()["content-range"], "bytes */1000", "{field}");
        let problem = expect_problem(answer, 416, "range-not-satisfiable").await;
        assert_eq!(problem["size"], 1000, "{field}");
    }
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
});

on_sqlite!(ranges_that_would_not_pay_get_the_whole, async |node: &mut TestNode| {
    let bytes = sample(12, 1000);
    let paid = node.paid(&bytes, "unlimited").await;
    let seventeen = (0..17).map(|i| format!("{}-{}", i * 10, i * 10)).collect::<Vec<_>>().join(",");
    for field in
        [format!("bytes={seventeen}"), "bytes=0-5,3-7".into(), "bytes=0-,0-".into(), "items=0-5".into(), "none".into()]
    {
        let answer = ranged(node, &paid, &field).await;
        assert_eq!(answer.status(), 200, "{field}");
        assert!(!answer.headers().contains_key("content-range"), "{field}");
        assert!(answer.bytes().await.unwrap() == bytes, "{field}");
    }
});

/// Splits a multipart answer as RFC 2046 says: the parts' headers and bodies.
fn parts(boundary: &str, body: &[u8]) -> Vec<(BTreeMap<String, String>, Vec<u8>)> {
    let find = |from: usize, wanted: &[u8]| {
        body[from..].windows(wanted.len()).position(|window| window == wanted).map(|at| from + at)
    };
    let delimiter = format!("--{boundary}");
    let mut at = find(0, delimiter.as_bytes()).expect("a first delimiter") + delimiter.len();
    let mut found = Vec::new();
    while !body[at..].starts_with(b"--") {
        assert!(body[at..].starts_with(b"\r\n"));
        let head_end = find(at, b"\r\n\r\n").expect("a part has a head");
        let head = std::str::from_utf8(&body[at + 2..head_end]).expect("text");
        let fields = head.lines().map(|line| line.split_once(": ").expect("a field"));
        let fields = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let next = find(head_end + 4, format!("\r\n{delimiter}").as_bytes()).expect("a further delimiter");
        found.push((fields, body[head_end + 4..next].to_vec()));
        at = next + 2 + delimiter.len();
    }
    assert_eq!(&body[at..], b"--\r\n");
    found
}

on_both!(several_ranges_come_as_parts_and_only_content_is_charged, async |node: &mut TestNode| {
    let bytes = sample(13, SIZE);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    let paid = Paid { hash, version, receipt };
    let wanted = [(1_048_570, 1_048_580), (0, 9), (SIZE - 5, SIZE - 1)];
    let answer = ranged(node, &paid, "bytes=1048570-1048580, 0-9, -5").await;
    assert_eq!(answer.status(), 206);
    assert!(!answer.headers().contains_key("content-range"));
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len(), length);
    let parts = parts(boundary, &body);
    assert_eq!(parts.len(), wanted.len());
    for ((fields, part), (first, last)) in parts.iter().zip(wanted) {
        assert_eq!(fields["content-type"], "video/mp4");
        assert_eq!(fields["content-range"], format!("bytes {first}-{last}/{SIZE}"));
        assert_eq!(part, &bytes[first..=last]);
    }
    assert_eq!(node.charged(&paid.receipt).await, (11 + 10 + 5, 1));
    let sixteen = (0..16).map(|i| format!("{}-{}", i * 10, i * 10)).collect::<Vec<_>>().join(",");
    let answer = ranged(node, &paid, &format!("bytes={sixteen}")).await;
    assert_eq!(answer.status(), 206);
});

on_sqlite!(if_range_holds_by_a_strong_tag_only, async |node: &mut TestNode| {
    let bytes = sample(14, 1000);
    let paid = node.paid(&bytes, "unlimited").await;
    for (condition, status) in [
        (format!("\"{}\"", paid.hash), 206),
        (format!("W/\"{}\"", paid.hash), 200),
        ("\"other\"".to_owned(), 200),
        ("Sun, 06 Nov 1994 08:49:37 GMT".to_owned(), 200),
        ("Sun, 06 Nov 2094 08:49:37 GMT".to_owned(), 200),
        ("nonsense".to_owned(), 200),
    ] {
        let answer = node.stream(&paid).header("range", "bytes=0-9").header("if-range", &condition);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), status, "{condition}");
        assert_eq!(answer.bytes().await.unwrap().len(), if status == 206 { 10 } else { 1000 });
    }
    // With the condition failed the range is not looked at, so it cannot be wrong either.
    let answer = node.stream(&paid).header("range", "bytes=5000-").header("if-range", "\"other\"");
    assert_eq!(answer.send().await.unwrap().status(), 200);
});

on_both!(dates_are_compared_with_when_the_content_was_stored, async |node: &mut TestNode| {
    let paid = node.paid(&sample(19, 1000), "unlimited").await;
    let stored = node.stream(&paid).send().await.unwrap().headers()["last-modified"].to_str().unwrap().to_owned();
    let (before, after) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sat, 06 Nov 2094 08:49:37 GMT");
    let tag = format!("\"{}\"", paid.hash);
    for (fields, status) in [
        (vec![("if-modified-since", &*stored)], 304),
        (vec![("if-modified-since", after)], 304),
        (vec![("if-modified-since", before)], 200),
        (vec![("if-modified-since", "nonsense")], 200),
        (vec![("if-unmodified-since", &*stored)], 200),
        (vec![("if-unmodified-since", before)], 412),
        (vec![("range", "bytes=0-9"), ("if-range", &*stored)], 206),
        (vec![("range", "bytes=0-9"), ("if-range", after)], 200),
        // The tag decides where there is one.
        (vec![("if-modified-since", after), ("if-none-match", "\"other\"")], 200),
        (vec![("if-modified-since", before), ("if-none-match", &*tag)], 304),
        (vec![("if-unmodified-since", before), ("if-match", &*tag)], 200),
    ] {
        let request = fields.iter().fold(node.stream(&paid), |request, &(name, value)| request.header(name, value));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{fields:?}");
        if status == 304 {
            assert_eq!(answer.headers()["last-modified"], &*stored);
        }
        answer.bytes().await.unwrap();
    }
    let head = node.client.head(node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt)));
    assert_eq!(head.header("if-modified-since", &stored).send().await.unwrap().status(), 304);
});

on_sqlite!(a_receipt_that_is_sent_twice_is_refused, async |node: &mut TestNode| {
    let (paid, other) = (node.paid(&sample(18, 10), "unlimited").await, node.paid(&sample(17, 10), "unlimited").await);
    for second in [&paid.receipt, &other.receipt] {
        let answer = node.stream(&paid).header("x-receipt-id", second).send().await.unwrap();
        expect_problem(answer, 400, "malformed-request").await;
    }
    assert_eq!(node.charged(&paid.receipt).await, (0, 0));
});

on_both!(preconditions_come_in_their_order_and_before_ranges, async |node: &mut TestNode| {
    let paid = node.paid(&sample(15, 1000), "unlimited").await;
    let (tag, weak, other) = (format!("\"{}\"", paid.hash), format!("W/\"{}\"", paid.hash), "\"other\"".to_owned());
    for (if_match, if_none_match, status) in [
        (None, Some(&tag), 304),
        (None, Some(&weak), 304),
        (None, Some(&"*".to_owned()), 304),
        (None, Some(&format!("{other}, {tag}")), 304),
        (None, Some(&other), 206),
        (Some(&tag), None, 206),
        (Some(&"*".to_owned()), None, 206),
        (Some(&other), None, 412),
        (Some(&weak), None, 412),
        (Some(&other), Some(&tag), 412),
        (Some(&tag), Some(&tag), 304),
        (Some(&tag), Some(&other), 206),
    ] {
        let mut request = node.stream(&paid).header("range", "bytes=0-4");
        for (name, value) in [("if-match", if_match), ("if-none-match", if_none_match)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{if_match:?} {if_none_match:?}");
        match status {
            304 => {
                assert_eq!(answer.headers()["etag"], tag.as_str());
                assert_eq!(answer.headers()["cache-control"], "private, no-cache");
                assert_eq!(answer.bytes().await.unwrap(), "");
            }
            412 => drop(expect_problem(answer, 412, "precondition-failed").await),
            _ => assert_eq!(answer.bytes().await.unwrap().len(), 5),
        }
    }
    let both = node.stream(&paid).header("if-none-match", &tag).header("range", "bytes=9999-");
    assert_eq!(both.send().await.unwrap().status(), 304);
    assert_eq!(node.charged(&paid.receipt).await.1, 4, "304 and 412 are not streams");
});

fn described(headers: &HeaderMap) -> BTreeMap<String, String> {
    // Those that tell of the request rather than of the content.
    let same = |name: &str| !["date", "x-request-id", "ratelimit"].contains(&name);
    let fields = headers.iter().filter(|(name, _)| same(name.as_str()));
    fields.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

on_both!(head_says_what_get_says, async |node: &mut TestNode| {
    let bytes = sample(16, SIZE);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "a \"film\".mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let session = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    let path = format!("/v1/streaming/data/{hash}?receiptId={receipt}");
    let ask = |method| node.client.request(method, node.url(&path)).header("x-session-id", session).send();
    let head = ask(Method::HEAD).await.unwrap();
    assert_eq!(head.status(), 200);
    let mut head_fields = described(head.headers());
    assert_eq!(head.bytes().await.unwrap(), "");
    let get = ask(Method::GET).await.unwrap();
    let mut get_fields = described(get.headers());
    assert!(get.bytes().await.unwrap() == bytes);
    // A GET has reserved what it delivers.
    let left = |fields: &mut BTreeMap<String, String>| {
        fields.remove("x-quota-remaining-bytes").expect("a limited tier says what is left").parse::<u64>().unwrap()
    };
    assert!(left(&mut head_fields) <= 5 << 30);
    assert!(left(&mut get_fields) <= (5 << 30) - SIZE as u64);
    assert_eq!(head_fields, get_fields);
    let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(&bytes)));
    let length = SIZE.to_string();
    let tag = format!("\"{hash}\"");
    for (name, value) in [
        ("etag", tag.as_str()),
        ("repr-digest", &digest),
        ("accept-ranges", "bytes"),
        ("content-length", &length),
        ("content-type", "video/mp4"),
        ("content-disposition", "inline; filename=\"a _film_.mp4\""),
        ("cache-control", "private, no-cache"),
        ("content-security-policy", "sandbox allow-same-origin; default-src 'none'; media-src 'self'"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-receipt-id", &receipt),
        ("x-session-id", session),
        ("x-quota-tier", "premium"),
    ] {
        assert_eq!(get_fields.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(node.charged(&receipt).await, (SIZE as u64, 1), "HEAD is free");
});

on_sqlite!(content_is_never_compressed, async |node: &mut TestNode| {
    let bytes = b"{\"a\":1}".repeat(2000);
    let hash = node.put(&bytes, "application/json").await;
    let version = node.publish(&hash, "a.json").await;
    let receipt = node.receipt(&version, json!({})).await;
    for path in [
        format!("/v1/streaming/data/{hash}?receiptId={receipt}"),
        format!("/v1/data?contentHash={hash}&receiptId={receipt}"),
    ] {
        let answer = node.get(&path).header("accept-encoding", "br, zstd, gzip").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!answer.headers().contains_key("content-encoding"));
        assert_eq!(answer.headers()["etag"], format!("\"{hash}\""));
        assert_eq!(answer.bytes().await.unwrap(), bytes);
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_longer_than_the_node_gives_is_answered_by_its_beginning() {
    let mut node = Setup::new(On::Sqlite).env("MAX_RANGE_BYTES", "1000").start().await;
    let bytes = sample(17, 5000);
    let paid = node.paid(&bytes, "unlimited").await;
    for (field, first, last) in [("bytes=0-", 0, 999), ("bytes=4500-", 4500, 4999), ("bytes=10-2000", 10, 1009)] {
        let answer = ranged(&node, &paid, field).await;
        assert_eq!(answer.headers()["content-range"], format!("bytes {first}-{last}/5000"));
        assert_eq!(answer.bytes().await.unwrap(), bytes[first..=last]);
    }
    assert_eq!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap(), bytes);
    node.finish().await;
}
