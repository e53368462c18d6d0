//! The question at every command: may this session's user do this? Asked when a request comes, when EXEC runs it, when a script
//! calls it, and when a blocked client is about to be served.

use super::log::{Context, Reason, Refusal};
use super::selector::Denied;
use super::user::User;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::resp::Args;
use crate::server::call::Caller;
use crate::server::clients::Client;
use crate::server::commands::client_list;
use crate::server::session::Session;
use crate::server::state::Server;
use crate::server::table::Entry;
use crate::server::worker::Worker;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whose rights a session has.
#[derive(Default)]
pub struct Identity {
    /// Nobody: the server itself (loading, the link to the primary), which may do everything.
    user: Option<Arc<User>>,
    /// The generation of the users in which `user` was looked up.
    seen: u64,
    /// The generation in which it was found that every command is allowed; 0: it was not.
    free: u64,
}

impl Identity {
    pub fn user(&self) -> Option<&Arc<User>> {
        self.user.as_ref()
    }

    /// The whole check for those who may do everything.
    #[inline]
    pub fn is_free(&self, generation: u64) -> bool {
        self.free == generation
    }
}

/// A user as it was when a client went to sleep.
pub struct Sleeper {
    user: Option<Arc<User>>,
    free: u64,
}

impl Session {
    /// Takes on a user's rights; whether that is the same as being authenticated is the caller's business.
    pub fn become_user(&mut self, user: &Arc<User>) {
        self.client.user.store(user.id, Ordering::Release);
        self.client.texts.lock().user = String::from_utf8_lossy(&user.name).into_owned();
        self.identity = Identity { user: Some(Arc::clone(user)), seen: 0, free: 0 };
    }

    /// Looks the user up again if the users have changed. A user that is gone leaves the session as one that has yet to log in.
    pub fn renew_user(&mut self, server: &Server, generation: u64) {
        if self.identity.seen == generation {
            return;
        }
        let Some(user) = &self.identity.user else { return };
        match server.acl.current(user) {
            Some(now) => self.identity = Identity { user: Some(now), seen: generation, free: 0 },
            None => {
                self.authenticated = false;
                self.become_user(&server.acl.users().default);
                self.identity.seen = generation;
            }
        }
    }

    pub fn sleeper(&self) -> Sleeper {
        Sleeper { user: self.identity.user.clone(), free: self.identity.free }
    }
}

/// Admits a request of a session that is not known to be free. `Err`: the reply.
#[inline(never)]
pub fn admit(worker: &Worker, session: &mut Session, entry: &Entry, args: Args<'_>) -> Result<(), CommandError> {
    let (server, generation) = (worker.server, worker.acl_generation);
    session.renew_user(server, generation);
    let is_open = session.authenticated || server.acl.users().default.is_open();
    if !is_open && !entry.spec.flags.has(Flags::NO_AUTH) {
        return Err(CommandError::fixed("NOAUTH Authentication required."));
    }
    let allowed = match &session.identity.user {
        None => Ok(()),
        Some(user) => user.check(entry, args).map_err(|denied| (denied, Arc::clone(user))),
    };
    match allowed {
        Ok(()) => {
            let is_free = is_open && session.identity.user.as_ref().is_none_or(|user| user.is_unrestricted());
            session.identity.free = if is_free { generation } else { 0 };
            Ok(())
        }
        Err((denied, user)) => {
            let context = match session {
                Session { in_script: true, .. } => Context::Lua,
                Session { in_exec: true, .. } | Session { transaction: Some(_), .. } => Context::Multi,
                _ => Context::TopLevel,
            };
            note(server, &user, &session.client, denied, context, entry, args);
            Err(match context {
                Context::Lua => refusal_in_script(denied),
                Context::Multi if session.in_exec => refusal_in_exec(denied),
                Context::Multi | Context::TopLevel => refusal(denied, entry),
            })
        }
    }
}

/// What may happen to a blocked client whose key has become ready.
pub enum Wake {
    Serve,
    /// Its user is gone, and the connection about to end: it must not take anything any more.
    Leave,
    Refuse(CommandError),
}

/// Asks again for a client that has slept: its user may have changed meanwhile.
pub fn admit_sleeper(server: &Server, sleeper: &Sleeper, client: &Client, entry: &Entry, args: Args<'_>) -> Wake {
    let Some(user) = sleeper.user.as_ref().filter(|_| sleeper.free != server.acl.generation()) else {
        return Wake::Serve;
    };
    let Some(user) = server.acl.current(user) else { return Wake::Leave };
    match user.check(entry, args) {
        Ok(()) => Wake::Serve,
        Err(denied) => {
            note(server, &user, client, denied, Context::TopLevel, entry, args);
            Wake::Refuse(refusal(denied, entry))
        }
    }
}

/// Notes in `caller` whether a command that may look at any key (SORT BY, GET) is run by a user who may read them all.
#[inline]
pub fn with_reach(mut caller: Caller, worker: &Worker, session: &Session, entry: &Entry, args: Args<'_>) -> Caller {
    if !session.identity.is_free(worker.acl_generation) && entry.spec.every_shard_if.is_some() {
        let user = session.identity.user.as_ref();
        caller.reads_any_key = user.is_none_or(|user| user.may_read_any_key(entry, args));
    }
    caller
}

/// Writes a refusal into ACL LOG.
fn note(
    server: &Server,
    user: &User,
    client: &Client,
    denied: Denied,
    context: Context,
    entry: &Entry,
    args: Args<'_>,
) {
    let (reason, object) = match denied {
        Denied::Command => (Reason::Command, entry.full_name.as_bytes()),
        Denied::Key(index) => (Reason::Key, args.get(index).unwrap_or_default()),
        Denied::Channel(index) => (Reason::Channel, args.get(index).unwrap_or_default()),
    };
    write_log(server, &user.name, client, reason, context, object);
}

/// Writes a failed login into ACL LOG; `command` is how it was tried.
pub fn note_failed_login(server: &Server, session: &Session, user: &[u8], command: &[u8]) {
    let context = if session.in_exec || session.transaction.is_some() { Context::Multi } else { Context::TopLevel };
    write_log(server, user, &session.client, Reason::Auth, context, command);
}

fn write_log(server: &Server, user: &[u8], client: &Client, reason: Reason, context: Context, object: &[u8]) {
    let now_ms = crate::base::clock::unix_ms();
    let mut line = String::new();
    client_list::describe(client, server.table, now_ms, &mut line);
    let refusal = Refusal { reason, context, object: object.to_vec(), user: user.into(), client: line };
    server.acl.log.add(refusal, now_ms, server.config.current().acllog_max_len);
}

fn refusal(denied: Denied, entry: &Entry) -> CommandError {
    match denied {
        Denied::Command => {
            CommandError::new(format!("NOPERM this user has no permissions to run the '{}' command", entry.full_name))
        }
        Denied::Key(_) => {
            CommandError::fixed("NOPERM this user has no permissions to access one of the keys used as arguments")
        }
        Denied::Channel(_) => {
            CommandError::fixed("NOPERM this user has no permissions to access one of the channels used as arguments")
        }
    }
}

fn refusal_in_exec(denied: Denied) -> CommandError {
    let reason = match denied {
        Denied::Command => "no permission to execute the command or subcommand",
        Denied::Key(_) => "no permission to touch the specified keys",
        Denied::Channel(_) => "no permission to access one of the channels used as arguments",
    };
    CommandError::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no \
         longer allowed for the following reason: {reason}"
    ))
}

fn refusal_in_script(denied: Denied) -> CommandError {
    CommandError::fixed(match denied {
        Denied::Command => "ERR The user executing the script can't run this command or subcommand",
        Denied::Key(_) => {
            "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments"
        }
        Denied::Channel(_) => "ERR The user executing the script can't publish to the channel mentioned in the command",
    })
}
