//! Level 1: data structures and the keyspace. No I/O, no wire format, no command; the only room with `unsafe`.

pub mod bits;
mod block;
pub mod btree;
mod distinct;
pub mod geohash;
pub mod hash;
pub mod hash_expiry;
pub mod hll;
pub mod intset;
pub mod keyspace;
pub mod limits;
pub mod list;
pub mod listpack;
pub mod lua;
pub mod memory;
pub mod quicklist;
pub mod record;
pub mod set;
pub mod stream;
pub mod string;
pub mod table;
pub mod tagged;
pub mod value;
pub mod zset;
