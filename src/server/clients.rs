//! What others can see and do of a client: its outbox, its flags, the data that CLIENT LIST prints.
//!
//! A connection's worker owns its `Session`; everybody else reaches the client only through this shared part.

use crate::engine::keyspace::waiters::Ticket;
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// Bytes that others have for a client: published messages, invalidations, the reply to a served blocked command.
#[derive(Default)]
struct Outbox {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// The blocked command of this client has been answered (its reply is among the chunks).
    unblocked: bool,
}

/// The part of a client's data that is text.
#[derive(Clone, Debug, Default)]
pub struct ClientTexts {
    pub name: String,
    pub user: String,
    pub lib_name: String,
    pub lib_ver: String,
}

#[derive(Default)]
pub struct Client {
    pub id: u64,
    pub addr: String,
    pub laddr: String,
    pub fd: i32,
    pub created_ms: i64,
    outbox: Mutex<Outbox>,
    /// Whether there is anything in the outbox, and how many bytes.
    has_mail: AtomicBool,
    mail_bytes: AtomicUsize,
    waker: AtomicWaker,
    /// The connection still has the descriptor; held by whoever uses that from outside.
    has_socket: Mutex<bool>,
    /// The connection must close (CLIENT KILL, output limit).
    killed: AtomicBool,
    pub texts: Mutex<ClientTexts>,
    /// Id of the user; 0 for nobody's (see `acl`).
    pub user: AtomicU64,
    /// What the client is blocked on, for those who end the wait from outside.
    pub waiting: Mutex<Option<Arc<Ticket>>>,
    /// See `flag`.
    flags: AtomicU32,
    pub db: AtomicUsize,
    /// The worker that serves it.
    pub worker: AtomicUsize,
    pub resp: AtomicU32,
    pub last_interaction_ms: AtomicI64,
    /// Id in the command table, plus one; 0 = none yet.
    pub last_command: AtomicUsize,
    /// Commands queued by MULTI, −1 outside.
    pub multi: AtomicI64,
    pub multi_bytes: AtomicUsize,
    pub watched: AtomicUsize,
    pub channels: AtomicUsize,
    pub patterns: AtomicUsize,
    pub shard_channels: AtomicUsize,
    pub query_bytes: AtomicUsize,
    pub query_free: AtomicUsize,
    /// Arguments of an unfinished or postponed request.
    pub argument_bytes: AtomicUsize,
    /// Replies that the connection holds because the socket has not taken them.
    pub output_bytes: AtomicUsize,
    /// What the buffer of those replies has taken beyond them.
    pub output_free: AtomicUsize,
    /// Replies of the running batch; known while maxmemory-clients is set.
    pub reply_bytes: AtomicUsize,
    /// What waits in the journal for a replica; shared with all others, so nobody's memory.
    pub feed_bytes: AtomicUsize,
    pub redirect: AtomicI64,
    /// Watched keys, subscriptions, prefixes: names that the client makes the server keep.
    pub held_bytes: AtomicUsize,
    /// Since when the output has been over its soft limit; 0 = it is not.
    pub soft_since_ms: AtomicI64,
    /// What `Clients::memory` holds of this client, and `Clients::leaving` since it was killed.
    counted: AtomicUsize,
    leaving: AtomicUsize,
    pub commands: AtomicU64,
}

/// What CLIENT LIST's flag letters and admission ask of a client.
pub mod flag {
    pub const BLOCKED: u32 = 1;
    pub const MULTI: u32 = 1 << 1;
    pub const DIRTY_CAS: u32 = 1 << 2;
    pub const CLOSE_AFTER_REPLY: u32 = 1 << 3;
    pub const MONITOR: u32 = 1 << 4;
    pub const PUBSUB: u32 = 1 << 5;
    pub const REPLICA: u32 = 1 << 6;
    pub const PRIMARY: u32 = 1 << 7;
    pub const UNIX_SOCKET: u32 = 1 << 8;
    pub const TRACKING: u32 = 1 << 9;
    pub const TRACKING_BROKEN: u32 = 1 << 10;
    pub const TRACKING_BCAST: u32 = 1 << 11;
    pub const NO_EVICT: u32 = 1 << 12;
    pub const NO_TOUCH: u32 = 1 << 13;
    pub const READONLY: u32 = 1 << 14;
    pub const INTERNAL: u32 = 1 << 15;
    pub const TRACKING_NOLOOP: u32 = 1 << 16;
    /// It has come by the TLS port.
    pub const TLS: u32 = 1 << 17;
    /// The server has ended subscriptions of its, which its session does not know yet.
    pub const LOST_CHANNELS: u32 = 1 << 18;
}

/// What limits and CLIENT's TYPE filters tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Replica,
    PubSub,
    Primary,
}

/// Redis answers from a fixed buffer first and from a list behind it; these are the figures in its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub capacity: usize,
    pub peak: usize,
    pub fixed: usize,
    pub chunks: usize,
    pub listed: usize,
}

/// What a connection costs besides its buffers: this part, the session, the task and its socket.
const CONNECTION_BYTES: usize = size_of::<Client>() + 1024;

/// What a held name costs besides its bytes: entries in the session's list and in the server's register.
const HELD_NAME_BYTES: usize = 128;

/// What a message costs besides its bytes.
const MESSAGE_BYTES: usize = 64;

thread_local! {
    static SENT: Cell<usize> = const { Cell::new(0) };
}

/// Memory of all messages that this thread has ever sent to clients. Eviction must know what its own messages take.
pub fn sent_by_this_thread() -> usize {
    SENT.get()
}

/// Size of Redis's fixed reply buffer.
pub const OUTPUT_CHUNK: usize = 16 * 1024;

impl Client {
    pub fn kind(&self) -> Kind {
        if self.has(flag::PRIMARY) {
            Kind::Primary
        } else if self.has(flag::REPLICA) {
            Kind::Replica
        } else if self.has(flag::PUBSUB) {
            Kind::PubSub
        } else {
            Kind::Normal
        }
    }

    /// What waits to be written to this client.
    pub fn output(&self) -> Output {
        let shared = self.feed_bytes.load(Ordering::Relaxed);
        let waiting = self.output_bytes.load(Ordering::Relaxed) + self.outbox_bytes() + shared;
        let fixed = waiting.min(OUTPUT_CHUNK);
        let listed = waiting - fixed;
        let capacity = if waiting > 0 { OUTPUT_CHUNK } else { 0 };
        Output { capacity, peak: fixed, fixed, chunks: listed.div_ceil(OUTPUT_CHUNK), listed }
    }

    /// What the connection's own output buffer takes.
    pub fn output_memory(&self) -> usize {
        self.output_bytes.load(Ordering::Relaxed) + self.output_free.load(Ordering::Relaxed)
    }

    /// Bytes that this client costs.
    pub fn memory(&self) -> usize {
        let load = |figure: &AtomicUsize| figure.load(Ordering::Relaxed);
        let output = self.output_memory() + load(&self.reply_bytes) + self.outbox_bytes() + load(&self.feed_bytes);
        let buffers = load(&self.query_bytes) + load(&self.query_free) + output;
        let texts = self.addr.len() + self.laddr.len();
        CONNECTION_BYTES
            + texts
            + buffers
            + load(&self.argument_bytes)
            + load(&self.multi_bytes)
            + load(&self.held_bytes)
    }

    /// The client makes the server keep a name, or no longer does.
    pub fn hold(&self, name: &[u8]) {
        self.held_bytes.fetch_add(name.len() + HELD_NAME_BYTES, Ordering::Relaxed);
    }

    pub fn let_go(&self, name: &[u8]) {
        self.held_bytes.fetch_sub(name.len() + HELD_NAME_BYTES, Ordering::Relaxed);
    }

    /// A client that has just been accepted.
    pub fn new(id: u64, addr: String, laddr: String, fd: i32, now_ms: i64) -> Self {
        Client {
            id,
            addr,
            laddr,
            fd,
            created_ms: now_ms,
            has_socket: Mutex::new(fd >= 0),
            texts: Mutex::new(ClientTexts { user: "default".into(), ..ClientTexts::default() }),
            resp: AtomicU32::new(2),
            multi: AtomicI64::new(-1),
            redirect: AtomicI64::new(-1),
            last_interaction_ms: AtomicI64::new(now_ms),
            ..Client::default()
        }
    }

    /// Connected from this machine.
    pub fn is_local(&self) -> bool {
        self.has(flag::UNIX_SOCKET)
            || ["127.", "[::1]", "[::ffff:127."].iter().any(|start| self.addr.starts_with(start))
    }

    pub fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    pub fn set(&self, flag: u32, on: bool) {
        if on {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    /// Sends bytes that are not the reply to a request of this client; how many wait for it then.
    pub fn send(&self, bytes: Bytes) -> usize {
        if self.is_killed() {
            return 0;
        }
        SENT.set(SENT.get() + bytes.len() + MESSAGE_BYTES);
        let mut outbox = self.outbox.lock();
        outbox.bytes += bytes.len();
        let waiting = outbox.bytes + self.output_bytes.load(Ordering::Relaxed);
        outbox.chunks.push_back(bytes);
        self.note_mail(&outbox);
        drop(outbox);
        self.waker.wake();
        waiting
    }

    /// Answers the command that the client is blocked in.
    pub fn unblock(&self, reply: Bytes) {
        let mut outbox = self.outbox.lock();
        outbox.bytes += reply.len();
        // Messages that serving the command has caused come after its reply.
        outbox.chunks.push_front(reply);
        outbox.unblocked = true;
        self.note_mail(&outbox);
        drop(outbox);
        self.waker.wake();
    }

    fn note_mail(&self, outbox: &Outbox) {
        self.mail_bytes.store(outbox.bytes, Ordering::Relaxed);
        self.has_mail.store(true, Ordering::Release);
    }

    /// Whether `take_outbox` would find anything.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Takes what has been sent; the second value tells whether the blocked command was answered.
    pub fn take_outbox(&self, into: &mut Vec<u8>) -> bool {
        let mut outbox = self.outbox.lock();
        for chunk in outbox.chunks.drain(..) {
            into.extend_from_slice(&chunk);
        }
        outbox.bytes = 0;
        self.mail_bytes.store(0, Ordering::Relaxed);
        self.has_mail.store(false, Ordering::Relaxed);
        std::mem::take(&mut outbox.unblocked)
    }

    /// Whether a reply to a blocked command is in the outbox.
    pub fn is_unblocked(&self) -> bool {
        self.outbox.lock().unblocked
    }

    pub fn has_output_backlog(&self) -> bool {
        self.output_bytes.load(Ordering::Relaxed) + self.outbox_bytes() > OUTPUT_CHUNK
    }

    /// Bytes that wait in the outbox.
    pub fn outbox_bytes(&self) -> usize {
        self.mail_bytes.load(Ordering::Relaxed)
    }

    /// The connection ends when its task notices; what was meant for it goes at once.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        let mut outbox = self.outbox.lock();
        if !outbox.unblocked {
            outbox.chunks = VecDeque::new();
            outbox.bytes = 0;
            self.mail_bytes.store(0, Ordering::Relaxed);
        }
        drop(outbox);
        self.waker.wake();
    }

    /// The connection is about to give its descriptor back.
    pub fn leave_socket(&self) {
        *self.has_socket.lock() = false;
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// The connection task leaves its waker here before it sleeps.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub fn wake(&self) {
        self.waker.wake();
    }
}

/// Memory of a client that is worth a look whether he is still there.
const MUCH: usize = 64 * 1024;
/// What a client holds at most who holds nothing in particular.
const IDLE_MOST: usize = 4096;
/// Clients that are looked at at once.
const LOOKS_MOST: usize = 100;

/// Every connected client, by id.
#[derive(Default)]
pub struct Clients {
    by_id: RwLock<BTreeMap<u64, Arc<Client>>>,
    next_id: AtomicU64,
    /// Memory of all clients, as last reported.
    memory: AtomicUsize,
    /// Memory of the killed, until their connections let go of it.
    leaving: AtomicUsize,
    /// Clients whose blocked command waits.
    pub blocked: AtomicUsize,
    /// Ends the conversation on a descriptor; placed by `boot`.
    pub hang_up: OnceLock<fn(i32)>,
    /// Whether the other end of a descriptor is gone; placed by `boot`.
    pub has_hung_up: OnceLock<fn(i32) -> bool>,
}

impl Clients {
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn add(&self, client: Arc<Client>) {
        self.by_id.write().insert(client.id, client);
    }

    pub fn remove(&self, id: u64) {
        let client = self.by_id.write().remove(&id);
        if let Some(client) = client {
            client.kill();
            self.uncount(&client);
        }
    }

    /// Takes note of a client's memory if it has changed.
    #[inline]
    pub fn count_memory(&self, client: &Client) {
        let memory = client.memory();
        if memory != client.counted.load(Ordering::Relaxed) {
            let before = client.counted.swap(memory, Ordering::AcqRel);
            self.memory.fetch_add(memory.wrapping_sub(before), Ordering::Relaxed);
            // Somebody may just be sending to a client that goes. It is first marked and then uncounted, so one of the two sees
            // the other; what were added behind its back would stay for ever.
            if client.is_killed() {
                self.memory.fetch_sub(client.counted.swap(0, Ordering::AcqRel), Ordering::Relaxed);
            }
        }
    }

    /// A client is gone, and its memory with it. Its own worker says so last.
    pub fn uncount(&self, client: &Client) {
        self.memory.fetch_sub(client.counted.swap(0, Ordering::AcqRel), Ordering::Relaxed);
        self.leaving.fetch_sub(client.leaving.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Memory of all clients.
    pub fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed) as u64
    }

    /// Memory that the killed have not let go of yet. Nobody else, keys least of all, is to be evicted in their place.
    pub fn leaving(&self) -> usize {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Memory of clients that hold much and have hung up, which their workers have yet to notice. One that has sent something before
    /// is still to be heard, and does not count.
    pub fn hung_up(&self) -> usize {
        let Some(has_hung_up) = self.has_hung_up.get() else { return 0 };
        let by_id = self.by_id.read();
        // With one thread they would be gone: it sees them leave before it runs what is sent afterwards.
        if (self.memory() as usize) < MUCH.max(by_id.len() * IDLE_MOST) {
            return 0;
        }
        let big = by_id.values().filter(|client| client.counted.load(Ordering::Relaxed) >= MUCH);
        let memory = big.take(LOOKS_MOST).filter(|client| {
            let has_socket = client.has_socket.lock();
            *has_socket && has_hung_up(client.fd)
        });
        memory.map(|client| client.counted.load(Ordering::Relaxed)).sum()
    }

    /// Disconnects a client; it is gone for everybody at once, its task ends when it notices. A replica hears it at once, as from
    /// Redis: whoever sent it away may rely on its not reading on.
    pub fn kill(&self, client: &Client) {
        let mut by_id = self.by_id.write();
        if by_id.remove(&client.id).is_some() {
            // Under the lock: the connection removes itself first and asks for this number then. What a replica has of the stream is
            // not counted for eviction anyway.
            let stream = client.feed_bytes.load(Ordering::Relaxed)
                + if client.has(flag::REPLICA) { client.output_memory() } else { 0 };
            let memory = client.memory().saturating_sub(stream);
            client.leaving.store(memory, Ordering::Relaxed);
            self.leaving.fetch_add(memory, Ordering::Relaxed);
        }
        drop(by_id);
        client.kill();
        self.memory.fetch_sub(client.counted.swap(0, Ordering::AcqRel), Ordering::Relaxed);
        if client.has(flag::REPLICA)
            && let Some(hang_up) = self.hang_up.get()
        {
            let has_socket = client.has_socket.lock();
            if *has_socket {
                hang_up(client.fd);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn find(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.read().get(&id).cloned()
    }

    /// All clients, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.read().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> Arc<Client> {
        Arc::new(Client::new(id, "10.0.0.1:5".into(), String::new(), 0, 0))
    }

    #[test]
    fn memory_of_the_killed_is_leaving_until_they_are_gone() {
        let clients = Clients::default();
        let (first, second) = (client(1), client(2));
        for client in [&first, &second] {
            clients.add(Arc::clone(client));
            client.output_bytes.store(1_000_000, Ordering::Relaxed);
            clients.count_memory(client);
        }
        let each = first.memory();
        assert_eq!((clients.memory() as usize, clients.leaving()), (each * 2, 0));
        clients.kill(&first);
        clients.kill(&first);
        assert_eq!((clients.memory() as usize, clients.leaving()), (each, each));
        // What comes too late is neither kept nor counted.
        first.send(Bytes::from(vec![0; 100_000]));
        clients.count_memory(&first);
        assert_eq!((clients.memory() as usize, first.outbox_bytes()), (each, 0));
        clients.remove(1);
        clients.uncount(&first);
        clients.remove(2);
        second.send(Bytes::from(vec![0; 100_000]));
        clients.count_memory(&second);
        assert_eq!((clients.memory(), clients.leaving()), (0, 0));
    }
}
