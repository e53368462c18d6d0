//! Keyspace events and cache invalidation: who is told of a change.

use super::state::Server;
use crate::base::number::IntText;
use crate::commands::effects::{Effects, EventClasses};

impl Server {
    /// Publishes the events of a command that client `by` has run, and invalidates caches of the keys it changed.
    pub fn publish_effects(&self, effects: &Effects, by: u64) {
        for (_, key) in &effects.changed {
            self.invalidate_remembered(key, by);
        }
        if effects.events.is_empty() {
            return;
        }
        let wanted = self.config.current().notify_keyspace_events;
        for event in &effects.events {
            let db = IntText::new(event.db as i64);
            if wanted.has(EventClasses::KEYSPACE) {
                let channel = [b"__keyspace@", &*db, b"__:", &event.key].concat();
                self.publish(&channel, event.name.as_bytes());
            }
            if wanted.has(EventClasses::KEYEVENT) {
                let channel = [b"__keyevent@", &*db, b"__:", event.name.as_bytes()].concat();
                self.publish(&channel, &event.key);
            }
        }
    }
}
