//! The thread that writes the append-only file.
//!
//! ```text
//!   workers ─► journal ─► writer thread ─► incr file ─► sync (always: then the replies go; everysec: once per second)
//!                              │
//!                              └ at the offset of a rewrite's cut: on to a new incr file
//! ```
//! Workers never wait for the file: under `always` it is the connections that hold their replies until the journal's
//! durable mark has passed theirs, so that one sync serves all that wait. Under `everysec` they hold them only while a sync
//! takes longer than two seconds (`watch`): so much may be lost, and not more.

use super::aof::Aof;
use super::aof_load::plain;
use super::aof_rewrite;
use crate::base::clock::{self, Timer};
use crate::server::Server;
use crate::server::config::Appendfsync;
use crate::server::save_status::Activity;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Duration;

/// Bytes taken from the journal at once.
const PIECE: usize = 4 << 20;
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// A sync that takes longer than this makes writers wait.
const SYNC_PATIENCE_MS: i64 = 2000;
/// Pause after an error of the disk before the write is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// Unless replies wait for the disk, writes are gathered for so long: a write call for each command would cost more than
/// the command.
const GATHER: Duration = Duration::from_millis(2);

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub struct Writer<'a> {
    aof: &'a Aof,
    buffer: Vec<u8>,
    last_sync: Timer,
    unsynced: bool,
    /// The last sync failed: what the kernel forgot meanwhile only a new base brings back.
    sync_failed: bool,
    /// The last piece ended where a command does, so that a timestamp may follow.
    at_boundary: bool,
    /// Second of the last timestamp in the file.
    stamped_s: i64,
}

impl<'a> Writer<'a> {
    pub fn new(aof: &'a Aof) -> Self {
        let writer = Writer {
            aof,
            buffer: Vec::new(),
            last_sync: Timer::start(),
            unsynced: false,
            sync_failed: false,
            at_boundary: true,
            stamped_s: 0,
        };
        writer.note_buffer();
        writer
    }

    /// Writes one piece and syncs if it is time; false if there was nothing to write.
    pub fn step(&mut self) -> io::Result<bool> {
        let (aof, journal) = (self.aof, &self.aof.server.journal);
        let from = aof.reader.position.load(Ordering::Acquire);
        // In this order: a rotation is announced before anything behind its offset is written to the journal.
        let end = journal.end();
        let rotation = aof.rotations.lock().front().map(|rotation| rotation.offset);
        let limit = rotation.map_or(end, |offset| offset.min(end));
        let len = (limit.saturating_sub(from) as usize).min(PIECE);
        let position = from + len as u64;
        let (was_at_boundary, mut written) = (self.at_boundary, 0);
        if len > 0 {
            self.buffer.clear();
            if was_at_boundary {
                self.stamp();
            }
            let read = journal.read_changes(from, len, &mut self.buffer);
            self.note_buffer();
            if read.is_err() {
                self.start_over();
                return Ok(true);
            }
            written = self.write().inspect_err(|_| self.stamped_s = 0)?;
            self.at_boundary = position == limit;
        }
        let always = aof.server.config.current().appendfsync == Appendfsync::Always;
        if !always {
            self.advance(position);
        }
        if let Err(error) = self.sync(position) {
            if always && aof.files.lock().take_back(written).is_ok() {
                // What the kernel has dropped it would not write again: the same bytes go once more.
                (self.at_boundary, self.stamped_s) = (was_at_boundary, 0);
            }
            return Err(error);
        }
        if always {
            self.advance(position);
        }
        if rotation == Some(position) {
            aof.rotate()?;
        }
        Ok(len > 0)
    }

    /// The journal may let go of what is written.
    fn advance(&self, position: u64) {
        if self.aof.reader.position.swap(position, Ordering::AcqRel) != position {
            self.aof.server.journal.collect();
        }
    }

    /// A line of the time, if that is wanted and the second is a new one.
    fn stamp(&mut self) {
        let now_s = clock::unix_ms() / 1000;
        if self.aof.server.config.current().aof_timestamp_enabled && now_s > self.stamped_s {
            self.stamped_s = now_s;
            self.buffer.extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
        }
    }

    /// The journal went on elsewhere (a replica has taken over its primary's offsets): only a new base can follow it.
    fn start_over(&mut self) {
        tracing::warn!("The stream of writes was replaced: the AOF is rewritten.");
        let aof = self.aof;
        aof.reader.position.store(aof.server.journal.end(), Ordering::Release);
        aof.server.save_status.aof.rewrite_scheduled.store(true, Ordering::Release);
        self.at_boundary = true;
    }

    fn write(&mut self) -> io::Result<u64> {
        let status = &self.aof.server.save_status;
        let sleep_us = status.aof.flush_sleep_us.load(Ordering::Relaxed);
        if sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(sleep_us));
        }
        if self.buffer.is_empty() {
            return Ok(0);
        }
        let written = self.aof.files.lock().append(&self.buffer)?;
        status.aof.current_size.fetch_add(written, Ordering::Relaxed);
        self.unsynced = true;
        // A burst must not keep its room for ever.
        if self.buffer.capacity() > PIECE / 4 {
            self.buffer = Vec::new();
        }
        self.note_buffer();
        if !self.sync_failed {
            self.note_success();
        }
        Ok(written)
    }

    fn note_buffer(&self) {
        self.aof.server.save_status.aof.buffer_bytes.store(self.buffer.capacity() as u64, Ordering::Relaxed);
    }

    fn note_success(&self) {
        let status = &self.aof.server.save_status;
        if status.aof.write_error.load(Ordering::Relaxed) != 0 {
            tracing::warn!("AOF write error looks solved, Redis can write again.");
            status.note_aof_error(0);
        }
    }

    fn sync(&mut self, position: u64) -> io::Result<()> {
        let (aof, server) = (self.aof, self.aof.server);
        let config = server.config.current();
        let status = &server.save_status;
        let asked = aof.sync_now.load(Ordering::Acquire) && position == server.journal.end();
        let spared = config.no_appendfsync_on_rewrite && status.activity() != Activity::None;
        let due = match config.appendfsync {
            Appendfsync::Always => true,
            Appendfsync::Everysec => self.last_sync.elapsed() >= SYNC_PERIOD,
            Appendfsync::No => false,
        };
        if asked || (due && !spared && self.unsynced) {
            let file = aof.files.lock().current();
            self.last_sync = Timer::start();
            status.aof.sync_started_ms.store(clock::unix_ms(), Ordering::Release);
            let result = file.map_or(Ok(()), |file| file.sync());
            status.aof.sync_started_ms.store(0, Ordering::Release);
            if let Err(error) = result {
                self.sync_failed = true;
                return Err(error);
            }
            self.unsynced = false;
            aof.sync_now.store(false, Ordering::Release);
            server.journal.set_durable(position);
            self.after_sync();
        } else if due && (spared || !self.unsynced) && server.journal.durable() < position {
            server.journal.set_durable(position);
        }
        status.aof.pending_fsync.store(self.unsynced, Ordering::Relaxed);
        Ok(())
    }

    fn after_sync(&mut self) {
        let server = self.aof.server;
        let policy = server.config.current().appendfsync;
        if server.journal.is_sync_always() && policy != Appendfsync::Always {
            // The watch had put writers on hold.
            server.journal.set_sync_always(false);
        }
        if std::mem::take(&mut self.sync_failed) {
            self.note_success();
            if policy != Appendfsync::Always {
                // The pages of the sync that failed may be lost although the next one went well.
                server.save_status.aof.rewrite_scheduled.store(true, Ordering::Release);
            }
        }
    }

    pub(super) fn report(&self, error: &io::Error) {
        let status = &self.aof.server.save_status;
        if status.aof.write_error.load(Ordering::Relaxed) == 0 {
            let what =
                if self.sync_failed { "Can't persist AOF for fsync error" } else { "Error writing to the AOF file" };
            tracing::warn!("{what}: {}", plain(error));
        }
        status.note_aof_error(i64::from(error.raw_os_error().unwrap_or(5)));
    }
}

impl Writer<'static> {
    /// Runs for as long as the process.
    pub fn run(mut self) {
        let aof = self.aof;
        let thread = aof.thread.get_or_init(std::thread::current).clone();
        let waker = Waker::from(Arc::new(Unpark(thread)));
        loop {
            aof.reader.waker.register(&waker);
            if aof.server.save_status.aof.changing.load(Ordering::Acquire) {
                self.change();
            }
            if !aof.is_enabled() {
                std::thread::park_timeout(RETRY);
                continue;
            }
            match self.step() {
                Ok(true) if !aof.server.journal.is_sync_always() => std::thread::sleep(GATHER),
                Ok(true) => {}
                Ok(false) => std::thread::park_timeout(self.pause()),
                Err(error) => {
                    self.report(&error);
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// How long the thread may sleep when nothing is written.
    fn pause(&self) -> Duration {
        if self.unsynced && self.aof.server.config.current().appendfsync == Appendfsync::Everysec {
            SYNC_PERIOD.saturating_sub(self.last_sync.elapsed()).max(Duration::from_millis(1))
        } else {
            RETRY
        }
    }

    /// Makes CONFIG SET appendonly true.
    fn change(&mut self) {
        let aof = self.aof;
        let status = &aof.server.save_status.aof;
        let wanted = aof.wanted.load(Ordering::Acquire);
        if wanted == aof.is_enabled() {
            status.changing.store(false, Ordering::Release);
            return;
        }
        if !wanted {
            self.disable();
            status.changing.store(false, Ordering::Release);
        } else if aof_rewrite::start_first(aof) {
            *self = Writer::new(aof);
            status.changing.store(false, Ordering::Release);
        } else {
            // Another snapshot is being written: again when that is done.
            std::thread::sleep(RETRY);
        }
    }

    fn disable(&mut self) {
        let (aof, server) = (self.aof, self.aof.server);
        let status = &server.save_status;
        if status.activity() == Activity::AofRewrite {
            tracing::info!("Killing running AOF rewrite child");
            status.cancel();
        }
        status.aof.rewrite_scheduled.store(false, Ordering::Release);
        aof.sync_now.store(true, Ordering::Release);
        while aof.reader.position.load(Ordering::Acquire) < server.journal.end() {
            if let Err(error) = self.step() {
                self.report(&error);
                break;
            }
        }
        // The sync that was asked for.
        if let Err(error) = self.step() {
            self.report(&error);
        }
        aof.disable();
        *self = Writer::new(aof);
    }
}

/// To be called a few times per second: a sync under `everysec` that hangs makes replies wait, so that no more than two
/// seconds of acknowledged writes are at stake.
pub fn watch(server: &Server) {
    let started_ms = server.save_status.aof.sync_started_ms.load(Ordering::Acquire);
    let hangs = started_ms != 0 && clock::unix_ms() - started_ms > SYNC_PATIENCE_MS;
    if hangs && !server.journal.is_sync_always() && server.config.current().appendfsync == Appendfsync::Everysec {
        tracing::warn!("Asynchronous AOF fsync is taking too long (disk is busy?). Writes wait for it.");
        server.save_status.aof.delayed_fsync.fetch_add(1, Ordering::Relaxed);
        server.journal.set_sync_always(true);
    }
}
