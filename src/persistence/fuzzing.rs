//! The bodies of the fuzz targets for files: here, so that a bounded run of the same can be an ordinary test
//! (`tests/fuzz_files.rs`), for the fuzzer itself needs a nightly compiler.

use super::aof_load::{self, Place};
use super::aof_manifest::{Manifest, Part};
use super::rdb_load::{self, Rules};
use super::storage::{Output, Storage};
use crate::engine::keyspace::SHARDS;
use crate::engine::limits::Limits;
use crate::rdb::dump::Verify;
use crate::rdb::{Item, Reader, Writer, dump, encode, value};
use crate::server::Server;
use crate::server::config::{Config, ConfigStore};
use crate::server::session::SessionCommand;
use crate::server::table::CommandTable;
use parking_lot::{Mutex, MutexGuard};
use std::io::{self, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Reads an RDB file in two pieces; every value that is accepted must be writable and readable again.
pub fn rdb(bytes: &[u8]) {
    let limits = Limits::default();
    let mut reader = Reader::new(false);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [first, second] {
        reader.feed(piece);
        loop {
            let key = match reader.next_item() {
                Ok(Some(Item::Key(key))) => key,
                Ok(Some(Item::End)) | Err(_) => return,
                Ok(Some(_)) => continue,
                Ok(None) => break,
            };
            let Ok(decoded) = value::decode(key.kind, key.lineage, key.body, &limits) else { continue };
            let record = decoded.into_record(&key.key, key.expiry);
            let mut again = Writer::new(12, false, encode::Options::default());
            again.record(0, &record);
            let mut whole = Vec::new();
            encode::value(&mut whole, &record, true);
            let (kind, body) = whole.split_first().expect("a type byte");
            let same = value::decode(*kind, crate::rdb::format::Lineage::Redis, body, &limits);
            assert!(same.is_ok(), "type {kind} is refused when it comes back");
        }
    }
}

/// A payload of RESTORE, its checksum taken for right.
pub fn restore(bytes: &[u8]) {
    if let Ok((kind, lineage, body)) = dump::open(bytes, Verify::No) {
        let _ = value::decode(kind, lineage, body, &Limits::default());
    }
}

/// Loads a file into a server as at its start: an RDB file, or an append-only file with or without RDB preamble.
pub fn load(bytes: &[u8]) {
    let (server, _alone) = server();
    rdb_load::empty_all(&mut server.keyspace.lock_all());
    if bytes.starts_with(b"REDIS") {
        let rules = Rules { keep_expired: true, replace: true, name_expired: false };
        let _ = rdb_load::load(server, &mut Cursor::new(bytes), rules);
        rdb_load::empty_all(&mut server.keyspace.lock_all());
    }
    let manifest =
        Manifest { base: Some(Part { name: "file".to_owned(), seq: 1 }), base_seq: 1, ..Manifest::default() };
    let disk = Disk(vec![("file".to_owned(), bytes.to_vec())]);
    let _ = aof_load::load_all(server, Place { storage: &disk, dir: Path::new("") }, &manifest);
    check_values(server);
}

/// A manifest and the files that it may name, loaded as at a start.
pub fn append_only(manifest: &[u8], files: &[(&str, &[u8])]) {
    let Ok(manifest) = Manifest::parse(&String::from_utf8_lossy(manifest)) else { return };
    let (server, _alone) = server();
    rdb_load::empty_all(&mut server.keyspace.lock_all());
    let disk = Disk(files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect());
    let place = Place { storage: &disk, dir: Path::new("") };
    if aof_load::total_len(place, &manifest).is_ok() {
        let _ = aof_load::load_all(server, place, &manifest);
    }
    check_values(server);
}

/// Whatever was loaded, every value can be written and read again.
fn check_values(server: &'static Server) {
    let limits = Limits::default();
    let locked = server.keyspace.lock_all();
    for shard in 0..SHARDS {
        for record in locked.shard(shard).dbs().iter().flat_map(|db| db.table().iter()) {
            let mut whole = Vec::new();
            encode::value(&mut whole, record, true);
            let Some((kind, body)) = whole.split_first() else { continue };
            let same = value::decode(*kind, crate::rdb::format::Lineage::Redis, body, &limits);
            assert!(same.is_ok(), "type {kind} is refused when it comes back");
        }
    }
}

/// A manifest: what is accepted is read back the same.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::parse(&String::from_utf8_lossy(bytes)) {
        let again = Manifest::parse(&manifest.text());
        assert!(again.is_ok_and(|again| again.text() == manifest.text()) || manifest.text().is_empty());
    }
}

/// Rules of a user as an ACL file has them: those that are accepted are described by rules that make the same user.
pub fn acl(rules: &[u8]) {
    let (server, _alone) = server();
    let words: Vec<&[u8]> = rules.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    server.delete_users([b"fuzz".as_slice(), b"again"].into_iter(), 0);
    // A pattern that ends with a parenthesis cannot be told from the end of its selector when it is described; nor can Redis's.
    if rules.windows(2).any(|pair| pair == b"))") || server.set_user(b"fuzz", &words, 0).is_err() {
        return;
    }
    let line = |name: &[u8]| -> Vec<u8> {
        let lines = server.user_lines();
        let found =
            lines.into_iter().find_map(|line| line.strip_prefix([name, b" "].concat().as_slice()).map(<[u8]>::to_vec));
        found.unwrap_or_default()
    };
    // The first description may still hold what the next leaves out: a pattern beside `%RW~*`, which reads back as every key.
    let mut described = line(b"fuzz");
    for is_settled in [false, true] {
        server.delete_users([b"again".as_slice()].into_iter(), 0);
        let words: Vec<&[u8]> = described.split(|byte| *byte == b' ').collect();
        // As in Redis, `%RW~* ~x` is accepted and described as `~* ~x`, which is refused.
        if words.windows(2).any(|pair| pair[0].ends_with(b"~*") && matches!(pair[1].first(), Some(b'~' | b'%'))) {
            return;
        }
        let again = server.set_user(b"again", &words, 0);
        assert!(again.is_ok(), "{}: {:?}", String::from_utf8_lossy(&described), again.err());
        let next = line(b"again");
        assert!(!next.is_empty());
        if is_settled {
            assert_eq!(String::from_utf8_lossy(&next), String::from_utf8_lossy(&described));
        }
        described = next;
    }
}

/// One server for all runs, for one at a time. Of the session's commands it has only those that belong into a file: others would end the
/// process or write files of their own.
fn server() -> (&'static Server, MutexGuard<'static, ()>) {
    static SERVER: OnceLock<&'static Server> = OnceLock::new();
    static ONE: Mutex<()> = Mutex::new(());
    let alone = ONE.lock();
    let server = SERVER.get_or_init(|| {
        let wanted = ["multi", "exec", "discard", "select", "flushall", "flushdb", "swapdb", "publish"];
        let commands: Vec<SessionCommand> = crate::server::commands::FAMILIES
            .iter()
            .copied()
            .flatten()
            .filter(|command| wanted.contains(&command.spec.name))
            .copied()
            .collect();
        let table = CommandTable::leak(crate::commands::FAMILIES, &[&commands.leak()[..]]);
        Server::leak(ConfigStore::new(Config::default()), table, None, 0)
    });
    (server, alone)
}

/// A disk that holds a few files.
struct Disk(Vec<(String, Vec<u8>)>);

impl Disk {
    fn find(&self, path: &Path) -> io::Result<&[u8]> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, bytes)| &**bytes).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Storage for Disk {
    fn create(&self, _: &Path) -> io::Result<Arc<dyn Output>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn append(&self, _: &Path) -> io::Result<Arc<dyn Output>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn create_in_place(&self, _: &Path) -> io::Result<Arc<dyn Output>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open_in_place(&self, _: &Path) -> io::Result<Arc<dyn Output>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.find(path)?.to_vec())))
    }

    fn read_at(&self, _: &Path, _: u64, _: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.find(path)?.len() as u64)
    }

    fn truncate(&self, _: &Path, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_dir(&self, _: &Path) -> bool {
        true
    }

    fn sync_dir_of(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}
