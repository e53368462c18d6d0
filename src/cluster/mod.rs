//! Redis Cluster: a node that speaks the stock bus, and MIGRATE, which moves keys between servers.
//!
//! ```text
//!   server/slots   the map that dispatch reads: state below
//!   machine        what a node knows and decides: pure; `message` is its language
//!   bus            sockets, time, file; what the machine decides takes effect
//!   commands       CLUSTER, ASKING; `describe` and `replies` show the machine
//! ```

mod bus;
pub mod commands;
pub mod debug;
mod describe;
mod machine;
mod message;
pub mod migrate;
mod nodes_file;
mod replies;
mod target;

pub use bus::{Bus, port};
