//! Loading the append-only file: of each of its files an RDB part, if it begins with one, then commands.

use super::aof_manifest::{Manifest, Part};
use super::rdb_load::{self, Rules};
use super::storage::Storage;
use crate::base::clock::Timer;
use crate::engine::keyspace::OnExpired;
use crate::resp::{Args, Reply};
use crate::server::clients::Client;
use crate::server::dispatch;
use crate::server::{Server, Session, Worker};
use std::io::{Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file cannot be loaded; the log has said why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Where the files are.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub storage: &'a dyn Storage,
    pub dir: &'a Path,
}

/// Length of all files of a manifest; an error names one that is not there.
pub fn total_len(place: Place<'_>, manifest: &Manifest) -> Result<u64, String> {
    let mut total = 0;
    for part in manifest.base.iter().chain(&manifest.incr) {
        total += place.storage.len(&place.dir.join(&part.name)).map_err(|error| {
            let reason = plain(&error);
            format!("Unable to obtain the AOF file {} length. stat: {reason}", part.name)
        })?;
    }
    Ok(total)
}

/// Loads base, then incr files in order. Only the last may lack its end.
pub fn load_all(server: &'static Server, place: Place<'_>, manifest: &Manifest) -> Result<(), Refused> {
    let parts: Vec<&Part> = manifest.base.iter().chain(&manifest.incr).collect();
    let old_name = &server.config.current().appendfilename;
    let start = Timer::start();
    for (index, part) in parts.iter().enumerate() {
        let file_start = Timer::start();
        let loaded = load_file(server, place, part, part.name == *old_name)?;
        if loaded == Loaded::Truncated && index + 1 < parts.len() {
            tracing::warn!("Fatal error: the truncated file is not the last file");
            return Err(Refused);
        }
        if loaded != Loaded::Empty {
            let kind = if manifest.base.as_ref() == Some(*part) { "base" } else { "incr" };
            let seconds = file_start.elapsed().as_secs_f64();
            tracing::info!("DB loaded from {kind} file {}: {seconds:.3} seconds", part.name);
        }
    }
    tracing::info!("DB loaded from append only file: {:.3} seconds", start.elapsed().as_secs_f64());
    Ok(())
}

/// How loading one file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    Whole,
    Empty,
    /// The end was missing and has been cut off.
    Truncated,
}

const PIECE: usize = 1 << 20;

/// Loads a file into the keyspace; the log tells why it failed.
fn load_file(server: &'static Server, place: Place<'_>, part: &Part, old_style: bool) -> Result<Loaded, Refused> {
    let (name, path) = (&part.name, place.dir.join(&part.name));
    let mut file = match place.storage.open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("Fatal error: can't open the append log file {name} for reading: {}", plain(&error));
            return Err(Refused);
        }
    };
    let mut head = Vec::new();
    if let Err(error) = Read::by_ref(&mut file).take(5).read_to_end(&mut head) {
        tracing::warn!("Unrecoverable error reading the append only file {name}: {}", plain(&error));
        return Err(Refused);
    }
    if head.is_empty() {
        return Ok(Loaded::Empty);
    }
    let mut source = Cursor::new(head.clone()).chain(file);
    let (mut rest, mut offset) = (Vec::new(), 0);
    if head == b"REDIS" || head == b"VALKE" {
        let what =
            if old_style { "Reading RDB preamble from AOF file..." } else { "Reading RDB base file on AOF loading..." };
        tracing::info!("{what}");
        let rules = Rules { keep_expired: true, replace: false, name_expired: false };
        match rdb_load::load(server, &mut source, rules) {
            Ok(summary) => (rest, offset) = (summary.rest, summary.end),
            Err(error) => {
                tracing::warn!("Error reading the RDB base file {name}: {error}, AOF loading aborted");
                return Err(Refused);
            }
        }
        if old_style {
            tracing::info!("Reading the remaining AOF tail...");
        }
    }
    let mut replay = Replay::new(server, name);
    let end = replay.run(&mut source, rest, offset);
    replay.finish(place.storage, &path, end)
}

/// An error's text without Rust's appendix.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Why replaying stopped.
enum End {
    Whole,
    Truncated,
    Failed,
}

struct Replay<'a> {
    name: &'a str,
    worker: Worker,
    session: Session,
    reply: Reply,
    /// Behind the last command outside of an unfinished transaction.
    valid: u64,
}

impl<'a> Replay<'a> {
    fn new(server: &'static Server, name: &'a str) -> Self {
        let worker = Worker::new(server);
        let client = Client::new(server.clients.next_id(), String::new(), String::new(), -1, worker.now_ms);
        let mut session = Session::new(Arc::new(client), true);
        session.is_primary_link = true;
        Replay { name, worker, session, reply: Reply::new(false), valid: 0 }
    }

    fn run(
        &mut self,
        source: &mut Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>,
        mut buffer: Vec<u8>,
        mut offset: u64,
    ) -> End {
        let mut start = 0;
        self.valid = offset;
        let mut ranges = Vec::new();
        loop {
            self.worker.refresh();
            // Whatever the clock says, the file decides what was there.
            self.worker.settings.on_expired = OnExpired::Ignore;
            while let Some(parsed) = parse(&buffer[start..], &mut ranges) {
                let Ok(len) = parsed else {
                    tracing::warn!(
                        "Bad file format reading the append only file {}: make a backup of your AOF file, then use \
                         ./redis-check-aof --fix <filename.manifest>",
                        self.name
                    );
                    return End::Failed;
                };
                if !ranges.is_empty() && !self.command(Args::new(&buffer[start..start + len], &ranges)) {
                    return End::Failed;
                }
                start += len;
                if self.session.transaction.is_none() {
                    self.valid = offset + start as u64;
                }
            }
            buffer.drain(..start);
            offset += start as u64;
            start = 0;
            let old = buffer.len();
            buffer.resize(old + PIECE, 0);
            match source.read(&mut buffer[old..]) {
                Ok(len) => {
                    buffer.truncate(old + len);
                    let loaded = &self.worker.server.save_status.loading.loaded_bytes;
                    loaded.fetch_add(len as u64, Ordering::Relaxed);
                    if len == 0 {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!("Unrecoverable error reading the append only file {}: {}", self.name, plain(&error));
                    return End::Failed;
                }
            }
        }
        if self.session.transaction.is_some() {
            tracing::warn!("Revert incomplete MULTI/EXEC transaction in AOF file {}", self.name);
            return End::Truncated;
        }
        if buffer.is_empty() { End::Whole } else { End::Truncated }
    }

    fn command(&mut self, args: Args<'_>) -> bool {
        if self.worker.server.table.find(&args[0]).is_none() {
            let name = String::from_utf8_lossy(&args[0]);
            tracing::warn!("Unknown command '{name}' reading the append only file {}", self.name);
            return false;
        }
        dispatch::run_one(&mut self.worker, &mut self.session, args, &mut self.reply);
        self.reply.truncate(0);
        let delay = self.worker.config.key_load_delay;
        if delay > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay as u64));
        }
        true
    }

    fn finish(mut self, storage: &dyn Storage, path: &Path, end: End) -> Result<Loaded, Refused> {
        let (name, valid) = (self.name, self.valid);
        dispatch::close_session(&mut self.worker, &mut self.session);
        match end {
            End::Whole => Ok(Loaded::Whole),
            End::Failed => Err(Refused),
            End::Truncated if self.worker.config.aof_load_truncated => {
                tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
                tracing::warn!("!!! Truncating the AOF {name} at offset {valid} !!!");
                if let Err(error) = storage.truncate(path, valid) {
                    tracing::warn!("Error truncating the AOF file {name}: {}", plain(&error));
                    return Err(Refused);
                }
                tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
                Ok(Loaded::Truncated)
            }
            End::Truncated => {
                tracing::warn!(
                    "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF \
                     file, then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the \
                     'aof-load-truncated' configuration option to yes and restart the server."
                );
                Err(Refused)
            }
        }
    }
}

/// One command or annotation at the start of `bytes`: its length, and where its arguments stand (none: an annotation).
/// Nothing if its end is not there yet; an error if this is no command.
fn parse(bytes: &[u8], ranges: &mut Vec<(u32, u32)>) -> Option<Result<usize, ()>> {
    ranges.clear();
    let (line, mut at) = line(bytes)?;
    match line.split_first() {
        Some((b'#', _)) => Some(Ok(at)),
        Some((b'*', digits)) => {
            let Some(count) = number(digits).filter(|count| *count >= 1) else { return Some(Err(())) };
            for _ in 0..count {
                let rest = bytes.get(at..)?;
                if rest.first().is_some_and(|first| *first != b'$') {
                    return Some(Err(()));
                }
                let (line, len) = self::line(rest)?;
                let Some(size) = line.get(1..).and_then(number) else { return Some(Err(())) };
                at += len;
                let end = at.checked_add(size)?;
                bytes.get(end + 1)?;
                ranges.push((at as u32, size as u32));
                at = end + 2;
            }
            Some(Ok(at))
        }
        _ => Some(Err(())),
    }
}

/// A line without its end, and its length with it.
fn line(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|value| *value <= 1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_commands_annotations_and_cuts() {
        let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n#TS:123\r\nrest";
        let mut ranges = Vec::new();
        assert_eq!(parse(bytes, &mut ranges), Some(Ok(20)));
        assert_eq!(Args::new(bytes, &ranges).iter().collect::<Vec<_>>(), [b"GET".as_slice(), b"k"]);
        assert_eq!(parse(&bytes[20..], &mut ranges), Some(Ok(9)));
        assert!(ranges.is_empty());
        for cut in 0..20 {
            assert_eq!(parse(&bytes[..cut], &mut ranges), None, "{cut}");
        }
        assert_eq!(parse(b"SET k v\r\n", &mut ranges), Some(Err(())));
        assert_eq!(parse(b"*1\r\n:3\r\n", &mut ranges), Some(Err(())));
        assert_eq!(parse(b"*99999999999\r\n", &mut ranges), Some(Err(())));
    }
}
