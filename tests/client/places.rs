//! Where bytes come from and go to: files, links, pipes, devices, and names that are long.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use actix_web::http::StatusCode;
use bytes::Bytes;

use crate::{
    RECEIPT,
    node::{Act, Node, content, hex},
    path, penstock,
};

/// Gets the node's content into another place than its file.
async fn get_into(node: &Node, output: &Path) -> anyhow::Result<()> {
    let hash = hex(&node.state.content);
    penstock(&["get", &hash, "--receipt", RECEIPT, "-o", path(output), "--server", &node.url]).await
}

/// Runs the binary itself, as a shell does, with this for its standard input.
async fn binary(arguments: Vec<String>, input: Bytes) -> Output {
    let running = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_penstock"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeding = thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap().unwrap();
        output
    });
    running.await.unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn make_pipe(at: &Path) {
    assert!(Command::new("mkfifo").arg(at).status().unwrap().success());
}

#[actix_web::test]
async fn a_device_takes_the_bytes_and_stays_a_device() {
    let node = Node::start(content(100_000), &[]);
    // By a link, so that a fault costs this test's folder a link and not the machine its device.
    let link = node.file();
    symlink("/dev/null", &link).unwrap();
    get_into(&node, &link).await.unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/dev/null"));
    assert!(fs::metadata(&link).unwrap().file_type().is_char_device());
    assert_eq!(fs::read_dir(link.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    node.stop().await;
}

#[actix_web::test]
async fn a_pipe_takes_the_bytes_and_goes_on_after_a_cut() {
    let node = Node::start(content(2_000_000), &[Act::Cut(700_000)]);
    let pipe = node.file();
    make_pipe(&pipe);
    let reading = pipe.clone();
    let reader = thread::spawn(move || fs::read(reading));
    get_into(&node, &pipe).await.unwrap();
    assert!(reader.join().unwrap().unwrap() == node.state.content);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(node.seen()[1].header("range"), Some("bytes=700000-"));
    node.stop().await;
}

#[actix_web::test]
async fn a_link_is_followed_and_stays_a_link() {
    let node = Node::start(content(100_000), &[]);
    let (link, folder) = (node.file(), node.file().parent().unwrap().to_owned());
    fs::create_dir(folder.join("other")).unwrap();
    symlink("other/film.mp4", &link).unwrap();
    // Once to a name that is free, and once to a file that is there.
    for _ in 0..2 {
        get_into(&node, &link).await.unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("other/film.mp4"));
        assert!(fs::read(folder.join("other/film.mp4")).unwrap() == node.state.content);
        fs::write(folder.join("other/film.mp4"), "another film").unwrap();
    }
    node.stop().await;
}

#[actix_web::test]
async fn standard_output_by_its_path_is_standard_output() {
    let node = Node::start(content(100_000), &[]);
    let link = node.file();
    symlink("/dev/stdout", &link).unwrap();
    let hash = hex(&node.state.content);
    let get = words(&["get", &hash, "--receipt", RECEIPT, "-o", path(&link), "--server", &node.url]);
    let got = binary(get, Bytes::new()).await;
    assert!(got.status.success() && got.stdout == node.state.content, "{}", String::from_utf8_lossy(&got.stderr));
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("/dev/stdout"));
    node.stop().await;
}

#[actix_web::test]
async fn a_name_may_be_as_long_as_the_file_system_takes_it() {
    let node = Node::start(content(100_000), &[Act::Cut(40_000)]);
    let folder = node.file().parent().unwrap().to_owned();
    let longest = folder.join(format!("{}.mp4", "n".repeat(251)));
    get_into(&node, &longest).await.unwrap();
    assert!(fs::read(&longest).unwrap() == node.state.content);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "its part is gone");

    let asked = node.seen().len();
    get_into(&node, &folder.join("n".repeat(256))).await.unwrap_err();
    assert_eq!(node.seen().len(), asked, "what can have no place is not asked for, for it would be charged");
    node.stop().await;
}

#[actix_web::test]
async fn what_another_content_left_under_the_name_is_left_alone() {
    let node = Node::start(content(100_000), &[]);
    let (plain, other) =
        (node.file().with_file_name("film.mp4.part"), node.file().with_file_name("film.mp4.0123456789abcdef.part"));
    for part in [&plain, &other] {
        fs::write(part, &content(40_001)[1..]).unwrap();
    }
    get_into(&node, &node.file()).await.unwrap();
    assert!(fs::read(node.file()).unwrap() == node.state.content);
    assert_eq!(node.seen()[0].header("range"), None, "all of it is asked for, at once");
    assert_eq!(node.seen().len(), 1);
    assert!(plain.exists() && other.exists());
    node.stop().await;
}

#[actix_web::test]
async fn a_file_that_is_the_content_already_is_not_paid_for_again() {
    let node = Node::start(content(100_000), &[]);
    for _ in 0..2 {
        get_into(&node, &node.file()).await.unwrap();
        assert!(fs::read(node.file()).unwrap() == node.state.content);
    }
    assert_eq!(node.seen().len(), 1);
    node.stop().await;
}

#[actix_web::test]
async fn standard_input_is_stored_and_sent_again_when_it_must_be() {
    let busy = Act::Refuse(StatusCode::SERVICE_UNAVAILABLE, r#"{"title": "Overloaded", "status": 503}"#);
    let node = Node::start(Bytes::new(), &[busy]);
    let bytes = content(3_000_000);
    let put = words(&["put", "-", "--media-type", "video/mp4", "--server", &node.url, "--key", "secret"]);
    let stored = binary(put, bytes.clone()).await;
    assert!(stored.status.success(), "{}", String::from_utf8_lossy(&stored.stderr));
    assert_eq!(String::from_utf8(stored.stdout).unwrap().trim(), hex(&bytes));
    let seen = node.seen();
    assert!(seen[1].body == bytes);
    assert_eq!(seen[1].header("content-length"), Some("3000000"));
    assert_eq!(seen[1].header("content-type"), Some("video/mp4"));
    assert!(seen[1].header("repr-digest").unwrap().starts_with("sha-256=:"));
    node.stop().await;
}

#[actix_web::test]
async fn what_comes_through_a_pipe_with_a_name_is_stored() {
    let node = Node::start(Bytes::new(), &[]);
    let (pipe, bytes) = (node.file(), content(3_000_000));
    make_pipe(&pipe);
    let (writing, written) = (pipe.clone(), bytes.clone());
    let writer = thread::spawn(move || fs::write(writing, written));
    penstock(&["put", path(&pipe), "--server", &node.url, "--key", "secret"]).await.unwrap();
    writer.join().unwrap().unwrap();
    assert!(node.seen()[0].body == bytes);
    let folder = pipe.parent().unwrap().to_owned();
    let refused = penstock(&["put", path(&folder), "--server", &node.url, "--key", "secret"]).await.unwrap_err();
    assert!(format!("{refused:#}").ends_with("it is a folder, not a file"), "{refused:#}");
    node.stop().await;
}
