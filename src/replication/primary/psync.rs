//! May a replica continue where it is? The answer to PSYNC, and to SYNC, which never may.

use super::link::{Link, Stage};
use super::{full_sync, primary};
use crate::server::Server;
use crate::server::clients::flag;
use crate::server::replicas::{Replica, ReplicaState};
use crate::server::role::ReplicationIds;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a replica asks for: the history it knows, and the number of the next byte it wants (the first is 1).
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub replid: &'a str,
    pub offset: i64,
}

/// Why a replica cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It asks for a full sync.
    Wished,
    OtherHistory,
    /// It knows the history before the last promotion, but went further in it.
    BeyondSecond,
}

/// Whether the history is the same up to where the replica is.
pub fn compare(request: Request<'_>, ids: &ReplicationIds) -> Result<(), Refusal> {
    let is_second = request.replid.eq_ignore_ascii_case(&ids.replid2);
    if request.replid.eq_ignore_ascii_case(&ids.replid) || (is_second && request.offset <= ids.second_offset) {
        Ok(())
    } else if request.replid.starts_with('?') {
        Err(Refusal::Wished)
    } else if is_second {
        Err(Refusal::BeyondSecond)
    } else {
        Err(Refusal::OtherHistory)
    }
}

/// Goes on where the replica is, if that is possible.
pub fn try_continue(server: &'static Server, replica: &Arc<Replica>, request: Request<'_>, now_ms: i64) -> bool {
    forget_the_killed(server);
    let ids = server.role.ids();
    let name = replica.name();
    if let Err(refusal) = compare(request, &ids) {
        match refusal {
            Refusal::Wished => tracing::info!("Full resync requested by replica {name}"),
            Refusal::OtherHistory => tracing::info!(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication \
                 IDs are '{}' and '{}')",
                request.replid,
                ids.replid,
                ids.replid2
            ),
            Refusal::BeyondSecond => tracing::info!(
                "Partial resynchronization not accepted: Requested offset for second ID was {}, but I can reply up to {}",
                request.offset,
                ids.second_offset
            ),
        }
        return false;
    }
    let link = Link::new(Arc::clone(replica), false, Stage::Stream);
    let resumed = u64::try_from(request.offset - 1).ok().filter(|cursor| {
        // Nobody may change the history between the comparison and this; it changes under all locks.
        server.journal.resume_reader(&replica.reader, *cursor).is_ok() || primary().spill.resume(server, &link, *cursor)
    });
    let Some(cursor) = resumed else {
        tracing::info!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {}).",
            request.offset
        );
        if request.offset > server.journal.end() as i64 {
            tracing::warn!(
                "Warning: replica {name} tried to PSYNC with an offset that is greater than the master replication offset."
            );
        }
        return false;
    };
    let continues = if replica.announced.lock().capa_psync2 {
        format!("+CONTINUE {}\r\n", ids.replid)
    } else {
        "+CONTINUE\r\n".to_owned()
    };
    link.lock().control = continues.into_bytes();
    replica.set_state(ReplicaState::Online);
    replica.ack_ms.store(now_ms, Ordering::Relaxed);
    register(server, &link);
    tracing::info!(
        "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog starting from offset {}.",
        server.journal.end() - cursor,
        request.offset
    );
    server.refresh_good_replicas(now_ms);
    true
}

/// A replica that was sent away hears it at once and may be back before its old connection has let go of what was kept for it. It is
/// to find what the settings keep, not more or less by chance.
fn forget_the_killed(server: &Server) {
    for replica in server.replicas.leaving() {
        server.journal.remove_reader(&replica.reader);
    }
}

/// Puts a replica in line for a snapshot.
pub fn sync_in_full(server: &'static Server, replica: &Arc<Replica>, is_old: bool, now_ms: i64) {
    let link = Link::new(Arc::clone(replica), is_old, Stage::Waiting);
    replica.set_state(ReplicaState::Waiting);
    register(server, &link);
    full_sync::enqueue(server, link, now_ms);
}

fn register(server: &'static Server, link: &Arc<Link>) {
    primary().links.add(link);
    primary().spill.welcome(&link.replica);
    server.replicas.add(Arc::clone(&link.replica));
    link.replica.client.set(flag::REPLICA, true);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_history_counts_up_to_the_promotion() {
        let ids = ReplicationIds { replid: "a".repeat(40), replid2: "b".repeat(40), second_offset: 100 };
        let ask = |replid: &str, offset| compare(Request { replid, offset }, &ids);
        assert_eq!(ask(&"a".repeat(40), 999), Ok(()));
        assert_eq!(ask(&"A".repeat(40), 999), Ok(()));
        assert_eq!(ask(&"b".repeat(40), 100), Ok(()));
        assert_eq!(ask(&"b".repeat(40), 101), Err(Refusal::BeyondSecond));
        assert_eq!(ask(&"c".repeat(40), 1), Err(Refusal::OtherHistory));
        assert_eq!(ask("?", -1), Err(Refusal::Wished));
    }
}
