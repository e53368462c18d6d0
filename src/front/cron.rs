//! Periodic work.

use crate::server::Server;
use std::time::Duration;

/// Runs for as long as the server does.
pub async fn run(server: &'static Server) {
    loop {
        let hz = server.config.current().hz.max(1);
        tokio::time::sleep(Duration::from_millis(u64::from(1000 / hz))).await;
    }
}
