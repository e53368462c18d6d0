//! CONFIG: reading and changing the settings of the running server.

use crate::commands::error::{self, CommandError};
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::config::Caller;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "config",
    &[
        admin("get", -3, get)
            .since("2.0.0")
            .syntax("parameter [parameter ...]")
            .summary("Answers the settings whose names match the patterns.")
            .complexity("O(N) when N is the number of configuration parameters provided"),
        admin("set", -4, set)
            .since("2.0.0")
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .syntax("parameter value [parameter value ...]")
            .summary("Changes settings, all of them or none.")
            .complexity("O(N) when N is the number of configuration parameters provided"),
        admin("rewrite", 2, rewrite)
            .since("2.8.0")
            .summary("Brings the configuration file in line with the settings of now.")
            .complexity("O(1)"),
        admin("resetstat", 2, resetstat)
            .since("2.0.0")
            .summary("Sets the statistics of INFO back to zero.")
            .complexity("O(1)"),
        super::help::help_of(Group::Server, "5.0.0"),
    ],
)
.group(Group::Server)
.since("2.0.0")
.summary("Commands on the server's configuration.")
.complexity("Depends on subcommand.")];

const fn admin(name: &'static str, arity: i32, handler: crate::server::session::SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Server).admin().noscript().loading_stale()
}

fn get(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let patterns: Vec<&[u8]> = args.from(2).iter().collect();
    let found = ctx.worker.server.config.get(&patterns);
    ctx.reply.map(found.len());
    for (name, value) in &found {
        ctx.reply.bulk(name);
        ctx.reply.bulk(value);
    }
    Ok(SessionFlow::Done)
}

fn set(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if args.len() % 2 == 1 {
        return Err(error::SYNTAX);
    }
    let words: Vec<&[u8]> = args.from(2).iter().collect();
    let pairs: Vec<(&[u8], &[u8])> =
        words.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect();
    let server = ctx.worker.server;
    let loading = server.loading.load(Ordering::Relaxed) || server.async_loading.load(Ordering::Relaxed);
    let caller = Caller { is_local: ctx.session.client.is_local(), loading };
    server.config.set(&pairs, caller).map_err(|error| error.reply())?;
    // The next command of this very batch must see the change.
    ctx.worker.renew_settings();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn rewrite(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    rewrite_file(ctx, false)
}

/// CONFIG REWRITE, and DEBUG CONFIG-REWRITE-FORCE-ALL.
pub fn rewrite_file(ctx: &mut SessionContext<'_>, force_all: bool) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    if server.config_file.is_none() {
        return Err(CommandError::fixed("ERR The server is running without a config file"));
    }
    // A later command of a transaction may change it.
    let config = server.config.current();
    ctx.unlocked(move || match server.config.rewrite(&config, force_all) {
        Ok(()) => {
            tracing::info!("CONFIG REWRITE executed with success.");
            Ok(())
        }
        Err(reason) => {
            tracing::warn!("CONFIG REWRITE failed: {reason}");
            Err(CommandError::new(format!("ERR Rewriting config file: {reason}")))
        }
    })
}

fn resetstat(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.reset_statistics();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
