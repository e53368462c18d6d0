//! The primary's end: who may continue where, full syncs, the feed, acknowledgements.
//!
//! ```text
//!   commands ─► psync ─┬─► link (Stream) ◄──────────────────────┐
//!                      └─► full_sync: cut, pipe or file ─► link ─┴─► feed ─► the connection's output
//!   spill: the stream on disk, for who is far behind
//!   cron: PING, newlines, timeouts, the end of the backlog, syncs that wait
//! ```
//! A replica's connection stays an ordinary one: limits, CLIENT KILL and acknowledgements work as for everybody.

pub mod commands;
pub mod cron;
pub mod debug;
pub mod feed;
pub mod full_sync;
mod link;
mod pipe;
mod psync;
pub mod shutdown;
mod spill;

use crate::base::clock;
use crate::server::Server;
use full_sync::FullSyncs;
use link::Links;
use spill::Spill;
use std::sync::OnceLock;

/// What moves this process's replicas.
#[derive(Default)]
pub struct Primary {
    links: Links,
    syncs: FullSyncs,
    spill: Spill,
}

fn primary() -> &'static Primary {
    static PRIMARY: OnceLock<Primary> = OnceLock::new();
    PRIMARY.get_or_init(Primary::default)
}

/// To be called once, before clients are served.
pub fn start(server: &'static Server) {
    spill::start();
    server.config.on_changed(
        &["min-replicas-to-write", "min-replicas-max-lag"],
        Box::new(|_, _| server.refresh_good_replicas(clock::unix_ms())),
    );
    server.config.on_changed(
        &["repl-backlog-size"],
        Box::new(|_, new| {
            if server.journal.backlog().is_some() {
                server.journal.set_retained(new.repl_backlog_size);
            }
        }),
    );
}

/// To be called before the process ends: nothing stays on disk that only replicas needed.
pub fn stop(server: &Server) {
    primary().spill.clear(server);
}
