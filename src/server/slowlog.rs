//! The slow log: the last commands that took longer than `slowlog-log-slower-than`.

use super::monitor::is_secret;
use super::state::Server;
use super::table::Entry;
use crate::base::clock;
use crate::commands::flags::Flags;
use crate::resp::Args;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// More arguments, and longer ones, are cut.
const ARGS_MAX: usize = 32;
const ARG_LEN_MAX: usize = 128;

#[derive(Clone, Debug)]
pub struct SlowCommand {
    pub id: u64,
    pub at_s: i64,
    pub took_us: u64,
    pub args: Vec<Vec<u8>>,
    pub addr: String,
    pub name: String,
}

#[derive(Default)]
struct Entries {
    /// Newest first.
    commands: VecDeque<SlowCommand>,
    next_id: u64,
}

#[derive(Default)]
pub struct SlowLog(Mutex<Entries>);

impl SlowLog {
    pub fn len(&self) -> usize {
        self.0.lock().commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn reset(&self) {
        self.0.lock().commands.clear();
    }

    /// The newest entries, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<SlowCommand> {
        self.0.lock().commands.iter().take(count).cloned().collect()
    }

    fn add(&self, mut command: SlowCommand, max_len: usize) {
        let entries = &mut *self.0.lock();
        command.id = entries.next_id;
        entries.next_id += 1;
        entries.commands.push_front(command);
        entries.commands.truncate(max_len);
    }
}

impl Server {
    /// A command took longer than the slow log or the latency monitor lets pass unseen. Workers compare one number for both.
    #[cold]
    pub fn note_slow(&self, entry: &Entry, args: Args<'_>, client: u64, took_ns: u64) {
        let config = self.config.current();
        let took_us = took_ns / 1000;
        let is_slow = u64::try_from(config.slowlog_log_slower_than).is_ok_and(|limit| took_us >= limit);
        if is_slow && !entry.spec.flags.has(Flags::SKIP_SLOWLOG) {
            let client = self.clients.find(client);
            let command = SlowCommand {
                id: 0,
                at_s: clock::unix_ms() / 1000,
                took_us,
                args: shorten(entry, args),
                addr: client.as_ref().map(|client| client.addr.clone()).unwrap_or_default(),
                name: client.map(|client| client.texts.lock().name.clone()).unwrap_or_default(),
            };
            self.slowlog.add(command, config.slowlog_max_len);
        }
        let event = if entry.spec.flags.has(Flags::FAST) { "fast-command" } else { "command" };
        self.note_latency(event, took_us / 1000);
    }
}

fn shorten(entry: &Entry, args: Args<'_>) -> Vec<Vec<u8>> {
    let shown = if args.len() > ARGS_MAX { ARGS_MAX - 1 } else { args.len() };
    let mut short: Vec<Vec<u8>> = args
        .iter()
        .take(shown)
        .enumerate()
        .map(|(index, arg)| if is_secret(entry, args, index) { b"(redacted)".to_vec() } else { shorten_one(arg) })
        .collect();
    if args.len() > shown {
        short.push(format!("... ({} more arguments)", args.len() - shown).into_bytes());
    }
    short
}

fn shorten_one(arg: &[u8]) -> Vec<u8> {
    match arg.get(..ARG_LEN_MAX) {
        Some(start) if arg.len() > ARG_LEN_MAX => {
            [start, format!("... ({} more bytes)", arg.len() - ARG_LEN_MAX).as_bytes()].concat()
        }
        _ => arg.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_long_arguments_cut() {
        let log = SlowLog::default();
        for took_us in 0..5 {
            let command =
                SlowCommand { id: 0, at_s: 0, took_us, args: Vec::new(), addr: String::new(), name: String::new() };
            log.add(command, 3);
        }
        let took: Vec<(u64, u64)> = log.newest(10).iter().map(|command| (command.id, command.took_us)).collect();
        assert_eq!(took, [(4, 4), (3, 3), (2, 2)]);
        assert_eq!(shorten_one(&[b'x'; 128]).len(), 128);
        assert!(shorten_one(&[b'x'; 130]).ends_with(b"x... (2 more bytes)"));
    }
}
