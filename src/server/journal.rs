//! The journal: the one ordered stream of writes. AOF and replicas read it, the backlog is its retained tail.
//!
//! ```text
//!   base ──────────────────────────────────────────► end      offsets are replication offsets
//!   | chunk | chunk | chunk | chunk being filled … |
//!        ▲ slowest reader or backlog limit: older chunks go
//! ```
//! Writers append under the locks of the keys they changed, so the order of the journal is the order of the locks. With
//! no reader the journal is off, and asking costs one relaxed load.
//!
//! Messages (PUBLISH) and what keeps a link alive (PING) go to replicas only: they are bytes of the stream like all others,
//! but their ranges are remembered, and `read_changes` leaves them out for the append-only file. What goes to the file only
//! (redis.set_repl of scripts) has no bytes of the stream; it is kept beside a range, in whose place the file gets other bytes.

pub mod marks;

use crate::base::number::IntText;
use crate::engine::keyspace::Locked;
use crate::resp::{Args, OwnedArgs, encode};
use atomic_waker::AtomicWaker;
use marks::Marks;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Small, so that a backlog of a few kilobytes keeps little more than that.
const CHUNK: usize = 16 * 1024;

#[derive(Default)]
struct Stream {
    chunks: VecDeque<Vec<u8>>,
    /// Offset of the first retained byte.
    base: u64,
    end: u64,
    /// The database that the last command in the stream went to.
    selected: Option<usize>,
    readers: Vec<Arc<JournalReader>>,
    /// The unit that is being appended, on its way into the chunks.
    scratch: Vec<u8>,
    /// Where the replication backlog begins, if one is kept: nobody may continue from before.
    backlog_from: Option<u64>,
    /// Ranges of offsets that the append-only file does not get as they are, ascending; those before `base` are forgotten.
    special: VecDeque<Special>,
}

/// Bytes of the stream for which the append-only file gets others.
struct Special {
    range: Range<u64>,
    /// Mostly nothing: no change of the data set, or one for replicas only.
    in_file: Box<[u8]>,
}

impl Special {
    fn replica_only(range: Range<u64>) -> Self {
        Special { range, in_file: Box::default() }
    }
}

/// Who gets a command, if not everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The append-only file.
    File,
    Replicas,
}

/// Somebody who follows the stream: where he is, and how he is woken.
#[derive(Default)]
pub struct JournalReader {
    pub waker: AtomicWaker,
    /// He is reading and will look again by himself: appends need not wake him. Changed only under the stream's lock.
    is_awake: AtomicBool,
    /// Where he reads next: everything before may go, unless he keeps more.
    pub position: AtomicU64,
    /// He may have to begin here again; 0 = he does not.
    pub kept: AtomicU64,
}

impl JournalReader {
    /// Everything before this offset may go.
    fn needs(&self) -> u64 {
        let position = self.position.load(Ordering::Acquire);
        match self.kept.load(Ordering::Acquire) {
            0 => position,
            kept => position.min(kept),
        }
    }
}

#[derive(Default)]
pub struct Journal {
    active: AtomicBool,
    /// The stream is a primary's: its bytes are appended as they are, and nothing of ours.
    following: AtomicBool,
    end: AtomicU64,
    /// How often the stream has begun anew.
    generation: AtomicU64,
    /// Bytes behind the end that are kept although nobody waits for them (the replication backlog).
    retain: AtomicU64,
    stream: Mutex<Stream>,
    /// How far the append-only file is, and who waits for it.
    pub marks: Marks,
}

/// The past that is kept for replicas that come back. Everybody's bytes count: what a slow replica holds back can serve another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Offset of its first byte.
    pub first: u64,
    pub len: u64,
}

/// The bytes asked for are no longer, or not yet, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfWindow;

impl Journal {
    /// The journal of a server that starts as a primary or as a replica.
    pub fn of(is_replica: bool) -> Self {
        Journal { following: AtomicBool::new(is_replica), ..Journal::default() }
    }

    /// Whether anybody wants to know what this server changes by itself.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) && !self.following.load(Ordering::Relaxed)
    }

    /// This server has become a replica, or a primary. To be called with every shard locked.
    pub fn set_following(&self, following: bool) {
        self.following.store(following, Ordering::Release);
    }

    /// Turns the journal on or off. To be called with every shard locked, so that no write falls in between.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::Relaxed);
    }

    /// Offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Offset behind the last change of the data set: what follows it, if anything, is for replicas only.
    pub fn changes_end(&self) -> u64 {
        let stream = self.stream.lock();
        let trailing = |end: u64, special: &Special| match special.range.end == end && special.in_file.is_empty() {
            true => Ok(special.range.start),
            false => Err(end),
        };
        match stream.special.iter().rev().try_fold(stream.end, trailing) {
            Ok(end) | Err(end) => end,
        }
    }

    /// Offset of the first byte that can still be read.
    pub fn base(&self) -> u64 {
        self.stream.lock().base
    }

    /// Starts anew at an offset (a replica takes over its primary's; a restart takes up the saved one).
    pub fn restart_at(&self, offset: u64) {
        let mut stream = self.stream.lock();
        stream.chunks.clear();
        stream.base = offset;
        stream.end = offset;
        stream.selected = None;
        stream.special.clear();
        stream.backlog_from = stream.backlog_from.map(|_| offset);
        self.end.store(offset, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes when the stream begins anew: bytes that were read before belong to another history.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The next command will be preceded by SELECT: a new reader knows nothing of the stream so far.
    pub fn forget_selected_db(&self) {
        self.stream.lock().selected = None;
    }

    /// Appends one unit: a single command, or several wrapped in MULTI and EXEC. Returns the offset behind it.
    pub fn append(&self, unit: &[(usize, OwnedArgs)]) -> u64 {
        self.append_to(unit, &[])
    }

    /// The same where some commands, by their places in the unit, are not for everybody.
    pub fn append_to(&self, unit: &[(usize, OwnedArgs)], narrow: &[(usize, Audience)]) -> u64 {
        let Some((first_db, _)) = unit.first() else { return self.end() };
        if narrow.iter().any(|(_, audience)| *audience == Audience::File) {
            return self.append_beside(unit, narrow);
        }
        let is_for_replicas =
            |place: usize, args: &OwnedArgs| is_message(args) || narrow.iter().any(|(narrowed, _)| *narrowed == place);
        let mut stream = self.stream.lock();
        let mut bytes = std::mem::take(&mut stream.scratch);
        bytes.clear();
        if stream.selected != Some(*first_db) {
            select(&mut bytes, *first_db);
            stream.selected = Some(*first_db);
        }
        let start = stream.end;
        let before = start + bytes.len() as u64;
        if unit.len() > 1 {
            encode(&mut bytes, [b"MULTI".as_slice()]);
        }
        for (place, (db, args)) in unit.iter().enumerate() {
            if stream.selected != Some(*db) {
                select(&mut bytes, *db);
                stream.selected = Some(*db);
            }
            let from = start + bytes.len() as u64;
            encode(&mut bytes, args.as_args().iter());
            if is_for_replicas(place, args) {
                stream.special.push_back(Special::replica_only(from..start + bytes.len() as u64));
            }
        }
        if unit.len() > 1 {
            encode(&mut bytes, [b"EXEC".as_slice()]);
            if unit.iter().enumerate().all(|(place, (_, args))| is_for_replicas(place, args)) {
                // Not even the frame is left.
                while stream.special.back().is_some_and(|special| special.range.start >= before) {
                    stream.special.pop_back();
                }
                stream.special.push_back(Special::replica_only(before..start + bytes.len() as u64));
            }
        }
        let end = self.write(&mut stream, &bytes);
        if bytes.capacity() <= CHUNK {
            stream.scratch = bytes;
        }
        end
    }

    /// Appends a unit of which some commands are for the append-only file alone: one text goes into the stream and another one beside
    /// it. If replicas get nothing of it they get a PING: the file is told of its bytes by a place in the stream.
    #[cold]
    fn append_beside(&self, unit: &[(usize, OwnedArgs)], narrow: &[(usize, Audience)]) -> u64 {
        let audience =
            |place: usize| narrow.iter().find(|(narrowed, _)| *narrowed == place).map(|(_, audience)| *audience);
        let mut stream = self.stream.lock();
        let text = |left_out: Audience| {
            let is_told = |place: usize, args: &OwnedArgs| {
                audience(place) != Some(left_out) && !(left_out == Audience::Replicas && is_message(args))
            };
            let told: Vec<_> = unit.iter().enumerate().filter(|(place, (_, args))| is_told(*place, args)).collect();
            let mut bytes = Vec::new();
            for (index, (_, (db, args))) in told.iter().enumerate() {
                select(&mut bytes, *db);
                if index == 0 && told.len() > 1 {
                    encode(&mut bytes, [b"MULTI".as_slice()]);
                }
                encode(&mut bytes, args.as_args().iter());
            }
            if told.len() > 1 {
                encode(&mut bytes, [b"EXEC".as_slice()]);
            }
            bytes
        };
        let (mut for_replicas, for_file) = (text(Audience::File), text(Audience::Replicas));
        if for_replicas.is_empty() {
            encode(&mut for_replicas, [b"PING".as_slice()]);
        }
        // The two may leave their readers in different databases.
        stream.selected = None;
        let range = stream.end..stream.end + for_replicas.len() as u64;
        stream.special.push_back(Special { range, in_file: for_file.into() });
        self.write(&mut stream, &for_replicas)
    }

    /// Appends bytes that are a stream already (a replica passes on its primary's).
    pub fn append_raw(&self, bytes: &[u8]) {
        self.write(&mut self.stream.lock(), bytes);
    }

    /// Appends whole commands that concern replicas only (PING, REPLCONF GETACK, a primary's PUBLISH passed on).
    pub fn append_for_replicas(&self, bytes: &[u8]) {
        let mut stream = self.stream.lock();
        let range = stream.end..stream.end + bytes.len() as u64;
        stream.special.push_back(Special::replica_only(range));
        self.write(&mut stream, bytes);
    }

    /// The same for a command that is given as words.
    pub fn append_command_for_replicas(&self, args: Args<'_>) {
        let mut bytes = Vec::new();
        encode(&mut bytes, args.iter());
        self.append_for_replicas(&bytes);
    }

    fn write(&self, stream: &mut Stream, mut bytes: &[u8]) -> u64 {
        while !bytes.is_empty() {
            match stream.chunks.back_mut().filter(|chunk| chunk.len() < CHUNK) {
                Some(chunk) => {
                    let (now, later) = bytes.split_at(bytes.len().min(CHUNK - chunk.len()));
                    chunk.extend_from_slice(now);
                    stream.end += now.len() as u64;
                    bytes = later;
                }
                None => {
                    let spare = self.trim_unneeded(stream);
                    stream.chunks.push_back(spare.unwrap_or_else(|| Vec::with_capacity(CHUNK)));
                }
            }
        }
        self.end.store(stream.end, Ordering::Release);
        for reader in &stream.readers {
            if !reader.is_awake.load(Ordering::Relaxed) {
                reader.waker.wake();
            }
        }
        stream.end
    }

    /// For a reader who will come back: appends need not wake him until he `sleeps`.
    pub fn read_on(&self, reader: &JournalReader, max: usize, into: &mut Vec<u8>) -> Result<usize, OutOfWindow> {
        let stream = self.stream.lock();
        reader.is_awake.store(true, Ordering::Relaxed);
        let position = reader.position.load(Ordering::Relaxed);
        let len = stream.read(position, max, into)?;
        reader.position.store(position + len as u64, Ordering::Release);
        Ok(len)
    }

    /// For a reader at an offset, with his waker registered: whether there is nothing for him, and the next append wakes him.
    pub fn sleeps(&self, reader: &JournalReader, offset: u64) -> bool {
        let stream = self.stream.lock();
        let sleeps = offset == stream.end;
        reader.is_awake.store(!sleeps, Ordering::Relaxed);
        sleeps
    }

    /// For a reader who looks again soon by himself: appends need not wake him until he `sleeps`.
    pub fn stays_awake(&self, reader: &JournalReader) {
        let _stream = self.stream.lock();
        reader.is_awake.store(true, Ordering::Relaxed);
    }

    /// Copies up to `max` bytes from an offset on.
    pub fn read(&self, offset: u64, max: usize, into: &mut Vec<u8>) -> Result<usize, OutOfWindow> {
        self.stream.lock().read(offset, max, into)
    }

    /// The same as the append-only file gets it, without what concerns replicas only; returns how far in the stream this goes,
    /// whatever was left out.
    pub fn read_changes(&self, offset: u64, max: usize, into: &mut Vec<u8>) -> Result<usize, OutOfWindow> {
        let stream = self.stream.lock();
        let end = stream.end.min(offset.saturating_add(max as u64));
        let (first, mut at) = (stream.special.partition_point(|special| special.range.end <= offset), offset);
        for Special { range, in_file } in stream.special.range(first..) {
            if range.start >= end {
                break;
            }
            stream.read(at, range.start.saturating_sub(at) as usize, into)?;
            if range.start >= offset {
                // Whole, by whoever reads the first byte of the range.
                into.extend_from_slice(in_file);
            }
            at = range.end.min(end);
        }
        stream.read(at, (end - at) as usize, into)?;
        Ok((end - offset) as usize)
    }

    /// Lets go of whole chunks before an offset.
    pub fn trim(&self, offset: u64) {
        self.stream.lock().trim(offset);
    }

    /// Lets go of what no reader needs and no backlog keeps; one of the chunks may serve again.
    fn trim_unneeded(&self, stream: &mut Stream) -> Option<Vec<u8>> {
        let backlog = stream.end.saturating_sub(self.retain.load(Ordering::Acquire));
        let positions = stream.readers.iter().map(|reader| reader.needs());
        stream.trim(positions.fold(backlog, u64::min))
    }

    /// Registers a reader, whom every append wakes, and turns the journal on. To be called with every shard locked. The
    /// next command is preceded by SELECT. Returns the offset at which he begins.
    pub fn add_reader(&self, reader: &Arc<JournalReader>, _all_shards: &Locked) -> u64 {
        let mut stream = self.stream.lock();
        stream.selected = None;
        reader.position.store(stream.end, Ordering::Release);
        stream.readers.push(Arc::clone(reader));
        self.active.store(true, Ordering::Release);
        stream.end
    }

    /// Registers a reader who goes on at an offset of the past, if the backlog still has it.
    pub fn resume_reader(&self, reader: &Arc<JournalReader>, offset: u64) -> Result<(), OutOfWindow> {
        let mut stream = self.stream.lock();
        let first = stream.backlog().ok_or(OutOfWindow)?.first;
        if offset < first || offset > stream.end {
            return Err(OutOfWindow);
        }
        reader.position.store(offset, Ordering::Release);
        stream.readers.push(Arc::clone(reader));
        Ok(())
    }

    /// Registers a reader who goes on where another one stands, before both begin to read.
    pub fn add_reader_beside(&self, reader: &Arc<JournalReader>, other: &JournalReader) -> u64 {
        let mut stream = self.stream.lock();
        let position = other.position.load(Ordering::Acquire);
        reader.position.store(position, Ordering::Release);
        stream.readers.push(Arc::clone(reader));
        position
    }

    /// Another one holds the place of a reader from here on, who reads elsewhere what memory will no longer have: the substitute takes
    /// what he needs, unless he is a reader already. False if that reader is none.
    pub fn substitute(&self, reader: &Arc<JournalReader>, substitute: &Arc<JournalReader>) -> bool {
        let mut stream = self.stream.lock();
        let Some(index) = stream.readers.iter().position(|other| Arc::ptr_eq(other, reader)) else { return false };
        stream.readers.remove(index);
        if !stream.readers.iter().any(|other| Arc::ptr_eq(other, substitute)) {
            substitute.position.store(reader.needs().max(stream.base), Ordering::Release);
            // He looks by himself.
            substitute.is_awake.store(true, Ordering::Relaxed);
            stream.readers.push(Arc::clone(substitute));
        }
        true
    }

    /// A reader who had a substitute has caught up with what is in memory, if that is so and the stream is still the same.
    pub fn take_back(&self, reader: &Arc<JournalReader>, generation: u64) -> bool {
        let mut stream = self.stream.lock();
        let position = reader.position.load(Ordering::Acquire);
        if self.generation() != generation || position < stream.base || position > stream.end {
            return false;
        }
        reader.is_awake.store(true, Ordering::Relaxed);
        stream.readers.push(Arc::clone(reader));
        true
    }

    /// Removes a reader and what only he needed; the last one turns the journal off, unless a backlog is kept.
    pub fn remove_reader(&self, reader: &Arc<JournalReader>) {
        let mut stream = self.stream.lock();
        stream.readers.retain(|other| !Arc::ptr_eq(other, reader));
        self.turn_off_unneeded(&stream);
        self.trim_unneeded(&mut stream);
    }

    fn turn_off_unneeded(&self, stream: &Stream) {
        if stream.readers.is_empty() && stream.backlog_from.is_none() {
            self.active.store(false, Ordering::Release);
        }
    }

    /// How much of the past is kept for replicas that come back. More than nothing begins a backlog and turns the journal on
    /// (to be called with every shard locked then, unless one is kept already); 0 ends it.
    pub fn set_retained(&self, bytes: u64) {
        let mut stream = self.stream.lock();
        self.retain.store(bytes, Ordering::Release);
        if bytes == 0 {
            stream.backlog_from = None;
            self.turn_off_unneeded(&stream);
        } else {
            let end = stream.end;
            stream.backlog_from.get_or_insert(end);
            self.active.store(true, Ordering::Release);
        }
        self.trim_unneeded(&mut stream);
    }

    /// The past that replicas may continue from; none before the first replica.
    pub fn backlog(&self) -> Option<Backlog> {
        self.stream.lock().backlog()
    }

    /// Lets go of what no reader needs and no backlog keeps.
    pub fn collect(&self) {
        self.trim_unneeded(&mut self.stream.lock());
    }

    /// Bytes of memory, with the lists that lead to them.
    pub fn memory(&self) -> usize {
        let stream = self.stream.lock();
        let lists = size_of::<Vec<u8>>() * stream.chunks.capacity() + size_of::<Special>() * stream.special.capacity();
        stream.chunks.len() * CHUNK + lists
    }
}

impl Stream {
    fn backlog(&self) -> Option<Backlog> {
        let first = self.backlog_from?.max(self.base);
        Some(Backlog { first, len: self.end - first })
    }

    /// Lets go of whole chunks before an offset and returns the last of them, emptied.
    fn trim(&mut self, offset: u64) -> Option<Vec<u8>> {
        let mut spare = None;
        while self.chunks.len() > 1 && self.base + CHUNK as u64 <= offset {
            spare = self.chunks.pop_front();
            self.base += CHUNK as u64;
        }
        while self.special.front().is_some_and(|special| special.range.end <= self.base) {
            self.special.pop_front();
        }
        if let Some(chunk) = &mut spare {
            chunk.clear();
        }
        spare
    }

    fn read(&self, offset: u64, max: usize, into: &mut Vec<u8>) -> Result<usize, OutOfWindow> {
        if offset < self.base || offset > self.end {
            return Err(OutOfWindow);
        }
        let mut skip = (offset - self.base) as usize;
        let mut left = max;
        for chunk in self.chunks.iter().skip(skip / CHUNK) {
            if left == 0 {
                break;
            }
            let part = &chunk[(skip % CHUNK).min(chunk.len())..];
            let part = &part[..part.len().min(left)];
            into.extend_from_slice(part);
            left -= part.len();
            skip = 0;
        }
        Ok(max - left)
    }
}

/// Messages are no changes of the data set: a file has no use for them.
fn is_message(args: &OwnedArgs) -> bool {
    let args = args.as_args();
    args.is(0, "publish") || args.is(0, "spublish")
}

fn select(bytes: &mut Vec<u8>, db: usize) {
    encode(bytes, [b"SELECT".as_slice(), &IntText::new(db as i64)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> OwnedArgs {
        OwnedArgs::new(line.split(' ').map(str::as_bytes))
    }

    #[test]
    fn selects_wraps_and_counts_every_byte() {
        let journal = Journal::default();
        journal.append(&[(9, args("SET k v"))]);
        journal.append(&[(9, args("DEL a")), (0, args("DEL b"))]);
        let mut all = Vec::new();
        journal.read(0, usize::MAX, &mut all).expect("retained");
        let text = String::from_utf8_lossy(&all);
        let words: Vec<&str> = text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect();
        assert_eq!(words.join(" "), "SELECT 9 SET k v MULTI DEL a SELECT 0 DEL b EXEC ");
        assert_eq!(journal.end(), all.len() as u64);
    }

    #[test]
    fn messages_are_for_replicas_only() {
        let journal = Journal::default();
        journal.append(&[(0, args("SET a 1")), (0, args("PUBLISH c m"))]);
        journal.append(&[(0, args("publish c m"))]);
        journal.append(&[(0, args("PUBLISH c 1")), (0, args("PUBLISH c 2"))]);
        journal.append(&[(0, args("SET b 2"))]);
        journal.append_for_replicas(b"*1\r\n$4\r\nPING\r\n");
        let words = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ")
        };
        let (mut all, mut changes) = (Vec::new(), Vec::new());
        journal.read(0, usize::MAX, &mut all).expect("retained");
        assert_eq!(
            words(&all),
            "SELECT 0 MULTI SET a 1 PUBLISH c m EXEC publish c m MULTI PUBLISH c 1 PUBLISH c 2 EXEC SET b 2 PING "
        );
        assert_eq!(journal.read_changes(0, usize::MAX, &mut changes), Ok(all.len()));
        assert_eq!(words(&changes), "SELECT 0 MULTI SET a 1 EXEC SET b 2 ");
        // Pieces of any length add up to the same, also when they begin or end within what is left out.
        for piece in 1..all.len() {
            let (mut at, mut parts) = (0, Vec::new());
            while at < all.len() {
                at += journal.read_changes(at as u64, piece, &mut parts).expect("retained");
            }
            assert_eq!(parts, changes, "{piece}");
        }
        journal.trim(journal.end());
    }

    #[test]
    fn the_file_and_replicas_get_what_is_theirs() {
        let journal = Journal::default();
        journal.append(&[(0, args("SET k v"))]);
        let unit = [(0, args("SET a 1")), (3, args("SET c 3")), (0, args("SET r 2")), (0, args("PUBLISH c m"))];
        journal.append_to(&unit, &[(1, Audience::File), (2, Audience::Replicas)]);
        journal.append_to(&[(0, args("SET f 1"))], &[(0, Audience::File)]);
        assert_eq!(journal.changes_end(), journal.end(), "the file has yet to get that");
        journal.append_to(&[(0, args("SET x 1"))], &[(0, Audience::Replicas)]);
        assert!(journal.changes_end() < journal.end());
        journal.append_to(&[(0, args("SET x 1")), (0, args("SET y 1"))], &[(0, Audience::Replicas)]);
        let words = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            text.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect::<Vec<_>>().join(" ")
        };
        let (mut all, mut changes) = (Vec::new(), Vec::new());
        journal.read(0, usize::MAX, &mut all).expect("retained");
        assert_eq!(
            words(&all),
            "SELECT 0 SET k v SELECT 0 MULTI SET a 1 SELECT 0 SET r 2 SELECT 0 PUBLISH c m EXEC PING SELECT 0 SET x 1 \
             MULTI SET x 1 SET y 1 EXEC "
        );
        assert_eq!(journal.read_changes(0, usize::MAX, &mut changes), Ok(all.len()));
        assert_eq!(
            words(&changes),
            "SELECT 0 SET k v SELECT 0 MULTI SET a 1 SELECT 3 SET c 3 EXEC SELECT 0 SET f 1 SELECT 0 MULTI SET y 1 EXEC "
        );
        for piece in 1..all.len() {
            let (mut at, mut parts) = (0, Vec::new());
            while at < all.len() {
                at += journal.read_changes(at as u64, piece, &mut parts).expect("retained");
            }
            assert_eq!(parts, changes, "{piece}");
        }
    }

    #[test]
    fn reads_across_chunks_and_forgets_only_what_was_trimmed() {
        let journal = Journal::default();
        journal.set_retained(u64::MAX);
        let bytes: Vec<u8> = (0..CHUNK * 3 + 17).map(|n| (n % 251) as u8).collect();
        for part in bytes.chunks(1000) {
            journal.append_raw(part);
        }
        let mut part = Vec::new();
        assert_eq!(journal.read(CHUNK as u64 - 5, 20, &mut part), Ok(20));
        assert_eq!(part, bytes[CHUNK - 5..CHUNK + 15]);
        journal.trim(CHUNK as u64 * 2 + 1);
        assert_eq!(journal.base(), CHUNK as u64 * 2);
        assert_eq!(journal.read(5, 1, &mut part), Err(OutOfWindow));
        assert_eq!(journal.read(journal.end(), 10, &mut part), Ok(0));
    }
}
