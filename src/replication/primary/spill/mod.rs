//! Replicas that are far behind read from disk (`repl-spill-size`): the journal's memory stays bounded, and nobody needs a full sync
//! for having been slow.
//!
//! ```text
//!   journal     files ............................|............ memory ............ end
//!                   ▲ slow replica                 ▲ mover: copies on and is a reader like any other, so that
//!                   └ reads here until it is past ─┘        memory before him may go
//! ```
//! Whoever has caught up reads from memory again; the files stay until it has acknowledged what memory no longer has, and for
//! repl-timeout after a lost link: a replica that comes back then goes on where it was. An error of the disk, or more than the limit,
//! ends the links that need what is gone.
//!
//! Lock order: this state → link, journal.

mod files;

use super::link::Link;
use crate::base::clock;
use crate::persistence::storage::{DISK, Storage};
use crate::server::Server;
use crate::server::config::Config;
use crate::server::journal::JournalReader;
use crate::server::replicas::Replica;
use files::Files;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Behind by less than this nobody goes to disk: a burst is over before a file is made.
const MEMORY_MIN: u64 = 1 << 20;
/// Behind by so much everybody does, where output limits do not say less.
const MEMORY_MAX: u64 = 32 << 20;
/// Bytes copied, or read, at once.
const PIECE: usize = 256 << 10;
/// How often the mover looks when there is little to do.
const LOOK: Duration = Duration::from_millis(10);

/// A replica that has been on disk.
struct User {
    link: Arc<Link>,
    /// It reads from memory again, but has not acknowledged all that is on disk only.
    is_back: bool,
}

struct Active {
    /// The stream's beginning that the files belong to.
    generation: u64,
    files: Files,
    mover: Arc<JournalReader>,
    users: Vec<User>,
    lost: Vec<Lost>,
}

/// A replica whose link is lost: it may come back.
struct Lost {
    name: String,
    acknowledged: u64,
    until_ms: i64,
}

pub struct Spill {
    storage: &'static dyn Storage,
    state: Mutex<Option<Active>>,
}

impl Default for Spill {
    fn default() -> Self {
        Spill { storage: DISK, state: Mutex::default() }
    }
}

/// What a replica on disk gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Bytes,
    /// It has caught up, or never was here.
    InMemory,
    /// What it needs is gone.
    Gone,
}

/// Removes the files of a process that did not end well.
pub fn start() {
    if let Ok(dir) = std::env::current_dir() {
        files::remove_stale(&dir);
    }
}

/// How far behind a replica may be before it goes to disk: well below what would end its link.
fn memory_limit(config: &Config) -> u64 {
    let limit = &config.client_output_buffer_limit.replica;
    let lowest = [limit.hard_bytes, limit.soft_bytes].into_iter().filter(|bytes| *bytes > 0).min();
    let limit = lowest.map_or(MEMORY_MAX, |bytes| (bytes / 2).min(MEMORY_MAX));
    limit.max(config.repl_backlog_size).max(MEMORY_MIN)
}

impl Spill {
    /// What waits in memory for a replica; one that waits for too much there goes to disk.
    pub fn bytes_in_memory(&'static self, server: &'static Server, link: &Arc<Link>, config: &Config) -> u64 {
        let end = server.journal.end();
        let reader = &link.replica.reader;
        if link.is_spilled() {
            let state = self.state.lock();
            return state.as_ref().map_or(0, |active| end - active.mover.position.load(Ordering::Acquire).min(end));
        }
        let waiting = end.saturating_sub(reader.position.load(Ordering::Acquire));
        if config.repl_spill_size > 0 && waiting > memory_limit(config) && link.reads_journal() {
            self.take(server, link);
            // What is in memory now will not be long.
            if link.is_spilled() {
                return 0;
            }
        }
        waiting
    }

    /// From here on the link reads from disk.
    fn take(&'static self, server: &'static Server, link: &Arc<Link>) {
        let mut state = self.state.lock();
        let reader = &link.replica.reader;
        let position = reader.position.load(Ordering::Acquire);
        let generation = server.journal.generation();
        if let Some(active) = &mut *state {
            let fits = active.generation == generation && position >= active.files.start();
            if fits && server.journal.substitute(reader, &active.mover) {
                join(active, link);
            }
            return;
        }
        let Ok(dir) = std::env::current_dir() else { return };
        let mover = Arc::new(JournalReader::default());
        if !server.journal.substitute(reader, &mover) {
            return;
        }
        let start = mover.position.load(Ordering::Acquire);
        let files = Files::new(self.storage, dir, start);
        let mut active = Active { generation, files, mover: Arc::clone(&mover), users: Vec::new(), lost: Vec::new() };
        join(&mut active, link);
        *state = Some(active);
        drop(state);
        tracing::info!(
            "Replica {} is far behind: the stream from offset {start} on is kept on disk for it.",
            link.replica.name()
        );
        let run = move || self.run(server, &mover, generation);
        if let Err(error) = std::thread::Builder::new().name("repl-spill".into()).spawn(run) {
            self.give_up(server, &error.to_string());
        }
    }

    /// The next bytes for a link that is on disk.
    pub fn read(&self, server: &Server, link: &Arc<Link>, into: &mut Vec<u8>) -> Piece {
        let reader = &link.replica.reader;
        let mut state = self.state.lock();
        if !link.is_spilled() {
            return Piece::InMemory;
        }
        let Some(active) = &mut *state else { return Piece::Gone };
        if server.journal.take_back(reader, active.generation) {
            link.set_spilled(false);
            for user in active.users.iter_mut().filter(|user| Arc::ptr_eq(&user.link, link)) {
                user.is_back = true;
            }
            return Piece::InMemory;
        }
        let position = reader.position.load(Ordering::Acquire);
        let Some(place) = active.files.find(position, PIECE) else { return Piece::Gone };
        drop(state);
        match place.read(self.storage, into) {
            Ok(len) => {
                reader.position.store(position + len as u64, Ordering::Release);
                Piece::Bytes
            }
            Err(error) => {
                tracing::warn!("Can't read what is kept on disk for replica {}: {error}", link.replica.name());
                Piece::Gone
            }
        }
    }

    /// A replica comes back that may go on at an offset which only the disk has.
    pub fn resume(&self, server: &Server, link: &Arc<Link>, offset: u64) -> bool {
        let mut state = self.state.lock();
        let Some(active) = &mut *state else { return false };
        let has = (active.files.start()..=active.files.end()).contains(&offset);
        if !has || active.generation != server.journal.generation() {
            return false;
        }
        link.replica.reader.position.store(offset, Ordering::Release);
        link.replica.ack_offset.store(offset, Ordering::Release);
        join(active, link);
        true
    }

    /// A link is over; its replica may come back.
    pub fn leave(&self, server: &Server, link: &Arc<Link>, now_ms: i64) {
        let mut state = self.state.lock();
        link.set_spilled(false);
        let Some(active) = &mut *state else { return };
        let before = active.users.len();
        active.users.retain(|user| !Arc::ptr_eq(&user.link, link));
        if active.users.len() < before {
            let patience_ms = i64::from(server.config.current().repl_timeout) * 1000;
            active.lost.push(Lost {
                name: link.replica.name(),
                acknowledged: link.replica.ack(),
                until_ms: now_ms + patience_ms,
            });
        }
    }

    /// A replica has a link again, wherever it goes on.
    pub fn welcome(&self, replica: &Replica) {
        if let Some(active) = &mut *self.state.lock() {
            let name = replica.name();
            if let Some(index) = active.lost.iter().position(|lost| lost.name == name) {
                active.lost.remove(index);
            }
        }
    }

    /// The mover's thread: copies the stream to disk and forgets what nobody needs, until nobody needs anything.
    fn run(&self, server: &'static Server, mover: &Arc<JournalReader>, generation: u64) {
        let mut bytes = Vec::with_capacity(PIECE);
        loop {
            bytes.clear();
            // His position moves once the bytes are on disk: there is no moment at which they are nowhere.
            let position = mover.position.load(Ordering::Acquire);
            let read = server.journal.read(position, PIECE, &mut bytes);
            let mut state = self.state.lock();
            // Behind the read: what was read before a new beginning belongs to this one.
            if read.is_err() || server.journal.generation() != generation {
                self.end(server, &mut state);
                return;
            }
            let Some(active) = &mut *state else { return };
            let limit = server.config.current().repl_spill_size;
            if let Err(error) = active.files.append(&bytes, limit) {
                drop(state);
                return self.give_up(server, &error.to_string());
            }
            mover.position.store(active.files.end(), Ordering::Release);
            server.journal.collect();
            trim(server, active, limit);
            server.replicas.spilled_bytes.store(active.files.len(), Ordering::Relaxed);
            if active.users.is_empty() && active.lost.is_empty() {
                tracing::info!("Nobody needs the stream on disk any more.");
                self.end(server, &mut state);
                return;
            }
            drop(state);
            if bytes.len() < PIECE {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// The disk does not take it: whoever relies on it must come back, and gets what memory has or everything.
    fn give_up(&self, server: &'static Server, error: &str) {
        tracing::warn!("Can't keep the stream on disk: {error}. Replicas that need it are disconnected.");
        let mut state = self.state.lock();
        if let Some(active) = &*state {
            active
                .users
                .iter()
                .filter(|user| !user.is_back)
                .for_each(|user| server.clients.kill(&user.link.replica.client));
        }
        self.end(server, &mut state);
    }

    fn end(&self, server: &Server, state: &mut Option<Active>) {
        if let Some(active) = state.take() {
            server.journal.remove_reader(&active.mover);
            server.replicas.spilled_bytes.store(0, Ordering::Relaxed);
        }
    }

    /// The process is about to end.
    pub fn clear(&self, server: &Server) {
        let mut state = self.state.lock();
        self.end(server, &mut state);
    }
}

fn join(active: &mut Active, link: &Arc<Link>) {
    link.set_spilled(true);
    active.users.retain(|user| !Arc::ptr_eq(&user.link, link));
    active.users.push(User { link: Arc::clone(link), is_back: false });
}

/// Forgets what nobody needs, and what is beyond the limit with those who need it.
fn trim(server: &Server, active: &mut Active, limit: u64) {
    let (now_ms, in_memory) = (clock::unix_ms(), server.journal.base());
    active.lost.retain(|lost| lost.until_ms > now_ms && lost.acknowledged < in_memory);
    active.users.retain(|user| !user.is_back || user.link.replica.ack() < in_memory);
    let acknowledged = active.users.iter().map(|user| user.link.replica.ack());
    let needed = acknowledged.chain(active.lost.iter().map(|lost| lost.acknowledged)).min();
    let start = active.files.trim(needed.unwrap_or(u64::MAX), limit);
    active.lost.retain(|lost| lost.acknowledged >= start);
    active.users.retain(|user| {
        let position = user.link.replica.reader.position.load(Ordering::Acquire);
        let is_lost = !user.is_back && position < start;
        if is_lost {
            tracing::warn!(
                "Replica {} is more than repl-spill-size behind and is disconnected.",
                user.link.replica.name()
            );
            server.clients.kill(&user.link.replica.client);
        }
        !is_lost
    });
}

#[cfg(test)]
mod tests {
    use super::super::link::Stage;
    use super::*;
    use crate::persistence::storage::crashing::CrashingDisk;
    use crate::server::clients::Client;
    use crate::server::config::ConfigStore;
    use crate::server::table::CommandTable;

    const WRITTEN: usize = 40 << 20;

    struct Setting {
        server: &'static Server,
        disk: &'static CrashingDisk,
        spill: &'static Spill,
        link: Arc<Link>,
    }

    /// A replica that has been written to a lot and has read nothing.
    fn setting(room: u64) -> Setting {
        let config = Config { repl_spill_size: 1 << 30, repl_timeout: 1, ..Config::default() };
        let table = CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES);
        let server = Server::leak(ConfigStore::new(config), table, None, 0);
        let disk = CrashingDisk::leak();
        disk.faults().room.store(room, Ordering::Relaxed);
        let spill = Box::leak(Box::new(Spill { storage: disk, state: Mutex::default() }));
        let client = Arc::new(Client::new(1, "127.0.0.1:1".into(), String::new(), -1, 0));
        server.clients.add(Arc::clone(&client));
        let link = Link::new(Arc::new(Replica::new(client)), false, Stage::Stream);
        server.journal.add_reader(&link.replica.reader, &server.keyspace.lock_all());
        let piece: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
        (0..WRITTEN >> 20).for_each(|_| server.journal.append_raw(&piece));
        assert_eq!(spill.bytes_in_memory(server, &link, &server.config.current()), 0);
        assert!(link.is_spilled());
        Setting { server, disk, spill, link }
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let start = clock::unix_ms();
        while !condition() {
            assert!(clock::unix_ms() - start < 20_000, "it does not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_slow_reader_gets_every_byte_and_memory_is_free_meanwhile() {
        let Setting { server, disk, spill, link } = setting(u64::MAX);
        wait_until(|| server.journal.memory() < 1 << 20);
        assert!(!disk.paths().is_empty());
        let mut bytes = Vec::new();
        wait_until(|| spill.read(server, &link, &mut bytes) != Piece::Bytes);
        assert!(!link.is_spilled(), "it has caught up");
        server.journal.read_on(&link.replica.reader, usize::MAX, &mut bytes).expect("in memory");
        assert_eq!(bytes.len(), WRITTEN);
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == ((n % (1 << 20)) % 251) as u8));
        // Until it has said so.
        assert!(!disk.paths().is_empty());
        link.replica.ack_offset.store(WRITTEN as u64, Ordering::Release);
        wait_until(|| disk.paths().is_empty() && spill.state.lock().is_none());
        assert_eq!(server.replicas.spilled_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_lost_replica_may_come_back_for_a_while() {
        let Setting { server, disk, spill, link } = setting(u64::MAX);
        wait_until(|| server.journal.memory() < 1 << 20);
        spill.leave(server, &link, clock::unix_ms());
        let again = Link::new(Arc::clone(&link.replica), false, Stage::Stream);
        assert!(!spill.resume(server, &again, WRITTEN as u64 + 1), "nobody has that");
        assert!(spill.resume(server, &again, 12_345));
        let mut bytes = Vec::new();
        assert_eq!(spill.read(server, &again, &mut bytes), Piece::Bytes);
        assert_eq!(bytes[0], (12_345 % 251) as u8);
        spill.leave(server, &again, clock::unix_ms());
        // repl-timeout later nobody waits for it any more.
        wait_until(|| disk.paths().is_empty() && spill.state.lock().is_none());
        assert!(!spill.resume(server, &again, 12_345));
    }

    #[test]
    fn a_full_disk_ends_the_link_and_leaves_nothing() {
        let Setting { server, disk, spill, link } = setting(3_000_000);
        wait_until(|| link.replica.client.is_killed());
        wait_until(|| spill.state.lock().is_none());
        assert_eq!(disk.paths().len(), 0);
        assert_eq!(spill.read(server, &link, &mut Vec::new()), Piece::Gone);
        assert!(server.journal.memory() < 1 << 20, "nothing is kept for it");
    }

    #[test]
    fn another_history_ends_it() {
        let Setting { server, disk, spill, link } = setting(u64::MAX);
        server.journal.restart_at(77);
        wait_until(|| spill.state.lock().is_none());
        assert_eq!(disk.paths().len(), 0);
        assert_eq!(spill.read(server, &link, &mut Vec::new()), Piece::Gone);
    }
}
