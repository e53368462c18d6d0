//! SHUTDOWN: leaves the wish; the task that owns the matter saves, waits for replicas, and ends the process.

use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::intents::ShutdownWish;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("shutdown", -1, shutdown)
    .group(Group::Server)
    .admin()
    .noscript()
    .loading_stale()
    .flag(Flags::NO_MULTI)
    .flag(Flags::SENTINEL)
    .flag(Flags::ALLOW_BUSY)
    .syntax("[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]")
    .summary("Saves the data set if save points are set, then ends the server.")
    .complexity(
        "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
    )];

fn shutdown(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut wish = ShutdownWish::default();
    let mut abort = false;
    for index in 1..args.len() {
        match () {
            () if args.is(index, "NOSAVE") && wish.save != Some(true) => wish.save = Some(false),
            () if args.is(index, "SAVE") && wish.save != Some(false) => wish.save = Some(true),
            () if args.is(index, "NOW") => wish.now = true,
            () if args.is(index, "FORCE") => wish.force = true,
            () if args.is(index, "ABORT") => abort = true,
            () => return Err(error::SYNTAX),
        }
    }
    let server = ctx.worker.server;
    if abort {
        if args.len() > 2 {
            return Err(error::SYNTAX);
        }
        if !server.abort_shutdown() {
            return Err(CommandError::fixed("ERR No shutdown in progress."));
        }
        ctx.reply.ok();
        return Ok(SessionFlow::Done);
    }
    let running = &ctx.worker.server.scripts.running;
    if running.is_busy() && wish.save != Some(false) {
        return Err(running.busy_error());
    }
    // Success has no reply: the connection ends with the process. Failure is answered by whoever fails.
    server.shut_down_for(ctx.session, wish);
    Ok(SessionFlow::Blocked)
}
