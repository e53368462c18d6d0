//! REPLICAOF, SLAVEOF, ROLE: whom this server follows.

use super::client_list;
use super::keyspace::all;
use crate::base::number::parse_i64;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::clients::flag;
use crate::server::config::PrimaryAddress;
use crate::server::replicas::FailoverStage;
use crate::server::role::LinkState;
use crate::server::role_change;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::new("replicaof", 3, replicaof)
        .group(Group::Server)
        .since("5.0.0")
        .admin()
        .noscript()
        .flag(Flags::STALE)
        .flag(Flags::NO_ASYNC_LOADING)
        .flag(Flags::ALL_SHARDS)
        .syntax("host port")
        .summary("Makes this server a replica of another, or with NO ONE a primary.")
        .complexity("O(1)"),
    SessionCommand::new("slaveof", 3, replicaof)
        .group(Group::Server)
        .since("1.0.0")
        .admin()
        .noscript()
        .flag(Flags::STALE)
        .flag(Flags::NO_ASYNC_LOADING)
        .flag(Flags::ALL_SHARDS)
        .syntax("host port")
        .summary("Makes this server a replica of another, or with NO ONE a primary.")
        .complexity("O(1)"),
    SessionCommand::new("role", 1, role)
        .group(Group::Server)
        .since("2.8.12")
        .noscript()
        .fast()
        .loading_stale()
        .flag(Flags::SENTINEL)
        .categories(&["admin", "dangerous"])
        .summary("Tells whether this server is a primary or a replica, and of whom.")
        .complexity("O(1)"),
];

fn replicaof(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    if ctx.worker.config.cluster_enabled {
        return Err(CommandError::fixed("ERR REPLICAOF not allowed in cluster mode."));
    }
    let server = ctx.worker.server;
    if server.replicas.failover_stage() != FailoverStage::None {
        return Err(CommandError::fixed("ERR REPLICAOF not allowed while failing over."));
    }
    if args.is(1, "no") && args.is(2, "one") {
        if server.is_replica.load(Ordering::Acquire) {
            role_change::promote(server, all(&mut ctx.locked)?);
            tracing::info!("MASTER MODE enabled (user request from '{}')", describe(ctx));
        }
    } else {
        if ctx.session.client.has(flag::REPLICA) {
            return Err(CommandError::fixed("ERR Command is not valid when client is a replica."));
        }
        let port = parse_i64(&args[2]).and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or(CommandError::fixed("ERR Invalid master port"))?;
        let host = String::from_utf8_lossy(&args[1]).into_owned();
        if let Some(known) = server.role.primary()
            && known.port == port
            && known.host.eq_ignore_ascii_case(&host)
        {
            tracing::info!(
                "REPLICAOF would result into synchronization with the master we are already connected with. No operation \
                 performed."
            );
            ctx.reply.simple("OK Already connected to specified master");
            return Ok(SessionFlow::Done);
        }
        role_change::follow(server, all(&mut ctx.locked)?, PrimaryAddress { host: host.clone(), port });
        tracing::info!("REPLICAOF {host}:{port} enabled (user request from '{}')", describe(ctx));
    }
    // The rest of this batch comes under the new role.
    ctx.worker.renew_settings();
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// The client as CLIENT LIST shows it.
fn describe(ctx: &SessionContext<'_>) -> String {
    let mut text = String::new();
    client_list::describe(&ctx.session.client, ctx.worker.server.table, ctx.worker.now_ms, &mut text);
    text
}

fn role(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let link = server.role.link_as_seen();
    match link.primary {
        None => {
            ctx.reply.array(3);
            ctx.reply.bulk(b"master");
            ctx.reply.integer(server.journal.end() as i64);
            let replicas = server.replicas.all();
            let online: Vec<_> = replicas.iter().filter(|replica| replica.is_online()).collect();
            ctx.reply.array(online.len());
            for replica in online {
                ctx.reply.array(3);
                ctx.reply.bulk(replica.ip().as_bytes());
                ctx.reply.bulk(replica.announced.lock().port.to_string().as_bytes());
                ctx.reply.bulk(replica.ack().to_string().as_bytes());
            }
        }
        Some(primary) => {
            ctx.reply.array(5);
            ctx.reply.bulk(b"slave");
            ctx.reply.bulk(primary.host.as_bytes());
            ctx.reply.integer(i64::from(primary.port));
            ctx.reply.bulk(link.state.name().as_bytes());
            let offset = if link.state == LinkState::Connected { server.journal.end() as i64 } else { -1 };
            ctx.reply.integer(offset);
        }
    }
    Ok(SessionFlow::Done)
}
