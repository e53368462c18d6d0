//! Fields of a hash that have expired: hidden from every command at once, taken out when somebody comes by.
//!
//! ```text
//!   field expires ──► hidden (`field_now` decides what a lookup sees)
//!                       │ a command reads or writes the hash, or the active cycle finds its mark
//!                       ▼
//!                 `expire_fields`: HDEL to the stream, `hexpired`; with the last field the key goes, too (`del`)
//! ```
//! A replica hides and waits for its primary's HDEL, as it waits for the DEL of a key.

use super::context::Keys;
use super::effects::{Event, EventClasses};
use super::error::CommandResult;
use crate::engine::hash::Hash;
use crate::engine::keyspace::OnExpired;
use crate::engine::limits::Limits;
use crate::engine::value::{Value, ValueMut};
use crate::resp::OwnedArgs;

/// Expired fields that a command takes out on its way; the rest stays hidden until the next one or the active cycle.
pub const LAZY_FIELDS: usize = 64;

impl Keys<'_> {
    /// The time at which lookups of fields happen. On the link to the primary and while loading no field counts as expired.
    #[inline]
    pub fn field_now(&self) -> i64 {
        if self.settings.on_expired == OnExpired::Ignore { i64::MIN } else { self.now_ms }
    }

    /// A hash to change, without the fields that have expired.
    #[inline]
    pub fn write_live_hash(&mut self, key: &[u8]) -> CommandResult<Option<&mut Hash>> {
        let now = self.field_now();
        match self.write_hash(key)? {
            None => return Ok(None),
            Some(hash) if has_expired(hash, now) => _ = expire_fields(self, key, LAZY_FIELDS),
            Some(_) => {}
        }
        // A second lookup, because a loan cannot be both tested and returned.
        Ok(self.hash_in_place(key))
    }

    /// The same, created if there is none.
    pub fn live_hash_or_new(&mut self, key: &[u8], new: impl FnOnce(&Limits) -> Hash) -> CommandResult<&mut Hash> {
        if self.write_live_hash(key)?.is_none() {
            let value = Value::Hash(new(&self.settings.limits));
            self.insert(key, value, None);
            self.notify(key, EventClasses::NEW, "new");
        }
        self.hash_in_place(key).ok_or(super::error::WRONG_TYPE)
    }

    #[inline]
    pub(super) fn hash_in_place(&mut self, key: &[u8]) -> Option<&mut Hash> {
        let place = self.hash(key);
        match self.locked.db_mut(place, self.db).find_mut(place, key)?.value_mut() {
            ValueMut::Hash(hash) => Some(hash),
            ValueMut::String(_) | ValueMut::List(_) | ValueMut::Set(_) | ValueMut::ZSet(_) | ValueMut::Stream(_) => {
                None
            }
        }
    }

    /// After a command has read a hash that held expired fields.
    #[inline]
    pub fn expire_fields_if(&mut self, key: &[u8], stale: bool) {
        if stale {
            expire_fields(self, key, LAZY_FIELDS);
        }
    }

    /// Tells the key table that expiries of fields were set or removed.
    pub fn review_field_expiry(&mut self, key: &[u8]) {
        let place = self.hash(key);
        self.locked.db_mut(place, self.db).review_field_expiry(place, key);
    }
}

/// Whether a field had expired at `now` and is still there.
#[inline]
pub fn has_expired(hash: &Hash, now: i64) -> bool {
    hash.earliest_expiry().is_some_and(|earliest| earliest < now)
}

/// Takes up to `limit` expired fields out of a hash, and the key with the last one; how many it took.
pub fn expire_fields(keys: &mut Keys<'_>, key: &[u8], limit: usize) -> usize {
    if keys.settings.on_expired != OnExpired::Remove {
        return 0;
    }
    let now = keys.now_ms;
    let Some(hash) = keys.hash_in_place(key) else { return 0 };
    let taken = hash.take_expired(now, limit);
    let (emptied, more) = (hash.is_empty(), hash.has_expiries());
    if !more {
        keys.review_field_expiry(key);
    }
    if taken.is_empty() {
        return 0;
    }
    keys.stats.expired_fields.add(taken.len() as u64);
    if keys.observers.journal {
        let args = [b"HDEL", key].into_iter().chain(taken.iter().map(Vec::as_slice));
        keys.effects.commands.insert(keys.effects.before, (keys.db, OwnedArgs::new(args)));
        keys.effects.before += 1;
    }
    if keys.observers.notify.has(EventClasses::HASH) {
        let event = Event { class: EventClasses::HASH, name: "hexpired", db: keys.db, key: key.into() };
        keys.effects.events.push(event);
    }
    keys.effects.expired.push((keys.db, key.into()));
    if emptied {
        keys.remove_emptied(key);
    }
    taken.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::context::{KeyStats, Planned};
    use crate::commands::effects::{Effects, Observers};
    use crate::commands::settings::Settings;
    use crate::engine::keyspace::Keyspace;

    /// A hash of `count` fields that expire at 100, looked at by `visit` at 200 on a primary or a replica.
    fn with_expired(count: usize, on_expired: OnExpired, visit: impl FnOnce(&mut Keys<'_>)) -> Effects {
        let mut locked = Keyspace::leak(16).lock_all();
        let (mut effects, stats) = (Effects::default(), KeyStats::default());
        let settings = Settings { on_expired, ..Settings::default() };
        let notify = EventClasses::HASH.with(EventClasses::GENERIC);
        let mut keys = Keys {
            locked: &mut locked,
            effects: &mut effects,
            settings: &settings,
            stats: &stats,
            db: 0,
            now_ms: 200,
            observers: Observers { journal: true, tracking: false, notify },
            no_touch: false,
            planned: Planned::new(&[]),
        };
        let mut hash = Hash::new();
        for n in 0..count {
            let field = format!("f{n}");
            hash.set(field.as_bytes(), b"v", &settings.limits);
            hash.set_expiry(field.as_bytes(), Some(100));
        }
        keys.insert(b"h", Value::Hash(hash), None);
        visit(&mut keys);
        effects
    }

    fn stream(effects: &Effects) -> Vec<String> {
        let text = |args: &OwnedArgs| {
            let words: Vec<_> = args.as_args().iter().map(String::from_utf8_lossy).collect();
            words.join(" ")
        };
        effects.commands.iter().map(|(_, args)| text(args)).collect()
    }

    #[test]
    fn the_key_goes_with_its_last_field() {
        let effects = with_expired(3, OnExpired::Remove, |keys| {
            assert_eq!(expire_fields(keys, b"h", 2), 2);
            assert!(keys.exists(b"h"));
            assert_eq!(expire_fields(keys, b"h", 2), 1);
            assert!(!keys.exists(b"h"));
            assert_eq!((keys.stats.expired_fields.value(), keys.part(b"h").expiring_hashes()), (3, 0));
        });
        assert_eq!(stream(&effects), ["HDEL h f0 f1", "HDEL h f2"]);
        let events: Vec<&str> = effects.events.iter().map(|event| event.name).collect();
        assert_eq!(events, ["hexpired", "hexpired", "del"]);
        assert_eq!((effects.before, effects.expired.len(), effects.dirty), (2, 2, 0));
    }

    #[test]
    fn a_write_begins_without_expired_fields() {
        let effects = with_expired(2, OnExpired::Remove, |keys| {
            assert!(keys.write_live_hash(b"h").expect("a hash").is_none());
            let hash = keys.live_hash_or_new(b"h", |_| Hash::new()).expect("a hash");
            assert!(hash.is_empty());
        });
        assert_eq!(stream(&effects), ["HDEL h f0 f1"]);
    }

    #[test]
    fn a_replica_hides_and_its_primary_sees() {
        for (on_expired, visible) in [(OnExpired::Hide, false), (OnExpired::Ignore, true)] {
            let effects = with_expired(2, on_expired, |keys| {
                assert_eq!(expire_fields(keys, b"h", 9), 0);
                let now = keys.field_now();
                let hash = keys.write_live_hash(b"h").expect("a hash").expect("still there");
                assert_eq!((hash.len(), hash.contains(b"f0", now)), (2, visible));
            });
            assert!(stream(&effects).is_empty() && effects.events.is_empty());
        }
    }
}
