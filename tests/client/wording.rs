//! What a person at the command line is told is in this project's own words; a reason of the system's may stand at its end.

use std::{fs, net::TcpListener, path::Path};

use super::{RECEIPT, path, penstock};
use crate::words::{assert_none_of_theirs, assert_ours};

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[actix_web::test]
async fn a_value_that_cannot_be_read_is_reported_in_plain_words() {
    let commands: [(&[&str], &str); 8] = [
        (&["get", HASH, "--receipt", RECEIPT, "-o", "/dev/null"], "--retries"),
        (&["get", HASH, "--receipt", RECEIPT, "-o", "/dev/null"], "--max-wait"),
        (&["put", "x"], "--max-silence"),
        (&["publish", "--content", HASH, "--name", "x"], "--price"),
        (&["publish", "--content", HASH, "--name", "x"], "--meta"),
        (&["receipt", "--asset", RECEIPT], "--expires"),
        (&["receipt", "--asset", RECEIPT], "--status"),
        (&["receipt", "--asset", RECEIPT], "--server"),
    ];
    for (command, flag) in commands {
        for value in [
            "",
            " ",
            "-",
            "x",
            "1.5",
            "99999999999999999999",
            "12 parsecs",
            "[]",
            "5",
            "{",
            "{\"a\":1e400x}",
            "{\"a\":\"\\ud800\"}",
        ] {
            let Err(error) = penstock(&[command, &[&format!("{flag}={value}")]].concat()).await else { continue };
            let told = format!("{error:#}");
            // The frame is the command line's own form: `error: invalid value '..' for '--flag': ` and what we say.
            if let Some((_, why)) =
                told.lines().next().unwrap().rsplit_once("': ").filter(|_| told.starts_with("error: "))
            {
                assert!(!why.is_empty());
                assert_none_of_theirs(why, value);
                if matches!(flag, "--retries" | "--max-wait" | "--max-silence" | "--price" | "--meta") {
                    assert_ours(why, value);
                }
            }
        }
    }
}

/// Runs a command that must fail; what it says.
async fn refused(arguments: &[&str]) -> String {
    let told = format!("{:#}", penstock(arguments).await.unwrap_err());
    assert_none_of_theirs(&told, &arguments.join(" "));
    told
}

#[actix_web::test]
async fn a_file_that_cannot_be_read_is_named_with_what_was_to_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (missing, binary) = (at("missing"), at("binary"));
    fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    let shown = |path: &Path| path.display().to_string();
    let put = |file: &Path| ["put".to_owned(), shown(file), "--key".to_owned(), "k".to_owned()];
    let told = async |arguments: &[String]| refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(told(&put(&missing)).await.starts_with(&format!("cannot read {}: No such file", shown(&missing))));
    assert_eq!(
        told(&put(folder.path())).await,
        format!("cannot read {}: it is a folder, not a file", shown(folder.path()))
    );
    let key = ["put".to_owned(), shown(&binary), "--identity-key".to_owned(), shown(&binary)];
    assert_eq!(
        told(&key).await,
        format!("cannot sign with {}: the identity key cannot be read: it is not a text in UTF-8", shown(&binary))
    );
    let identity = ["identity".to_owned(), shown(&missing.join("key"))];
    assert!(told(&identity).await.starts_with(&format!("cannot write {}: ", shown(&missing.join("key")))));
    let get = ["get", HASH, "--receipt", RECEIPT, "-o"].map(str::to_owned);
    let get = [&get[..], &[shown(&missing.join("film"))]].concat();
    assert!(told(&get).await.starts_with(&format!("cannot write {}", shown(&missing.join("film")))));
    let data = at("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("admin-key"), [0xff]).unwrap();
    let with_folder = ["put", path(&binary), "--data-dir", path(&data)];
    let told = refused(&with_folder).await;
    assert_eq!(told, format!("cannot read the key in {}/admin-key: it is not a text in UTF-8", shown(&data)));
}

#[actix_web::test]
async fn an_unreachable_node_is_reported_with_the_reason_alone() {
    // A port where nobody listens, one that closes at once, one that speaks no TLS, a name that there is not.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rude = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut first = [0; 4096];
            let _ = connection.read(&mut first);
            if first[0] != b'P' {
                let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
        }
    });
    for (server, expected) in [
        (format!("http://{closed}"), "cannot connect: Connection refused"),
        (format!("http://{rude}"), "the connection was lost"),
        (format!("https://{rude}"), "cannot connect: what answers there does not speak TLS"),
        ("http://node.invalid".to_owned(), "cannot connect: its name has no address: "),
    ] {
        let told = refused(&["receipt", "--asset", RECEIPT, "--key", "k", "--server", &server]).await;
        assert!(told.starts_with(expected), "{server}: {told}");
    }
    let told =
        refused(&["receipt", "--asset", RECEIPT, "--key", "a\nb", "--server", &format!("http://{closed}")]).await;
    assert!(told.starts_with("the request cannot be made: "), "{told}");
}
