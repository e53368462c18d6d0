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
mod input;
mod life;
mod limits;
mod output;
mod settle;

pub use life::start;
pub use settle::Turns;

use self::hold::Hold;
use super::handshake::Handshakes;
use super::pool::{Accepted, Pool};
use super::sync_turn::SyncTurn;
use crate::base::clock;
use crate::net::stream::Stream;
use crate::replication::primary::feed::{Feed, Next};
use crate::resp::{Batch, Reply, RequestParser};
use crate::server::blocking::{self, Release};
use crate::server::clients::flag;
use crate::server::dispatch;
use crate::server::{Server, Session, Worker};
use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// Size of the worker's read buffer: what one connection may run before others get their turn.
const READ_BUFFER: usize = 64 * 1024;
/// Room for replies that a worker has from the start. Untouched it costs nothing, and its growth is not taken for that of data.
const REPLY_BUFFER: usize = 64 * 1024;
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
    pub(super) sync_turn: SyncTurn,
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
        if own.is_empty() && own.capacity() < buffer.capacity() && buffer.capacity() <= input::REPLY_FLUSH * 2 {
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
            sync_turn: SyncTurn::default(),
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
