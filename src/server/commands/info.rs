//! INFO.

use super::keyspace;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::info::{self, View};
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

/// It counts keys and blocked clients in every shard, so it runs with all of them locked.
pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("info", -1, answer_info)
    .group(Group::Server)
    .loading_stale()
    .flag(Flags::SENTINEL)
    .flag(Flags::ALL_SHARDS)
    .flag(Flags::TELLS_OF_ALL)
    .categories(&["dangerous"])
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .syntax("[section [section ...]]")
    .summary("Tells the state and the statistics of the server.")
    .complexity("O(1)")];

fn answer_info(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let names: Vec<&[u8]> = args.from(1).iter().collect();
    let server = ctx.worker.server;
    let view = View::new(server, keyspace::all(&mut ctx.locked)?);
    let text = info::render(&view, &names);
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}
