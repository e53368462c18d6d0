//! COMMAND DOCS: what a command is for, made from its declaration.

use crate::commands::error::CommandError;
use crate::resp::{Args, Reply};
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::table::{CommandTable, Entry};

pub fn docs(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let table = ctx.worker.server.table;
    let entries: Vec<&Entry> = if args.len() == 2 {
        table.top_level().collect()
    } else {
        args.from(2).iter().filter_map(|name| table.find_full(name)).collect()
    };
    ctx.reply.map(entries.len());
    entries.iter().for_each(|entry| write_docs(table, entry, ctx.reply));
    Ok(SessionFlow::Done)
}

fn write_docs(table: &CommandTable, entry: &Entry, reply: &mut Reply) {
    let spec = &entry.spec;
    reply.bulk(entry.full_name.as_bytes());
    let mark = reply.begin();
    let mut pairs = 0;
    for (name, text) in [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group.name()),
        ("complexity", spec.complexity),
    ] {
        if !text.is_empty() {
            reply.bulk(name.as_bytes());
            reply.bulk(text.as_bytes());
            pairs += 1;
        }
    }
    if !entry.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        entry.subcommands.iter().for_each(|id| write_docs(table, table.entry(*id), reply));
        pairs += 1;
    }
    reply.end_map(mark, pairs);
}
