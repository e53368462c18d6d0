//! Commands on the session and the server.

mod connection;
mod keyspace;

use super::session::SessionCommand;

/// Every session command of this room.
pub const FAMILIES: &[&[SessionCommand]] = &[super::multi::COMMANDS, connection::COMMANDS, keyspace::COMMANDS];
