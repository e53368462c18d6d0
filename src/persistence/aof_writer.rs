//! The thread of the append-only file: it syncs, goes on to new files, and writes what nobody waits for.
//!
//! ```text
//!   always:        workers ─► journal ─► this thread: write, sync ─► then the replies go
//!   everysec, no:  workers ─► journal ─► a worker before it replies: write      this thread: sync once per second
//!                              └ effects without a client, more than a worker may write ─► this thread: write
//!   at the offset of a rewrite's cut: on to a new incr file
//! ```
//! Workers never wait for the disk: it is connections that hold their replies until a mark of the journal has passed theirs, so
//! that one sync, or one write, serves all that wait. Under `everysec` they do so for a sync only while that takes longer than
//! two seconds (`watch`): so much may be lost in a power cut, and not more.

use super::aof::{self, Aof};
use super::aof_pen::Pen;
use super::aof_rewrite;
use super::storage::Output;
use crate::base::clock::{self, Timer};
use crate::server::Server;
use crate::server::config::Appendfsync;
use crate::server::journal::marks::Promise;
use crate::server::save_status::Activity;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Duration;

const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// A sync that takes longer than this makes writers wait.
const SYNC_PATIENCE_MS: i64 = 2000;
/// Pause after an error of the disk before the write is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// While writes come the thread looks so often what workers have left: being woken for each write would cost more than the
/// write.
const GATHER: Duration = Duration::from_millis(5);

/// What a rewrite that is given up may take to end: it may need a shard that whoever waits for this has locked.
const PATIENCE: Duration = Duration::from_secs(2);

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub struct Writer<'a> {
    aof: &'a Aof,
    last_sync: Timer,
    /// How far the file was when the thread last looked.
    seen: u64,
}

/// A sync that has begun: of a file that holds everything up to a position.
struct Sync {
    file: Option<Arc<dyn Output>>,
    position: u64,
}

impl<'a> Writer<'a> {
    pub fn new(aof: &'a Aof) -> Self {
        Writer { aof, last_sync: Timer::start(), seen: 0 }
    }

    /// Writes one piece and syncs if it is time; false if there was nothing to write.
    pub fn step(&mut self) -> io::Result<bool> {
        let aof = self.aof;
        let always = aof.server.config.current().appendfsync == Appendfsync::Always;
        aof.is_asked.store(false, Ordering::SeqCst);
        if always {
            aof.look_after_redo()?;
        }
        let mut pen = aof.pen.lock();
        if !always && pen.redo.is_some() {
            drop(pen);
            aof.retire_redo()?;
            pen = aof.pen.lock();
        }
        let piece;
        if always {
            let result = aof.write_durably(&mut pen);
            pen.announce(aof);
            drop(pen);
            piece = result?;
        } else {
            piece = pen.write_piece(aof)?;
            if piece.len > 0 && !aof.sync_failed.load(Ordering::Relaxed) {
                aof.note_success();
            }
            // What is in a file that is not the last must all be there.
            let sync = self.begin_sync(&mut pen, piece.is_last_of_file);
            pen.announce(aof);
            drop(pen);
            aof.server.journal.marks.wake();
            if let Err(error) = self.end_sync(sync) {
                aof.pen.lock().unsynced = true;
                return Err(error);
            }
        }
        if piece.len > 0 {
            // The journal may let go of what is written.
            aof.server.journal.collect();
        }
        if piece.is_last_of_file {
            aof.rotate()?;
        }
        Ok(piece.len > 0)
    }

    /// Begins to sync what is written so far, if it is time to.
    fn begin_sync(&mut self, pen: &mut Pen, is_last_of_file: bool) -> Option<Sync> {
        let (aof, server) = (self.aof, self.aof.server);
        let config = server.config.current();
        let status = &server.save_status;
        let asked = is_last_of_file || (aof.sync_now.load(Ordering::Acquire) && pen.position == server.journal.end());
        let spared = config.no_appendfsync_on_rewrite && status.activity() != Activity::None;
        let due = match config.appendfsync {
            Appendfsync::Always => true,
            Appendfsync::Everysec => self.last_sync.elapsed() >= SYNC_PERIOD,
            Appendfsync::No => false,
        };
        status.aof.pending_fsync.store(pen.unsynced, Ordering::Relaxed);
        if asked || (due && !spared && pen.unsynced) {
            self.last_sync = Timer::start();
            status.aof.sync_started_ms.store(clock::unix_ms(), Ordering::SeqCst);
            pen.unsynced = false;
            return Some(Sync { file: pen.file(), position: pen.position });
        }
        if due && server.journal.marks.durable() < pen.position {
            server.journal.marks.set_durable(pen.position);
        }
        None
    }

    fn end_sync(&mut self, sync: Option<Sync>) -> io::Result<()> {
        let Some(Sync { file, position }) = sync else { return Ok(()) };
        let (aof, status) = (self.aof, &self.aof.server.save_status.aof);
        let result = file.map_or(Ok(()), |file| file.sync());
        status.sync_started_ms.store(0, Ordering::SeqCst);
        if aof.postponed.swap(false, Ordering::SeqCst) {
            aof.settle_promise();
        }
        if let Err(error) = result {
            aof.sync_failed.store(true, Ordering::Relaxed);
            return Err(error);
        }
        aof.sync_now.store(false, Ordering::Release);
        status.pending_fsync.store(false, Ordering::Relaxed);
        aof.server.journal.marks.set_durable(position);
        if aof.sync_hangs.swap(false, Ordering::AcqRel) {
            aof.settle_promise();
        }
        if aof.sync_failed.swap(false, Ordering::Relaxed) {
            aof.note_success();
            // The pages of the sync that failed may be lost although the next one went well.
            aof.server.save_status.aof.rewrite_scheduled.store(true, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn report(&self, error: &io::Error) {
        self.aof.report(error, self.aof.what_failed());
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
            if self.leaves_it_to_a_worker() {
                continue;
            }
            match self.step() {
                Ok(true) if aof.server.journal.marks.promise() == Promise::Durable => {}
                Ok(_) => self.rest(),
                Err(error) => {
                    self.report(&error);
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    /// Where a worker syncs the thread looks only now and then whether there is something that no reply waits for.
    fn leaves_it_to_a_worker(&mut self) -> bool {
        let (aof, journal) = (self.aof, &self.aof.server.journal);
        let is_wanted = || {
            aof.sync_now.load(Ordering::Acquire)
                || aof.is_asked.load(Ordering::SeqCst)
                || aof.redo_turned.load(Ordering::Acquire)
                || !aof.has_rotated()
        };
        if !aof.syncs_on_worker() || is_wanted() {
            return false;
        }
        let durable = journal.marks.durable();
        let stands_still = std::mem::replace(&mut self.seen, durable) == durable;
        if stands_still && durable < journal.end() {
            return false;
        }
        journal.stays_awake(&aof.reader);
        aof.dozes.store(true, Ordering::SeqCst);
        // Who wants something now either sees that, or is seen.
        if aof.syncs_on_worker() && !is_wanted() {
            std::thread::park_timeout(GATHER);
        }
        aof.dozes.store(false, Ordering::Release);
        true
    }

    /// Sleeps until there may be something to do.
    fn rest(&mut self) {
        let (aof, journal) = (self.aof, &self.aof.server.journal);
        let position = aof.reader.position.load(Ordering::Acquire);
        let has_moved = std::mem::replace(&mut self.seen, position) != position;
        if journal.marks.promise() == Promise::Written && (has_moved || journal.end() != position) {
            journal.stays_awake(&aof.reader);
            // Somebody may have found the pen taken.
            if !journal.marks.is_awaited() {
                std::thread::park_timeout(GATHER);
            }
        } else if journal.sleeps(&aof.reader, position) && !journal.marks.is_awaited() {
            std::thread::park_timeout(self.pause());
        }
    }

    /// How long the thread may sleep when nothing is written.
    fn pause(&self) -> Duration {
        let unsynced = self.aof.server.save_status.aof.pending_fsync.load(Ordering::Relaxed);
        if unsynced && self.aof.server.config.current().appendfsync == Appendfsync::Everysec {
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
            // It looks at that after every slice. Whoever has turned the file off may begin another rewrite at once.
            let start = Timer::start();
            while status.activity() == Activity::AofRewrite && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        status.aof.rewrite_scheduled.store(false, Ordering::Release);
        aof.sync_now.store(true, Ordering::Release);
        while aof.pen.lock().position < server.journal.end() {
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
    let Some(aof) = aof::get().filter(|_| hangs) else { return };
    let everysec = server.config.current().appendfsync == Appendfsync::Everysec;
    if everysec && !aof.sync_hangs.swap(true, Ordering::AcqRel) {
        tracing::warn!("Asynchronous AOF fsync is taking too long (disk is busy?). Writes wait for it.");
        server.save_status.aof.delayed_fsync.fetch_add(1, Ordering::Relaxed);
        aof.settle_promise();
    }
}
