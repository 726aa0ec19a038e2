//! What a mistake is told: the key, its origin, what is allowed, and all of them at once.

use penstock::config::{Config, ConfigProblem, Sources};
use proptest::prelude::*;

use crate::{
    complaints,
    words::{assert_none_of_theirs, assert_ours},
};

#[test]
fn a_wrong_value_is_reported_with_its_key_its_origin_and_what_is_allowed() {
    let told = |text: &str, variables: &[_], expected: &str| assert_eq!(complaints(text, variables), [expected]);
    told(
        "",
        &[("PENSTOCK_BIND", "localhost")],
        "server.bind = \"localhost\" (from PENSTOCK_BIND): must be an IP address and a port, such as \"0.0.0.0:8080\"",
    );
    told(
        "[server]\nkeep_alive = 75",
        &[],
        "server.keep_alive = 75 (from FILE): must be a time with its unit, such as \"500ms\", \"45s\" or \"2h\"",
    );
    told(
        "",
        &[("PENSTOCK_QUOTA__ENTRY_TTL", "45")],
        "quota.entry_ttl = \"45\" (from PENSTOCK_QUOTA__ENTRY_TTL): \
         must be a time with its unit, such as \"500ms\", \"45s\" or \"2h\"",
    );
    told(
        "",
        &[("MAX_RANGE_BYTES", "lots")],
        "streams.max_range_bytes = \"lots\" (from MAX_RANGE_BYTES): must be a size such as 1048576 or \"64MiB\"",
    );
    told(
        "",
        &[("PG_POOL_MAX", "many")],
        "postgres.pool_max = \"many\" (from PG_POOL_MAX): must be a whole number, not negative and not too large",
    );
    told(
        "[postgres]\nport = 70000",
        &[],
        "postgres.port = 70000 (from FILE): must be a whole number, not negative and not too large",
    );
    told("", &[("STORAGE_BACKEND", "tape")], "storage.backend = \"tape\" (from STORAGE_BACKEND): must be `fs` or `s3`");
    told(
        "[storage]\nverify = \"sometimes\"",
        &[],
        "storage.verify = \"sometimes\" (from FILE): must be one of `always`, `cold`, `never`",
    );
}

#[test]
fn tiers_have_folders_of_their_own() {
    let hot = "must be another folder than storage.root";
    let others = "must be another folder than storage.root and storage.warm_root";
    for (roots, expected) in [
        ("root = \"/a\"\nwarm_root = \"/a/\"", format!("storage.warm_root = \"/a/\" (from FILE): {hot}")),
        ("root = \"/a\"\ncold_root = \"/a\"", format!("storage.cold_root = \"/a\" (from FILE): {others}")),
        ("warm_root = \"data/blobs\"", format!("storage.warm_root = \"data/blobs\" (from FILE): {hot}")),
        ("warm_root = \"/b\"\ncold_root = \"/b\"", format!("storage.cold_root = \"/b\" (from FILE): {others}")),
    ] {
        let text = format!("[data]\ndir = \"./data\"\n[storage]\n{roots}");
        assert_eq!(complaints(&text, &[]), [expected]);
    }
    let text = "[storage]\nroot = \"/a\"\nwarm_root = \"/a/warm\"\ncold_root = \"/b\"";
    assert!(crate::load(text, &[]).is_ok());
}

#[test]
fn a_broken_rule_is_reported_with_the_keys_it_is_about() {
    let told = |text: &str, expected: &str| assert_eq!(complaints(text, &[]), [expected]);
    told(
        "[postgres]\npool_min = 20",
        "postgres.pool_min = 20 (from FILE): must be at most postgres.pool_max, which is 15",
    );
    told(
        "[quota]\nheartbeat = \"20s\"",
        "quota.lease_ttl = \"60s\" (from default): must be longer than 3 times quota.heartbeat, which is 20s",
    );
    told(
        "[lifecycle]\nwarm_after = \"30days\"",
        "lifecycle.warm_after = \"30days\" (from FILE): must be 0s without a warm tier (storage.warm_root or s3.bucket_warm)",
    );
    told(
        "[storage]\ncold_root = \"/cold\"\n[lifecycle]\ncold_after = \"1h\"",
        "lifecycle.cold_after = \"1h\" (from FILE): must be 0s or at least 1day, because uses are recorded by the day",
    );
    told(
        "[storage]\ncold_root = \"/cold\"\n[lifecycle]\ngrace = \"2h\"",
        "lifecycle.grace = \"2h\" (from FILE): must be shorter than janitor.temporary_age, or a sweep restores the old copy \
         that a move has retired",
    );
    told("[uploads]\nconcurrent = 0", "uploads.concurrent = 0 (from FILE): must be at least 1");
    told("[usage]\nbatch_age = \"0s\"", "usage.batch_age = \"0s\" (from FILE): must be longer than no time");
    told(
        "[usage]\nqueue_rows = 10",
        "usage.queue_rows = 10 (from FILE): must be at least usage.batch_rows, which is 1000",
    );
    told(
        "[janitor]\ntemporary_age = \"10s\"",
        "janitor.temporary_age = \"10s\" (from FILE): must be longer than uploads.idle_timeout, \
         or a sweep removes the file of an upload that only paused",
    );
    told(
        "[janitor]\nwindow_retention = \"1day\"",
        "janitor.window_retention = \"1day\" (from FILE): \
         must be at least 32days, because the current month must stay",
    );
    told(
        "[log]\nlevel = \"info,=,\"",
        "log.level = \"info,=,\" (from FILE): \
         must be error, warn, info, debug, trace, or directives such as info,penstock::http=debug",
    );
    told(
        "[postgres]\nurl = \"mysql://u:pw@db/x\"",
        "postgres.url = \"mysql://u:***@db/x\" (from FILE): \
         must be of the form postgres://user:password@host:5432/database",
    );
    told(
        "[streams]\nread_ahead = \"64KiB\"",
        "streams.read_ahead = \"64KiB\" (from FILE): must be at least 1MiB, because content is verified in slices of 1 MiB",
    );
}

#[test]
fn an_unknown_key_is_reported_with_the_most_similar_key() {
    let text = "workers = 3\n[server]\nbnd = 1\n[sever]\nbind = 1\n[zoo]\nape = 1\n[server.tls]\ncert = 1";
    assert_eq!(
        complaints(text, &[("PENSTOCK_QUOTA__SHARD", "4")]),
        [
            "workers (from FILE): there is no such key; did you mean server.workers?",
            "server.bnd (from FILE): there is no such key; did you mean server.bind?",
            "server.tls (from FILE): there is no such key",
            "sever.bind (from FILE): there is no such key; did you mean server.bind?",
            "zoo.ape (from FILE): there is no such key",
            "quota.shard (from PENSTOCK_QUOTA__SHARD): there is no such key; did you mean quota.shards?",
        ]
    );
}

#[test]
fn all_that_is_wrong_is_reported_at_once_and_nothing_that_only_follows_from_it() {
    let text = "[server]\nworkers = -1\n[postgres]\npool_max = \"x\"\npool_min = 20\n[sessions]\nentries = 0";
    let keys: Vec<_> = complaints(text, &[("PENSTOCK_BIND", "here")])
        .iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["server.workers", "postgres.pool_max", "server.bind", "sessions.entries"]);
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named_with_the_line_but_not_its_text() {
    let missing = Sources { file: Some("/nowhere/penstock.toml".into()), ..Sources::default() };
    let error = Config::load(&missing).unwrap_err().to_string();
    assert!(error.contains("/nowhere/penstock.toml: cannot be read: "), "{error}");
    let told = complaints("[server]\nadmin_key = \"hunter2\n", &[]);
    assert!(told[0].starts_with("FILE: line 2: ") && told.len() == 1, "{told:?}");
    assert!(!told[0].contains("hunter2"), "{told:?}");
}

/// Values of every type that TOML has, and texts that no parser of numbers, times or sizes takes.
const VALUES: [&str; 16] = [
    "true",
    "5",
    "-1",
    "1.5",
    "nan",
    "\"\"",
    "\"x\"",
    "\"-1\"",
    "\"1.5\"",
    "\"12 parsecs\"",
    "\"1e400\"",
    "[]",
    "[1]",
    "{}",
    "{ a = 1 }",
    "2030-01-31",
];

#[test]
fn whatever_value_a_key_has_is_reported_in_plain_words() {
    let defaults = include_str!("../../config/default.toml").parse::<toml::Table>().unwrap();
    for (section, keys) in &defaults {
        for key in keys.as_table().unwrap().keys() {
            for value in VALUES {
                let text = format!("[{section}]\n{key} = {value}");
                let file = crate::file(&text);
                let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
                let Err(error) = Config::load(&sources) else { continue };
                for problem in error.problems() {
                    if let ConfigProblem::Value { why, .. } = problem {
                        assert_ours(why, &text);
                    }
                }
            }
        }
    }
}

#[test]
fn whatever_a_file_or_a_variable_has_is_reported_in_plain_words() {
    let told = |text: &[u8], variables: &[(&str, &str)]| {
        let file = crate::file("");
        std::fs::write(file.path(), text).unwrap();
        let sources = Sources { file: Some(file.path().to_owned()), ..crate::env(variables) };
        let error = Config::load(&sources).unwrap_err().to_string().replace(&file.path().display().to_string(), "FILE");
        assert_none_of_theirs(&error, &String::from_utf8_lossy(text));
        error.lines().nth(1).unwrap().trim().to_owned()
    };
    for (text, expected) in [
        ("[server]\nbind = 127.0.0.1:1", "FILE: line 2: "),
        ("[server]\nbind = here", "FILE: line 2: a text stands in quotes"),
        ("[server]\nbind = \"a", "FILE: line 2: the quotes of the text do not close"),
        ("[server]\nbind = \"a\"\nbind = \"b\"", "FILE: line 3: the name occurs twice"),
        ("[server]\n[server]", "FILE: line 2: the name occurs twice"),
        ("[server", "FILE: line 1: a bracket does not close"),
        ("[server]\nbind", "FILE: line 2: the key has no value"),
        ("[server]\nbind =", "FILE: line 2: "),
        ("= 1", "FILE: line 1: "),
        ("a = [1 2]", "FILE: line 1: "),
        ("a = 0123", "FILE: line 1: "),
        ("a = \"\\q\"", "FILE: line 1: "),
    ] {
        let told = told(text.as_bytes(), &[]);
        assert!(told.starts_with(expected), "{text}: {told}");
    }
    assert_eq!(told(b"[log]\nlevel = \"\xff\"", &[]), "FILE: cannot be read: it is not a text in UTF-8");
    for value in
        ["", "{", "5", "[]", "{\"streaming\": -1}", "{\"streaming\": 1.5}", "{\"streaming\": \"x\"}", "streaming=1"]
    {
        for variable in ["RATE_LIMITS_JSON", "CACHE_TTLS_JSON"] {
            if !value.is_empty() {
                assert!(told(b"", &[(variable, value)]).starts_with(&format!("{variable}: ")));
            }
        }
    }
}

proptest! {
    /// The list of all keys with a piece cut out of it, and another in its place.
    #[test]
    fn a_file_with_a_slip_in_it_is_reported_in_plain_words(start in 0..20_000_usize, cut in 0..8_usize, piece in "[ -~\n]{0,4}") {
        let mut text = include_str!("../../config/default.toml").replace(|char: char| !char.is_ascii(), "-");
        let start = start.min(text.len());
        text.replace_range(start..(start + cut).min(text.len()), &piece);
        let file = crate::file(&text);
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        for problem in Config::load(&sources).err().iter().flat_map(penstock::config::ConfigError::problems) {
            match problem {
                ConfigProblem::Value { why, .. } => assert_ours(why, &piece),
                ConfigProblem::File { why, .. } | ConfigProblem::Variable { why, .. } => assert_none_of_theirs(why, &piece),
                ConfigProblem::UnknownKey { .. } => {}
            }
        }
    }
}
