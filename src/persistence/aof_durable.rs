//! `appendfsync always`: what a reply tells of is on disk before it goes.
//!
//! ```text
//!   replies wait ─┬ disk is quick, one worker has all connections ─► that worker: write, sync ───────► replies go
//!                 └ otherwise ─► the writer's thread: write, sync  (workers go on meanwhile) ────────► replies go
//!                                                       sync: the redo log (`aof_redo`), or the file itself
//! ```
//! Where a sync takes a tenth of a millisecond, waking a thread for it and being woken again costs as much; and while that runs other
//! requests come in, which then need a sync of their own. One worker that does everything in turn, as Redis does, needs a third of the
//! syncs. It must not wait for a disk that is slow, though, nor keep other workers' replies from that: then the thread syncs.

use super::aof::Aof;
use super::aof_pen::{Pen, Piece};
use super::aof_redo::{self, Logged, RedoLog};
use crate::base::clock::{self, Timer};
use crate::server::journal::marks::Promise;
use crate::server::save_status::Activity;
use std::io;
use std::sync::atomic::Ordering;

/// Up to this a sync is quick: no longer than what a worker's clients wait for each other anyway.
const QUICK_US: u64 = 500;
/// Each sync has this share of the average.
const WEIGHT: u64 = 16;

impl Aof {
    /// Writes one piece and makes it durable, all with the pen in hand: nobody writes behind what may have to be taken back.
    pub fn write_durably(&self, pen: &mut Pen) -> io::Result<Piece> {
        let (server, status) = (self.server, &self.server.save_status);
        let is_behind = pen.unlogged;
        let piece = pen.write_piece(self)?;
        if piece.len > 0 && !self.sync_failed.load(Ordering::Relaxed) {
            self.note_success();
        }
        // What is in a file that is not the last must all be there.
        let wholly =
            piece.is_last_of_file || (self.sync_now.load(Ordering::Acquire) && pen.position == server.journal.end());
        let spared = || server.config.current().no_appendfsync_on_rewrite && status.activity() != Activity::None;
        if !wholly && (!pen.unsynced || spared()) {
            if server.journal.marks.durable() < pen.position {
                server.journal.marks.set_durable(pen.position);
            }
            return Ok(piece);
        }
        let timer = Timer::start();
        if let Err(error) = self.make_durable(pen, &piece, wholly || is_behind) {
            self.sync_failed.store(true, Ordering::Relaxed);
            pen.take_back(&piece);
            pen.unsynced = true;
            return Err(error);
        }
        self.note_sync(timer.elapsed().as_micros() as u64);
        status.aof.pending_fsync.store(false, Ordering::Relaxed);
        server.journal.marks.set_durable(pen.position);
        if self.sync_hangs.swap(false, Ordering::AcqRel) {
            self.settle_promise();
        }
        if self.sync_failed.swap(false, Ordering::Relaxed) {
            self.note_success();
        }
        Ok(piece)
    }

    /// The redo log will do, unless the file is to be synced itself.
    fn make_durable(&self, pen: &mut Pen, piece: &Piece, wholly: bool) -> io::Result<()> {
        let logged = if wholly { Ok(Logged::No) } else { pen.log(piece) };
        match logged {
            Ok(Logged::Yes) => {}
            Ok(Logged::YesAndTurned) => {
                self.redo_turned.store(true, Ordering::Release);
                self.wake();
            }
            Ok(Logged::No) => self.sync_file(pen)?,
            Err(error) => {
                // From here on it is the file that is synced. The log stays on disk: it may hold what the file lacks until then.
                pen.redo = None;
                return Err(error);
            }
        }
        (pen.unsynced, pen.unlogged) = (false, false);
        Ok(())
    }

    fn sync_file(&self, pen: &mut Pen) -> io::Result<()> {
        let started_ms = &self.server.save_status.aof.sync_started_ms;
        started_ms.store(clock::unix_ms(), Ordering::SeqCst);
        let result = self.sync_or_repair(pen);
        started_ms.store(0, Ordering::SeqCst);
        if self.postponed.swap(false, Ordering::SeqCst) {
            self.settle_promise();
        }
        result?;
        self.sync_now.store(false, Ordering::Release);
        if let Some(redo) = &mut pen.redo {
            redo.has_synced_since(redo.generation());
        }
        Ok(())
    }

    /// After a sync of the file that failed the kernel may have dropped what only the log has else: then that is written once more.
    fn sync_or_repair(&self, pen: &mut Pen) -> io::Result<()> {
        let Some(file) = pen.file() else { return Ok(()) };
        if !pen.is_unsound {
            let result = file.sync();
            pen.is_unsound = result.is_err() && pen.redo.is_some();
            return result;
        }
        aof_redo::repair(self.storage, &self.redo_path(), &self.path(&pen.name), pen.seq)?;
        pen.is_unsound = false;
        Ok(())
    }

    /// The log goes, as the file has all of it on disk.
    fn remove_redo(&self, pen: &mut Pen) {
        if pen.redo.take().is_some() {
            let path = self.redo_path();
            // One that stays does no harm.
            let _ = self.storage.remove(&path).and_then(|()| self.storage.sync_dir_of(&path));
        }
    }

    /// The last thing before the process ends: who reads the file next may not know of the redo log.
    pub fn leave_complete(&self) {
        // No new one is made from here on.
        let _made = self.making_redo.lock();
        self.redo_ready.store(true, Ordering::Release);
        // If that fails the next start makes up for it.
        let _ = self.retire_redo();
    }

    /// Makes the file complete by itself.
    pub fn retire_redo(&self) -> io::Result<()> {
        let mut pen = self.pen.lock();
        if pen.redo.is_some() {
            self.sync_file(&mut pen)?;
            self.remove_redo(&mut pen);
        }
        Ok(())
    }

    fn redo_path(&self) -> std::path::PathBuf {
        self.path(&aof_redo::name(&self.stem))
    }

    fn note_sync(&self, us: u64) {
        let average = self.sync_us.load(Ordering::Relaxed);
        self.sync_us.store(average - average / WEIGHT + us / WEIGHT, Ordering::Relaxed);
    }

    /// Whether all connections are served best by one worker, as long as that can do the work.
    pub fn likes_one_worker(&self) -> bool {
        self.server.journal.marks.promise() == Promise::Durable
            && self.redo_ready.load(Ordering::Acquire)
            && self.sync_us.load(Ordering::Relaxed) <= QUICK_US
            && self.server.save_status.aof.write_error.load(Ordering::Relaxed) == 0
    }

    /// Whether workers sync by themselves.
    #[inline]
    pub fn syncs_on_worker(&self) -> bool {
        self.server.workers.active() == 1 && self.likes_one_worker()
    }

    /// For a worker that has run all that was ready: makes everything up to the mark durable. False if that is better left to the
    /// writer's thread, or if that is at it.
    pub fn sync_for_replies(&self, mark: u64) -> bool {
        if !self.syncs_on_worker() || !self.has_rotated() {
            return false;
        }
        let Some(mut pen) = self.pen.try_lock() else { return false };
        let marks = &self.server.journal.marks;
        if marks.durable() >= mark {
            return true;
        }
        if self.sync_now.load(Ordering::Acquire) || !pen.may_log() {
            return false;
        }
        let result = self.write_durably(&mut pen);
        pen.announce(self);
        drop(pen);
        match result {
            Ok(piece) if piece.is_last_of_file => self.wake(),
            Ok(_) => self.server.journal.collect(),
            Err(error) => {
                self.report(&error, self.what_failed());
                // It tries again until that works.
                self.wake();
            }
        }
        true
    }

    pub fn what_failed(&self) -> &'static str {
        let sync = self.sync_failed.load(Ordering::Relaxed);
        if sync { "Can't persist AOF for fsync error" } else { "Error writing to the AOF file" }
    }

    /// For the writer's thread, under `always`: makes the redo log, and syncs the file when a half of the log is full.
    pub fn look_after_redo(&self) -> io::Result<()> {
        let wants = self.server.config.current().aof_redo_log;
        if !wants {
            self.retire_redo()?;
            self.redo_ready.store(true, Ordering::Release);
        } else if self.redo_turned.load(Ordering::Acquire) {
            self.checkpoint()?;
            self.redo_turned.store(false, Ordering::Release);
        } else if !self.redo_ready.load(Ordering::Acquire) {
            self.make_redo();
        }
        Ok(())
    }

    fn make_redo(&self) {
        let _making = self.making_redo.lock();
        if self.redo_ready.load(Ordering::Acquire) {
            return;
        }
        {
            let pen = self.pen.lock();
            if pen.file().is_none() {
                return;
            }
            // Without a log every sync is one of the file: nothing depends on a log that may be there.
            if pen.redo.is_none() {
                drop(pen);
                let made = RedoLog::create(self.storage, &self.redo_path());
                self.pen.lock().redo = made
                    .inspect_err(|error| tracing::warn!("No redo log, the append-only file is synced instead: {error}"))
                    .ok();
            }
        }
        self.redo_ready.store(true, Ordering::Release);
    }

    /// Syncs the file beyond what the older half of the log holds.
    fn checkpoint(&self) -> io::Result<()> {
        let mut pen = self.pen.lock();
        let Some((file, generation)) = pen.file().zip(pen.redo.as_ref().map(RedoLog::generation)) else {
            return Ok(());
        };
        if pen.is_unsound {
            self.sync_or_repair(&mut pen)?;
        } else {
            // Until it has gone well: whoever syncs the file meanwhile must not count on what this one may have lost.
            pen.is_unsound = true;
            drop(pen);
            let result = file.sync();
            pen = self.pen.lock();
            pen.is_unsound &= result.is_err();
            if result.is_err() {
                self.sync_failed.store(true, Ordering::Relaxed);
                return result;
            }
        }
        // The other half was full before this sync began.
        if let Some(redo) = &mut pen.redo {
            redo.has_synced_since(generation);
        }
        drop(pen);
        if self.sync_failed.swap(false, Ordering::Relaxed) {
            self.note_success();
        }
        Ok(())
    }
}
