//! The folders that files are named in: where a name is on the disk, and when.

use std::{fs::File, io, path::Path};

/// The folder that a path names something in.
pub(crate) fn of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable; a rename alone is not.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
