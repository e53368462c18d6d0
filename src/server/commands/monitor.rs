//! MONITOR.

use crate::commands::error::CommandError;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::clients::flag;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::Arc;

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("monitor", 1, monitor)
    .group(Group::Server)
    .admin()
    .noscript()
    .loading_stale()
    .summary("Shows every command that the server runs, as it runs.")];

fn monitor(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.deny_blocking {
        return Err(CommandError::fixed("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !ctx.session.client.has(flag::MONITOR | flag::REPLICA) {
        let client = Arc::clone(&ctx.session.client);
        ctx.worker.server.add_monitor(&client);
        ctx.session.note_pushes();
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
