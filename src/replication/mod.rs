//! PSYNC, both ends: `primary` streams the journal to replicas, `replica` follows a primary.
//!
//! What others read (INFO, admission, WAIT) is plain data in `server::role` and `server::replicas`; this room moves it.

pub mod primary;
pub mod replica;
