//! The append-only file: its state, opening, turning it on and off.
//!
//! ```text
//!   off ──── CONFIG SET appendonly yes ───► first rewrite under way ──── base is there ───► on
//!    ▲        (the cut begins file incr n)   (incr n is unlisted)        (incr n is listed)  │
//!    └──────────────────────────── CONFIG SET appendonly no ────────────────────────────────┘
//! ```
//! `aof_pen` moves the bytes, `aof_writer` syncs them, `aof_rewrite` makes new bases.

use super::aof_load::plain;
use super::aof_manifest::{Manifest, Part};
use super::aof_pen::Pen;
use super::aof_rewrite;
use super::aof_writer::Writer;
use super::files::TempFile;
use super::storage::{DISK, Output, Storage};
use crate::base::clock::Timer;
use crate::base::processors;
use crate::engine::keyspace::Locked;
use crate::server::Server;
use crate::server::journal::JournalReader;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub struct Aof {
    pub server: &'static Server,
    pub storage: &'static dyn Storage,
    /// Absolute path of the directory.
    dir: PathBuf,
    /// appendfilename: what the parts' names begin with.
    pub stem: String,
    pub reader: Arc<JournalReader>,
    /// Which files there are. Kept for as long as a change of that takes.
    pub files: Mutex<Files>,
    /// The file that is being written. Locked after `files`, and only to write or sync.
    pub pen: Mutex<Pen>,
    /// Offsets at which the writer goes on to a new file.
    pub rotations: Mutex<VecDeque<Rotation>>,
    /// Number of the incr file that the last rotation opened.
    pub rotated_to: AtomicI64,
    /// CONFIG SET appendonly has changed; the writer makes it true.
    pub wanted: AtomicBool,
    /// Somebody waits for a sync now, whatever the policy.
    pub sync_now: AtomicBool,
    /// The running sync takes too long for replies to go without it.
    pub sync_hangs: AtomicBool,
    /// The running sync keeps writes from the file: replies go without them.
    pub postponed: AtomicBool,
    /// Somebody writes beside the running sync.
    pub helped: AtomicBool,
    /// The last sync failed: what the kernel forgot meanwhile only a new base brings back, or what is written once more.
    pub sync_failed: AtomicBool,
    /// What a sync under `always` takes, on average.
    pub sync_us: AtomicU64,
    /// The redo log is there, or is not to be.
    pub redo_ready: AtomicBool,
    /// It has gone on to its other half: the file is to be synced.
    pub redo_turned: AtomicBool,
    /// The writer's thread leaves it to a worker to sync, and looks only now and then.
    pub dozes: AtomicBool,
    /// A worker has left a sync to the thread.
    pub is_asked: AtomicBool,
    pub settling: Mutex<()>,
    /// The writer's thread.
    pub thread: OnceLock<std::thread::Thread>,
}

#[derive(Default)]
pub struct Files {
    pub manifest: Manifest,
    /// Opened by a rewrite that makes the first base: not in the manifest until that is there.
    pub unlisted: Option<Part>,
}

/// Whether files that are no longer needed are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoGc {
    On,
    Off,
}

/// The point from which on a new file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub offset: u64,
    /// On a replica: the database that its primary's stream is in. A stream of our own selects one by itself.
    pub db: Option<usize>,
}

impl Rotation {
    /// To be called with every shard locked. The offset comes first: a SELECT that comes in between is still in the stream.
    fn at(server: &Server, offset: u64) -> Self {
        let is_replica = server.is_replica.load(Ordering::Acquire);
        Rotation { offset, db: is_replica.then(|| server.role.stream_db.load(Ordering::Acquire)) }
    }
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

/// Takes over what was loaded and starts the writer; if the file is on, it follows every write from here on.
pub fn start(server: &'static Server, manifest: Manifest) -> Result<(), String> {
    let config = server.config.current();
    let dir = std::env::current_dir().map_err(|error| error.to_string())?.join(&config.appenddirname);
    let aof = AOF.get_or_init(|| Aof::new(server, DISK, dir, manifest));
    if config.appendonly {
        aof.open_at_start()?;
    }
    server.config.on_changed(
        &["appendonly", "appendfsync", "aof-redo-log"],
        Box::new(move |_, new| {
            let status = &server.save_status.aof;
            aof.redo_ready.store(false, Ordering::Release);
            aof.settle_promise();
            let wanted = new.appendonly && !SUSPENDED.load(Ordering::Acquire);
            if aof.wanted.swap(wanted, Ordering::AcqRel) != wanted {
                if wanted {
                    tracing::info!("AOF background was scheduled: the file begins with a snapshot");
                }
                status.changing.store(true, Ordering::Release);
            }
            aof.wake();
            // Turning it on needs every shard, which the caller may hold: the writer does that afterwards. Turning it off is
            // done when this returns.
            while !new.appendonly && status.changing.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }),
    );
    server.config.on_changed(
        &["aof-disable-auto-gc"],
        Box::new(move |_, new| {
            let mut files = aof.files.lock();
            if !new.aof_disable_auto_gc && !files.manifest.history.is_empty() {
                // The old files are only a waste of space if this fails.
                let _ = aof.persist(&mut files.manifest, AutoGc::On);
            }
        }),
    );
    let run = || {
        let _member = processors::join(processors::Kind::Background);
        Writer::new(aof).run()
    };
    std::thread::Builder::new().name("aof".into()).spawn(run).map(drop).map_err(|error| error.to_string())
}

impl Aof {
    pub fn new(server: &'static Server, storage: &'static dyn Storage, dir: PathBuf, manifest: Manifest) -> Self {
        let config = server.config.current();
        Aof {
            server,
            storage,
            dir,
            stem: config.appendfilename.clone(),
            reader: Arc::clone(&server.save_status.aof.reader),
            files: Mutex::new(Files { manifest, ..Files::default() }),
            pen: Mutex::default(),
            rotations: Mutex::default(),
            rotated_to: AtomicI64::new(0),
            wanted: AtomicBool::new(config.appendonly),
            sync_now: AtomicBool::new(false),
            sync_hangs: AtomicBool::new(false),
            postponed: AtomicBool::new(false),
            helped: AtomicBool::new(false),
            sync_failed: AtomicBool::new(false),
            sync_us: AtomicU64::new(0),
            redo_ready: AtomicBool::new(false),
            redo_turned: AtomicBool::new(false),
            dozes: AtomicBool::new(false),
            is_asked: AtomicBool::new(false),
            settling: Mutex::default(),
            thread: OnceLock::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens the last incr file, or makes the first files of all, and follows the journal from here on.
    pub fn open_at_start(&self) -> Result<(), String> {
        let server = self.server;
        let position = server.journal.add_reader(&self.reader, &server.keyspace.lock_all());
        self.begin(position);
        self.open_files()?;
        server.save_status.aof.enabled.store(true, Ordering::Release);
        self.settle_promise();
        Ok(())
    }

    /// What the file gets begins at this offset of the journal.
    fn begin(&self, position: u64) {
        let mut pen = self.pen.lock();
        pen.begin(position);
        pen.announce(self);
        self.server.journal.marks.set_durable(position);
    }

    fn open_files(&self) -> Result<(), String> {
        let fail = |what: &str, error: &io::Error| format!("Can't open the append-only file {what}: {}", plain(error));
        self.storage.create_dir(&self.dir).map_err(|error| fail(&self.dir.display().to_string(), &error))?;
        let mut files = self.files.lock();
        if files.manifest.is_empty() {
            let rdb = self.server.config.current().aof_use_rdb_preamble;
            let base = files.manifest.replace_base(&self.stem, rdb);
            let locked = self.server.keyspace.lock_all();
            aof_rewrite::write_base_locked(self, &locked, &self.path(&base.name))
                .map_err(|error| fail(&base.name, &error))?;
            tracing::info!("Creating AOF base file {} on server start", base.name);
        }
        if let Some(part) = files.manifest.incr.last().cloned() {
            tracing::info!("Opening AOF incr file {} on server start", part.name);
            self.take(&part, |path| self.storage.append(path)).map_err(|error| fail(&part.name, &error))?;
        } else {
            let part = files.manifest.next_incr(&self.stem);
            tracing::info!("Creating AOF incr file {} on server start", part.name);
            self.take(&part, |path| self.storage.create(path)).map_err(|error| fail(&part.name, &error))?;
            files.manifest.incr.push(part);
        }
        self.persist(&mut files.manifest, self.auto_gc()).map_err(|error| fail("manifest", &error))?;
        self.measure(&files);
        Ok(())
    }

    pub fn auto_gc(&self) -> AutoGc {
        if self.server.config.current().aof_disable_auto_gc { AutoGc::Off } else { AutoGc::On }
    }

    pub fn create_dir(&self) -> io::Result<()> {
        self.storage.create_dir(&self.dir)
    }

    /// Writes the manifest anew and deletes what it no longer needs.
    pub fn persist(&self, manifest: &mut Manifest, auto_gc: AutoGc) -> io::Result<()> {
        let name = format!("{}.manifest", self.stem);
        let write = |manifest: &Manifest| {
            let mut file = TempFile::create(self.storage, self.path(&format!("temp-{name}")), false)?;
            file.write(manifest.text().as_bytes())?;
            file.commit(&self.path(&name))
        };
        write(manifest)?;
        if manifest.history.is_empty() || auto_gc == AutoGc::Off {
            return Ok(());
        }
        for part in std::mem::take(&mut manifest.history) {
            tracing::info!("Removing the history file {} in the background", part.name);
            // One that cannot be removed is only a waste of space.
            let _ = self.storage.remove(&self.path(&part.name));
        }
        // What is listed is there, whether or not the file still tells of what was. An error would have the caller go on with the old
        // manifest, whose files are gone.
        let _ = write(manifest);
        Ok(())
    }

    /// Brings the sizes in INFO up to date at the start. What the files held after the last rewrite, with which growth is
    /// compared, nobody has noted: the base alone may make the next rewrite early, but never miss it.
    fn measure(&self, files: &Files) {
        self.server.save_status.aof.current_size.store(self.total_size(files), Ordering::Relaxed);
        let base = files.manifest.base.as_ref().map_or(0, |part| self.size(part));
        self.server.save_status.aof.base_size.store(base, Ordering::Relaxed);
    }

    /// The same after a rewrite.
    pub fn measure_rewritten(&self, files: &Files) {
        let total = self.total_size(files);
        self.server.save_status.aof.current_size.store(total, Ordering::Relaxed);
        self.server.save_status.aof.base_size.store(total, Ordering::Relaxed);
    }

    fn size(&self, part: &Part) -> u64 {
        self.storage.len(&self.path(&part.name)).unwrap_or(0)
    }

    fn total_size(&self, files: &Files) -> u64 {
        files.manifest.base.iter().chain(&files.manifest.incr).chain(&files.unlisted).map(|part| self.size(part)).sum()
    }

    pub fn is_enabled(&self) -> bool {
        self.server.save_status.aof.enabled.load(Ordering::Acquire)
    }

    /// It was turned on and its first base is not there yet.
    pub fn has_no_base(&self) -> bool {
        self.files.lock().unlisted.is_some()
    }

    /// The cut of a rewrite: what comes after goes to a new file. To be called with every shard locked.
    pub fn rotate_here(&self) {
        self.server.journal.forget_selected_db();
        self.rotations.lock().push_back(Rotation::at(self.server, self.server.journal.end()));
        self.wake();
    }

    /// Whether all rotations asked for have happened.
    pub fn has_rotated(&self) -> bool {
        self.rotations.lock().is_empty()
    }

    /// For replies that wait for a sync which no worker does. While the thread does not doze it notices by itself.
    pub fn ask_thread(&self) {
        self.is_asked.store(true, Ordering::SeqCst);
        if self.dozes.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// On to the next file; the old one is on disk, and nobody writes before this is done. What a file of that name held, if there is
    /// one, belongs to a rewrite that came to nothing.
    pub fn rotate(&self) -> io::Result<()> {
        let mut files = self.files.lock();
        let mut manifest = files.manifest.clone();
        let part = match files.unlisted.clone() {
            Some(part) => part,
            None => manifest.next_incr(&self.stem),
        };
        // Somebody may have removed it meanwhile.
        self.create_dir()?;
        let path = self.path(&part.name);
        let file = self.storage.create(&path)?;
        self.storage.sync_dir_of(&path)?;
        let db = self.rotations.lock().front().and_then(|rotation| rotation.db);
        if let Some(db) = db.map(|db| db.to_string()) {
            file.write(format!("*2\r\n$6\r\nSELECT\r\n${}\r\n{db}\r\n", db.len()).as_bytes())?;
        }
        tracing::info!("Creating AOF incr file {} on background rewrite", part.name);
        if files.unlisted.is_none() {
            manifest.incr.push(part.clone());
            self.persist(&mut manifest, self.auto_gc())?;
            files.manifest = manifest;
        }
        let mut pen = self.pen.lock();
        pen.take(&part, file)?;
        pen.unsynced = true;
        self.rotated_to.store(part.seq, Ordering::Release);
        self.rotations.lock().pop_front();
        Ok(())
    }

    fn take(&self, part: &Part, open: impl FnOnce(&Path) -> io::Result<Arc<dyn Output>>) -> io::Result<()> {
        let path = self.path(&part.name);
        let file = open(&path)?;
        self.storage.sync_dir_of(&path)?;
        self.pen.lock().take(part, file)
    }

    /// Registers as a reader and begins a new file at this offset. To be called with every shard locked.
    pub fn enable_locked(&self, locked: &Locked) {
        let mut files = self.files.lock();
        let part = files.manifest.next_incr(&self.stem);
        files.unlisted = Some(part);
        let position = self.server.journal.add_reader(&self.reader, locked);
        self.begin(position);
        self.rotations.lock().push_back(Rotation::at(self.server, position));
        self.server.save_status.aof.enabled.store(true, Ordering::Release);
        self.settle_promise();
    }

    /// Stops following the journal, when what matters is written. A write that still sees the journal on leaves a few bytes
    /// in it that nobody reads.
    pub fn disable(&self) {
        let status = &self.server.save_status;
        self.server.journal.remove_reader(&self.reader);
        status.aof.enabled.store(false, Ordering::Release);
        status.note_aof_error(0);
        self.settle_promise();
        let mut files = self.files.lock();
        files.unlisted = None;
        // Unless the last sync failed, nobody needs the log any more.
        let _ = self.retire_redo();
        self.redo_ready.store(false, Ordering::Release);
        *self.pen.lock() = Pen::default();
        status.aof.buffer_bytes.store(0, Ordering::Relaxed);
        self.rotations.lock().clear();
    }

    /// Waits until everything written so far is on disk; false if that does not come about in time.
    pub fn flush(&self, patience: Duration) -> bool {
        if !self.is_enabled() {
            return true;
        }
        let (start, end) = (Timer::start(), self.server.journal.end());
        while start.elapsed() < patience {
            self.sync_now.store(true, Ordering::Release);
            self.wake();
            if self.server.journal.marks.durable() >= end {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }
}
