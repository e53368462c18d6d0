//! MONITOR: every command as it runs, to whoever asked. Credentials are not shown.

use super::clients::{Client, flag};
use super::state::Server;
use super::table::Entry;
use crate::base::clock;
use crate::base::quoting::quote;
use crate::resp::Args;
use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;

#[derive(Default)]
pub struct Monitors(RwLock<Vec<Arc<Client>>>);

impl Monitors {
    pub fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}

/// Where a command came from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Client(&'a Client),
    Script,
}

impl Server {
    pub fn add_monitor(&self, client: &Arc<Client>) {
        client.set(flag::MONITOR, true);
        self.monitors.0.write().push(Arc::clone(client));
        self.renew_settings();
    }

    pub fn remove_monitor(&self, client: &Client) {
        if client.has(flag::MONITOR) {
            client.set(flag::MONITOR, false);
            self.monitors.0.write().retain(|other| other.id != client.id);
            self.renew_settings();
        }
    }

    /// Shows a command to the monitors. Workers ask only while there are some.
    #[cold]
    pub fn feed_monitors(&self, db: usize, source: Source<'_>, entry: &Entry, args: Args<'_>) {
        let line = Bytes::from(line(db, source, entry, args, clock::unix_us()));
        for monitor in self.monitors.0.read().iter() {
            self.deliver(monitor, line.clone());
        }
    }
}

fn line(db: usize, source: Source<'_>, entry: &Entry, args: Args<'_>, now_us: i64) -> Vec<u8> {
    let from = match source {
        Source::Script => "lua".to_owned(),
        Source::Client(client) if client.has(flag::UNIX_SOCKET) => {
            format!("unix:{}", client.addr.strip_suffix(":0").unwrap_or(&client.addr))
        }
        Source::Client(client) => client.addr.clone(),
    };
    let mut line = format!("+{}.{:06} [{db} {from}]", now_us / 1_000_000, now_us % 1_000_000).into_bytes();
    for (index, arg) in args.iter().enumerate() {
        line.push(b' ');
        line.extend(quote(if is_secret(entry, args, index) { b"(redacted)" } else { arg }));
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Whether an argument carries a credential, which neither MONITOR nor SLOWLOG shows.
pub fn is_secret(entry: &Entry, args: Args<'_>, index: usize) -> bool {
    let follows = |word: &str, distance: usize| index > distance && args.is(index - distance, word);
    match entry.full_name.as_str() {
        "auth" => (1..=2).contains(&index),
        "hello" => follows("AUTH", 1) || follows("AUTH", 2),
        "migrate" => follows("AUTH", 1) || follows("AUTH2", 1) || follows("AUTH2", 2),
        "acl|setuser" => index >= 2,
        "config|set" => {
            index > 2
                && index % 2 == 1
                && ["requirepass", "masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"]
                    .iter()
                    .any(|name| args.is(index - 1, name))
        }
        _ => false,
    }
}
