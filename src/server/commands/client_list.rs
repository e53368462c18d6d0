//! CLIENT LIST and CLIENT INFO: a line for each client.

use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::server::clients::{Client, Kind, flag};
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::table::CommandTable;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub fn info(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let client = Arc::clone(&ctx.session.client);
    answer(ctx, &[client]);
    Ok(SessionFlow::Done)
}

pub fn list(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    // Whoever is over the limit by what is shown below is not shown any more.
    server.recount_clients(&ctx.worker.config);
    let clients = if args.len() == 2 {
        server.clients.all()
    } else if args.len() == 4 && args.is(2, "TYPE") {
        let kind = kind_named(&args[3])?;
        server.clients.all().into_iter().filter(|client| client.kind() == kind).collect()
    } else if args.len() > 3 && args.is(2, "ID") {
        let mut found = Vec::new();
        for id in args.from(3).iter() {
            let id = parse_i64(id).ok_or(CommandError::fixed("ERR Invalid client ID"))?;
            found.extend(u64::try_from(id).ok().and_then(|id| server.clients.find(id)));
        }
        found
    } else {
        return Err(error::SYNTAX);
    };
    answer(ctx, &clients);
    Ok(SessionFlow::Done)
}

/// The clients of a type, by the name that TYPE takes.
pub fn kind_named(name: &[u8]) -> Result<Kind, CommandError> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"slave" | b"replica" => Ok(Kind::Replica),
        b"pubsub" => Ok(Kind::PubSub),
        b"master" => Ok(Kind::Primary),
        _ => Err(CommandError::joined(&[b"ERR Unknown client type '", name, b"'"])),
    }
}

fn answer(ctx: &mut SessionContext<'_>, clients: &[Arc<Client>]) {
    let mut text = String::with_capacity(clients.len() * 400);
    for client in clients {
        describe(client, ctx.worker.server.table, ctx.worker.now_ms, &mut text);
        text.push('\n');
    }
    ctx.reply.verbatim("txt", text.as_bytes());
}

/// Tools take the fields by name, or by the place that they had in Redis 7.0: so those of 7.0 come first and in its order, then
/// what came later: `lib-name` and `lib-ver` (7.2), `watch` (7.4), and `io-thread` (8), the worker that serves the client.
pub fn describe(client: &Client, table: &CommandTable, now_ms: i64, text: &mut String) {
    let load = |figure: &std::sync::atomic::AtomicUsize| figure.load(Ordering::Relaxed);
    let texts = client.texts.lock().clone();
    let output = client.output();
    let idle = (now_ms - client.last_interaction_ms.load(Ordering::Relaxed)).max(0) / 1000;
    let command = match load(&client.last_command) {
        0 => "NULL",
        id => &table.entry(id - 1).full_name,
    };
    let has_output = output.fixed + output.listed > 0;
    // A String takes whatever is written.
    let _ = write!(
        text,
        "id={} addr={} laddr={} fd={} name={} age={} idle={idle} flags={} db={} sub={} psub={} ssub={} multi={} \
         qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} \
         cmd={command} user={} redir={} resp={} lib-name={} lib-ver={} watch={} io-thread={}",
        client.id,
        client.addr,
        client.laddr,
        client.fd,
        texts.name,
        (now_ms - client.created_ms).max(0) / 1000,
        flag_letters(client),
        load(&client.db),
        load(&client.channels),
        load(&client.patterns),
        load(&client.shard_channels),
        client.multi.load(Ordering::Relaxed),
        load(&client.query_bytes),
        load(&client.query_free),
        load(&client.argument_bytes),
        load(&client.multi_bytes),
        output.capacity,
        output.peak,
        output.fixed,
        output.chunks,
        output.listed,
        client.memory(),
        if has_output { "rw" } else { "r" },
        texts.user,
        client.redirect.load(Ordering::Relaxed),
        client.resp.load(Ordering::Relaxed),
        texts.lib_name,
        texts.lib_ver,
        load(&client.watched),
        load(&client.worker),
    );
}

fn flag_letters(client: &Client) -> String {
    let mut letters = String::new();
    if client.has(flag::REPLICA) {
        letters.push('S');
    } else if client.has(flag::MONITOR) {
        letters.push('O');
    }
    let known = [
        (flag::PRIMARY, 'M'),
        (flag::PUBSUB, 'P'),
        (flag::MULTI, 'x'),
        (flag::BLOCKED, 'b'),
        (flag::TRACKING, 't'),
        (flag::TRACKING_BROKEN, 'R'),
        (flag::TRACKING_BCAST, 'B'),
        (flag::DIRTY_CAS, 'd'),
        (flag::CLOSE_AFTER_REPLY, 'c'),
        (flag::UNIX_SOCKET, 'U'),
        (flag::READONLY, 'r'),
        (flag::NO_EVICT, 'e'),
        (flag::NO_TOUCH, 'T'),
    ];
    letters.extend(known.iter().filter(|(flag, _)| client.has(*flag)).map(|(_, letter)| *letter));
    if letters.is_empty() {
        letters.push('N');
    }
    letters
}
