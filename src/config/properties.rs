//! What holds for every configuration.

use std::io::Write as _;

use super::*;

/// A secret that the checks give to the node. It never appears in a message.
const SECRET: &str = "hunter2.0123456789.hunter2.0123456789";

/// The keys that hold it, as variables.
const HOLDERS: [(&str, &str); 6] = [
    ("PENSTOCK_ADMIN_KEY", ""),
    ("PG_PASSWORD", ""),
    ("PENSTOCK_REDIS__PASSWORD", ""),
    ("S3_SECRET_KEY", ""),
    ("DATABASE_URL", "postgres://node:"),
    ("REDIS_URL", "redis://node:"),
];

/// Starts from a file and variables, besides one secret: `holder` picks its key, and `behind` follows it in a URL. A `$` in `behind`
/// stands for the secret too.
///
/// # Panics
/// When a configuration is taken that is not valid, or a secret is shown.
pub(crate) fn check(file: &str, variables: Vec<(String, String)>, holder: usize, behind: &str) {
    let Some(path) = written(file) else { return };
    let (name, before) = HOLDERS[holder % HOLDERS.len()];
    let value = match before {
        "" => SECRET.to_owned(),
        _ if behind.contains('$') => format!("postgres://{}", behind.replace('$', SECRET)),
        _ => format!("{before}{SECRET}@{behind}"),
    };
    // Elsewhere in a URL it is not a secret.
    let url = value.parse::<tokio_postgres::Config>().ok();
    let is_password = url.is_some_and(|url| url.get_password() == Some(SECRET.as_bytes()));
    let is_secret = is_password || !behind.contains('$');
    let mut env: Vec<_> = variables.into_iter().filter(|(other, _)| other != FILE_VARIABLE && other != name).collect();
    env.push((name.to_owned(), value));
    let sources = Sources { file: Some(path.to_path_buf()), env, overrides: Vec::new() };
    let told = match Config::load(&sources) {
        Err(error) => {
            assert!(!error.problems().is_empty());
            error.to_string()
        }
        Ok(config) => {
            assert!(config.validate().is_ok());
            let masked = config.masked();
            assert!(masked.parse::<Table>().is_ok(), "{masked}");
            format!("{masked}{config:?}")
        }
    };
    assert!(!is_secret || !told.contains(SECRET), "{told}");
}

fn written(file: &str) -> Option<tempfile::TempPath> {
    let mut place = tempfile::NamedTempFile::new().ok()?;
    place.write_all(file.as_bytes()).ok()?;
    Some(place.into_temp_path())
}
