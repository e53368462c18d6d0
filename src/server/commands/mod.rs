//! Commands on the session and the server.

mod client;
mod client_kill;
pub mod client_list;
mod client_pause;
mod client_tracking;
mod connection;
pub mod help;
mod keyspace;
mod monitor;
mod pubsub;
mod scan;

use super::session::SessionCommand;

/// Every session command of this room.
pub const FAMILIES: &[&[SessionCommand]] = &[
    super::multi::COMMANDS,
    client::COMMANDS,
    monitor::COMMANDS,
    pubsub::COMMANDS,
    connection::COMMANDS,
    keyspace::COMMANDS,
    scan::COMMANDS,
];
