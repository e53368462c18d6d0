//! HELP of a container: what its declaration says, in the layout of Redis.

use crate::commands::error::CommandError;
use crate::commands::help::write;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

/// The subcommand HELP of a container.
pub const fn help_of(group: Group, since: &'static str) -> SessionCommand {
    SessionCommand::new("help", 2, help)
        .group(group)
        .since(since)
        .loading_stale()
        .summary("Tells what the subcommands do.")
        .complexity("O(1)")
}

/// Handler of every `<container> HELP`.
pub fn help(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    let Some(parent) = ctx.entry.parent.map(|id| table.entry(id)) else { return Ok(SessionFlow::Done) };
    let specs = parent.subcommands.iter().map(|id| &table.entry(*id).spec);
    write(parent.spec.name, specs, ctx.reply);
    Ok(SessionFlow::Done)
}
