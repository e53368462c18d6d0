//! One database's part of one shard: the key table, the count of keys that expire, and the snapshot's progress through it.
//!
//! Every change of a record passes here, so that a running snapshot gets the bucket's old content first, and the table's
//! marks (one bit per key that expires, or that is a hash with fields that do) stay true. The marks are the whole expiry
//! index: the active cycle and the volatile-* policies look only at marked slots, one cache line for seven keys, and it
//! costs no memory.

use super::snapshot::{Progress, SnapshotSink};
use crate::base::random::Random;
use crate::engine::record::Record;
use crate::engine::string::StringBlock;
use crate::engine::table::{Entry, Table};
use std::sync::Arc;

/// What SET and its kin do with the key's expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewExpiry {
    Clear,
    Keep,
    At(i64),
}

/// What looking at an expired key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpired {
    /// A primary deletes it.
    Remove,
    /// A replica hides it and waits for its primary's DEL.
    Hide,
    /// The link to the primary still sees it.
    Ignore,
}

/// What stood where a new string stands now.
pub struct Displaced {
    pub record: Record,
    /// It was not overwritten but had expired before.
    pub is_expired: bool,
}

#[derive(Default)]
pub struct Db {
    table: Table<Record>,
    volatile: usize,
    /// Hashes with fields that expire.
    expiring_hashes: usize,
    /// The bucket at which the active expire cycle goes on.
    sweep: usize,
    snapshot: Option<Box<Progress>>,
}

impl Db {
    #[inline]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Keys with an expiry.
    pub fn volatile_len(&self) -> usize {
        self.volatile
    }

    /// Hashes with fields that expire, or that had some when they were last looked at (INFO's `subexpiry`).
    pub fn expiring_hashes(&self) -> usize {
        self.expiring_hashes
    }

    pub fn table(&self) -> &Table<Record> {
        &self.table
    }

    /// Takes room for that many keys at once (loading).
    pub fn reserve(&mut self, keys: usize) {
        self.table.reserve(keys);
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<&Record> {
        self.table.find(hash, key)
    }

    /// A record that has not expired by `now_ms`. One that has is taken out into `expired`, or only hidden (on a replica).
    #[inline]
    pub fn find_live(
        &mut self,
        hash: u64,
        key: &[u8],
        now_ms: i64,
        on_expired: OnExpired,
        expired: &mut Option<Record>,
    ) -> Option<&mut Record> {
        let place = self.table.place(hash, key)?;
        let is_expired = self.table.entry(place).expiry().is_some_and(|at| at < now_ms);
        if !is_expired || on_expired == OnExpired::Ignore {
            return Some(self.table.entry_mut(place));
        }
        if on_expired == OnExpired::Remove {
            *expired = self.remove(hash, key);
        }
        None
    }

    /// To be called before a record from `find_live` is changed.
    #[inline]
    pub fn before_change(&mut self, hash: u64) {
        self.preserve(hash);
    }

    /// A record for change of its value. Expiry and strings have methods of their own below.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Record> {
        self.preserve(hash);
        self.table.find_mut(hash, key)
    }

    /// Sets a string; what stood there in another allocation is returned, for the caller to drop when it likes.
    #[inline]
    pub fn set_string(
        &mut self,
        hash: u64,
        key: &[u8],
        value: &[u8],
        expiry: NewExpiry,
        access: u32,
    ) -> Option<Record> {
        self.set_string_at(hash, key, value, expiry, access, i64::MIN).map(|displaced| displaced.record)
    }

    /// The same at a certain time: the expiry of a key that has expired by then is not kept.
    #[inline]
    pub fn set_string_at(
        &mut self,
        hash: u64,
        key: &[u8],
        value: &[u8],
        expiry: NewExpiry,
        access: u32,
        now_ms: i64,
    ) -> Option<Displaced> {
        self.preserve(hash);
        let Some(place) = self.table.place(hash, key) else {
            let at = if let NewExpiry::At(at) = expiry { Some(at) } else { None };
            let record = Record::string(key, value, at);
            record.set_access(access);
            self.insert_absent(hash, record);
            return None;
        };
        let record = self.table.entry_mut(place);
        let old_expiry = record.expiry();
        let fields_expired = record.fields_expire();
        let is_expired = old_expiry.is_some_and(|at| at < now_ms);
        let new_expiry = match expiry {
            NewExpiry::Clear => None,
            NewExpiry::Keep => old_expiry.filter(|_| !is_expired),
            NewExpiry::At(at) => Some(at),
        };
        let displaced = if !is_expired && record.overwrite_string(value) {
            if new_expiry != old_expiry {
                record.set_expiry(new_expiry);
            }
            None
        } else {
            let record = std::mem::replace(record, Record::string(key, value, new_expiry));
            Some(Displaced { record, is_expired })
        };
        record.set_access(access);
        if old_expiry.is_some() != new_expiry.is_some() || fields_expired {
            self.table.set_mark(place, new_expiry.is_some());
            self.count_volatile(old_expiry.is_some(), new_expiry.is_some());
            self.expiring_hashes -= usize::from(fields_expired);
        }
        displaced
    }

    /// Puts a record in place of whatever has its key; the old record is returned.
    pub fn insert(&mut self, hash: u64, record: Record) -> Option<Record> {
        self.preserve(hash);
        let Some(place) = self.table.place(hash, record.key()) else {
            self.insert_absent(hash, record);
            return None;
        };
        let (has_expiry, fields_expire) = (record.expiry().is_some(), record.fields_expire());
        let old = std::mem::replace(self.table.entry_mut(place), record);
        self.table.set_mark(place, has_expiry || fields_expire);
        self.count_volatile(old.expiry().is_some(), has_expiry);
        self.count_expiring_hashes(old.fields_expire(), fields_expire);
        Some(old)
    }

    fn insert_absent(&mut self, hash: u64, record: Record) {
        let (has_expiry, fields_expire) = (record.expiry().is_some(), record.fields_expire());
        let place = self.table.insert_new(hash, record);
        if has_expiry || fields_expire {
            self.table.set_mark(place, true);
            self.count_volatile(false, has_expiry);
            self.count_expiring_hashes(false, fields_expire);
        }
    }

    #[inline]
    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<Record> {
        self.preserve(hash);
        let place = self.table.place(hash, key)?;
        let record = self.table.remove_at(hash, place);
        if record.expiry().is_some() {
            self.volatile -= 1;
        }
        self.expiring_hashes -= usize::from(record.fields_expire());
        Some(record)
    }

    /// Sets or clears the expiry of a key; false if there is no such key.
    pub fn set_expiry(&mut self, hash: u64, key: &[u8], expiry: Option<i64>) -> bool {
        self.preserve(hash);
        let Some(place) = self.table.place(hash, key) else { return false };
        let record = self.table.entry_mut(place);
        let had = record.expiry().is_some();
        record.set_expiry(expiry);
        let marked = expiry.is_some() || record.fields_expire();
        self.table.set_mark(place, marked);
        self.count_volatile(had, expiry.is_some());
        true
    }

    /// To be called after expiries of a hash's fields were set or removed: the active cycle finds the hash by its mark. It
    /// may be left out where the last expiry may have gone, for then the cycle notices.
    pub fn review_field_expiry(&mut self, hash: u64, key: &[u8]) {
        let Some(place) = self.table.place(hash, key) else { return };
        let record = self.table.entry_mut(place);
        let before = record.fields_expire();
        let after = record.review_field_expiry();
        let marked = after || record.expiry().is_some();
        self.table.set_mark(place, marked);
        self.count_expiring_hashes(before, after);
    }

    /// The string of a key as a block that can grow (see `Record::block_mut`).
    pub fn block_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut StringBlock> {
        self.find_mut(hash, key)?.block_mut()
    }

    /// Takes all keys out; the table is returned, because dropping a large one is for the background.
    pub fn clear(&mut self) -> Table<Record> {
        if self.snapshot.as_deref().is_some_and(|progress| !progress.is_wanted()) {
            self.end_snapshot();
        }
        if let Some(progress) = self.snapshot.as_deref_mut() {
            progress.save_rest(&self.table);
        }
        self.volatile = 0;
        self.expiring_hashes = 0;
        self.sweep = 0;
        let mut table = Table::new();
        table.pause_resize(self.snapshot.is_some());
        if let Some(progress) = self.snapshot.as_deref_mut() {
            progress.restart(0);
        }
        std::mem::replace(&mut self.table, table)
    }

    /// Visits keys with an expiry and hashes with fields that expire, from where the last sweep stopped, until `budget` buckets
    /// were looked at or `visit` says stop. True when the end of the table was passed.
    pub fn sweep_volatile(&mut self, mut budget: usize, mut visit: impl FnMut(&Record) -> bool) -> bool {
        let buckets = self.table.buckets();
        if self.volatile + self.expiring_hashes == 0 || buckets == 0 {
            return true;
        }
        let mut go_on = true;
        while budget > 0 && go_on {
            if self.sweep >= buckets {
                self.sweep = 0;
                return true;
            }
            self.table.visit_marked(self.sweep, &mut |record: &Record| go_on &= visit(record));
            self.sweep += 1;
            budget -= 1;
        }
        false
    }

    /// Shows about `count` records of a random place, or only those with an expiry, for eviction. Buckets are shown whole: to
    /// stop within one would spare whatever came late into it.
    pub fn sample(&self, random: &mut Random, count: usize, volatile_only: bool, mut visit: impl FnMut(&Record)) {
        let buckets = self.table.buckets();
        if buckets == 0 || (volatile_only && self.volatile == 0) {
            return;
        }
        let mut index = random.below(buckets as u64) as usize;
        let mut seen = 0;
        for _ in 0..buckets.min(count * 64) {
            let mut show = |record: &Record| {
                // A mark may also stand for fields that expire.
                if !volatile_only || record.expiry().is_some() {
                    visit(record);
                    seen += 1;
                }
            };
            if volatile_only {
                self.table.visit_marked(index, &mut show);
            } else {
                self.table.visit_bucket(index, &mut show);
            }
            if seen >= count {
                return;
            }
            index = if index + 1 == buckets { 0 } else { index + 1 };
        }
    }

    /// Starts a snapshot of this part: from now on a bucket is handed to `sink` before its first change.
    pub fn start_snapshot(&mut self, db: usize, sink: Arc<dyn SnapshotSink>) {
        self.table.pause_resize(true);
        self.snapshot = Some(Box::new(Progress::new(db, self.table.buckets(), sink)));
    }

    /// Whether a snapshot has still to walk through this part.
    pub fn is_in_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Saves up to `buckets` further buckets; true when the part is done (and resizing goes on).
    pub fn advance_snapshot(&mut self, buckets: usize) -> bool {
        let Some(progress) = self.snapshot.as_deref_mut() else { return true };
        if !progress.advance(&self.table, buckets) {
            return false;
        }
        self.end_snapshot();
        true
    }

    /// Gives up a snapshot.
    pub fn end_snapshot(&mut self) {
        self.snapshot = None;
        self.table.pause_resize(false);
    }

    #[inline]
    fn preserve(&mut self, hash: u64) {
        if let Some(progress) = self.snapshot.as_deref_mut() {
            progress.save_before_change(&self.table, hash);
        }
    }

    fn count_volatile(&mut self, was: bool, is: bool) {
        self.volatile = self.volatile + usize::from(is) - usize::from(was);
    }

    fn count_expiring_hashes(&mut self, were: bool, are: bool) {
        self.expiring_hashes = self.expiring_hashes + usize::from(are) - usize::from(were);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash;
    use crate::engine::keyspace::snapshot::Cause;
    use crate::engine::keyspace::snapshot::Place;
    use crate::engine::value::StringRef;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn key(n: u8) -> Vec<u8> {
        format!("key:{}", if cfg!(miri) { n % 64 } else { n }).into_bytes()
    }

    fn content(record: &Record) -> (Vec<u8>, Option<i64>) {
        let text = match record.string_ref() {
            Some(StringRef::Int(value)) => value.to_string().into_bytes(),
            Some(StringRef::Bytes(bytes)) => bytes.to_vec(),
            None => Vec::new(),
        };
        (text, record.expiry())
    }

    #[derive(Default)]
    struct Collected(Mutex<Content>);

    /// Slices in which the test saves what is long.
    const SLICES: u64 = 3;

    type Content = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

    impl SnapshotSink for Collected {
        fn save(&self, _: usize, record: &Record, _: Cause) {
            let twice = self.0.lock().insert(record.key().to_vec(), content(record));
            assert!(twice.is_none(), "a key was saved twice");
        }

        fn is_long(&self, record: &Record) -> bool {
            content(record).0.len() >= 240
        }

        fn save_slice(&self, db: usize, record: &Record, place: &mut Option<Place>, cause: Cause) -> bool {
            let next = place.map_or(0, |place| place.at as u64) + 1;
            if place.is_none() {
                self.save(db, record, cause);
            }
            assert_eq!(self.0.lock().get(record.key()), Some(&content(record)), "it changed between two slices");
            *place = Some(Place::at(next));
            next == SLICES
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, String, Option<Option<i64>>),
        Remove(u8),
        Expire(u8, Option<i64>),
        Append(u8, String),
        Clear,
        Advance(usize),
    }

    fn short() -> impl Strategy<Value = String> {
        (any::<u64>(), 0..10usize).prop_map(|(letters, len)| {
            let letter = |at: usize| char::from(b'a' + (letters >> (at * 5) & 15) as u8);
            (0..len).map(letter).collect()
        })
    }

    /// Under Miri fewer, with fewer keys, so that they meet again.
    const STEPS: usize = if cfg!(miri) { 40 } else { 150 };

    fn step() -> impl Strategy<Value = Step> {
        // Long ones of one letter: drawing 300 is most of the time under Miri.
        let long = (b'a'..=b'z', 240..300usize).prop_map(|(letter, len)| char::from(letter).to_string().repeat(len));
        let number = (1..9_999_999_999i64).prop_map(|number| number.to_string());
        let text = prop_oneof![short(), number, long];
        prop_oneof![
            10 => (any::<u8>(), text, prop::option::of(prop::option::of(1..1000i64))).prop_map(|(k, v, e)| Step::Set(k, v, e)),
            4 => any::<u8>().prop_map(Step::Remove),
            4 => (any::<u8>(), prop::option::of(1..1000i64)).prop_map(|(k, e)| Step::Expire(k, e)),
            3 => (any::<u8>(), short()).prop_map(|(k, v)| Step::Append(k, v)),
            1 => Just(Step::Clear),
            3 => (1..5usize).prop_map(Step::Advance),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// The model is a map; a snapshot started in the middle must hold exactly the state at its start.
        #[test]
        fn agrees_with_a_map_and_snapshots_are_points_in_time(
            before in prop::collection::vec(step(), 0..STEPS),
            after in prop::collection::vec(step(), 0..STEPS),
        ) {
            let mut db = Db::default();
            let mut model = BTreeMap::new();
            for step in before {
                apply(&mut db, &mut model, step);
            }
            let sink = Arc::new(Collected::default());
            let cut = model.clone();
            db.start_snapshot(3, sink.clone());
            for step in after {
                apply(&mut db, &mut model, step);
            }
            while !db.advance_snapshot(2) {}
            prop_assert_eq!(&*sink.0.lock(), &cut);
            let all: BTreeMap<_, _> = db.table().iter().map(|record| (record.key().to_vec(), content(record))).collect();
            prop_assert_eq!(&all, &model);
            let mut volatile = 0;
            let mut found = 0;
            while !db.sweep_volatile(3, |_| { found += 1; true }) {}
            for (_, expiry) in model.values() {
                volatile += usize::from(expiry.is_some());
            }
            prop_assert_eq!(db.volatile_len(), volatile);
            prop_assert!(volatile == 0 || found == volatile);
        }
    }

    #[test]
    fn hashes_with_expiring_fields_are_swept_however_they_come_and_go() {
        use crate::engine::hash::Hash;
        use crate::engine::limits::Limits;
        use crate::engine::value::{Value, ValueMut};

        let (mut db, at) = (Db::default(), hash::bytes(b"h"));
        let swept = |db: &mut Db| {
            let mut seen = 0;
            db.sweep_volatile(1000, |record| {
                assert_eq!((record.expiry(), record.earliest_field_expiry()), (None, Some(50)));
                seen += 1;
                true
            });
            (db.volatile_len(), db.expiring_hashes(), seen)
        };
        let mut fields = Hash::new();
        fields.set(b"f", b"v", &Limits::default());
        db.insert(at, Record::with_value(b"h", Value::Hash(fields.clone()), None));
        assert_eq!(swept(&mut db), (0, 0, 0));
        let set_expiry = |db: &mut Db, expiry| {
            match db.find_mut(at, b"h").map(Record::value_mut) {
                Some(ValueMut::Hash(hash)) => hash.set_expiry(b"f", expiry),
                _ => panic!("a hash was put there"),
            };
            db.review_field_expiry(at, b"h");
        };
        set_expiry(&mut db, Some(50));
        assert_eq!(swept(&mut db), (0, 1, 1));
        // An expiry of the key itself comes and goes; the record moves and keeps its flag.
        db.set_expiry(at, b"h", Some(9));
        assert_eq!((db.volatile_len(), db.expiring_hashes()), (1, 1));
        db.set_expiry(at, b"h", None);
        assert_eq!(swept(&mut db), (0, 1, 1));
        let record = db.remove(at, b"h").expect("it was there");
        assert_eq!(swept(&mut db), (0, 0, 0));
        db.insert(at, Record::with_value(b"h", record.into_value(), None));
        assert_eq!(swept(&mut db), (0, 1, 1));
        db.insert(at, Record::with_value(b"h", Value::Hash(fields), None));
        assert_eq!(swept(&mut db), (0, 0, 0));
        set_expiry(&mut db, Some(50));
        db.set_string(at, b"h", b"text", NewExpiry::Clear, 0);
        assert_eq!(swept(&mut db), (0, 0, 0));
    }

    fn apply(db: &mut Db, model: &mut BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>, step: Step) {
        match step {
            Step::Set(k, v, expiry) => {
                let k = key(k);
                let new = match expiry {
                    None => NewExpiry::Keep,
                    Some(None) => NewExpiry::Clear,
                    Some(Some(at)) => NewExpiry::At(at),
                };
                db.set_string(hash::bytes(&k), &k, v.as_bytes(), new, 1);
                let kept = model.get(&k).and_then(|(_, e)| *e);
                model.insert(k, (v.into_bytes(), expiry.unwrap_or(kept)));
            }
            Step::Remove(k) => {
                let k = key(k);
                assert_eq!(db.remove(hash::bytes(&k), &k).is_some(), model.remove(&k).is_some());
            }
            Step::Expire(k, at) => {
                let k = key(k);
                assert_eq!(db.set_expiry(hash::bytes(&k), &k, at), model.contains_key(&k));
                model.entry(k).and_modify(|(_, expiry)| *expiry = at);
            }
            Step::Append(k, tail) => {
                let k = key(k);
                if let Some(block) = db.block_mut(hash::bytes(&k), &k) {
                    block.append(tail.as_bytes());
                }
                model.entry(k).and_modify(|(text, _)| text.extend(tail.as_bytes()));
            }
            Step::Clear => {
                drop(db.clear());
                model.clear();
            }
            Step::Advance(buckets) => {
                db.advance_snapshot(buckets);
            }
        }
    }
}
