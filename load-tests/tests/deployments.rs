//! The program against real servers: the comparison, and a deployment whose parts are stopped. The figures of builds for tests say nothing, so only what
//! must hold of any node is asked for.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// Runs the program with the node that was built beside it, and gives its report and what it said.
fn report(args: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let program = Path::new(env!("CARGO_BIN_EXE_penstock-load-tests"));
    let node = program.with_file_name("penstock");
    assert!(node.is_file(), "there is no {}: cargo build --bin penstock", node.display());
    let Output { stdout, stderr, .. } = Command::new(program)
        .args(args)
        .arg("--json")
        .arg(&file)
        .env("PENSTOCK", node)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("no report: {error}\n{said}"));
    (serde_json::from_str(&text).expect("JSON"), said)
}

fn list<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().map_or(&[], Vec::as_slice)
}

fn assert_kept(report: &Value, promise: &str, said: &str) {
    let checks = list(report, "checks").iter();
    let found: Vec<_> =
        checks.filter(|check| check["promise"].as_str().is_some_and(|text| text.contains(promise))).collect();
    assert!(!found.is_empty() && found.iter().all(|check| check["kept"] == true), "{promise}\n{said}");
}

#[test]
fn a_node_is_compared_with_nginx_and_with_what_asks_redis_and_postgres() {
    let (report, said) = report(&["compare", "--sizes", "4KiB", "--rounds", "2", "--seconds", "1", "--receipts", "5"]);
    let found = &report["sideBySide"];
    let servers: Vec<_> = list(found, "rows").iter().map(|row| row["who"].as_str().unwrap()).collect();
    assert_eq!(servers, ["nginx", "nginx-redis", "nginx-auth-request", "penstock"], "{said}");
    for row in list(found, "rows") {
        let rounds = list(row, "rounds");
        assert_eq!(rounds.len(), 2, "{said}");
        assert!(rounds.iter().all(|round| round["requestsPerSecond"].as_f64().unwrap() > 0.0), "{said}");
    }
    let rivals: Vec<_> = list(found, "ratios").iter().map(|ratio| ratio["rival"].as_str().unwrap()).collect();
    assert_eq!(rivals, servers[..3], "{said}");
    assert!(list(found, "ratios").iter().all(|ratio| ratio["rate"]["pairs"] == 2), "{said}");
    // Each server decided and recorded: none is fast because it did nothing.
    assert_kept(&report, "nginx+redis recorded every request", &said);
    assert_kept(&report, "nginx+auth_request recorded every request", &said);
    assert_eq!(list(&report["billing"], "differences"), [] as [Value; 0], "{said}");
    assert_kept(&report, "drains and ends well", &said);
}

/// Two instances share a receipt, with less quota than is asked for, while Redis and then one of them is gone for a while.
const CONTENDED: &str = r#"
    about = "a test"
    quota = { requests_per_month = 60 }
    receipts_per_content = 1
    contents = [{ size = "4 KiB" }]
    instances = 2
    faults = [
        { at = "500ms", stop = "redis", for = "1s" },
        { at = "2s", stop = "instance", for = "500ms", instance = 2 },
    ]
    [[phases]]
    name = "all"
    seconds = 4
    rate = 40
    may_refuse = true
    may_fail = true
    operations = [{ do = "stream" }]
"#;

#[test]
fn a_deployment_keeps_to_a_quota_and_charges_what_was_received_while_its_parts_are_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("contended.toml");
    fs::write(&scenario, CONTENDED).unwrap();
    let page = folder.path().join("page.html");
    let (report, said) = report(&["run", scenario.to_str().unwrap(), "--html", page.to_str().unwrap()]);
    let faults: Vec<_> = list(&report, "faults").iter().map(|fault| fault["what"].as_str().unwrap()).collect();
    assert_eq!(faults, ["Redis stopped", "instance 2 stopped"], "{said}");
    assert!(list(&report, "faults").iter().all(|fault| fault["to"].as_f64() > fault["from"].as_f64()), "{said}");
    assert!(report["phases"][0]["requests"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(report["phases"][0]["faults"], serde_json::json!({}), "{said}");
    assert_kept(&report, "no receipt got more than its quota", &said);
    assert_eq!(list(&report["billing"], "differences"), [] as [Value; 0], "{said}");
    assert!(fs::read_to_string(page).unwrap().contains("<td>instance 2 stopped</td>"), "{said}");
}
