//! TIME.

use crate::base::clock;
use crate::commands::error::CommandError;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("time", 1, time)
    .group(Group::Server)
    .since("2.6.0")
    .fast()
    .loading_stale()
    .tips(&["nondeterministic_output"])
    .summary("Answers the server's time: seconds of the Unix epoch and microseconds.")
    .complexity("O(1)")];

fn time(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let now_us = clock::unix_us();
    ctx.reply.array(2);
    ctx.reply.bulk_integer(now_us / 1_000_000);
    ctx.reply.bulk_integer(now_us % 1_000_000);
    Ok(SessionFlow::Done)
}
