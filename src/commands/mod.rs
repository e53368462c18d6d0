//! Level 3: what a command is, and every command that works on keys. No server, socket, file, runtime or clock.

pub mod args;
pub mod context;
pub mod effects;
pub mod error;
pub mod flags;
pub mod help;
pub mod keyspec;
pub mod scan;
pub mod settings;
pub mod spec;
pub mod syntax;

mod bitfield;
mod bitmap;
mod counter;
mod counter_bounded;
mod dump;
mod element;
mod expire;
pub mod field_expiry;
mod generic;
mod geo;
mod geo_search;
mod hash;
mod hash_ex;
mod hash_expire;
mod hash_float;
mod hash_scan;
mod hyperloglog;
mod keyspace;
mod lcs;
mod list;
mod list_blocking;
mod list_move;
pub mod object;
mod pop_first;
mod sample;
mod set;
mod set_algebra;
mod set_random;
mod sort;
mod stream;
mod stream_claim;
mod stream_delete;
mod stream_group;
mod stream_id;
mod stream_info;
mod stream_pending;
mod stream_producer;
mod stream_read;
mod stream_trim;
mod string;
mod string_set;
mod zset;
mod zset_algebra;
mod zset_pop;
mod zset_range;
mod zset_scan;

pub use context::{Block, KeyContext, KeyFlow, OnTimeout};
pub use error::CommandError;
pub use flags::Flags;
pub use keyspec::KeySpec;
pub use spec::{Command, Group, KeyCommand, Spec};

/// Every command on keys, family by family.
pub const FAMILIES: &[&[KeyCommand]] = &[
    dump::COMMANDS,
    expire::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    geo_search::COMMANDS,
    hash::COMMANDS,
    hash_ex::COMMANDS,
    hash_expire::COMMANDS,
    hash_float::COMMANDS,
    hash_scan::COMMANDS,
    keyspace::COMMANDS,
    bitfield::COMMANDS,
    bitmap::COMMANDS,
    counter::COMMANDS,
    counter_bounded::COMMANDS,
    hyperloglog::COMMANDS,
    lcs::COMMANDS,
    list::COMMANDS,
    list_blocking::COMMANDS,
    list_move::COMMANDS,
    object::COMMANDS,
    set::COMMANDS,
    set_algebra::COMMANDS,
    set_random::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    stream_claim::COMMANDS,
    stream_delete::COMMANDS,
    stream_group::COMMANDS,
    stream_info::COMMANDS,
    stream_producer::COMMANDS,
    stream_read::COMMANDS,
    stream_trim::COMMANDS,
    string::COMMANDS,
    string_set::COMMANDS,
    zset::COMMANDS,
    zset_algebra::COMMANDS,
    zset_pop::COMMANDS,
    zset_range::COMMANDS,
    zset_scan::COMMANDS,
];
