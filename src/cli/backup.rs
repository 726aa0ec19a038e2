//! `penstock backup FILE`: a consistent copy of the SQLite database, made while the node runs, and a list of the
//! content in its index.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::{Settings, print};
use crate::{
    adapters::sqlite,
    config::{Config, DatabaseBackend},
    wiring,
};

/// The advice when the database is a server.
pub(super) const POSTGRES: &str = "the database is PostgreSQL, which has tools of its own: write copies with pg_dump -Fc or \
    pg_basebackup, restore with pg_restore, and then run penstock restore-done (docs/operations.md, Backup and restore)";

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not exist yet. The list of content goes to FILE.blobs
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,

    #[command(flatten)]
    pub(super) settings: Settings,
}

pub(super) fn run(config: &Config, file: &Path) -> anyhow::Result<ExitCode> {
    if config.database.backend != DatabaseBackend::Sqlite {
        bail!(POSTGRES);
    }
    let copy = sqlite::back_up(&wiring::sqlite_settings(config), file)
        .with_context(|| format!("cannot write a copy to {}", file.display()))?;
    print(&format!(
        "{} bytes in {}; {} contents of {} bytes are listed in {}",
        copy.bytes,
        file.display(),
        copy.contents,
        copy.content_bytes,
        sqlite::blob_list(file).display()
    ))
}
