//! EVAL, EVALSHA and FCALL: what is to be run, and with which keys.

use super::Flow;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError, CommandResult};
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeySpec;
use crate::commands::spec::Group;
use crate::net::console;
use crate::resp::Args;
use crate::script::debugger;
use crate::script::interpreter::{self, Compiled, Interpreter, Script};
use crate::script::run::{self, Program};
use crate::server::scripts::Sha;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
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
];

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
        ctx.reply.error_bytes(error.bytes());
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
    let unknown = CommandError::fixed("NOSCRIPT No matching script. Please use EVAL.");
    // What is no SHA1 is refused before the keys are counted, one that nobody knows after that.
    let sha = sha_named(&args[1]).ok_or_else(|| unknown.clone())?;
    let (keys, rest) = split_keys(args)?;
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
