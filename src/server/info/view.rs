//! One look at the server, from which all fields of one INFO are told, so that they agree with each other.

use crate::base::clock;
use crate::engine::keyspace::{Locked, SHARDS};
use crate::engine::memory;
use crate::server::clients::{Client, flag};
use crate::server::config::Config;
use crate::server::role::Link;
use crate::server::state::Server;
use crate::server::stats::WorkerStats;
use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub struct View<'a> {
    pub server: &'static Server,
    pub config: Arc<Config>,
    /// Every shard.
    pub locked: &'a Locked,
    pub now_us: i64,
    /// `used_memory`.
    pub used: usize,
    link: OnceCell<Link>,
    clients: OnceCell<ClientsView>,
    memory: OnceCell<MemoryView>,
    allocator: OnceCell<AllocatorView>,
}

/// What clients take together.
#[derive(Default)]
pub struct ClientsView {
    pub normal: usize,
    pub replicas: usize,
    pub pubsub: usize,
    pub watching: usize,
    pub watched_keys: usize,
    pub max_input: usize,
    pub max_output: usize,
    pub normal_bytes: usize,
    pub replica_bytes: usize,
}

/// Where `used_memory` goes, as MEMORY STATS tells it.
#[derive(Default)]
pub struct MemoryView {
    pub keys: usize,
    pub tables: Vec<DbMemory>,
    /// What replicas read, which all of them share, and what of it is kept whether anybody needs it or not.
    pub replication_buffers: usize,
    pub backlog: usize,
    pub overhead: usize,
}

/// The tables of one database.
pub struct DbMemory {
    pub db: usize,
    pub keys: usize,
    pub volatile: usize,
    pub bytes: usize,
}

/// What the allocator says of itself.
#[derive(Clone, Copy, Default)]
pub struct AllocatorView {
    pub allocated: usize,
    pub active: usize,
    pub resident: usize,
}

impl<'a> View<'a> {
    pub fn new(server: &'static Server, locked: &'a Locked) -> Self {
        let now_us = clock::unix_us();
        let used = memory::used();
        server.process.note_used(used, now_us / 1000);
        View {
            server,
            config: server.config.current(),
            locked,
            now_us,
            used,
            link: OnceCell::new(),
            clients: OnceCell::new(),
            memory: OnceCell::new(),
            allocator: OnceCell::new(),
        }
    }

    pub fn uptime_s(&self) -> i64 {
        (self.now_us / 1000 - self.server.started_ms) / 1000
    }

    /// A figure that workers count.
    pub fn sum(&self, figure: fn(&WorkerStats) -> u64) -> u64 {
        self.server.sum(figure)
    }

    /// Resident set; where it was not sampled yet, what the program holds.
    pub fn rss(&self) -> usize {
        load(&self.server.process.rss).max(1)
    }

    pub fn peak(&self) -> usize {
        load(&self.server.process.peak)
    }

    pub fn startup(&self) -> usize {
        load(&self.server.process.startup)
    }

    /// The link to the primary.
    pub fn link(&self) -> &Link {
        self.link.get_or_init(|| self.server.role.link_as_seen())
    }

    pub fn clients(&self) -> &ClientsView {
        self.clients.get_or_init(|| {
            let mut view = ClientsView::default();
            self.server.clients.all().iter().for_each(|client| view.add(client));
            view
        })
    }

    pub fn memory(&self) -> &MemoryView {
        self.memory.get_or_init(|| {
            let replication_buffers = match self.server.journal.backlog() {
                Some(_) => self.server.journal.memory(),
                None => 0,
            };
            // With nobody connected all of it is backlog, whatever its pieces are rounded to.
            let backlog = match self.server.replicas.is_empty() {
                true => replication_buffers,
                false => replication_buffers.min(self.config.repl_backlog_size as usize),
            };
            let mut view = MemoryView { replication_buffers, backlog, ..MemoryView::default() };
            for db in 0..self.server.keyspace.databases() {
                let mut part = DbMemory { db, keys: 0, volatile: 0, bytes: 0 };
                for shard in (0..SHARDS).flat_map(|shard| self.locked.shard(shard).parts(db)) {
                    part.keys += shard.len();
                    part.volatile += shard.volatile_len();
                    part.bytes += shard.table().memory();
                }
                if part.keys > 0 {
                    view.keys += part.keys;
                    view.tables.push(part);
                }
            }
            let clients = self.clients();
            let tables: usize = view.tables.iter().map(|table| table.bytes).sum();
            let replicas = view.replication_buffers + clients.replica_bytes;
            view.overhead = self.startup() + tables + replicas + clients.normal_bytes;
            view
        })
    }

    /// What replicas cost: their connections, and what they hold back beyond the backlog.
    pub fn replica_bytes(&self) -> usize {
        let memory = self.memory();
        self.clients().replica_bytes + memory.replication_buffers - memory.backlog
    }

    pub fn allocator(&self) -> AllocatorView {
        *self.allocator.get_or_init(AllocatorView::read)
    }
}

impl ClientsView {
    fn add(&mut self, client: &Client) {
        let load = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let input = load(&client.query_bytes);
        let output = load(&client.output_bytes) + client.outbox_bytes();
        let bytes = client.memory();
        if client.has(flag::REPLICA) {
            self.replicas += 1;
            self.replica_bytes += bytes - load(&client.feed_bytes).min(bytes);
        } else {
            self.normal += 1;
            self.normal_bytes += bytes;
        }
        self.max_input = self.max_input.max(input);
        self.max_output = self.max_output.max(output);
        self.pubsub += usize::from(client.has(flag::PUBSUB));
        let watched = load(&client.watched);
        self.watching += usize::from(watched > 0);
        self.watched_keys += watched;
    }
}

impl AllocatorView {
    /// The statistics of jemalloc are a snapshot that has to be asked for.
    fn read() -> Self {
        use tikv_jemalloc_ctl::{epoch, stats};
        // Where another allocator is linked (tests), the figures stay zero.
        let _ = epoch::advance();
        AllocatorView {
            allocated: stats::allocated::read().unwrap_or(0),
            active: stats::active::read().unwrap_or(0),
            resident: stats::resident::read().unwrap_or(0),
        }
    }
}

pub fn load(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

pub fn load_u64(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
