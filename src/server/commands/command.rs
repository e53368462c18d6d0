//! COMMAND: what clients ask to learn about commands. COMMAND DOCS has a file of its own.

use super::command_docs;
use crate::base::glob;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::keyspec::{Begin, Find, KeyFlags, KeySpec};
use crate::commands::spec::Group;
use crate::resp::{Args, Reply};
use crate::server::plan;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};
use crate::server::table::{CommandTable, Entry};

pub const COMMANDS: &[SessionCommand] = &[about("command", -1, command)
    .with_subcommands(&[
        about("count", 2, count).summary("Counts the commands.").complexity("O(1)"),
        about("list", -2, list)
            .since("7.0.0")
            .tips(&["nondeterministic_output_order"])
            .syntax("[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]")
            .summary("Names the commands.")
            .complexity("O(N) where N is the total number of Redis commands"),
        about("info", -2, info)
            .tips(&["nondeterministic_output_order"])
            .syntax("[command-name [command-name ...]]")
            .summary("Tells what is true of the named commands, or of all.")
            .complexity("O(N) where N is the number of commands to look up"),
        about("docs", -2, command_docs::docs)
            .since("7.0.0")
            .tips(&["nondeterministic_output_order"])
            .syntax("[command-name [command-name ...]]")
            .summary("Explains the named commands, or all.")
            .complexity("O(N) where N is the number of commands to look up"),
        about("getkeys", -3, getkeys)
            .syntax("command [arg [arg ...]]")
            .summary("Finds the keys among the arguments of a command.")
            .complexity("O(N) where N is the number of arguments to the command"),
        about("getkeysandflags", -3, getkeysandflags)
            .since("7.0.0")
            .syntax("command [arg [arg ...]]")
            .summary("Finds the keys of a command and what it does to each.")
            .complexity("O(N) where N is the number of arguments to the command"),
        super::help::help_of(Group::Server, "5.0.0").flag(Flags::SENTINEL).categories(&["connection"]),
    ])
    .tips(&["nondeterministic_output_order"])
    .summary("Tells what is true of all commands.")
    .complexity("O(N) where N is the total number of Redis commands")];

const fn about(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler)
        .group(Group::Server)
        .since("2.8.13")
        .loading_stale()
        .flag(Flags::SENTINEL)
        .categories(&["connection"])
}

fn command(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    let listed = || table.top_level().filter(|entry| !entry.is_hidden);
    ctx.reply.array(listed().count());
    listed().for_each(|entry| write_info(table, entry, ctx.reply));
    Ok(SessionFlow::Done)
}

fn count(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.count(ctx.worker.server.table.listed().filter(|entry| entry.parent.is_none()).count());
    Ok(SessionFlow::Done)
}

fn info(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    if args.len() == 2 {
        return command(ctx, args);
    }
    ctx.reply.array(args.len() - 2);
    for name in args.from(2).iter() {
        match table.find_full(name) {
            Some(entry) => write_info(table, entry, ctx.reply),
            None => ctx.reply.null_array(),
        }
    }
    Ok(SessionFlow::Done)
}

fn list(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let is_listed: Box<dyn Fn(&Entry) -> bool> = match args.len() {
        2 => Box::new(|_| true),
        5 if args.is(2, "FILTERBY") && args.is(3, "MODULE") => Box::new(|_| false),
        5 if args.is(2, "FILTERBY") && args.is(3, "ACLCAT") => {
            let category = &args[4];
            Box::new(|entry| {
                entry.spec.acl_categories().iter().any(|name| category.eq_ignore_ascii_case(name.as_bytes()))
            })
        }
        5 if args.is(2, "FILTERBY") && args.is(3, "PATTERN") => {
            let pattern = &args[4];
            Box::new(|entry| glob::matches_ignoring_case(pattern, entry.full_name.as_bytes()))
        }
        _ => return Err(error::SYNTAX),
    };
    let names: Vec<&str> = ctx
        .worker
        .server
        .table
        .listed()
        .filter(|entry| is_listed(entry))
        .map(|entry| entry.full_name.as_str())
        .collect();
    ctx.reply.set(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name.as_bytes()));
    Ok(SessionFlow::Done)
}

fn getkeys(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    write_keys(ctx, args.from(2), |reply, key, _| reply.bulk(key))
}

fn getkeysandflags(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    write_keys(ctx, args.from(2), |reply, key, flags| {
        reply.array(2);
        reply.bulk(key);
        write_key_flags(flags, reply);
    })
}

fn write_keys(
    ctx: &mut SessionContext<'_>,
    request: Args<'_>,
    write: fn(&mut Reply, &[u8], KeyFlags),
) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    let entry = find(table, request).ok_or(CommandError::fixed("ERR Invalid command specified"))?;
    if entry.spec.keys.is_empty() && entry.spec.key_finder.is_none() {
        return Err(CommandError::fixed("ERR The command has no key arguments"));
    }
    if !entry.spec.accepts_arity(request.len()) {
        return Err(CommandError::fixed("ERR Invalid number of arguments specified for command"));
    }
    let mut found: Vec<(usize, KeyFlags)> = Vec::new();
    let fits = plan::visit_keys(entry, request, &mut |index, flags| {
        if !flags.has(KeyFlags::NOT_KEY) && index < request.len() {
            found.push((index, flags));
        }
    });
    if !entry.spec.flags.has(Flags::NO_MANDATORY_KEYS) && (!fits || found.is_empty()) {
        return Err(CommandError::fixed("ERR Invalid arguments specified for command"));
    }
    ctx.reply.array(found.len());
    for (index, flags) in found {
        write(ctx.reply, &request[index], flags);
    }
    Ok(SessionFlow::Done)
}

/// The command or subcommand that a request names.
fn find(table: &'static CommandTable, request: Args<'_>) -> Option<&'static Entry> {
    let entry = table.find(request.get(0)?)?;
    match request.get(1) {
        Some(sub) if !entry.subcommands.is_empty() => table.find_sub(entry, sub),
        _ => Some(entry),
    }
}

/// One element of COMMAND INFO (redis.io, "COMMAND": name, arity, flags, first key, last key, step, categories, tips, key
/// specifications, subcommands).
fn write_info(table: &CommandTable, entry: &Entry, reply: &mut Reply) {
    let spec = &entry.spec;
    reply.array(10);
    reply.bulk(entry.full_name.as_bytes());
    reply.integer(i64::from(spec.arity));
    let flags: Vec<&str> = spec.flags.names().collect();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.simple(name));
    let (first, last, step) = spec.legacy_range();
    [first, last, step].into_iter().for_each(|value| reply.integer(value));
    let categories = spec.acl_categories();
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.simple(&format!("@{name}")));
    reply.array(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(spec.keys.len());
    spec.keys.iter().for_each(|keys| write_key_spec(keys, reply));
    reply.set(entry.subcommands.len());
    entry.subcommands.iter().for_each(|id| write_info(table, table.entry(*id), reply));
}

fn write_key_spec(spec: &KeySpec, reply: &mut Reply) {
    let has_notes = !spec.notes.is_empty();
    reply.map(3 + usize::from(has_notes));
    if has_notes {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    write_key_flags(spec.flags, reply);
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => write_step("index", &[("index", Word::Number(index as i64))], reply),
        Begin::Keyword(word, from) => {
            write_step("keyword", &[("keyword", Word::Text(word)), ("startfrom", Word::Number(from as i64))], reply);
        }
        Begin::Unknown => write_step("unknown", &[], reply),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            let facts = [("lastkey", last as i64), ("keystep", step as i64), ("limit", limit as i64)];
            write_step("range", &facts.map(|(name, value)| (name, Word::Number(value))), reply);
        }
        Find::Count { count_at, first, step } => {
            let facts = [("keynumidx", count_at as i64), ("firstkey", first as i64), ("keystep", step as i64)];
            write_step("keynum", &facts.map(|(name, value)| (name, Word::Number(value))), reply);
        }
        Find::Unknown => write_step("unknown", &[], reply),
    }
}

enum Word {
    Number(i64),
    Text(&'static str),
}

/// One of the two steps of a key specification: its type and its parameters.
fn write_step(kind: &str, parameters: &[(&str, Word)], reply: &mut Reply) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(parameters.len());
    for (name, value) in parameters {
        reply.bulk(name.as_bytes());
        match value {
            Word::Number(number) => reply.integer(*number),
            Word::Text(text) => reply.bulk(text.as_bytes()),
        }
    }
}

fn write_key_flags(flags: KeyFlags, reply: &mut Reply) {
    let names: Vec<&str> = flags.names().collect();
    reply.set(names.len());
    names.iter().for_each(|name| reply.simple(name));
}
