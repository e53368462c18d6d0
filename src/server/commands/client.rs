//! CLIENT: what a connection is called, how it is answered, who else is there.

use super::client_kill::kill;
use super::client_list::{info, list};
use super::client_pause::{pause, unpause};
use super::client_tracking::{caching, getredir, tracking, trackinginfo};
use super::connection::client_word;
use super::help::help;
use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::blocking::{self, Release};
use crate::server::clients::flag;
use crate::server::session::{ReplyMode, SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container("client", SUBCOMMANDS)
    .group(Group::Connection)
    .categories(&["-connection"])
    .since("2.4.0")
    .flag(Flags::SENTINEL)
    .summary("A container for commands on client connections.")
    .complexity("Depends on subcommand.")];

const fn sub(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler)
        .group(Group::Connection)
        .loading_stale()
        .flag(Flags::SENTINEL)
        .complexity("O(1)")
}

const SUBCOMMANDS: &[SessionCommand] = &[
    sub("caching", 3, caching)
        .since("6.0.0")
        .noscript()
        .syntax("<YES | NO>")
        .summary("Chooses whether the keys of the next command are tracked."),
    sub("getredir", 2, getredir)
        .since("6.0.0")
        .noscript()
        .summary("Answers the id of the client that gets the invalidations of this one."),
    sub("getname", 2, getname).since("2.6.9").noscript().summary("Answers the name of the connection."),
    sub("help", 2, help).since("5.0.0").summary("Explains the subcommands."),
    sub("id", 2, id).since("5.0.0").noscript().summary("Answers the id of the connection, which is never used again."),
    sub("info", 2, info)
        .since("6.2.0")
        .noscript()
        .tips(&["nondeterministic_output"])
        .summary("Describes this connection."),
    sub("kill", -3, kill)
        .since("2.4.0")
        .admin()
        .noscript()
        .syntax(
            "<ip:port | [ID client-id] [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] [USER username] [ADDR ip:port] \
             [LADDR ip:port] [SKIPME <YES | NO>] [MAXAGE maxage]>",
        )
        .summary("Closes the connections that match every filter.")
        .complexity("O(N) where N is the number of client connections"),
    sub("list", -2, list)
        .flag(Flags::TELLS_OF_ALL)
        .since("2.4.0")
        .admin()
        .noscript()
        .tips(&["nondeterministic_output"])
        .syntax("[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]")
        .summary("Describes the connected clients, one a line.")
        .complexity("O(N) where N is the number of client connections"),
    sub("no-evict", 3, no_evict)
        .since("7.0.0")
        .admin()
        .noscript()
        .syntax("<ON | OFF>")
        .summary("Protects this connection from client eviction."),
    sub("no-touch", 3, no_touch)
        .since("7.2.0")
        .noscript()
        .syntax("<ON | OFF>")
        .summary("Leaves the access times of keys alone when this connection reads them."),
    sub("pause", -3, pause)
        .since("2.9.50")
        .admin()
        .noscript()
        // Whoever takes locks after it sees the pause; whoever had them is done.
        .flag(Flags::ALL_SHARDS)
        .syntax("timeout [WRITE | ALL]")
        .summary("Makes commands of clients wait, all or only those that write."),
    sub("reply", 3, reply)
        .since("3.2.0")
        .noscript()
        .syntax("<ON | OFF | SKIP>")
        .summary("Chooses whether this connection is answered."),
    sub("setinfo", 4, setinfo)
        .since("7.2.0")
        .noscript()
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .syntax("<LIB-NAME libname | LIB-VER libver>")
        .summary("Notes the name or the version of the client library."),
    sub("setname", 3, setname)
        .since("2.6.9")
        .noscript()
        .syntax("connection-name")
        .summary("Gives the connection a name."),
    sub("tracking", -3, tracking)
        .since("6.0.0")
        .noscript()
        .syntax(
            "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        )
        .summary("Tells the connection which keys to drop from its cache.")
        .complexity("O(1). Some options may introduce additional complexity."),
    sub("trackinginfo", 2, trackinginfo)
        .since("6.2.0")
        .noscript()
        .summary("Describes how this connection is told about its cache."),
    sub("unblock", -3, unblock)
        .since("5.0.0")
        .admin()
        .noscript()
        .syntax("client-id [TIMEOUT | ERROR]")
        .summary("Ends the wait of a client in a blocking command.")
        .complexity("O(log N) where N is the number of client connections"),
    sub("unpause", 2, unpause)
        .since("6.2.0")
        .admin()
        .noscript()
        .summary("Ends CLIENT PAUSE.")
        .complexity("O(N) Where N is the number of paused clients"),
];

fn id(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.integer(ctx.session.client.id as i64);
    Ok(SessionFlow::Done)
}

fn getname(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let texts = ctx.session.client.texts.lock();
    if texts.name.is_empty() {
        ctx.reply.null();
    } else {
        ctx.reply.bulk(texts.name.as_bytes());
    }
    Ok(SessionFlow::Done)
}

fn setname(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let name = client_word(&args[2], "Client names")?;
    ctx.session.client.texts.lock().name = name;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn setinfo(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let is_name = args.is(2, "LIB-NAME");
    if !is_name && !args.is(2, "LIB-VER") {
        return Err(CommandError::joined(&[b"ERR Unrecognized option '", &args[2], b"'"]));
    }
    let word = client_word(&args[3], if is_name { "lib-name" } else { "lib-ver" })?;
    let mut texts = ctx.session.client.texts.lock();
    *(if is_name { &mut texts.lib_name } else { &mut texts.lib_ver }) = word;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn reply(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mode = &mut ctx.session.reply_mode;
    if args.is(2, "ON") {
        *mode = ReplyMode::On;
        ctx.reply.ok();
    } else if args.is(2, "OFF") {
        *mode = ReplyMode::Off;
    } else if args.is(2, "SKIP") {
        if *mode != ReplyMode::Off {
            *mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(error::SYNTAX);
    }
    Ok(SessionFlow::Done)
}

fn no_evict(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    switch(ctx, args, flag::NO_EVICT)
}

fn no_touch(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    switch(ctx, args, flag::NO_TOUCH)
}

fn switch(ctx: &mut SessionContext<'_>, args: Args<'_>, flag: u32) -> Result<SessionFlow, CommandError> {
    if !args.is(2, "ON") && !args.is(2, "OFF") {
        return Err(error::SYNTAX);
    }
    ctx.session.client.set(flag, args.is(2, "ON"));
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn unblock(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() > 4 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let how = if args.len() == 3 || args.is(3, "TIMEOUT") {
        Release::Timeout
    } else if args.is(3, "ERROR") {
        Release::Error
    } else {
        return Err(CommandError::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    };
    let server = ctx.worker.server;
    let id = args::integer(&args[2])?;
    let client = u64::try_from(id).ok().and_then(|id| server.clients.find(id));
    let ticket = client.and_then(|client| client.waiting.lock().clone());
    let held = ctx.locked.as_deref_mut();
    let released = ticket.is_some_and(|ticket| blocking::release_from(ctx.worker, held, &ticket, how));
    ctx.reply.integer(i64::from(released));
    Ok(SessionFlow::Done)
}
