//! Changes of the users, and what follows for their clients: who loses a user is disconnected, and so is who listens to a
//! channel that its user may no longer hear.

use super::rules::{Rules, is_user_name, join_selectors, shown};
use super::selector::allows_channel;
use super::user::User;
use super::{DEFAULT, Users, allow_all, describe, set_password};
use crate::commands::error::{CommandError, CommandResult};
use crate::server::clients::Client;
use crate::server::config::Declared;
use crate::server::pubsub::Kind;
use crate::server::state::Server;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Whether the client that asked for a change must be disconnected after its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosesCaller(pub bool);

impl Server {
    pub fn acl_rules(&self) -> Rules<'_> {
        let all_channels =
            self.config.current().acl_pubsub_default == crate::server::config::AclPubsubDefault::Allchannels;
        Rules { table: self.table, all_channels }
    }

    fn new_user(&self, name: &[u8]) -> User {
        User::new(self.acl.next_id(), name, self.table, self.acl_rules().all_channels)
    }

    /// Makes a changed map of users the one that counts; workers look at their sessions' users again.
    fn publish_users(&self, users: Users) {
        self.acl.users.store(Arc::new(users));
        self.acl.generation.fetch_add(1, Ordering::AcqRel);
        self.renew_settings();
    }

    /// ACL SETUSER: all words or none.
    pub fn set_user<W: AsRef<[u8]>>(&self, name: &[u8], words: &[W], caller: u64) -> CommandResult<ClosesCaller> {
        if !is_user_name(name) {
            return Err(CommandError::fixed("ERR Usernames can't contain spaces or null characters"));
        }
        let words = join_selectors(words).map_err(|index| {
            let word = words.get(index).map_or(b"".as_slice(), |word| word.as_ref());
            CommandError::joined(&[b"ERR Unmatched parenthesis in acl selector starting at '", word, b"'."])
        })?;
        let _one_at_a_time = self.acl.changing.lock();
        let mut users = Users::clone(&self.acl.users());
        let old = users.find(name).cloned();
        let mut user = old.as_deref().cloned().unwrap_or_else(|| self.new_user(name));
        let rules = self.acl_rules();
        for word in &words {
            rules.apply(&mut user, word).map_err(|error| {
                let reason = error.text().as_bytes();
                CommandError::joined(&[b"ERR Error in ACL SETUSER modifier '", word, b"': ", reason])
            })?;
        }
        let user = user.settle(self.table);
        let losers = old.filter(|old| loses_channels(old, &user)).map(|_| user.clone());
        users.put(user);
        self.publish_users(users);
        Ok(ClosesCaller(losers.is_some_and(|user| self.disconnect_listeners(&user, caller))))
    }

    /// ACL DELUSER: how many there were.
    pub fn delete_users<'a>(&self, names: impl Iterator<Item = &'a [u8]>, caller: u64) -> (usize, ClosesCaller) {
        let _one_at_a_time = self.acl.changing.lock();
        let mut users = Users::clone(&self.acl.users());
        let gone: HashSet<u64> = names
            .filter(|name| *name != DEFAULT)
            .filter_map(|name| users.by_name.remove(name))
            .map(|user| user.id)
            .collect();
        if gone.is_empty() {
            return (0, ClosesCaller(false));
        }
        self.publish_users(users);
        (gone.len(), ClosesCaller(self.disconnect_users(&gone, caller)))
    }

    /// The users of a freshly read ACL file take the place of all others. The default user stays the one that it was, with other
    /// rules; whoever is logged in as another is disconnected.
    pub fn replace_users(&self, list: Vec<User>, caller: u64) -> ClosesCaller {
        let _one_at_a_time = self.acl.changing.lock();
        let old = Arc::clone(&self.acl.users());
        let mut default = User::new(old.default.id, DEFAULT, self.table, true);
        allow_all(&mut default, self.table);
        let mut users = Users { by_name: Default::default(), default: Arc::clone(&old.default) };
        users.put(default.settle(self.table));
        for mut user in list {
            if *user.name == *DEFAULT {
                user.id = old.default.id;
            }
            users.put(user);
        }
        let default = User::clone(&users.default);
        let gone = old.by_name.values().map(|user| user.id).filter(|id| *id != old.default.id).collect();
        self.publish_users(users);
        let deaf = loses_channels(&old.default, &default) && self.disconnect_listeners(&default, caller);
        ClosesCaller(self.disconnect_users(&gone, caller) | deaf)
    }

    /// `requirepass` has been set.
    pub fn set_default_password(&self, password: Option<&[u8]>) {
        let _one_at_a_time = self.acl.changing.lock();
        let mut users = Users::clone(&self.acl.users());
        let mut default = User::clone(&users.default);
        set_password(&mut default, password);
        users.put(default);
        self.publish_users(users);
    }

    /// The `user` lines of the configuration.
    pub fn declare_users(&self, declared: &[Declared]) -> Result<(), String> {
        let _one_at_a_time = self.acl.changing.lock();
        let mut users = Users::clone(&self.acl.users());
        let rules = self.acl_rules();
        for words in declared.iter().map(|declared| declared.words.as_slice()) {
            let Some((name, words)) = words.split_first() else { continue };
            if !is_user_name(name) {
                return Err("Spaces not allowed in ACL usernames".into());
            }
            let mut user = match users.find(name) {
                None => self.new_user(name),
                Some(known) => {
                    let mut user = User::clone(known);
                    // A known word.
                    let _ = rules.apply(&mut user, b"reset");
                    user
                }
            };
            for word in join_selectors(words).map_err(|_| "Unmatched parenthesis in acl selector".to_string())? {
                rules.apply(&mut user, &word).map_err(|error| {
                    let (word, name) = (shown(&word), shown(name));
                    format!("Error loading ACL rule '{word}' for the user named '{name}': {}", error.text())
                })?;
            }
            if !user.enabled {
                tracing::info!(
                    "The user '{}' is disabled (there is no 'on' modifier in the user description). Make sure this is not a \
                     configuration error.",
                    shown(name)
                );
            }
            users.put(user.settle(self.table));
        }
        self.publish_users(users);
        Ok(())
    }

    /// Every user as a line of the configuration or of the ACL file, without the word `user`; in the order of their names.
    pub fn user_lines(&self) -> Vec<Vec<u8>> {
        self.acl.users().by_name.values().map(|user| describe::line(self.table, user)).collect()
    }

    /// Disconnects the clients of users that are gone; true if the caller is one of them, whose reply must go out first.
    fn disconnect_users(&self, gone: &HashSet<u64>, caller: u64) -> bool {
        let clients =
            self.clients.all().into_iter().filter(|client| gone.contains(&client.user.load(Ordering::Acquire)));
        self.disconnect(clients, caller)
    }

    /// Disconnects the clients of a user that listen to what its new version may not hear.
    fn disconnect_listeners(&self, user: &User, caller: u64) -> bool {
        let rules = || user.all_selectors().flat_map(|selector| &selector.channels).map(|rule| &**rule);
        let listeners = self.pubsub.listeners_if(|kind, name| !allows_channel(rules(), name, kind == Kind::Pattern));
        let of_user = listeners.into_iter().filter(|client| client.user.load(Ordering::Acquire) == user.id);
        self.disconnect(of_user, caller)
    }

    fn disconnect(&self, clients: impl Iterator<Item = Arc<Client>>, caller: u64) -> bool {
        let mut includes_caller = false;
        for client in clients {
            if client.id == caller {
                includes_caller = true;
            } else {
                self.clients.kill(&client);
            }
        }
        includes_caller
    }
}

/// Whether a user could hear channels that its new version cannot, as far as the rules themselves tell.
fn loses_channels(old: &User, new: &User) -> bool {
    if new.all_selectors().any(|selector| selector.all_channels) {
        return false;
    }
    let kept: HashSet<&[u8]> = new.all_selectors().flat_map(|one| &one.channels).map(|rule| &**rule).collect();
    old.all_selectors().any(|one| one.all_channels || one.channels.iter().any(|rule| !kept.contains(&**rule)))
}
