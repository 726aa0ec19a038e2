//! Clients that people really use, against a running node.

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::node::{On, Paid, Setup, TestNode, expect, sample};

const README: &str = include_str!("../../README.md");

pub(crate) async fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().await;
    let output = output.unwrap_or_else(|error| panic!("{program} is needed (./test installs it): {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output
}

pub(crate) fn url(node: &TestNode, paid: &Paid) -> String {
    node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt))
}

on_sqlite!(curl_gets_ranges_and_resumes, async |node: &mut TestNode| {
    let bytes = sample(80, 3_000_000);
    // The tier that a receipt has unless its producer says otherwise, one stream at a time among its limits.
    let paid = node.paid(&bytes, "standard").await;
    let url = url(node, &paid);
    let target = node.folder.path().join("curl.bin");
    let path = target.to_str().unwrap();
    let range = run("curl", &["-sSf", "-r", "1048570-1048600", &url]).await;
    assert_eq!(range.stdout, &bytes[1_048_570..=1_048_600]);
    let several = run("curl", &["-sSf", "-r", "0-1,10-11", "-w", "%{http_code} %{content_type}", &url]).await;
    assert!(String::from_utf8_lossy(&several.stdout).contains("206 multipart/byteranges"));
    std::fs::write(&target, &bytes[..1_234_567]).unwrap();
    run("curl", &["-sSf", "-C", "-", "-o", path, &url]).await;
    assert!(std::fs::read(&target).unwrap() == bytes);
    let named = node.folder.path().join("named");
    std::fs::create_dir(&named).unwrap();
    run("curl", &["-sSf", "-OJ", "--output-dir", named.to_str().unwrap(), &url]).await;
    assert!(std::fs::read(named.join("content.bin")).unwrap() == bytes, "the asset names the file");
    let charged = 31 + 4 + (3_000_000 - 1_234_567) + 3_000_000;
    assert_eq!(node.charged(&paid.receipt).await, (charged, 4));
});

on_sqlite!(curl_uploads_and_the_node_keeps_what_it_sent, async |node: &mut TestNode| {
    let file = node.folder.path().join("film.mp4");
    let bytes = sample(81, 2_000_000);
    std::fs::write(&file, &bytes).unwrap();
    let key = format!("Authorization: Bearer {}", crate::node::ADMIN_KEY);
    let upload = format!("@{}", file.display());
    let call = node.url("/v1/content");
    // A large POST of curl's waits for "100 Continue".
    let common = ["-sSf", "-X", "POST", &call, "-H", &key];
    let whole = [&common[..], &["-H", "Content-Type: video/mp4", "--data-binary", &upload]].concat();
    let answer: Value = serde_json::from_slice(&run("curl", &whole).await.stdout).unwrap();
    assert_eq!((&answer["sizeBytes"], &answer["mediaType"]), (&json!(2_000_000), &json!("video/mp4")));
    let chunked = ["-H", "Transfer-Encoding: chunked", "-T", file.to_str().unwrap()];
    let answer = run("curl", &[&common[..], &chunked].concat()).await;
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer["created"], false);
});

on_sqlite!(a_form_is_never_taken_for_the_file_in_it, async |node: &mut TestNode| {
    let (film, lines) = (node.folder.path().join("film.mp4"), node.folder.path().join("lines.txt"));
    let bytes = sample(83, 200_000);
    std::fs::write(&film, &bytes).unwrap();
    std::fs::write(&lines, "line 1\nline 2\n").unwrap();
    let key = format!("Authorization: Bearer {}", crate::node::ADMIN_KEY);
    let call = node.url("/v1/content");
    let send = async |arguments: &[&str]| -> (u64, Value) {
        let common = ["-sS", "-X", "POST", &call, "-H", &key, "-w", "%{http_code}"];
        let said = String::from_utf8(run("curl", &[&common[..], arguments].concat()).await.stdout).unwrap();
        let (answer, status) = said.split_at(said.len() - 3);
        (status.parse().unwrap(), serde_json::from_str(answer).unwrap())
    };
    let at = |flag: &str, file: &std::path::Path| format!("{flag}{}", file.display());
    for form in [["-F", &at("file=@", &film)], ["-d", &at("@", &film)], ["-d", &at("@", &lines)], ["-d", "name=value"]]
    {
        let (status, problem) = send(&form).await;
        assert_eq!(
            (status, &problem["type"]),
            (415, &json!("urn:penstock:problem:unsupported-media-type")),
            "{form:?}"
        );
        assert!(problem["detail"].as_str().unwrap().contains("curl -X POST -T FILE -H 'Content-Type: "), "{problem}");
    }
    // curl's own default is nothing that anybody chose, so it does not stay.
    let (status, made) = send(&["--data-binary", &at("@", &film)]).await;
    assert_eq!((status, &made["mediaType"]), (201, &json!("application/octet-stream")));
    assert_eq!(made["contentHash"], crate::node::hex_sha256(&bytes));
    let (status, again) = send(&["-H", "Content-Type: video/mp4", "--data-binary", &at("@", &film)]).await;
    assert_eq!((status, &again["mediaType"]), (200, &json!("video/mp4")));
    let (status, lines) = send(&["--data-binary", &at("@", &lines)]).await;
    assert_eq!((status, &lines["sizeBytes"]), (201, &json!(14)));
});

on_sqlite!(curl_fetches_nothing_that_it_has, async |node: &mut TestNode| {
    let paid = node.paid(&sample(84, 10_000), "standard").await;
    let target = node.folder.path().join("have.bin");
    let path = target.to_str().unwrap();
    for charged in [10_000, 10_000] {
        run("curl", &["-sSf", "-R", "-z", path, "-o", path, &url(node, &paid)]).await;
        assert_eq!(node.charged(&paid.receipt).await, (charged, 1));
    }
});

on_sqlite!(wget_resumes, async |node: &mut TestNode| {
    let bytes = sample(82, 3_000_000);
    let paid = node.paid(&bytes, "standard").await;
    let target = node.folder.path().join("wget.bin");
    std::fs::write(&target, &bytes[..2_000_001]).unwrap();
    run("wget", &["--no-proxy", "-q", "-c", "-O", target.to_str().unwrap(), &url(node, &paid)]).await;
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert_eq!(node.charged(&paid.receipt).await, (999_999, 1));
    // Complete already: nothing is sent again.
    run("wget", &["--no-proxy", "-q", "-c", "-O", target.to_str().unwrap(), &url(node, &paid)]).await;
    assert!(std::fs::read(&target).unwrap() == bytes);
    assert_eq!(node.charged(&paid.receipt).await, (999_999, 1));
});

/// The README's command that fetches what is missing of a content, as a shell runs it in the node's folder.
async fn fetch_as_the_readme_does(node: &TestNode, paid: &Paid) {
    let (first, last) = ("echo \"$HASH  copy.mp4\"", "-o copy.mp4");
    let from = README.find(first).expect("the README tells how to fetch content");
    let command = &README[from..from + README[from..].find(last).expect("its end") + last.len()];
    let command = command.replace("http://127.0.0.1:8080", &node.url(""));
    let mut shell = Command::new("sh");
    shell.args(["-ec", &command]).current_dir(node.folder.path());
    let ended = shell.env("HASH", &paid.hash).env("RECEIPT", &paid.receipt).output().await.unwrap();
    assert!(ended.status.success(), "{command}: {}", String::from_utf8_lossy(&ended.stderr));
    // The client may have the last byte before the node knows that it has left.
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
}

on_sqlite!(the_command_of_the_readme_may_be_run_again, async |node: &mut TestNode| {
    let bytes = sample(83, 3_000_000);
    let paid = node.paid(&bytes, "standard").await;
    let copy = node.folder.path().join("copy.mp4");
    std::fs::write(&copy, &bytes[..1_000_000]).unwrap();
    for _ in 0..2 {
        fetch_as_the_readme_does(node, &paid).await;
        assert!(std::fs::read(&copy).unwrap() == bytes);
        assert_eq!(node.charged(&paid.receipt).await, (2_000_000, 1), "the second time costs nothing");
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_continues_after_a_short_range_and_other_clients_need_to_be_told() {
    let mut node = Setup::new(On::Sqlite).env("MAX_RANGE_BYTES", "256KiB").start().await;
    let bytes = sample(84, 600_000);
    let paid = node.paid(&bytes, "standard").await;
    // As the configuration, the README and the API's page say: it ends early, and says that all is well.
    let copy = node.folder.path().join("copy.mp4");
    std::fs::write(&copy, &bytes[..1000]).unwrap();
    run("curl", &["-sSf", "-C", "-", "-o", copy.to_str().unwrap(), &url(&node, &paid)]).await;
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), 1000 + (256 << 10));
    while std::fs::read(&copy).unwrap() != bytes {
        fetch_as_the_readme_does(&node, &paid).await;
    }

    let target = node.folder.path().join("own.bin");
    let server = node.url("");
    let get = ["get", &paid.hash, "--receipt", &paid.receipt, "-o", target.to_str().unwrap(), "--server", &server];
    let before = node.charged(&paid.receipt).await.0;
    let part = node.folder.path().join(format!("own.bin.{}.part", &paid.hash[..16]));
    std::fs::write(&part, &bytes[..1000]).unwrap();
    let got = node.run(&get).await;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(std::fs::read(&target).unwrap() == bytes && !part.exists());
    assert_eq!(node.charged(&paid.receipt).await.0 - before, 599_000, "each byte once");
    node.finish().await;
}

/// Half a minute of film whose index is at the end, so that a player must seek before it can begin.
pub(crate) async fn film(node: &TestNode) -> Vec<u8> {
    let target = node.folder.path().join("made.mp4");
    let picture = "testsrc2=duration=30:size=320x240:rate=25";
    let sound = "sine=frequency=440:duration=30";
    let arguments = ["-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound];
    let coding = ["-c:v", "mpeg4", "-b:v", "1500k", "-c:a", "aac", "-shortest", target.to_str().unwrap()];
    run("ffmpeg", &[&arguments[..], &coding[..]].concat()).await;
    let bytes = std::fs::read(target).unwrap();
    let at = |name: &[u8]| bytes.windows(4).position(|window| window == name).unwrap();
    assert!(at(b"moov") > at(b"mdat"), "the index is at the end");
    bytes
}

on_sqlite!(a_player_seeks_in_a_film_that_it_streams, async |node: &mut TestNode| {
    let bytes = film(node).await;
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "film.mp4").await;
    let receipt = node.receipt(&version, json!({ "quotaTier": "premium" })).await;
    let paid = Paid { hash, version, receipt };
    let url = url(node, &paid);
    let probe = ["-v", "error", "-show_format", "-show_streams", "-of", "json", &url];
    let seen: Value = serde_json::from_slice(&run("ffprobe", &probe).await.stdout).unwrap();
    let duration: f64 = seen["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!((29.0..31.0).contains(&duration), "{seen}");
    assert_eq!(seen["format"]["size"], bytes.len().to_string());
    let kinds: Vec<_> = seen["streams"].as_array().unwrap().iter().map(|stream| stream["codec_type"].clone()).collect();
    assert_eq!(kinds, ["video", "audio"]);
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let (_, opened) = node.charged(&paid.receipt).await;
    assert!(opened >= 2, "the index was sought: {opened} streams");
    // Frames of the last seconds, without the minutes before them.
    let frame = node.folder.path().join("frame.png");
    run("ffmpeg", &["-v", "error", "-ss", "25", "-i", &url, "-frames:v", "1", frame.to_str().unwrap()]).await;
    assert!(std::fs::read(frame).unwrap().starts_with(b"\x89PNG"));
    node.metric_becomes("penstock_streams_active", "", 0.0).await;
    let charged = node.charged(&paid.receipt).await;
    let path = format!("/v1/streaming/usage?receiptId={}", paid.receipt);
    let usage = expect(node.admin(reqwest::Method::GET, &path).send().await.unwrap(), &[200]).await;
    let rows = usage["items"].as_array().unwrap();
    assert!(rows.len() as u64 > opened, "{usage}");
    let sum: u64 = rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).sum();
    assert_eq!(charged, (sum, rows.len() as u64));
});
