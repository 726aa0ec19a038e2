//! The room on the disk of the data folder.

use std::path::PathBuf;

use nix::sys::statvfs::statvfs;
use prometheus::{Gauge, Registry};

use super::Metrics;

/// Gauges of the data folder's file system.
struct FolderGauges {
    size: Gauge,
    free: Gauge,
}

impl FolderGauges {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let size = Gauge::new("penstock_data_folder_size_bytes", "Size of the file system of the data folder.")?;
        let free = Gauge::new(
            "penstock_data_folder_free_bytes",
            "Bytes that this process may still write to the file system of the data folder.",
        )?;
        registry.register(Box::new(size.clone()))?;
        registry.register(Box::new(free.clone()))?;
        Ok(Self { size, free })
    }
}

impl Metrics {
    /// Exports the room on the disk of a folder. While the folder cannot be examined, the last values stay.
    ///
    /// # Errors
    /// When a folder is exported already.
    pub fn observe_data_folder(&self, folder: PathBuf) -> Result<(), prometheus::Error> {
        let gauges = FolderGauges::new(self.registry())?;
        self.before_scrape(move || {
            if let Ok(room) = statvfs(&folder) {
                let block = room.fragment_size() as f64;
                gauges.size.set(room.blocks() as f64 * block);
                gauges.free.set(room.blocks_available() as f64 * block);
            }
        });
        Ok(())
    }
}
