//! A file that is removed unless it is moved into place.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use penstock_actors::ports::PortResult;

use super::error::fault;

/// A file in `tmp/` that is removed when this is dropped, unless it was moved into place.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    in_place: bool,
}

impl Temporary {
    pub(super) fn create(path: PathBuf) -> PortResult<(Self, File)> {
        let file = File::options().write(true).create_new(true).open(&path).map_err(fault("create", &path))?;
        Ok((Self { path, in_place: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file another name in `tmp/`.
    pub(super) fn rename(&mut self, to: PathBuf) -> PortResult<()> {
        fs::rename(&self.path, &to).map_err(fault("rename", &self.path))?;
        self.path = to;
        Ok(())
    }

    /// Moves the file into place. It replaces an existing file atomically.
    pub(super) fn put(mut self, place: &Path) -> PortResult<()> {
        fs::rename(&self.path, place).map_err(fault("put in place", place))?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.in_place
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file cannot be removed; the next sweep removes it");
        }
    }
}
