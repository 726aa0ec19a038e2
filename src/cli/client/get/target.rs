//! Interprets the name of an output.
//!
//! A regular file, or a free name, is replaced by another file once its bytes are complete. An existing file that is
//! not regular (a device, a pipe, a terminal) is written into, and links are followed, as `curl -o` and `wget -O` do:
//! replacing one of these would destroy it. Everything that can be known about the output is checked before the first
//! request, because the bytes that the node sends are charged.

use std::{
    fs::{self, File, Metadata},
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::folders;

/// Links that are followed before they count as a cycle: the system's own limit.
const MOST_LINKS: usize = 40;

/// The destination of the bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OutputTarget {
    StandardOutput,
    /// A file to write into.
    Stream(PathBuf),
    /// A file to create or replace; no link leads to it.
    File(PathBuf),
}

impl OutputTarget {
    /// Examines what exists at the output.
    pub(super) fn of(output: &Path) -> anyhow::Result<Self> {
        if output.as_os_str() == "-" {
            return Ok(Self::StandardOutput);
        }
        let cannot_write = || format!("cannot write {}", output.display());
        let path = match follow(output).with_context(cannot_write)? {
            Self::File(path) => path,
            descriptor => return Ok(descriptor),
        };
        let standing = match fs::metadata(&path) {
            Ok(standing) => standing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::File(path)),
            Err(error) => return Err(error).with_context(cannot_write),
        };
        if standing.is_dir() {
            bail!("{} is a folder, not a file", output.display());
        }
        if !standing.is_file() {
            return Ok(Self::Stream(path));
        }
        may_be_written(&path).with_context(cannot_write)?;
        Ok(Self::File(path))
    }
}

/// The end of a chain of links, which may not exist.
fn follow(output: &Path) -> anyhow::Result<OutputTarget> {
    if output.as_os_str().as_bytes().ends_with(b"/") {
        bail!("{} is a folder, not a file", output.display());
    }
    let mut path = output.to_owned();
    for _ in 0..MOST_LINKS {
        if let Some(descriptor) = open_descriptor(&path) {
            return Ok(descriptor);
        }
        match fs::read_link(&path) {
            Ok(next) => path = folders::of(&path).join(next),
            // It is not a link, or it does not exist.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(OutputTarget::File(path));
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("there are too many links")
}

/// `/dev/stdout`, `/dev/fd/63` and the like refer to an open file of a process: whatever it is, it is written into.
fn open_descriptor(path: &Path) -> Option<OutputTarget> {
    let folder = folders::of(path).canonicalize().ok()?;
    if !(folder.starts_with("/proc") && folder.ends_with("fd")) {
        return None;
    }
    let own = Path::new("/proc/self/fd").canonicalize().is_ok_and(|own| own == folder);
    let is_standard_output = own && path.file_name().is_some_and(|name| name == "1");
    Some(if is_standard_output { OutputTarget::StandardOutput } else { OutputTarget::Stream(path.to_owned()) })
}

/// A write-protected file is not replaced.
fn may_be_written(path: &Path) -> std::io::Result<()> {
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(error),
        // A program that is being executed can still be replaced by another file.
        _ => Ok(()),
    }
}

/// The metadata of an existing regular file at the target.
pub(super) fn standing(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_their_end_whether_it_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("other")).unwrap();
        symlink("other/second", at("first")).unwrap();
        symlink("third", at("other/second")).unwrap();
        assert_eq!(OutputTarget::of(&at("first")).unwrap(), OutputTarget::File(at("other/third")));
        fs::write(at("other/third"), "old").unwrap();
        assert_eq!(OutputTarget::of(&at("first")).unwrap(), OutputTarget::File(at("other/third")));

        symlink("circle", at("circle")).unwrap();
        let end = OutputTarget::of(&at("circle")).unwrap_err();
        assert!(format!("{end:#}").ends_with("there are too many links"), "{end:#}");
    }

    #[test]
    fn what_is_no_regular_file_is_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("nothing");
        symlink("/dev/null", &link).unwrap();
        assert_eq!(OutputTarget::of(&link).unwrap(), OutputTarget::Stream("/dev/null".into()));
        assert_eq!(OutputTarget::of(Path::new("/dev/stdout")).unwrap(), OutputTarget::StandardOutput);
        assert_eq!(OutputTarget::of(Path::new("/dev/fd/1")).unwrap(), OutputTarget::StandardOutput);
        assert!(matches!(OutputTarget::of(Path::new("/dev/stderr")).unwrap(), OutputTarget::Stream(_)));
        assert_eq!(OutputTarget::of(Path::new("-")).unwrap(), OutputTarget::StandardOutput);
    }

    #[test]
    fn what_can_never_be_written_is_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, long) = (folder.path().join("file"), folder.path().join("n".repeat(300)));
        fs::write(&file, "a file").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o444)).unwrap();
        assert_eq!(OutputTarget::of(&file).is_err(), !nix::unistd::geteuid().is_root(), "only root may write it");
        for output in [folder.path().to_owned(), folder.path().join("new/"), file.join("below"), long] {
            assert!(OutputTarget::of(&output).is_err(), "{}", output.display());
        }
    }
}
