//! Signals: SIGTERM and SIGINT ask for a shutdown.

use crate::server::Server;
use crate::server::intents::ShutdownWish;
use tokio::signal::unix::{SignalKind, signal};

/// Leaves an intent for each signal; a second SIGINT ends the process at once.
pub async fn listen(server: &'static Server) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut interrupted = false;
    loop {
        tokio::select! {
            _ = term.recv() => tracing::warn!("Received SIGTERM scheduling shutdown..."),
            _ = int.recv() => {
                if interrupted {
                    tracing::warn!("You insist... exiting now.");
                    std::process::exit(1);
                }
                interrupted = true;
                tracing::warn!("Received SIGINT scheduling shutdown...");
            }
        }
        server.intents.wish_shutdown(ShutdownWish::default(), None);
    }
}
