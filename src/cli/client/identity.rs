//! `penstock identity`: makes an identity key if there is none, and prints its public key.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use penstock_actors::model::IdentityKey;

use crate::signatures::Signer;

/// The key.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// The file of the private key: 64 hexadecimal characters
    pub file: PathBuf,
}

/// Makes the key unless it exists; returns its public key.
///
/// # Errors
/// When the file cannot be read or written, or does not hold a key.
pub fn identity(args: &IdentityArgs) -> anyhow::Result<IdentityKey> {
    make(&args.file).with_context(|| format!("cannot write {}", args.file.display()))?;
    let signer = Signer::from_file(&args.file).with_context(|| format!("no key in {}", args.file.display()))?;
    Ok(signer.identity())
}

/// Writes a new key that only its owner may read. An existing file is left unchanged.
fn make(path: &Path) -> anyhow::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    };
    let mut bytes = [0_u8; 32];
    loop {
        getrandom::fill(&mut bytes).context("the system provides no random bytes")?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // All but about one of 2^128 numbers are valid keys.
        if Signer::from_hex(&text).is_some() {
            writeln!(file, "{text}")?;
            return file.sync_all().map_err(Into::into);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let args = IdentityArgs { file: folder.path().join("identity.key") };
        let made = identity(&args).unwrap();
        assert_eq!(identity(&args).unwrap(), made, "it is not made again");
        let mode = std::fs::metadata(&args.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&args.file, "no key").unwrap();
        assert!(identity(&args).is_err());
        assert_eq!(std::fs::read_to_string(&args.file).unwrap(), "no key", "what is there is never overwritten");
    }
}
