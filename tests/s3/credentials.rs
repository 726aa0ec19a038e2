//! Where credentials come from, and what is told when they, or the buckets, are wrong.

use std::{process::Stdio, time::Duration};

use penstock::adapters::s3::{AccessKey, Connection, Patience, S3Settings};
use penstock_actors::ports::BlobStore as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
};

use crate::{
    s3::{TestBuckets, told},
    s3_proxy::{Fault, S3Proxy},
};

/// What `penstock check` says with these variables instead of a configured key.
async fn check(buckets: &TestBuckets, variables: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let configured = buckets.env().into_iter().filter(|(name, _)| !name.ends_with("_KEY"));
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_penstock"));
    migrate.arg("migrate").env_clear().env("PENSTOCK_DATA_DIR", folder.path()).stdout(Stdio::null());
    assert!(migrate.status().await.unwrap().success());
    let mut check = Command::new(env!("CARGO_BIN_EXE_penstock"));
    check.arg("check").env_clear().env("PENSTOCK_DATA_DIR", folder.path());
    check.envs(configured).envs(variables.iter().copied()).kill_on_drop(true);
    String::from_utf8(check.output().await.unwrap().stdout).unwrap()
}

on_each_client!(keys_may_come_from_the_environment, async |buckets: TestBuckets| {
    let (id, secret) = (told("ACCESS_KEY"), told("SECRET_KEY"));
    let said = check(&buckets, &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", &secret)]).await;
    assert!(said.contains("storage: ok"), "{said}");
    let said = check(&buckets, &[("AWS_ACCESS_KEY_ID", &id), ("AWS_SECRET_ACCESS_KEY", "wrong")]).await;
    assert!(said.contains(" bucket: 403 SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains(&secret), "{said}");
});

/// The instance's own service for credentials, as Amazon's instances have it.
async fn metadata_service() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = connection.read_u8().await else { return };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap().to_lowercase();
                let has_token = head.contains("x-aws-ec2-metadata-token: the-token");
                let (status, body) = match head.lines().next().unwrap() {
                    line if line.starts_with("put /latest/api/token") => (200, "the-token".to_owned()),
                    line if line.contains("/security-credentials/ http") && has_token => (200, "the-role".to_owned()),
                    line if line.contains("/security-credentials/the-role") && has_token => {
                        let (id, secret) = (told("ACCESS_KEY"), told("SECRET_KEY"));
                        let body = serde_json::json!({
                            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": id, "SecretAccessKey": secret,
                            "Token": "", "Expiration": "2099-01-01T00:00:00Z", "LastUpdated": "2026-01-01T00:00:00Z",
                        });
                        (200, body.to_string())
                    }
                    _ => (404, String::new()),
                };
                let answer = format!(
                    "HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = connection.write_all(answer.as_bytes()).await;
            });
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_may_come_from_the_instances_role() {
    let buckets = TestBuckets::new(penstock::config::S3Client::ObjectStore);
    let service = metadata_service().await;
    let said = check(&buckets, &[("AWS_METADATA_ENDPOINT", &service)]).await;
    assert!(said.contains("storage: ok"), "{said}");
    // Nothing listens on the port for multiplexers.
    let said = check(&buckets, &[("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")]).await;
    assert!(said.contains("storage: S3 is unavailable") && !said.contains("storage: ok"), "{said}");
}

on_each_client!(what_only_an_operator_can_put_right_stops_the_start, async |buckets: TestBuckets| {
    let settings = buckets.settings();
    let wrong = AccessKey { id: told("ACCESS_KEY"), secret: "wrong".to_owned() };
    let connection = Connection { access_key: Some(wrong), ..settings.connection.clone() };
    let refused = buckets.open(&S3Settings { connection, ..settings.clone() }).await.err().unwrap();
    assert!(refused.to_string().contains(" bucket: 403"), "{refused}");
    let missing = S3Settings { bucket_cold: Some("no-such-bucket".to_owned()), ..settings };
    let refused = buckets.open(&missing).await.err().unwrap();
    assert!(refused.to_string().contains("the cold bucket: 404 NoSuchBucket"), "{refused}");
});

on_each_client!(a_store_may_be_opened_while_s3_is_away, async |mut buckets: TestBuckets| {
    let proxy = S3Proxy::before(&buckets.endpoint).await;
    buckets.endpoint = proxy.endpoint();
    proxy.break_all(Fault::Reset);
    let patience = Patience { part_timeout: Duration::from_secs(1), ..buckets.settings().patience };
    let (blobs, _) = buckets.open(&S3Settings { patience, ..buckets.settings() }).await.unwrap();
    assert!(blobs.ping().await.is_err());
    proxy.heal();
    blobs.ping().await.unwrap();
    buckets.stored(&blobs, 1000).await;
});
