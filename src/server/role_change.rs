//! Becoming a replica, and becoming a primary again: what must be true the moment the reply goes out. Links, files and
//! snapshots follow (`replication::replica`).
//!
//! ```text
//!   all shards locked:  blocked clients end ─► role, link, journal ─► unlock
//!                        │                        │ a command that was admitted before and waited for its locks finds
//!                        │                        │ another `epoch` and is judged again (`call::role_allows`)
//! ```

use super::blocking::{self, Release};
use super::clients::flag;
use super::config::PrimaryAddress;
use super::state::Server;
use crate::engine::keyspace::Locked;
use std::sync::atomic::Ordering;

/// Follows a primary from here on. The old data stays until the new primary's snapshot comes, if one must.
pub fn follow(server: &'static Server, locked: &mut Locked, primary: PrimaryAddress) {
    blocking::release_all(server, locked, Release::RoleChange);
    let was_primary = !server.is_replica.swap(true, Ordering::AcqRel);
    let may_continue = was_primary || server.role.link().may_continue;
    if was_primary {
        tracing::info!(
            "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to \
             synchronize with the new master with just a partial transfer."
        );
        // Any database: the stream of a new primary begins with SELECT.
        server.role.stream_db.store(0, Ordering::Release);
    }
    server.journal.set_following(true);
    server.journal.set_retained(server.config.current().repl_backlog_size);
    server.role.set_primary(Some(primary.clone()), may_continue);
    note(server, Some(primary));
}

/// Ends replication: this server is a primary, with a history of its own that begins where the primary's ends.
pub fn promote(server: &'static Server, _all_shards: &mut Locked) {
    if !server.is_replica.swap(false, Ordering::AcqRel) {
        return;
    }
    let end = server.journal.end();
    server.role.change_ids(|ids| ids.shift(end));
    let ids = server.role.ids();
    tracing::warn!(
        "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
        ids.replid2,
        ids.second_offset,
        ids.replid
    );
    server.role.set_primary(None, false);
    server.own_expiries.clear();
    server.journal.set_following(false);
    server.journal.set_active(true);
    server.journal.forget_selected_db();
    drop_replicas(server);
    note(server, None);
}

/// Replicas must hear that the history has another name, or has been replaced: they come back and ask anew.
pub fn drop_replicas(server: &Server) {
    for client in server.clients.all() {
        if client.has(flag::REPLICA) {
            server.clients.kill(&client);
        }
    }
}

/// What CONFIG shows and workers cache.
fn note(server: &Server, primary: Option<PrimaryAddress>) {
    server.config.update(|config| config.replicaof = primary);
    server.renew_settings();
    if let Some(hook) = server.role_hook.get() {
        hook(server);
    }
}
