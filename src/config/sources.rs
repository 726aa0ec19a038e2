//! The sources of values: a file, the environment, the command line; and the names of keys in the environment.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{effective::is_secret, problem::ConfigProblem};
use crate::words;

/// The sources of a configuration besides the defaults. The environment is an argument, so that tests need not set it.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The operator's file. `None`: the file that `PENSTOCK_CONFIG` names, if it is set.
    pub file: Option<PathBuf>,
    /// Names and values. Variables of other programs are ignored.
    pub env: Vec<(String, String)>,
    /// Flags of the command line.
    pub overrides: Vec<Override>,
}

impl Sources {
    /// The environment of this process. Bytes that are not UTF-8 are replaced, so that their key is refused.
    pub fn from_process() -> Self {
        let env = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Self { env, ..Self::default() }
    }
}

/// A key that a command-line flag sets.
#[derive(Debug, Clone)]
pub struct Override {
    /// The user's name for it: `--bind`.
    pub flag: &'static str,
    /// The dotted key: `server.bind`.
    pub key: &'static str,
    pub value: String,
}

/// The variable that names the operator's file.
pub(super) const FILE_VARIABLE: &str = "PENSTOCK_CONFIG";

/// Short names, and the keys that they set.
const NAMES: &[(&str, &str)] = &[
    ("PENSTOCK_ADMIN_KEY", "server.admin_key"),
    ("PENSTOCK_PAYMENTS_KEY", "payments.key"),
    ("PENSTOCK_BIND", "server.bind"),
    ("PENSTOCK_DATA_DIR", "data.dir"),
    ("DATABASE_URL", "postgres.url"),
    ("PG_HOST", "postgres.host"),
    ("PG_PORT", "postgres.port"),
    ("PG_DATABASE", "postgres.database"),
    ("PG_USER", "postgres.user"),
    ("PG_PASSWORD", "postgres.password"),
    ("PG_TLS", "postgres.tls"),
    ("PG_CA_FILE", "postgres.ca_file"),
    ("PG_REPLICA_URLS", "postgres.replica_urls"),
    ("PG_POOL_MIN", "postgres.pool_min"),
    ("PG_POOL_MAX", "postgres.pool_max"),
    ("REDIS_URL", "redis.url"),
    ("REDIS_CLUSTER_NODES", "redis.cluster_nodes"),
    ("RATE_LIMIT_BACKEND", "rate_limits.backend"),
    ("RATE_LIMIT_KEY_PREFIX", "rate_limits.key_prefix"),
    ("STORAGE_BACKEND", "storage.backend"),
    ("DATA_ROOT", "storage.root"),
    ("S3_CLIENT", "s3.client"),
    ("S3_ENDPOINT", "s3.endpoint"),
    ("S3_REGION", "s3.region"),
    ("S3_BUCKET_HOT", "s3.bucket_hot"),
    ("S3_BUCKET_WARM", "s3.bucket_warm"),
    ("S3_BUCKET_COLD", "s3.bucket_cold"),
    ("S3_ACCESS_KEY", "s3.access_key"),
    ("S3_SECRET_KEY", "s3.secret_key"),
    ("MAX_RANGE_BYTES", "streams.max_range_bytes"),
    ("DATA_DELIVERY_MODE", "delivery.mode"),
    ("DATA_DELIVERY_TIER", "delivery.tier"),
    ("PRESIGN_TTL_SEC", "delivery.url_ttl"),
];

/// Short names that set several keys of a section at once, as a JSON object of whole numbers.
const JSON_NAMES: [(&str, &str); 1] = [("RATE_LIMITS_JSON", "rate_limits")];

/// The end of the names that exist for every secret: the variable names a file that holds it. Orchestrators mount secrets
/// as files, which other processes and crash reports do not show.
const OF_FILE: &str = "_FILE";

/// The prefix of the names that exist for every key, `PENSTOCK_SECTION__KEY`. Names without the double underscore are
/// ignored: orchestrators define some of their own for a service called penstock, such as `PENSTOCK_SERVICE_HOST`.
const PREFIX: &str = "PENSTOCK_";

/// The variables that set keys, as (name, dotted key, value), in an order in which later ones override earlier ones:
/// general names over short ones, otherwise by name, so that the order of the environment does not matter.
pub(super) fn settings_in<'e>(
    env: &'e [(String, String)],
    problems: &mut Vec<ConfigProblem>,
) -> Vec<(&'e str, String, Cow<'e, str>)> {
    let mut found = Vec::new();
    for (name, value) in env.iter().filter(|(name, value)| !value.is_empty() && !is_service_link(name, value)) {
        if let Some((plain, is_general, key)) = secret_in_file(name) {
            let is_twice = env.iter().any(|(other, value)| other == plain && !value.is_empty());
            let secret =
                if is_twice { Err(format!("must not be given beside {plain}")) } else { secret(value.as_ref()) };
            match secret {
                Ok(secret) => found.push((is_general, name.as_str(), key, secret.into())),
                Err(why) => problems.push(ConfigProblem::Variable { name: name.clone(), why }),
            }
        } else if let Some((is_general, key)) = key_of(name) {
            found.push((is_general, name.as_str(), key, Cow::Borrowed(value.as_str())));
        } else if let Some((_, section)) = JSON_NAMES.iter().find(|(known, _)| known == name) {
            match numbers_in(value) {
                Ok(numbers) => found.extend(numbers.into_iter().map(|(key, number)| {
                    (false, name.as_str(), format!("{section}.{key}"), number.to_string().into())
                })),
                Err(why) => problems.push(ConfigProblem::Variable { name: name.clone(), why }),
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, name, key, value)| (name, key, value)).collect()
}

/// Kubernetes and Docker tell containers the address of each service in variables such as `PG_PORT=tcp://10.0.0.1:5432`
/// for a service called pg, even if the container does not use it. A port of ours is never written like that.
fn is_service_link(name: &str, value: &str) -> bool {
    name.ends_with("_PORT") && value.contains("://")
}

fn numbers_in(json: &str) -> Result<BTreeMap<String, u64>, String> {
    serde_json::from_str(json).map_err(|_| {
        "must be a JSON object of whole numbers that are not negative, such as {\"streaming\": 600}".to_owned()
    })
}

/// Whether a name is a general one, and the key that it sets.
fn key_of(name: &str) -> Option<(bool, String)> {
    if let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|name| name.split_once("__")) {
        return Some((true, format!("{section}.{key}").to_ascii_lowercase()));
    }
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, key)| (false, (*key).to_owned()))
}

/// For the name of a file with a secret: the name of the secret itself, and its key as in [`key_of`].
fn secret_in_file(name: &str) -> Option<(&str, bool, String)> {
    let plain = name.strip_suffix(OF_FILE)?;
    let (is_general, key) = key_of(plain)?;
    is_secret(&key).then_some((plain, is_general, key))
}

/// The text of the file, without the line end that editors add.
fn secret(path: &Path) -> Result<String, String> {
    let text = words::text_of(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(secret.to_owned()) }
}
