//! CLIENT PAUSE and UNPAUSE.

use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::server::pause::{PauseMode, Purpose};
use crate::server::session::{SessionContext, SessionFlow};

pub fn pause(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() > 4 {
        return Err(CommandError::wrong_arity("client|pause"));
    }
    let mode = if args.len() == 3 || args.is(3, "ALL") {
        PauseMode::All
    } else if args.is(3, "WRITE") {
        PauseMode::Writes
    } else {
        return Err(CommandError::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL"));
    };
    let timeout = args::integer_in(&args[2], i64::MIN..=i64::MAX, error::TIMEOUT_NOT_AN_INTEGER)?;
    if timeout < 0 {
        return Err(error::TIMEOUT_NEGATIVE);
    }
    let now_ms = ctx.worker.now_ms;
    let until_ms = now_ms.checked_add(timeout).ok_or(error::TIMEOUT_OUT_OF_RANGE)?;
    ctx.worker.server.pause_clients(Purpose::Command, mode, until_ms, now_ms);
    ctx.worker.renew_settings();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

pub fn unpause(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.unpause_clients(Purpose::Command);
    ctx.worker.renew_settings();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
