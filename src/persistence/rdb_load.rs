//! Loading RDB: one thread reads and frames, others decode and insert.
//!
//! ```text
//!   file, or a primary ─► rdb::Reader ─► batches of raw keys ─┬─► decode, insert under the shard's lock
//!                              │                              └─► decode, insert …
//!                              └► AUX, functions, sizes
//! ```

use crate::base::clock;
use crate::commands::context;
use crate::engine::keyspace::{Keyspace, Locked, SHARDS, ShardSet, place, shard_of};
use crate::engine::limits::Limits;
use crate::engine::record::Record;
use crate::engine::table::Entry as _;
use crate::rdb::fault::Fault;
use crate::rdb::format::Lineage;
use crate::rdb::reader::{Access, KeyItem, LoadError};
use crate::rdb::{Item, Reader, value};
use crate::server::Server;
use crate::server::scripts::Library;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Bytes read from a file at once.
const PIECE: usize = 128 * 1024;
/// Raw bytes of a batch.
const BATCH: usize = 64 * 1024;
/// Keys whose buckets are fetched ahead of their insertion.
const AHEAD: usize = 32;
/// Empty collections that are named in the log; the rest is only counted.
const EMPTY_NAMED: u64 = 10;

/// Which rules apply to the keys of a file.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Keys past their expiry are kept: on a replica, and below commands that rely on them.
    pub keep_expired: bool,
    /// A key that is there already is replaced; else it is an error.
    pub replace: bool,
    /// Keys that are left out because they have expired are named in the summary.
    pub name_expired: bool,
}

/// What was found besides the keys.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub repl_id: Option<String>,
    pub repl_offset: Option<i64>,
    pub repl_stream_db: Option<usize>,
    pub functions: Vec<Bytes>,
    /// The compiled libraries of the file, if they are still to be put in place.
    pub libraries: Option<BTreeMap<String, Library>>,
    /// Keys that have expired since, with their databases.
    pub expired: Vec<(usize, Box<[u8]>)>,
    /// Where the RDB part ends, and what was read beyond it.
    pub end: u64,
    pub rest: Vec<u8>,
}

/// What all threads of one load share.
struct Shared {
    limits: Arc<Limits>,
    rules: Rules,
    lfu: bool,
    now_ms: i64,
    databases: usize,
    loaded: AtomicU64,
    expired: AtomicU64,
    expired_names: Mutex<Vec<(usize, Box<[u8]>)>>,
    empty: AtomicU64,
    failed: AtomicBool,
    error: Mutex<Option<LoadError>>,
}

/// A key whose bytes lie in its batch.
struct Job {
    db: usize,
    key: Range<usize>,
    body: Range<usize>,
    kind: u8,
    lineage: Lineage,
    expiry: Option<i64>,
    access: Access,
    offset: u64,
}

struct Batch {
    bytes: Vec<u8>,
    jobs: Vec<Job>,
}

/// What happens to the function libraries that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libraries {
    /// Those of the file take their place.
    Replaced,
    /// They stay; the file must bring none of the same name.
    Kept,
    /// They stay, but for those that the file brings too.
    Merged,
    /// They stay for now; those of the file are handed over in the summary.
    HandedOver,
}

/// Reads a whole file or stream into the keyspace. `source` is read until the end of the RDB part.
pub fn load(server: &'static Server, source: &mut dyn Read, rules: Rules) -> Result<Summary, LoadError> {
    load_with(server, server.keyspace, source, rules, Libraries::Replaced)
}

/// The same into a keyspace that may not be in use yet; functions take effect at the end, if all went well.
pub fn load_with(
    server: &'static Server,
    keyspace: &'static Keyspace,
    source: &mut dyn Read,
    rules: Rules,
    libraries: Libraries,
) -> Result<Summary, LoadError> {
    let shared = Shared::new(server, rules);
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4));
    let result = std::thread::scope(|scope| {
        let mut senders: Vec<SyncSender<Batch>> = Vec::new();
        for _ in 0..threads {
            let (sender, receiver) = sync_channel(8);
            let shared = &shared;
            scope.spawn(move || work(keyspace, shared, &receiver));
            senders.push(sender);
        }
        let mut next = 0;
        let mut deliver = |batch: Batch| {
            next = (next + 1) % senders.len();
            // The other side ends only after this one.
            let _ = senders[next].send(batch);
        };
        read(server, source, &shared, &mut deliver)
    });
    finish(server, &shared, result, libraries)
}

/// The same on this thread alone, under locks that the caller holds (DEBUG RELOAD).
pub fn load_locked(
    server: &'static Server,
    locked: &mut Locked,
    source: &mut dyn Read,
    rules: Rules,
) -> Result<Summary, LoadError> {
    let shared = Shared::new(server, rules);
    let mut deliver = |batch: Batch| {
        for job in &batch.jobs {
            shared.take(&batch, job, |hash, db, record| locked.db_mut(hash, db).insert(hash, record));
        }
    };
    let result = read(server, source, &shared, &mut deliver);
    finish(server, &shared, result, Libraries::Replaced)
}

fn work(keyspace: &'static Keyspace, shared: &Shared, batches: &Receiver<Batch>) {
    for batch in batches {
        for group in batch.jobs.chunks(AHEAD) {
            // The keys of a file come in no order that is ours: each would wait for its bucket's memory.
            for job in group {
                let hash = Locked::hash(&batch.bytes[job.key.clone()]);
                keyspace.glance(hash, job.db, |db| db.table().prefetch_bucket(hash));
            }
            for job in group {
                shared.take(&batch, job, |hash, db, record| {
                    keyspace.lock(ShardSet::one(shard_of(hash))).db_mut(hash, db).insert(hash, record)
                });
            }
        }
    }
}

impl Shared {
    fn new(server: &Server, rules: Rules) -> Self {
        let config = server.config.current();
        Shared {
            limits: Arc::clone(&config.limits),
            rules,
            lfu: config.maxmemory_policy.is_lfu(),
            now_ms: clock::unix_ms(),
            databases: server.keyspace.databases(),
            loaded: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            expired_names: Mutex::default(),
            empty: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            error: Mutex::default(),
        }
    }

    /// Decodes one key and hands it to `insert`, which returns what was there before.
    fn take(&self, batch: &Batch, job: &Job, insert: impl FnOnce(u64, usize, Record) -> Option<Record>) {
        let key = &batch.bytes[job.key.clone()];
        let decoded = match value::decode(job.kind, job.lineage, &batch.bytes[job.body.clone()], &self.limits) {
            Ok(decoded) => decoded,
            Err(Fault::Empty) => {
                if self.empty.fetch_add(1, Ordering::Relaxed) < EMPTY_NAMED {
                    tracing::warn!("rdbLoadObject skipping empty key: {}", String::from_utf8_lossy(key));
                }
                return;
            }
            Err(fault) => {
                let name = String::from_utf8_lossy(key).into_owned();
                return self.fail(job.offset, Fault::Damaged(format!("{fault} (key '{name}')").into()));
            }
        };
        if !self.rules.keep_expired && job.expiry.is_some_and(|at| at < self.now_ms) {
            self.expired.fetch_add(1, Ordering::Relaxed);
            if self.rules.name_expired {
                self.expired_names.lock().push((job.db, key.into()));
            }
            return;
        }
        let record = decoded.into_record(key, job.expiry);
        record.set_access(self.access(job.access));
        self.loaded.fetch_add(1, Ordering::Relaxed);
        let old = insert(Locked::hash(key), job.db, record);
        if let Some(old) = old
            && !self.rules.replace
        {
            let name = String::from_utf8_lossy(old.key()).into_owned();
            self.fail(job.offset, Fault::Damaged(format!("RDB has duplicated key '{name}' in DB {}", job.db).into()));
        }
    }

    fn access(&self, access: Access) -> u32 {
        let clock = context::lru_clock(self.now_ms);
        match access {
            Access::Frequency(frequency) if self.lfu => {
                ((self.now_ms / 60_000) as u32 & 0xffff) << 8 | u32::from(frequency)
            }
            Access::IdleSeconds(idle) if !self.lfu => clock.saturating_sub(idle.min(0x00ff_ffff) as u32),
            _ if self.lfu => ((self.now_ms / 60_000) as u32 & 0xffff) << 8 | 5,
            _ => clock,
        }
    }

    fn fail(&self, offset: u64, fault: Fault) {
        self.failed.store(true, Ordering::Release);
        self.error.lock().get_or_insert(LoadError { offset, fault });
    }
}

/// Feeds the reader until the end of the RDB part.
fn read(
    server: &'static Server,
    source: &mut dyn Read,
    shared: &Shared,
    deliver: &mut dyn FnMut(Batch),
) -> Result<Summary, LoadError> {
    let config = server.config.current();
    let skip = server.save_status.skip_checksum.load(Ordering::Acquire);
    let mut reader = Reader::new(config.rdbchecksum && !skip);
    let mut piece = vec![0; PIECE];
    let (mut batch, mut summary) = (Batch::new(), Summary::default());
    let mut delay = LoadDelay { setting: config.key_load_delay, keys: 0 };
    while !reader.is_done() {
        let len = match source.read(&mut piece) {
            Ok(0) => return Err(reader.truncated()),
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(LoadError { offset: reader.offset(), fault: Fault::Damaged(error.to_string().into()) });
            }
        };
        reader.feed(&piece[..len]);
        // May be changed while a slow load runs.
        delay.setting = server.config.current().key_load_delay;
        loop {
            let offset = reader.offset();
            let Some(item) = reader.next_item()? else { break };
            match item {
                Item::Key(key) => {
                    if key.db >= shared.databases {
                        return Err(LoadError { offset, fault: too_many_databases(shared.databases) });
                    }
                    batch.push(&key, offset);
                    delay.after_key();
                    if batch.bytes.len() >= BATCH {
                        deliver(std::mem::replace(&mut batch, Batch::new()));
                    }
                }
                Item::End => break,
                Item::Resize { keys, .. } => make_room(server, reader.db(), keys),
                other => note(server, other, &mut summary),
            }
        }
        server.save_status.loading.loaded_bytes.fetch_add(len as u64, Ordering::Relaxed);
        if shared.failed.load(Ordering::Acquire) {
            break;
        }
    }
    deliver(batch);
    summary.end = reader.offset();
    summary.rest = reader.rest().to_vec();
    Ok(summary)
}

fn too_many_databases(databases: usize) -> Fault {
    let what =
        format!("Data file was created with a Redis server configured to handle more than {databases} databases.");
    Fault::Damaged(what.into())
}

/// Makes room for the keys that a file announces, as far as its length can hold them. Without a length nothing is believed.
fn make_room(server: &'static Server, db: usize, keys: u64) {
    const SHORTEST: u64 = 4;
    let believable = server.save_status.loading.total_bytes.load(Ordering::Relaxed) / SHORTEST;
    let each = keys.min(believable) as usize / SHARDS;
    if each < 1024 || db >= server.keyspace.databases() || place::is_by_slot() {
        return;
    }
    for shard in 0..SHARDS {
        // A caller that holds all shards (DEBUG RELOAD in one piece) goes without.
        if let Some(mut locked) = server.keyspace.try_lock(shard) {
            locked.shard_mut(shard).part_mut(db).reserve(each);
        }
    }
}

/// Everything but keys: the log, and what the caller wants to know.
fn note(server: &'static Server, item: Item<'_>, summary: &mut Summary) {
    match item {
        Item::Aux(key, value) => note_aux(server, &key, &String::from_utf8_lossy(&value), summary),
        Item::Function(code) => summary.functions.push(code.into_owned().into()),
        Item::Skipped(what) => tracing::warn!("{what}"),
        Item::Resize { .. } | Item::Version(_) | Item::SelectDb(_) | Item::Key(_) | Item::End => {}
    }
}

fn note_aux(server: &'static Server, key: &[u8], text: &str, summary: &mut Summary) {
    match key {
        b"redis-ver" => tracing::info!("Loading RDB produced by version {text}"),
        b"ctime" => {
            let age = clock::unix_ms() / 1000 - text.parse().unwrap_or(0);
            tracing::info!("RDB age {} seconds", age.max(0));
        }
        b"used-mem" => {
            let bytes: u64 = text.parse().unwrap_or(0);
            tracing::info!("RDB memory usage when created {:.2} Mb", bytes as f64 / (1 << 20) as f64);
            server.save_status.loading.file_used_memory.store(bytes, Ordering::Relaxed);
        }
        b"aof-base" if text != "0" => tracing::info!("RDB is base AOF"),
        b"aof-preamble" if text != "0" => tracing::info!("RDB has an AOF tail"),
        b"repl-id" if text.len() == 40 => summary.repl_id = Some(text.to_owned()),
        b"repl-offset" => summary.repl_offset = text.parse().ok(),
        b"repl-stream-db" => summary.repl_stream_db = text.parse().ok(),
        _ if key.starts_with(b"%") => tracing::info!("RDB '{}': {text}", String::from_utf8_lossy(key)),
        _ => tracing::debug!("Unrecognized RDB AUX field: '{}'", String::from_utf8_lossy(key)),
    }
}

fn finish(
    server: &'static Server,
    shared: &Shared,
    result: Result<Summary, LoadError>,
    libraries: Libraries,
) -> Result<Summary, LoadError> {
    let mut summary = result?;
    summary.expired = std::mem::take(&mut shared.expired_names.lock());
    if let Some(error) = shared.error.lock().take() {
        return Err(error);
    }
    let loading = &server.save_status.loading;
    let (loaded, expired, empty) = (
        shared.loaded.load(Ordering::Relaxed),
        shared.expired.load(Ordering::Relaxed),
        shared.empty.load(Ordering::Relaxed),
    );
    loading.keys_loaded.store(loaded, Ordering::Relaxed);
    loading.keys_expired.store(expired, Ordering::Relaxed);
    if empty > 0 {
        tracing::warn!(
            "Done loading RDB, keys loaded: {loaded}, keys expired: {expired}, empty keys skipped: {empty}."
        );
    } else {
        tracing::info!("Done loading RDB, keys loaded: {loaded}, keys expired: {expired}.");
    }
    load_functions(server, &mut summary, libraries)?;
    Ok(summary)
}

fn load_functions(server: &'static Server, summary: &mut Summary, rule: Libraries) -> Result<(), LoadError> {
    let fail =
        |what: String| LoadError { offset: 0, fault: Fault::Damaged(format!("Failed loading library, {what}").into()) };
    let mut libraries = match rule {
        Libraries::Replaced | Libraries::HandedOver => BTreeMap::new(),
        Libraries::Kept | Libraries::Merged => BTreeMap::clone(&server.scripts.libraries()),
    };
    for code in &summary.functions {
        let compile =
            server.save_status.compile_library.get().ok_or_else(|| fail("there is no interpreter".to_owned()))?;
        let library = compile(server, code).map_err(|error| fail(error.text().into_owned()))?;
        if let Some(twice) = libraries.insert(library.name.clone(), library)
            && rule != Libraries::Merged
        {
            return Err(fail(format!("Library {} already exists", twice.name)));
        }
    }
    match rule {
        Libraries::HandedOver => summary.libraries = Some(libraries),
        Libraries::Replaced | Libraries::Kept | Libraries::Merged => server.scripts.set_libraries(libraries),
    }
    Ok(())
}

impl Batch {
    fn new() -> Self {
        Batch { bytes: Vec::with_capacity(BATCH + BATCH / 8), jobs: Vec::with_capacity(BATCH / 128) }
    }

    fn push(&mut self, item: &KeyItem<'_>, offset: u64) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&item.key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(item.body);
        self.jobs.push(Job {
            db: item.db,
            key: start..middle,
            body: middle..self.bytes.len(),
            kind: item.kind,
            lineage: item.lineage,
            expiry: item.expiry,
            access: item.access,
            offset,
        });
    }
}

/// key-load-delay, for tests.
struct LoadDelay {
    setting: i64,
    keys: u64,
}

impl LoadDelay {
    fn after_key(&mut self) {
        if self.setting == 0 {
            return;
        }
        self.keys += 1;
        if self.setting > 0 {
            std::thread::sleep(Duration::from_micros(self.setting as u64));
        } else if self.keys.is_multiple_of(self.setting.unsigned_abs()) {
            std::thread::sleep(Duration::from_micros(1));
        }
    }
}

/// Removes every key, waiting for nobody: before a load that replaces all.
pub fn empty_all(locked: &mut Locked) {
    for shard in 0..SHARDS {
        for db in locked.shard_mut(shard).dbs_mut() {
            drop(db.clear());
        }
    }
}
