//! Periodic work: a list of steps, each with its period, run one after the other by a worker of their own.
//!
//! Steps run on the main thread, which serves no connections; what takes long keeps a time budget of its own.

use super::process;
use crate::replication::primary;
use crate::server::{Server, Worker, client_limits, evict, expire_cycle, own_expiry};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One kind of periodic work.
pub struct Step {
    /// Milliseconds between two runs; 0 = at every tick (`hz` times per second).
    pub every_ms: i64,
    pub run: fn(&mut Worker),
}

/// In the order in which they run.
const STEPS: &[Step] = &[
    Step { every_ms: 0, run: expire_cycle::run },
    Step { every_ms: 0, run: own_expiry::run },
    Step { every_ms: 0, run: evict::run },
    Step { every_ms: 100, run: |worker| crate::persistence::cron::run(worker.server) },
    Step { every_ms: 100, run: primary::cron::run },
    Step { every_ms: 100, run: sample },
    Step { every_ms: 1000, run: client_limits::check_clients },
];

/// Runs for as long as the server does.
pub async fn run(server: &'static Server) {
    let mut worker = Worker::new(server);
    let mut was_replica = server.is_replica.load(Ordering::Acquire);
    let mut due = vec![worker.now_ms; STEPS.len()];
    loop {
        let hz = worker.config.hz.clamp(1, 500);
        tokio::time::sleep(Duration::from_millis(u64::from(1000 / hz))).await;
        worker.refresh();
        let is_replica = server.is_replica.load(Ordering::Acquire);
        if std::mem::replace(&mut was_replica, is_replica) != is_replica {
            // Told in the log; the server runs without it.
            let _ = process::set_oom_score(&worker.config, is_replica);
        }
        // DEBUG PAUSE-CRON.
        if server.cron_paused.load(Ordering::Relaxed) {
            continue;
        }
        for (step, due) in STEPS.iter().zip(&mut due) {
            if worker.now_ms >= *due {
                (step.run)(&mut worker);
                *due = worker.now_ms + step.every_ms;
            }
        }
    }
}

/// Figures that INFO shows as they were at the last sample.
fn sample(worker: &mut Worker) {
    worker.server.sample_rates(worker.now_ms);
    process::sample(worker.server, worker.now_ms);
}
