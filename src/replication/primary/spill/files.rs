//! The part of the stream that lies on disk: files of one size, named by the offset at which they begin, written at the end and
//! given up from the beginning.
//!
//! ```text
//!   start ─────────────────────────────────────────────► end      offsets of the stream
//!   | repl-spill.PID.0 | repl-spill.PID.16777216 | being filled … |
//! ```
//! Nothing is synced: after a crash the files are of no use to anybody and go at the next start.

use crate::persistence::storage::{Output, Storage};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PREFIX: &str = "repl-spill.";
/// Bytes of one file, unless the limit of all is small.
const FILE_MAX: u64 = 16 << 20;
const FILE_MIN: u64 = 64 << 10;

struct Segment {
    path: Arc<Path>,
    start: u64,
    len: u64,
}

pub struct Files {
    storage: &'static dyn Storage,
    dir: PathBuf,
    segments: VecDeque<Segment>,
    /// The last segment, which is being filled.
    output: Option<Arc<dyn Output>>,
    start: u64,
    end: u64,
}

/// Where some bytes lie: a file, how far into it, how many there are.
#[derive(Clone, Debug)]
pub struct Place {
    path: Arc<Path>,
    at: u64,
    len: usize,
}

impl Files {
    /// Nothing yet, from an offset on.
    pub fn new(storage: &'static dyn Storage, dir: PathBuf, start: u64) -> Self {
        Files { storage, dir, segments: VecDeque::new(), output: None, start, end: start }
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Writes bytes of the stream that follow those that are here. `limit` is what all files together may take.
    pub fn append(&mut self, mut bytes: &[u8], limit: u64) -> io::Result<()> {
        let size = (limit / 4).clamp(FILE_MIN, FILE_MAX);
        while !bytes.is_empty() {
            let room = self.segments.back().map_or(0, |last| size.saturating_sub(last.len));
            let (Some(output), 1..) = (&self.output, room) else {
                self.begin_file()?;
                continue;
            };
            let now = bytes.len().min(room as usize);
            output.write(&bytes[..now])?;
            if let Some(last) = self.segments.back_mut() {
                last.len += now as u64;
            }
            self.end += now as u64;
            bytes = &bytes[now..];
        }
        Ok(())
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let path = self.dir.join(format!("{PREFIX}{}.{}", std::process::id(), self.end));
        self.output = Some(self.storage.create(&path)?);
        self.segments.push_back(Segment { path: path.into(), start: self.end, len: 0 });
        Ok(())
    }

    /// Gives up whole files before an offset, and every one that is beyond the limit; returns where the rest begins.
    pub fn trim(&mut self, offset: u64, limit: u64) -> u64 {
        while let Some(first) = self.segments.front() {
            let end = first.start + first.len;
            let is_over = self.end - first.start > limit;
            // The last one is being filled.
            if (end > offset && !is_over) || (self.segments.len() == 1 && limit > 0) {
                break;
            }
            // One that stays goes at the next start.
            let _ = self.storage.remove(&first.path);
            self.start = end;
            self.segments.pop_front();
        }
        if self.segments.is_empty() {
            self.output = None;
            self.start = self.end;
        }
        self.start
    }

    /// Where the bytes from an offset on lie; nothing if they are not here.
    pub fn find(&self, offset: u64, max: usize) -> Option<Place> {
        let index = self.segments.partition_point(|segment| segment.start + segment.len <= offset);
        let segment = self.segments.get(index).filter(|segment| segment.start <= offset)?;
        let at = offset - segment.start;
        Some(Place { path: Arc::clone(&segment.path), at, len: max.min((segment.len - at) as usize) })
    }
}

impl Place {
    /// Reads what lies here.
    pub fn read(&self, storage: &dyn Storage, into: &mut Vec<u8>) -> io::Result<usize> {
        let old = into.len();
        into.resize(old + self.len, 0);
        let result = storage.read_at(&self.path, self.at, &mut into[old..]);
        into.truncate(old + if result.is_ok() { self.len } else { 0 });
        result.map(|()| self.len)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for segment in &self.segments {
            let _ = self.storage.remove(&segment.path);
        }
    }
}

/// Removes what a process that did not end well has left.
pub fn remove_stale(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('.').next()) else { continue };
        // Several servers may share a directory.
        let is_alive = owner != std::process::id().to_string() && Path::new("/proc").join(owner).exists();
        if !is_alive {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::storage::DISK;

    fn files(name: &str, start: u64) -> (Files, PathBuf) {
        let dir = std::env::temp_dir().join(format!("rsredis-spill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        (Files::new(DISK, dir.clone(), start), dir)
    }

    fn names(dir: &Path) -> usize {
        std::fs::read_dir(dir).expect("a directory").count()
    }

    #[test]
    fn what_was_written_is_found_at_its_offset() {
        let (mut files, dir) = files("read", 1000);
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        for part in bytes.chunks(7777) {
            files.append(part, 1 << 20).expect("room");
        }
        assert_eq!((files.start(), files.end(), files.len()), (1000, 301_000, 300_000));
        assert!(names(&dir) > 1, "several files");
        let (mut at, mut read) = (1000, Vec::new());
        while let Some(place) = files.find(at, 50_000) {
            at += place.read(DISK, &mut read).expect("it is there") as u64;
        }
        assert_eq!(read, bytes);
        assert!(files.find(999, 10).is_none() && files.find(301_000, 10).is_none());
        let start = files.trim(290_000, 1 << 20);
        assert!(start > 1000 && start <= 290_000, "{start}");
        assert!(files.find(start - 1, 10).is_none());
        assert_eq!(files.find(start, 10).expect("kept").len, 10);
        drop(files);
        assert_eq!(names(&dir), 0);
        std::fs::remove_dir(&dir).expect("empty");
    }

    #[test]
    fn the_limit_cuts_the_beginning_off() {
        let (mut files, dir) = files("limit", 0);
        for _ in 0..40 {
            files.append(&[7; 60_000], 1 << 20).expect("room");
            files.trim(0, 1 << 20);
        }
        assert!(files.len() <= 1 << 20 && files.len() > 1 << 19, "{}", files.len());
        assert_eq!(files.end(), 2_400_000);
        assert_eq!(files.trim(0, 0), 2_400_000);
        assert_eq!(names(&dir), 0);
        std::fs::remove_dir(&dir).expect("empty");
    }
}
