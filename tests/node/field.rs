//! What people run into elsewhere (docs/field-trials.md): names and places that are odd.

use crate::node::{On, Setup, sample};

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
