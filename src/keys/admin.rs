//! The first admin key: the operator's own, or one that is generated at the first start and kept in the data folder.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use penstock_actors::{
    clock::to_micros,
    ids::{KeyId, ProducerId},
    model::{ApiKey, NewProducer, Role},
    ports::ApiKeys,
};
use uuid::Uuid;

use super::{SecretHash, generate, hash};
use crate::words;

/// The admin, as a producer. It and its first key, the one from the configuration, have the same ids on every node and
/// database, so that a start finds what an earlier start created.
pub const ADMIN: ProducerId = ProducerId::from_uuid(Uuid::from_u128(1));
pub const ADMIN_KEY: KeyId = KeyId::from_uuid(Uuid::from_u128(1));

/// The file in the data folder that holds a generated key.
const FILE: &str = "admin-key";

/// The result of [`ensure_admin`].
pub struct AdminKey {
    /// The secret, if this start generated it: to be shown to the operator once.
    pub secret: Option<String>,
    /// The file of a generated key; it does not exist while the operator gives the key.
    pub path: PathBuf,
}

/// Ensures that an admin has access: with the configured secret, whose hash replaces the stored one when it has
/// changed; otherwise with the secret in `data_dir`, which is generated if there is none.
///
/// A key that another instance put into the catalogue is replaced by a configured one only: an instance that merely
/// found no file of its own must not lock out the others.
///
/// # Errors
/// When the configured secret is not valid in a header, the file cannot be read or written, or the catalogue does not
/// answer.
pub async fn ensure_admin(
    api_keys: &dyn ApiKeys,
    configured: Option<&str>,
    data_dir: &Path,
) -> anyhow::Result<AdminKey> {
    let path = data_dir.join(FILE);
    if let Some(secret) = configured {
        check_configured(secret)?;
        if !enrol(api_keys, hash(secret)).await? {
            let replaced = api_keys.replace_key_secret(ADMIN_KEY, &hash(secret)).await;
            ensure!(replaced.context("cannot replace the admin key")?, "the catalogue has no admin key to replace");
            tracing::info!("the admin key was replaced by the configured one");
        }
        return Ok(AdminKey { secret: None, path });
    }
    let (secret, made) = match read(&path)? {
        Some(secret) => (secret, false),
        None => (make(&path)?, true),
    };
    if enrol(api_keys, hash(&secret)).await? {
        return Ok(AdminKey { secret: made.then_some(secret), path });
    }
    if made {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    tracing::warn!(
        file = %path.display(),
        "the catalogue has another admin key than this data folder; set PENSTOCK_ADMIN_KEY to replace it"
    );
    Ok(AdminKey { secret: None, path })
}

/// Creates the admin with this key unless there is one; returns whether the key is now the admin's.
async fn enrol(api_keys: &dyn ApiKeys, secret_hash: SecretHash) -> anyhow::Result<bool> {
    let key = ApiKey { key_id: ADMIN_KEY, producer_id: ADMIN, role: Role::Admin, secret_hash, ends_in: None };
    let admin = NewProducer { name: "admin".into(), key, created_at: to_micros(Timestamp::now()) };
    let made = api_keys.create_producer(&admin).await;
    let found = api_keys.key(&secret_hash).await.context("cannot look up the admin key")?;
    if found.is_some_and(|key| key.key_id == ADMIN_KEY) {
        // By this instance or, if creating it failed, by one that started at the same moment.
        return Ok(true);
    }
    made.context("cannot make the admin")?;
    Ok(false)
}

/// A secret must pass through an `Authorization` header unchanged.
fn check_configured(secret: &str) -> anyhow::Result<()> {
    if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        bail!("the admin key must be visible ASCII characters without spaces");
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match words::text_of(path) {
        Ok(text) => {
            let secret = text.trim();
            check_configured(secret).with_context(|| format!("{} does not hold a key", path.display()))?;
            Ok(Some(secret.to_owned()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a new secret to a file that only its owner may read, before the catalogue gets its hash: a crash in between
/// leaves a file that the next start uses, never a key with an unknown secret.
fn make(path: &Path) -> anyhow::Result<String> {
    let secret = generate().context("the system provides no random bytes")?.text;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{secret}")?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret)
}
