//! Backups of the database, made while it is in use, and their restore.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use penstock_actors::ids::ContentHash;
use rusqlite::{Connection, OpenFlags};

use super::{SqliteSettings, columns::get, connection};
use crate::folders;

/// One snapshot of all pages, in a file that needs no log beside it.
const COPY: &str = "VACUUM INTO ?1";

/// Reads the whole copy, once.
const CONTENTS: &str =
    "SELECT content_hash, size_bytes FROM overlay_storage_index WHERE state = 'stored' ORDER BY content_hash";

/// The content of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    pub bytes: u64,
    pub contents: u64,
    pub content_bytes: u64,
}

/// The path of the list of contents of a copy.
pub fn blob_list(copy: &Path) -> PathBuf {
    beside(copy, ".blobs")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Writes a copy of the database as of one moment, even if other processes use it meanwhile, and a list of the contents
/// in its index: one hash and size per line. Both are on the disk when it returns.
///
/// # Errors
/// When a file of this name exists, the database does not exist, or the disk is full.
pub fn back_up(settings: &SqliteSettings, copy: &Path) -> anyhow::Result<Copy> {
    let (next, list) = (beside(copy, ".next"), blob_list(copy));
    for path in [copy, &next, &list] {
        ensure!(!path.exists(), "{} exists", path.display());
    }
    // The file will hold the hashes of keys: restrict its permissions before it has any content.
    create(&next)?;
    let written = copy_to(settings, &next, &list);
    if written.is_err() {
        for path in [&next, &list] {
            // An incomplete file is of no use.
            let _ = fs::remove_file(path);
        }
    }
    let written = written?;
    fs::rename(&next, copy)?;
    folders::sync(folders::of(copy))?;
    Ok(written)
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn copy_to(settings: &SqliteSettings, next: &Path, list: &Path) -> anyhow::Result<Copy> {
    let name = next.to_str().context("the name is not UTF-8")?;
    connection::open_reader(settings).context("cannot open the database")?.execute(COPY, [name])?;
    File::open(next)?.sync_all()?;
    let conn = Connection::open_with_flags(next, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut lines = BufWriter::new(create(list)?);
    let (mut contents, mut content_bytes) = (0, 0);
    let mut select = conn.prepare(CONTENTS)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (hash, size): (ContentHash, u64) = (get(row, "content_hash")?, get(row, "size_bytes")?);
        writeln!(lines, "{hash} {size}")?;
        contents += 1;
        content_bytes += size;
    }
    lines.into_inner()?.sync_all()?;
    Ok(Copy { bytes: fs::metadata(next)?.len(), contents, content_bytes })
}

/// Puts a copy in place of the database, which must not be in use. The old database is kept beside it; returns its
/// path.
///
/// # Errors
/// When the file is not an intact database of this program. Then nothing has changed.
pub fn restore(settings: &SqliteSettings, copy: &Path) -> anyhow::Result<Option<PathBuf>> {
    check(copy)?;
    let next = beside(&settings.path, ".restoring");
    // Left by an earlier attempt.
    if next.exists() {
        fs::remove_file(&next)?;
    }
    let mut file = create(&next)?;
    std::io::copy(&mut File::open(copy)?, &mut file)?;
    file.sync_all()?;
    let last = settings.path.exists().then(|| set_aside(settings)).transpose()?;
    fs::rename(&next, &settings.path)?;
    folders::sync(folders::of(&settings.path))?;
    Ok(last)
}

fn check(copy: &Path) -> anyhow::Result<()> {
    let conn = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let sound: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    ensure!(sound == "ok", "the file is damaged: {sound}");
    if !conn.table_exists(None, "timelines")? {
        bail!("the file is not a copy that penstock backup has written");
    }
    Ok(())
}

/// Writes the log of the database into it, and renames it.
fn set_aside(settings: &SqliteSettings) -> anyhow::Result<PathBuf> {
    let conn = Connection::open(&settings.path)?;
    let busy: i64 = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    ensure!(busy == 0, "{} is in use", settings.path.display());
    conn.close().map_err(|(_, error)| error)?;
    let last = beside(&settings.path, &format!(".before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    ensure!(!last.exists(), "{} exists", last.display());
    fs::rename(&settings.path, &last)?;
    for suffix in ["-wal", "-shm"] {
        let log = beside(&settings.path, suffix);
        if log.exists() {
            fs::remove_file(log)?;
        }
    }
    Ok(last)
}
