//! The append-only file: its state, opening, the thread that writes it.
//!
//! ```text
//!   workers ─► journal ─► writer thread ─► incr file ─► sync (always: then the replies go; everysec: once per second)
//!                              │
//!                              └ at the offset of a rewrite's cut: on to a new incr file
//! ```
//! Workers never wait for the file: under `always` it is the connections that hold their replies until the journal's
//! durable mark has passed theirs, so that one sync serves all that wait.

use super::aof_load::plain;
use super::aof_manifest::{Manifest, Part};
use super::aof_rewrite;
use super::files::{self, TempFile};
use crate::base::clock;
use crate::server::Server;
use crate::server::config::Appendfsync;
use crate::server::journal::JournalReader;
use crate::server::save_status::Activity;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// Bytes taken from the journal at once.
const PIECE: usize = 4 << 20;
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// Pause after an error of the disk before the write is tried again.
const RETRY: Duration = Duration::from_millis(100);

pub struct Aof {
    server: &'static Server,
    /// Absolute path of the directory.
    dir: PathBuf,
    /// appendfilename: what the parts' names begin with.
    pub stem: String,
    reader: Arc<JournalReader>,
    pub files: Mutex<Files>,
    /// Offsets at which the writer goes on to a new file.
    rotations: Mutex<VecDeque<u64>>,
    /// Number of the incr file that the last rotation opened.
    pub rotated_to: AtomicI64,
    /// CONFIG SET appendonly has changed; the writer makes it true.
    wanted: AtomicBool,
    /// Somebody waits for a sync now, whatever the policy.
    pub sync_now: AtomicBool,
    thread: OnceLock<std::thread::Thread>,
}

#[derive(Default)]
pub struct Files {
    pub manifest: Manifest,
    current: Option<File>,
    /// Length of the current file that is known to be sound.
    len: u64,
    /// Opened by a rewrite that makes the first base: not in the manifest until that is there.
    pub unlisted: Option<Part>,
}

static AOF: OnceLock<Aof> = OnceLock::new();

/// A full sync replaces the data set: until that is there, nothing is written.
static SUSPENDED: AtomicBool = AtomicBool::new(false);

/// Stops writing, however long that takes; what is on disk stays as it is.
pub fn suspend(server: &Server) {
    let Some(aof) = get() else { return };
    SUSPENDED.store(true, Ordering::Release);
    aof.wanted.store(false, Ordering::Release);
    server.save_status.aof.changing.store(true, Ordering::Release);
    aof.wake();
    while aof.is_enabled() || server.save_status.aof.changing.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Goes on after `suspend`, with a base of what is in memory now.
pub fn resume(server: &Server) {
    let Some(aof) = get().filter(|_| SUSPENDED.swap(false, Ordering::AcqRel)) else { return };
    aof.wanted.store(server.config.current().appendonly, Ordering::Release);
    server.save_status.aof.changing.store(true, Ordering::Release);
    aof.wake();
}

/// The append-only file of this process, once `start` was called.
pub fn get() -> Option<&'static Aof> {
    AOF.get()
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Takes over what was loaded and starts the writer; if the file is on, it follows every write from here on.
pub fn start(server: &'static Server, manifest: Manifest) -> Result<(), String> {
    let config = server.config.current();
    let dir = std::env::current_dir().map_err(|error| error.to_string())?.join(&config.appenddirname);
    let aof = AOF.get_or_init(|| Aof {
        server,
        dir,
        stem: config.appendfilename.clone(),
        reader: Arc::default(),
        files: Mutex::new(Files { manifest, ..Files::default() }),
        rotations: Mutex::default(),
        rotated_to: AtomicI64::new(0),
        wanted: AtomicBool::new(config.appendonly),
        sync_now: AtomicBool::new(false),
        thread: OnceLock::new(),
    });
    if config.appendonly {
        aof.open_at_start()?;
        server.journal.add_reader(&aof.reader, &server.keyspace.lock_all());
        server.journal.set_durable(aof.reader.position.load(Ordering::Acquire));
        server.save_status.aof.enabled.store(true, Ordering::Release);
        server.journal.set_sync_always(config.appendfsync == Appendfsync::Always);
    }
    server.config.on_changed(
        &["appendonly", "appendfsync"],
        Box::new(move |_, new| {
            let status = &server.save_status.aof;
            let enabled = status.enabled.load(Ordering::Acquire);
            server.journal.set_sync_always(enabled && new.appendonly && new.appendfsync == Appendfsync::Always);
            let wanted = new.appendonly && !SUSPENDED.load(Ordering::Acquire);
            if aof.wanted.swap(wanted, Ordering::AcqRel) != wanted {
                status.changing.store(true, Ordering::Release);
            }
            aof.wake();
        }),
    );
    std::thread::Builder::new().name("aof".into()).spawn(|| aof.run()).map(drop).map_err(|error| error.to_string())
}

impl Aof {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens the last incr file, or makes the first files of all.
    fn open_at_start(&self) -> Result<(), String> {
        let fail = |what: &str, error: &io::Error| format!("Can't open the append-only file {what}: {}", plain(error));
        self.create_dir().map_err(|error| fail(&self.dir.display().to_string(), &error))?;
        let mut files = self.files.lock();
        if files.manifest.is_empty() {
            let rdb = self.server.config.current().aof_use_rdb_preamble;
            let base = files.manifest.replace_base(&self.stem, rdb);
            let locked = self.server.keyspace.lock_all();
            aof_rewrite::write_base_locked(self.server, &locked, &self.path(&base.name))
                .map_err(|error| fail(&base.name, &error))?;
            tracing::info!("Creating AOF base file {} on server start", base.name);
        }
        let part = match files.manifest.incr.last() {
            Some(part) => {
                tracing::info!("Opening AOF incr file {} on server start", part.name);
                part.clone()
            }
            None => {
                let part = files.manifest.next_incr(&self.stem);
                tracing::info!("Creating AOF incr file {} on server start", part.name);
                files.manifest.incr.push(part.clone());
                part
            }
        };
        files.open(self, &part.name).map_err(|error| fail(&part.name, &error))?;
        self.persist(&mut files.manifest).map_err(|error| fail("manifest", &error))?;
        self.measure(&files);
        Ok(())
    }

    pub fn create_dir(&self) -> io::Result<()> {
        match std::fs::create_dir(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the manifest anew and deletes what it no longer needs.
    pub fn persist(&self, manifest: &mut Manifest) -> io::Result<()> {
        let name = format!("{}.manifest", self.stem);
        let write = |manifest: &Manifest| {
            let mut file = TempFile::create(self.path(&format!("temp-{name}")), false)?;
            file.write(manifest.text().as_bytes())?;
            file.commit(&self.path(&name))
        };
        write(manifest)?;
        if manifest.history.is_empty() || self.server.config.current().aof_disable_auto_gc {
            return Ok(());
        }
        for part in std::mem::take(&mut manifest.history) {
            tracing::info!("Removing the history file {} in the background", part.name);
            // One that cannot be removed is only a waste of space.
            let _ = std::fs::remove_file(self.path(&part.name));
        }
        write(manifest)
    }

    /// Brings the sizes in INFO up to date.
    pub fn measure(&self, files: &Files) {
        let size = |part: &Part| std::fs::metadata(self.path(&part.name)).map_or(0, |metadata| metadata.len());
        let base = files.manifest.base.as_ref().map_or(0, size);
        let incr: u64 = files.manifest.incr.iter().chain(&files.unlisted).map(size).sum();
        let status = &self.server.save_status.aof;
        status.base_size.store(base, Ordering::Relaxed);
        status.current_size.store(base + incr, Ordering::Relaxed);
    }

    pub fn is_enabled(&self) -> bool {
        self.server.save_status.aof.enabled.load(Ordering::Acquire)
    }

    /// The cut of a rewrite: what comes after goes to a new file. To be called with every shard locked.
    pub fn rotate_here(&self) {
        self.server.journal.forget_selected_db();
        self.rotations.lock().push_back(self.server.journal.end());
        self.wake();
    }

    /// Whether all rotations asked for have happened.
    pub fn has_rotated(&self) -> bool {
        self.rotations.lock().is_empty()
    }

    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// The writer thread; never returns.
    fn run(&'static self) {
        let thread = self.thread.get_or_init(std::thread::current).clone();
        let waker = Waker::from(Arc::new(Unpark(thread)));
        let mut sync = SyncState { last: Instant::now(), unsynced: false };
        loop {
            self.reader.waker.register(&waker);
            if self.server.save_status.aof.changing.load(Ordering::Acquire) {
                self.change();
            }
            if !self.is_enabled() {
                std::thread::park_timeout(RETRY);
                continue;
            }
            match self.step(&mut sync) {
                Ok(true) => {}
                Ok(false) => std::thread::park_timeout(sync.pause(self.server)),
                Err(error) => self.report(&error),
            }
        }
    }

    /// Writes a piece and syncs if it is time; false if there was nothing to write.
    fn step(&self, sync: &mut SyncState) -> io::Result<bool> {
        let journal = &self.server.journal;
        let from = self.reader.position.load(Ordering::Acquire);
        // In this order: a rotation is announced before anything behind its offset is written to the journal.
        let end = journal.end();
        let rotation = self.rotations.lock().front().copied();
        let limit = rotation.map_or(end, |offset| offset.min(end));
        let mut bytes = Vec::new();
        let len = ((limit - from) as usize).min(PIECE);
        if len > 0 && journal.read_changes(from, len, &mut bytes).is_ok() {
            self.write(&bytes, limit - from == len as u64)?;
            self.reader.position.store(from + len as u64, Ordering::Release);
            journal.collect();
            sync.unsynced = true;
        }
        let position = from + len as u64;
        self.sync(sync, position)?;
        if rotation == Some(position) {
            self.rotate()?;
        }
        Ok(len > 0)
    }

    fn write(&self, bytes: &[u8], complete: bool) -> io::Result<()> {
        let mut files = self.files.lock();
        let status = &self.server.save_status;
        let written = files.append(bytes, complete && self.server.config.current().aof_timestamp_enabled)?;
        status.aof.current_size.fetch_add(written, Ordering::Relaxed);
        if status.aof.write_error.load(Ordering::Relaxed) != 0 {
            tracing::warn!("AOF write error looks solved, Redis can write again.");
            status.note_aof_error(0);
        }
        Ok(())
    }

    fn sync(&self, sync: &mut SyncState, position: u64) -> io::Result<()> {
        let config = self.server.config.current();
        let status = &self.server.save_status;
        let asked = self.sync_now.load(Ordering::Acquire) && position == self.server.journal.end();
        let spared = config.no_appendfsync_on_rewrite && status.activity() != Activity::None;
        let due = match config.appendfsync {
            Appendfsync::Always => true,
            Appendfsync::Everysec => sync.last.elapsed() >= SYNC_PERIOD,
            Appendfsync::No => false,
        };
        if asked || (due && !spared && sync.unsynced) {
            let file = self.files.lock().current.as_ref().map(File::try_clone).transpose()?;
            if let Some(file) = file {
                file.sync_data()?;
            }
            sync.last = Instant::now();
            sync.unsynced = false;
            self.server.journal.set_durable(position);
            self.sync_now.store(false, Ordering::Release);
        } else if due && (spared || !sync.unsynced) && self.server.journal.durable() < position {
            self.server.journal.set_durable(position);
        }
        status.aof.pending_fsync.store(sync.unsynced, Ordering::Relaxed);
        Ok(())
    }

    /// On to the next file.
    fn rotate(&self) -> io::Result<()> {
        let mut files = self.files.lock();
        let part = match files.unlisted.clone() {
            Some(part) => part,
            None => files.manifest.next_incr(&self.stem),
        };
        if let Some(old) = &files.current {
            old.sync_data()?;
        }
        files.open(self, &part.name)?;
        tracing::info!("Creating AOF incr file {} on background rewrite", part.name);
        if files.unlisted.is_none() {
            files.manifest.incr.push(part.clone());
            self.persist(&mut files.manifest)?;
        }
        self.rotated_to.store(part.seq, Ordering::Release);
        self.rotations.lock().pop_front();
        Ok(())
    }

    fn report(&self, error: &io::Error) {
        let status = &self.server.save_status;
        if status.aof.write_error.load(Ordering::Relaxed) == 0 {
            tracing::warn!("Error writing to the AOF file: {}", plain(error));
        }
        status.note_aof_error(i64::from(error.raw_os_error().unwrap_or(5)));
        std::thread::sleep(RETRY);
    }

    /// Makes CONFIG SET appendonly true.
    fn change(&'static self) {
        let status = &self.server.save_status.aof;
        let wanted = self.wanted.load(Ordering::Acquire);
        if wanted == self.is_enabled() {
            status.changing.store(false, Ordering::Release);
            return;
        }
        if wanted {
            if aof_rewrite::start_first(self.server, self) {
                status.changing.store(false, Ordering::Release);
            } else {
                // Another snapshot is being written: again when that is done.
                std::thread::sleep(RETRY);
            }
            return;
        }
        self.disable();
        status.changing.store(false, Ordering::Release);
    }

    /// Registers as a reader and begins a new file at this offset. To be called with every shard locked.
    pub fn enable_locked(&self, locked: &crate::engine::keyspace::Locked) {
        let mut files = self.files.lock();
        let part = files.manifest.next_incr(&self.stem);
        files.unlisted = Some(part);
        self.server.journal.add_reader(&self.reader, locked);
        self.rotations.lock().push_back(self.reader.position.load(Ordering::Acquire));
        let status = &self.server.save_status.aof;
        status.enabled.store(true, Ordering::Release);
        let always = self.server.config.current().appendfsync == Appendfsync::Always;
        self.server.journal.set_sync_always(always);
    }

    fn disable(&self) {
        let status = &self.server.save_status;
        if status.activity() == Activity::AofRewrite {
            status.cancel();
        }
        self.sync_now.store(true, Ordering::Release);
        let mut sync = SyncState { last: Instant::now(), unsynced: true };
        while self.reader.position.load(Ordering::Acquire) < self.server.journal.end() {
            if let Err(error) = self.step(&mut sync) {
                self.report(&error);
                break;
            }
        }
        let _locked = self.server.keyspace.lock_all();
        // What came between the loop and the locks.
        if let Err(error) = self.step(&mut sync) {
            self.report(&error);
        }
        self.server.journal.remove_reader(&self.reader);
        self.server.journal.set_sync_always(false);
        status.aof.enabled.store(false, Ordering::Release);
        status.note_aof_error(0);
        self.rotations.lock().clear();
        let mut files = self.files.lock();
        files.current = None;
        files.unlisted = None;
    }

    /// Waits until everything written so far is on disk; false if that does not come about in time.
    pub fn flush(&self, patience: Duration) -> bool {
        if !self.is_enabled() {
            return true;
        }
        let (start, end) = (Instant::now(), self.server.journal.end());
        while start.elapsed() < patience {
            self.sync_now.store(true, Ordering::Release);
            self.wake();
            if self.server.journal.durable() >= end {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}

impl Files {
    fn open(&mut self, aof: &Aof, name: &str) -> io::Result<()> {
        let path = aof.path(name);
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        files::sync_dir_of(&path)?;
        self.len = file.metadata()?.len();
        self.current = Some(file);
        Ok(())
    }

    /// Appends whole or not at all; returns the number of bytes.
    fn append(&mut self, bytes: &[u8], with_time: bool) -> io::Result<u64> {
        let Some(file) = &mut self.current else { return Ok(0) };
        let stamp = if with_time { format!("#TS:{}\r\n", clock::unix_ms() / 1000) } else { String::new() };
        let result = file.write_all(stamp.as_bytes()).and_then(|()| file.write_all(bytes));
        if let Err(error) = result {
            // A part of a command must not stay: what follows would be read as its rest.
            let _ = file.set_len(self.len);
            return Err(error);
        }
        let written = (stamp.len() + bytes.len()) as u64;
        self.len += written;
        Ok(written)
    }
}

struct SyncState {
    last: Instant,
    unsynced: bool,
}

impl SyncState {
    /// How long the writer may sleep.
    fn pause(&self, server: &Server) -> Duration {
        if self.unsynced && server.config.current().appendfsync == Appendfsync::Everysec {
            SYNC_PERIOD.saturating_sub(self.last.elapsed()).max(Duration::from_millis(1))
        } else {
            RETRY
        }
    }
}
