//! Who a session is: the default user, with the password of `requirepass` or none.

use super::session::Session;
use super::state::Server;
use super::table::Entry;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::resp::Args;

impl Server {
    /// Whether anybody may act as the default user.
    pub fn default_user_needs_no_password(&self) -> bool {
        self.config.current().requirepass.is_none()
    }

    /// Takes on a user's identity if the password is right.
    pub fn authenticate(&self, session: &mut Session, user: &[u8], password: &[u8]) -> Result<(), CommandError> {
        let config = self.config.current();
        let right = match &config.requirepass {
            None => true,
            Some(expected) => same_bytes(expected, password),
        };
        if !self.has_user(user) || !right {
            return Err(CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled."));
        }
        session.authenticated = true;
        session.client.texts.lock().user = String::from_utf8_lossy(user).into_owned();
        Ok(())
    }

    /// What a new connection is, and RESET makes of any.
    pub fn become_default_user(&self, session: &mut Session) {
        session.authenticated = self.default_user_needs_no_password();
        session.client.texts.lock().user = "default".into();
    }

    pub fn has_user(&self, name: &[u8]) -> bool {
        name == b"default"
    }
}

/// Whether a session may run a command with these arguments (redis.acl_check_cmd).
pub fn may_run(session: &Session, entry: &Entry, _args: Args<'_>) -> bool {
    session.authenticated || entry.spec.flags.has(Flags::NO_AUTH)
}

/// Compares in a time that does not tell where the first difference is.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}
