//! ACL LIST, USERS, GETUSER, WHOAMI, CAT and LOG: looking at users, categories and refusals.

use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::resp::{Args, Reply};
use crate::server::acl::log::LogEntry;
use crate::server::acl::selector::Selector;
use crate::server::acl::{categories, describe};
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::table::CommandTable;

type Outcome = Result<SessionFlow, CommandError>;

/// Entries of ACL LOG without a count.
const LOG_SHOWN: i64 = 10;

pub fn list(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let lines = ctx.worker.server.user_lines();
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.bulk(&[b"user ", line.as_slice()].concat()));
    Ok(SessionFlow::Done)
}

pub fn users(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let users = ctx.worker.server.acl.users();
    ctx.reply.array(users.by_name.len());
    users.by_name.keys().for_each(|name| ctx.reply.bulk(name));
    Ok(SessionFlow::Done)
}

pub fn whoami(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    match ctx.session.identity.user() {
        Some(user) => ctx.reply.bulk(&user.name),
        None => ctx.reply.null(),
    }
    Ok(SessionFlow::Done)
}

pub fn getuser(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let table = ctx.worker.server.table;
    let Some(user) = ctx.worker.server.acl.find(&args[2]) else {
        ctx.reply.null();
        return Ok(SessionFlow::Done);
    };
    let reply = &mut *ctx.reply;
    reply.map(6);
    reply.bulk(b"flags");
    let flags = describe::flags(&user);
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    reply.array(user.passwords.len());
    user.passwords.iter().for_each(|hash| reply.bulk(hash));
    write_selector(table, &user.root, reply);
    reply.bulk(b"selectors");
    reply.array(user.selectors.len());
    for selector in &user.selectors {
        reply.map(3);
        write_selector(table, selector, reply);
    }
    Ok(SessionFlow::Done)
}

fn write_selector(table: &CommandTable, selector: &Selector, reply: &mut Reply) {
    for (name, text) in [
        ("commands", describe::commands(table, selector)),
        ("keys", describe::keys(selector)),
        ("channels", describe::channels(selector)),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
}

pub fn cat(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let Some(name) = args.get(2) else {
        ctx.reply.array(categories::NAMES.len());
        categories::NAMES.iter().for_each(|name| ctx.reply.bulk(name.as_bytes()));
        return Ok(SessionFlow::Done);
    };
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let category = categories::find(name).ok_or_else(|| {
        CommandError::joined(&[b"ERR Unknown category '", error::shown(name, error::SHOWN_MAX), b"'"])
    })?;
    let entries: Vec<_> =
        ctx.worker.server.table.iter().filter(|entry| categories::contains(category, entry)).collect();
    ctx.reply.array(entries.len());
    entries.iter().for_each(|entry| ctx.reply.bulk(entry.full_name.as_bytes()));
    Ok(SessionFlow::Done)
}

pub fn log(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let log = &ctx.worker.server.acl.log;
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    if args.is(2, "RESET") {
        log.reset();
        ctx.reply.ok();
        return Ok(SessionFlow::Done);
    }
    let count = args.get(2).map_or(Ok(LOG_SHOWN), args::integer)?;
    let entries = log.newest(usize::try_from(count).unwrap_or_default());
    ctx.reply.array(entries.len());
    let now_ms = ctx.worker.now_ms;
    entries.iter().for_each(|entry| write_entry(entry, now_ms, ctx.reply));
    Ok(SessionFlow::Done)
}

/// The fields of Redis 7.2, which begin with those of 7.0.
fn write_entry(entry: &LogEntry, now_ms: i64, reply: &mut Reply) {
    let refusal = &entry.refusal;
    reply.map(10);
    reply.bulk(b"count");
    reply.integer(entry.count as i64);
    for (name, value) in [
        ("reason", refusal.reason.name().as_bytes()),
        ("context", refusal.context.name().as_bytes()),
        ("object", &refusal.object),
        ("username", &refusal.user),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    }
    reply.bulk(b"age-seconds");
    reply.double((now_ms - entry.updated_ms) as f64 / 1000.0);
    reply.bulk(b"client-info");
    reply.bulk(refusal.client.as_bytes());
    for (name, value) in [
        ("entry-id", entry.id as i64),
        ("timestamp-created", entry.created_ms),
        ("timestamp-last-updated", entry.updated_ms),
    ] {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    }
}
