//! Writes an RDB file or stream: header, AUX fields, databases, keys in any order, end.
//!
//! The bytes gather in a buffer; whoever owns the file or socket takes them out when there are enough. Keys may change
//! the database as often as they like: a SELECTDB is put in front when it is another than before.
//!
//! ```text
//!   out     … key key LONG[slice][slice][slice]            one long value at a time, slice by slice
//!   aside                     key key key                  what comes meanwhile; behind the long value when it is complete
//! ```

use super::checksum::Checksum;
use super::encode::{self, Options};
use super::format::opcode;
use super::types;
use crate::engine::keyspace::snapshot::Place;
use crate::engine::memory::size_class;
use crate::engine::record::Record;

/// Some records as bytes, made outside of the writer (on another thread) and handed to it as a piece.
pub struct Fragment {
    out: Vec<u8>,
    options: Options,
    db: Option<usize>,
    keys: u64,
}

impl Fragment {
    /// Its bytes.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// The memory behind them.
    pub fn held(&self) -> usize {
        size_class(self.out.capacity())
    }

    pub fn record(&mut self, db: usize, record: &Record) {
        select(&mut self.out, &mut self.db, db);
        encode::record(&mut self.out, record, self.options);
        self.keys += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// An empty one for the same file.
    pub fn another(&self) -> Fragment {
        Fragment { out: Vec::new(), options: self.options, db: None, keys: 0 }
    }

    /// Takes the bytes of a later one over and empties it.
    pub fn append(&mut self, later: &mut Fragment) {
        let Some(db) = later.db.take() else { return };
        // It begins with a SELECTDB, as every fragment.
        self.out.append(&mut later.out);
        self.db = Some(db);
        self.keys += std::mem::take(&mut later.keys);
    }
}

pub struct Writer {
    out: Vec<u8>,
    /// Bytes of `out` that the checksum has seen.
    summed: usize,
    checksum: Option<Checksum>,
    options: Options,
    db: Option<usize>,
    keys: u64,
    /// Bytes taken out so far.
    written: u64,
    /// Records that wait for the end of a long one, and the database of the last of them.
    aside: Option<(Vec<u8>, Option<usize>)>,
}

impl Writer {
    /// Begins with the header. `checksum`: compute it, else 0 stands at the end.
    pub fn new(version: u32, checksum: bool, options: Options) -> Self {
        let out = format!("REDIS{version:04}").into_bytes();
        Writer {
            out,
            summed: 0,
            checksum: checksum.then(Checksum::new),
            options,
            db: None,
            keys: 0,
            written: 0,
            aside: None,
        }
    }

    pub fn aux(&mut self, key: &str, value: &[u8]) {
        self.out.push(opcode::AUX);
        encode::string(&mut self.out, key.as_bytes(), self.options.compress);
        encode::string(&mut self.out, value, self.options.compress);
    }

    /// The code of a function library.
    pub fn function(&mut self, code: &[u8]) {
        self.out.push(opcode::FUNCTION2);
        encode::string(&mut self.out, code, self.options.compress);
    }

    /// Announces a database's size, so that a loader can make room.
    pub fn resize(&mut self, db: usize, keys: u64, volatile: u64) {
        select(&mut self.out, &mut self.db, db);
        self.out.push(opcode::RESIZEDB);
        encode::length(&mut self.out, keys);
        encode::length(&mut self.out, volatile);
    }

    /// An empty fragment for this file.
    pub fn fragment(&self) -> Fragment {
        Fragment { out: Vec::new(), options: self.options, db: None, keys: 0 }
    }

    /// Takes a fragment's bytes over and empties it.
    pub fn append(&mut self, fragment: &mut Fragment) {
        let Some(db) = fragment.db.take() else { return };
        let (out, last_db) = match &mut self.aside {
            None => (&mut self.out, &mut self.db),
            Some((aside, last_db)) => (aside, last_db),
        };
        out.append(&mut fragment.out);
        *last_db = Some(db);
        self.keys += std::mem::take(&mut fragment.keys);
    }

    pub fn record(&mut self, db: usize, record: &Record) {
        let (out, last_db) = match &mut self.aside {
            None => (&mut self.out, &mut self.db),
            Some((aside, last_db)) => (aside, last_db),
        };
        select(out, last_db, db);
        encode::record(out, record, self.options);
        self.keys += 1;
    }

    /// Writes the next slice of a long record (see `types::is_long`) and moves `place` on; true when it is complete.
    pub fn slice(&mut self, db: usize, record: &Record, place: &mut Option<Place>) -> bool {
        let from = match *place {
            Some(from) => from,
            // Two cannot be open at once: the second goes aside as a whole.
            None if self.aside.is_some() => {
                self.record(db, record);
                return true;
            }
            None if types::leaves_nothing(&record.value(), self.options) => return true,
            None => {
                select(&mut self.out, &mut self.db, db);
                encode::head(&mut self.out, record, self.options);
                types::begin(&mut self.out, &record.value(), self.options);
                self.aside = Some((Vec::new(), None));
                Place::default()
            }
        };
        *place = types::slice(&mut self.out, &record.value(), from, self.options);
        if place.is_some() {
            return false;
        }
        self.keys += 1;
        if let Some((aside, last_db)) = self.aside.take() {
            self.out.extend_from_slice(&aside);
            self.db = last_db.or(self.db);
        }
        true
    }

    /// The end of the stream.
    pub fn finish(&mut self) {
        self.out.push(opcode::EOF);
        self.sum();
        let value = self.checksum.as_ref().map_or(0, Checksum::value);
        self.out.extend_from_slice(&value.to_le_bytes());
        self.summed = self.out.len();
    }

    /// Bytes that wait to be taken.
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// The memory behind these bytes, and behind what waits for the end of a long record.
    pub fn held(&self) -> usize {
        size_class(self.out.capacity()) + self.aside.as_ref().map_or(0, |(aside, _)| size_class(aside.capacity()))
    }

    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes what is there, leaving `spare` (emptied) as the next buffer.
    pub fn take(&mut self, mut spare: Vec<u8>) -> Vec<u8> {
        self.sum();
        spare.clear();
        self.summed = 0;
        self.written += self.out.len() as u64;
        std::mem::replace(&mut self.out, spare)
    }

    fn sum(&mut self) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.out[self.summed..]);
            self.summed = self.out.len();
        }
    }
}

fn select(out: &mut Vec<u8>, last: &mut Option<usize>, db: usize) {
    if *last != Some(db) {
        *last = Some(db);
        out.push(opcode::SELECTDB);
        encode::length(out, db as u64);
    }
}
