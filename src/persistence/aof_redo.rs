//! The redo log of the append-only file: under `appendfsync always` it makes writes durable for half of what a sync of the file costs.
//!
//! A file that has grown cannot be synced without a commit of the file system's own journal: more writes, and a change of threads
//! before anybody goes on. The redo log never grows. It is made once, whole, and its two halves are written in turn:
//!
//! ```text
//!   always:   piece of the journal ─► incr file (write)            in the background, once per half: sync
//!                          └────────► redo log (write, sync) ─► the replies go
//!   start:    redo log ─► what the incr file lacks of it is written there and synced ─► the redo log goes
//!
//!   half      record │ record │ … │ what is left of an older generation
//!   record    "RsRedo01" │ generation │ number of the incr file │ offset in it │ length │ CRC-64 of all else │ bytes
//! ```
//! (numbers of eight bytes, little-endian.) The append-only file itself is complete whenever the process dies, as the kernel has
//! it: other servers and tools read it as ever. Only after a power cut may it lack what was written since its last sync, and the next
//! start brings that back. A half is written anew when the file has been synced beyond what it holds.

use super::storage::{Output, Storage};
use crate::rdb::checksum::{self, Checksum};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Each of the two; small in tests, so that they are used up.
const HALF: u64 = if cfg!(test) { 1024 } else { 8 << 20 };
/// Longer pieces go into the file, with a sync of that.
const PIECE_MAX: usize = if cfg!(test) { 400 } else { 256 * 1024 };
const MAGIC: &[u8; 8] = b"RsRedo01";
const HEADER: usize = 48;

/// Name of the log beside the parts of an append-only file.
pub fn name(stem: &str) -> String {
    format!("{stem}.redo")
}

pub struct RedoLog {
    file: Arc<dyn Output>,
    generation: u64,
    /// Which half is being written, and how much of it is.
    half: u64,
    used: u64,
    /// The file is synced beyond what the other half holds.
    other_is_free: bool,
    record: Vec<u8>,
}

/// Whether a piece was logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    Yes,
    /// The same, and the log went on to its other half: the file is to be synced soon.
    YesAndTurned,
    /// There is no room for it: the file must be synced.
    No,
}

impl RedoLog {
    /// Makes the log. To be called when nothing depends on one that may be there.
    pub fn create(storage: &dyn Storage, path: &Path) -> io::Result<RedoLog> {
        let file = storage.create_in_place(path)?;
        let zeros = vec![0; HALF as usize];
        file.write_at(0, &zeros)?;
        file.write_at(HALF, &zeros)?;
        file.sync()?;
        storage.sync_dir_of(path)?;
        Ok(RedoLog { file, generation: 1, half: 0, used: 0, other_is_free: true, record: Vec::new() })
    }

    /// Makes a piece durable that the incr file of this number has from this offset on. After an error the log is of no use any more.
    pub fn append(&mut self, seq: i64, offset: u64, bytes: &[u8]) -> io::Result<Logged> {
        let len = (HEADER + bytes.len()) as u64;
        if bytes.len() > PIECE_MAX {
            return Ok(Logged::No);
        }
        let turns = self.used + len > HALF;
        if turns {
            if !self.other_is_free {
                return Ok(Logged::No);
            }
            (self.half, self.used, self.other_is_free) = (1 - self.half, 0, false);
            self.generation += 1;
        }
        self.record.clear();
        self.record.extend_from_slice(MAGIC);
        for number in [self.generation, seq as u64, offset, bytes.len() as u64, 0] {
            self.record.extend_from_slice(&number.to_le_bytes());
        }
        self.record.extend_from_slice(bytes);
        let sum = checksum::of(&self.record);
        self.record[HEADER - 8..HEADER].copy_from_slice(&sum.to_le_bytes());
        self.file.write_at(self.half * HALF + self.used, &self.record)?;
        self.file.sync()?;
        self.used += len;
        Ok(if turns { Logged::YesAndTurned } else { Logged::Yes })
    }

    /// The file was synced after the turn to this generation.
    pub fn has_synced_since(&mut self, generation: u64) {
        self.other_is_free |= generation == self.generation;
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a piece of the usual size can be logged.
    pub fn has_room(&self) -> bool {
        self.other_is_free || self.used + PIECE_MAX as u64 <= HALF
    }
}

/// What a log holds for one file: pieces that do not overlap, in the order of their offsets.
fn pieces(log: &[u8], seq: i64) -> Vec<(u64, &[u8])> {
    let mut halves = [0, 1].map(|half| {
        let from = (half * HALF as usize).min(log.len());
        half_records(&log[from..(from + HALF as usize).min(log.len())])
    });
    halves.sort_by_key(|half| half.first().map_or(0, |record| record.generation));
    let mut pieces: Vec<(u64, &[u8])> = Vec::new();
    for record in halves.into_iter().flatten().filter(|record| record.seq == seq) {
        // What was there before was taken back: the file was cut at this offset.
        while let Some((offset, bytes)) = pieces.pop() {
            if offset < record.offset {
                let kept = usize::try_from(record.offset - offset).unwrap_or(usize::MAX).min(bytes.len());
                pieces.push((offset, &bytes[..kept]));
                break;
            }
        }
        pieces.push((record.offset, record.bytes));
    }
    pieces
}

struct Record<'a> {
    generation: u64,
    seq: i64,
    offset: u64,
    bytes: &'a [u8],
}

fn half_records(mut half: &[u8]) -> Vec<Record<'_>> {
    let mut records: Vec<Record> = Vec::new();
    while let Some(record) = read_record(half) {
        if records.last().is_some_and(|last| last.generation != record.generation) {
            break;
        }
        half = &half[HEADER + record.bytes.len()..];
        records.push(record);
    }
    records
}

/// The record that begins here, if it is whole.
fn read_record(from: &[u8]) -> Option<Record<'_>> {
    let header = from.get(..HEADER)?;
    let number = |index: usize| header[8 * index..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let len = usize::try_from(number(4)).ok().filter(|len| *len <= PIECE_MAX)?;
    let bytes = from.get(HEADER..HEADER + len)?;
    if &header[..8] != MAGIC {
        return None;
    }
    let mut sum = Checksum::new();
    sum.update(&header[..HEADER - 8]);
    sum.update(&[0; 8]);
    sum.update(bytes);
    (sum.value() == number(5)).then_some(Record {
        generation: number(1),
        seq: number(2) as i64,
        offset: number(3),
        bytes,
    })
}

/// Brings an incr file up to what the log holds for it; returns how many bytes it lacked. The log is gone afterwards.
pub fn recover(storage: &dyn Storage, log: &Path, file: &Path, seq: i64) -> io::Result<u64> {
    let mut bytes = Vec::new();
    match storage.open(log) {
        Ok(mut input) => input.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let pieces = pieces(&bytes, seq);
    let lacking = match storage.len(file) {
        Ok(len) => lacking(storage, file, len, &pieces)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    if !lacking.is_empty() {
        let output = storage.open_in_place(file)?;
        for (offset, bytes) in lacking {
            output.write_at(offset, bytes)?;
            count += bytes.len() as u64;
        }
        output.sync()?;
    }
    storage.remove(log)?;
    storage.sync_dir_of(log)?;
    Ok(count)
}

/// Writes all that the log holds for an incr file into that once more, and syncs it.
pub fn repair(storage: &dyn Storage, log: &Path, file: &Path, seq: i64) -> io::Result<()> {
    let mut bytes = Vec::new();
    storage.open(log)?.read_to_end(&mut bytes)?;
    let output = storage.open_in_place(file)?;
    pieces(&bytes, seq).iter().try_for_each(|(offset, bytes)| output.write_at(*offset, bytes))?;
    output.sync()
}

/// The pieces that a file of this length does not have as they are; none if it holds something else in their place, which then another
/// server has written.
fn lacking<'a>(
    storage: &dyn Storage,
    file: &Path,
    mut len: u64,
    pieces: &[(u64, &'a [u8])],
) -> io::Result<Vec<(u64, &'a [u8])>> {
    let mut lacking = Vec::new();
    for (offset, bytes) in pieces {
        if *offset > len {
            tracing::warn!("The redo log goes on behind the end of {}: it is left alone.", file.display());
            return Ok(Vec::new());
        }
        let mut there = vec![0; usize::try_from(len - offset).unwrap_or(usize::MAX).min(bytes.len())];
        storage.read_at(file, *offset, &mut there)?;
        // A page that was never written reads as zeros.
        if there.iter().zip(*bytes).any(|(is, wanted)| is != wanted && *is != 0) {
            tracing::warn!("{} was written by another server since: its redo log is left alone.", file.display());
            return Ok(Vec::new());
        }
        if there != **bytes {
            lacking.push((*offset, *bytes));
        }
        len = len.max(offset + bytes.len() as u64);
    }
    Ok(lacking)
}

#[cfg(test)]
mod tests {
    use super::super::storage::crashing::CrashingDisk;
    use super::*;
    use crate::base::random::Random;

    const LOG: &str = "/dir/a.redo";
    const FILE: &str = "/dir/a.1.incr.aof";

    fn content(disk: &CrashingDisk, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        disk.open(Path::new(path)).and_then(|mut file| file.read_to_end(&mut bytes)).expect("in memory");
        bytes
    }

    fn log(disk: &CrashingDisk) -> RedoLog {
        RedoLog::create(disk, Path::new(LOG)).expect("in memory")
    }

    fn file(disk: &CrashingDisk, bytes: &[u8]) -> Arc<dyn Output> {
        let file = disk.create(Path::new(FILE)).expect("in memory");
        file.write(bytes).expect("in memory");
        file
    }

    fn recovered(disk: &CrashingDisk) -> (u64, Vec<u8>) {
        let count = recover(disk, Path::new(LOG), Path::new(FILE), 1).expect("in memory");
        assert!(disk.open(Path::new(LOG)).is_err(), "the log is gone");
        (count, content(disk, FILE))
    }

    #[test]
    fn what_the_file_lacks_comes_back() {
        let disk = CrashingDisk::leak();
        file(disk, b"sound|one|");
        let mut log = log(disk);
        for (offset, bytes) in [(6, "one|"), (10, "two|"), (14, "three|")] {
            assert_eq!(log.append(1, offset, bytes.as_bytes()).unwrap(), Logged::Yes);
        }
        assert_eq!(recovered(disk), (10, b"sound|one|two|three|".to_vec()));
        assert_eq!(recovered_again(disk), 0);
    }

    fn recovered_again(disk: &CrashingDisk) -> u64 {
        recover(disk, Path::new(LOG), Path::new(FILE), 1).expect("without a log there is nothing to do")
    }

    #[test]
    fn pages_that_were_never_written_are_filled() {
        let disk = CrashingDisk::leak();
        file(disk, b"sound|\0\0\0\0two|");
        let mut log = log(disk);
        log.append(1, 6, b"one|").unwrap();
        log.append(1, 10, b"two|").unwrap();
        assert_eq!(recovered(disk), (4, b"sound|one|two|".to_vec()));
    }

    #[test]
    fn what_another_server_has_written_stays() {
        for there in ["sound|xyz|", "sou"] {
            let disk = CrashingDisk::leak();
            file(disk, there.as_bytes());
            log(disk).append(1, 6, b"one|").unwrap();
            assert_eq!(recovered(disk), (0, there.as_bytes().to_vec()));
        }
    }

    #[test]
    fn other_files_are_none_of_its_business() {
        let disk = CrashingDisk::leak();
        file(disk, b"sound|");
        log(disk).append(2, 6, b"one|").unwrap();
        assert_eq!(recovered(disk), (0, b"sound|".to_vec()));
    }

    #[test]
    fn what_was_taken_back_is_not_redone() {
        let disk = CrashingDisk::leak();
        file(disk, b"sound|");
        let mut log = log(disk);
        for (offset, bytes) in [(6, "one|"), (10, "gone|gone|"), (8, "!|"), (10, "three|")] {
            log.append(1, offset, bytes.as_bytes()).unwrap();
        }
        assert_eq!(recovered(disk).1, b"sound|on!|three|");
    }

    #[test]
    fn halves_are_used_in_turn_once_the_file_is_synced() {
        let disk = CrashingDisk::leak();
        let mut expected = b"sound|".to_vec();
        let output = file(disk, &expected);
        let mut log = log(disk);
        let (mut turns, mut refused) = (0, 0);
        for number in 0..200 {
            let piece = format!("{number:07}|").into_bytes();
            let logged = log.append(1, expected.len() as u64, &piece).unwrap();
            expected.extend_from_slice(&piece);
            match logged {
                Logged::Yes => {}
                Logged::YesAndTurned => turns += 1,
                Logged::No => {
                    refused += 1;
                    output.set_len(0).and_then(|()| output.write(&expected)).unwrap();
                    log.has_synced_since(log.generation());
                }
            }
        }
        assert!(turns > 5 && refused > 3, "{turns} {refused}");
        log.has_synced_since(log.generation() - 1);
        assert_eq!(recovered(disk).1, expected);
    }

    #[test]
    fn long_pieces_are_not_for_the_log() {
        let disk = CrashingDisk::leak();
        assert_eq!(log(disk).append(1, 0, &[b'x'; PIECE_MAX + 1]).unwrap(), Logged::No);
    }

    #[test]
    fn a_damaged_log_holds_what_is_before_the_damage() {
        let mut random = Random::seeded(3);
        for _ in 0..if cfg!(miri) { 20 } else { 2000 } {
            let disk = CrashingDisk::leak();
            let mut log = log(disk);
            for at in 0..10 {
                log.append(1, at * 4, b"abc|").unwrap();
            }
            let mut bytes = content(disk, LOG);
            let place = random.below(10 * (HEADER as u64 + 4)) as usize;
            bytes[place] ^= 1 << random.below(8);
            let found = pieces(&bytes, 1);
            assert_eq!(found.len(), place / (HEADER + 4), "damaged at {place}");
        }
    }
}
