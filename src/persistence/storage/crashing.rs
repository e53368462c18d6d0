//! A disk in memory that can lose power: what was not synced is gone or torn, and it runs full when a test says so.
//!
//! ```text
//!   file      durable bytes | bytes written since the last sync        a crash keeps any part of the latter's beginning
//!             written in place since the last sync                     a crash keeps any of the sectors
//!   names     durable map   | changes since the last sync_dir          a crash keeps any number of the earliest of them
//! ```
//! That is what journaling file systems promise, and no more.

use super::{Output, Storage};
use crate::base::random::Random;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// What a disk writes whole or not at all.
const SECTOR: usize = 64;

#[derive(Default)]
struct Content {
    durable: Vec<u8>,
    current: Vec<u8>,
}

type FileRef = Arc<Mutex<Content>>;
type Names = HashMap<PathBuf, FileRef>;

#[derive(Clone)]
enum NameChange {
    Set(PathBuf, FileRef),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl NameChange {
    fn apply(self, names: &mut Names) {
        match self {
            NameChange::Set(path, file) => drop(names.insert(path, file)),
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            NameChange::Remove(path) => drop(names.remove(&path)),
        }
    }
}

#[derive(Default)]
struct Directory {
    durable: Names,
    current: Names,
    pending: Vec<NameChange>,
}

impl Directory {
    fn change(&mut self, change: NameChange) {
        change.clone().apply(&mut self.current);
        self.pending.push(change);
    }
}

#[derive(Default)]
pub struct CrashingDisk {
    directory: Arc<Mutex<Directory>>,
    faults: Arc<Faults>,
}

/// What goes wrong.
pub struct Faults {
    /// Bytes that can still be written before the disk is full.
    pub room: AtomicU64,
    pub sync_fails: AtomicBool,
    /// Files cannot be cut.
    pub cut_fails: AtomicBool,
    /// Operations until the power fails; what the disk holds then is kept in `survivor`, and the rest goes on in vain.
    pub until_crash: AtomicI64,
    survivor: Mutex<Option<&'static CrashingDisk>>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            room: AtomicU64::new(u64::MAX),
            sync_fails: AtomicBool::new(false),
            cut_fails: AtomicBool::new(false),
            until_crash: AtomicI64::new(i64::MAX),
            survivor: Mutex::new(None),
        }
    }
}

impl Faults {
    /// Counts an operation that is about to happen.
    fn operation(&self, directory: &Mutex<Directory>) {
        let left = self.until_crash.fetch_sub(1, Ordering::Relaxed);
        if left == 0 {
            *self.survivor.lock() = Some(crash(&directory.lock(), &mut Random::from_entropy()));
        }
    }
}

impl CrashingDisk {
    /// Leaked, as the disk of a server is there for as long as the process.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.directory.lock().current.keys().cloned().collect()
    }

    /// What the disk held when the power failed, if it has.
    pub fn survivor(&self) -> Option<&'static CrashingDisk> {
        *self.faults.survivor.lock()
    }

    fn file(&self, file: FileRef) -> Arc<dyn Output> {
        Arc::new(CrashingFile { file, faults: Arc::clone(&self.faults), directory: Arc::clone(&self.directory) })
    }

    fn change(&self, change: NameChange) {
        self.faults.operation(&self.directory);
        self.directory.lock().change(change);
    }

    fn find(&self, path: &Path) -> io::Result<FileRef> {
        self.directory.lock().current.get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

/// The power fails; what a restart finds is another disk.
fn crash(directory: &Directory, random: &mut Random) -> &'static CrashingDisk {
    let mut names = directory.durable.clone();
    let kept = random.below(directory.pending.len() as u64 + 1) as usize;
    for change in &directory.pending[..kept] {
        change.clone().apply(&mut names);
    }
    let mut survivors = Names::new();
    for (path, file) in names {
        let content = file.lock();
        let mut bytes = content.durable.clone();
        match content.current.get(bytes.len()..) {
            Some(unsynced) => {
                for (new, old) in content.current.chunks(SECTOR).zip(bytes.chunks_mut(SECTOR)) {
                    if random.below(2) == 0 {
                        old.copy_from_slice(&new[..old.len()]);
                    }
                }
                let torn = random.below(unsynced.len() as u64 + 1) as usize;
                bytes.extend_from_slice(&unsynced[..torn]);
            }
            // It was cut since the last sync.
            _ if random.below(2) == 0 => bytes.clone_from(&content.current),
            _ => {}
        }
        let content = Content { durable: bytes.clone(), current: bytes };
        survivors.insert(path, Arc::new(Mutex::new(content)));
    }
    let directory = Directory { durable: survivors.clone(), current: survivors, pending: Vec::new() };
    Box::leak(Box::new(CrashingDisk { directory: Arc::new(Mutex::new(directory)), faults: Arc::default() }))
}

impl Storage for CrashingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        let file = FileRef::default();
        self.change(NameChange::Set(path.to_owned(), Arc::clone(&file)));
        Ok(self.file(file))
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        match self.find(path) {
            Ok(file) => Ok(self.file(file)),
            Err(_) => self.create(path),
        }
    }

    fn create_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        self.create(path)
    }

    fn open_in_place(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        Ok(self.file(self.find(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.find(path)?.lock().current.clone())))
    }

    fn read_at(&self, path: &Path, at: u64, into: &mut [u8]) -> io::Result<()> {
        let file = self.find(path)?;
        let mut reader = Cursor::new(file.lock().current.clone());
        reader.set_position(at);
        reader.read_exact(into)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.find(path)?.lock().current.len() as u64)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let file = self.find(path)?;
        let mut content = file.lock();
        content.current.truncate(len as usize);
        content.durable = content.current.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.find(from)?;
        self.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_dir(&self, _: &Path) -> bool {
        true
    }

    fn sync_dir_of(&self, _: &Path) -> io::Result<()> {
        self.faults.operation(&self.directory);
        let mut directory = self.directory.lock();
        directory.durable = directory.current.clone();
        directory.pending.clear();
        Ok(())
    }
}

struct CrashingFile {
    file: FileRef,
    directory: Arc<Mutex<Directory>>,
    faults: Arc<Faults>,
}

impl Output for CrashingFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.operation(&self.directory);
        let (mut content, at) = (self.file.lock(), at as usize);
        let len = content.current.len().max(at + bytes.len());
        content.current.resize(len, 0);
        content.current[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.faults.operation(&self.directory);
        let room = self.faults.room.load(Ordering::Relaxed);
        let fits = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        // A full disk takes what fits before it says no.
        self.file.lock().current.extend_from_slice(&bytes[..fits]);
        if room != u64::MAX {
            self.faults.room.store(room - fits as u64, Ordering::Relaxed);
        }
        if fits < bytes.len() { Err(io::Error::from_raw_os_error(28)) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        if self.faults.sync_fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.faults.operation(&self.directory);
        let mut content = self.file.lock();
        content.durable = content.current.clone();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.lock().current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.faults.cut_fails.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.lock().current.truncate(len as usize);
        Ok(())
    }
}
