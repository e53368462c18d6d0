//! Files that appear whole or not at all.

use super::storage::{Output, Storage};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes after which a file that is being written is synced in between, so that the last sync does not stall the disk.
const SYNC_EVERY: u64 = 4 << 20;

/// A file under a temporary name until `commit`; removed if it is dropped before.
pub struct TempFile<'s> {
    storage: &'s dyn Storage,
    path: PathBuf,
    file: Arc<dyn Output>,
    unsynced: u64,
    incremental_sync: bool,
    committed: bool,
}

impl<'s> TempFile<'s> {
    pub fn create(storage: &'s dyn Storage, path: PathBuf, incremental_sync: bool) -> io::Result<Self> {
        let file = storage.create(&path)?;
        Ok(TempFile { storage, path, file, unsynced: 0, incremental_sync, committed: false })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write(bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.incremental_sync && self.unsynced >= SYNC_EVERY {
            self.file.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes the content durable: what takes long, before locks are taken for the rest.
    pub fn sync(&mut self) -> io::Result<()> {
        self.unsynced = 0;
        self.file.sync()
    }

    /// Makes the content durable, gives it its name, makes the name durable.
    pub fn commit(mut self, target: &Path) -> io::Result<()> {
        self.file.sync()?;
        self.storage.rename(&self.path, target)?;
        self.committed = true;
        self.storage.sync_dir_of(target)
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if !self.committed {
            // What is left of a save that failed; if it cannot be removed the next one overwrites it.
            let _ = self.storage.remove(&self.path);
        }
    }
}
