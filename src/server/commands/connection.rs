//! AUTH, HELLO, RESET, SELECT, PING, ECHO, QUIT: the connection itself.

use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::clients::flag;
use crate::server::config::REDIS_VERSION;
use crate::server::multi;
use crate::server::session::{ReplyMode, SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("auth", -2, auth)
        .group(Group::Connection)
        .fast()
        .loading_stale()
        .noscript()
        .flag(Flags::NO_AUTH)
        .flag(Flags::SENTINEL)
        .flag(Flags::ALLOW_BUSY)
        .syntax("[username] password")
        .summary("Proves who the client is.")
        .complexity("O(N) where N is the number of passwords defined for the user"),
    SessionCommand::new("hello", -1, hello)
        .group(Group::Connection)
        .since("6.0.0")
        .fast()
        .loading_stale()
        .noscript()
        .flag(Flags::NO_AUTH)
        .flag(Flags::SENTINEL)
        .flag(Flags::ALLOW_BUSY)
        .syntax("[protover [AUTH username password] [SETNAME clientname]]")
        .summary("Greets the server and chooses the version of the protocol.")
        .complexity("O(1)"),
    SessionCommand::new("reset", 1, reset)
        .group(Group::Connection)
        .since("6.2.0")
        .fast()
        .loading_stale()
        .noscript()
        .flag(Flags::NO_AUTH)
        .flag(Flags::ALLOW_BUSY)
        .summary("Puts the connection back into the state of a new one.")
        .complexity("O(1)"),
    SessionCommand::new("ping", -1, ping)
        .group(Group::Connection)
        .fast()
        .flag(Flags::SENTINEL)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
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
    SessionCommand::new("readonly", 1, readonly)
        .group(Group::Cluster)
        .since("3.0.0")
        .fast()
        .loading_stale()
        .categories(&["connection"])
        .summary("Lets a replica of a cluster answer reads on this connection.")
        .complexity("O(1)"),
    SessionCommand::new("readwrite", 1, readwrite)
        .group(Group::Cluster)
        .since("3.0.0")
        .fast()
        .loading_stale()
        .categories(&["connection"])
        .summary("Ends READONLY.")
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

fn auth(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    match args.len() {
        2 if ctx.worker.server.default_user_needs_no_password() => {
            return Err(CommandError::fixed(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        2 => ctx.worker.server.authenticate(ctx.session, b"default", &args[1], &args[0])?,
        3 => ctx.worker.server.authenticate(ctx.session, &args[1], &args[2], &args[0])?,
        _ => return Err(error::SYNTAX),
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn hello(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut version = None;
    if let Some(text) = args.get(1) {
        let number = crate::base::number::parse_i64(text);
        let number = number.ok_or(CommandError::fixed("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&number) {
            return Err(CommandError::fixed("NOPROTO unsupported protocol version"));
        }
        version = Some(number == 3);
    }
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "AUTH") && at + 2 < args.len() {
            ctx.worker.server.authenticate(ctx.session, &args[at + 1], &args[at + 2], &args[0])?;
            at += 3;
        } else if args.is(at, "SETNAME") && at + 1 < args.len() {
            name = Some(client_word(&args[at + 1], "Client names")?);
            at += 2;
        } else {
            return Err(CommandError::joined(&[b"ERR Syntax error in HELLO option '", &args[at], b"'"]));
        }
    }
    if !ctx.session.authenticated {
        return Err(CommandError::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        ctx.session.client.texts.lock().name = name;
    }
    if let Some(resp3) = version {
        ctx.session.set_resp3(resp3);
        ctx.reply.set_resp3(resp3);
    }
    greet(ctx);
    Ok(SessionFlow::Done)
}

fn greet(ctx: &mut SessionContext<'_>) {
    let config = &ctx.worker.config;
    let (mode, has_role) = (config.mode(), !config.is_sentinel);
    let role = if ctx.worker.server.is_replica.load(Ordering::Relaxed) { "replica" } else { "master" };
    let reply = &mut ctx.reply;
    reply.map(6 + usize::from(has_role));
    for (name, text) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if ctx.session.resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(ctx.session.client.id as i64);
    for (name, text) in [("mode", mode), ("role", role)].into_iter().take(1 + usize::from(has_role)) {
        reply.bulk(name.as_bytes());
        reply.bulk(text.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
}

/// A name that CLIENT LIST can show; an empty one is allowed and means none.
pub fn client_word(word: &[u8], what: &str) -> Result<String, CommandError> {
    if word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(String::from_utf8_lossy(word).into_owned());
    }
    Err(CommandError::new(format!("ERR {what} cannot contain spaces, newlines or special characters.")))
}

fn reset(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let client = std::sync::Arc::clone(&ctx.session.client);
    if client.has(flag::REPLICA | flag::PRIMARY) {
        return Err(CommandError::fixed("ERR can only reset normal client connections"));
    }
    multi::end(ctx.worker, ctx.session);
    ctx.session.stop_tracking(ctx.worker.server);
    ctx.session.unsubscribe_all(ctx.worker.server);
    ctx.worker.server.remove_monitor(&client);
    ctx.session.note_pushes();
    ctx.session.select(0);
    ctx.session.set_resp3(false);
    ctx.reply.set_resp3(false);
    ctx.session.reply_mode = ReplyMode::On;
    client.set(flag::READONLY | flag::NO_EVICT | flag::NO_TOUCH, false);
    client.texts.lock().name.clear();
    ctx.worker.server.become_default_user(ctx.session);
    ctx.reply.simple("RESET");
    Ok(SessionFlow::Done)
}

fn ping(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() > 2 {
        return Err(CommandError::wrong_arity("ping"));
    }
    match args.get(1) {
        message if ctx.session.is_resp2_subscriber() => {
            ctx.reply.array(2);
            ctx.reply.bulk(b"pong");
            ctx.reply.bulk(message.unwrap_or_default());
        }
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
    let index = args::int(&args[1])?;
    if ctx.worker.config.cluster_enabled && index != 0 {
        return Err(CommandError::fixed("ERR SELECT is not allowed in cluster mode"));
    }
    let databases = ctx.worker.server.keyspace.databases();
    let index = usize::try_from(index).ok().filter(|index| *index < databases).ok_or(error::DB_OUT_OF_RANGE)?;
    ctx.session.select(index);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn readonly(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    set_readonly(ctx, true)
}

fn readwrite(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    set_readonly(ctx, false)
}

fn set_readonly(ctx: &mut SessionContext<'_>, on: bool) -> Result<SessionFlow, CommandError> {
    if !ctx.worker.config.cluster_enabled {
        return Err(CommandError::fixed("ERR This instance has cluster support disabled"));
    }
    ctx.session.client.set(flag::READONLY, on);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn quit(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.ok();
    Ok(SessionFlow::Close)
}
