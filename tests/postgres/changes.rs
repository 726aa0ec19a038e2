//! The log of changes against transactions that overlap.

use penstock_actors::ports::{Changes as _, Tag};

use crate::support::{TestDatabase, store};

const NOTE: &str = "INSERT INTO change_log (tag) VALUES ('policy:' || $1)";

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_commits_late_is_read_although_later_ones_were_read_before() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let (mut slow, quick) = (database.client().await, database.client().await);
    let mut mark = store.changes(None, 100).await.expect("read").mark;
    let late = slow.transaction().await.expect("begun");
    late.execute(NOTE, &[&"late"]).await.expect("noted");
    let mut seen = Vec::new();
    for name in ["first", "second"] {
        quick.execute(NOTE, &[&name]).await.expect("noted and committed");
        let page = store.changes(Some(mark), 100).await.expect("read");
        seen.extend(page.changes.into_iter().map(|change| change.tag));
        mark = page.mark;
    }
    let [first, second] = ["first", "second"].map(|name| Tag::QuotaPolicy(name.into()));
    assert!(seen.contains(&first) && seen.contains(&second), "nobody waits for a slow transaction");
    late.commit().await.expect("committed");
    let page = store.changes(Some(mark), 100).await.expect("read");
    assert!(page.changes.iter().any(|change| change.tag == Tag::QuotaPolicy("late".into())));
    // Once nothing of that time is under way on the server, the place is behind all of it.
    let mut mark = page.mark;
    loop {
        let page = store.changes(Some(mark), 100).await.expect("read");
        if page.changes.is_empty() {
            break;
        }
        mark = page.mark;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_log_of_another_server_is_not_believed() {
    let database = TestDatabase::migrated().await;
    let (store, _metrics) = store(database.settings()).await;
    let here = store.changes(None, 100).await.expect("read").mark;
    let ahead = penstock_actors::ports::ChangeMark(here.0 + 1_000_000);
    let page = store.changes(Some(ahead), 100).await.expect("read");
    assert!(page.anything, "a server restored from a backup has not logged what this node has seen");
    assert!(page.mark.0 < ahead.0);
}
