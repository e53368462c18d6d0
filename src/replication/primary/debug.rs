//! DEBUG's subcommands on replication.

use crate::commands::error::CommandError;
use crate::resp::Args;
use crate::server::commands::debug::{ANY, DebugCommand};
use crate::server::session::{SessionContext, SessionFlow};

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new(
        "REPLICATE",
        (1, ANY),
        "<command> [<arg> ...]",
        "Sends replicas something that was never executed here.",
        replicate,
    ),
    DebugCommand::new(
        "CHANGE-REPL-ID",
        (0, 0),
        "",
        "Begins another history: replicas that come back need everything.",
        change_replid,
    ),
];

fn replicate(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.journal.append_command_for_replicas(args.from(2));
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn change_replid(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    tracing::warn!("Changing replication IDs after receiving change-repl-id");
    ctx.worker.server.role.change_ids(|ids| ids.renew());
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
