//! Numbers of the format: versions, opcodes, value types, string encodings.
//!
//! ```text
//! "REDIS" "0010" | AUX … | SELECTDB n | RESIZEDB keys volatile | [EXPIRE ms] [IDLE s | FREQ n] type key value … | EOF | crc u64
//!
//! length  00pppppp                     6 bits
//!         01pppppp pppppppp            14 bits, big-endian
//!         10000000 + u32 big-endian    10000001 + u64 big-endian
//!         11eeeeee                     a string in encoding e: 0 i8, 1 i16, 2 i32 (little-endian), 3 LZF
//! ```

/// Which family of servers numbers the value types above 21.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    Redis,
    Valkey,
}

/// Version 10 holds everything that Redis 7.0 knows; hashes whose fields expire came with 12.
pub const VERSION_PLAIN: u32 = 10;
pub const VERSION_FIELD_EXPIRY: u32 = 12;
/// Messages of streams with keys of their producers came with 13.
pub const VERSION_PRODUCERS: u32 = 13;
/// Entries of streams that consumers have released came with 14.
pub const VERSION_RELEASED: u32 = 14;
/// The newest version of Redis's that is read.
pub const VERSION_MAX: u32 = 15;
/// Valkey 9 writes 80; what is between is reserved.
pub const VERSION_VALKEY: u32 = 80;

/// The lineage of a version number (in a header or a DUMP payload), if it can be read.
pub fn lineage(version: u32) -> Option<Lineage> {
    match version {
        1..=VERSION_MAX => Some(Lineage::Redis),
        VERSION_VALKEY => Some(Lineage::Valkey),
        _ => None,
    }
}

pub mod opcode {
    pub const KEY_META: u8 = 243;
    pub const SLOT_INFO: u8 = 244;
    pub const FUNCTION2: u8 = 245;
    pub const FUNCTION_PRE_GA: u8 = 246;
    pub const MODULE_AUX: u8 = 247;
    pub const IDLE: u8 = 248;
    pub const FREQ: u8 = 249;
    pub const AUX: u8 = 250;
    pub const RESIZEDB: u8 = 251;
    pub const EXPIRE_MS: u8 = 252;
    pub const EXPIRE: u8 = 253;
    pub const SELECTDB: u8 = 254;
    pub const EOF: u8 = 255;
}

pub mod kind {
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    /// Redis before 7.4 GA; Valkey 9 uses the number for `HASH_2`.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    pub const HASH_METADATA: u8 = 24;
    pub const HASH_LISTPACK_EX: u8 = 25;
    pub const STREAM_4: u8 = 26;
    pub const STREAM_5: u8 = 27;
}

/// Containers of a quicklist's nodes.
pub const NODE_PLAIN: u64 = 1;
pub const NODE_PACKED: u64 = 2;

pub mod encoding {
    pub const INT8: u8 = 0;
    pub const INT16: u8 = 1;
    pub const INT32: u8 = 2;
    pub const LZF: u8 = 3;
}
