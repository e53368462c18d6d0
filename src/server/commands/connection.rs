//! PING, ECHO, SELECT, QUIT: the connection itself.

use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("ping", -1, ping)
        .group(Group::Connection)
        .fast()
        .syntax("[message]")
        .summary("Answers PONG, or the message.")
        .complexity("O(1)"),
    SessionCommand::new("echo", 2, echo)
        .group(Group::Connection)
        .fast()
        .loading_stale()
        .syntax("message")
        .summary("Answers its argument.")
        .complexity("O(1)"),
    SessionCommand::new("select", 2, select)
        .group(Group::Connection)
        .fast()
        .loading_stale()
        .syntax("index")
        .summary("Chooses the database of this connection.")
        .complexity("O(1)"),
    SessionCommand::new("quit", -1, quit)
        .group(Group::Connection)
        .fast()
        .loading_stale()
        .noscript()
        .flag(Flags::NO_AUTH)
        .flag(Flags::ALLOW_BUSY)
        .summary("Closes the connection.")
        .complexity("O(1)"),
];

fn ping(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() > 2 {
        return Err(CommandError::wrong_arity("ping"));
    }
    match args.get(1) {
        Some(message) => ctx.reply.bulk(message),
        None => ctx.reply.raw(b"+PONG\r\n"),
    }
    Ok(SessionFlow::Done)
}

fn echo(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.bulk(&args[1]);
    Ok(SessionFlow::Done)
}

fn select(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let index = args::integer(&args[1])?;
    let databases = ctx.worker.server.keyspace.databases();
    let index = usize::try_from(index).ok().filter(|index| *index < databases).ok_or(error::DB_OUT_OF_RANGE)?;
    ctx.session.db = index;
    ctx.session.client.db.store(index, Ordering::Relaxed);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn quit(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.ok();
    Ok(SessionFlow::Close)
}
