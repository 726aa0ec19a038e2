//! A disk for tests: it keeps apart what a kill leaves from what a power cut leaves, tears writes, fills up and fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use penstock_actors::testkit::dice::Dice;

use super::disk::{SpoolDisk, SpoolFile};

/// Smaller than that of a real disk, so that a segment has several.
const PAGE: usize = 256;

#[derive(Debug, Clone, Default)]
struct FileState {
    /// What the kernel has taken.
    written: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Default)]
struct DiskState {
    files: BTreeMap<String, FileState>,
    /// Names that outlive a power cut.
    durable: BTreeSet<String>,
    /// Files that were removed since the names were synced, in this order.
    removed: Vec<(String, FileState)>,
    /// Bytes for which there is room.
    room: Option<u64>,
    fails: bool,
    syncs_fail: bool,
    removals_fail: bool,
    /// The next write is cut off after this many bytes, and the process with it.
    tear: Option<usize>,
}

/// A disk that outlives the spools of a test.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedDisk(Arc<Mutex<DiskState>>);

struct SimulatedFile {
    disk: SimulatedDisk,
    name: String,
}

fn failure() -> io::Error {
    io::Error::other("the disk failed")
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_room(&self, room: Option<u64>) {
        self.state().room = room;
    }

    pub(super) fn set_failing(&self, fails: bool) {
        self.state().fails = fails;
    }

    pub(super) fn set_syncs_failing(&self, fails: bool) {
        self.state().syncs_fail = fails;
    }

    pub(super) fn set_removals_failing(&self, fails: bool) {
        self.state().removals_fail = fails;
    }

    /// From now on nothing fails, and there is room.
    pub(super) fn mend(&self) {
        let mut state = self.state();
        (state.fails, state.syncs_fail, state.removals_fail) = (false, false, false);
        (state.room, state.tear) = (None, None);
    }

    /// The process is killed within its next write, after this many bytes of it.
    pub(super) fn tear_next_write(&self, after: usize) {
        self.state().tear = Some(after);
    }

    /// Files whose names end so.
    pub(super) fn count(&self, suffix: &str) -> usize {
        self.state().files.keys().filter(|name| name.ends_with(suffix)).count()
    }

    /// Changes a byte of the first file whose name ends so.
    pub(super) fn damage(&self, suffix: &str, at: usize) {
        let mut state = self.state();
        let (_, file) = state.files.iter_mut().find(|(name, _)| name.ends_with(suffix)).expect("a file");
        file.written[at] ^= 1;
    }

    /// The power is cut: of what was not synced, each page is there or not, as the disk pleases.
    pub(super) fn cut_power(&self, dice: &mut Dice) {
        let mut state = self.state();
        // A file system journals its names, so the removals that come undone are the last ones.
        let removed = std::mem::take(&mut state.removed);
        let undone = dice.roll(removed.len() as u64 + 1) as usize;
        let mut names: BTreeMap<_, _> = removed.into_iter().rev().take(undone).collect();
        for (name, file) in &state.files {
            if state.durable.contains(name) || dice.roll(2) == 0 {
                names.insert(name.clone(), file.clone());
            }
        }
        for file in names.values_mut() {
            let mut left = file.synced.clone();
            for (page, written) in left.chunks_mut(PAGE).zip(file.written.chunks(PAGE)) {
                if dice.roll(2) == 0 {
                    page.copy_from_slice(written);
                }
            }
            *file = FileState { written: left.clone(), synced: left };
        }
        state.durable = names.keys().cloned().collect();
        state.files = names;
    }
}

impl SpoolFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.fails {
            return Err(failure());
        }
        let torn = state.tear.take();
        // A file that was removed is written to no one's knowledge.
        let Some(file) = state.files.get_mut(&self.name) else { return Ok(()) };
        let (at, count) = (at as usize, torn.unwrap_or(bytes.len()).min(bytes.len()));
        file.written[at..at + count].copy_from_slice(&bytes[..count]);
        if torn.is_some() { Err(failure()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.fails || state.syncs_fail {
            return Err(failure());
        }
        if let Some(file) = state.files.get_mut(&self.name) {
            file.synced = file.written.clone();
        }
        Ok(())
    }
}

impl SpoolDisk for SimulatedDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.state().files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.state().files.get(name).map(|file| file.written.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        SimulatedFile { disk: self.clone(), name: name.to_owned() }.sync()
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn SpoolFile>> {
        let mut state = self.state();
        if state.fails {
            return Err(failure());
        }
        if let Some(room) = &mut state.room {
            *room = room.checked_sub(size).ok_or(io::ErrorKind::StorageFull)?;
        }
        let zeros = vec![0; size as usize];
        let file = FileState { written: zeros.clone(), synced: zeros };
        assert!(state.files.insert(name.to_owned(), file).is_none(), "a name is used once: {name}");
        Ok(Arc::new(SimulatedFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.removals_fail {
            return Err(failure());
        }
        if let Some(file) = state.files.remove(name) {
            let size = file.written.len() as u64;
            state.removed.push((name.to_owned(), file));
            if let Some(room) = &mut state.room {
                *room += size;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.fails || state.syncs_fail {
            return Err(failure());
        }
        state.durable = state.files.keys().cloned().collect();
        state.removed.clear();
        Ok(())
    }
}
