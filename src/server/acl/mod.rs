//! Users and what they may do (ACL v2).
//!
//! ```text
//!   words ─► rules ─► User { root selector, further selectors } ─► describe ─► words
//!                        │
//!   users: ArcSwap ◄─────┘  every change is a new map and a new generation
//!      │
//!      └─► session: Arc<User>, looked up again when the generation has changed
//!             allowed everything: one comparison per command (dispatch::admit)
//!             else: command bits, keys by `plan::visit_keys`, channels by the declaration
//! ```
//! Keys come from the same place as the locks of a command, so what is checked is what is touched.

pub mod admit;
pub mod categories;
pub mod describe;
pub mod log;
pub mod registry;
pub mod rules;
pub mod selector;
pub mod user;

use super::config::Config;
use super::table::CommandTable;
use arc_swap::{ArcSwap, Guard};
use log::AclLog;
use parking_lot::Mutex;
use rules::Rules;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
pub use user::User;

/// The name of the user that new connections begin as. It always exists.
pub const DEFAULT: &[u8] = b"default";

#[derive(Clone)]
pub struct Users {
    pub by_name: BTreeMap<Box<[u8]>, Arc<User>>,
    pub default: Arc<User>,
}

impl Users {
    pub fn find(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: u64) -> Option<&Arc<User>> {
        Some(&self.default).filter(|user| user.id == id).or_else(|| self.by_name.values().find(|user| user.id == id))
    }

    /// Puts a user in place of its older version.
    pub fn put(&mut self, user: User) {
        let user = Arc::new(user);
        if *user.name == *DEFAULT {
            self.default = Arc::clone(&user);
        }
        self.by_name.insert(user.name.clone(), user);
    }
}

/// Reading and writing the ACL file; placed by `boot`, since files are not of this room.
pub struct AclFile {
    pub load: fn(&'static super::Server) -> Result<Vec<User>, String>,
    pub save: fn(&'static super::Server) -> std::io::Result<()>,
}

pub struct Acl {
    users: ArcSwap<Users>,
    /// Raised after each change; from 1 on, since 0 stands for "never looked".
    generation: AtomicU64,
    /// Changes come one after another.
    changing: Mutex<()>,
    next_id: AtomicU64,
    pub log: AclLog,
    pub file: OnceLock<AclFile>,
}

impl Acl {
    pub fn new(table: &CommandTable, config: &Config) -> Self {
        let mut default = User::new(1, DEFAULT, table, true);
        allow_all(&mut default, table);
        set_password(&mut default, config.requirepass.as_deref());
        let default = Arc::new(default.settle(table));
        let by_name = BTreeMap::from([(default.name.clone(), Arc::clone(&default))]);
        Acl {
            users: ArcSwap::from_pointee(Users { by_name, default }),
            generation: AtomicU64::new(1),
            changing: Mutex::new(()),
            next_id: AtomicU64::new(2),
            log: AclLog::default(),
            file: OnceLock::new(),
        }
    }

    /// The users of this moment.
    pub fn users(&self) -> Guard<Arc<Users>> {
        self.users.load()
    }

    pub fn find(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.load().find(name).cloned()
    }

    /// Changes whenever the users do.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The user that `user` has become since, if it has not been deleted.
    pub fn current(&self, user: &User) -> Option<Arc<User>> {
        self.users.load().find(&user.name).filter(|now| now.id == user.id).cloned()
    }
}

/// Makes the default user what it is without any configuration.
pub fn allow_all(user: &mut User, table: &CommandTable) {
    let rules = Rules { table, all_channels: true };
    for word in ["+@all", "~*", "&*", "on", "nopass"] {
        // Known words, so none is refused.
        let _ = rules.apply(user, word.as_bytes());
    }
}

/// `requirepass` is another name for the default user's only password.
fn set_password(user: &mut User, password: Option<&[u8]>) {
    user.passwords = password.map(user::hash_password).into_iter().collect();
    user.nopass = password.is_none();
}
