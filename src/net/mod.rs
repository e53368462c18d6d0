//! Sockets: one type for every kind of connection, and links that we open ourselves.

pub mod console;
pub mod dial;
pub mod direct;
pub mod stream;
pub mod tls;
