//! FUNCTION: libraries of functions as a whole.

use super::{Flow, help, kill, sync_or_async};
use crate::base::glob;
use crate::commands::error::{self, CommandError, CommandResult};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::rdb::dump::{self, Verify};
use crate::resp::Args;
use crate::script::functions;
use crate::server::Server;
use crate::server::scripts;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use bytes::Bytes;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "function",
    &[
        function_sub(SessionCommand::new("delete", 3, function_delete))
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .write()
            .syntax("library-name")
            .summary("Deletes a library and its functions."),
        function_sub(SessionCommand::new("dump", 2, function_dump)).summary("Answers all libraries in one payload."),
        function_sub(SessionCommand::new("flush", -2, function_flush))
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .write()
            .syntax("[ASYNC | SYNC]")
            .summary("Deletes all libraries."),
        SessionCommand::new("help", 2, function_help)
            .group(Group::Scripting)
            .since("7.0.0")
            .complexity("O(1)")
            .loading_stale()
            .summary("Explains the subcommands."),
        function_sub(SessionCommand::new("kill", 2, function_kill))
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
            .flag(Flags::ALLOW_BUSY)
            .summary("Ends the running function if it has not written yet."),
        function_sub(SessionCommand::new("list", -2, function_list))
            .tips(&["nondeterministic_output_order"])
            .syntax("[LIBRARYNAME library-name-pattern] [WITHCODE]")
            .summary("Lists the libraries and their functions."),
        function_sub(SessionCommand::new("load", -3, function_load))
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .write()
            .denyoom()
            .syntax("[REPLACE] function-code")
            .summary("Makes a library of functions."),
        function_sub(SessionCommand::new("restore", -3, function_restore))
            .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
            .write()
            .denyoom()
            .syntax("serialized-value [FLUSH | APPEND | REPLACE]")
            .summary("Loads the libraries of a payload."),
        function_sub(SessionCommand::new("stats", 2, function_stats))
            .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
            .flag(Flags::ALLOW_BUSY)
            .summary("Tells what runs, and how many functions there are."),
    ],
)
.group(Group::Scripting)
.categories(&["-scripting"])
.since("7.0.0")
.summary("Commands on functions.")
.complexity("Depends on subcommand.")];

const fn function_sub(command: SessionCommand) -> SessionCommand {
    command.group(Group::Scripting).since("7.0.0").noscript().complexity("O(N) where N is the number of functions")
}

/// Sends a change of the libraries to replicas and AOF as it was asked for.
fn propagate(ctx: &mut SessionContext<'_>, args: Args<'_>) {
    let server = ctx.worker.server;
    server.dirty.fetch_add(1, Ordering::Relaxed);
    if server.journal.is_active() && !ctx.session.is_primary_link {
        ctx.worker.unit.push((ctx.session.db, args.to_owned()));
    }
}

fn function_load(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    let code_at = args.len() - 1;
    let mut replace = false;
    for index in 2..code_at {
        if !args.is(index, "REPLACE") {
            return Err(CommandError::joined(&[b"ERR Unknown option given: ", &args[index]]));
        }
        replace = true;
    }
    let server = ctx.worker.server;
    let code = Bytes::copy_from_slice(&args[code_at]);
    let library = functions::compile_within(server, &code, !ctx.session.is_primary_link)?;
    let name = library.name.clone();
    change(server, |libraries| functions::add(libraries, library, replace))?;
    propagate(ctx, args);
    ctx.reply.bulk(name.as_bytes());
    Ok(SessionFlow::Done)
}

/// Changes the libraries as a whole, or leaves them alone.
fn change(
    server: &'static Server,
    change: impl FnOnce(&mut std::collections::BTreeMap<String, scripts::Library>) -> CommandResult<()>,
) -> CommandResult<()> {
    let mut libraries = (*server.scripts.libraries()).clone();
    change(&mut libraries)?;
    server.scripts.set_libraries(libraries);
    Ok(())
}

fn function_dump(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    let libraries = ctx.worker.server.scripts.libraries();
    let compress = ctx.worker.config.rdbcompression;
    ctx.reply.bulk(&dump::libraries(libraries.values().map(|library| &*library.code), compress));
    Ok(SessionFlow::Done)
}

fn function_restore(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    if args.len() > 4 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let is = |word| args.is(3, word);
    let (replace, flush) = match args.len() {
        3 => (false, false),
        _ if is("APPEND") => (false, false),
        _ if is("REPLACE") => (true, false),
        _ if is("FLUSH") => (false, true),
        _ => {
            return Err(CommandError::fixed(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let verify = if ctx.worker.settings.skip_checksum { Verify::No } else { Verify::Yes };
    let codes = dump::open_libraries(&args[2], verify).map_err(|fault| CommandError::new(format!("ERR {fault}")))?;
    let server = ctx.worker.server;
    let mut restored = Vec::new();
    for code in codes {
        restored.push(functions::compile_within(server, &Bytes::from(code), false)?);
    }
    change(server, |libraries| {
        // The payload must be sound in itself before anything is dropped.
        let mut own = Default::default();
        for library in restored {
            functions::add(&mut own, library, false)?;
        }
        if flush {
            *libraries = own;
            return Ok(());
        }
        functions::add_all(libraries, own.into_values().collect(), replace)
    })?;
    propagate(ctx, args);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn function_delete(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    let server = ctx.worker.server;
    let mut libraries = (*server.scripts.libraries()).clone();
    let name = String::from_utf8_lossy(&args[2]).into_owned();
    libraries.remove(&name).ok_or(CommandError::fixed("ERR Library not found"))?;
    server.scripts.set_libraries(libraries);
    propagate(ctx, args);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn function_flush(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    sync_or_async(args, "FUNCTION FLUSH only supports")?;
    ctx.worker.server.scripts.set_libraries(Default::default());
    propagate(ctx, args);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn function_list(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    let (mut pattern, mut with_code) = (None, false);
    let mut index = 2;
    while index < args.len() {
        if !with_code && args.is(index, "WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.is(index, "LIBRARYNAME") {
            index += 1;
            pattern = Some(args.get(index).ok_or(CommandError::fixed("ERR library name argument was not given"))?);
        } else {
            let option = error::shown(&args[index], usize::MAX);
            return Err(CommandError::new([b"ERR Unknown argument ", option].concat()));
        }
        index += 1;
    }
    let libraries = ctx.worker.server.scripts.libraries();
    let wanted = |name: &str| pattern.is_none_or(|pattern| glob::matches_ignoring_case(pattern, name.as_bytes()));
    let shown: Vec<_> = libraries.values().filter(|library| wanted(&library.name)).collect();
    let reply = &mut *ctx.reply;
    reply.array(shown.len());
    for library in shown {
        reply.map(3 + usize::from(with_code));
        reply.bulk(b"library_name");
        reply.bulk(library.name.as_bytes());
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(function.name.as_bytes());
            reply.bulk(b"description");
            match &function.description {
                Some(text) => reply.bulk(text),
                None => reply.null(),
            }
            reply.bulk(b"flags");
            reply.set(function.flags.len());
            function.flags.iter().for_each(|flag| reply.simple(flag));
        }
        if with_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    Ok(SessionFlow::Done)
}

fn function_stats(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    let scripts = &ctx.worker.server.scripts;
    let run = scripts.running.busy_run();
    if run.as_ref().is_some_and(|run| !run.is_function()) {
        return Err(scripts::busy_error(false));
    }
    let reply = &mut *ctx.reply;
    reply.map(2);
    reply.bulk(b"running_script");
    match run {
        None => reply.null(),
        Some(run) => {
            let (name, started_ms, words) = &*run.call.lock();
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(name.as_bytes());
            reply.bulk(b"command");
            reply.array(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.integer(crate::base::clock::unix_ms() - started_ms);
        }
    }
    let libraries = scripts.libraries();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.count(libraries.len());
    reply.bulk(b"functions_count");
    reply.count(libraries.values().map(|library| library.functions.len()).sum());
    Ok(SessionFlow::Done)
}

fn function_kill(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    kill(ctx, true)
}

fn function_help(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    help(
        ctx,
        &[
            "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "LOAD [REPLACE] <FUNCTION CODE>",
            "    Makes a library of functions.",
            "DELETE <LIBRARY NAME>",
            "    Deletes a library.",
            "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            "    Lists libraries and their functions.",
            "STATS",
            "    Tells what runs now.",
            "KILL",
            "    Ends the running function if it has not written yet.",
            "FLUSH [ASYNC|SYNC]",
            "    Deletes all libraries.",
            "DUMP",
            "    Answers all libraries in one payload.",
            "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            "    Loads the libraries of a payload.",
            "HELP",
            "    Print this help.",
        ],
    )
}
