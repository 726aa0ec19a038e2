//! The schema in force, as `pg_dump` writes it after all migrations.

use std::process::Command;

use crate::{cluster::program, snapshot::assert_schema, support::TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_in_force_is_the_one_in_the_repository() {
    let database = TestDatabase::migrated().await;
    let output = Command::new(program("pg_dump"))
        .args(["--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces"])
        // Partitions are named after the month or the day for which they are made.
        .args(["--exclude-table", "streaming_usage_2*", "--exclude-table", "lineage_events_2*"])
        .args(["--dbname", &database.url()])
        .output()
        .expect("pg_dump comes with the server");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_schema("postgres", &normalised(&String::from_utf8(output.stdout).expect("a dump is text")));
}

/// Without what depends on the server's and the tool's version: settings of the session, comments of the tool, blank lines.
fn normalised(dump: &str) -> String {
    let is_setting = |line: &str| line.starts_with("SET ") || line.starts_with("SELECT pg_catalog.set_config");
    let of_tool = |line: &str| line.starts_with("--") || line.starts_with("\\") || is_setting(line);
    let mut schema = String::new();
    for line in dump.lines().filter(|line| !of_tool(line)) {
        if !(line.is_empty() && (schema.is_empty() || schema.ends_with("\n\n"))) {
            schema.push_str(line);
            schema.push('\n');
        }
    }
    schema.truncate(schema.trim_end().len());
    schema + "\n"
}
