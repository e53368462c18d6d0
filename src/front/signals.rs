//! Signals: SIGTERM and SIGINT ask for a shutdown.

use crate::persistence::rdb_save;
use crate::server::Server;
use crate::server::config::ShutdownFlags;
use crate::server::intents::ShutdownWish;
use tokio::signal::unix::{SignalKind, signal};

/// Leaves an intent for each signal; a second SIGINT ends the process at once.
pub async fn listen(server: &'static Server) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut interrupted = false;
    let wish = |flags: ShutdownFlags| ShutdownWish {
        save: if flags.save { Some(true) } else { flags.nosave.then_some(false) },
        now: flags.now,
        force: flags.force,
    };
    loop {
        tokio::select! {
            _ = term.recv() => {
                tracing::warn!("Received SIGTERM scheduling shutdown...");
                server.intents.wish_shutdown(wish(server.config.current().shutdown_on_sigterm), None);
            }
            _ = int.recv() => {
                if interrupted {
                    tracing::warn!("You insist... exiting now.");
                    rdb_save::remove_temporary_files();
                    std::process::exit(1);
                }
                interrupted = true;
                tracing::warn!("Received SIGINT scheduling shutdown...");
                server.intents.wish_shutdown(wish(server.config.current().shutdown_on_sigint), None);
            }
        }
    }
}
