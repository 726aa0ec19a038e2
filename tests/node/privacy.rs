//! What the node keeps about clients and payers, and how it goes away.

use std::process::Output;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    node::{ADMIN_KEY, On, Paid, Setup, TestNode, expect, expect_problem, text},
    patience::eventually,
};

/// The usage rows of a receipt, as the caller with this key sees them.
async fn usage(node: &TestNode, receipt: &str, key: &str) -> Vec<Value> {
    let path = format!("/v1/streaming/usage?receiptId={receipt}");
    let page = expect(node.get(&path).bearer_auth(key).send().await.unwrap(), &[200]).await;
    page["items"].as_array().unwrap().clone()
}

/// Streams once for each of these addresses, one after the other; the marks of the rows.
async fn marks_of(node: &TestNode, paid: &Paid, addresses: &[&str]) -> Vec<String> {
    for address in addresses {
        let answer = node.stream_apart(paid).header("x-forwarded-for", *address).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
    }
    let all = addresses.len();
    eventually("every stream has its row", async || usage(node, &paid.receipt, ADMIN_KEY).await.len() == all).await;
    // Ids of rows grow with time, and streams ran one after the other.
    usage(node, &paid.receipt, ADMIN_KEY).await.iter().map(|row| text(row, "client")).collect()
}

async fn lines(output: Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn rows_have_the_mark_of_the_client(on: On) {
    let mut node = Setup::new(on).env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1").start().await;
    let paid = node.paid(b"a film", "unlimited").await;
    let addresses =
        ["192.0.2.7", "192.0.2.7", "192.0.2.8", "2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:3::1"];
    let marks = marks_of(&node, &paid, &addresses).await;
    let is_mark = |mark: &String| mark.len() == 16 && mark.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(marks.iter().all(is_mark), "{marks:?}");
    assert_eq!((&marks[0], &marks[3]), (&marks[1], &marks[4]), "one household has one mark");
    let mut distinct = marks.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 4, "{marks:?}");
    let shown = format!("{:?}", usage(&node, &paid.receipt, ADMIN_KEY).await);
    assert!(!shown.contains("192.0.2") && !shown.contains("2001:"), "{shown}");

    // The operator finds the rows of an address that a complaint names.
    let found = lines(node.run(&["usage", "client", "192.0.2.8"]).await).await;
    assert!(found.iter().any(|day| day["client"] == json!(marks[2])), "{found:?}");

    // A producer sees what its content was used for, and not by whom.
    let made = node.admin(Method::POST, "/v1/producers").json(&json!({ "name": "Studio" })).send().await.unwrap();
    let key = text(&expect(made, &[201]).await, "key");
    let call = |path: &str| node.client.post(node.url(path)).bearer_auth(&key);
    let upload = call("/v1/content").header("content-type", "text/plain").body("mine").send().await.unwrap();
    let hash = text(&expect(upload, &[201]).await, "contentHash");
    let asset = call("/v1/assets").json(&json!({ "name": "x", "contentHash": hash })).send().await.unwrap();
    let version = text(&expect(asset, &[201]).await, "versionId");
    let receipt = node.receipt(&version, json!({ "quotaTier": "unlimited" })).await;
    let mine = Paid { hash, version, receipt };
    marks_of(&node, &mine, &["192.0.2.7"]).await;
    let rows = usage(&node, &mine.receipt, &key).await;
    assert_eq!((rows.len(), &rows[0]["client"]), (1, &Value::Null));
    node.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_rows_have_the_mark_of_the_client_and_no_address_on_sqlite() {
    rows_have_the_mark_of_the_client(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_rows_have_the_mark_of_the_client_and_no_address_on_postgres() {
    rows_have_the_mark_of_the_client(On::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_instances_give_a_client_one_mark_which_survives_a_kill() {
    let trusting = |setup: Setup| setup.env("PENSTOCK_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    let mut first = trusting(Setup::new(On::Postgres)).start().await;
    let mut second = trusting(Setup::beside(&first)).start().await;
    let paid = first.paid(b"a film", "unlimited").await;
    let mark = marks_of(&first, &paid, &["192.0.2.7"]).await.remove(0);
    let other = second.receipt(&paid.version, json!({ "quotaTier": "unlimited" })).await;
    let elsewhere = Paid { receipt: other, ..paid.clone() };
    // Killed as soon as its client has the bytes: the row comes from the spool, if it is not in the database yet.
    let stream = second.stream_apart(&elsewhere).header("x-forwarded-for", "192.0.2.7");
    assert_eq!(stream.send().await.unwrap().bytes().await.unwrap(), "a film");
    second.kill().await;
    second.boot().await;
    eventually("the row of the killed instance is there", async || {
        !usage(&first, &elsewhere.receipt, ADMIN_KEY).await.is_empty()
    })
    .await;
    assert_eq!(text(&usage(&first, &elsewhere.receipt, ADMIN_KEY).await[0], "client"), mark);
    second.finish().await;
    first.finish().await;
}

on_both!(a_payer_is_exported_and_forgotten_and_the_accounts_stay, async |node: &mut TestNode| {
    assert!(node.terminate().await.success());
    let log = tempfile::NamedTempFile::new().unwrap();
    node.set_env("PENSTOCK_LOG__LEVEL", "info");
    node.boot_logging_to(log.reopen().unwrap()).await;
    let paid = node.paid(b"a film", "standard").await;
    for _ in 0..3 {
        assert_eq!(node.stream_apart(&paid).send().await.unwrap().bytes().await.unwrap(), "a film");
    }
    assert_eq!(node.charged(&paid.receipt).await, (18, 3));
    let server = node.url("");
    let cli = ["privacy", "--server", &server, "--key", ADMIN_KEY];
    let receipt = &*paid.receipt;

    let exported = lines(node.run(&[&cli[..], &["export", receipt]].concat()).await).await.remove(0);
    assert_eq!((&exported["receipt"]["receiptId"], &exported["setAside"]), (&json!(receipt), &json!([])));
    let rows = exported["usage"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["bytesSent"].as_u64().unwrap()).sum::<u64>(), 18);
    assert!(rows.iter().all(|row| row["client"].is_string()), "{rows:?}");

    let path = format!("/v1/privacy/receipts/{receipt}");
    let delete = || node.admin(Method::DELETE, &path);
    expect_problem(delete().send().await.unwrap(), 409, "receipt-in-use").await;
    expect(node.set_status(receipt, "refunded").await, &[200]).await;
    let forgotten = lines(node.run(&[&cli[..], &["delete", receipt]].concat()).await).await.remove(0);
    assert_eq!(forgotten, json!({ "receiptId": receipt, "usageRows": 3 }));

    // Nothing names it any more, and to forget it again changes nothing.
    let again = expect(delete().send().await.unwrap(), &[200]).await;
    assert_eq!(again, json!({ "usageRows": 0 }));
    for path in [path.clone(), format!("/v1/receipts/{receipt}"), format!("/v1/streaming/quotas/{receipt}")] {
        let answer = node.admin(Method::GET, &path).send().await.unwrap();
        expect_problem(answer, 404, "unknown-receipt").await;
    }
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert!(log.contains("forgotten") && !log.contains(receipt), "{log}");
    // That the accounts agree is what each test ends with.
});
