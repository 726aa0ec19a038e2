//! Sessions at the console: what signs in, what a session gives, and how it ends.

use penstock::keys::ADMIN;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, sample, text},
    patience::eventually,
};

/// A call that only an administrator may make.
const ADMIN_CALL: &str = "/v1/streaming/policies";

/// A browser that has signed in: its cookie, and the token that its page sends.
struct SignedIn {
    cookie: String,
    set_cookie: String,
    csrf: String,
}

impl SignedIn {
    async fn with(call: RequestBuilder) -> Self {
        let answer = call.send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let set_cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
        let cookie = set_cookie.split(';').next().unwrap().to_owned();
        let session = expect(answer, &[200]).await["session"].clone();
        Self { cookie, set_cookie, csrf: text(&session, "csrfToken") }
    }

    async fn at(node: &TestNode, key: &str) -> Self {
        Self::with(node.client.post(node.url("/dashboard/sign-in")).bearer_auth(key)).await
    }

    /// A call of a page of the node's.
    fn call(&self, node: &TestNode, method: Method, path: &str) -> RequestBuilder {
        self.bare(node, method, path).header("x-csrf-token", &self.csrf)
    }

    /// A call with the cookie alone.
    fn bare(&self, node: &TestNode, method: Method, path: &str) -> RequestBuilder {
        node.client.request(method, node.url(path)).header("cookie", &self.cookie)
    }

    async fn is_open(&self, node: &TestNode) -> bool {
        let answer = self.call(node, Method::GET, ADMIN_CALL).send().await.unwrap();
        if answer.status() == 200 {
            return true;
        }
        expect_problem(answer, 401, "unauthorized").await;
        let shown = expect(self.bare(node, Method::GET, "/dashboard/session").send().await.unwrap(), &[200]).await;
        assert_eq!(shown["session"], Value::Null, "the page learns it too");
        false
    }
}

on_both!(a_session_gives_what_its_key_gives_until_it_is_ended, async |node: &mut TestNode| {
    let browser = SignedIn::at(node, ADMIN_KEY).await;
    let (name, flags) = browser.set_cookie.split_once('=').unwrap();
    assert_eq!(name, "penstock-console");
    assert!(flags.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{flags}");
    assert!(browser.is_open(node).await);
    let shown = expect(browser.bare(node, Method::GET, "/dashboard/session").send().await.unwrap(), &[200]).await;
    assert_eq!((&shown["session"]["csrfToken"], &shown["figures"]), (&json!(browser.csrf), &json!(true)));
    assert!(shown["session"]["expiresAt"].is_string());
    // The console's work is the public API.
    let paid = node.paid(&sample(1, 1000), "unlimited").await;
    let path = format!("/v1/receipts/{}", paid.receipt);
    let revoked = browser.call(node, Method::PATCH, &path).json(&json!({ "status": "refunded" })).send().await.unwrap();
    assert_eq!(expect(revoked, &[200]).await["status"], "refunded");
    // The token alone opens nothing, and a key that is not known counts for what it is.
    let token = browser.cookie.split_once('=').unwrap().1;
    let as_key = node.client.get(node.url(ADMIN_CALL)).bearer_auth(token).send().await.unwrap();
    expect_problem(as_key, 401, "unauthorized").await;
    let both = browser.call(node, Method::GET, ADMIN_CALL).bearer_auth("no-key").send().await.unwrap();
    expect_problem(both, 401, "unauthorized").await;
    // A session does not prolong itself.
    let again = browser.call(node, Method::POST, "/dashboard/sign-in").send().await.unwrap();
    expect_problem(again, 401, "unauthorized").await;

    let other = SignedIn::at(node, ADMIN_KEY).await;
    let out = browser.call(node, Method::POST, "/dashboard/sign-out").send().await.unwrap();
    assert_eq!(out.status(), 204);
    let forgotten =
        out.headers().get_all("set-cookie").iter().all(|cookie| cookie.to_str().unwrap().contains("Max-Age=0"));
    assert!(forgotten);
    assert!(!browser.is_open(node).await, "also for who kept the cookie");
    assert!(other.is_open(node).await);
    let twice = browser.call(node, Method::POST, "/dashboard/sign-out").send().await.unwrap();
    assert_eq!(twice.status(), 204);
});

on_sqlite!(a_page_that_is_not_the_nodes_own_has_no_part_in_a_session, async |node: &mut TestNode| {
    let browser = SignedIn::at(node, ADMIN_KEY).await;
    let other = SignedIn::at(node, ADMIN_KEY).await;
    let paid = node.paid(&sample(1, 1000), "unlimited").await;
    let receipt = format!("/v1/receipts/{}", paid.receipt);
    let refund = json!({ "status": "refunded" });
    // What a form or a simple fetch of a page at another port could send.
    for (method, path) in [(Method::GET, ADMIN_CALL), (Method::PATCH, &*receipt), (Method::POST, "/dashboard/sign-out")]
    {
        let bare = || browser.bare(node, method.clone(), path).json(&refund);
        expect_problem(bare().send().await.unwrap(), 403, "forbidden").await;
        expect_problem(bare().header("x-csrf-token", "").send().await.unwrap(), 403, "forbidden").await;
        expect_problem(bare().header("x-csrf-token", &other.csrf).send().await.unwrap(), 403, "forbidden").await;
    }
    for (field, value) in [("origin", "http://127.0.0.1:1"), ("origin", "null"), ("sec-fetch-site", "same-site")] {
        for (method, path) in
            [(Method::PATCH, &*receipt), (Method::POST, "/dashboard/sign-out"), (Method::GET, "/dashboard/session")]
        {
            let call = browser.call(node, method, path).json(&refund).header(field, value);
            expect_problem(call.send().await.unwrap(), 403, "origin-not-allowed").await;
        }
    }
    assert!(browser.is_open(node).await);
    let shown = expect(node.get(&receipt).send().await.unwrap(), &[200]).await;
    assert_eq!(shown["status"], "confirmed", "nothing has changed");
});

on_sqlite!(a_cookie_that_came_over_https_goes_nowhere_else, async |node: &mut TestNode| {
    let sign_in = node.client.post(node.url("/dashboard/sign-in")).bearer_auth(ADMIN_KEY);
    let browser = SignedIn::with(sign_in.header("x-forwarded-proto", "https")).await;
    assert!(browser.set_cookie.starts_with("__Host-penstock-console="), "{}", browser.set_cookie);
    assert!(browser.set_cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Secure"), "{}", browser.set_cookie);
    assert!(browser.is_open(node).await);
});

on_both!(a_session_ends_with_the_key_that_signed_in, async |node: &mut TestNode| {
    let keys = format!("/v1/producers/{ADMIN}/keys");
    for end in ["rotate", "revoke"] {
        let made = node.admin(Method::POST, &keys).json(&json!({ "name": "a person's" })).send().await.unwrap();
        let made = expect(made, &[201]).await;
        let (key, id) = (text(&made, "key"), text(&made, "keyId"));
        let browser = SignedIn::at(node, &key).await;
        let figures = || browser.call(node, Method::GET, "/dashboard/events").header("via", "1.1 proxy");
        let mut open = figures().send().await.unwrap();
        assert_eq!(open.status(), 200);
        assert!(open.chunk().await.unwrap().is_some());
        let call = match end {
            "rotate" => node.admin(Method::POST, &format!("{keys}/{id}/rotate")),
            _ => node.admin(Method::DELETE, &format!("{keys}/{id}")),
        };
        assert!(call.send().await.unwrap().status().is_success());
        assert!(!browser.is_open(node).await, "{end}");
        // The figures that it was watching end, too.
        let end_of_figures = async { while open.chunk().await.unwrap().is_some() {} };
        tokio::time::timeout(crate::patience::PATIENCE, end_of_figures).await.expect("they end");
        expect_problem(figures().send().await.unwrap(), 401, "unauthorized").await;
    }
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_by_itself() {
    for on in [On::Sqlite, On::Postgres] {
        let mut node = Setup::new(on).env("PENSTOCK_CONSOLE__SESSION_TTL", "500ms").start().await;
        let browser = SignedIn::at(&node, ADMIN_KEY).await;
        eventually("the session expires", async || !browser.is_open(&node).await).await;
        node.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_instance_knows_a_session_and_its_end() {
    let mut node = TestNode::start(On::Postgres).await;
    let mut other = Setup::beside(&node).start().await;
    let browser = SignedIn::at(&node, ADMIN_KEY).await;
    assert!(browser.is_open(&other).await && browser.is_open(&node).await);
    let out = browser.call(&other, Method::POST, "/dashboard/sign-out").send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(!browser.is_open(&node).await && !browser.is_open(&other).await, "at once");
    other.finish().await;
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_to_sign_in_are_few_and_producers_are_refused() {
    let mut node = Setup::new(On::Sqlite).env("PENSTOCK_RATE_LIMITS__SIGN_IN", "5").start().await;
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "a producer" })).send().await.unwrap();
    let producer = text(&expect(made, &[201]).await, "key");
    let attempt = |key: &str| node.client.post(node.url("/dashboard/sign-in")).bearer_auth(key).send();
    let refused = attempt(&producer).await.unwrap();
    assert!(refused.headers().get("set-cookie").is_none());
    expect_problem(refused, 403, "forbidden").await;
    let mut tried = 0;
    eventually("the attempts are used up", async || {
        tried += 1;
        let answer = attempt(&format!("guess-{tried}")).await.unwrap();
        assert!(tried <= 20, "guesses go on");
        answer.status() == 429
    })
    .await;
    // Other calls go on, and so does the sign-in of a key that the node knows.
    assert_eq!(node.admin(Method::GET, ADMIN_CALL).send().await.unwrap().status(), 200);
    assert!(SignedIn::at(&node, ADMIN_KEY).await.is_open(&node).await);
    node.finish().await;
}
