//! Two nodes on one database with the same blobs, behind a balancer.

use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    front::{Front, Kind},
    node::{ADMIN_KEY, Paid, Setup, TestNode, expect},
    postgres::TestDatabase,
};

/// Runs a test behind both balancers.
macro_rules! behind_both {
    ($name:ident, $test:expr) => {
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn behind_nginx() {
                ($test)($crate::front::Kind::Nginx).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn behind_haproxy() {
                ($test)($crate::front::Kind::HaProxy).await;
            }
        }
    };
}
pub(crate) use behind_both;

pub(crate) struct Pair {
    pub(crate) nodes: [TestNode; 2],
    pub(crate) front: Front,
    _database: Option<TestDatabase>,
    _blobs: TempDir,
}

impl Pair {
    pub(crate) async fn behind(kind: Kind, settings: &[(&str, &str)]) -> Self {
        let database = TestDatabase::empty().await;
        let url = database.url();
        Self { _database: Some(database), ..Self::on_database_of(&url, kind, settings).await }
    }

    /// On a database that belongs to the test.
    pub(crate) async fn on_database_of(url: &str, kind: Kind, settings: &[(&str, &str)]) -> Self {
        let blobs = tempfile::tempdir().unwrap();
        let setup = || {
            let mut setup = Setup::on_database_of(url)
                .env("DATA_ROOT", blobs.path().to_str().unwrap())
                .env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1")
                .env("PENSTOCK_USAGE__BATCH_AGE", "20ms");
            for (name, value) in settings {
                setup = setup.env(name, *value);
            }
            setup.start()
        };
        let (one, other) = tokio::join!(setup(), setup());
        let front = Front::before(kind, [one.address(), other.address()]).await;
        Self { nodes: [one, other], front, _database: None, _blobs: blobs }
    }

    /// A request through the balancer.
    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.nodes[0].client.get(self.front.url(path))
    }

    /// The same with the admin key.
    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.nodes[0].client.request(method, self.front.url(path)).bearer_auth(ADMIN_KEY)
    }

    pub(crate) fn stream(&self, paid: &Paid) -> RequestBuilder {
        self.get(&format!("/v1/streaming/data/{}", paid.hash)).header("x-receipt-id", &paid.receipt)
    }

    /// The sum of a metric over both nodes.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let [one, other] = &self.nodes;
        one.metric(name, labels).await + other.metric(name, labels).await
    }

    pub(crate) async fn receipt(&self, version: &str) -> RequestBuilder {
        let body: Value = serde_json::json!({ "versionId": version });
        self.admin(Method::POST, "/v1/receipts").json(&body)
    }

    /// Ends the nodes, after a look whether the ledger is right.
    pub(crate) async fn finish(&mut self) {
        for node in &mut self.nodes {
            node.finish().await;
        }
    }
}

/// A node that answers.
pub(crate) async fn answers(node: &TestNode) -> bool {
    match node.get("/health/ready").send().await {
        Ok(answer) => expect(answer, &[200, 503]).await["status"] == "ok",
        Err(_) => false,
    }
}
