//! COMMAND DOCS: what a command is for, made from its declaration.

use crate::commands::error::CommandError;
use crate::commands::syntax::{self, Argument};
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
    let arguments = syntax::parse(spec.syntax);
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        let mut key_specs = 0;
        write_arguments(&arguments, &mut key_specs, reply);
        pairs += 1;
    }
    if !entry.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(entry.subcommands.len());
        entry.subcommands.iter().for_each(|id| write_docs(table, table.entry(*id), reply));
        pairs += 1;
    }
    reply.end_map(mark, pairs);
}

/// Keys refer to the key specifications in their order.
fn write_arguments(arguments: &[Argument], key_specs: &mut i64, reply: &mut Reply) {
    reply.array(arguments.len());
    for argument in arguments {
        let mark = reply.begin();
        let mut pairs = 2;
        reply.bulk(b"name");
        reply.bulk(argument.name.as_bytes());
        reply.bulk(b"type");
        reply.bulk(argument.kind.as_bytes());
        if argument.kind == "key" {
            reply.bulk(b"key_spec_index");
            reply.integer(*key_specs);
            *key_specs += 1;
            pairs += 1;
        }
        if let Some(token) = &argument.token {
            reply.bulk(b"token");
            reply.bulk(token.as_bytes());
            pairs += 1;
        }
        let flags = [
            (argument.optional, "optional"),
            (argument.multiple, "multiple"),
            (argument.multiple_token, "multiple_token"),
        ];
        let flags: Vec<&str> = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
        if !flags.is_empty() {
            reply.bulk(b"flags");
            reply.set(flags.len());
            flags.iter().for_each(|flag| reply.simple(flag));
            pairs += 1;
        }
        if !argument.parts.is_empty() {
            reply.bulk(b"arguments");
            write_arguments(&argument.parts, key_specs, reply);
            pairs += 1;
        }
        reply.end_map(mark, pairs);
    }
}
