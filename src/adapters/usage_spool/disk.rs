//! The folder of a spool, behind a trait: tests run the spool on a disk that tears writes, fills up and fails.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::folders;

/// A file whose room was taken when it was made.
pub(super) trait SpoolFile: Send + Sync {
    /// Writes all bytes. They outlive the process from then on.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Makes what was written outlive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// A folder of small files.
pub(super) trait SpoolDisk: Send + Sync {
    fn names(&self) -> io::Result<Vec<String>>;

    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Makes what an earlier process wrote to a file outlive a power cut.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// A new file of `size` zeros, with room for them.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn SpoolFile>>;

    /// Removes a file; a missing file is no error.
    fn remove(&self, name: &str) -> io::Result<()>;

    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names of files outlive a power cut.
    fn sync_names(&self) -> io::Result<()>;
}

/// A folder of the file system.
pub(super) struct RealDisk(PathBuf);

impl RealDisk {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self(folder.to_owned()))
    }
}

impl SpoolFile for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl SpoolDisk for RealDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        Ok(names.collect::<io::Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        File::open(self.0.join(name))?.sync_data()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn SpoolFile>> {
        let path = self.0.join(name);
        let file = File::options().create_new(true).write(true).mode(0o600).open(&path)?;
        if let Err(error) = allocate(&file, size) {
            // Without its room it is of no use; a later start removes what cannot be removed now.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        folders::sync(&self.0)
    }
}

/// Takes the room of a file, so that a disk that is full shows now and not at a later write.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use nix::{errno::Errno, fcntl::posix_fallocate};

        match posix_fallocate(file, 0, i64::try_from(size).map_err(io::Error::other)?) {
            // A file system that cannot reserve room: zeros take it.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
            reserved => return reserved.map_err(io::Error::from),
        }
    }
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut at = 0;
    while at < size {
        let count = (size - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..count as usize], at)?;
        at += count;
    }
    Ok(())
}
