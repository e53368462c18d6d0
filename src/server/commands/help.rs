//! HELP of a container: what its declaration says, in the layout of Redis.

use crate::commands::error::CommandError;
use crate::resp::Args;
use crate::server::session::{SessionContext, SessionFlow};

/// Handler of every `<container> HELP`.
pub fn help(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    let Some(parent) = ctx.entry.parent.map(|id| table.entry(id)) else { return Ok(SessionFlow::Done) };
    let name = parent.spec.name.to_uppercase();
    let mut lines = vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in parent.subcommands.iter().map(|id| table.entry(*id)).filter(|sub| sub.spec.name != "help") {
        let line = format!("{} {}", sub.spec.name.to_uppercase(), sub.spec.syntax);
        lines.push(line.trim_end().to_owned());
        lines.push(format!("    {}", sub.spec.summary));
    }
    lines.extend(["HELP".to_owned(), "    Prints this help.".to_owned()]);
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.simple(line));
    Ok(SessionFlow::Done)
}
