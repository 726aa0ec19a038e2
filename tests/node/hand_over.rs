//! A client that begins a stream before it has closed its last one, under a receipt that allows one stream at a time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::{
    node::{Paid, TestNode, expect, expect_problem, sample},
    real_clients::{film, run, url},
    wire,
};

/// All usage rows of a receipt, once the node has written them.
async fn usage_rows(node: &TestNode, receipt: &str) -> Vec<Value> {
    node.quota(receipt).await;
    let path = format!("/v1/streaming/usage?receiptId={receipt}&limit=1000");
    let usage = expect(node.admin(reqwest::Method::GET, &path).send().await.unwrap(), &[200]).await;
    usage["items"].as_array().unwrap().clone()
}

/// Reads until the end, or until the connection is reset.
async fn rest(connection: &mut TcpStream) -> u64 {
    let (mut buffer, mut received) = (vec![0; 64 << 10], 0);
    while let Ok(count) = connection.read(&mut buffer).await
        && count > 0
    {
        received += count as u64;
    }
    received
}

on_sqlite!(ffmpeg_seeks_in_a_film_under_the_default_tier, async |node: &mut TestNode| {
    let bytes = film(node).await;
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    // Without a tier: the default one, with one stream at a time.
    let receipt = node.receipt(&version, json!({})).await;
    let paid = Paid { hash, version, receipt };
    let url = url(node, &paid);
    let part = node.folder.path().join("part.mp4");
    // The end of the film, from which only the beginning of the picture is kept.
    run("ffmpeg", &["-v", "error", "-ss", "5", "-i", &url, "-t", "1", "-c", "copy", part.to_str().unwrap()]).await;
    let probe = ["-v", "error", "-count_packets", "-show_streams", "-of", "json", part.to_str().unwrap()];
    let seen: Value = serde_json::from_slice(&run("ffprobe", &probe).await.stdout).unwrap();
    let packets: u64 = seen["streams"][0]["nb_read_packets"].as_str().unwrap().parse().unwrap();
    assert!(packets >= 25, "a second of pictures: {seen}");
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let rows = usage_rows(node, &paid.receipt).await;
    assert!(rows.len() >= 2, "it sought: {rows:?}");
    let sum: u64 = rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).sum();
    assert_eq!(node.charged(&paid.receipt).await, (sum, rows.len() as u64));
});

on_both!(a_newer_stream_of_a_client_ends_the_older_one, async |node: &mut TestNode| {
    node.tier("one", json!({ "maxConcurrentStreams": 1 })).await;
    let bytes = sample(33, 12 << 20);
    let paid = node.paid(&bytes, "one").await;
    let mut older = wire::paused_stream(node, &paid, 1).await;
    let answer = node.stream(&paid).header("range", "bytes=5000000-").send().await.unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(node.quota(&paid.receipt).await["concurrent"], json!({ "activeStreams": 1, "maxAllowed": 1 }));
    assert!(rest(&mut older).await < bytes.len() as u64, "the older stream is cut");
    assert_eq!(answer.bytes().await.unwrap(), bytes[5_000_000..]);
    assert_eq!(node.metric("penstock_streams_replaced_total", "").await, 1.0);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let rows = usage_rows(node, &paid.receipt).await;
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["aborted", "completed"]);
});

on_sqlite!(a_stream_ends_only_for_its_own_receipt_and_its_own_session, async |node: &mut TestNode| {
    node.tier("one", json!({ "maxConcurrentStreams": 1 })).await;
    let bytes = sample(34, 12 << 20);
    let paid = node.paid(&bytes, "one").await;
    let mut running = wire::paused_stream(node, &paid, 1).await;
    let other = Paid { receipt: node.receipt(&paid.version, json!({ "quotaTier": "one" })).await, ..paid.clone() };
    for _ in 0..2 {
        expect_problem(node.stream_apart(&paid).send().await.unwrap(), 429, "too-many-streams").await;
        let answer = node.stream(&other).header("range", "bytes=0-9").send().await.unwrap();
        assert_eq!(answer.bytes().await.unwrap(), bytes[..10]);
    }
    // A request that is refused for another reason ends none either.
    let beyond = node.stream(&paid).header("range", "bytes=99999999-").send().await.unwrap();
    expect_problem(beyond, 416, "range-not-satisfiable").await;
    drop(node.stream(&paid).header("x-session-id", "no id").send().await.unwrap());
    assert_eq!(node.quota(&paid.receipt).await["concurrent"]["activeStreams"], 1);
    assert_eq!(node.metric("penstock_streams_replaced_total", "").await, 0.0);
    assert!(rest(&mut running).await > (bytes.len() - 100_000) as u64, "it goes on to its end");
});

on_both!(a_storm_of_ranges_never_runs_two_streams_and_is_charged_to_the_byte, async |node: &mut TestNode| {
    node.tier("one", json!({ "maxConcurrentStreams": 1 })).await;
    let bytes = sample(35, 4 << 20);
    let paid = node.paid(&bytes, "one").await;
    let is_over = AtomicBool::new(false);
    let storm = async {
        let (node, paid, bytes) = (&*node, &paid, &bytes);
        let clients = (0..8).map(async |client: usize| {
            let mut whole = 0;
            for turn in 0..10 {
                let start = (client * 10 + turn) * 50_000;
                let range = format!("bytes={start}-");
                let answer = node.stream(paid).header("range", range).send().await;
                // Of a stream that has lost its slot before its head was sent, the client sees only the end.
                let Ok(answer) = answer else { continue };
                if answer.status() == 429 {
                    expect_problem(answer, 429, "too-many-streams").await;
                    continue;
                }
                assert_eq!(answer.status(), 206);
                if let Ok(got) = answer.bytes().await {
                    assert!(got == bytes[start..], "what ends well is whole");
                    whole += 1;
                }
            }
            whole
        });
        let whole: usize = join_all(clients).await.into_iter().sum();
        is_over.store(true, Relaxed);
        whole
    };
    let watch = async {
        while !is_over.load(Relaxed) {
            let active = node.quota(&paid.receipt).await["concurrent"]["activeStreams"].as_u64().unwrap();
            assert!(active <= 1, "{active} streams");
        }
    };
    let (whole, ()) = tokio::join!(storm, watch);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let answer = node.stream(&paid).send().await.unwrap();
    assert!(answer.bytes().await.unwrap() == bytes, "the slot is free");
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let rows = usage_rows(node, &paid.receipt).await;
    assert_eq!(rows.iter().filter(|row| row["outcome"] == "completed").count(), whole + 1);
    let sum: u64 = rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).sum();
    assert_eq!(node.charged(&paid.receipt).await, (sum, rows.len() as u64));
});
