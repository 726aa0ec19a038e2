//! A node that follows the headers of a private chain.

use crate::{
    chain_support::TestChain,
    node::{On, Setup, TestNode},
};

async fn follows(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = TestChain::in_folder(folder.path());
    let mut node = Setup::new(on).envs(chain.env()).start().await;
    let height = |chain: &TestChain| f64::from(chain.chain.height());
    node.metric_becomes("penstock_chain_height", "", height(&chain)).await;
    assert!(node.metric("penstock_chain_tip_age_seconds", "").await < 7_200.0);

    chain.grow(2);
    node.metric_becomes("penstock_chain_height", "", height(&chain)).await;
    chain.reorganise(2);
    node.metric_becomes("penstock_chain_reorganisations_total", "", 1.0).await;
    node.metric_becomes("penstock_chain_height", "", height(&chain)).await;
    assert_eq!(node.metric("penstock_chain_refused_headers_total", "").await, 0.0);

    // The headers are in the database, so that a start needs no source.
    node.kill().await;
    std::fs::remove_file(folder.path().join("headers")).unwrap();
    node.boot().await;
    node.metric_becomes("penstock_chain_height", "", height(&chain)).await;
    // And a source that is away is no reason not to be ready.
    assert_eq!(node.get("/health/ready").send().await.unwrap().status(), 200);
    chain.grow(1);
    node.metric_becomes("penstock_chain_height", "", height(&chain)).await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_follows_the_chain_and_its_reorganisations_on_sqlite() {
    follows(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_follows_the_chain_and_its_reorganisations_on_postgres() {
    follows(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_the_headers_that_one_of_them_reads() {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = TestChain::in_folder(folder.path());
    let mut reader = Setup::new(On::Postgres).envs(chain.env()).start().await;
    let mut env = chain.env();
    env[2].1 = folder.path().join("nothing").to_str().unwrap().to_owned();
    let mut other: TestNode = Setup::beside(&reader).envs(env).start().await;
    chain.grow(3);
    other.metric_becomes("penstock_chain_height", "", f64::from(chain.chain.height())).await;
    other.terminate().await;
    reader.finish().await;
}
