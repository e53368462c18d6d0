//! MEMORY: where the memory goes.

use super::help::help_of;
use super::keyspace;
use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeySpec;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::engine::memory;
use crate::resp::Args;
use crate::server::info::{View, difference, ratio};
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "memory",
    &[
        sub("doctor", 2, doctor)
            .flag(Flags::ALL_SHARDS)
            .tips(REPORT)
            .summary("Explains what is odd about the memory in use.")
            .complexity("O(1)"),
        sub("malloc-stats", 2, malloc_stats)
            .tips(REPORT)
            .summary("Answers the allocator's own report.")
            .complexity("Depends on how much memory is allocated, could be slow"),
        sub("purge", 2, purge)
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .summary("Makes the allocator return unused pages.")
            .complexity("Depends on how much memory is allocated, could be slow"),
        sub("stats", 2, stats)
            .flag(Flags::ALL_SHARDS)
            .tips(REPORT)
            .summary("Tells what memory is used for.")
            .complexity("O(1)"),
        sub("usage", -3, usage)
            .readonly()
            .keys(&[KeySpec::at(2).ro()])
            .syntax("key [SAMPLES count]")
            .summary("Estimates the bytes that a key and its value take.")
            .complexity("O(N) where N is the number of samples."),
        help_of(Group::Server, "4.0.0"),
    ],
)
.group(Group::Server)
.since("4.0.0")
.summary("A container for memory diagnostics commands.")
.complexity("Depends on subcommand.")];

const REPORT: &[&str] = &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];

const fn sub(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Server).since("4.0.0")
}

/// Members that are looked at to estimate the others.
const DEFAULT_SAMPLES: usize = 5;

fn usage(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut samples = DEFAULT_SAMPLES;
    let mut index = 3;
    while index < args.len() {
        // The last one counts.
        let count = args.get(index + 1).filter(|_| args.is(index, "SAMPLES")).ok_or(error::SYNTAX)?;
        samples = usize::try_from(args::integer(count)?).map_err(|_| error::SYNTAX)?;
        index += 2;
    }
    let (key, db, now_ms) = (&args[2], ctx.session.db, ctx.worker.now_ms);
    let hash = Locked::hash(key);
    let measure = |locked: &Locked| {
        let record = locked.db(hash, db)?.find(hash, key)?;
        let is_alive = record.expiry().is_none_or(|at| at >= now_ms);
        // A slot of the table is the key's as well.
        is_alive.then(|| record.memory(samples) + size_of::<usize>())
    };
    let bytes = match ctx.locked.as_deref() {
        Some(locked) => measure(locked),
        None => match ctx.worker.server.lock(ShardSet::one(shard_of(hash))) {
            Some(locked) => measure(&locked),
            None => return Ok(SessionFlow::Again),
        },
    };
    match bytes {
        Some(bytes) => ctx.reply.count(bytes),
        None => ctx.reply.null(),
    }
    Ok(SessionFlow::Done)
}

fn stats(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let view = View::new(server, keyspace::all(&mut ctx.locked)?);
    let (memory, clients, allocator) = (view.memory(), view.clients(), view.allocator());
    let (used, rss) = (view.used, view.rss());
    let (scripts, script_bytes) = server.scripts.cached();
    let bytes = |value: usize| Amount::Bytes(value as i64);
    let head = [
        ("peak.allocated", bytes(view.peak())),
        ("total.allocated", bytes(used)),
        ("startup.allocated", bytes(view.startup())),
        ("replication.backlog", bytes(memory.backlog)),
        ("clients.slaves", bytes(view.replica_bytes())),
        ("clients.normal", bytes(clients.normal_bytes)),
        ("cluster.links", bytes(0)),
        ("aof.buffer", bytes(0)),
        ("lua.caches", bytes(script_bytes)),
        ("functions.caches", bytes(0)),
    ];
    let per_key = used.saturating_sub(view.startup()).checked_div(memory.keys).unwrap_or(0);
    let tail = [
        ("overhead.total", bytes(memory.overhead)),
        ("keys.count", bytes(memory.keys)),
        ("keys.bytes-per-key", bytes(per_key)),
        ("dataset.bytes", bytes(view.dataset())),
        ("dataset.percentage", Amount::Ratio(view.dataset_percent())),
        ("peak.percentage", Amount::Ratio(ratio(used, view.peak()) * 100.0)),
        ("allocator.allocated", bytes(allocator.allocated)),
        ("allocator.active", bytes(allocator.active)),
        ("allocator.resident", bytes(allocator.resident)),
        ("allocator.muzzy", bytes(0)),
        ("allocator-fragmentation.ratio", Amount::Ratio(view.fragmentation().0)),
        ("allocator-fragmentation.bytes", Amount::Bytes(view.fragmentation().1)),
        ("allocator-rss.ratio", Amount::Ratio(ratio(allocator.resident, allocator.active))),
        ("allocator-rss.bytes", Amount::Bytes(difference(allocator.resident, allocator.active))),
        ("rss-overhead.ratio", Amount::Ratio(ratio(rss, allocator.resident))),
        ("rss-overhead.bytes", Amount::Bytes(difference(rss, allocator.resident))),
        ("fragmentation", Amount::Ratio(ratio(rss, used))),
        ("fragmentation.bytes", Amount::Bytes(difference(rss, used))),
        ("scripts.count", bytes(scripts)),
    ];
    ctx.reply.map(head.len() + memory.tables.len() + tail.len());
    head.iter().for_each(|(name, amount)| amount.write(name, ctx.reply));
    for table in &memory.tables {
        ctx.reply.bulk(format!("db.{}", table.db).as_bytes());
        ctx.reply.map(2);
        Amount::Bytes(table.bytes as i64).write("overhead.hashtable.main", ctx.reply);
        // Marks in the key table take no bytes of their own.
        Amount::Bytes(0).write("overhead.hashtable.expires", ctx.reply);
    }
    tail.iter().for_each(|(name, amount)| amount.write(name, ctx.reply));
    Ok(SessionFlow::Done)
}

enum Amount {
    Bytes(i64),
    Ratio(f64),
}

impl Amount {
    fn write(&self, name: &str, reply: &mut crate::resp::Reply) {
        reply.bulk(name.as_bytes());
        match self {
            Amount::Bytes(bytes) => reply.integer(*bytes),
            Amount::Ratio(ratio) => reply.double(*ratio),
        }
    }
}

fn doctor(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let view = View::new(server, keyspace::all(&mut ctx.locked)?);
    let text = diagnose(&view);
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}

/// Below this nothing can be said.
const SMALL: usize = 5 << 20;

fn diagnose(view: &View<'_>) -> String {
    if view.used < SMALL {
        return "The server holds less than 5 MB: too little to judge its memory.\n".into();
    }
    let mut findings: Vec<String> = Vec::new();
    if view.peak() > view.used * 3 / 2 {
        findings.push("The peak was more than half above what is used now: the allocator may hold pages of that time; MEMORY PURGE returns them.".into());
    }
    let (fragmentation, wasted) = view.fragmentation();
    if fragmentation > 1.4 && wasted > SMALL as i64 {
        findings.push(format!("Allocations lie scattered: {wasted} bytes of the pages in use are empty. A restart or a full resync packs them."));
    }
    let clients = view.clients();
    if clients.normal > 0 && clients.normal_bytes / clients.normal > 200 * 1024 {
        findings.push(
            "Clients hold more than 200 KB each: look at CLIENT LIST for slow readers and long pipelines.".into(),
        );
    }
    if clients.replicas > 0 && view.replica_bytes() / clients.replicas > 10 << 20 {
        findings.push("Replicas lag: more than 10 MB wait for each.".into());
    }
    if findings.is_empty() {
        return "Nothing about the memory of this server looks odd.\n".into();
    }
    findings.iter().map(|finding| format!("* {finding}\n")).collect()
}

fn purge(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    memory::purge();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn malloc_stats(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut text = Vec::new();
    if tikv_jemalloc_ctl::stats_print::stats_print(&mut text, Default::default()).is_err() {
        return Err(CommandError::fixed("ERR the allocator has no report"));
    }
    ctx.reply.verbatim("txt", &text);
    Ok(SessionFlow::Done)
}
