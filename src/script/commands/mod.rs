//! EVAL, SCRIPT, FCALL, FUNCTION: by subject, and what they share.

mod cache;
mod eval;
mod library;

use crate::commands::error::{CommandError, CommandResult};
use crate::resp::Args;
use crate::server::scripts::{self, NotKilled};
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

/// Every command of this room.
pub const FAMILIES: &[&[SessionCommand]] = &[eval::COMMANDS, cache::COMMANDS, library::COMMANDS];

type Flow = Result<SessionFlow, CommandError>;

fn sync_or_async(args: Args<'_>, command: &str) -> CommandResult<()> {
    match args.len() {
        2 => Ok(()),
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => Ok(()),
        _ => Err(CommandError::new(format!("ERR {command} SYNC|ASYNC option"))),
    }
}

fn kill(ctx: &mut SessionContext<'_>, functions: bool) -> Flow {
    ctx.worker.server.scripts.running.request_kill(functions).map_err(|reason| match reason {
        NotKilled::NotBusy => CommandError::fixed("NOTBUSY No scripts in execution right now."),
        NotKilled::OtherKind => scripts::busy_error(!functions),
        NotKilled::FromPrimary => CommandError::fixed(
            "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed.",
        ),
        NotKilled::Unkillable => CommandError::fixed(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script \
             termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ),
    })?;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn help(ctx: &mut SessionContext<'_>, lines: &[&str]) -> Flow {
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.simple(line));
    Ok(SessionFlow::Done)
}
