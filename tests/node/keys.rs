//! The API keys of producers and administrators: made, listed, rotated, revoked, and at an end on every instance.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    node::{ADMIN_KEY, On, Setup, TestNode, expect, expect_problem, text},
    patience::within,
};

/// The administrator, as a producer.
const ADMIN: &str = "00000000-0000-0000-0000-000000000001";

/// Less than a node would believe a key that it has seen, was it not told.
const SOON: Duration = Duration::from_secs(40);

async fn producer(node: &TestNode) -> Value {
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "Studio" })).send().await.unwrap();
    expect(made, &[201]).await
}

async fn further(node: &TestNode, producer: &str, name: &str) -> Value {
    let made = node.admin(Method::POST, &format!("/v1/producers/{producer}/keys")).json(&json!({ "name": name }));
    expect(made.send().await.unwrap(), &[201]).await
}

/// What a producer's call comes to with this key.
async fn opens(node: &TestNode, key: &str) -> StatusCode {
    let call = node.client.request(Method::POST, node.url("/v1/content?contentHash=none")).bearer_auth(key);
    call.send().await.unwrap().status()
}

async fn items(node: &TestNode, path: &str) -> Vec<Value> {
    let list = expect(node.admin(Method::GET, path).send().await.unwrap(), &[200]).await;
    list["items"].as_array().unwrap().clone()
}

on_both!(a_leaked_key_is_rotated_or_revoked_at_once, async |node: &mut TestNode| {
    let made = producer(node).await;
    let (id, leaked) = (text(&made, "producerId"), text(&made, "key"));
    let path = format!("/v1/producers/{id}/keys");
    // That it is refused for what it asks and not for its key says that the key counts.
    assert_eq!(opens(node, &leaked).await, 400);
    let other = further(node, &id, "the cutting room").await;
    assert_eq!((&other["role"], &other["name"]), (&json!("producer"), &json!("the cutting room")));
    let rotate = format!("{path}/{}/rotate", text(&made, "keyId"));
    let rotated = expect(node.admin(Method::POST, &rotate).send().await.unwrap(), &[200]).await;
    assert_eq!(rotated["keyId"], made["keyId"]);
    let fresh = text(&rotated, "key");
    assert_eq!(opens(node, &leaked).await, 401, "its secret is another one now");
    assert_eq!(
        (opens(node, &fresh).await, opens(node, &text(&other, "key")).await),
        (400.try_into().unwrap(), 400.try_into().unwrap())
    );
    let revoke = format!("{path}/{}", text(&made, "keyId"));
    for _ in 0..2 {
        assert_eq!(node.admin(Method::DELETE, &revoke).send().await.unwrap().status(), 204);
        assert_eq!(opens(node, &fresh).await, 401);
    }
    assert_eq!(opens(node, &text(&other, "key")).await, 400, "the others stay");
    expect_problem(node.admin(Method::POST, &rotate).send().await.unwrap(), 404, "not-found").await;
    let keys = items(node, &path).await;
    let secrets = [&leaked, &fresh, &text(&other, "key")];
    assert!(secrets.iter().all(|secret| !json!(keys).to_string().contains(secret.as_str())), "no list shows a secret");
    assert_eq!((keys.len(), &keys[0]["keyId"], &keys[1]["revokedAt"]), (2, &made["keyId"], &Value::Null));
    assert!(keys[0]["revokedAt"].is_string());
    let producers = items(node, "/v1/producers").await;
    assert_eq!((&producers[0]["producerId"], &producers[1]["name"]), (&json!(ADMIN), &json!("Studio")));
    // Nobody but an admin, and nothing that is not there.
    for (method, path) in
        [(Method::GET, "/v1/producers"), (Method::GET, &path), (Method::POST, &path), (Method::DELETE, &revoke)]
    {
        let call = node.client.request(method, node.url(path)).bearer_auth(text(&other, "key")).json(&json!({}));
        expect_problem(call.send().await.unwrap(), 403, "forbidden").await;
    }
    let elsewhere = revoke.replace(&id, ADMIN);
    expect_problem(node.admin(Method::DELETE, &elsewhere).send().await.unwrap(), 404, "not-found").await;
});

on_sqlite!(administrators_have_keys_of_their_own, async |node: &mut TestNode| {
    let second = further(node, ADMIN, "night shift").await;
    assert_eq!(second["role"], "admin");
    let list = |key: &str| node.client.get(node.url("/v1/producers")).bearer_auth(key).send();
    assert_eq!(list(&text(&second, "key")).await.unwrap().status(), 200);
    let path = format!("/v1/producers/{ADMIN}/keys/{}", text(&second, "keyId"));
    assert_eq!(node.admin(Method::DELETE, &path).send().await.unwrap().status(), 204);
    assert_eq!(list(&text(&second, "key")).await.unwrap().status(), 401);
    // The first one is the configuration's, which would bring it back.
    let own = format!("/v1/producers/{ADMIN}/keys/{ADMIN}");
    expect_problem(node.admin(Method::DELETE, &own).send().await.unwrap(), 403, "forbidden").await;
    expect_problem(node.admin(Method::POST, &format!("{own}/rotate")).send().await.unwrap(), 403, "forbidden").await;
    assert_eq!(list(ADMIN_KEY).await.unwrap().status(), 200);
    node.terminate().await;
    node.set_env("PENSTOCK_ADMIN_KEY", "another-admin-key");
    node.boot().await;
    assert_eq!(list_with(node, ADMIN_KEY).await, 401);
    assert_eq!(list_with(node, "another-admin-key").await, 200);
});

async fn list_with(node: &TestNode, key: &str) -> StatusCode {
    node.client.get(node.url("/v1/producers")).bearer_auth(key).send().await.unwrap().status()
}

on_sqlite!(the_command_ends_a_leaked_key_too, async |node: &mut TestNode| {
    let made = producer(node).await;
    let (id, server) = (text(&made, "producerId"), node.url(""));
    let keys = async |arguments: &[&str]| -> Vec<Value> {
        let run = node.run(&[&["keys", "--server", &server, "--key", ADMIN_KEY][..], arguments].concat()).await;
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(keys(&["list"]).await[1]["producerId"], id.as_str());
    let further = keys(&["create", "--producer", &id, "--name", "by command"]).await;
    let listed = keys(&["list", "--producer", &id]).await;
    assert_eq!(listed[1]["name"], "by command");
    let key = text(&made, "keyId");
    let within_an_hour = keys(&["rotate", "--producer", &id, &key, "--overlap", "1h"]).await;
    assert!(within_an_hour[0]["previousValidUntil"].is_string());
    assert_eq!(opens(node, &text(&made, "key")).await, 400);
    let rotated = keys(&["rotate", "--producer", &id, &key]).await;
    assert_eq!(opens(node, &text(&made, "key")).await, 401);
    assert_eq!(opens(node, &text(&rotated[0], "key")).await, 400);
    assert_eq!(keys(&["revoke", "--producer", &id, &key]).await, Vec::<Value>::new());
    assert_eq!(opens(node, &text(&rotated[0], "key")).await, 401);
    assert_eq!(opens(node, &text(&further[0], "key")).await, 400);
});

on_both!(a_rotation_may_leave_the_old_secret_valid_for_a_while, async |node: &mut TestNode| {
    let made = producer(node).await;
    let (id, old) = (text(&made, "producerId"), text(&made, "key"));
    let path = format!("/v1/producers/{id}/keys");
    let rotate = format!("{path}/{}/rotate", text(&made, "keyId"));
    let rotated = async |overlap: Value| {
        let call = node.admin(Method::POST, &rotate).json(&json!({ "overlapSeconds": overlap }));
        expect(call.send().await.unwrap(), &[200]).await
    };
    let new = rotated(json!(3600)).await;
    assert!(new["previousValidUntil"].is_string());
    assert_eq!((opens(node, &old).await.as_u16(), opens(node, &text(&new, "key")).await.as_u16()), (400, 400));
    // The note is written in the background.
    within(SOON, "the use of the key is noted", async || items(node, &path).await[0]["lastUsedAt"].is_string()).await;
    // A leak within the overlap ends all secrets but the newest.
    let newest = rotated(Value::Null).await;
    assert_eq!(newest["previousValidUntil"], Value::Null);
    assert_eq!((opens(node, &old).await.as_u16(), opens(node, &text(&new, "key")).await.as_u16()), (401, 401));
    let brief = rotated(json!(1)).await;
    within(SOON, "the overlap ends", async || opens(node, &text(&newest, "key")).await == 401).await;
    assert_eq!(opens(node, &text(&brief, "key")).await, 400);
    let long = node.admin(Method::POST, &rotate).json(&json!({ "overlapSeconds": 2_592_001 })).send().await.unwrap();
    let problem = expect_problem(long, 422, "validation-failed").await;
    assert_eq!(problem["errors"][0]["path"], "overlapSeconds");
});

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_instance_revokes_opens_nothing_on_the_others() {
    let mut one = TestNode::start(On::Postgres).await;
    let mut other = Setup::beside(&one).start().await;
    let made = producer(&one).await;
    let (id, first) = (text(&made, "producerId"), text(&made, "key"));
    let second = further(&one, &id, "").await;
    for key in [&first, &text(&second, "key")] {
        assert_eq!(opens(&other, key).await, 400, "it has seen the key, and would believe it for a while");
    }
    let path = format!("/v1/producers/{id}/keys/{}", text(&made, "keyId"));
    assert_eq!(one.admin(Method::DELETE, &path).send().await.unwrap().status(), 204);
    let rotate = format!("/v1/producers/{id}/keys/{}/rotate", text(&second, "keyId"));
    expect(one.admin(Method::POST, &rotate).send().await.unwrap(), &[200]).await;
    for key in [&first, &text(&second, "key")] {
        within(SOON, "the other instance hears of it", async || opens(&other, key).await == 401).await;
    }
    other.finish().await;
    one.finish().await;
}
