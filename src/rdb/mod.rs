//! Level 2: engine value ⇄ bytes of RDB and DUMP. No files, no sockets.
//!
//! ```text
//!            writer::Writer  ── header, AUX, SELECTDB, keys, EOF, checksum ──►  bytes
//!   Record ─► encode::record ── one key with expiry and access data
//!            dump::payload   ── one value with version and checksum (DUMP, MIGRATE)
//!
//!   bytes ─► reader::Reader  ── fed in pieces, yields items: AUX, SELECTDB, key with its raw value …
//!            value::decode   ── a raw value, checked deeply, as engine value (on any thread)
//!            dump::open      ── a payload of DUMP, its version and checksum checked
//! ```
//! Reading frames a value first (only lengths are looked at) and decodes it later, so that a loader may hand values to
//! several threads.

pub mod checksum;
pub mod dump;
pub mod encode;
pub mod fault;
pub mod format;
mod frame;
pub mod legacy;
pub mod reader;
pub mod source;
mod types;
pub mod value;
pub mod writer;

#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use reader::{Item, Reader};
pub use types::is_long;
pub use writer::{Fragment, Writer};
