//! The effective values with their origins: layers over the defaults, key by key.
//!
//! Each value is first tried alone against the sections, in place of its default. So every wrong value is found and
//! named in one pass, and the defaults are the only list of the keys.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use toml::{Table, Value};

use super::{
    Config,
    problem::ConfigProblem,
    secret::{MASK, mask_url, mask_urls},
    value_source::ValueSource,
};
use crate::words;

/// How many letters may be missing, added, wrong or swapped in a key that is still taken for a misspelling of another.
const SLIPS: usize = 2;

/// Keys whose value is masked.
const SECRETS: &[&str] = &[
    "server.admin_key",
    "postgres.password",
    "redis.password",
    "s3.access_key",
    "s3.secret_key",
    "delivery.signing_key",
    "receipts.token_keys",
    "payments.key",
    "payments.old_keys",
    "payments.headers_token",
];

/// Keys with a partial secret: they are shown without their passwords.
const SECRET_URLS: [&str; 2] = ["postgres.url", "redis.url"];

/// The same, with several URLs separated by commas.
const SECRET_URL_LIST: &str = "postgres.replica_urls";

/// All sections, with the origins of values that differ from the defaults.
#[derive(Clone, Default)]
pub(super) struct Effective {
    defaults: Table,
    values: Table,
    origins: BTreeMap<String, ValueSource>,
}

impl Effective {
    pub(super) fn of_defaults(defaults: Table) -> Self {
        Self { values: defaults.clone(), defaults, origins: BTreeMap::new() }
    }

    pub(super) fn table(&self) -> Table {
        self.values.clone()
    }

    /// Applies a file over the present values.
    pub(super) fn lay_file(&mut self, file: Table, origin: &ValueSource, problems: &mut Vec<ConfigProblem>) {
        for (section, value) in file {
            match value {
                Value::Table(keys) => {
                    for (key, value) in keys {
                        self.lay(&format!("{section}.{key}"), value, origin, problems);
                    }
                }
                value => self.lay(&section, value, origin, problems),
            }
        }
    }

    /// Applies a text over the present values, converted to the type that the key has in the defaults. A text of
    /// another type stays a text, and the section then refuses it with its own message.
    pub(super) fn lay_text(&mut self, key: &str, text: &str, origin: &ValueSource, problems: &mut Vec<ConfigProblem>) {
        let typed = match lookup(&self.defaults, key) {
            Some(Value::Integer(_)) => text.trim().parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.trim().parse().ok().map(Value::Boolean),
            _ => None,
        };
        self.lay(key, typed.unwrap_or_else(|| Value::String(text.to_owned())), origin, problems);
    }

    /// Sets a value that follows from another key.
    pub(super) fn imply(&mut self, key: &str, value: &str, by: &'static str) {
        if let Some(place) = lookup_mut(&mut self.values, key) {
            *place = Value::String(value.to_owned());
            self.origins.insert(key.to_owned(), ValueSource::Implied(by));
        }
    }

    fn lay(&mut self, key: &str, value: Value, origin: &ValueSource, problems: &mut Vec<ConfigProblem>) {
        let mut tried = self.defaults.clone();
        let Some(place) = lookup_mut(&mut tried, key) else {
            let (key, nearest) = (key.to_owned(), self.nearest(key));
            return problems.push(ConfigProblem::UnknownKey { key, origin: origin.clone(), nearest });
        };
        *place = value.clone();
        if let Err(refused) = Config::deserialize(tried) {
            return problems.push(ConfigProblem::Value {
                key: key.to_owned(),
                value: shown(key, &value),
                origin: origin.clone(),
                // The section's message may repeat the value.
                why: if is_secret(key) {
                    "must be a text".to_owned()
                } else {
                    words::of_fault(refused.message().trim())
                },
            });
        }
        if let Some(place) = lookup_mut(&mut self.values, key) {
            *place = value;
            self.origins.insert(key.to_owned(), origin.clone());
        }
    }

    /// The origin of a key's value.
    pub(super) fn origin(&self, key: &str) -> &ValueSource {
        self.origins.get(key).unwrap_or(&ValueSource::Default)
    }

    /// Whether this key was set.
    pub(super) fn is_given(&self, key: &str) -> bool {
        *self.origin(key) != ValueSource::Default && lookup(&self.values, key) != Some(&Value::String(String::new()))
    }

    /// The layer of a key's value; later layers are higher.
    pub(super) fn layer(&self, key: &str) -> u8 {
        match self.origin(key) {
            ValueSource::Default | ValueSource::Implied(_) => 0,
            ValueSource::File(_) => 1,
            ValueSource::Variable(_) => 2,
            ValueSource::Flag(_) => 3,
        }
    }

    /// A value as TOML, masked if it is a secret.
    pub(super) fn shown(&self, key: &str) -> String {
        lookup(&self.values, key).map(|value| shown(key, value)).unwrap_or_default()
    }

    /// Every existing key.
    fn keys(&self) -> impl Iterator<Item = String> {
        self.defaults.iter().flat_map(|(section, keys)| {
            keys.as_table().into_iter().flat_map(Table::keys).map(move |key| format!("{section}.{key}"))
        })
    }

    /// The key that was probably meant. Of a key without its section, only the last part can be compared.
    fn nearest(&self, unknown: &str) -> Option<String> {
        let slips = |known: &str| {
            let known = if unknown.contains('.') { known } else { known.rsplit('.').next().unwrap_or(known) };
            strsim::damerau_levenshtein(unknown, known)
        };
        self.keys()
            .map(|known| (slips(&known), known))
            .filter(|(slips, _)| *slips <= SLIPS)
            .min()
            .map(|(_, known)| known)
    }
}

/// As TOML, in the order of the defaults, each value with its origin.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (section, keys)) in self.values.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n" };
            writeln!(f, "{gap}[{section}]")?;
            for key in keys.as_table().into_iter().flat_map(Table::keys) {
                let dotted = format!("{section}.{key}");
                let setting = format!("{key} = {}", self.shown(&dotted));
                writeln!(f, "{setting:<40} # {}", self.origin(&dotted))?;
            }
        }
        Ok(())
    }
}

/// The values include secrets, so they are not part of the debug form.
impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effective").field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// Whether the value of a key is masked, entirely or in part.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key) || SECRET_URLS.contains(&key) || key == SECRET_URL_LIST
}

fn shown(key: &str, value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => value.to_string(),
        Value::String(url) if SECRET_URLS.contains(&key) => Value::String(mask_url(url)).to_string(),
        Value::String(urls) if key == SECRET_URL_LIST => Value::String(mask_urls(urls)).to_string(),
        _ if is_secret(key) => Value::String(MASK.to_owned()).to_string(),
        // A private key where its file should be named.
        Value::String(text) if text.contains("PRIVATE KEY-----") => Value::String(MASK.to_owned()).to_string(),
        _ => value.to_string(),
    }
}

fn lookup<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (section, key) = key.split_once('.')?;
    table.get(section)?.get(key)
}

fn lookup_mut<'t>(table: &'t mut Table, key: &str) -> Option<&'t mut Value> {
    let (section, key) = key.split_once('.')?;
    table.get_mut(section)?.get_mut(key)
}
