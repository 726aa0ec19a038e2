//! Folders of files, and how a file's name becomes durable.

use std::{fs::File, io, path::Path};

/// The folder that contains a path's last component.
pub(crate) fn of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable; a rename alone is not.
pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
