//! MODULE: there are none, and none can be loaded. They are libraries that need the inside of Redis.

use super::help::help_of;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "module",
    &[
        help_of(Group::Server, "5.0.0"),
        SessionCommand::new("list", 2, list)
            .group(Group::Server)
            .since("4.0.0")
            .admin()
            .noscript()
            .tips(&["nondeterministic_output_order"])
            .summary("Lists the modules: none.")
            .complexity("O(1)"),
        loading("load", -3, "4.0.0").syntax("path [arg [arg ...]]").summary("Refused: no module can be loaded."),
        loading("loadex", -3, "7.0.0")
            .syntax("path [CONFIG name value [CONFIG name value ...]] [ARGS arg [arg ...]]")
            .summary("Refused: no module can be loaded."),
        SessionCommand::new("unload", 3, unload)
            .group(Group::Server)
            .since("4.0.0")
            .admin()
            .noscript()
            .flag(Flags::NO_ASYNC_LOADING)
            .syntax("name")
            .summary("Refused: no module is loaded.")
            .complexity("O(1)"),
    ],
)
.group(Group::Server)
.since("4.0.0")
.summary("A container for commands on modules.")
.complexity("Depends on the subcommand.")];

const fn loading(name: &'static str, arity: i32, since: &'static str) -> SessionCommand {
    SessionCommand::new(name, arity, load)
        .group(Group::Server)
        .since(since)
        .admin()
        .noscript()
        .flag(Flags::NO_ASYNC_LOADING)
        .complexity("O(1)")
}

fn list(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.array(0);
    Ok(SessionFlow::Done)
}

fn load(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    check_allowed(ctx)?;
    tracing::warn!("Module {} failed to load: this server has no modules", String::from_utf8_lossy(&args[2]));
    Err(CommandError::fixed("ERR Error loading the extension. Please check the server logs."))
}

fn unload(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    check_allowed(ctx)?;
    Err(CommandError::fixed("ERR Error unloading module: no such module with that name"))
}

fn check_allowed(ctx: &SessionContext<'_>) -> Result<(), CommandError> {
    if ctx.worker.config.enable_module_command.allows(ctx.session.client.is_local()) {
        return Ok(());
    }
    Err(CommandError::fixed(
        "ERR MODULE command not allowed. If the enable-module-command option is set to \"local\", you can run it from a \
         local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}
