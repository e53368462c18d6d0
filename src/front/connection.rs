//! The connection loop: read what is there, run it as batches, write all replies at once.
//!
//! ```text
//!            ┌──────────────────────────────────────────────────────────┐
//!   readable ┴► read into the worker's buffer ─► parse ─► run ─► replies ┴► one write ─► idle
//!                  │ an unfinished request is kept in `input`                 │ what the socket does not take
//!                  ▼ until its rest comes                                     ▼ waits in `output`
//! ```
//! The big buffers belong to the worker and are lent to whichever connection is active; an idle connection holds neither
//! input nor output, so that ten thousand of them cost little. Reading goes on while replies wait for a slow reader: a
//! client that writes a million commands before it reads must not wait for itself.

mod hold;
mod life;
mod limits;
mod settle;

pub use life::start;
pub use settle::Turns;

use self::hold::Hold;
use super::handshake::Handshakes;
use super::parking;
use super::pool::{Accepted, Pool};
use crate::base::clock;
use crate::net::console;
use crate::net::stream::Stream;
use crate::replication::primary::feed::{Feed, Next};
use crate::resp::{Batch, Limits, Reply, RequestParser};
use crate::server::blocking::{self, Release};
use crate::server::clients::{OUTPUT_CHUNK, flag};
use crate::server::commands::client_list;
use crate::server::dispatch::{self, BATCH_MAX, BatchEnd};
use crate::server::{Server, Session, Worker};
use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Size of the worker's read buffer: what one connection may run before others get their turn.
const READ_BUFFER: usize = 64 * 1024;
/// What one read of a very long argument may bring.
const READ_MOST: usize = 4 << 20;
/// Room for replies that a worker has from the start. Untouched it costs nothing, and its growth is not taken for that of data.
const REPLY_BUFFER: usize = 64 * 1024;
/// Room that is set aside for an argument once its length is known. The client is charged for it, as it is by Redis.
const ROOM_MOST: usize = 4 << 20;
/// Replies are written in between once so many bytes have gathered.
const REPLY_FLUSH: usize = 256 * 1024;
/// A postponed command looks at least so often whether the pause is over.
const PAUSE_LOOK_MS: i64 = 1000;
/// How often what a busy script prevents is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// Reads of one connection before it lets others run.
const READS_MAX: usize = 8;

/// What the connections of one worker share; borrowed for one batch at a time, never across an await.
pub struct Shared {
    server: &'static Server,
    pool: Arc<Pool>,
    /// This worker among all.
    index: usize,
    lent: RefCell<Lent>,
    /// Takes the place of `lent` while a busy script has that (`front::busy`); made when it is first needed.
    spare: RefCell<Option<Lent>>,
    arrivals: RefCell<UnboundedReceiver<Accepted>>,
    connections: RefCell<HashMap<u64, Weak<RefCell<Connection>>>>,
    handshakes: Handshakes,
}

struct Lent {
    worker: Worker,
    buffer: Vec<u8>,
    batch: Batch,
    reply: Reply,
}

impl Lent {
    fn new(worker: Worker) -> Self {
        let mut reply = Reply::default();
        reply.buffer_mut().reserve_exact(REPLY_BUFFER);
        Lent { worker, buffer: vec![0; READ_BUFFER], batch: Batch::default(), reply }
    }

    /// A buffer that a connection has had for its replies.
    fn take_back(&mut self, mut buffer: Vec<u8>) {
        let own = self.reply.buffer_mut();
        if own.is_empty() && own.capacity() < buffer.capacity() && buffer.capacity() <= REPLY_FLUSH * 2 {
            buffer.clear();
            std::mem::swap(own, &mut buffer);
        }
    }
}

impl Shared {
    pub fn new(worker: Worker, pool: Arc<Pool>, index: usize, arrivals: UnboundedReceiver<Accepted>) -> Self {
        Shared {
            server: worker.server,
            pool,
            index,
            lent: RefCell::new(Lent::new(worker)),
            spare: RefCell::default(),
            arrivals: RefCell::new(arrivals),
            connections: RefCell::default(),
            handshakes: Handshakes::default(),
        }
    }

    /// The next socket that was dealt to this worker.
    pub async fn next_arrival(&self) -> Option<Accepted> {
        poll_fn(|context| self.arrivals.borrow_mut().poll_recv(context)).await
    }

    #[inline]
    fn lend(&self) -> RefMut<'_, Lent> {
        self.lent.try_borrow_mut().unwrap_or_else(|_| {
            RefMut::map(self.spare.borrow_mut(), |spare| {
                spare.get_or_insert_with(|| Lent::new(Worker::new(self.server)))
            })
        })
    }

    /// One round of what the event loop would do if a script did not keep it from running.
    pub fn serve_others(self: &Rc<Self>) {
        while let Ok(accepted) = self.arrivals.borrow_mut().try_recv() {
            start(self, accepted);
        }
        let connections: Vec<_> = self.connections.borrow().values().filter_map(Weak::upgrade).collect();
        for connection in connections {
            // All but the one that runs the script.
            if let Ok(mut connection) = connection.try_borrow_mut() {
                connection.poll_outside();
            }
        }
    }
}

struct Connection {
    shared: Rc<Shared>,
    server: &'static Server,
    /// What the output waits for before it may go, if the append-only file is on.
    hold: Hold,
    /// The journal's end when the last batch began.
    journal_before: u64,
    stream: Stream,
    session: Session,
    parser: RequestParser,
    /// Bytes read but not run: an unfinished request, or requests behind one that blocks.
    input: Vec<u8>,
    /// Replies that the socket has not taken yet, and how many of their bytes are written.
    output: Vec<u8>,
    written: usize,
    /// The stream may still hold written bytes back (TLS).
    unflushed: bool,
    /// Wakes the task at the deadline of a blocked command.
    deadline: Option<Pin<Box<tokio::time::Sleep>>>,
    peer_closed: bool,
    /// Of its task, so that others can poll it in between.
    waker: Waker,
    is_over: bool,
    /// The client runs on this machine.
    is_local: bool,
    /// The other end is a replica: what it gets whenever the output is empty.
    feed: Option<Feed>,
    /// Number of active workers for which this one is known to be the right one.
    settled_for: usize,
    /// A request that tells of all clients waits for what others have sent before it; and has waited.
    settling: Option<settle::Settling>,
    is_settled: bool,
}

impl Connection {
    /// While the event loop stands still. What is left to do its task does when it runs again.
    fn poll_outside(&mut self) {
        let waker = self.waker.clone();
        if !self.is_over && self.poll(&mut Context::from_waker(&waker)).is_ready() {
            self.is_over = true;
            self.stream.hang_up();
        }
        waker.wake();
    }

    /// Does all that can be done now; ready when the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.client.register(context.waker());
        if self.session.client.is_killed() && !self.session.closing {
            return Poll::Ready(Ok(()));
        }
        self.take_outbox();
        if self.waits_for_file(context) {
            return Poll::Pending;
        }
        if !self.waits() && !self.input.is_empty() {
            self.run_input();
        }
        let result = self.work(context);
        self.report();
        result
    }

    /// Writes and reads by turns.
    fn work(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_MAX {
            // A read may have blocked the session just now: its timer must be set before this task sleeps.
            if self.check_deadline(context) {
                self.run_input();
            }
            if self.session.postponed.is_some() {
                self.resume(context);
                if !self.session.is_waiting() && !self.input.is_empty() {
                    self.run_input();
                }
            }
            if self.settling.is_some() && self.settle(context) {
                self.run_input();
            }
            if self.session.client.is_killed() && !self.session.closing {
                // Over a limit, for one: what has piled up is not sent.
                return Poll::Ready(Ok(()));
            }
            // Nothing is said, and nothing more is run, before the append-only file has what it tells of.
            if self.waits_for_file(context) {
                return Poll::Pending;
            }
            self.flush(context)?;
            if self.output.is_empty() && self.session.client.has_mail() {
                self.take_outbox();
                continue;
            }
            if self.output.is_empty() && self.session.client.has(flag::REPLICA) && !self.session.closing {
                match self.feed_output(context) {
                    Next::Write => continue,
                    Next::Sleep => {}
                    Next::Close => return Poll::Ready(Ok(())),
                }
            }
            if self.peer_closed && self.settling.is_some() {
                // Who has said all still wants to hear the answer.
                return Poll::Pending;
            }
            if self.session.closing || self.peer_closed {
                return if (self.output.is_empty() && !self.unflushed) || self.peer_closed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            match self.read(context)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) => self.peer_closed = true,
                Poll::Ready(_) => {}
            }
        }
        // Others get their turn; this connection goes on at once.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Fills the empty output of a replica's connection.
    fn feed_output(&mut self, context: &mut Context<'_>) -> Next {
        if self.feed.is_none() {
            self.feed = Feed::attach(self.server, self.session.client.id);
            let nodelay = !self.server.config.current().repl_disable_tcp_nodelay;
            // A socket that refuses is slower or faster, no more.
            let _ = self.stream.set_nodelay(nodelay);
        }
        match &mut self.feed {
            Some(feed) => feed.fill(&mut self.output, context.waker()),
            None => Next::Close,
        }
    }

    /// A replica takes its reply for a part of the stream: whoever makes us reply is no replica.
    fn refuse_reply(&mut self, lent: &mut Lent) {
        let client = &self.session.client;
        let table = lent.worker.server.table;
        let command = match client.last_command.load(Ordering::Relaxed) {
            0 => "NULL",
            id => &table.entry(id - 1).full_name,
        };
        let reply = lent.reply.as_bytes();
        if reply.first() == Some(&b'-') {
            let text = String::from_utf8_lossy(&reply[1..]);
            tracing::warn!(
                "== CRITICAL == This master is sending an error to its replica: '-{}' after processing the command \
                 '{command}'",
                text.trim_end()
            );
        }
        let mut line = String::new();
        client_list::describe(client, table, lent.worker.now_ms, &mut line);
        tracing::warn!("Replica generated a reply to command '{command}', disconnecting it: {line}");
        lent.reply.truncate(0);
        lent.worker.server.clients.kill(client);
    }

    /// Reads once and runs what came.
    fn read(&mut self, context: &mut Context<'_>) -> io::Result<Poll<usize>> {
        let shared = Rc::clone(&self.shared);
        let lent = &mut *shared.lend();
        if !self.input.is_empty() {
            return self.read_more(context, lent);
        }
        let mut buffer = std::mem::take(&mut lent.buffer);
        let result = self.stream.poll_read(context, &mut buffer);
        let result = match result {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(len)) => {
                if self.is_local {
                    parking::note_local_read();
                }
                lent.worker.stats.input_bytes.add(len as u64);
                lent.worker.stats.reads_processed.add(1);
                self.report_query(len, READ_BUFFER);
                let rest = self.run(lent, &mut buffer[..len]);
                if rest < len {
                    let wanted = self.parser.wanted().max(len - rest);
                    self.input.reserve_exact(wanted.min(ROOM_MOST));
                    self.input.extend_from_slice(&buffer[rest..len]);
                }
                self.check_query(lent);
                Ok(Poll::Ready(len))
            }
        };
        lent.buffer = buffer;
        result
    }

    /// Reads on behind an unfinished request: by way of the worker's buffer, or straight to its place if much of one argument is
    /// missing. Room is taken for what is known to come and no more, since the client is charged for it.
    fn read_more(&mut self, context: &mut Context<'_>, lent: &mut Lent) -> io::Result<Poll<usize>> {
        let old = self.input.len();
        let missing = self.parser.wanted().saturating_sub(old);
        let result = if missing <= READ_BUFFER {
            let result = self.stream.poll_read(context, &mut lent.buffer);
            if let Poll::Ready(Ok(len)) = &result {
                self.input.extend_from_slice(&lent.buffer[..*len]);
            }
            result
        } else {
            // Announced is not sent: nothing is touched, and beyond a moderate size not even set aside, before it is needed.
            let next = missing.min(old.clamp(READ_BUFFER, READ_MOST));
            self.input.reserve_exact(next.max(missing.min(ROOM_MOST)));
            self.input.resize(old + next, 0);
            let result = self.stream.poll_read(context, &mut self.input[old..]);
            self.input.truncate(old + if let Poll::Ready(Ok(len)) = &result { *len } else { 0 });
            result
        };
        match result {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(len)) => {
                lent.worker.stats.input_bytes.add(len as u64);
                lent.worker.stats.reads_processed.add(1);
                if !self.waits() {
                    self.run_own(lent);
                }
                self.check_query(lent);
                Ok(Poll::Ready(len))
            }
        }
    }

    /// Runs what waited behind a blocked command.
    fn run_input(&mut self) {
        let shared = Rc::clone(&self.shared);
        self.run_own(&mut shared.lend());
    }

    fn run_own(&mut self, lent: &mut Lent) {
        let mut input = std::mem::take(&mut self.input);
        self.report_query(input.len(), input.capacity());
        let rest = self.run(lent, &mut input);
        if rest < input.len() {
            input.drain(..rest);
            self.input = input;
        }
    }

    /// Parses and runs requests until the buffer is used up; returns where the unfinished rest begins.
    fn run(&mut self, lent: &mut Lent, buffer: &mut [u8]) -> usize {
        let mut start = 0;
        self.journal_before = self.server.journal.end();
        if let Some(feed) = &self.feed {
            feed.heard();
        }
        lent.worker.renew_if_changed();
        while start < buffer.len() && !self.waits() && !self.session.closing {
            let limits =
                Limits { bulk_len_max: lent.worker.settings.bulk_len_max, authenticated: self.session.authenticated };
            lent.batch.clear();
            let parsed = self.parser.parse(buffer, start, BATCH_MAX, limits, &mut lent.batch);
            let (rest, error) = match parsed {
                Ok(rest) => (rest, None),
                Err((rest, error)) => (rest, Some(error)),
            };
            let may_settle = self.may_settle(buffer[start]);
            self.lend_console();
            let Lent { worker, batch, reply, .. } = lent;
            let end = dispatch::run_batch(worker, &mut self.session, batch, buffer, reply, may_settle);
            self.take_console_back();
            if end == BatchEnd::Unsettled {
                self.parser.reset();
                if self.begin_to_settle() {
                    break;
                }
                self.is_settled = true;
                continue;
            }
            if let BatchEnd::Stopped(executed) = end {
                self.parser.reset();
                start = lent.batch.end(executed - 1);
                break;
            }
            if let Some(error) = error {
                lent.reply.error(&format!("ERR {}", error.0));
                lent.worker.stats.count_error("ERR");
                self.session.closing = true;
                start = buffer.len();
                break;
            }
            start = rest;
            if lent.batch.is_empty() {
                break;
            }
            if lent.reply.len() >= REPLY_FLUSH {
                self.take_replies(lent);
                self.check_output(lent);
                if self.session.client.is_killed() {
                    return buffer.len();
                }
            }
        }
        self.take_replies(lent);
        if self.output.len() > OUTPUT_CHUNK {
            self.check_output(lent);
        }
        start
    }

    /// Before a batch: who debugs scripts talks with the debugger through this very socket.
    #[inline]
    fn lend_console(&mut self) {
        if self.session.script_debug.is_some() {
            console::lend(std::mem::replace(&mut self.stream, Stream::Lent));
        }
    }

    #[inline]
    fn take_console_back(&mut self) {
        if let Stream::Lent = self.stream
            && let Some(stream) = console::take_back()
        {
            self.stream = stream;
        }
    }

    /// Runs the command that CLIENT PAUSE held back, if it no longer does; otherwise sees to it that somebody wakes the task.
    fn resume(&mut self, context: &mut Context<'_>) {
        if self.session.postponed.is_none() {
            return;
        }
        let shared = Rc::clone(&self.shared);
        let lent = &mut *shared.lend();
        self.lend_console();
        let is_resumed = dispatch::resume(&mut lent.worker, &mut self.session, &mut lent.reply);
        self.take_console_back();
        if is_resumed {
            self.take_replies(lent);
            self.deadline = None;
            return;
        }
        let left = lent.worker.pause.until_ms.saturating_sub(lent.worker.now_ms).clamp(1, PAUSE_LOOK_MS);
        let mut deadline = Box::pin(tokio::time::sleep(Duration::from_millis(left as u64)));
        if deadline.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        self.deadline = Some(deadline);
    }

    /// Moves the replies from the worker's buffer to the connection's, to be written by `flush`.
    fn take_replies(&mut self, lent: &mut Lent) {
        if self.feed.is_some() && !lent.reply.is_empty() {
            return self.refuse_reply(lent);
        }
        let replies = lent.reply.buffer_mut();
        if replies.is_empty() {
            return;
        }
        if self.output.is_empty() {
            // The buffers change places: nothing is copied.
            std::mem::swap(&mut self.output, replies);
        } else {
            // Doubled, what a slow reader leaves waiting would cost twice what it is.
            if self.output.capacity() - self.output.len() < replies.len() {
                self.output.reserve_exact(replies.len().max(self.output.len() / 4));
            }
            self.output.extend_from_slice(replies);
        }
        replies.clear();
        self.hold_replies();
    }

    /// Writes what the socket takes.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.write_output(context)?;
        if self.unflushed && self.stream.poll_flush(context)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }

    fn write_output(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.stream.poll_write(context, &self.output[self.written..]) {
                Poll::Pending => {
                    // What is written goes once it is most of the buffer: a slow reader must not keep it for ever.
                    if self.written > OUTPUT_CHUNK && self.written > self.output.len() / 2 {
                        self.output.drain(..self.written);
                        self.written = 0;
                    }
                    // Nor must a few bytes that wait keep the worker's buffer.
                    if self.output.len() < self.output.capacity().min(REPLY_BUFFER) / 4 {
                        let buffer = std::mem::take(&mut self.output);
                        self.output = buffer.clone();
                        self.shared.lend().take_back(buffer);
                    }
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(len)) => self.written += len,
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if self.written > 0 {
            self.unflushed = self.stream.is_buffered();
            let mut lent = self.shared.lend();
            lent.worker.stats.output_bytes.add(self.written as u64);
            lent.worker.stats.writes_processed.add(1);
            let used = std::mem::take(&mut self.written);
            self.output.clear();
            // The buffer goes back to the worker; one that a big reply has blown up goes back to the allocator, at the latest
            // when replies are small again.
            let buffer = match std::mem::take(&mut self.output) {
                grown if grown.capacity() > REPLY_BUFFER && used < grown.capacity() / 8 => {
                    Vec::with_capacity(REPLY_BUFFER)
                }
                buffer => buffer,
            };
            if self.feed.is_some() {
                // A replica's connection keeps its own: memory that comes and goes would look like a reason to evict keys.
                let is_fit = buffer.capacity() == REPLY_BUFFER;
                self.output = if is_fit { buffer } else { Vec::with_capacity(REPLY_BUFFER) };
            } else {
                lent.take_back(buffer);
            }
        }
        Ok(())
    }

    /// Takes what others have sent to this client; a blocked command that was answered ends here. While the socket is
    /// behind, messages stay where all listeners share their bytes.
    fn take_outbox(&mut self) {
        if !self.session.client.has_mail() {
            return;
        }
        if self.output.len() - self.written > OUTPUT_CHUNK && !self.session.client.is_unblocked() {
            return;
        }
        if self.session.client.take_outbox(&mut self.output) {
            self.session.blocked = None;
            self.session.closing |= self.session.client.has(flag::CLOSE_AFTER_REPLY);
            self.deadline = None;
            // Somebody's write has served it.
            self.journal_before = u64::MAX;
            self.hold_replies();
        }
    }

    /// Ends a blocked command whose time is up, or looks again after one that time can serve; the answer comes through the outbox
    /// like any other. True if the session may go on.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> bool {
        let shared = Rc::clone(&self.shared);
        loop {
            let Some(blocked) = &self.session.blocked else { return false };
            let Some(due_ms) = blocked.due_ms() else { return false };
            let deadline = self.deadline.get_or_insert_with(|| {
                let left = due_ms - shared.lend().worker.now_ms;
                Box::pin(tokio::time::sleep(Duration::from_millis(left.max(0) as u64)))
            });
            if deadline.as_mut().poll(context).is_pending() {
                return false;
            }
            self.deadline = None;
            let is_over = blocked.deadline_ms.is_some_and(|at| at <= clock::unix_ms());
            let is_done = if is_over {
                blocking::release(self.server, &blocked.ticket, Release::Timeout).is_some()
            } else {
                blocking::look_again(&mut shared.lend().worker, &blocked.ticket)
            };
            if !is_done {
                // A busy script keeps its keys.
                let mut retry = Box::pin(tokio::time::sleep(RETRY));
                let _ = retry.as_mut().poll(context);
                self.deadline = Some(retry);
                return false;
            }
            self.take_outbox();
            if self.session.blocked.is_none() {
                return true;
            }
        }
    }
}
