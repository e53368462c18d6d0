//! ACL LOG: what was refused, the newest first. The same refusal again within a minute only raises the count of its entry.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// Entries that are compared with a new one.
const LOOKED_AT: usize = 10;
const TOGETHER_MS: i64 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Command,
    Key,
    Channel,
    Auth,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Context {
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Refusal {
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Box<[u8]>,
    /// The client as CLIENT INFO shows it.
    pub client: String,
}

#[derive(Clone, Debug)]
pub struct LogEntry {
    pub id: u64,
    pub count: u64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub refusal: Refusal,
}

#[derive(Default)]
struct Entries {
    newest_first: VecDeque<LogEntry>,
    next_id: u64,
}

/// The log, and how many refusals of each reason there were (INFO stats).
#[derive(Default)]
pub struct AclLog {
    entries: Mutex<Entries>,
    counts: [AtomicU64; 4],
}

impl AclLog {
    pub fn add(&self, refusal: Refusal, now_ms: i64, max_len: usize) {
        self.counts[refusal.reason as usize].fetch_add(1, Ordering::Relaxed);
        let entries = &mut *self.entries.lock();
        let log = &mut entries.newest_first;
        let is_same = |entry: &LogEntry| {
            let known = &entry.refusal;
            known.reason == refusal.reason
                && known.context == refusal.context
                && (now_ms - entry.updated_ms).abs() <= TOGETHER_MS
                && known.object == refusal.object
                && known.user == refusal.user
        };
        if let Some(mut entry) = log.iter().take(LOOKED_AT).position(is_same).and_then(|index| log.remove(index)) {
            entry.count += 1;
            entry.updated_ms = now_ms;
            entry.refusal = refusal;
            log.push_front(entry);
            return;
        }
        log.push_front(LogEntry { id: entries.next_id, count: 1, created_ms: now_ms, updated_ms: now_ms, refusal });
        entries.next_id += 1;
        log.truncate(max_len);
    }

    pub fn newest(&self, count: usize) -> Vec<LogEntry> {
        self.entries.lock().newest_first.iter().take(count).cloned().collect()
    }

    pub fn reset(&self) {
        self.entries.lock().newest_first.clear();
    }

    pub fn count(&self, reason: Reason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// CONFIG RESETSTAT.
    pub fn reset_counts(&self) {
        self.counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(object: &str) -> Refusal {
        Refusal {
            reason: Reason::Key,
            context: Context::TopLevel,
            object: object.into(),
            user: b"u"[..].into(),
            client: String::new(),
        }
    }

    #[test]
    fn the_same_again_is_counted_and_the_old_are_dropped() {
        let log = AclLog::default();
        for (object, now) in [("a", 0), ("b", 1), ("a", 2), ("a", TOGETHER_MS + 3)] {
            log.add(refusal(object), now, 128);
        }
        let shown: Vec<(u64, u64, Vec<u8>)> =
            log.newest(9).into_iter().map(|entry| (entry.id, entry.count, entry.refusal.object)).collect();
        assert_eq!(shown, [(2, 1, b"a".to_vec()), (0, 2, b"a".to_vec()), (1, 1, b"b".to_vec())]);
        log.add(refusal("c"), 5, 2);
        assert_eq!(log.newest(9).len(), 2);
        assert_eq!(log.count(Reason::Key), 5);
        log.reset();
        assert!(log.newest(9).is_empty());
        log.add(refusal("d"), 6, 0);
        assert!(log.newest(9).is_empty());
    }
}
