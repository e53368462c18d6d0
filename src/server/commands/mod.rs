//! Commands on the session and the server.

mod acl;
mod acl_show;
mod client;
mod client_kill;
pub mod client_list;
mod client_pause;
mod client_tracking;
mod command;
mod command_docs;
mod config;
mod connection;
pub mod debug;
mod digest;
pub mod help;
mod info;
pub mod keyspace;
mod latency;
mod lolwut;
mod memory;
mod module;
mod monitor;
mod pubsub;
mod role;
mod scan;
mod server;
mod shutdown;
mod slowlog;

use super::session::SessionCommand;

/// Every session command of this room.
pub const FAMILIES: &[&[SessionCommand]] = &[
    super::multi::COMMANDS,
    super::failover::COMMANDS,
    acl::COMMANDS,
    client::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    debug::COMMANDS,
    info::COMMANDS,
    keyspace::COMMANDS,
    latency::COMMANDS,
    lolwut::COMMANDS,
    memory::COMMANDS,
    module::COMMANDS,
    slowlog::COMMANDS,
    scan::COMMANDS,
    server::COMMANDS,
    shutdown::COMMANDS,
    monitor::COMMANDS,
    pubsub::COMMANDS,
    role::COMMANDS,
];
