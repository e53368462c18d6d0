//! DEBUG's subcommands on files: loading the data set anew.
//!
//! The worker sets `loading` while it still holds every shard, so that from then on all others are answered -LOADING; the
//! work is done by a thread of its own, and the client is answered when that is through.

use super::aof::{self, Aof};
use super::aof_load::{self, Place};
use super::aof_manifest::Manifest;
use super::rdb_load::{self, Libraries, Rules};
use super::{rdb_save, startup};
use crate::commands::args;
use crate::commands::error::CommandError;
use crate::engine::keyspace::ShardSet;
use crate::engine::keyspace::waiters::Ticket;
use crate::resp::Args;
use crate::server::Server;
use crate::server::blocking::Blocked;
use crate::server::commands::debug::{ANY, DebugCommand};
use crate::server::session::{SessionContext, SessionFlow};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new(
        "RELOAD",
        (0, ANY),
        "[MERGE] [NOFLUSH] [NOSAVE]",
        "Saves the RDB file and loads it again. NOSAVE loads what is there, NOFLUSH keeps the keys, MERGE lets the file win.",
        reload,
    ),
    DebugCommand::new("LOADAOF", (0, 0), "", "Empties the data set and loads the append-only file.", load_aof),
    DebugCommand::new(
        "AOF-FLUSH-SLEEP",
        (1, 1),
        "<microseconds>",
        "Waits before each write to the append-only file.",
        aof_flush_sleep,
    ),
];

/// How DEBUG RELOAD was asked for.
#[derive(Clone, Copy)]
struct Reload {
    save: bool,
    flush: bool,
    merge: bool,
}

fn reload(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut how = Reload { save: true, flush: true, merge: false };
    for index in 2..args.len() {
        match () {
            () if args.is(index, "NOSAVE") => how.save = false,
            () if args.is(index, "NOFLUSH") => how.flush = false,
            () if args.is(index, "MERGE") => how.merge = true,
            () => {
                return Err(CommandError::fixed(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    in_background(ctx, "reload", move |server| do_reload(server, how))
}

fn do_reload(server: &'static Server, how: Reload) -> Result<(), CommandError> {
    const FAILED: CommandError = CommandError::fixed("ERR Error trying to load the RDB dump, check server logs.");
    {
        let mut locked = server.keyspace.lock_all();
        if how.save && rdb_save::save(server, &locked).is_err() {
            return Err(CommandError::fixed("ERR"));
        }
        if how.flush {
            rdb_load::empty_all(&mut locked);
            server.scripts.set_libraries(BTreeMap::new());
        }
    }
    let mut file = File::open(&server.config.current().dbfilename).map_err(|error| {
        tracing::warn!("DEBUG RELOAD: {error}");
        FAILED
    })?;
    startup::begin(server, file.metadata().map_or(0, |metadata| metadata.len()));
    let keep_expired = server.is_replica.load(Ordering::Acquire);
    let rules = Rules { keep_expired, replace: how.merge, name_expired: false };
    let libraries = match how {
        Reload { merge: true, .. } => Libraries::Merged,
        Reload { flush: false, .. } => Libraries::Kept,
        Reload { .. } => Libraries::Replaced,
    };
    rdb_load::load_with(server, server.keyspace, &mut file, rules, libraries).map_err(|error| {
        tracing::warn!("Internal error in RDB reading offset {} -> {}", error.offset, error.fault);
        FAILED
    })?;
    tracing::warn!("DB reloaded by DEBUG RELOAD");
    Ok(())
}

fn load_aof(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    in_background(ctx, "loadaof", do_load_aof)
}

fn do_load_aof(server: &'static Server) -> Result<(), CommandError> {
    let Some(aof) = aof::get() else { return Err(CommandError::fixed("ERR the server has not started yet")) };
    aof.flush(Duration::from_secs(10));
    rdb_load::empty_all(&mut server.keyspace.lock_all());
    let dir = aof.path("");
    let place = Place { storage: aof.storage, dir: &dir };
    let loaded = take_up_manifest(aof).and_then(|manifest| {
        let total = aof_load::total_len(place, &manifest)?;
        startup::begin(server, total);
        aof_load::load_all(server, place, &manifest).map_err(|_| String::new())
    });
    let loaded = loaded.inspect_err(|what| what.lines().for_each(|line| tracing::warn!("{line}")));
    if loaded.is_err() {
        // As at a start: a data set that is only half there must not serve.
        std::process::exit(1);
    }
    server.dirty.store(0, Ordering::Release);
    tracing::info!("Append Only File loaded by DEBUG LOADAOF");
    Ok(())
}

/// The manifest as it is on disk, with which numbering goes on as after a start. While a first base is being made there is more to
/// know than the disk tells.
fn take_up_manifest(aof: &Aof) -> Result<Manifest, String> {
    let mut files = aof.files.lock();
    if files.unlisted.is_none() {
        files.manifest = startup::read_manifest(aof.storage, &aof.path(""), &aof.stem)?;
    }
    Ok(files.manifest.clone())
}

/// Answers the client when the work is done, on a thread of its own; until then others are told that the server loads.
fn in_background(
    ctx: &mut SessionContext<'_>,
    name: &str,
    work: impl FnOnce(&'static Server) -> Result<(), CommandError> + Send + 'static,
) -> Result<SessionFlow, CommandError> {
    if ctx.deny_blocking {
        return Err(CommandError::fixed("ERR DEBUG of this kind is not allowed in a transaction or script"));
    }
    let (server, client) = (ctx.worker.server, Arc::clone(&ctx.session.client));
    startup::begin(server, 0);
    // Before there is anybody who could answer.
    let ticket = Ticket::new(ShardSet::EMPTY, false, None, Box::new(()));
    ctx.session.blocked = Some(Blocked { ticket, deadline_ms: None });
    let spawned = std::thread::Builder::new().name(name.into()).spawn(move || {
        let result = work(server);
        startup::end(server);
        client.unblock(match result {
            Ok(()) => Bytes::from_static(b"+OK\r\n"),
            Err(error) => Bytes::from([b"-", error.bytes(), b"\r\n"].concat()),
        });
    });
    if let Err(error) = spawned {
        startup::end(server);
        ctx.session.blocked = None;
        return Err(CommandError::new(format!("ERR {error}")));
    }
    Ok(SessionFlow::Blocked)
}

fn aof_flush_sleep(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let micros = args::integer(&args[2])?.max(0);
    ctx.worker.server.save_status.aof.flush_sleep_us.store(micros as u64, Ordering::Relaxed);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
