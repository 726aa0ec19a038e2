//! The image: what is in it, and a node that runs in it as an engine would run it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use futures::StreamExt as _;
use nix::sys::signal::Signal;
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    container::{Container, Image, libraries},
    dockerfile::{Dockerfile, ROOT},
    node::{ADMIN_KEY, expect, hex_sha256, sample, text},
    patience::eventually,
};

/// More than the system's buffers of a connection hold.
const LARGE: usize = 24 << 20;

/// Whether `.dockerignore` lets a path into the build.
fn is_in_context(path: &Path) -> bool {
    let rules = fs::read_to_string(Path::new(ROOT).join(".dockerignore")).unwrap();
    let mut rules = rules.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(rules.next(), Some("*"), "everything is left out but what follows");
    rules.any(|rule| path.starts_with(rule.strip_prefix('!').expect("an exception")))
}

#[test]
fn the_build_has_each_file_that_the_sources_include() {
    let mut included = BTreeSet::new();
    let all: Vec<_> = ["src", "actors/src"].iter().flat_map(|folder| sources(&Path::new(ROOT).join(folder))).collect();
    let of_tests: BTreeSet<_> = all.iter().flat_map(|source| modules_of_tests(source)).collect();
    for source in all.iter().filter(|source| !of_tests.contains(*source)) {
        let text = fs::read_to_string(source).unwrap();
        let built = text.split("#[cfg(test)]").next().unwrap_or_default();
        for begin in ["include_str!(\"", "include_bytes!(\""] {
            for name in built.split(begin).skip(1).filter_map(|rest| rest.split('"').next()) {
                let file = source.parent().unwrap().join(name).canonicalize().unwrap();
                included.insert(file.strip_prefix(ROOT).unwrap().to_owned());
            }
        }
    }
    assert!(included.contains(Path::new("config/default.toml")), "{included:?}");
    for path in included {
        assert!(is_in_context(&path), "{} is needed, and left out by .dockerignore", path.display());
    }
}

/// The sources in a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.extension() {
        None => sources(&path),
        Some(end) if end == "rs" => vec![path],
        Some(_) => Vec::new(),
    };
    entries.flat_map(of).collect()
}

/// The files of modules that a source has for its tests alone.
fn modules_of_tests(source: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(source).unwrap();
    let names = text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.lines().next()?.strip_suffix(';'));
    names.map(|name| source.with_extension("").join(name).with_extension("rs")).collect()
}

#[test]
fn cargo_takes_the_build_s_files_as_a_workspace() {
    let context = tempfile::tempdir().unwrap();
    let listed = Command::new("git").args(["-C", ROOT, "ls-files"]).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    for file in String::from_utf8(listed.stdout).unwrap().lines().map(PathBuf::from) {
        if is_in_context(&file) && Path::new(ROOT).join(&file).exists() {
            let to = context.path().join(&file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(Path::new(ROOT).join(&file), to).unwrap();
        }
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--offline", "--format-version=1", "--no-deps"]).current_dir(context.path());
    let read = cargo.output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn the_build_has_the_compiler_that_the_manifest_asks_for() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert_eq!(Dockerfile::read().bases(), [&*format!("rust:{version}-bookworm"), "debian:bookworm-slim"]);
}

#[test]
fn the_binary_loads_only_libraries_of_the_base_image() {
    let base = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1"];
    for library in libraries(Path::new(env!("CARGO_BIN_EXE_penstock"))) {
        let name = Path::new(&library).file_name().unwrap().to_str().unwrap();
        assert!(base.contains(&name) || name.starts_with("ld-linux"), "{library}");
    }
}

async fn uploaded(client: &Client, base: &str, bytes: &[u8]) -> String {
    let post = |path: &str| client.post(format!("{base}{path}")).bearer_auth(ADMIN_KEY);
    expect(post("/v1/content").body(bytes.to_vec()).send().await.unwrap(), &[201]).await;
    let hash = hex_sha256(bytes);
    let asset = post("/v1/assets").json(&json!({ "contentHash": hash, "name": "content.bin" })).send().await.unwrap();
    let version = text(&expect(asset, &[201]).await, "versionId");
    let receipt = json!({ "versionId": version, "quotaTier": "unlimited" });
    let receipt: Value = expect(post("/v1/receipts").json(&receipt).send().await.unwrap(), &[201]).await;
    format!("{base}/v1/streaming/data/{hash}?receiptId={}", text(&receipt, "receiptId"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_runs_in_the_image_without_rights_on_a_read_only_root_and_drains_when_it_is_stopped() {
    let image = Image::build();
    let dockerfile = &image.dockerfile;
    let folder = fs::metadata(image.path(dockerfile.volume())).unwrap();
    assert_eq!(format!("{}:{}", folder.uid(), folder.gid()), dockerfile.user());
    assert_eq!(folder.mode() & 0o7777, 0o700);
    let documents = image.path("/usr/share/doc/penstock");
    assert!(documents.join("LICENSE").is_file() && documents.join("sbom.cdx.json").is_file());

    let mut container = Container::start(&image).await;
    let (user, group) = dockerfile.user().split_once(':').unwrap();
    assert_eq!(container.state("Uid"), [user; 4]);
    assert_eq!(container.state("Gid"), [group; 4]);
    assert_eq!(container.state("Groups"), Vec::<String>::new());
    for capabilities in ["CapEff", "CapPrm", "CapAmb"] {
        assert_eq!(container.state(capabilities), ["0000000000000000"], "{capabilities}");
    }
    assert_eq!(
        container.state("NSpid")[1],
        "1",
        "the node is the first process, for which a signal without a handler has no effect"
    );

    // Not even root can write outside of the volume.
    let touch = |path: &str| ["touch", path].map(str::to_owned);
    for path in ["/file", "/tmp/file", "/usr/local/bin/penstock"] {
        assert!(!container.exec("0:0", &touch(path)).await.success(), "{path}");
    }
    assert!(container.exec(dockerfile.user(), &touch(&format!("{}/file", dockerfile.volume()))).await.success());

    assert!(container.is_healthy().await);
    let client = crate::node::client();
    let bytes = sample(1, LARGE);
    let url = uploaded(&client, &container.base, &bytes).await;
    for (path, uid) in files(container.volume()) {
        assert_eq!(uid.to_string(), user, "{}", path.display());
    }

    // A stream that has begun ends, and the process after it.
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut stream = answer.bytes_stream();
    let mut received = stream.next().await.unwrap().unwrap().to_vec();
    container.stop();
    let ready = format!("{}/health/ready", container.base);
    eventually("the stop begins", async || match client.get(&ready).send().await {
        Ok(answer) => answer.status() == 503,
        Err(_) => true,
    })
    .await;
    while let Some(part) = stream.next().await {
        received.extend_from_slice(&part.unwrap());
    }
    assert!(received == bytes);
    assert!(container.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_s_health_check_fails_when_the_node_hangs() {
    let image = Image::build();
    let mut container = Container::start(&image).await;
    assert!(container.is_healthy().await);
    container.signal(Signal::SIGSTOP);
    // An engine ends the check after its time-out, which is a failure.
    let checked = tokio::time::timeout(std::time::Duration::from_secs(1), container.is_healthy()).await;
    assert!(checked != Ok(true));
    container.signal(Signal::SIGCONT);
    eventually("the node is healthy again", async || container.is_healthy().await).await;
    container.stop();
    assert!(container.ended().await.success());
}

/// All files of a folder with their owners.
fn files(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        // What is temporary may be gone.
        let Ok(metadata) = entry.metadata() else { continue };
        found.push((entry.path(), metadata.uid()));
        if metadata.is_dir() {
            found.extend(files(&entry.path()));
        }
    }
    found
}
