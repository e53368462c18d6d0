//! The replicas of this server, as INFO, ROLE, WAIT, admission and shutdown see them: plain data. `replication::primary`
//! moves them.
//!
//! ```text
//!   REPLCONF …  announced          PSYNC / SYNC
//!        │                             ├─ may continue ──────────────────────────────► online
//!        ▼                             └─ full: wait_bgsave ─► send_bulk ─► (first ACK) ─► online
//!   session.replica                                                      └─ rdb-only: transmitted
//! ```

use super::clients::Client;
use super::journal::JournalReader;
use super::state::Server;
use crate::engine::keyspace::waiters::Ticket;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// How far a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplicaState {
    /// Waits for a snapshot to begin, or (from a file) to be complete.
    Waiting = 0,
    SendBulk = 1,
    Online = 2,
    /// It wanted the snapshot only, and has it.
    Transmitted = 3,
}

impl ReplicaState {
    /// As INFO says it; who wanted the snapshot only is no longer listed once it has it.
    pub fn name(self) -> Option<&'static str> {
        match self {
            ReplicaState::Waiting => Some("wait_bgsave"),
            ReplicaState::SendBulk => Some("send_bulk"),
            ReplicaState::Online => Some("online"),
            ReplicaState::Transmitted => None,
        }
    }
}

/// What a snapshot for a replica contains (REPLCONF rdb-filter-only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    pub data: bool,
    pub functions: bool,
}

/// What a replica has told of itself with REPLCONF.
#[derive(Clone, Debug)]
pub struct Announced {
    pub ip: Option<String>,
    pub port: u16,
    pub version: Option<String>,
    pub capa_eof: bool,
    pub capa_psync2: bool,
    pub rdb_only: bool,
    pub contents: Contents,
}

impl Default for Announced {
    fn default() -> Self {
        Announced {
            ip: None,
            port: 0,
            version: None,
            capa_eof: false,
            capa_psync2: false,
            rdb_only: false,
            contents: Contents { data: true, functions: true },
        }
    }
}

/// A connection that is, or is about to be, a replica's.
pub struct Replica {
    pub client: Arc<Client>,
    pub announced: Mutex<Announced>,
    pub reader: Arc<JournalReader>,
    state: AtomicU8,
    /// What it has processed, and what of that is in its append-only file.
    pub ack_offset: AtomicU64,
    pub fack_offset: AtomicU64,
    /// When it said so last; 0 before.
    pub ack_ms: AtomicI64,
}

impl Replica {
    pub fn new(client: Arc<Client>) -> Self {
        Replica {
            client,
            announced: Mutex::default(),
            reader: Arc::default(),
            state: AtomicU8::new(0),
            ack_offset: AtomicU64::new(0),
            fack_offset: AtomicU64::new(0),
            ack_ms: AtomicI64::new(0),
        }
    }

    pub fn state(&self) -> ReplicaState {
        match self.state.load(Ordering::Acquire) {
            0 => ReplicaState::Waiting,
            1 => ReplicaState::SendBulk,
            2 => ReplicaState::Online,
            _ => ReplicaState::Transmitted,
        }
    }

    pub fn set_state(&self, state: ReplicaState) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub fn is_online(&self) -> bool {
        self.state() == ReplicaState::Online && !self.client.is_killed()
    }

    /// The address that it has announced, or that it comes from.
    pub fn ip(&self) -> String {
        match &self.announced.lock().ip {
            Some(ip) => ip.clone(),
            None => host_of(&self.client.addr).to_owned(),
        }
    }

    /// As log lines call it: by its address and listening port.
    pub fn name(&self) -> String {
        let port = self.announced.lock().port;
        match port {
            0 => format!("{}:<unknown-replica-port>", self.ip()),
            port => format!("{}:{port}", self.ip()),
        }
    }

    pub fn ack(&self) -> u64 {
        self.ack_offset.load(Ordering::Acquire)
    }

    /// Milliseconds since its last word.
    pub fn lag_ms(&self, now_ms: i64) -> i64 {
        now_ms - self.ack_ms.load(Ordering::Relaxed)
    }
}

/// `[::1]:6379` and `127.0.0.1:6379` without the port and brackets.
fn host_of(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// FAILOVER, as INFO names its stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailoverStage {
    #[default]
    None,
    WaitingForSync,
    InProgress,
}

impl FailoverStage {
    pub fn name(self) -> &'static str {
        match self {
            FailoverStage::None => "no-failover",
            FailoverStage::WaitingForSync => "waiting-for-sync",
            FailoverStage::InProgress => "failover-in-progress",
        }
    }
}

/// What FAILOVER is about.
#[derive(Clone, Debug, Default)]
pub struct Failover {
    pub stage: FailoverStage,
    /// The replica that shall take over; without one, the first that has everything.
    pub target: Option<(String, u16)>,
    pub force: bool,
    pub deadline_ms: Option<i64>,
}

#[derive(Default)]
pub struct Replicas {
    /// In the order in which they came.
    list: RwLock<Vec<Arc<Replica>>>,
    /// Online, and heard of within min-replicas-max-lag.
    pub good: AtomicUsize,
    pub sync_full: AtomicU64,
    pub sync_partial_ok: AtomicU64,
    pub sync_partial_err: AtomicU64,
    pub output_bytes: AtomicU64,
    /// Bytes of the stream that lie on disk for replicas that are behind.
    pub spilled_bytes: AtomicU64,
    /// Since when there has been no replica; 0 = there is one, or never was.
    pub none_since_ms: AtomicI64,
    /// Offset behind the last REPLCONF GETACK: whoever waits for less need not ask again.
    pub asked_at: AtomicU64,
    waits: Mutex<Vec<Arc<Ticket>>>,
    pub failover: Mutex<Failover>,
}

impl Replicas {
    pub fn add(&self, replica: Arc<Replica>) {
        self.list.write().push(replica);
        self.none_since_ms.store(0, Ordering::Relaxed);
    }

    pub fn remove(&self, replica: &Arc<Replica>, now_ms: i64) {
        let mut list = self.list.write();
        list.retain(|other| !Arc::ptr_eq(other, replica));
        if list.is_empty() {
            self.none_since_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Those that are connected.
    pub fn all(&self) -> Vec<Arc<Replica>> {
        self.list.read().iter().filter(|replica| !replica.client.is_killed()).cloned().collect()
    }

    /// Those that were sent away and whose connections are not gone yet.
    pub fn leaving(&self) -> Vec<Arc<Replica>> {
        self.list.read().iter().filter(|replica| replica.client.is_killed()).cloned().collect()
    }

    /// What their connections are sending, also those that are killed and not gone yet.
    pub fn output_memory(&self) -> usize {
        self.list.read().iter().map(|replica| replica.client.output_memory()).sum()
    }

    pub fn len(&self) -> usize {
        self.list.read().iter().filter(|replica| !replica.client.is_killed()).count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many online replicas satisfy a condition.
    pub fn count_online(&self, condition: impl Fn(&Replica) -> bool) -> usize {
        self.list.read().iter().filter(|replica| replica.is_online() && condition(replica)).count()
    }

    /// A client goes to sleep until its replicas have what it wrote.
    pub fn add_wait(&self, ticket: Arc<Ticket>) {
        self.waits.lock().push(ticket);
    }

    pub fn waits(&self) -> Vec<Arc<Ticket>> {
        self.waits.lock().clone()
    }

    pub fn forget_wait(&self, ticket: &Arc<Ticket>) {
        self.waits.lock().retain(|other| !Arc::ptr_eq(other, ticket));
    }

    pub fn has_waits(&self) -> bool {
        !self.waits.lock().is_empty()
    }

    pub fn failover_stage(&self) -> FailoverStage {
        self.failover.lock().stage
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        for figure in [&self.sync_full, &self.sync_partial_ok, &self.sync_partial_err, &self.output_bytes] {
            figure.store(0, Ordering::Relaxed);
        }
    }
}

impl Server {
    /// Whether this server's data set is one that replicas can be given.
    pub fn may_serve_replicas(&self) -> bool {
        !self.is_replica.load(Ordering::Acquire) || self.role.is_connected()
    }

    /// Counts the replicas that min-replicas-to-write may count on.
    pub fn refresh_good_replicas(&self, now_ms: i64) {
        let max_lag_ms = i64::from(self.config.current().min_replicas_max_lag) * 1000;
        // Redis counts whole seconds: a lag of 10.9 s is one of 10.
        let good = self.replicas.count_online(|replica| replica.lag_ms(now_ms) < max_lag_ms + 1000);
        self.replicas.good.store(good, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_port() {
        assert_eq!(host_of("127.0.0.1:6379"), "127.0.0.1");
        assert_eq!(host_of("[::1]:6379"), "::1");
    }

    #[test]
    fn the_killed_do_not_count() {
        let replicas = Replicas::default();
        let client = Arc::new(Client::new(1, "10.0.0.1:5".into(), String::new(), 0, 0));
        let replica = Arc::new(Replica::new(Arc::clone(&client)));
        replicas.add(Arc::clone(&replica));
        assert_eq!((replicas.len(), replicas.count_online(|_| true)), (1, 0));
        replica.set_state(ReplicaState::Online);
        assert_eq!(replicas.count_online(|_| true), 1);
        assert_eq!(replica.name(), "10.0.0.1:<unknown-replica-port>");
        client.kill();
        assert_eq!((replicas.len(), replicas.count_online(|_| true)), (0, 0));
        replicas.remove(&replica, 7);
        assert_eq!(replicas.none_since_ms.load(Ordering::Relaxed), 7);
    }
}
