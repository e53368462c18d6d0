//! DEBUG's subcommands on the cluster: tests break links and lose messages with them.

use super::bus::{Bus, bus};
use crate::commands::args;
use crate::commands::error::CommandError;
use crate::resp::Args;
use crate::server::commands::debug::DebugCommand;
use crate::server::session::{SessionContext, SessionFlow};

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new(
        "DROP-CLUSTER-PACKET-FILTER",
        (1, 1),
        "<packet-type>",
        "Ignores messages of the bus of this type; -1 for none.",
        drop_packets,
    ),
    DebugCommand::new(
        "CLUSTERLINK",
        (3, 3),
        "KILL <to|from|all> <node-id>",
        "Closes links of the bus to or from a node.",
        kill_links,
    ),
];

fn node() -> Result<&'static Bus, CommandError> {
    bus().ok_or(CommandError::fixed("ERR Debug option only available for cluster mode enabled setup!"))
}

fn drop_packets(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let kind = args::int(&args[2])?;
    if let Some(bus) = bus() {
        bus.look(|machine| machine.ignore(usize::try_from(kind).ok()));
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn kill_links(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let bus = node()?;
    if !args.is(2, "kill") {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let (to, from) = (args.is(3, "to") || args.is(3, "all"), args.is(3, "from") || args.is(3, "all"));
    if !to && !from {
        return Err(CommandError::new(format!("ERR Unknown direction {}", String::from_utf8_lossy(&args[3]))));
    }
    let is_known = bus.input(|machine| {
        let id = machine.find_text(&args[4]);
        id.map(|id| machine.close_links(id, to, from)).is_some()
    });
    if !is_known {
        return Err(CommandError::new(format!("ERR Unknown node {}", String::from_utf8_lossy(&args[4]))));
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
