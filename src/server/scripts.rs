//! Scripts and functions as plain data: the cache of EVAL, the function libraries, and what is known of a running script.
//!
//! The interpreters that run them live above, in `script`, one per worker; they compile from what is here and notice by
//! the generation that it has changed.

use super::script_flags;
use super::table::Entry;
use crate::commands::error::CommandError;
use crate::resp::Args;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// EVAL scripts that SCRIPT LOAD did not ask to keep are forgotten beyond this number, the oldest first (Redis ≥ 7.4).
const EVAL_SCRIPTS_MAX: usize = 500;

/// SHA1 of a script's text, 40 lower-case hexadecimal digits.
pub type Sha = [u8; 40];

#[derive(Default)]
struct Cache {
    scripts: HashMap<Sha, Bytes>,
    /// Those that may be forgotten, in order of their first EVAL.
    evictable: VecDeque<Sha>,
}

/// A library of functions.
#[derive(Clone, Debug)]
pub struct Library {
    pub name: String,
    pub code: Bytes,
    pub functions: Vec<FunctionInfo>,
}

#[derive(Clone, Debug)]
pub struct FunctionInfo {
    pub name: String,
    pub description: Option<Bytes>,
    pub flags: Vec<&'static str>,
}

/// A script while it runs. Only one does at a time, because it holds every shard.
#[derive(Default)]
pub struct Running {
    /// Stopwatch-free start in milliseconds since the epoch; 0 = nothing runs.
    pub started_ms: AtomicI64,
    /// It has run longer than busy-reply-threshold: others are answered -BUSY.
    pub is_busy: AtomicBool,
    pub has_written: AtomicBool,
    pub kill: AtomicBool,
    pub is_function: AtomicBool,
    /// Name of the function, and the command as it was called, for FUNCTION STATS.
    pub call: Mutex<(String, Vec<Vec<u8>>)>,
}

#[derive(Default)]
pub struct Scripts {
    cache: Mutex<Cache>,
    libraries: Mutex<Arc<BTreeMap<String, Library>>>,
    /// Raised by every change that an interpreter must notice.
    generation: AtomicU64,
    pub running: Running,
    pub evicted: AtomicU64,
    /// Bytes of all interpreters, by their last reckoning.
    pub interpreter_bytes: AtomicU64,
}

/// Why a running script cannot be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKilled {
    NotBusy,
    Unkillable,
}

impl Scripts {
    pub fn find(&self, sha: &Sha) -> Option<Bytes> {
        self.cache.lock().scripts.get(sha).cloned()
    }

    /// Keeps a script: for good (SCRIPT LOAD), or until 500 newer ones have come.
    pub fn keep(&self, sha: Sha, body: Bytes, for_good: bool) {
        let mut cache = self.cache.lock();
        let is_new = cache.scripts.insert(sha, body).is_none();
        if for_good {
            cache.evictable.retain(|other| *other != sha);
            return;
        }
        if !is_new {
            return;
        }
        cache.evictable.push_back(sha);
        if cache.evictable.len() > EVAL_SCRIPTS_MAX
            && let Some(oldest) = cache.evictable.pop_front()
        {
            cache.scripts.remove(&oldest);
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn flush(&self) {
        *self.cache.lock() = Cache::default();
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Number and bytes of the cached scripts.
    pub fn cached(&self) -> (usize, usize) {
        let cache = self.cache.lock();
        (cache.scripts.len(), cache.scripts.values().map(|body| body.len() + size_of::<Sha>()).sum())
    }

    pub fn libraries(&self) -> Arc<BTreeMap<String, Library>> {
        Arc::clone(&self.libraries.lock())
    }

    pub fn set_libraries(&self, libraries: BTreeMap<String, Library>) {
        *self.libraries.lock() = Arc::new(libraries);
        self.generation.fetch_add(1, Ordering::Release);
    }

    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Scripts {
    /// Whether a command runs a script that has promised not to write.
    pub fn only_reads(&self, entry: &Entry, args: Args<'_>) -> bool {
        let promises = |body: &[u8]| script_flags::of_script(body).is_ok_and(|(flags, _)| flags.no_writes);
        match entry.full_name.as_str() {
            "eval" => promises(&args[1]),
            "evalsha" => {
                let sha = Sha::try_from(args[1].to_ascii_lowercase()).ok();
                sha.and_then(|sha| self.find(&sha)).is_some_and(|body| promises(&body))
            }
            "fcall" => self
                .libraries()
                .values()
                .flat_map(|library| &library.functions)
                .any(|function| function.name.as_bytes() == &args[1] && function.flags.contains(&"no-writes")),
            _ => false,
        }
    }
}

impl Running {
    /// What others are told while a script keeps the server.
    pub fn busy_error(&self) -> CommandError {
        CommandError::fixed(if self.is_function.load(Ordering::Acquire) {
            "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
        } else {
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        })
    }

    pub fn start(&self, now_ms: i64, function: Option<&str>, call: impl FnOnce() -> Vec<Vec<u8>>) {
        self.has_written.store(false, Ordering::Relaxed);
        self.kill.store(false, Ordering::Relaxed);
        self.is_busy.store(false, Ordering::Relaxed);
        self.is_function.store(function.is_some(), Ordering::Relaxed);
        if let Some(name) = function {
            *self.call.lock() = (name.to_owned(), call());
        }
        self.started_ms.store(now_ms, Ordering::Release);
    }

    pub fn end(&self) {
        self.started_ms.store(0, Ordering::Release);
        self.is_busy.store(false, Ordering::Release);
    }

    /// SCRIPT KILL and FUNCTION KILL.
    pub fn request_kill(&self) -> Result<(), NotKilled> {
        if !self.is_busy.load(Ordering::Acquire) {
            return Err(NotKilled::NotBusy);
        }
        if self.has_written.load(Ordering::Acquire) {
            return Err(NotKilled::Unkillable);
        }
        self.kill.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha(n: usize) -> Sha {
        let mut sha = [b'0'; 40];
        sha[..8].copy_from_slice(format!("{n:08}").as_bytes());
        sha
    }

    #[test]
    fn evaluated_scripts_age_loaded_ones_stay() {
        let scripts = Scripts::default();
        scripts.keep(sha(0), Bytes::from_static(b"loaded"), true);
        scripts.keep(sha(1), Bytes::from_static(b"evaluated, then loaded"), false);
        scripts.keep(sha(1), Bytes::from_static(b"evaluated, then loaded"), true);
        for n in 2..EVAL_SCRIPTS_MAX + 12 {
            scripts.keep(sha(n), Bytes::from_static(b"x"), false);
        }
        assert_eq!(scripts.cached().0, EVAL_SCRIPTS_MAX + 2);
        assert!(scripts.find(&sha(0)).is_some() && scripts.find(&sha(1)).is_some() && scripts.find(&sha(2)).is_none());
        assert_eq!(scripts.evicted.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn only_a_busy_script_that_has_not_written_can_be_killed() {
        let running = Running::default();
        running.start(1, None, Vec::new);
        assert_eq!(running.request_kill(), Err(NotKilled::NotBusy));
        running.is_busy.store(true, Ordering::Relaxed);
        assert_eq!(running.request_kill(), Ok(()));
        running.has_written.store(true, Ordering::Relaxed);
        assert_eq!(running.request_kill(), Err(NotKilled::Unkillable));
    }
}
