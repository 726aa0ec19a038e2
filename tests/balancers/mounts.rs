//! A node that lacks the share, behind a balancer: the other one serves.

use std::fs;

use reqwest::Method;

use crate::{
    front::{Front, Kind},
    node::{ADMIN_KEY, Setup, expect, sample},
    patience::eventually,
    postgres::TestDatabase,
};

/// Requests, of which a balancer that knew nothing would send half to the node that lacks the share.
const SOME: usize = 20;

/// HAProxy alone looks at readiness.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_share_is_not_mounted_is_taken_out_until_it_is() {
    let database = TestDatabase::empty().await;
    let folder = tempfile::tempdir().unwrap();
    let (share, mount) = (folder.path().join("share"), folder.path().join("mount"));
    fs::create_dir(&share).unwrap();
    std::os::unix::fs::symlink(&share, &mount).unwrap();
    let setup = |root: &std::path::Path| {
        Setup::on_database_of(&database.url())
            .env("DATA_ROOT", root.to_str().unwrap())
            .env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1")
    };
    let mut one = setup(&share).start().await;
    let mut other = setup(&mount).start().await;
    let front = Front::before(Kind::HaProxy, [one.address(), other.address()]).await;
    let bytes = sample(97, 50_000);
    let paid = one.paid(&bytes, "unlimited").await;

    fs::remove_file(&mount).unwrap();
    fs::create_dir(&mount).unwrap();
    eventually("it is taken out", async || front.said().contains(" is DOWN")).await;
    for seed in 0..SOME {
        let path = format!("/v1/streaming/data/{}", paid.hash);
        let answer = one.client.get(front.url(&path)).header("x-receipt-id", &paid.receipt).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.bytes().await.unwrap() == bytes, "never wrong bytes");
        let upload = one.client.request(Method::POST, front.url("/v1/content")).bearer_auth(ADMIN_KEY);
        let upload = upload.header("content-type", "text/plain").body(sample(1000 + seed as u64, 1000));
        expect(upload.send().await.unwrap(), &[201]).await;
    }
    assert_eq!(fs::read_dir(&mount).unwrap().count(), 0, "nothing is written into the mount point");

    fs::remove_dir(&mount).unwrap();
    std::os::unix::fs::symlink(&share, &mount).unwrap();
    eventually("it is back", async || front.said().contains(" is UP")).await;
    assert_eq!(other.stream(&paid).send().await.unwrap().status(), 200);
    for node in [&mut one, &mut other] {
        node.finish().await;
    }
}
