//! Who a session is: a new one is the default user, AUTH and HELLO make it another.

use super::acl::admit;
use super::session::Session;
use super::state::Server;
use super::table::Entry;
use crate::commands::error::CommandError;
use crate::resp::Args;

impl Server {
    /// Whether anybody may act as the default user.
    pub fn default_user_needs_no_password(&self) -> bool {
        self.acl.users().default.nopass
    }

    /// Takes on a user's identity if the password is right. `command` is the word with which it was asked, for ACL LOG.
    pub fn authenticate(
        &self,
        session: &mut Session,
        name: &[u8],
        password: &[u8],
        command: &[u8],
    ) -> Result<(), CommandError> {
        let Some(user) = self.acl.find(name).filter(|user| user.accepts(password)) else {
            admit::note_failed_login(self, session, name, command);
            return Err(CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled."));
        };
        session.become_user(&user);
        session.authenticated = true;
        Ok(())
    }

    /// Takes on the identity that a checked certificate names. Without such a user, or if it is off, nothing changes.
    pub fn become_certified_user(&self, session: &mut Session, name: &[u8]) {
        match self.acl.find(name).filter(|user| user.enabled) {
            Some(user) => {
                session.become_user(&user);
                session.authenticated = true;
            }
            None => admit::note_failed_login(self, session, name, b"TLS"),
        }
    }

    /// What a new connection is, and RESET makes of any.
    pub fn become_default_user(&self, session: &mut Session) {
        let users = self.acl.users();
        session.become_user(&users.default);
        session.authenticated = users.default.is_open();
    }

    pub fn has_user(&self, name: &[u8]) -> bool {
        self.acl.users().find(name).is_some()
    }
}

/// Whether a session may run a command with these arguments (redis.acl_check_cmd).
pub fn may_run(session: &Session, entry: &Entry, args: Args<'_>) -> bool {
    session.identity.user().is_none_or(|user| user.check(entry, args).is_ok())
}
