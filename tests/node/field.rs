//! What people run into elsewhere (docs/field-trials.md): names and places that are odd.

use reqwest::Method;
use serde_json::json;

use crate::node::{On, Paid, Setup, TestNode, expect, sample};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_folder_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    // What means something in a URI, in SQL, in a shell, and to SQLite.
    let odd = folder.path().join("file:a b?c#d%41'e\"f;g\nh ünï -i:memory:");
    let data = odd.to_str().unwrap();
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_DATA_DIR", data).start().await;
    let bytes = sample(90, 100_000);
    let paid = node.paid(&bytes, "premium").await;
    assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);
    assert!(odd.join("penstock.sqlite3").is_file() && odd.join("blobs").is_dir());
    node.finish().await;
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "all is in the folder");
}

on_both!(a_receipt_for_ever_is_made_shown_and_streamed_under, async |node: &mut TestNode| {
    let bytes = sample(91, 1000);
    let hash = node.put(&bytes, "video/mp4").await;
    let version = node.publish(&hash, "a film").await;
    for never in ["9999-12-31T23:59:59Z", "9999-12-30T22:00:00.9999999Z"] {
        let receipt = node.receipt(&version, json!({ "quotaTier": "standard", "expiresAt": never })).await;
        let shown = node.admin(Method::GET, &format!("/v1/receipts/{receipt}")).send().await.unwrap();
        assert_eq!(expect(shown, &[200]).await["expiresAt"], "9999-12-30T22:00:00Z", "{never}");
        let paid = Paid { hash: hash.clone(), version: version.clone(), receipt };
        assert!(node.stream(&paid).send().await.unwrap().bytes().await.unwrap() == bytes);
    }
});
