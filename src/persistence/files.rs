//! Files that appear whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes after which a file that is being written is synced in between, so that the last sync does not stall the disk.
const SYNC_EVERY: u64 = 4 << 20;

/// A file under a temporary name until `commit`; removed if it is dropped before.
pub struct TempFile {
    path: PathBuf,
    file: File,
    unsynced: u64,
    incremental_sync: bool,
    committed: bool,
}

impl TempFile {
    pub fn create(path: PathBuf, incremental_sync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        Ok(TempFile { path, file, unsynced: 0, incremental_sync, committed: false })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.unsynced += bytes.len() as u64;
        if self.incremental_sync && self.unsynced >= SYNC_EVERY {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Makes the content durable, gives it its name, makes the name durable.
    pub fn commit(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, target)?;
        self.committed = true;
        sync_dir_of(target)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.committed {
            // What is left of a save that failed; if it cannot be removed the next one overwrites it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the names in a file's directory durable.
pub fn sync_dir_of(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
