//! The commands of Sentinel mode: SENTINEL, and those that mean something else here than in a server with keys.

mod change;
mod declared;
mod show;

pub use declared::COMMANDS;

use super::core::Core;
use super::instance::Id;
use super::service::{self, Service};
use crate::commands::error::CommandError;
use crate::server::session::SessionFlow;

type Outcome = Result<SessionFlow, CommandError>;

/// There is one from before the first client on.
fn sentinel() -> Result<&'static Service, CommandError> {
    service::get().ok_or(CommandError::fixed("ERR this server is not a Sentinel"))
}

/// The primary of that name.
fn find(core: &Core, name: &[u8]) -> Result<Id, CommandError> {
    let id = std::str::from_utf8(name).ok().and_then(|name| core.names.get(name));
    id.copied().ok_or(CommandError::fixed("ERR No such master with that name"))
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}
