//! FAILOVER: a primary hands its role to a replica that has everything, without losing a write.
//!
//! ```text
//!   primary    FAILOVER ─► writes pause ─► waiting-for-sync ─┬─ the target has all ──► failover-in-progress: follows the target,
//!                              ▲                             ├─ time up, FORCE ─────┘  PSYNC replid offset FAILOVER
//!                              │                             └─ time up ─► aborted              │ accepted: writes go on,
//!                              └───────────────────────────── rejected: primary again ◄─────────┘ to be refused (READONLY)
//!   replica    PSYNC … FAILOVER from its primary ─► promoted ─► answers as a primary
//! ```
//! Plain steps: the link to the new primary moves in `replication::replica`, which tells the answer by `conclude`.

use super::commands::client_list;
use super::config::PrimaryAddress;
use super::pause::{PauseMode, Purpose};
use super::replicas::{Failover, FailoverStage, Replica, ReplicaState};
use super::role_change;
use super::session::{SessionCommand, SessionContext, SessionFlow};
use super::state::Server;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Locked, ShardSet};
use crate::resp::Args;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("failover", -1, failover)
    .group(Group::Server)
    .since("6.2.0")
    .admin()
    .noscript()
    .flag(Flags::STALE)
    .syntax("[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]")
    .summary("Hands the role of the primary to one of its replicas.")
    .complexity("O(1)")];

fn failover(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let (server, now_ms) = (ctx.worker.server, ctx.worker.now_ms);
    if ctx.worker.config.cluster_enabled {
        return Err(CommandError::fixed("ERR FAILOVER not allowed in cluster mode."));
    }
    if args.len() == 2 && args.is(1, "abort") {
        if server.replicas.failover_stage() == FailoverStage::None {
            return Err(CommandError::fixed("ERR No failover in progress."));
        }
        abort(server, "Failover manually aborted");
        ctx.reply.ok();
        return Ok(SessionFlow::Done);
    }
    let wish = parse(args)?;
    if server.replicas.failover_stage() != FailoverStage::None {
        return Err(CommandError::fixed("ERR FAILOVER already in progress."));
    }
    if server.is_replica.load(Ordering::Acquire) {
        return Err(CommandError::fixed("ERR FAILOVER is not valid when server is a replica."));
    }
    if server.replicas.is_empty() {
        return Err(CommandError::fixed("ERR FAILOVER requires connected replicas."));
    }
    if wish.force && (wish.timeout_ms.is_none() || wish.target.is_none()) {
        return Err(CommandError::fixed(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ));
    }
    if let Some(target) = &wish.target {
        let replica =
            find(server, target).ok_or(CommandError::fixed("ERR FAILOVER target HOST and PORT is not a replica."))?;
        if replica.state() != ReplicaState::Online {
            return Err(CommandError::fixed("ERR FAILOVER target replica is not online."));
        }
    }
    let deadline_ms = wish.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms));
    begin(server, wish.target, wish.force, deadline_ms, now_ms);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

#[derive(Default)]
struct Wish {
    target: Option<(String, u16)>,
    timeout_ms: Option<i64>,
    force: bool,
}

fn parse(args: Args<'_>) -> Result<Wish, CommandError> {
    let mut wish = Wish::default();
    let mut at = 1;
    while at < args.len() {
        if args.is(at, "timeout") && at + 1 < args.len() && wish.timeout_ms.is_none() {
            let timeout_ms = parse_i64(&args[at + 1]).ok_or(error::NOT_AN_INTEGER)?;
            if timeout_ms <= 0 {
                return Err(CommandError::fixed("ERR FAILOVER timeout must be greater than 0"));
            }
            wish.timeout_ms = Some(timeout_ms);
            at += 2;
        } else if args.is(at, "to") && at + 2 < args.len() && wish.target.is_none() {
            let port = parse_i64(&args[at + 2]).ok_or(error::NOT_AN_INTEGER)?;
            // A port that cannot be is nobody's.
            wish.target = Some((String::from_utf8_lossy(&args[at + 1]).into_owned(), u16::try_from(port).unwrap_or(0)));
            at += 3;
        } else if args.is(at, "force") && !wish.force {
            wish.force = true;
            at += 1;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(wish)
}

fn find(server: &Server, (host, port): &(String, u16)) -> Option<Arc<Replica>> {
    let is_that = |replica: &Arc<Replica>| replica.announced.lock().port == *port && replica.ip() == *host;
    server.replicas.all().into_iter().find(is_that)
}

/// Stops writes until the target, or any replica, has everything.
pub fn begin(
    server: &'static Server,
    target: Option<(String, u16)>,
    force: bool,
    deadline_ms: Option<i64>,
    now_ms: i64,
) {
    *server.replicas.failover.lock() = Failover { stage: FailoverStage::WaitingForSync, target, force, deadline_ms };
    server.pause_clients(Purpose::Failover, PauseMode::Writes, i64::MAX, now_ms);
}

/// Goes on if the target has everything, or the time is up. To be called after acknowledgements and by the cron; holding no shard.
pub fn look(server: &'static Server, now_ms: i64) {
    let failover = server.replicas.failover.lock().clone();
    if failover.stage != FailoverStage::WaitingForSync {
        return;
    }
    if failover.deadline_ms.is_some_and(|deadline_ms| now_ms >= deadline_ms) {
        match failover.target {
            Some((host, port)) if failover.force => {
                tracing::info!("Failover to {host}:{port} time out exceeded, failing over.");
                return hand_over(server, (host, port));
            }
            _ => return abort(server, "Replica never caught up before timeout"),
        }
    }
    let candidate = match &failover.target {
        Some(target) => find(server, target),
        None => best(server),
    };
    let end = server.journal.end();
    if let Some(replica) = candidate.filter(|replica| replica.is_online() && replica.ack() == end) {
        let port = replica.announced.lock().port;
        tracing::info!("Failover target {} is synced, failing over.", replica.name());
        hand_over(server, failover.target.unwrap_or_else(|| (replica.ip(), port)));
    }
}

/// The online replica that is furthest.
pub fn best(server: &Server) -> Option<Arc<Replica>> {
    let online = server.replicas.all().into_iter().filter(|replica| replica.is_online());
    online.filter(|replica| replica.announced.lock().port != 0).max_by_key(|replica| replica.ack())
}

/// This server follows the target from here on, and asks it to take over. While a script is busy, the next look does it.
fn hand_over(server: &'static Server, (host, port): (String, u16)) {
    let Some(mut locked) = server.lock(ShardSet::ALL) else { return };
    {
        let mut failover = server.replicas.failover.lock();
        // Somebody else was faster, or it was aborted meanwhile.
        if failover.stage != FailoverStage::WaitingForSync {
            return;
        }
        failover.stage = FailoverStage::InProgress;
        failover.target = Some((host.clone(), port));
    }
    role_change::follow(server, &mut locked, PrimaryAddress { host, port });
}

/// How the target has answered.
pub fn conclude(server: &'static Server, accepted: bool) {
    if server.replicas.failover_stage() != FailoverStage::InProgress {
        return;
    }
    if accepted { clear(server) } else { abort(server, "Failover target rejected psync request") }
}

/// Everything stays, or becomes again, as it was.
pub fn abort(server: &'static Server, why: &str) {
    let failover = server.replicas.failover.lock().clone();
    if failover.stage == FailoverStage::None {
        return;
    }
    let stage = failover.stage.name();
    match &failover.target {
        Some((host, port)) => tracing::info!("Aborting failover to {host}:{port} while {stage}. {why}"),
        None => tracing::info!("Aborting failover while {stage}. {why}"),
    }
    if failover.stage == FailoverStage::InProgress {
        role_change::promote(server, &mut server.keyspace.lock_all());
    }
    clear(server);
}

fn clear(server: &Server) {
    *server.replicas.failover.lock() = Failover::default();
    server.unpause_clients(Purpose::Failover);
}

/// PSYNC … FAILOVER has come: the primary wants this replica to take over.
pub fn take_over(ctx: &SessionContext<'_>, all_shards: &mut Locked, replid: &[u8]) -> Result<(), CommandError> {
    let server = ctx.worker.server;
    tracing::warn!("Failover request received for replid {}.", String::from_utf8_lossy(replid));
    if !server.is_replica.load(Ordering::Acquire) {
        return Err(CommandError::fixed("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if !replid.eq_ignore_ascii_case(server.role.ids().replid.as_bytes()) {
        return Err(CommandError::fixed("ERR PSYNC FAILOVER replid must match my replid."));
    }
    role_change::promote(server, all_shards);
    let mut line = String::new();
    client_list::describe(&ctx.session.client, server.table, ctx.worker.now_ms, &mut line);
    tracing::info!("MASTER MODE enabled (failover request from '{line}')");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn options_come_in_any_order_but_once() {
        let parse = |line: &str| super::parse(OwnedArgs::new(line.split(' ').map(str::as_bytes)).as_args());
        let wish = parse("FAILOVER TIMEOUT 100 TO h 7 FORCE").expect("well formed");
        assert_eq!((wish.target, wish.timeout_ms, wish.force), (Some(("h".to_owned(), 7)), Some(100), true));
        assert_eq!(parse("FAILOVER TO h x").err(), Some(error::NOT_AN_INTEGER));
        assert_eq!(parse("FAILOVER FORCE FORCE").err(), Some(error::SYNTAX));
        assert_eq!(parse("FAILOVER TO h").err(), Some(error::SYNTAX));
        assert!(parse("FAILOVER TIMEOUT 0").is_err_and(|error| error.text().contains("must be greater than 0")));
        assert!(parse("FAILOVER").is_ok_and(|wish| wish.target.is_none()));
    }
}
