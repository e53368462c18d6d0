//! What concerns several servers with keys of their own: MIGRATE, and the commands of a cluster, which this server is no node of yet.

pub mod commands;
pub mod migrate;
mod target;
