//! What a connection holds in memory: reported to its client's record, checked against the limits.

use super::{Connection, Lent};
use crate::server::config::MemoryLimit;
use std::sync::atomic::Ordering;

/// Bytes of requests that a client may have waiting before it has authenticated.
const UNAUTHENTICATED_QUERY_MAX: usize = 1 << 20;

impl Connection {
    /// Closes a connection whose unfinished or queued requests have grown too long.
    pub(super) fn check_query(&mut self, lent: &Lent) {
        let client = &self.session.client;
        let held = self.input.len() + client.multi_bytes.load(Ordering::Relaxed);
        let limit = lent.worker.config.client_query_buffer_limit;
        if held > limit || (held > UNAUTHENTICATED_QUERY_MAX && !self.session.authenticated) {
            lent.worker.server.stats.query_limit_disconnections.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "Closing client that reached max query buffer length: id={} addr={} (qbuf {held} bytes)",
                client.id,
                client.addr
            );
            self.input = Vec::new();
            self.session.closing = true;
        }
    }

    /// Applies the output limits to what waits here and in the outbox.
    pub(super) fn check_output(&mut self, lent: &Lent) {
        self.report_output();
        if !self.session.authenticated && self.session.client.output().listed > 0 {
            // Nobody may make the server keep replies before saying who he is.
            lent.worker.server.stats.output_limit_disconnections.fetch_add(1, Ordering::Relaxed);
            return lent.worker.server.clients.kill(&self.session.client);
        }
        lent.worker.server.check_output(&self.session.client, &lent.worker.config, lent.worker.now_ms);
    }

    /// The connection is over. Its memory goes before the client is said to be gone.
    pub(super) fn drop_buffers(&mut self) {
        self.input = Vec::new();
        self.output = Vec::new();
        self.written = 0;
    }

    /// Reports what is about to be run, and the room that it takes.
    pub(super) fn report_query(&self, len: usize, capacity: usize) {
        let client = &self.session.client;
        client.query_bytes.store(len, Ordering::Relaxed);
        client.query_free.store(capacity - len, Ordering::Relaxed);
    }

    pub(super) fn report_output(&self) {
        let waiting = self.output.len() - self.written;
        self.session.client.output_bytes.store(waiting, Ordering::Relaxed);
        self.session.client.output_free.store(self.output.capacity() - waiting, Ordering::Relaxed);
    }

    /// Reports the buffers that stay with the connection while it sleeps.
    pub(super) fn report(&mut self) {
        let client = &self.session.client;
        if client.is_killed() {
            // What it held is on its way out: nobody else is to be evicted for it.
            return;
        }
        // Arguments that are complete are no query any more, in Redis's terms.
        let understood = self.parser.understood().min(self.input.len());
        client.query_bytes.store(self.input.len() - understood, Ordering::Relaxed);
        client.query_free.store(self.input.capacity() - self.input.len(), Ordering::Relaxed);
        if self.session.postponed.is_none() {
            client.argument_bytes.store(understood, Ordering::Relaxed);
        }
        self.report_output();
        client.reply_bytes.store(0, Ordering::Relaxed);
        let lent = self.shared.lend();
        let clients = &lent.worker.server.clients;
        clients.count_memory(client);
        if lent.worker.config.maxmemory_clients != MemoryLimit::Bytes(0) {
            lent.worker.server.evict_clients(&lent.worker.config);
        }
    }
}
