//! SCRIPT: the cache of scripts, the debugger, and the end of a script that takes too long.

use super::{Flow, help, kill, sync_or_async};
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::script::interpreter;
use crate::server::scripts::Sha;
use crate::server::session::{ScriptDebug, SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
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
.complexity("Depends on subcommand.")];

const fn script_sub(command: SessionCommand) -> SessionCommand {
    command.group(Group::Scripting).since("2.6.0").noscript().complexity("O(1)")
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

fn script_flush(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Flow {
    sync_or_async(args, "SCRIPT FLUSH only support")?;
    ctx.worker.server.scripts.flush();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn script_kill(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Flow {
    kill(ctx, false)
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
