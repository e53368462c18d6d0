//! All that persistence asks of a disk, as a trait: so that tests can put a disk in its place that forgets what was not
//! synced, tears the last write, and runs full.
//!
//! ```text
//!   create ─► write … ─► sync ─► rename ─► sync_dir        content first, then the name, then the directory
//! ```

#[cfg(test)]
pub mod crashing;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

pub trait Storage: Send + Sync {
    /// A new, empty file, whatever had the name before.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Output>>;

    /// A file to be written on at its end; it is made if it is not there.
    fn append(&self, path: &Path) -> io::Result<Arc<dyn Output>>;

    /// A new, empty file whose places are written in any order.
    fn create_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>>;

    /// A file that is there, the same way.
    fn open_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>>;

    /// A file to be read from its beginning.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Fills the buffer from a place in a file.
    fn read_at(&self, path: &Path, at: u64, into: &mut [u8]) -> io::Result<()>;

    fn len(&self, path: &Path) -> io::Result<u64>;

    /// Cuts the end of a file off.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Durable, unless it is there already.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    fn is_dir(&self, path: &Path) -> bool;

    /// Makes the names in a file's directory durable.
    fn sync_dir_of(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Output: Send + Sync {
    /// Writes all of it at the end.
    fn write(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes all of it at a place (a file that was opened for that).
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable.
    fn sync(&self) -> io::Result<()>;

    fn size(&self) -> io::Result<u64>;

    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// The real thing.
pub struct Disk;

pub static DISK: &dyn Storage = &Disk;

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        // Appending, so that a file that is cut after a failed write goes on at its new end.
        drop(OpenOptions::new().write(true).create(true).truncate(true).open(path)?);
        self.append(path)
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        Ok(Arc::new(OpenOptions::new().append(true).create(true).open(path)?))
    }

    fn create_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        Ok(Arc::new(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn open_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        Ok(Arc::new(OpenOptions::new().write(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn read_at(&self, path: &Path, at: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(path)?.read_exact_at(into, at)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(std::fs::metadata(path)?.len())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            // Without its name all that it holds is lost.
            Ok(()) => self.sync_dir_of(path),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn sync_dir_of(&self, path: &Path) -> io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    }
}

impl Output for File {
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self).write_all(bytes)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}
