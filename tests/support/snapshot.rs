//! The schema in force, kept in the repository: a test compares it with what the migrations make.

use std::{fs, path::Path};

/// Compares a schema with its snapshot in `migrations/schema`. With `UPDATE_SCHEMA=1` in the environment it writes the snapshot
/// instead.
///
/// # Panics
/// When the two differ; the message says how to renew the snapshot.
pub(crate) fn assert_schema(database: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("migrations/schema/{database}.sql"));
    if std::env::var_os("UPDATE_SCHEMA").is_some_and(|value| value == "1") {
        fs::write(&path, actual).expect("the snapshot is written");
        return;
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept == actual {
        return;
    }
    let differs = kept.lines().zip(actual.lines()).take_while(|(kept, made)| kept == made).count();
    panic!(
        "{} is not what the migrations make, from line {}: `{}` there, `{}` made. Renew it, and commit it with the migration: \
         UPDATE_SCHEMA=1 ./test --test {database} -E 'test(schema_in_force)'",
        path.display(),
        differs + 1,
        kept.lines().nth(differs).unwrap_or_default(),
        actual.lines().nth(differs).unwrap_or_default(),
    );
}
