//! EVAL, SCRIPT, FCALL, FUNCTION.

use super::interpreter::{self, Compiled, Interpreter, Script};
use super::run::{self, Program};
use super::{debugger, functions};
use crate::base::glob;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError, CommandResult};
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeySpec;
use crate::commands::spec::Group;
use crate::net::console;
use crate::rdb::dump::{self, Verify};
use crate::resp::Args;
use crate::server::Server;
use crate::server::scripts::{self, NotKilled, Sha};
use crate::server::session::{ScriptDebug, SessionCommand, SessionContext, SessionFlow};
use bytes::Bytes;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// The same without the note, which the reference gives for scripts by text and for functions only.
const SHA_KEYS: &[KeySpec] = &[KeySpec::counted(2).rw().access().update()];
const SHA_RO_KEYS: &[KeySpec] = &[KeySpec::counted(2).ro().access()];
const EVAL_KEYS: &[KeySpec] = &[KeySpec::counted(2)
    .rw()
    .access()
    .update()
    .notes("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE")];
const EVAL_RO_KEYS: &[KeySpec] = &[KeySpec::counted(2)
    .ro()
    .access()
    .notes("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS")];

const fn eval_like(command: SessionCommand) -> SessionCommand {
    command
        .group(Group::Scripting)
        .noscript()
        .flag(Flags::STALE)
        .flag(Flags::SKIP_MONITOR)
        .flag(Flags::NO_MANDATORY_KEYS)
        // They lock what they need by themselves; in a transaction that is everything.
        .flag(Flags::SHARD_BY_SHARD)
        .complexity("Depends on the script that is executed.")
}

pub const COMMANDS: &[SessionCommand] = &[
    eval_like(SessionCommand::new("eval", -3, eval))
        .since("2.6.0")
        .flag(Flags::MAY_REPLICATE)
        .keys(EVAL_KEYS)
        .syntax("script numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Runs a Lua script."),
    eval_like(SessionCommand::new("eval_ro", -3, eval_ro))
        .since("7.0.0")
        .readonly()
        .keys(EVAL_RO_KEYS)
        .syntax("script numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Runs a Lua script that must not write."),
    eval_like(SessionCommand::new("evalsha", -3, evalsha))
        .since("2.6.0")
        .flag(Flags::MAY_REPLICATE)
        .keys(SHA_KEYS)
        .syntax("sha1 numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Runs a cached Lua script by its SHA1."),
    eval_like(SessionCommand::new("evalsha_ro", -3, evalsha_ro))
        .since("7.0.0")
        .readonly()
        .keys(SHA_RO_KEYS)
        .syntax("sha1 numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Runs a cached Lua script that must not write."),
    eval_like(SessionCommand::new("fcall", -3, fcall))
        .since("7.0.0")
        .flag(Flags::MAY_REPLICATE)
        .keys(EVAL_KEYS)
        .syntax("function numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Calls a function."),
    eval_like(SessionCommand::new("fcall_ro", -3, fcall_ro))
        .since("7.0.0")
        .readonly()
        .keys(EVAL_RO_KEYS)
        .syntax("function numkeys [key [key ...]] [arg [arg ...]]")
        .summary("Calls a function that must not write."),
    SessionCommand::container(
        "script",
        &[
            script_sub(SessionCommand::new("debug", 3, script_debug))
                .since("3.2.0")
                .syntax("YES | SYNC | NO")
                .summary("Sets whether the next script of the connection is debugged."),
            script_sub(SessionCommand::new("exists", -3, script_exists))
                .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
                .syntax("sha1 [sha1 ...]")
                .summary("Tells which scripts are cached."),
            script_sub(SessionCommand::new("flush", -2, script_flush))
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .syntax("[ASYNC | SYNC]")
                .summary("Forgets all cached scripts."),
            SessionCommand::new("help", 2, script_help)
                .group(Group::Scripting)
                .complexity("O(1)")
                .since("5.0.0")
                .loading_stale()
                .summary("Explains the subcommands."),
            script_sub(SessionCommand::new("kill", 2, script_kill))
                .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
                .flag(Flags::ALLOW_BUSY)
                .summary("Ends the running script if it has not written yet."),
            script_sub(SessionCommand::new("load", 3, script_load))
                .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
                .flag(Flags::STALE)
                .syntax("script")
                .summary("Caches a script for EVALSHA."),
        ],
    )
    .group(Group::Scripting)
    .categories(&["-scripting"])
    .since("2.6.0")
    .summary("Commands on the script cache.")
    .complexity("Depends on subcommand."),
    SessionCommand::container(
        "function",
        &[
            function_sub(SessionCommand::new("delete", 3, function_delete))
                .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
                .write()
                .syntax("library-name")
                .summary("Deletes a library and its functions."),
            function_sub(SessionCommand::new("dump", 2, function_dump))
                .summary("Answers all libraries in one payload."),
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
    .complexity("Depends on subcommand."),
];

const fn script_sub(command: SessionCommand) -> SessionCommand {
    command.group(Group::Scripting).since("2.6.0").noscript().complexity("O(1)")
}

const fn function_sub(command: SessionCommand) -> SessionCommand {
    command.group(Group::Scripting).since("7.0.0").noscript().complexity("O(N) where N is the number of functions")
}

type Flow = Result<SessionFlow, CommandError>;

fn eval(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    run_text(ctx, args, false)
}

fn eval_ro(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    run_text(ctx, args, true)
}

fn evalsha(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    run_cached(ctx, args, false)
}

fn evalsha_ro(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    run_cached(ctx, args, true)
}

fn run_text(ctx: &mut SessionContext<'_>, args: Args<'_>, read_only: bool) -> Flow {
    if ctx.session.script_debug.is_none() {
        return evaluate(ctx, args, read_only);
    }
    if !console::is_lent() {
        return Err(CommandError::fixed("ERR EVAL must not come in one pipeline with SCRIPT DEBUG"));
    }
    let result = evaluate(ctx, args, read_only);
    if matches!(result, Ok(SessionFlow::Again)) {
        return result;
    }
    debugger::say_goodbye(ctx.session.script_debug.take().map_or_else(Vec::new, |debug| debug.log));
    if let Err(error) = result {
        ctx.worker.stats.count_error(error.code());
        ctx.reply.error(&error.0);
    }
    Ok(SessionFlow::Close)
}

fn evaluate(ctx: &mut SessionContext<'_>, args: Args<'_>, read_only: bool) -> Flow {
    let (keys, rest) = split_keys(args)?;
    let server = ctx.worker.server;
    let interpreter = interpreter::for_eval(server)?;
    let script = interpreter.script(&args[1])?;
    let evicted = server.scripts.evicted.load(Ordering::Relaxed);
    if script.seen_at.get() != evicted {
        server.scripts.keep(script.sha, script.body.clone(), false);
        script.seen_at.set(evicted);
    }
    run_script(ctx, &interpreter, &script, read_only, (keys, rest), args)
}

fn run_cached(ctx: &mut SessionContext<'_>, args: Args<'_>, read_only: bool) -> Flow {
    if ctx.session.script_debug.is_some() {
        return Err(CommandError::fixed("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    let (keys, rest) = split_keys(args)?;
    let unknown = CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");
    let sha = sha_named(&args[1]).ok_or_else(|| unknown.clone())?;
    let server = ctx.worker.server;
    let interpreter = interpreter::for_eval(server)?;
    let evicted = server.scripts.evicted.load(Ordering::Relaxed);
    let script = match interpreter.script_by_sha(&sha) {
        Some(script) if script.seen_at.get() == evicted => script,
        other => {
            let body = server.scripts.find(&sha).ok_or(unknown)?;
            let script = other.map_or_else(|| interpreter.compile(sha, body), Ok)?;
            script.seen_at.set(evicted);
            script
        }
    };
    run_script(ctx, &interpreter, &script, read_only, (keys, rest), args)
}

fn sha_named(name: &[u8]) -> Option<Sha> {
    let mut sha = Sha::try_from(name).ok()?;
    sha.make_ascii_lowercase();
    Some(sha)
}

/// `numkeys key … arg …` behind the script: (keys, arguments).
fn split_keys(args: Args<'_>) -> CommandResult<(Args<'_>, Args<'_>)> {
    let count = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    if count > args.len() as i64 - 3 {
        return Err(CommandError::fixed("ERR Number of keys can't be greater than number of args"));
    }
    let count = usize::try_from(count).map_err(|_| CommandError::fixed("ERR Number of keys can't be negative"))?;
    Ok((args.from(3).first(count), args.from(3 + count)))
}

fn run_script(
    ctx: &mut SessionContext<'_>,
    interpreter: &Interpreter,
    script: &Script,
    read_only: bool,
    (keys, args): (Args<'_>, Args<'_>),
    call: Args<'_>,
) -> Flow {
    let program =
        Program { compiled: &script.compiled, read_only, is_function: false, name: &script.sha, keys, args, call };
    run::run(ctx, interpreter, &program)
}

fn fcall(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    call_function(ctx, args, false)
}

fn fcall_ro(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    call_function(ctx, args, true)
}

fn call_function(ctx: &mut SessionContext<'_>, args: Args<'_>, read_only: bool) -> Flow {
    let interpreter = interpreter::for_functions(ctx.worker.server)?;
    let name = args[1].to_ascii_lowercase();
    let found: Option<Rc<Compiled>> = interpreter.functions.borrow().get(&name).cloned();
    let compiled = found.ok_or(CommandError::fixed("ERR Function not found"))?;
    if parse_i64(&args[2]).is_none() {
        return Err(CommandError::fixed("ERR Bad number of keys provided"));
    }
    let (keys, rest) = split_keys(args)?;
    let program =
        Program { compiled: &compiled, read_only, is_function: true, name: &args[1], keys, args: rest, call: args };
    run::run(ctx, &interpreter, &program)
}

fn script_load(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    let server = ctx.worker.server;
    let script = interpreter::for_eval(server)?.script(&args[2])?;
    server.scripts.keep(script.sha, script.body.clone(), true);
    ctx.reply.bulk(&script.sha);
    Ok(SessionFlow::Done)
}

fn script_exists(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    let names = args.from(2);
    ctx.reply.array(names.len());
    for name in names.iter() {
        // Unlike EVALSHA this has always wanted lower case.
        let known = Sha::try_from(name).is_ok_and(|sha| ctx.worker.server.scripts.find(&sha).is_some());
        ctx.reply.integer(i64::from(known));
    }
    Ok(SessionFlow::Done)
}

fn sync_or_async(args: Args<'_>, command: &str) -> CommandResult<()> {
    match args.len() {
        2 => Ok(()),
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => Ok(()),
        _ => Err(CommandError::new(format!("ERR {command} SYNC|ASYNC option"))),
    }
}

fn script_flush(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    sync_or_async(args, "SCRIPT FLUSH only support")?;
    ctx.worker.server.scripts.flush();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn script_kill(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    kill(ctx, false)
}

fn function_kill(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    kill(ctx, true)
}

fn kill(ctx: &mut SessionContext<'_>, functions: bool) -> Flow {
    ctx.worker.server.scripts.running.request_kill(functions).map_err(|reason| match reason {
        NotKilled::NotBusy => CommandError::fixed("NOTBUSY No scripts in execution right now."),
        NotKilled::OtherKind => scripts::busy_error(!functions),
        NotKilled::FromPrimary => CommandError::fixed(
            "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed.",
        ),
        NotKilled::Unkillable => CommandError::fixed(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script \
             termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ),
    })?;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn script_debug(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    if !ctx.reply.is_empty() {
        return Err(CommandError::fixed("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    ctx.session.script_debug = if args.is(2, "NO") {
        None
    } else if args.is(2, "YES") || args.is(2, "SYNC") {
        Some(Box::new(ScriptDebug { keeps_writes: args.is(2, "SYNC"), log: Vec::new() }))
    } else {
        return Err(CommandError::fixed("ERR Use SCRIPT DEBUG YES/SYNC/NO"));
    };
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn script_help(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    help(
        ctx,
        &[
            "SCRIPT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
            "DEBUG (YES|SYNC|NO)",
            "    Sets whether the next EVAL of this connection is debugged.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Tells which scripts are cached.",
            "FLUSH [ASYNC|SYNC]",
            "    Forgets all cached scripts.",
            "KILL",
            "    Ends the running script if it has not written yet.",
            "LOAD <script>",
            "    Caches a script without running it.",
            "HELP",
            "    Print this help.",
        ],
    )
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

fn help(ctx: &mut SessionContext<'_>, lines: &[&str]) -> Flow {
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.simple(line));
    Ok(SessionFlow::Done)
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
            let option = String::from_utf8_lossy(&args[index]).into_owned();
            return Err(CommandError::new(format!("ERR Unknown option given: {option}")));
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
            let option = String::from_utf8_lossy(&args[index]).into_owned();
            return Err(CommandError::new(format!("ERR Unknown argument {option}")));
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
