//! The watchdog (`watchdog-period`): tells the log which command keeps a worker for too long, while it does. It has a thread of its
//! own while it is on: what keeps all workers, as DEBUG SLEEP does, must not keep it.

use crate::base::clock;
use crate::server::Server;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Looks so often in one period.
const LOOKS_PER_PERIOD: u32 = 4;

/// Follows the setting from now on.
pub fn follow(server: &'static Server) {
    let is_on = Arc::new(Mutex::new(false));
    let wake = move |period: u32| {
        let mut is_running = is_on.lock();
        if period > 0 && !*is_running {
            let is_on = Arc::clone(&is_on);
            let started = std::thread::Builder::new().name("watchdog".into()).spawn(move || watch(server, &is_on));
            *is_running = started.is_ok();
        }
    };
    wake(server.config.current().watchdog_period);
    server.config.on_changed(&["watchdog-period"], Box::new(move |_, new| wake(new.watchdog_period)));
}

/// Until the setting is 0 again.
fn watch(server: &Server, is_on: &Mutex<bool>) {
    loop {
        let period = server.config.current().watchdog_period;
        if period == 0 {
            let mut is_on = is_on.lock();
            if server.config.current().watchdog_period == 0 {
                *is_on = false;
                return;
            }
            continue;
        }
        std::thread::sleep(Duration::from_millis(u64::from(period / LOOKS_PER_PERIOD).max(1)));
        look(server, period);
    }
}

fn look(server: &Server, period: u32) {
    let now_ms = clock::unix_ms();
    server.for_each_worker(|stats| {
        if let Some((command, ms)) = stats.running.overdue(now_ms, i64::from(period)) {
            let name = server.table.iter().nth(command).map_or("?", |entry| entry.full_name.as_str());
            tracing::warn!(
                "\n--- WATCHDOG TIMER EXPIRED ---\nA worker has been busy for {ms} ms; it runs '{name}'.\n--------"
            );
        }
    });
}
