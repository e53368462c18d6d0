//! DEBUG: what tests and the curious ask of a server. Other rooms add subcommands of theirs (RELOAD, LOADAOF); `boot` puts
//! the lists together.

mod crash;
mod keys;
mod protocol;
mod settings;

use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::help;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("debug", -2, debug)
    .group(Group::Server)
    .admin()
    .noscript()
    .loading_stale()
    .flag(Flags::PROTECTED)
    .flag(Flags::ALL_SHARDS)
    .syntax("subcommand [arg [arg ...]]")
    .summary("A container for debugging commands.")
    .complexity("Depends on subcommand.")];

/// A subcommand of DEBUG. They are not subcommands in COMMAND's sense: statistics and ACL know only DEBUG, as in Redis.
pub struct DebugCommand {
    pub name: &'static str,
    /// Arguments behind the subcommand, at least and at most.
    pub args: (usize, usize),
    pub syntax: &'static str,
    pub summary: &'static str,
    pub handler: SessionHandler,
}

impl DebugCommand {
    pub const fn new(
        name: &'static str,
        args: (usize, usize),
        syntax: &'static str,
        summary: &'static str,
        handler: SessionHandler,
    ) -> Self {
        DebugCommand { name, args, syntax, summary, handler }
    }
}

/// This room's subcommands.
pub const SUBCOMMANDS: &[&[DebugCommand]] =
    &[keys::SUBCOMMANDS, settings::SUBCOMMANDS, protocol::SUBCOMMANDS, crash::SUBCOMMANDS];

/// Arguments without a limit.
pub const ANY: usize = usize::MAX;

/// It runs with every shard locked: it looks at the data set as a whole, or must stop everybody.
fn debug(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if !ctx.worker.config.enable_debug_command.allows(ctx.session.client.is_local()) {
        return Err(CommandError::fixed(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a \
             local connection, otherwise you need to set this option in the configuration file, and then restart the \
             server.",
        ));
    }
    if args.is(1, "HELP") && args.len() == 2 {
        return show_help(ctx);
    }
    let server = ctx.worker.server;
    let is_it = |command: &&'static DebugCommand| {
        args.is(1, command.name) && (command.args.0..=command.args.1).contains(&(args.len() - 2))
    };
    let found = server.debug_commands().find(is_it);
    match found {
        Some(command) => (command.handler)(ctx, args),
        None => Err(CommandError::unknown_subcommand_arity(b"debug", &args[1])),
    }
}

fn show_help(ctx: &mut SessionContext<'_>) -> Result<SessionFlow, CommandError> {
    let mut lines = vec!["DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:".to_owned()];
    for command in ctx.worker.server.debug_commands() {
        lines.push(help::usage(command.name, command.syntax));
        lines.push(format!("    {}", command.summary));
    }
    lines.extend(["HELP".to_owned(), "    Prints this help.".to_owned()]);
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.simple(line));
    Ok(SessionFlow::Done)
}

/// `0` or `1`.
pub fn switch(args: Args<'_>, index: usize) -> Result<bool, CommandError> {
    Ok(crate::commands::args::integer(&args[index])? != 0)
}
