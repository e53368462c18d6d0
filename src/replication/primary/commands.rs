//! PSYNC, SYNC, REPLCONF, WAIT, WAITAOF.

use super::primary;
use super::psync::{self, Request};
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::ShardSet;
use crate::resp::Args;
use crate::server::ack_wait::{self, Reached, Wanted};
use crate::server::clients::flag;
use crate::server::failover;
use crate::server::replicas::{Contents, FailoverStage, Replica};
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("psync", -3, psync)
        .group(Group::Server)
        .since("2.8.0")
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .flag(Flags::NO_MULTI)
        .syntax("replicationid offset")
        .summary("Makes this connection a replica's, from where it is if that is possible."),
    SessionCommand::new("sync", 1, sync)
        .group(Group::Server)
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .flag(Flags::NO_MULTI)
        .summary("Makes this connection a replica's, beginning with a snapshot."),
    SessionCommand::new("replconf", -1, replconf)
        .group(Group::Server)
        .since("3.0.0")
        .admin()
        .noscript()
        .loading_stale()
        .flag(Flags::ALLOW_BUSY)
        .summary("What replicas and primaries tell each other about themselves.")
        .complexity("O(1)"),
    SessionCommand::new("wait", 3, wait)
        .group(Group::Generic)
        .since("3.0.0")
        .noscript()
        .categories(&["connection"])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .syntax("numreplicas timeout")
        .summary("Waits until so many replicas have what this connection wrote.")
        .complexity("O(1)"),
    SessionCommand::new("waitaof", 4, waitaof)
        .group(Group::Generic)
        .since("7.2.0")
        .noscript()
        .categories(&["connection"])
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .syntax("numlocal numreplicas timeout")
        .summary("Waits until so many append-only files have on disk what this connection wrote.")
        .complexity("O(1)"),
];

fn psync(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.session.client.has(flag::REPLICA) {
        return Ok(SessionFlow::Done);
    }
    let offset = parse_i64(&args[2]);
    // The history changes under all locks: not between the look at it and the answer. Nor does anybody come back in the middle of
    // the transaction that has sent it away.
    let Some(mut locked) = ctx.worker.server.lock(ShardSet::ALL) else { return Ok(SessionFlow::Again) };
    if args.is(3, "failover") {
        failover::take_over(ctx, &mut locked, &args[1])?;
    }
    let replica = admit(ctx)?;
    let replid = String::from_utf8_lossy(&args[1]).into_owned();
    let Some(offset) = offset else {
        tracing::warn!("Replica {} asks for synchronization but with a wrong offset", replica.name());
        return Err(error::NOT_AN_INTEGER);
    };
    let server = ctx.worker.server;
    if psync::try_continue(server, &replica, Request { replid: &replid, offset }, ctx.worker.now_ms) {
        server.replicas.sync_partial_ok.fetch_add(1, Ordering::Relaxed);
        return Ok(SessionFlow::Done);
    }
    drop(locked);
    if !replid.starts_with('?') {
        server.replicas.sync_partial_err.fetch_add(1, Ordering::Relaxed);
    }
    server.replicas.sync_full.fetch_add(1, Ordering::Relaxed);
    psync::sync_in_full(server, &replica, false, ctx.worker.now_ms);
    Ok(SessionFlow::Done)
}

fn sync(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.session.client.has(flag::REPLICA) {
        return Ok(SessionFlow::Done);
    }
    let replica = admit(ctx)?;
    let server = ctx.worker.server;
    server.replicas.sync_full.fetch_add(1, Ordering::Relaxed);
    psync::sync_in_full(server, &replica, true, ctx.worker.now_ms);
    Ok(SessionFlow::Done)
}

/// Whether this connection may become a replica's now.
fn admit(ctx: &mut SessionContext<'_>) -> Result<Arc<Replica>, CommandError> {
    let server = ctx.worker.server;
    if server.replicas.failover_stage() != FailoverStage::None {
        return Err(CommandError::fixed("NOMASTERLINK Can't SYNC while failing over"));
    }
    if !server.may_serve_replicas() {
        return Err(CommandError::fixed("NOMASTERLINK Can't SYNC while not connected with my master"));
    }
    if !ctx.reply.is_empty() || ctx.session.client.has_output_backlog() {
        return Err(CommandError::fixed("ERR SYNC and PSYNC are invalid with pending output"));
    }
    let replica = announced(ctx);
    let told = replica.announced.lock().clone();
    let is_whole = told.contents.data && told.contents.functions;
    if !is_whole && !told.capa_eof {
        return Err(CommandError::fixed("ERR Filtered replica requires EOF capability"));
    }
    tracing::info!("Replica {} asks for synchronization", replica.name());
    Ok(replica)
}

/// What this connection has said of itself so far.
fn announced(ctx: &mut SessionContext<'_>) -> Arc<Replica> {
    let client = &ctx.session.client;
    Arc::clone(ctx.session.replica.get_or_insert_with(|| Arc::new(Replica::new(Arc::clone(client)))))
}

fn replconf(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(error::SYNTAX);
    }
    for at in (1..args.len()).step_by(2) {
        if args.is(at, "ack") {
            acknowledge(ctx, args, at);
            return Ok(SessionFlow::Done);
        }
        if args.is(at, "getack") {
            // Meant for the link to a primary, which answers it by itself.
            return Ok(SessionFlow::Done);
        }
        announce(ctx, args, at)?;
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// Takes note of one option.
fn announce(ctx: &mut SessionContext<'_>, args: Args<'_>, at: usize) -> Result<(), CommandError> {
    let replica = announced(ctx);
    let value = &args[at + 1];
    let text = || String::from_utf8_lossy(value).into_owned();
    let mut told = replica.announced.lock();
    if args.is(at, "listening-port") {
        told.port = parse_i64(value).ok_or(error::NOT_AN_INTEGER)? as u16;
    } else if args.is(at, "ip-address") {
        if value.len() >= HOST_MAX {
            return Err(CommandError::new(format!(
                "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                value.len()
            )));
        }
        told.ip = Some(text()).filter(|ip| !ip.is_empty());
    } else if args.is(at, "capa") {
        // Those that nobody here knows are no error.
        told.capa_eof |= args.is(at + 1, "eof");
        told.capa_psync2 |= args.is(at + 1, "psync2");
    } else if args.is(at, "version") {
        told.version = Some(text());
    } else if args.is(at, "rdb-only") {
        told.rdb_only = match parse_i64(value) {
            Some(number @ (0 | 1)) => number == 1,
            Some(_) => return Err(CommandError::fixed("ERR value is out of range, value must between 0 and 1")),
            None => return Err(error::NOT_AN_INTEGER),
        };
    } else if args.is(at, "rdb-filter-only") {
        let mut contents = Contents { data: false, functions: false };
        for word in value.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
            if !word.eq_ignore_ascii_case(b"functions") {
                return Err(CommandError::joined(&[b"ERR Unsupported rdb-filter-only option: ", word]));
            }
            contents.functions = true;
        }
        told.contents = contents;
    } else {
        return Err(CommandError::joined(&[b"ERR Unrecognized REPLCONF option: ", &args[at]]));
    }
    Ok(())
}

/// Longest address that a replica may announce.
const HOST_MAX: usize = 256;

/// `ACK offset [FACK offset]`: how far a replica is; never answered.
fn acknowledge(ctx: &SessionContext<'_>, args: Args<'_>, at: usize) {
    let Some(replica) = ctx.session.replica.as_ref().filter(|_| ctx.session.client.has(flag::REPLICA)) else { return };
    let number = |at: usize| args.get(at).and_then(parse_i64).and_then(|offset| u64::try_from(offset).ok());
    let Some(offset) = number(at + 1) else { return };
    let server = ctx.worker.server;
    let acknowledged = replica.ack_offset.fetch_max(offset, Ordering::AcqRel).max(offset);
    // What is on its way may be lost with the link: with a place for it on disk it is kept until it has arrived.
    let kept = if ctx.worker.config.repl_spill_size > 0 { acknowledged } else { 0 };
    replica.reader.kept.store(kept, Ordering::Release);
    if args.is(at + 2, "fack")
        && let Some(offset) = number(at + 3)
    {
        replica.fack_offset.fetch_max(offset, Ordering::AcqRel);
    }
    replica.ack_ms.store(ctx.worker.now_ms, Ordering::Relaxed);
    if let Some(link) = primary().links.find(ctx.session.client.id)
        && link.start_stream()
    {
        replica.client.wake();
    }
    server.refresh_good_replicas(ctx.worker.now_ms);
    server.check_ack_waits();
    failover::look(server, ctx.worker.now_ms);
}

fn wait(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.worker.server.is_replica.load(Ordering::Relaxed) {
        return Err(CommandError::fixed(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not propagated.",
        ));
    }
    let replicas = parse_i64(&args[1]).ok_or(error::NOT_AN_INTEGER)?;
    let timeout_ms = parse_timeout_ms(&args[2])?;
    wait_for(ctx, Wanted::Replicas(usize::try_from(replicas).unwrap_or(0)), timeout_ms)
}

fn waitaof(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let local = parse_i64(&args[1]).ok_or(error::NOT_AN_INTEGER)?;
    let local = usize::try_from(local).ok().filter(|local| *local <= 1);
    let local = local.ok_or(CommandError::fixed("ERR value is out of range, value must between 0 and 1"))?;
    let replicas = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    let replicas = usize::try_from(replicas).map_err(|_| error::MUST_BE_POSITIVE)?;
    let timeout_ms = parse_timeout_ms(&args[3])?;
    if server.is_replica.load(Ordering::Relaxed) {
        return Err(CommandError::fixed(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and \
             are not propagated.",
        ));
    }
    if local > 0 && !server.save_status.aof.enabled.load(Ordering::Acquire) {
        return Err(CommandError::fixed("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    wait_for(ctx, Wanted::Files { local, replicas }, timeout_ms)
}

fn parse_timeout_ms(text: &[u8]) -> Result<u64, CommandError> {
    let timeout_ms = parse_i64(text).ok_or(error::TIMEOUT_NOT_AN_INTEGER)?;
    u64::try_from(timeout_ms).map_err(|_| error::TIMEOUT_NEGATIVE)
}

fn wait_for(ctx: &mut SessionContext<'_>, wanted: Wanted, timeout_ms: u64) -> Result<SessionFlow, CommandError> {
    let (server, offset) = (ctx.worker.server, ctx.session.write_offset);
    let reached = Reached::of(server, offset, wanted);
    if reached.satisfies(wanted) || ctx.deny_blocking {
        reached.write(wanted, ctx.reply);
        return Ok(SessionFlow::Done);
    }
    ack_wait::block(ctx.worker, ctx.session, offset, wanted, timeout_ms);
    super::cron::ask_for_acks(server, offset);
    Ok(SessionFlow::Blocked)
}
