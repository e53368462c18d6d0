//! What is known of saving and loading: plain data that INFO and admission read, and `persistence` keeps true.

use super::journal::{Journal, JournalReader};
use super::scripts::Library;
use super::state::Server;
use crate::commands::error::CommandError;
use crate::engine::keyspace::Locked;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

pub type CompileLibrary = fn(&'static Server, &Bytes) -> Result<Library, CommandError>;

pub type SaveNow = fn(&'static Server, &Locked) -> Result<(), String>;

/// Which snapshot is being written; there is one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    None = 0,
    /// BGSAVE.
    Rdb = 1,
    /// BGREWRITEAOF.
    AofRewrite = 2,
    /// The data set on its way to a replica.
    Replication = 3,
}

impl Activity {
    fn from_u8(value: u8) -> Self {
        match value {
            1 => Activity::Rdb,
            2 => Activity::AofRewrite,
            3 => Activity::Replication,
            _ => Activity::None,
        }
    }
}

/// The data set that is being loaded.
#[derive(Default)]
pub struct Loading {
    pub started_s: AtomicI64,
    pub total_bytes: AtomicU64,
    pub loaded_bytes: AtomicU64,
    /// Memory of the server that wrote the file, as it says.
    pub file_used_memory: AtomicU64,
    /// `rdb_last_load_keys_loaded` and `…_expired`.
    pub keys_loaded: AtomicU64,
    pub keys_expired: AtomicU64,
}

/// The append-only file.
#[derive(Default)]
pub struct AofStatus {
    /// The file follows every write.
    pub enabled: AtomicBool,
    pub current_size: AtomicU64,
    pub base_size: AtomicU64,
    pub last_rewrite_seconds: AtomicI64,
    pub last_rewrite_failed: AtomicBool,
    pub rewrites: AtomicU64,
    pub rewrites_consecutive_failures: AtomicU64,
    pub rewrite_scheduled: AtomicBool,
    /// The number of failures for which the log has told of a longer pause.
    pub rewrite_limit_failures: AtomicU64,
    /// CONFIG SET appendonly is being made true. On its way on this counts as a rewrite, or as one that is scheduled while
    /// another snapshot runs.
    pub changing: AtomicBool,
    pub delayed_fsync: AtomicU64,
    /// Bytes written but not yet synced, and whether a sync is under way.
    pub pending_fsync: AtomicBool,
    /// Errno of the last write; 0 = it went well.
    pub write_error: AtomicI64,
    /// How far in the journal the file is.
    pub reader: Arc<JournalReader>,
    /// Memory of what the writer has taken from the journal.
    pub buffer_bytes: AtomicU64,
    /// When the running sync began, in milliseconds; 0 = none is running.
    pub sync_started_ms: AtomicI64,
    /// Bytes that writers saved ahead of the last rewrite.
    pub last_ahead_bytes: AtomicU64,
    /// DEBUG AOF-FLUSH-SLEEP: microseconds before each write.
    pub flush_sleep_us: AtomicU64,
}

impl AofStatus {
    /// Bytes of the journal that are not in the file yet.
    pub fn waiting(&self, journal: &Journal) -> u64 {
        match self.enabled.load(Ordering::Acquire) {
            true => journal.end().saturating_sub(self.reader.position.load(Ordering::Acquire)),
            false => 0,
        }
    }
}

pub struct SaveStatus {
    activity: AtomicU8,
    /// The running snapshot is to be given up.
    cancelled: AtomicBool,
    pub activity_started_s: AtomicI64,
    pub keys_processed: AtomicU64,
    pub keys_total: AtomicU64,
    /// Bytes of the values that writers had to save ahead of the running snapshot, and of the last BGSAVE.
    pub ahead_bytes: AtomicU64,
    /// Memory of what the running snapshot has serialized and not yet handed over.
    pub buffered: AtomicUsize,
    pub last_ahead_bytes: AtomicU64,
    /// Snapshots begun.
    pub snapshots: AtomicU64,
    pub last_save_s: AtomicI64,
    /// Seconds of the last BGSAVE; -1 before the first.
    pub last_bgsave_seconds: AtomicI64,
    pub last_bgsave_try_s: AtomicI64,
    pub last_bgsave_failed: AtomicBool,
    pub rdb_saves: AtomicU64,
    /// BGSAVE SCHEDULE waits for the end of another snapshot.
    pub bgsave_scheduled: AtomicBool,
    pub loading: Loading,
    pub aof: AofStatus,
    /// Not zero: writes may have to be refused (the reasons are looked at only then).
    alarm: AtomicU8,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION.
    pub skip_checksum: AtomicBool,
    /// Saves at once, as SAVE does; put here by `boot`, since files are the business of rooms above.
    pub save_now: OnceLock<SaveNow>,
    /// Compiles a function library that a file holds; put here by `boot`, since scripts live above.
    pub compile_library: OnceLock<CompileLibrary>,
}

impl Default for SaveStatus {
    fn default() -> Self {
        SaveStatus {
            activity: AtomicU8::new(0),
            cancelled: AtomicBool::new(false),
            activity_started_s: AtomicI64::new(0),
            keys_processed: AtomicU64::new(0),
            keys_total: AtomicU64::new(0),
            ahead_bytes: AtomicU64::new(0),
            buffered: AtomicUsize::new(0),
            last_ahead_bytes: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            last_save_s: AtomicI64::new(crate::base::clock::unix_ms() / 1000),
            last_bgsave_seconds: AtomicI64::new(-1),
            last_bgsave_try_s: AtomicI64::new(0),
            last_bgsave_failed: AtomicBool::new(false),
            rdb_saves: AtomicU64::new(0),
            bgsave_scheduled: AtomicBool::new(false),
            loading: Loading::default(),
            aof: AofStatus { last_rewrite_seconds: AtomicI64::new(-1), ..AofStatus::default() },
            alarm: AtomicU8::new(0),
            skip_checksum: AtomicBool::new(false),
            save_now: OnceLock::new(),
            compile_library: OnceLock::new(),
        }
    }
}

const ALARM_RDB: u8 = 1;
const ALARM_AOF: u8 = 2;

impl SaveStatus {
    pub fn activity(&self) -> Activity {
        Activity::from_u8(self.activity.load(Ordering::Acquire))
    }

    /// `aof_rewrite_in_progress`.
    pub fn is_rewriting_aof(&self) -> bool {
        match self.activity() {
            Activity::AofRewrite => true,
            Activity::None => self.aof.changing.load(Ordering::Acquire),
            Activity::Rdb | Activity::Replication => false,
        }
    }

    /// `aof_rewrite_scheduled`.
    pub fn is_rewrite_scheduled(&self) -> bool {
        let waits = self.aof.changing.load(Ordering::Acquire) && self.activity() != Activity::None;
        self.aof.rewrite_scheduled.load(Ordering::Acquire) || waits
    }

    /// Claims the right to write a snapshot; false while another is being written.
    pub fn begin(&self, activity: Activity, now_s: i64) -> bool {
        let none = Activity::None as u8;
        let claimed = self.activity.compare_exchange(none, activity as u8, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if claimed {
            self.cancelled.store(false, Ordering::Release);
            self.keys_processed.store(0, Ordering::Relaxed);
            self.ahead_bytes.store(0, Ordering::Relaxed);
            self.snapshots.fetch_add(1, Ordering::Relaxed);
            self.activity_started_s.store(now_s, Ordering::Relaxed);
        }
        claimed
    }

    pub fn end(&self) {
        self.keys_processed.store(0, Ordering::Relaxed);
        self.keys_total.store(0, Ordering::Relaxed);
        self.ahead_bytes.store(0, Ordering::Relaxed);
        self.activity.store(Activity::None as u8, Ordering::Release);
    }

    /// Asks the running snapshot to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// All keys are about to go: a snapshot of them is no longer wanted.
    pub fn before_flush(&self) {
        if matches!(self.activity(), Activity::Rdb | Activity::Replication) {
            self.cancel();
        }
    }

    /// Notes how a BGSAVE ended.
    pub fn note_bgsave(&self, failed: bool) {
        self.last_bgsave_failed.store(failed, Ordering::Relaxed);
        self.raise(ALARM_RDB, failed);
    }

    /// Notes how writing the append-only file went.
    pub fn note_aof_error(&self, errno: i64) {
        self.aof.write_error.store(errno, Ordering::Relaxed);
        self.raise(ALARM_AOF, errno != 0);
    }

    fn raise(&self, alarm: u8, on: bool) {
        if on {
            self.alarm.fetch_or(alarm, Ordering::Release);
        } else {
            self.alarm.fetch_and(!alarm, Ordering::Release);
        }
    }

    /// Whether anything is wrong that could refuse a write.
    #[inline]
    pub fn is_alarmed(&self) -> bool {
        self.alarm.load(Ordering::Relaxed) != 0
    }
}
