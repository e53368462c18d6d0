//! One replica's link: what its connection has to send next. Shared by the connection, which sends, and the tasks that move
//! the link on (a snapshot that begins, the cron).
//!
//! ```text
//!   PSYNC, SYNC ─┬─ continue ───────────────────────────────────────────► Stream
//!                └─ full ─► Waiting ─┬─ sockets ─► Payload ─► AwaitAck ───► Stream
//!                            \n \n   └─ disk ─► Prepared ─► Payload ──────► Stream
//!                                                \n \n          └─ rdb-only ─► Transmitted
//! ```
//! AwaitAck: behind a payload without length the replica may have read too much, so the stream waits for its first word.

use super::pipe::Pipe;
use crate::base::clock;
use crate::server::replicas::{Replica, ReplicaState};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Length of the mark around a payload of unknown length.
pub const EOF_MARK: usize = 40;

/// Where a snapshot's bytes come from.
pub enum Payload {
    Pipe { pipe: Arc<Pipe>, reader: usize, mark: String },
    File { file: Arc<File>, at: u64, len: u64 },
}

pub enum Stage {
    Waiting,
    Prepared,
    Payload(Payload),
    AwaitAck,
    Stream,
    Transmitted,
}

pub struct Inner {
    pub stage: Stage,
    /// Bytes that go before anything else: replies to PSYNC, headers, newlines that show that somebody is alive.
    pub control: Vec<u8>,
    /// The payload has been waiting for the socket since then; 0 = it has not.
    pub stalled_since_ms: i64,
}

pub struct Link {
    pub replica: Arc<Replica>,
    /// SYNC instead of PSYNC: no replies to it, and no acknowledgements will come.
    pub is_old: bool,
    inner: Mutex<Inner>,
    /// What it gets next lies on disk (`spill`).
    spilled: AtomicBool,
}

impl Link {
    pub fn new(replica: Arc<Replica>, is_old: bool, stage: Stage) -> Arc<Self> {
        Arc::new(Link {
            replica,
            is_old,
            inner: Mutex::new(Inner { stage, control: Vec::new(), stalled_since_ms: 0 }),
            spilled: AtomicBool::new(false),
        })
    }

    pub fn is_spilled(&self) -> bool {
        self.spilled.load(Ordering::Acquire)
    }

    pub fn set_spilled(&self, spilled: bool) {
        self.spilled.store(spilled, Ordering::Release);
    }

    /// It reads the stream, or will when its snapshot is over; nobody else takes it for the place to begin at.
    pub fn reads_journal(&self) -> bool {
        matches!(self.inner.lock().stage, Stage::Payload(_) | Stage::AwaitAck | Stage::Stream)
    }

    /// The stream is kept for it, from the cut of its snapshot on.
    pub fn has_place_in_journal(&self) -> bool {
        !matches!(self.inner.lock().stage, Stage::Waiting | Stage::Transmitted)
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    /// Goes on to another stage, after some bytes; the connection is woken.
    pub fn advance(&self, stage: Stage, control: &[u8]) {
        let mut inner = self.inner.lock();
        inner.control.extend_from_slice(control);
        inner.stage = stage;
        drop(inner);
        self.replica.client.wake();
    }

    /// A newline shows a replica that waits that somebody is still there.
    pub fn keep_alive(&self) {
        let mut inner = self.inner.lock();
        if matches!(inner.stage, Stage::Waiting | Stage::Prepared) && inner.control.is_empty() {
            inner.control.push(b'\n');
            drop(inner);
            self.replica.client.wake();
        }
    }

    /// The first acknowledgement behind a payload without length: the stream may begin. True if it was that.
    pub fn start_stream(&self) -> bool {
        let mut inner = self.inner.lock();
        if !matches!(inner.stage, Stage::AwaitAck) {
            return false;
        }
        inner.stage = Stage::Stream;
        true
    }
}

impl Inner {
    /// The whole payload is with the socket.
    pub fn finish_payload(&mut self, link: &Link) {
        let is_rdb_only = link.replica.announced.lock().rdb_only;
        let from_pipe = matches!(&self.stage, Stage::Payload(Payload::Pipe { .. }));
        if let Stage::Payload(Payload::Pipe { pipe, reader, .. }) = &self.stage {
            pipe.leave(*reader);
        }
        let name = link.replica.name();
        // Its silence counts from here on.
        link.replica.ack_ms.store(clock::unix_ms(), Ordering::Relaxed);
        self.stage = if is_rdb_only {
            link.replica.set_state(ReplicaState::Transmitted);
            tracing::info!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap");
            Stage::Transmitted
        } else {
            link.replica.set_state(ReplicaState::Online);
            tracing::info!("Synchronization with replica {name} succeeded");
            if from_pipe && !link.is_old { Stage::AwaitAck } else { Stage::Stream }
        };
    }
}

/// Links by client, for the connections to find theirs.
#[derive(Default)]
pub struct Links(Mutex<HashMap<u64, Arc<Link>>>);

impl Links {
    pub fn add(&self, link: &Arc<Link>) {
        self.0.lock().insert(link.replica.client.id, Arc::clone(link));
    }

    pub fn find(&self, client: u64) -> Option<Arc<Link>> {
        self.0.lock().get(&client).cloned()
    }

    pub fn remove(&self, client: u64) {
        self.0.lock().remove(&client);
    }

    pub fn all(&self) -> Vec<Arc<Link>> {
        self.0.lock().values().cloned().collect()
    }
}
