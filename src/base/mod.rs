//! Level 0: bytes, numbers, clock, hashes, glob. Knows nothing of Redis and imports no other room.

pub mod clock;
pub mod counter;
pub mod crc16;
pub mod glob;
pub mod hash;
pub mod long_double;
pub mod lzf;
pub mod number;
pub mod processors;
pub mod quoting;
pub mod random;
