//! A session: what the server keeps of one connection, owned by the worker that serves it.

use super::acl::admit::Identity;
use super::blocking::Blocked;
use super::clients::{Client, flag};
use super::multi::Transaction;
use super::pubsub::Subscriptions;
use super::replicas::Replica;
use super::tracking::SessionTracking;
use super::worker::Worker;
use crate::commands::error::CommandError;
use crate::commands::spec::Command;
use crate::engine::keyspace::Locked;
use crate::engine::keyspace::watch::WatchFlag;
use crate::resp::{Args, OwnedArgs, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// The reply of the next command is dropped.
    SkipNext,
    /// The reply of this command is dropped.
    Skip,
}

/// ASKING: the next command may find a slot that this node is importing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    #[default]
    No,
    /// This very command has said so.
    Said,
    Yes,
}

/// What a command of a transaction does once the locks of that are gone: files take their time. The place is that of its reply.
pub struct AfterExec {
    pub place: usize,
    pub work: Box<dyn FnOnce() -> Result<(), CommandError> + Send>,
}

/// SCRIPT DEBUG: the next EVAL of this session is debugged.
#[derive(Default)]
pub struct ScriptDebug {
    /// What it writes stays (SYNC).
    pub keeps_writes: bool,
    /// Lines that the debugger has not sent yet.
    pub log: Vec<Vec<u8>>,
}

pub struct Session {
    pub client: Arc<Client>,
    pub db: usize,
    pub resp3: bool,
    pub authenticated: bool,
    /// Whose rights count here.
    pub identity: Identity,
    pub reply_mode: ReplyMode,
    pub asking: Asking,
    pub transaction: Option<Transaction>,
    /// Keys of WATCH with their database; `expired` if the key was not there or past its expiry: it cannot expire again.
    pub watched: Vec<Watched>,
    pub watch_flag: WatchFlag,
    /// Keys that are no longer watched, but whose shards a busy script kept when that was said.
    pub stale_watches: Vec<(usize, Box<[u8]>, WatchFlag)>,
    pub blocked: Option<Blocked>,
    /// Nothing more is read; the connection ends when the replies are written.
    pub closing: bool,
    pub subscriptions: Subscriptions,
    pub tracking: SessionTracking,
    /// Others send messages here (channels, invalidations, MONITOR): they go out between replies.
    pub receives_pushes: bool,
    /// The running command has answered with messages, which CLIENT REPLY does not silence.
    pub replied_by_push: bool,
    /// EXEC runs the queue.
    pub in_exec: bool,
    pub after_exec: Vec<AfterExec>,
    /// A script runs on behalf of this session; it has read keys that are to be remembered for client-side caching.
    pub in_script: bool,
    pub script_has_read: bool,
    pub script_debug: Option<Box<ScriptDebug>>,
    /// A command that waits for the end of CLIENT PAUSE.
    pub postponed: Option<OwnedArgs>,
    /// What the other end has said of itself with REPLCONF: it is, or is about to become, a replica.
    pub replica: Option<Arc<Replica>>,
    /// Offset in the stream behind this client's last write: what WAIT waits for.
    pub write_offset: u64,
    /// On the link to the primary: writes are allowed and expired keys still seen.
    pub is_primary_link: bool,
}

pub struct Watched {
    pub db: usize,
    pub key: Box<[u8]>,
    pub expired: bool,
}

impl Session {
    /// A session of the server itself, which may do everything; `Server::become_default_user` makes it a client's.
    pub fn new(client: Arc<Client>, authenticated: bool) -> Self {
        Session {
            client,
            db: 0,
            resp3: false,
            authenticated,
            identity: Identity::default(),
            reply_mode: ReplyMode::On,
            asking: Asking::No,
            transaction: None,
            watched: Vec::new(),
            watch_flag: WatchFlag::default(),
            stale_watches: Vec::new(),
            blocked: None,
            closing: false,
            subscriptions: Subscriptions::default(),
            tracking: SessionTracking::default(),
            receives_pushes: false,
            replied_by_push: false,
            in_exec: false,
            after_exec: Vec::new(),
            in_script: false,
            script_has_read: false,
            script_debug: None,
            postponed: None,
            replica: None,
            write_offset: 0,
            is_primary_link: false,
        }
    }

    pub fn select(&mut self, db: usize) {
        self.db = db;
        self.client.db.store(db, Ordering::Relaxed);
    }

    pub fn set_resp3(&mut self, resp3: bool) {
        self.resp3 = resp3;
        self.client.resp.store(if resp3 { 3 } else { 2 }, Ordering::Relaxed);
    }

    /// To be called after a change of what is sent here.
    pub fn note_pushes(&mut self) {
        self.receives_pushes = !self.subscriptions.is_empty() || self.tracking.on || self.client.has(flag::MONITOR);
    }

    /// Whether the next command has to wait for something.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.blocked.is_some() || self.postponed.is_some()
    }

    /// In RESP2 a client that listens to channels can only change its subscriptions.
    pub fn is_resp2_subscriber(&self) -> bool {
        !self.resp3 && self.client.has(flag::PUBSUB)
    }
}

impl SessionContext<'_> {
    /// Does something that takes its time and answers OK, or its error: at once, or inside EXEC when nothing is locked any more.
    pub fn unlocked(
        &mut self,
        work: impl FnOnce() -> Result<(), CommandError> + Send + 'static,
    ) -> Result<SessionFlow, CommandError> {
        if self.session.in_exec {
            self.session.after_exec.push(AfterExec { place: self.reply.len(), work: Box::new(work) });
        } else {
            work()?;
            self.reply.ok();
        }
        Ok(SessionFlow::Done)
    }
}

/// What a session command works with.
pub struct SessionContext<'a> {
    pub worker: &'a mut Worker,
    pub session: &'a mut Session,
    pub reply: &'a mut Reply,
    /// The shards that are locked already: inside EXEC or a script, or because the command is declared so.
    pub locked: Option<&'a mut Locked>,
    /// Inside EXEC or a script.
    pub deny_blocking: bool,
    /// The command as declared.
    pub entry: &'static super::table::Entry,
}

/// What happens to the connection after a session command.
pub enum SessionFlow {
    Done,
    /// The session is blocked (`session.blocked` says on what).
    Blocked,
    /// Reply, then close.
    Close,
    /// Nothing was done, because settings have changed meanwhile: admission and all once more.
    Again,
}

/// Handler of a command on the session or the server.
pub type SessionHandler = fn(&mut SessionContext<'_>, Args<'_>) -> Result<SessionFlow, CommandError>;
pub type SessionCommand = Command<SessionHandler>;
