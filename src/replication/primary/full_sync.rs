//! Full syncs: one snapshot for all replicas that wait, streamed while it is made, or through the RDB file.
//!
//! ```text
//!   waiting ─► try_start ─► thread: cut under all locks ─┬─ sockets ─► pipe ─► every link's payload, as it is made
//!                 ▲                                      └─ disk ─► dump.rdb ─► every link's payload, once complete
//!                 └ cron: another snapshot was running, or the delay for more replicas is over       ▲ join until then
//! ```
//! The cut notes the journal's offset for each link: what is written from there on is the stream behind the payload.
//! Lock order: shards → `FullSyncs` → link, journal.

use super::link::{EOF_MARK, Link, Payload, Stage};
use super::pipe::Pipe;
use super::primary;
use crate::base::{clock, processors};
use crate::persistence::rdb_save::{self, Purpose};
use crate::persistence::snapshot::{self, Serializer, Sink, Stopped};
use crate::rdb::Writer;
use crate::server::Server;
use crate::server::config::Config;
use crate::server::replicas::{Contents, ReplicaState};
use crate::server::role::new_replid;
use crate::server::save_status::Activity;
use parking_lot::Mutex;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Sockets,
    Disk,
}

struct Running {
    links: Vec<Arc<Link>>,
    target: Target,
    contents: Contents,
    /// The cut is made. Whoever comes before is part of it like the first.
    is_cut: bool,
    /// The cut is made, and nothing of the file is sent yet: whoever comes now gets the same.
    is_joinable: bool,
}

#[derive(Default)]
struct State {
    /// With the time at which they came.
    waiting: Vec<(Arc<Link>, i64)>,
    running: Option<Running>,
}

#[derive(Default)]
pub struct FullSyncs(Mutex<State>);

/// A replica needs everything.
pub fn enqueue(server: &'static Server, link: Arc<Link>, now_ms: i64) {
    let mut state = primary().syncs.0.lock();
    if !join(server, &mut state, &link) {
        state.waiting.push((link, now_ms));
    }
    drop(state);
    try_start(server, now_ms);
}

/// Takes part in the snapshot whose file is being written.
fn join(server: &Server, state: &mut State, link: &Arc<Link>) -> bool {
    let contents = link.replica.announced.lock().contents;
    let Some(running) = &mut state.running else { return false };
    let may_read = running.target == Target::Disk || link.replica.announced.lock().capa_eof;
    if !running.is_cut && running.contents == contents && may_read {
        running.links.push(Arc::clone(link));
        return true;
    }
    let Some(first) = running.links.first().filter(|_| running.is_joinable && running.contents == contents) else {
        tracing::info!("Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC");
        return false;
    };
    let offset = server.journal.add_reader_beside(&link.replica.reader, &first.replica.reader);
    prepare(server, link, Stage::Prepared, offset, "");
    running.links.push(Arc::clone(link));
    tracing::info!("Waiting for end of BGSAVE for SYNC");
    true
}

/// Begins a snapshot for those that wait, if there are any and nothing speaks against it now.
pub fn try_start(server: &'static Server, now_ms: i64) {
    let mut state = primary().syncs.0.lock();
    state.waiting.retain(|(link, _)| !link.replica.client.is_killed());
    if state.running.is_some() {
        return;
    }
    let Some((first, _)) = state.waiting.first() else { return };
    let contents = first.replica.announced.lock().contents;
    let is_same = |link: &Link| link.replica.announced.lock().contents == contents;
    let group: Vec<_> = state.waiting.iter().filter(|(link, _)| is_same(link)).collect();
    let config = server.config.current();
    let all_eof = group.iter().all(|(link, _)| link.replica.announced.lock().capa_eof);
    let is_partial = !(contents.data && contents.functions);
    let target = if all_eof && (config.repl_diskless_sync || is_partial) { Target::Sockets } else { Target::Disk };
    let waited_ms = group.iter().map(|(_, since)| now_ms - since).max().unwrap_or(0);
    if (target == Target::Sockets && waits_for_more(&config, group.len(), waited_ms))
        || !server.save_status.begin(Activity::Replication, now_ms / 1000)
    {
        return;
    }
    if server.loading.load(Ordering::Acquire) || server.async_loading.load(Ordering::Acquire) {
        // What is here is about to go. Looked at behind the claim, for which the loader waits in turn.
        server.save_status.end();
        return;
    }
    let (chosen, rest) = std::mem::take(&mut state.waiting).into_iter().partition(|(link, _)| is_same(link));
    state.waiting = rest;
    let chosen: Vec<(Arc<Link>, i64)> = chosen;
    let links = chosen.into_iter().map(|(link, _)| link).collect();
    state.running = Some(Running { links, target, contents, is_cut: false, is_joinable: false });
    drop(state);
    let to = if target == Target::Sockets { "replicas sockets" } else { "disk" };
    tracing::info!("Starting BGSAVE for SYNC with target: {to}");
    let spawned = std::thread::Builder::new().name("full-sync".into()).spawn(move || run(server, target, contents));
    if let Err(error) = spawned {
        tracing::warn!("Can't start a full synchronization: {error}");
        end(server, false);
    }
}

/// Whether a snapshot shall wait for more replicas. Unlike Redis, which always waits, we do only where the settings have been made
/// for it: a number of replicas to wait for, or a delay that is not the default. A snapshot costs no fork here, so that those who
/// come later may well have the next one.
fn waits_for_more(config: &Config, count: usize, waited_ms: i64) -> bool {
    let (delay_s, max) = (config.repl_diskless_sync_delay, config.repl_diskless_sync_max_replicas as usize);
    let is_wished = if max > 0 { count < max } else { delay_s != DELAY_DEFAULT_S };
    is_wished && waited_ms < i64::from(delay_s) * 1000
}

/// The default of repl-diskless-sync-delay.
const DELAY_DEFAULT_S: u32 = 5;

/// The thread of one snapshot.
fn run(server: &'static Server, target: Target, contents: Contents) {
    let _member = processors::join(processors::Kind::Snapshot);
    let result = match target {
        Target::Sockets => to_sockets(server, contents),
        Target::Disk => to_disk(server, contents),
    };
    if let Err(Stopped::Io(error)) = &result {
        tracing::warn!("SYNC failed: {error}");
    }
    end(server, result.is_ok());
}

/// The snapshot is over; links that did not get all of it cannot go on.
fn end(server: &'static Server, is_complete: bool) {
    let running = primary().syncs.0.lock().running.take();
    if let Some(running) = running.filter(|_| !is_complete) {
        for link in running.links {
            tracing::warn!("SYNC failed. Closing the link of replica {}", link.replica.name());
            server.clients.kill(&link.replica.client);
        }
    }
    server.save_status.end();
    try_start(server, clock::unix_ms());
}

fn to_sockets(server: &'static Server, contents: Contents) -> Result<(), Stopped> {
    let pipe = Arc::new(Pipe::default());
    let mark = new_replid();
    debug_assert_eq!(mark.len(), EOF_MARK);
    let header = format!("$EOF:{mark}\r\n");
    let source = cut(server, contents, &mut |link, offset| {
        let payload = Payload::Pipe { pipe: Arc::clone(&pipe), reader: pipe.add_reader(), mark: mark.clone() };
        prepare(server, link, Stage::Payload(payload), offset, &header);
    });
    tracing::info!("Background RDB transfer started by pid {}", std::process::id());
    let is_wanted = || !server.save_status.is_cancelled();
    let result = source.run(server, |bytes| {
        pipe.write(bytes, is_wanted)?;
        wake_links();
        Ok(())
    });
    if result.is_ok() {
        pipe.complete();
        wake_links();
        let up = primary().syncs.0.lock().running.as_ref().map_or(0, |running| running.links.len());
        tracing::info!("Diskless rdb transfer, done reading from pipe, {up} replicas still up.");
        tracing::info!("Background RDB transfer terminated with success");
    }
    result
}

fn to_disk(server: &'static Server, contents: Contents) -> Result<(), Stopped> {
    let source = cut(server, contents, &mut |link, offset| prepare(server, link, Stage::Prepared, offset, ""));
    if let Some(running) = &mut primary().syncs.0.lock().running {
        running.is_joinable = true;
    }
    tracing::info!("Background saving started by pid {}", std::process::id());
    let dirty = source.dirty;
    let written = rdb_save::write_file(server, |write| source.run(server, write));
    if let Err(Stopped::Io(error)) = &written {
        tracing::warn!("Write error saving DB on disk: {error}");
    }
    let path = written?;
    rdb_save::note_saved(server, dirty);
    tracing::info!("Background saving terminated with success");
    let file = Arc::new(File::open(&path)?);
    let len = file.metadata()?.len();
    let config = server.config.current();
    if config.rdb_del_sync_files && !config.appendonly && config.save.is_empty() {
        tracing::info!("Removing the RDB file {} used to feed replicas in a persistence-less instance", path.display());
        // The open file goes on; one that cannot be removed is only a waste of space.
        let _ = std::fs::remove_file(&path);
    }
    let mut state = primary().syncs.0.lock();
    if let Some(running) = &mut state.running {
        running.is_joinable = false;
        for link in &running.links {
            let payload = Payload::File { file: Arc::clone(&file), at: 0, len };
            link.replica.set_state(ReplicaState::SendBulk);
            link.advance(Stage::Payload(payload), format!("${len}\r\n").as_bytes());
        }
    }
    Ok(())
}

fn wake_links() {
    if let Some(running) = &primary().syncs.0.lock().running {
        running.links.iter().for_each(|link| link.replica.client.wake());
    }
}

/// Tells a link what it will get.
fn prepare(server: &Server, link: &Link, stage: Stage, offset: u64, header: &str) {
    let reply = match link.is_old {
        true => header.to_owned(),
        false => format!("+FULLRESYNC {} {offset}\r\n{header}", server.role.ids().replid),
    };
    link.advance(stage, reply.as_bytes());
}

/// The data set at the cut.
struct Source {
    writer: Option<Writer>,
    sink: Option<Arc<Sink>>,
    /// Changes since the last save, as of the cut.
    dirty: i64,
}

impl Source {
    fn run(self, server: &Server, mut write: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<(), Stopped> {
        if let Some(sink) = &self.sink {
            return snapshot::run(server, sink, write);
        }
        if let Some(mut writer) = self.writer {
            writer.finish();
            write(&writer.take(Vec::new()))?;
        }
        Ok(())
    }
}

/// The cut: under all locks every link of the running sync becomes a reader of the journal at the same offset.
fn cut(server: &'static Server, contents: Contents, begin_link: &mut dyn FnMut(&Link, u64)) -> Source {
    let mut locked = server.keyspace.lock_all();
    let is_replica = server.is_replica.load(Ordering::Acquire);
    let journal = &server.journal;
    if journal.backlog().is_none() {
        if !is_replica {
            // What was written before was not numbered: nobody may continue from there.
            server.role.change_ids(|ids| ids.renew());
        }
        journal.set_retained(server.config.current().repl_backlog_size);
        let ids = server.role.ids();
        tracing::info!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            ids.replid,
            ids.replid2
        );
    }
    let mut state = primary().syncs.0.lock();
    if let Some(running) = &mut state.running {
        running.is_cut = true;
    }
    for link in state.running.iter().flat_map(|running| &running.links) {
        let offset = if link.replica.announced.lock().rdb_only {
            journal.end()
        } else {
            journal.add_reader(&link.replica.reader, &locked)
        };
        begin_link(link, offset);
    }
    drop(state);
    let writer = rdb_save::writer(server, Purpose::Replica(contents));
    let dirty = server.dirty.load(Ordering::Acquire);
    if !contents.data {
        return Source { writer: Some(writer), sink: None, dirty };
    }
    let sink = snapshot::begin(server, &mut locked, Serializer::Rdb(Box::new(writer)));
    Source { writer: None, sink: Some(sink), dirty }
}

/// A replica's connection is gone: nobody waits for it, and nothing is kept for it.
pub fn detach(server: &Server, link: &Arc<Link>) {
    let now_ms = clock::unix_ms();
    primary().links.remove(link.replica.client.id);
    let mut state = primary().syncs.0.lock();
    state.waiting.retain(|(other, _)| !Arc::ptr_eq(other, link));
    if let Some(running) = &mut state.running {
        let before = running.links.len();
        running.links.retain(|other| !Arc::ptr_eq(other, link));
        if before > 0 && running.links.is_empty() {
            match running.target {
                Target::Sockets => {
                    tracing::warn!("Diskless rdb transfer, last replica dropped, killing fork child.");
                    server.save_status.cancel();
                }
                Target::Disk if server.config.current().save.is_empty() => {
                    tracing::info!("Nobody waits for the snapshot any more. Stopping it.");
                    server.save_status.cancel();
                }
                // As good as any other BGSAVE.
                Target::Disk => {}
            }
        }
    }
    server.journal.remove_reader(&link.replica.reader);
    drop(state);
    if let Stage::Payload(Payload::Pipe { pipe, reader, .. }) = &link.lock().stage {
        pipe.leave(*reader);
    }
    primary().spill.leave(server, link, now_ms);
    server.replicas.remove(&link.replica, now_ms);
    server.refresh_good_replicas(now_ms);
    server.check_ack_waits();
    tracing::info!("Connection with replica {} lost.", link.replica.name());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_replica_waits_only_if_the_settings_say_so() {
        let config = |delay, max| Config {
            repl_diskless_sync_delay: delay,
            repl_diskless_sync_max_replicas: max,
            ..Config::default()
        };
        assert_eq!(Config::default().repl_diskless_sync_delay, DELAY_DEFAULT_S);
        assert!(!waits_for_more(&Config::default(), 1, 0));
        assert!(waits_for_more(&config(3, 0), 1, 2999));
        assert!(!waits_for_more(&config(3, 0), 1, 3000));
        assert!(waits_for_more(&config(5, 2), 1, 0));
        assert!(!waits_for_more(&config(5, 2), 2, 0));
    }
}
