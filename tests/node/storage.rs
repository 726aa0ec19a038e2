//! Stored content that is verified, mended and moved, over HTTP: on files and on S3, with both databases.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use penstock::config::S3Client;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{On, Paid, Setup, TestNode, expect, expect_problem, hex_sha256, sample},
    patience::within,
    s3::{BUCKETS, TestBuckets},
};

const SIZE: usize = (3 << 20) + 4321;

/// How long anything may take on a busy machine before a test gives up: longer than it takes to notice that a node is gone.
const PATIENCE: Duration = Duration::from_secs(150);

/// A node whose files have three tiers, and whose old copies go soon.
fn tiered(on: On) -> Setup {
    let folder = tempfile::tempdir().unwrap().keep();
    let root = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    Setup::new(on).envs([
        ("DATA_ROOT", root("hot")),
        ("PENSTOCK_STORAGE__WARM_ROOT", root("warm")),
        ("PENSTOCK_STORAGE__COLD_ROOT", root("cold")),
        ("PENSTOCK_LIFECYCLE__GRACE", "1s".to_owned()),
        ("PENSTOCK_VERIFICATION__INTERVAL", "200ms".to_owned()),
    ])
}

/// The folder of the tiers.
struct Tiers(PathBuf);

impl Tiers {
    async fn of(node: &TestNode) -> Self {
        let shown = node.run(&["check"]).await;
        let shown = String::from_utf8(shown.stdout).unwrap();
        let line = shown.lines().find(|line| line.starts_with("root = ")).unwrap();
        Self(PathBuf::from(line.split('"').nth(1).unwrap()).parent().unwrap().to_owned())
    }

    fn blob(&self, tier: &str, hash: &str) -> PathBuf {
        self.0.join(tier).join("blobs").join(&hash[..2]).join(&hash[2..4]).join(hash)
    }

    fn have(&self, hash: &str) -> Vec<&'static str> {
        ["hot", "warm", "cold"].into_iter().filter(|tier| self.blob(tier, hash).exists()).collect()
    }
}

fn rot(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, SIZE as u64 / 2).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], SIZE as u64 / 2).unwrap();
}

fn blob(node: &TestNode, hash: &str) -> PathBuf {
    node.data_dir().join("blobs/blobs").join(&hash[..2]).join(&hash[2..4]).join(hash)
}

async fn verify(node: &TestNode, hash: &str) -> Value {
    expect(node.admin(Method::POST, &format!("/v1/storage/verify/{hash}")).send().await.unwrap(), &[200]).await
}

async fn history(node: &TestNode, hash: &str, query: &str) -> Value {
    let path = format!("/v1/storage/verifications/{hash}{query}");
    expect(node.admin(Method::GET, &path).send().await.unwrap(), &[200]).await
}

async fn move_to(node: &TestNode, hash: &str, tier: &str) -> reqwest::Response {
    let call = node.admin(Method::POST, &format!("/v1/storage/move/{hash}"));
    call.json(&json!({ "tier": tier })).send().await.unwrap()
}

async fn quarantined(node: &TestNode) -> u64 {
    let ready = async || {
        let ready = expect(node.get("/health/ready").send().await.unwrap(), &[200]).await;
        ready["quarantined"].as_u64().unwrap()
    };
    let (before, shown, after) = (ready().await, node.metric("penstock_storage_quarantined", "").await, ready().await);
    // Something may be found in between.
    assert!((before.min(after)..=before.max(after)).contains(&(shown as u64)), "{shown}");
    after
}

async fn is_whole(node: &TestNode, paid: &Paid) -> bool {
    let answer = node.stream(paid).send().await.unwrap();
    answer.status() == 200 && hex_sha256(&answer.bytes().await.unwrap()) == paid.hash
}

type Damage = fn(&Path);

/// Bit-rot, truncation and absence: found, told, kept from readers, and gone with the next upload.
async fn damage_is_found_reported_and_kept_from_readers(node: &mut TestNode) {
    let cases: [(&str, Damage); 3] = [
        ("corrupt", rot),
        ("wrong_size", |path| fs::File::options().write(true).open(path).unwrap().set_len(1000).unwrap()),
        ("missing", |path| fs::remove_file(path).unwrap()),
    ];
    for (seed, (finding, damage)) in (1..).zip(cases) {
        let bytes = sample(seed, SIZE);
        let paid = node.paid(&bytes, "unlimited").await;
        assert!(is_whole(node, &paid).await, "its leaves are in memory now");
        let intact = verify(node, &paid.hash).await;
        assert_eq!((&intact["status"], &intact["quarantined"]), (&json!("intact"), &json!(false)));
        assert_eq!(intact["copies"], json!([{ "tier": "hot", "finding": "intact", "foundBytes": SIZE }]));

        damage(&blob(node, &paid.hash));
        let damaged = verify(node, &paid.hash).await;
        assert_eq!((&damaged["status"], &damaged["quarantined"]), (&json!("damaged"), &json!(true)), "{damaged}");
        assert_eq!(damaged["copies"][0]["finding"], finding);
        for range in ["bytes=0-10", "bytes=0-"] {
            let answer = node.stream(&paid).header("range", range).send().await.unwrap();
            expect_problem(answer, 503, "content-unavailable").await;
        }
        let head = node.client.head(node.url(&format!("/v1/streaming/data/{}?receiptId={}", paid.hash, paid.receipt)));
        assert_eq!(head.send().await.unwrap().status(), 503);
        let data = node.get(&format!("/v1/data?contentHash={}&receiptId={}", paid.hash, paid.receipt));
        expect_problem(data.send().await.unwrap(), 503, "content-unavailable").await;
        assert_eq!(node.charged(&paid.receipt).await, (SIZE as u64, 1), "what is refused is not charged");
        assert_eq!(quarantined(node).await, 1);
        let list = expect(node.admin(Method::GET, "/v1/storage/quarantine").send().await.unwrap(), &[200]).await;
        assert_eq!((&list["items"][0]["contentHash"], &list["nextCursor"]), (&json!(paid.hash), &Value::Null));
        assert!(list["items"][0]["since"].is_string(), "{list}");

        let looks = history(node, &paid.hash, "?limit=1").await;
        assert_eq!(looks["items"][0]["finding"], finding);
        assert_eq!(looks["items"][0]["type"], "on_demand");
        assert_eq!(looks["items"][0]["expectedBytes"], SIZE);
        let cursor = looks["nextCursor"].as_str().expect("there are more");
        let older = history(node, &paid.hash, &format!("?type=on_demand&cursor={cursor}")).await;
        assert_eq!(older["items"].as_array().unwrap().last().unwrap()["finding"], "intact");

        node.put(&bytes, "application/octet-stream").await;
        assert!(is_whole(node, &paid).await, "{finding}");
        assert_eq!(quarantined(node).await, 0);
        let list = expect(node.admin(Method::GET, "/v1/storage/quarantine").send().await.unwrap(), &[200]).await;
        assert_eq!(list, json!({ "items": [], "nextCursor": null }));
        assert_eq!(verify(node, &paid.hash).await["status"], "intact");
    }
    assert!(node.metric("penstock_storage_verifications_total", "corrupt").await >= 1.0);
    assert!(node.metric("penstock_storage_verifications_total", "wrong_size").await >= 1.0);
    assert!(node.metric("penstock_storage_verifications_total", "missing").await >= 1.0);
    assert!(node.metric("penstock_storage_verified_bytes_total", "").await >= 5.0 * SIZE as f64);
}

on_both!(damaged_content, damage_is_found_reported_and_kept_from_readers);

on_sqlite!(what_is_asked_wrongly_is_refused, async |node: &mut TestNode| {
    let hash = node.put(&sample(1, 1000), "text/plain").await;
    let nobody = "0".repeat(64);
    for path in [format!("/v1/storage/verify/{hash}"), format!("/v1/storage/move/{hash}")] {
        expect_problem(node.client.post(node.url(&path)).send().await.unwrap(), 401, "unauthorized").await;
    }
    let unknown = node.admin(Method::POST, &format!("/v1/storage/verify/{nobody}")).send().await.unwrap();
    expect_problem(unknown, 404, "content-not-stored").await;
    expect_problem(move_to(node, &nobody, "hot").await, 404, "content-not-stored").await;
    let bad = node.admin(Method::POST, "/v1/storage/verify/xyz").send().await.unwrap();
    expect_problem(bad, 400, "malformed-request").await;
    for tier in ["tepid", "cold", ""] {
        let problem = expect_problem(move_to(node, &hash, tier).await, 422, "validation-failed").await;
        assert_eq!(problem["errors"][0]["path"], "tier", "{tier}");
    }
    for query in ["?type=guess", "?cursor=AAAA", "?limit=0", "?limit=1001", "?what=1"] {
        let path = format!("/v1/storage/verifications/{hash}{query}");
        expect_problem(node.admin(Method::GET, &path).send().await.unwrap(), 400, "malformed-request").await;
    }
    assert_eq!(history(node, &nobody, "").await, json!({ "items": [], "nextCursor": null }));
});

/// Damage that a reader finds is mended without anybody asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reader_finds_damaged_is_mended_from_another_tier() {
    let mut node = tiered(On::Sqlite).env("PENSTOCK_LIFECYCLE__GRACE", "50min").start().await;
    let tiers = Tiers::of(&node).await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    assert_eq!(expect(move_to(&node, &paid.hash, "warm").await, &[200]).await["status"], "moved");
    assert_eq!(tiers.have(&paid.hash), ["hot", "warm"], "the old copy stays for a while");
    rot(&tiers.blob("warm", &paid.hash));
    let answer = node.stream(&paid).send().await.unwrap();
    assert!(answer.bytes().await.is_err(), "it does not look like a whole answer");
    within(PATIENCE, "it is mended", async || {
        node.metric("penstock_storage_repaired_total", "").await == 1.0 && quarantined(&node).await == 0
    })
    .await;
    assert!(is_whole(&node, &paid).await);
    let looks = history(&node, &paid.hash, "").await;
    let kinds: Vec<_> = looks["items"].as_array().unwrap().iter().map(|look| look["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[0], "repair");
    assert!(kinds.contains(&"read") && kinds.contains(&"move"), "{kinds:?}");
    node.finish().await;
}

/// Content that comes again while it is in a colder tier stays there alone; what is damaged there is mended by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_comes_again_goes_to_where_it_is() {
    let mut node = tiered(On::Sqlite).start().await;
    let tiers = Tiers::of(&node).await;
    let bytes = sample(1, SIZE);
    let paid = node.paid(&bytes, "unlimited").await;
    expect(move_to(&node, &paid.hash, "cold").await, &[200]).await;
    within(PATIENCE, "the old copy is gone", async || tiers.have(&paid.hash) == ["cold"]).await;
    node.put(&bytes, "application/octet-stream").await;
    assert_eq!(tiers.have(&paid.hash), ["cold"]);
    rot(&tiers.blob("cold", &paid.hash));
    assert_eq!(verify(&node, &paid.hash).await["status"], "damaged");
    node.put(&bytes, "application/octet-stream").await;
    assert!(is_whole(&node, &paid).await);
    assert_eq!(quarantined(&node).await, 0);
    assert!(tiers.have(&paid.hash).contains(&"cold"));
    let verified = verify(&node, &paid.hash).await;
    assert_eq!((&verified["status"], &verified["tier"]), (&json!("intact"), &json!("cold")));
    node.finish().await;
}

/// A file that cannot be read is not taken for damaged, but it is written anew where another tier has its bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_is_written_anew_or_left_alone() {
    let mut node = tiered(On::Sqlite).env("PENSTOCK_LIFECYCLE__GRACE", "50min").start().await;
    let tiers = Tiers::of(&node).await;
    let paid = node.paid(&sample(1, SIZE), "unlimited").await;
    // A name that leads to itself: nobody can open it, and nobody can say that there is nothing.
    let refuse = |path: &Path| {
        let aside = path.with_added_extension("aside");
        fs::rename(path, &aside).unwrap();
        std::os::unix::fs::symlink(path, path).unwrap();
        aside
    };
    let hot = tiers.blob("hot", &paid.hash);
    let aside = refuse(&hot);
    let failed = node.admin(Method::POST, &format!("/v1/storage/verify/{}", paid.hash)).send().await.unwrap();
    expect_problem(failed, 503, "dependency-unavailable").await;
    assert_eq!(quarantined(&node).await, 0);
    fs::rename(&aside, &hot).unwrap();
    assert!(is_whole(&node, &paid).await, "it has come back by itself");

    expect(move_to(&node, &paid.hash, "warm").await, &[200]).await;
    fs::remove_file(refuse(&tiers.blob("warm", &paid.hash))).unwrap();
    assert!(is_whole(&node, &paid).await, "from what is left in the hot tier");
    let verified = verify(&node, &paid.hash).await;
    assert_eq!((&verified["status"], &verified["repaired"]), (&json!("repaired"), &json!(["warm"])), "{verified}");
    assert!(is_whole(&node, &paid).await);
    let verified = verify(&node, &paid.hash).await;
    assert_eq!((&verified["status"], &verified["removed"]), (&json!("intact"), &json!([])), "{verified}");
    node.finish().await;
}

/// The walk comes by without anybody asking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scan_finds_damage_in_content_that_is_not_read() {
    let mut node = tiered(On::Sqlite).env("PENSTOCK_VERIFICATION__EVERY", "1s").start().await;
    let tiers = Tiers::of(&node).await;
    let (sound, damaged) =
        (node.put(&sample(1, SIZE), "text/plain").await, node.put(&sample(2, SIZE), "text/plain").await);
    rot(&tiers.blob("hot", &damaged));
    within(PATIENCE, "the walk has seen both", async || {
        quarantined(&node).await == 1
            && !history(&node, &sound, "?type=walk").await["items"].as_array().unwrap().is_empty()
    })
    .await;
    assert_eq!(history(&node, &damaged, "?type=walk&limit=1").await["items"][0]["finding"], "corrupt");
    within(PATIENCE, "a whole lap is told", async || {
        let page = node.get("/metrics").send().await.unwrap().text().await.unwrap();
        page.contains("penstock_storage_verification_lag_seconds ")
    })
    .await;
    node.finish().await;
}

/// A content that is kept from readers is kept from them everywhere, also from those whose stream runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_keeps_damaged_content_from_its_readers() {
    let mut one = tiered(On::Postgres).start().await;
    let url = one.database.as_ref().unwrap().url();
    let tiers = Tiers::of(&one).await;
    let mut other = Setup::on_database_of(&url).env("DATA_ROOT", tiers.0.join("hot").to_str().unwrap()).start().await;
    let bytes = sample(1, 24 << 20);
    let paid = one.paid(&bytes, "unlimited").await;
    let mut running = other.stream(&paid).send().await.unwrap();
    let mut got = running.chunk().await.unwrap().expect("it begins").to_vec();
    // The last leaf, which is not on its way yet.
    let file = fs::File::options().write(true).open(tiers.blob("hot", &paid.hash)).unwrap();
    file.write_all_at(&[!bytes[bytes.len() - 1]], bytes.len() as u64 - 1).unwrap();
    assert_eq!(verify(&one, &paid.hash).await["status"], "damaged");
    within(PATIENCE, "the other instance knows", async || quarantined(&other).await == 1).await;
    for node in [&one, &other] {
        expect_problem(node.stream(&paid).send().await.unwrap(), 503, "content-unavailable").await;
    }
    let broken = loop {
        match running.chunk().await {
            Ok(Some(piece)) => got.extend(piece),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "it does not look like a whole answer");
    assert!(got.len() < bytes.len() && got == bytes[..got.len()], "what was sent is what was stored");
    one.put(&bytes, "application/octet-stream").await;
    within(PATIENCE, "the other instance has it again", async || quarantined(&other).await == 0).await;
    for node in [&one, &other] {
        assert!(is_whole(node, &paid).await);
    }
    other.terminate().await;
    one.finish().await;
}

/// Readers that began before, during and after a move get the content to its end.
async fn content_moves_under_its_readers(node: &TestNode, copies: impl AsyncFn(&str) -> Vec<&'static str>) {
    let bytes = sample(1, 24 << 20);
    let paid = node.paid(&bytes, "unlimited").await;
    for (tier, old) in [("cold", "hot"), ("warm", "cold"), ("hot", "warm")] {
        let mut running = node.stream(&paid).send().await.unwrap();
        let mut got = running.chunk().await.unwrap().expect("it begins").to_vec();
        let (moved, meanwhile) = tokio::join!(move_to(node, &paid.hash, tier), is_whole(node, &paid));
        assert!(meanwhile);
        let moved = expect(moved, &[200]).await;
        assert_eq!(moved, json!({ "contentHash": paid.hash, "tier": tier, "status": "moved" }));
        assert!(is_whole(node, &paid).await);
        within(PATIENCE, &format!("the {old} copy is gone"), async || copies(&paid.hash).await == [tier]).await;
        while let Some(piece) = running.chunk().await.unwrap() {
            got.extend(piece);
        }
        assert!(got == bytes, "whoever had it open has it whole");
        assert!(is_whole(node, &paid).await);
        let verified = verify(node, &paid.hash).await;
        assert_eq!((&verified["status"], &verified["tier"]), (&json!("intact"), &json!(tier)));
        assert_eq!(verified["copies"].as_array().unwrap().len(), 1);
    }
    let again = expect(move_to(node, &paid.hash, "hot").await, &[200]).await;
    assert_eq!(again["status"], "moved", "where it is already it may go too");
    assert!(node.metric("penstock_storage_moves_total", "cold").await >= 1.0);
}

async fn files_move_under_their_readers(on: On) {
    let mut node = tiered(on).start().await;
    let tiers = Tiers::of(&node).await;
    content_moves_under_its_readers(&node, async |hash| tiers.have(hash)).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_move_under_their_readers_with_sqlite() {
    files_move_under_their_readers(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_move_under_their_readers_with_postgres() {
    files_move_under_their_readers(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_move_under_their_readers_and_are_mended() {
    let buckets = TestBuckets::new(S3Client::ObjectStore);
    let soon = [("PENSTOCK_LIFECYCLE__GRACE", "1s"), ("PENSTOCK_VERIFICATION__INTERVAL", "200ms")];
    let soon = soon.map(|(name, value)| (name, value.to_owned()));
    let mut node = Setup::new(On::Postgres).envs(buckets.env()).envs(soon).start().await;
    content_moves_under_its_readers(&node, async |hash| buckets.tiers_with(hash).await).await;

    // Rot, a cut and absence of the data; then good bytes come again.
    for (seed, finding) in (10..).zip(["corrupt", "wrong_size", "missing"]) {
        let before = buckets.keys(BUCKETS[0], "data").await;
        let bytes = sample(seed, SIZE);
        let paid = node.paid(&bytes, "unlimited").await;
        let data = buckets.keys(BUCKETS[0], "data").await.into_iter().find(|key| !before.contains(key)).unwrap();
        let mut damaged = bytes.clone();
        damaged[SIZE / 2] ^= 1;
        match finding {
            "corrupt" => buckets.put(BUCKETS[0], &data, damaged).await,
            "wrong_size" => buckets.put(BUCKETS[0], &data, damaged[..1000].to_vec()).await,
            _ => buckets.remove(BUCKETS[0], &data).await,
        }
        let found = verify(&node, &paid.hash).await;
        assert_eq!((&found["status"], &found["copies"][0]["finding"]), (&json!("damaged"), &json!(finding)));
        expect_problem(node.stream(&paid).send().await.unwrap(), 503, "content-unavailable").await;
        node.put(&bytes, "application/octet-stream").await;
        assert!(is_whole(&node, &paid).await, "{finding}");
        assert_eq!(quarantined(&node).await, 0);
    }
    node.finish().await;
}

/// What is not used goes to colder tiers by itself, one after the other, and what is used stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_goes_to_colder_tiers_by_its_last_use() {
    let mut node = tiered(On::Postgres).start().await;
    let tiers = Tiers::of(&node).await;
    let mut paid = Vec::new();
    for seed in 1..=3 {
        paid.push(node.paid(&sample(seed, SIZE), "unlimited").await);
    }
    // All are old; the first one was used today, and a node that stops has told of it.
    assert!(is_whole(&node, &paid[0]).await);
    assert!(node.terminate().await.success());
    let client = node.database.as_ref().unwrap().client().await;
    for (paid, hours) in paid.iter().zip([1000, 30, 90]) {
        let age = format!(
            "UPDATE overlay_storage_index SET stored_at = now() - interval '{hours} hours'
             WHERE content_hash = decode('{}', 'hex')",
            paid.hash
        );
        client.batch_execute(&age).await.unwrap();
    }
    node.set_env("PENSTOCK_LIFECYCLE__WARM_AFTER", "1day");
    node.set_env("PENSTOCK_LIFECYCLE__COLD_AFTER", "3days");
    node.boot().await;
    for (paid, tier) in paid.iter().zip(["hot", "warm", "cold"]) {
        within(PATIENCE, &format!("it is in the {tier} tier"), async || tiers.have(&paid.hash) == [tier]).await;
        assert!(is_whole(&node, paid).await);
    }
    node.finish().await;
}

/// A node that is killed while it copies leaves a content that is whole, and a move that is ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_whose_node_is_killed_is_ended_after_its_restart() {
    let mut node = tiered(On::Sqlite).start().await;
    let tiers = Tiers::of(&node).await;
    let paid = node.paid(&sample(1, 96 << 20), "unlimited").await;
    let call = node.admin(Method::POST, &format!("/v1/storage/move/{}", paid.hash)).json(&json!({ "tier": "cold" }));
    let moving = tokio::spawn(call.send());
    let temporary = tiers.0.join("cold/tmp");
    while fs::read_dir(&temporary).unwrap().next().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.kill().await;
    assert!(moving.await.unwrap().is_err(), "it was killed before it answered");
    node.boot().await;
    assert!(is_whole(&node, &paid).await);
    within(PATIENCE, "somebody ended it", async || tiers.have(&paid.hash) == ["cold"]).await;
    assert!(is_whole(&node, &paid).await);
    assert_eq!(verify(&node, &paid.hash).await["tier"], "cold");
    node.finish().await;
}
