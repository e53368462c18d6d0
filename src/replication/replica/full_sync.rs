//! A full sync: the primary's snapshot is received, loaded, and put in the place of what was here.
//!
//! ```text
//!   $len or $EOF:mark ─┬─ repl-diskless-load disabled ─► file, renamed to the RDB file ─► old data goes ─► load
//!                      ├─ on-empty-db, and it is ──────────────────────────────────────────────────────► load
//!                      └─ swapdb ───► load beside the old data, which is served meanwhile ─► swap at the end
//! ```
//! A thread of its own loads, so that the link is read, fed to it and kept alive by newlines meanwhile. Until the old data
//! goes, a failure costs nothing; with swapdb it never does.

use super::handshake::{Failed, patience, plain};
use super::wire::Wire;
use super::{LinkState, Replica};
use crate::engine::keyspace::{Db, Keyspace, Locked, SHARDS, place};
use crate::engine::table::Table;
use crate::persistence::rdb_load::{self, Libraries, Rules, Summary};
use crate::persistence::storage::DISK;
use crate::persistence::{aof, startup};
use crate::server::config::ReplDisklessLoad;
use crate::server::pause::{PauseMode, Purpose};
use crate::server::save_status::Activity;
use crate::server::{Server, blocking, propagation, role_change};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Length of the mark that ends a snapshot of unknown size.
const MARK: usize = 40;
/// Pieces of the snapshot that wait for the loader.
const PIECES: usize = 16;
/// Bytes after which the file is synced in between.
const SYNC_EVERY: u64 = 8 << 20;
const NEWLINE_PERIOD: Duration = Duration::from_secs(1);

/// How the end of the snapshot is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    Bytes(u64),
    Mark(Vec<u8>),
}

/// What happens to the old data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It goes before the load begins.
    Instead,
    /// It stays until the load is complete; it is of the same history, so it may even be served.
    Beside { serve_old: bool },
}

/// What the loader needs to know.
struct Plan {
    epoch: u64,
    place: Place,
    bytes: u64,
    from_file: bool,
}

impl Replica {
    /// Receives and loads the snapshot of a history at an offset. At the end the link is up.
    pub async fn receive(&mut self, wire: &mut Wire, replid: String, offset: u64) -> Result<(), Failed> {
        let (server, config) = (self.server, self.server.config.current());
        let transfer = &server.role.transfer;
        transfer.total.store(-1, Ordering::Relaxed);
        transfer.read.store(0, Ordering::Relaxed);
        self.note(LinkState::Transfer);
        let extent = read_header(wire).await?;
        let place = match config.repl_diskless_load {
            ReplDisklessLoad::Swapdb => Some(Place::Beside { serve_old: server.role.ids().replid == replid }),
            ReplDisklessLoad::OnEmptyDb if is_empty(&server.keyspace.lock_all()) => Some(Place::Instead),
            ReplDisklessLoad::OnEmptyDb | ReplDisklessLoad::Disabled => None,
        };
        let target = if place.is_some() { "to parser" } else { "to disk" };
        match &extent {
            Extent::Bytes(bytes) => {
                transfer.total.store(*bytes as i64, Ordering::Relaxed);
                tracing::info!("MASTER <-> REPLICA sync: receiving {bytes} bytes from master {target}");
            }
            Extent::Mark(_) => {
                transfer.total.store(0, Ordering::Relaxed);
                tracing::info!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {target}");
            }
        }
        let bytes = if let Extent::Bytes(bytes) = &extent { *bytes } else { 0 };
        let mut plan =
            Plan { epoch: self.epoch, place: place.unwrap_or(Place::Instead), bytes, from_file: place.is_none() };
        let summary = match place {
            Some(_) => self.load_while_receiving(wire, extent, plan).await?,
            None => {
                let file = match receive_file(server, wire, extent).await {
                    Ok(file) => file,
                    Err(Loss::Link) => return Err(Failed),
                    Err(Loss::Disk) => return Err(self.fail_by_ourselves()),
                };
                plan.bytes = file.metadata().map_or(0, |metadata| metadata.len());
                let summary = self.load_file(wire, file, plan).await;
                remove_if_unwanted(server);
                summary.map_err(|Failed| self.fail_by_ourselves())?
            }
        };
        self.own_failures = 0;
        self.put_in_place(summary, place.unwrap_or(Place::Instead), replid, offset);
        tracing::info!("MASTER <-> REPLICA sync: Finished with success");
        restart_aof(server);
        Ok(())
    }

    /// The snapshot would have come whole: the next one will fail, too, unless something changes here.
    fn fail_by_ourselves(&mut self) -> Failed {
        self.own_failures = self.own_failures.saturating_add(1);
        Failed
    }

    /// Feeds the loader with what comes.
    async fn load_while_receiving(&mut self, wire: &mut Wire, extent: Extent, plan: Plan) -> Result<Summary, Failed> {
        let server = self.server;
        let (sender, receiver) = mpsc::channel(PIECES);
        let mark = if let Extent::Mark(mark) = &extent { Some(mark.clone()) } else { None };
        let source = Pieces { receiver, piece: Vec::new(), at: 0 };
        let mut loaded = start_loader(server, Box::new(source), plan, mark)?;
        let mut sender = Some(sender);
        let mut end = EndOf::new(extent);
        let mut tick = tokio::time::interval(NEWLINE_PERIOD);
        // Runs on while others of the branches below have something to do: each newline would otherwise begin the wait anew.
        let mut silence = std::pin::pin!(tokio::time::sleep(patience(server)));
        let mut piece = end.take(wire);
        let (mut failed, mut is_cut_off) = (false, false);
        loop {
            if end.is_reached && piece.is_none() || failed {
                // The loader sees the end.
                sender = None;
            }
            let permit = async {
                match &sender {
                    Some(sender) if piece.is_some() => sender.reserve().await.ok(),
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = &mut loaded => {
                    return match result {
                        Ok(Ok(summary)) if end.is_reached && !failed => Ok(summary),
                        Ok(Ok(_)) => {
                            tracing::warn!("Replication stream EOF marker is broken");
                            Err(Failed)
                        }
                        Ok(Err(Failed)) | Err(_) if is_cut_off => Err(Failed),
                        Ok(Err(Failed)) | Err(_) => Err(self.fail_by_ourselves()),
                    };
                }
                permit = permit => match (permit, piece.take()) {
                    (Some(permit), Some(bytes)) => {
                        permit.send(bytes);
                        piece = end.take(wire);
                        silence.set(tokio::time::sleep(patience(server)));
                    }
                    // The loader has given up; its result follows.
                    _ => failed = true,
                },
                read = wire.read_some(), if piece.is_none() && !end.is_reached && !failed => match read {
                    Ok(_) => piece = end.take(wire),
                    Err(error) => {
                        cut_off(&error);
                        (failed, is_cut_off) = (true, true);
                    }
                },
                () = &mut silence, if piece.is_none() && !end.is_reached && !failed => {
                    timed_out();
                    (failed, is_cut_off) = (true, true);
                }
                _ = tick.tick() => {
                    // A link that is gone shows when it is read.
                    let _ = wire.write(b"\n").await;
                }
            }
        }
    }

    /// Loads a file that was received whole.
    async fn load_file(&mut self, wire: &mut Wire, file: File, plan: Plan) -> Result<Summary, Failed> {
        let mut loaded = start_loader(self.server, Box::new(file), plan, None)?;
        let mut tick = tokio::time::interval(NEWLINE_PERIOD);
        loop {
            tokio::select! {
                result = &mut loaded => return result.unwrap_or(Err(Failed)),
                _ = tick.tick() => {
                    let _ = wire.write(b"\n").await;
                }
            }
        }
    }

    /// The new data and its history become ours, at one moment for all.
    fn put_in_place(&mut self, mut summary: Summary, place: Place, replid: String, offset: u64) {
        let server = self.server;
        self.worker.refresh();
        let mut locked = server.keyspace.lock_all();
        let mut old = Vec::new();
        if let Place::Beside { .. } = place {
            role_change::drop_replicas(server);
            tracing::info!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
            touch_watched(&locked);
            let mut staged = staging(server).lock_all();
            for shard in 0..SHARDS {
                locked.shard_mut(shard).exchange_dbs(staged.shard_mut(shard));
            }
            old = take_tables(&mut staged);
        }
        if let Some(libraries) = summary.libraries.take() {
            server.scripts.set_libraries(libraries);
        }
        server.invalidate_all(None);
        server.role.change_ids(|ids| ids.replace(replid));
        server.role.stream_db.store(summary.repl_stream_db.unwrap_or(0), Ordering::Release);
        server.own_expiries.clear();
        server.journal.restart_at(offset);
        server.journal.set_retained(server.config.current().repl_backlog_size);
        server.journal.set_active(true);
        server.dirty.fetch_add(1, Ordering::Relaxed);
        server.role.update_link(self.epoch, |link| link.may_continue = true);
        self.note(LinkState::Connected);
        server.loading.store(false, Ordering::Release);
        server.async_loading.store(false, Ordering::Release);
        // Whoever waits for a key looks whether the new data has it.
        blocking::databases_changed(&mut self.worker, &locked, 0..server.keyspace.databases());
        propagation::finish_unit(&mut self.worker, &mut locked);
        drop(locked);
        server.unpause_clients(Purpose::Load);
        if let Place::Beside { .. } = place {
            tracing::info!("MASTER <-> REPLICA sync: Discarding old DB in background");
            old.into_iter().for_each(|table| server.lazyfree.drop_table(table));
        }
    }
}

/// The line before the snapshot, which may take its time: newlines say that the primary is alive.
async fn read_header(wire: &mut Wire) -> Result<Extent, Failed> {
    loop {
        let line = match wire.line().await {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(timed_out()),
            Err(error) => {
                tracing::warn!("I/O error reading bulk count from MASTER: {}", plain(&error));
                return Err(Failed);
            }
        };
        if line.is_empty() {
            continue;
        }
        if let Some(error) = line.strip_prefix('-') {
            tracing::warn!("MASTER aborted replication with an error: {error}");
            return Err(Failed);
        }
        return read_extent(&line).ok_or_else(|| {
            tracing::warn!(
                "Bad protocol from MASTER, the first byte is not '$' (we received '{line}'), are you sure the host and port \
                 are right?"
            );
            Failed
        });
    }
}

fn read_extent(line: &str) -> Option<Extent> {
    let what = line.strip_prefix('$')?;
    match what.strip_prefix("EOF:") {
        Some(mark) if mark.len() >= MARK => Some(Extent::Mark(mark.as_bytes()[..MARK].to_vec())),
        _ => what.parse().ok().map(Extent::Bytes),
    }
}

fn timed_out() -> Failed {
    tracing::warn!(
        "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in \
         redis.conf to a larger value."
    );
    Failed
}

async fn read_within(server: &'static Server, wire: &mut Wire) -> Result<(), Failed> {
    match tokio::time::timeout(patience(server), wire.read_some()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(cut_off(&error)),
        Err(_) => Err(timed_out()),
    }
}

fn cut_off(error: &io::Error) -> Failed {
    tracing::warn!("I/O error trying to sync with MASTER: {}", plain(error));
    Failed
}

/// Finds the end of the snapshot in what is received.
struct EndOf {
    extent: Extent,
    taken: u64,
    /// The last bytes, where the end is a mark.
    tail: Vec<u8>,
    is_reached: bool,
}

impl EndOf {
    fn new(extent: Extent) -> Self {
        let is_reached = extent == Extent::Bytes(0);
        EndOf { extent, taken: 0, tail: Vec::new(), is_reached }
    }

    /// Takes what belongs to the snapshot (and its mark) from what was received; nothing if there is nothing yet.
    fn take(&mut self, wire: &mut Wire) -> Option<Vec<u8>> {
        if self.is_reached || wire.rest().is_empty() {
            return None;
        }
        let rest = wire.rest();
        let len = match &self.extent {
            Extent::Bytes(bytes) => rest.len().min((bytes - self.taken) as usize),
            // The primary is silent behind the mark until it is acknowledged.
            Extent::Mark(_) => rest.len(),
        };
        let piece = rest[..len].to_vec();
        wire.start += len;
        self.taken += len as u64;
        wire.server.role.transfer.read.store(self.taken as i64, Ordering::Relaxed);
        match &self.extent {
            Extent::Bytes(bytes) => self.is_reached = self.taken == *bytes,
            Extent::Mark(mark) => {
                self.tail.extend_from_slice(&piece[piece.len().saturating_sub(MARK)..]);
                self.tail.drain(..self.tail.len().saturating_sub(MARK));
                self.is_reached = self.tail == *mark;
            }
        }
        Some(piece)
    }
}

/// The file under its temporary name; removed if it does not get its own.
struct Receiving {
    path: PathBuf,
    kept: bool,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.kept {
            // If it cannot be removed it only wastes space.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Why no file was received.
enum Loss {
    Link,
    Disk,
}

impl From<Failed> for Loss {
    /// Everything else that fails is the link.
    fn from(_: Failed) -> Self {
        Loss::Link
    }
}

/// Receives the snapshot into the RDB file; returns it open for reading.
async fn receive_file(server: &'static Server, wire: &mut Wire, extent: Extent) -> Result<File, Loss> {
    use std::io::Write;
    let name = format!("temp-{}.{}.rdb", crate::base::clock::unix_ms() / 1000, std::process::id());
    let path = std::env::current_dir().unwrap_or_default().join(name);
    let fail = |what: &str, error: &io::Error| {
        tracing::warn!("{what} MASTER <-> REPLICA synchronization: {}", plain(error));
        Loss::Disk
    };
    let mut file = File::create(&path).map_err(|error| fail("Opening the temp file needed for", &error))?;
    let mut receiving = Receiving { path, kept: false };
    let mark = if let Extent::Mark(_) = &extent { MARK as u64 } else { 0 };
    let mut end = EndOf::new(extent);
    let mut synced = 0;
    while !end.is_reached {
        match end.take(wire) {
            Some(piece) => {
                let write = |error: io::Error| {
                    fail("Write error or short write writing to the DB dump file needed for", &error)
                };
                file.write_all(&piece).map_err(write)?;
                if end.taken >= synced + SYNC_EVERY {
                    file.sync_data().map_err(write)?;
                    synced = end.taken;
                }
            }
            None => read_within(server, wire).await?,
        }
    }
    file.set_len(end.taken - mark)
        .and_then(|()| file.sync_all())
        .map_err(|error| fail("Failed trying to sync the temp DB to disk in", &error))?;
    let target = Path::new(&server.config.current().dbfilename).to_path_buf();
    std::fs::rename(&receiving.path, &target)
        .and_then(|()| DISK.sync_dir_of(&target))
        .map_err(|error| fail(&format!("Failed trying to rename the temp DB into {} in", target.display()), &error))?;
    receiving.kept = true;
    File::open(&target).map_err(|error| fail("Failed trying to open the DB received in", &error))
}

/// rdb-del-sync-files: a replica that saves nothing does not keep what its primary sent either.
fn remove_if_unwanted(server: &Server) {
    let config = server.config.current();
    if config.rdb_del_sync_files && config.save.is_empty() && !config.appendonly {
        tracing::info!("Removing the RDB file obtained from the master. This replica has persistence disabled");
        let _ = std::fs::remove_file(&config.dbfilename);
    }
}

/// The pieces that the link passes to the loader, as a file.
struct Pieces {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.blocking_recv() {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let len = into.len().min(self.piece.len() - self.at);
        into[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}

type Outcome = Result<Summary, Failed>;

fn start_loader(
    server: &'static Server,
    source: Box<dyn Read + Send>,
    plan: Plan,
    mark: Option<Vec<u8>>,
) -> Result<oneshot::Receiver<Outcome>, Failed> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // The link may be gone by now, and nobody waits for the result.
        let _ = sender.send(load(server, source, &plan, mark.as_deref()));
    };
    std::thread::Builder::new().name("replica-load".into()).spawn(run).map_err(|error| {
        tracing::warn!("Can't load the snapshot of the master: {error}");
        Failed
    })?;
    Ok(receiver)
}

/// Clients wait so long at most for the end of a short load before they are refused.
const SHORT_LOAD_MS: i64 = 1000;

/// The loader's thread.
fn load(server: &'static Server, mut source: Box<dyn Read + Send>, plan: &Plan, mark: Option<&[u8]>) -> Outcome {
    {
        // From here on the role stays: REPLICAOF waits for the end of a load.
        let _all = server.keyspace.lock_all();
        if server.role.epoch() != plan.epoch {
            return Err(Failed);
        }
        startup::begin(server, plan.bytes);
        if let Place::Beside { serve_old: true } = plan.place {
            server.async_loading.store(true, Ordering::Release);
            server.loading.store(false, Ordering::Release);
        } else {
            let now_ms = crate::base::clock::unix_ms();
            server.pause_clients(Purpose::Load, PauseMode::Writes, now_ms + SHORT_LOAD_MS, now_ms);
        }
    }
    stop_writers(server, plan);
    let keyspace = match plan.place {
        Place::Instead => {
            tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
            flush(server, plan.epoch);
            server.keyspace
        }
        Place::Beside { .. } => staging(server),
    };
    tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
    let rules = Rules { keep_expired: true, replace: false, name_expired: false };
    let result = rdb_load::load_with(server, keyspace, &mut source, rules, Libraries::HandedOver).map_err(|error| {
        tracing::warn!("Internal error in RDB reading offset {} -> {}", error.offset, error.fault);
        let from = if plan.from_file { "DB from disk" } else { "DB from socket" };
        tracing::warn!("Failed trying to load the MASTER synchronization {from}: {}", error.fault);
        Failed
    });
    let result = result.and_then(|summary| check_mark(&mut source, &summary, mark).map(|()| summary));
    if result.is_err() {
        let tables = take_tables(&mut keyspace.lock_all());
        drop(tables);
        server.loading.store(false, Ordering::Release);
        server.async_loading.store(false, Ordering::Release);
        server.unpause_clients(Purpose::Load);
        if let Place::Beside { .. } = plan.place {
            tracing::info!("MASTER <-> REPLICA sync: Discarding temporary DB in background");
        }
    }
    result
}

/// Behind the snapshot the announced mark must come, and nothing else.
fn check_mark(source: &mut dyn Read, summary: &Summary, mark: Option<&[u8]>) -> Result<(), Failed> {
    let Some(mark) = mark else { return Ok(()) };
    let mut rest = summary.rest.clone();
    // No further: a primary that sends something else waits for an answer all the same.
    let missing = MARK.saturating_sub(rest.len()) as u64;
    let read = source.take(missing).read_to_end(&mut rest);
    if read.is_err() || rest != mark {
        tracing::warn!("Replication stream EOF marker is broken");
        return Err(Failed);
    }
    Ok(())
}

/// Nothing may go on writing the data that will go: neither the append-only file, nor a snapshot.
fn stop_writers(server: &'static Server, plan: &Plan) {
    aof::suspend(server);
    let status = &server.save_status;
    if status.activity() == Activity::Rdb && plan.from_file {
        tracing::info!(
            "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. \
             Killing process {} and removing its temp file to avoid any race",
            std::process::id()
        );
    }
    while status.activity() != Activity::None {
        status.cancel();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes everything away, and with it the right of anybody to continue the old history.
fn flush(server: &'static Server, epoch: u64) {
    let tables = {
        let mut locked = server.keyspace.lock_all();
        role_change::drop_replicas(server);
        server.role.update_link(epoch, |link| link.may_continue = false);
        server.journal.restart_at(server.journal.end());
        touch_watched(&locked);
        server.invalidate_all(None);
        server.scripts.set_libraries(BTreeMap::new());
        take_tables(&mut locked)
    };
    if server.config.current().replica_lazy_flush {
        tables.into_iter().for_each(|table| server.lazyfree.drop_table(table));
    }
}

/// Keys that somebody watches change if they are there.
fn touch_watched(locked: &Locked) {
    for shard in (0..SHARDS).map(|shard| locked.shard(shard)) {
        for (index, db) in shard.dbs().iter().enumerate().filter(|(_, db)| !db.is_empty()) {
            shard.watches.touch_where(place::db_of(index), |key| db.find(Locked::hash(key), key).is_some());
        }
    }
}

fn take_tables(locked: &mut Locked) -> Vec<Table<crate::engine::record::Record>> {
    let mut tables = Vec::new();
    for shard in 0..SHARDS {
        tables.extend(locked.shard_mut(shard).dbs_mut().iter_mut().filter(|db| !db.is_empty()).map(Db::clear));
    }
    tables
}

fn is_empty(locked: &Locked) -> bool {
    (0..SHARDS).all(|shard| locked.shard(shard).dbs().iter().all(Db::is_empty))
}

/// Where a data set is loaded that will be swapped with the one in use; empty otherwise.
fn staging(server: &Server) -> &'static Keyspace {
    static STAGING: OnceLock<&'static Keyspace> = OnceLock::new();
    STAGING.get_or_init(|| Keyspace::leak(server.keyspace.databases()))
}

/// The append-only file begins anew with what is here now, if a full sync has stopped it.
pub fn restart_aof(server: &'static Server) {
    aof::resume(server);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_header() {
        assert_eq!(read_extent("$123"), Some(Extent::Bytes(123)));
        let mark = "0123456789012345678901234567890123456789";
        assert_eq!(read_extent(&format!("$EOF:{mark}")), Some(Extent::Mark(mark.into())));
        assert_eq!(read_extent("$EOF:short"), None);
        assert_eq!(read_extent("+OK"), None);
        assert_eq!(read_extent("$-1"), None);
    }
}
