//! The pen of the append-only file: whoever holds it moves what the journal has into the file.
//!
//! ```text
//!   a worker whose replies wait ──┐ try_lock
//!   the writer's thread ──────────┼──────────► Pen ─► incr file          always: only the thread, which syncs with it in its hand
//!   a helper during a sync ───────┘ lock
//! ```
//! Under `everysec` and `no` a reply goes once write(2) has taken what it tells of. The connection that waits writes by itself,
//! and everything that all others have left so far: as Redis does before it sleeps. A worker never waits for the pen, nor for
//! the disk: whoever has the pen looks, after putting it down, whether somebody has begun to wait meanwhile.

use super::aof::Aof;
use super::aof_load::plain;
use super::aof_manifest::Part;
use super::aof_redo::{Logged, RedoLog};
use super::storage::Output;
use crate::base::clock;
use crate::server::config::Appendfsync;
use crate::server::journal::marks::Promise;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes taken from the journal at once.
const PIECE: usize = 4 << 20;
/// More than this a worker leaves to the writer's thread: its other clients would wait.
const WORKERS_MOST: u64 = 256 * 1024;

/// The file and how far it is.
#[derive(Default)]
pub struct Pen {
    /// Offset in the journal up to which everything is in the file.
    pub position: u64,
    file: Option<Arc<dyn Output>>,
    /// Name and number of it.
    pub name: String,
    pub seq: i64,
    /// Length of the file that is known to be sound.
    len: u64,
    /// There is something behind that length, which must go before anything else is written.
    torn: bool,
    buffer: Vec<u8>,
    /// The last piece ended where a command does, so that a timestamp may follow.
    at_boundary: bool,
    /// Second of the last timestamp in the file.
    stamped_s: i64,
    /// There are bytes that no sync has covered.
    pub unsynced: bool,
    /// There are such bytes that the redo log does not have.
    pub unlogged: bool,
    pub redo: Option<RedoLog>,
    /// A sync of the file has failed: the kernel may have dropped what the redo log has.
    pub is_unsound: bool,
}

/// What was moved at once.
pub struct Piece {
    from: u64,
    /// Bytes of the journal.
    pub len: u64,
    /// Bytes of the file.
    written: u64,
    was_at_boundary: bool,
    /// The next file begins here.
    pub is_last_of_file: bool,
}

impl Pen {
    /// Begins at an offset of the journal; the file comes with `take`.
    pub fn begin(&mut self, position: u64) {
        *self = Pen { position, at_boundary: true, ..Pen::default() };
    }

    /// Goes on with a file at its end.
    pub fn take(&mut self, part: &Part, file: Arc<dyn Output>) -> io::Result<()> {
        self.len = file.size()?;
        (self.torn, self.file, self.unlogged) = (false, Some(file), true);
        (self.name, self.seq) = (part.name.clone(), part.seq);
        Ok(())
    }

    pub fn file(&self) -> Option<Arc<dyn Output>> {
        self.file.clone()
    }

    /// Makes the piece that was written last durable by means of the redo log, if there is one.
    pub fn log(&mut self, piece: &Piece) -> io::Result<Logged> {
        match &mut self.redo {
            // Of a long piece the buffer is gone.
            Some(redo) if self.buffer.len() as u64 == piece.written => {
                redo.append(self.seq, self.len - piece.written, &self.buffer)
            }
            _ => Ok(Logged::No),
        }
    }

    /// Whether that will most likely do.
    pub fn may_log(&self) -> bool {
        !self.unlogged && self.redo.as_ref().is_none_or(RedoLog::has_room)
    }

    /// Writes one piece, as far as the current file goes.
    pub fn write_piece(&mut self, aof: &Aof) -> io::Result<Piece> {
        let journal = &aof.server.journal;
        let (from, was_at_boundary) = (self.position, self.at_boundary);
        // In this order: a rotation is announced before anything behind its offset is written to the journal.
        let end = journal.end();
        let rotation = aof.rotations.lock().front().map(|rotation| rotation.offset);
        let limit = rotation.map_or(end, |offset| offset.min(end));
        let room = if self.file.is_some() { PIECE } else { 0 };
        let len = (limit.saturating_sub(from) as usize).min(room);
        let mut piece = Piece { from, len: len as u64, written: 0, was_at_boundary, is_last_of_file: false };
        self.mend()?;
        if len > 0 {
            self.buffer.clear();
            if was_at_boundary {
                self.stamp(aof);
            }
            if journal.read_changes(from, len, &mut self.buffer).is_err() {
                self.start_over(aof);
                return Ok(piece);
            }
            piece.written = self.append(aof).inspect_err(|_| self.stamped_s = 0)?;
            self.position = from + len as u64;
            self.at_boundary = self.position == limit;
        }
        piece.is_last_of_file = rotation == Some(self.position);
        Ok(piece)
    }

    /// Tells how far the file is; the journal may let go of what is before.
    pub fn announce(&self, aof: &Aof) {
        aof.reader.position.store(self.position, Ordering::Release);
        aof.server.journal.marks.set_written(self.position);
    }

    /// Takes the last piece back: it is not on disk, and nobody was told that it is.
    pub fn take_back(&mut self, piece: &Piece) {
        // What the kernel has dropped it would not write again: the same bytes go once more.
        self.len -= piece.written;
        self.torn |= piece.written > 0;
        (self.position, self.at_boundary, self.stamped_s) = (piece.from, piece.was_at_boundary, 0);
        self.unlogged = true;
        // If it fails it is tried again before the next write.
        let _ = self.mend();
    }

    /// A line of the time, if that is wanted and the second is a new one.
    fn stamp(&mut self, aof: &Aof) {
        let now_s = clock::unix_ms() / 1000;
        if now_s > self.stamped_s && aof.server.config.current().aof_timestamp_enabled {
            self.stamped_s = now_s;
            self.buffer.extend_from_slice(format!("#TS:{now_s}\r\n").as_bytes());
        }
    }

    /// The journal went on elsewhere (a replica has taken over its primary's offsets): only a new base can follow it.
    fn start_over(&mut self, aof: &Aof) {
        tracing::warn!("The stream of writes was replaced: the AOF is rewritten.");
        self.position = aof.server.journal.end();
        self.at_boundary = true;
        aof.server.save_status.aof.rewrite_scheduled.store(true, Ordering::Release);
    }

    /// Appends the buffer whole or not at all; returns the number of bytes.
    fn append(&mut self, aof: &Aof) -> io::Result<u64> {
        let status = &aof.server.save_status.aof;
        let sleep_us = status.flush_sleep_us.load(Ordering::Relaxed);
        if sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(sleep_us));
        }
        let written = self.buffer.len() as u64;
        if let Some(file) = self.file.as_ref().filter(|_| written > 0) {
            if let Err(error) = file.write(&self.buffer) {
                self.torn = true;
                // If it fails it is tried again before the next write.
                let _ = self.mend();
                return Err(error);
            }
            self.len += written;
            (self.unsynced, self.unlogged) = (true, true);
            status.current_size.fetch_add(written, Ordering::Relaxed);
        }
        // A burst must not keep its room for ever.
        if self.buffer.len() > PIECE / 8 {
            self.buffer = Vec::new();
        }
        status.buffer_bytes.store(self.buffer.capacity() as u64, Ordering::Relaxed);
        Ok(written)
    }

    /// A part of a command must not stay in the file: what follows would be read as its rest.
    fn mend(&mut self) -> io::Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| self.torn) {
            file.set_len(self.len)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// How a worker's attempt to write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The file is as far as it can be, or somebody is about to bring it there.
    Done,
    /// A sync is under way, during which the kernel may keep whoever writes: somebody else should.
    Syncing,
}

impl Aof {
    /// For a worker whose replies wait: brings the file up to the end of the journal, unless somebody else does.
    pub fn write_for_replies(&self) -> Attempt {
        if self.is_syncing() {
            return Attempt::Syncing;
        }
        while let Some(pen) = self.pen.try_lock() {
            if self.server.journal.end().saturating_sub(pen.position) > WORKERS_MOST {
                drop(pen);
                self.wake();
                break;
            }
            if !self.write_with(pen) {
                break;
            }
        }
        Attempt::Done
    }

    /// The same on a thread that may wait, during a sync. To be called after `claim_help`.
    pub fn write_beside_sync(&self) {
        loop {
            while self.write_with(self.pen.lock()) {}
            self.helped.store(false, Ordering::Release);
            // Somebody may have found the claim taken since. What is beyond a rotation nobody but the thread can write.
            let can_go_on = self.server.journal.marks.is_awaited() && self.has_rotated() && self.is_syncing();
            if !can_go_on || !self.claim_help() {
                return;
            }
        }
    }

    /// Whether the caller is the one to have `write_beside_sync` run.
    pub fn claim_help(&self) -> bool {
        !self.helped.swap(true, Ordering::AcqRel)
    }

    /// Writes a piece; true if replies wait for more that can be written.
    fn write_with(&self, mut pen: parking_lot::MutexGuard<'_, Pen>) -> bool {
        let marks = &self.server.journal.marks;
        if marks.promise() != Promise::Written {
            return false;
        }
        match pen.write_piece(self) {
            Ok(piece) => {
                pen.announce(self);
                drop(pen);
                marks.wake() && piece.len > 0
            }
            Err(error) => {
                drop(pen);
                self.report(&error, "Error writing to the AOF file");
                // It tries again until that works.
                self.wake();
                false
            }
        }
    }

    fn is_syncing(&self) -> bool {
        self.server.save_status.aof.sync_started_ms.load(Ordering::Acquire) != 0
    }

    /// Tells of an error: writes are refused from here on.
    pub fn report(&self, error: &io::Error, what: &str) {
        let status = &self.server.save_status;
        if status.aof.write_error.load(Ordering::Relaxed) == 0 {
            tracing::warn!("{what}: {}", plain(error));
        }
        status.note_aof_error(i64::from(error.raw_os_error().unwrap_or(5)));
        self.settle_promise();
    }

    /// The opposite of `report`.
    pub fn note_success(&self) {
        let status = &self.server.save_status;
        if status.aof.write_error.load(Ordering::Relaxed) != 0 {
            tracing::warn!("AOF write error looks solved, Redis can write again.");
            status.note_aof_error(0);
            self.settle_promise();
        }
    }

    /// To be called when anything has changed on which it depends what replies wait for.
    pub fn settle_promise(&self) {
        let _one_at_a_time = self.settling.lock();
        let (config, status) = (self.server.config.current(), &self.server.save_status.aof);
        let promise = if !(self.is_enabled() && config.appendonly) {
            Promise::Nothing
        } else if config.appendfsync == Appendfsync::Always || self.sync_hangs.load(Ordering::Acquire) {
            Promise::Durable
        } else if status.write_error.load(Ordering::Acquire) != 0 || self.postponed.load(Ordering::Acquire) {
            // As in Redis: refusals must get through, and nobody waits for a disk that is slow.
            Promise::Nothing
        } else {
            Promise::Written
        };
        if promise != self.server.journal.marks.promise() {
            self.server.journal.marks.set_promise(promise);
        }
    }

    /// The kernel does not take a write while it syncs: until that is over replies go without waiting.
    pub fn postpone(&self) {
        if self.is_syncing() {
            if !self.postponed.swap(true, Ordering::SeqCst) {
                self.server.save_status.aof.delayed_fsync.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    "The disk is busy: until it has synced, replies go without waiting for the AOF to be written."
                );
            }
            if !self.is_syncing() {
                self.postponed.store(false, Ordering::Release);
            }
            self.settle_promise();
        }
    }
}
