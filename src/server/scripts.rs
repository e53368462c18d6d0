//! Scripts and functions as plain data: the cache of EVAL, the function libraries, and what is known of a running script.
//!
//! The interpreters that run them live above, in `script`, one per worker; they compile from what is here and notice by
//! the generation that it has changed.

use super::script_flags::{self, ScriptFlags};
use super::table::Entry;
use crate::commands::error::CommandError;
use crate::resp::Args;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

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

/// The script that a worker runs just now, as others see it.
#[derive(Default)]
pub struct Run {
    /// It has run longer than busy-reply-threshold: others are answered -BUSY.
    is_busy: AtomicBool,
    has_written: AtomicBool,
    kill: AtomicBool,
    is_function: AtomicBool,
    /// It came from the primary or the append-only file: it must come to its end.
    is_replay: AtomicBool,
    /// Of a busy one: name, start in milliseconds since the epoch, and the command as it was called.
    pub call: Mutex<(String, i64, Vec<Vec<u8>>)>,
}

/// The runs of all workers. Scripts that declare their keys run side by side.
#[derive(Default)]
pub struct Running {
    runs: Mutex<Vec<&'static Run>>,
    busy: AtomicUsize,
}

#[derive(Default)]
pub struct Scripts {
    cache: Mutex<Cache>,
    libraries: Mutex<Arc<BTreeMap<String, Library>>>,
    /// Raised by every change of the libraries, and by every SCRIPT FLUSH: interpreters notice by these.
    generation: AtomicU64,
    flushes: AtomicU64,
    pub running: Running,
    pub evicted: AtomicU64,
    /// The interpreters of EVAL and of functions.
    pub eval_bytes: InterpreterBytes,
    pub function_bytes: InterpreterBytes,
}

/// Bytes of each interpreter of a kind, by its own last reckoning. Every worker has one.
#[derive(Default)]
pub struct InterpreterBytes {
    each: Mutex<Vec<Weak<AtomicU64>>>,
}

/// Why a running script cannot be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKilled {
    NotBusy,
    Unkillable,
    FromPrimary,
    /// It is a function, or a script, which the other command kills.
    OtherKind,
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
        self.flushes.fetch_add(1, Ordering::Release);
        self.eval_bytes.forget();
    }

    #[inline]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Bytes of all interpreters.
    pub fn interpreter_bytes(&self) -> u64 {
        self.eval_bytes.sum() + self.function_bytes.sum()
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
    /// The flags of the script that a command would run, if it is one and they can be read.
    pub fn flags_of(&self, entry: &Entry, args: Args<'_>) -> Option<ScriptFlags> {
        let declared = |body: &[u8]| script_flags::of_script(body).ok().map(|(flags, _)| flags);
        match entry.full_name.as_str() {
            "eval" | "eval_ro" => declared(&args[1]),
            "evalsha" | "evalsha_ro" => {
                let sha = Sha::try_from(args[1].to_ascii_lowercase()).ok()?;
                declared(&self.find(&sha)?)
            }
            "fcall" | "fcall_ro" => {
                let libraries = self.libraries();
                let mut functions = libraries.values().flat_map(|library| &library.functions);
                let function = functions.find(|function| function.name.as_bytes().eq_ignore_ascii_case(&args[1]))?;
                let mut flags = ScriptFlags::default();
                for name in &function.flags {
                    flags.add(name.as_bytes());
                }
                Some(flags)
            }
            _ => None,
        }
    }

    /// Whether a command runs a script that has promised not to write.
    pub fn only_reads(&self, entry: &Entry, args: Args<'_>) -> bool {
        self.flags_of(entry, args).is_some_and(|flags| flags.no_writes)
    }

    /// Bytes of the libraries.
    pub fn library_bytes(&self) -> usize {
        let of_functions = |library: &Library| library.functions.len() * size_of::<FunctionInfo>();
        self.libraries().values().map(|library| library.code.len() + of_functions(library)).sum()
    }
}

impl InterpreterBytes {
    /// Where a new interpreter reports; it counts for as long as it keeps this.
    pub fn add_interpreter(&self) -> Arc<AtomicU64> {
        let bytes = Arc::default();
        let mut each = self.each.lock();
        each.retain(|other| other.strong_count() > 0);
        each.push(Arc::downgrade(&bytes));
        bytes
    }

    /// The interpreters are given up: each worker makes a new one at its next script, and tells of that then.
    fn forget(&self) {
        self.each.lock().iter().filter_map(Weak::upgrade).for_each(|bytes| bytes.store(0, Ordering::Relaxed));
    }

    pub fn sum(&self) -> u64 {
        self.reported().iter().sum()
    }

    /// What one interpreter needs, as it would be with a single worker.
    pub fn largest(&self) -> u64 {
        self.reported().into_iter().max().unwrap_or_default()
    }

    fn reported(&self) -> Vec<u64> {
        self.each.lock().iter().filter_map(Weak::upgrade).map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

impl Running {
    /// The run of a new worker. When that goes, it is the next one's (`Server::seat`): so it is leaked on purpose.
    pub fn add_worker(&self) -> &'static Run {
        let run: &Run = Box::leak(Box::default());
        self.runs.lock().push(run);
        run
    }

    /// Whether some script has kept the server for too long.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// A busy run; the first of several.
    pub fn busy_run(&self) -> Option<&'static Run> {
        self.runs.lock().iter().copied().find(|run| run.is_busy.load(Ordering::Acquire))
    }

    /// What others are told while a script keeps the server.
    pub fn busy_error(&self) -> CommandError {
        busy_error(self.busy_run().is_some_and(|run| run.is_function()))
    }

    pub fn start(&self, run: &Run, is_function: bool, is_replay: bool) {
        run.has_written.store(false, Ordering::Relaxed);
        run.kill.store(false, Ordering::Relaxed);
        run.is_function.store(is_function, Ordering::Relaxed);
        run.is_replay.store(is_replay, Ordering::Relaxed);
    }

    /// From now on others are answered -BUSY.
    pub fn note_busy(&self, run: &Run, name: &str, started_ms: i64, call: Vec<Vec<u8>>) {
        *run.call.lock() = (name.to_owned(), started_ms, call);
        run.is_busy.store(true, Ordering::Release);
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    pub fn end(&self, run: &Run) {
        if run.is_busy.load(Ordering::Relaxed) {
            run.is_busy.store(false, Ordering::Release);
            self.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// SCRIPT KILL and FUNCTION KILL: ends every busy run of that kind that has not written; the first reason if there is none.
    pub fn request_kill(&self, functions: bool) -> Result<(), NotKilled> {
        let (mut killed, mut reason) = (false, None);
        for run in self.runs.lock().iter().filter(|run| run.is_busy.load(Ordering::Acquire)) {
            match run.why_not_killed(functions) {
                Some(why) => drop(reason.get_or_insert(why)),
                None => {
                    run.kill.store(true, Ordering::Release);
                    killed = true;
                }
            }
        }
        if killed { Ok(()) } else { Err(reason.unwrap_or(NotKilled::NotBusy)) }
    }
}

/// The error names the command that would end the script.
pub fn busy_error(is_function: bool) -> CommandError {
    CommandError::fixed(if is_function {
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    } else {
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    })
}

impl Run {
    pub fn is_function(&self) -> bool {
        self.is_function.load(Ordering::Acquire)
    }

    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    pub fn is_killed(&self) -> bool {
        self.kill.load(Ordering::Acquire)
    }

    pub fn has_written(&self) -> bool {
        self.has_written.load(Ordering::Relaxed)
    }

    pub fn note_written(&self) {
        self.has_written.store(true, Ordering::Release);
    }

    fn why_not_killed(&self, functions: bool) -> Option<NotKilled> {
        if self.is_replay.load(Ordering::Relaxed) {
            return Some(NotKilled::FromPrimary);
        }
        if self.has_written.load(Ordering::Acquire) {
            return Some(NotKilled::Unkillable);
        }
        (self.is_function() != functions).then_some(NotKilled::OtherKind)
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
    fn interpreters_count_while_they_live() {
        let bytes = InterpreterBytes::default();
        let (one, other) = (bytes.add_interpreter(), bytes.add_interpreter());
        one.store(70, Ordering::Relaxed);
        other.store(50, Ordering::Relaxed);
        assert_eq!((bytes.sum(), bytes.largest()), (120, 70));
        drop(one);
        assert_eq!((bytes.sum(), bytes.largest()), (50, 50));
    }

    #[test]
    fn only_a_busy_script_that_has_not_written_can_be_killed() {
        let running = Running::default();
        let run = running.add_worker();
        running.start(run, false, false);
        assert_eq!(running.request_kill(false), Err(NotKilled::NotBusy));
        running.note_busy(run, "x", 1, Vec::new());
        assert_eq!(running.request_kill(true), Err(NotKilled::OtherKind));
        assert_eq!(running.request_kill(false), Ok(()));
        assert!(run.is_killed());
        run.note_written();
        assert_eq!(running.request_kill(false), Err(NotKilled::Unkillable));
        running.end(run);
        assert!(!running.is_busy());
    }

    #[test]
    fn of_several_busy_scripts_those_are_killed_that_can_be() {
        let running = Running::default();
        let (writer, reader) = (running.add_worker(), running.add_worker());
        for run in [writer, reader] {
            running.start(run, false, false);
            running.note_busy(run, "x", 1, Vec::new());
        }
        writer.note_written();
        assert_eq!(running.request_kill(false), Ok(()));
        assert!(reader.is_killed() && !writer.is_killed());
        running.end(writer);
        assert!(running.is_busy());
    }

    #[test]
    fn interpreters_that_a_flush_gives_up_do_not_count() {
        let scripts = Scripts::default();
        let (old, _other) = (scripts.eval_bytes.add_interpreter(), scripts.eval_bytes.add_interpreter());
        old.store(300_000, Ordering::Relaxed);
        assert_eq!(scripts.eval_bytes.largest(), 300_000);
        scripts.flush();
        let new = scripts.eval_bytes.add_interpreter();
        new.store(40_000, Ordering::Relaxed);
        assert_eq!((scripts.eval_bytes.largest(), scripts.eval_bytes.sum()), (40_000, 40_000));
    }
}
