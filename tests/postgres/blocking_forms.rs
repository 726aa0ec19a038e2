//! New migrations have none of the forms that are known to block reads or writes of a large table, or to break the builds before.

use std::{collections::BTreeSet, fs, path::Path};

/// The last migration that was released before this test. Those up to it were measured ([`online_migrations`](crate::online_migrations)).
const RELEASED: u32 = 48;

/// Tables that have few rows in any installation: hundreds, at most thousands.
const SMALL: [&str; 15] = [
    "API_KEYS",
    "INSTALLATION",
    "INSTALLATION_STORES",
    "LEDGER_CLOCK",
    "LINEAGE_EMISSION",
    "POLICIES",
    "PRODUCER_IDENTITIES",
    "PRODUCERS",
    "QUOTA_POLICIES",
    "RESUMABLE_UPLOADS",
    "SCHEMA_FLOOR",
    "STORAGE_TASKS",
    "TASK_LEASES",
    "TIMELINES",
    "USAGE_SET_ASIDE",
];

/// The statements that run when a migration is applied, in upper case: without comments, texts and bodies of functions.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let mut outside = String::new();
    for (number, part) in code.split("$$").enumerate() {
        let is_body = number % 2 == 1;
        let is_run = outside.trim_end().to_uppercase().ends_with("DO");
        if !is_body {
            outside.push_str(part);
        } else if is_run {
            outside.push(';');
            outside.push_str(part);
        }
    }
    let without_texts: String = outside.split('\'').step_by(2).collect::<Vec<_>>().join("''");
    let words = |statement: &str| {
        let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase();
        statement.strip_prefix("BEGIN ").map(str::to_owned).unwrap_or(statement)
    };
    without_texts.split(';').map(words).filter(|statement| !statement.is_empty()).collect()
}

/// The name at the beginning of what follows a phrase.
fn name_after<'a>(statement: &'a str, phrase: &str) -> Option<&'a str> {
    let rest = statement.split_once(phrase)?.1;
    let mut words = rest.split([' ', '(', ',']).filter(|word| !word.is_empty());
    words.find(|word| !["IF", "NOT", "EXISTS", "ONLY"].contains(word))
}

/// Whether a default is computed by a function, which would write each row; the time of the transaction is one for all.
fn has_computed_default(statement: &str) -> bool {
    let defaults = statement.split(" DEFAULT ").skip(1).filter_map(|rest| rest.split([' ', ',']).next());
    defaults.filter(|value| value.contains('(')).any(|value| !["NOW()", "TRANSACTION_TIMESTAMP()"].contains(&value))
}

/// Why a statement may block others for long, or breaks earlier builds; `created` are the tables of the same migration.
fn fault(statement: &str, created: &BTreeSet<String>) -> Option<&'static str> {
    let is_large = |name: Option<&str>| name.is_some_and(|name| !created.contains(name) && !SMALL.contains(&name));
    if statement.starts_with("CREATE INDEX") || statement.starts_with("CREATE UNIQUE INDEX") {
        return is_large(name_after(statement, " ON "))
            .then_some("an index blocks all writes while it is built: make it concurrently, outside of the start");
    }
    if let Some(altered) = statement.starts_with("ALTER TABLE").then(|| name_after(statement, "ALTER TABLE ")) {
        if ["RENAME", "DROP COLUMN"].iter().any(|form| statement.contains(form))
            && !altered.is_some_and(|name| created.contains(name))
        {
            return Some("earlier builds use the name: take it away in a later release");
        }
        if !is_large(altered) {
            return None;
        }
        let adds = |form: &str| statement.contains(form);
        if adds("ADD COLUMN")
            && [" CHECK", " REFERENCES ", " UNIQUE", " PRIMARY KEY", " GENERATED "].into_iter().any(adds)
        {
            return Some(
                "a column with a constraint has each row read under a lock that blocks all: add the constraint NOT VALID, by itself",
            );
        }
        if ["ADD CONSTRAINT", "ADD CHECK", "ADD FOREIGN KEY", "ADD PRIMARY KEY", "ADD UNIQUE", "ADD EXCLUDE"]
            .into_iter()
            .any(adds)
            && !adds("NOT VALID")
            && !adds("USING INDEX")
        {
            return Some("a constraint has each row read under a lock: add it NOT VALID");
        }
        if adds("ADD COLUMN") && has_computed_default(statement) {
            return Some("a default that is computed for each row rewrites the table: use a constant");
        }
        if [
            " TYPE ",
            "SET NOT NULL",
            "VALIDATE CONSTRAINT",
            "SET LOGGED",
            "SET UNLOGGED",
            "SET TABLESPACE",
            "ATTACH PARTITION",
        ]
        .into_iter()
        .any(adds)
        {
            return Some("it reads or writes each row under a lock");
        }
        return None;
    }
    let of_each_row =
        [("UPDATE ", "UPDATE "), ("DELETE ", "DELETE FROM "), ("TRUNCATE ", "TRUNCATE "), ("LOCK ", "LOCK TABLE ")];
    if of_each_row.iter().any(|(form, phrase)| statement.starts_with(form) && is_large(name_after(statement, phrase))) {
        return Some("what every row needs is left to a function that takes some rows at a time");
    }
    if statement.starts_with("DROP TABLE") || statement.starts_with("DROP VIEW") {
        return Some("earlier builds use it: take it away in a later release");
    }
    ["CLUSTER", "VACUUM", "REINDEX", "REFRESH "]
        .iter()
        .any(|form| statement.starts_with(form))
        .then_some("it blocks a table for as long as it takes")
}

fn faults(sql: &str) -> Vec<String> {
    let statements = statements(sql);
    let created: BTreeSet<String> =
        statements.iter().filter_map(|statement| name_after(statement, "CREATE TABLE ")).map(str::to_owned).collect();
    let found = statements.iter().filter_map(|statement| Some((fault(statement, &created)?, statement)));
    found.map(|(fault, statement)| format!("{fault}: {statement}")).collect()
}

#[test]
fn new_migrations_have_none_of_the_forms_that_block() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    for entry in fs::read_dir(folder).expect("the migrations") {
        let file = entry.expect("a file");
        let name = file.file_name().into_string().expect("text");
        let version: u32 =
            name.trim_start_matches('V').split("__").next().and_then(|text| text.parse().ok()).expect("a version");
        if version > RELEASED {
            let found = faults(&fs::read_to_string(file.path()).expect("text"));
            assert!(found.is_empty(), "{name}: {found:#?}");
        }
    }
}

#[test]
fn forms_that_block_are_found() {
    for sql in [
        "CREATE INDEX by_time ON overlay_receipts (expires_at);",
        "CREATE UNIQUE INDEX ON assets (name)",
        "ALTER TABLE overlay_receipts ADD COLUMN was text CHECK (was IN ('a', 'b'));",
        "ALTER TABLE ONLY assets ADD COLUMN of uuid REFERENCES producers",
        "ALTER TABLE assets ADD COLUMN at timestamptz NOT NULL DEFAULT clock_timestamp()",
        "alter table prices add constraint positive check (satoshis > 0);",
        "ALTER TABLE prices ALTER COLUMN satoshis TYPE numeric",
        "ALTER TABLE assets ALTER COLUMN dataset_id SET NOT NULL;",
        "ALTER TABLE api_keys RENAME TO keys; ",
        "ALTER TABLE assets DROP COLUMN description",
        "-- A comment; with a semicolon.\nUPDATE overlay_receipts SET status = 'expired';",
        "DO $$\nBEGIN\n    DELETE FROM streaming_usage;\nEND\n$$;",
        "DROP TABLE change_log",
        "VACUUM FULL assets",
    ] {
        assert_eq!(faults(sql).len(), 1, "{sql}");
    }
}

#[test]
fn forms_that_block_nobody_for_long_are_not() {
    for sql in [
        "CREATE TABLE marks (mark bytea PRIMARY KEY CHECK (octet_length(mark) = 32)); CREATE INDEX marks_all ON marks (mark);",
        "ALTER TABLE streaming_usage ADD COLUMN client bytea; ALTER TABLE streaming_usage ADD COLUMN more bigint NOT NULL DEFAULT 0",
        "ALTER TABLE assets ADD COLUMN at timestamptz NOT NULL DEFAULT now()",
        "ALTER TABLE prices ADD CONSTRAINT positive CHECK (satoshis > 0) NOT VALID",
        "ALTER TABLE api_keys ADD COLUMN mark bytea CHECK (octet_length(mark) = 32); CREATE INDEX ON api_keys (mark)",
        "COMMENT ON TABLE assets IS 'UPDATE assets; DROP TABLE assets';",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE assets SET name = ''; DELETE FROM prices; END $$;",
        "UPDATE schema_floor SET least_version = 60",
        "CREATE TRIGGER told AFTER UPDATE ON assets FOR EACH ROW EXECUTE FUNCTION f()",
    ] {
        assert_eq!(faults(sql), Vec::<String>::new(), "{sql}");
    }
}
