//! SLOWLOG.

use super::help::help_of;
use crate::commands::args;
use crate::commands::error::CommandError;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "slowlog",
    &[
        sub("get", -2, get)
            .tips(&["request_policy:all_nodes", "nondeterministic_output"])
            .syntax("[count]")
            .summary("Answers the newest entries of the slow log.")
            .complexity("O(N) where N is the number of entries returned"),
        sub("len", 2, len)
            .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
            .summary("Counts the entries of the slow log.")
            .complexity("O(1)"),
        sub("reset", 2, reset)
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .summary("Empties the slow log.")
            .complexity("O(N) where N is the number of entries in the slowlog"),
        help_of(Group::Server, "6.2.0"),
    ],
)
.group(Group::Server)
.since("2.2.12")
.summary("A container for slow log commands.")
.complexity("Depends on subcommand.")];

const fn sub(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Server).since("2.2.12").admin().loading_stale()
}

/// Entries that GET answers if it is not told how many.
const DEFAULT_COUNT: usize = 10;

fn get(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    const BAD_COUNT: CommandError = CommandError::fixed("ERR count should be greater than or equal to -1");
    let count = match args.get(2).map(|text| args::integer_in(text, -1..=i64::MAX, BAD_COUNT)).transpose()? {
        None => DEFAULT_COUNT,
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    let commands = ctx.worker.server.slowlog.newest(count);
    ctx.reply.array(commands.len());
    for command in commands {
        ctx.reply.array(6);
        ctx.reply.integer(command.id as i64);
        ctx.reply.integer(command.at_s);
        ctx.reply.integer(command.took_us as i64);
        ctx.reply.array(command.args.len());
        command.args.iter().for_each(|arg| ctx.reply.bulk(arg));
        ctx.reply.bulk(command.addr.as_bytes());
        ctx.reply.bulk(command.name.as_bytes());
    }
    Ok(SessionFlow::Done)
}

fn len(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.count(ctx.worker.server.slowlog.len());
    Ok(SessionFlow::Done)
}

fn reset(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.slowlog.reset();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
