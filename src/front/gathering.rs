//! How many workers have connections: all of them, or fewer while few can do the work for less.
//!
//! At one request per read, what a request costs is mostly the kernel's waking of the thread that serves it. Two workers that are
//! half asleep wake up twice as often as one that is half awake: the same requests, a quarter more CPU. So connections are
//! gathered on fewer workers while these have time to spare, and spread again as soon as they have not.
//!
//! ```text
//!               mostly awake, or something took long
//!    gathered ────────────────────────────────────────► spread (twice as many, or all)
//!        ▲                                                  │
//!        └── half as many would do for half a second, ◄─────┘
//!            and wake-ups are what the time goes into
//! ```
//! Where a command keeps its worker for long, others would have to wait behind it: then all workers stay in use, for a second if that
//! happens once (the kernel may only have run something else), for ever longer if it happens again and again. A server with little to do is
//! left alone, too: there is nothing to save.

use crate::base::clock::Stopwatch;
use crate::persistence::aof::{self, Aof};
use crate::server::Server;
use crate::server::workers::LoadNow;
use std::time::Duration;

const PERIOD: Duration = Duration::from_millis(100);
/// Above this share of its time awake a worker wants help.
const BUSY: f64 = 0.75;
/// After gathering, workers would be awake for no more than this share.
const SPARE: f64 = 0.6;
/// Where replies wait for syncs, one worker does until it hardly ever has to: so often in a row, and then for so long the others help.
const BUSY_SHARING: f64 = 0.95;
const HELP_SHARING: u32 = 100;
/// Periods in a row in which fewer workers would have done.
const PATIENCE: u32 = 5;
/// Wake-ups a second that are worth saving, and reads for each at which there is not much left to save.
const WAKEUPS_MIN: f64 = 5_000.0;
const READS_PER_WAKEUP_MAX: f64 = 12.0;
/// So long at work without a break: something took long, which the clients of this worker waited for.
const LONG_NS: u64 = 10_000_000;
/// Periods for which all workers stay in use after that, the first time and at most.
const AFTER_LONG: u32 = 10;
const AFTER_LONG_MAX: u32 = 200;
/// So many periods after the last time it is the first time again.
const FORGOTTEN_AFTER: u32 = 600;

/// What happened in one period.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    /// Time awake of all workers together, and of the busiest, as a share of the period.
    awake: f64,
    busiest: f64,
    wakeups_per_second: f64,
    reads_per_wakeup: f64,
    longest_awake_ns: u64,
    /// Replies wait for syncs, of which one worker alone needs fewer (`persistence::aof_durable`). Waiting for them is no work.
    shares_syncs: bool,
}

impl Period {
    fn between(before: &[LoadNow], after: &[LoadNow], elapsed: Duration, shares_syncs: bool) -> Period {
        let elapsed_ns = elapsed.as_nanos().max(1) as f64;
        let mut period = Period { shares_syncs, ..Period::default() };
        let (mut wakeups, mut reads) = (0, 0);
        for (before, after) in before.iter().zip(after) {
            let slept = after.slept_ns.saturating_sub(before.slept_ns) as f64;
            let awake = (1.0 - slept / elapsed_ns).clamp(0.0, 1.0);
            period.awake += awake;
            period.busiest = period.busiest.max(awake);
            period.longest_awake_ns = period.longest_awake_ns.max(after.longest_awake_ns);
            wakeups += after.sleeps.saturating_sub(before.sleeps);
            reads += after.reads.saturating_sub(before.reads);
        }
        period.wakeups_per_second = wakeups as f64 * 1e9 / elapsed_ns;
        period.reads_per_wakeup = reads as f64 / wakeups.max(1) as f64;
        period
    }
}

struct Policy {
    workers: usize,
    active: usize,
    /// Periods in a row in which fewer would have done.
    spare: u32,
    /// Periods for which all stay in use, and for how many they were to when something last took long.
    hold: u32,
    last_hold: u32,
    /// Periods since then.
    since_long: u32,
}

impl Policy {
    fn new(workers: usize) -> Self {
        Policy { workers, active: workers, spare: 0, hold: 0, last_hold: 0, since_long: FORGOTTEN_AFTER }
    }

    /// How many are to be active after such a period.
    fn after(&mut self, period: &Period) -> usize {
        self.since_long = self.since_long.saturating_add(1);
        if period.longest_awake_ns >= LONG_NS {
            self.hold_after_long();
        }
        if self.hold > 0 {
            self.hold -= 1;
            self.spare = 0;
            self.active = self.workers;
        } else if period.shares_syncs {
            self.share_syncs(period);
        } else if period.busiest > BUSY {
            self.spare = 0;
            self.active = (self.active * 2).min(self.workers);
        } else if self.active > 1
            && period.awake <= SPARE * self.fewer() as f64
            && period.wakeups_per_second >= WAKEUPS_MIN
            && period.reads_per_wakeup < READS_PER_WAKEUP_MAX
        {
            self.spare += 1;
            if self.spare >= PATIENCE {
                self.spare = 0;
                self.active = self.fewer();
            }
        } else {
            self.spare = 0;
        }
        self.active
    }

    fn share_syncs(&mut self, period: &Period) {
        self.spare = if self.active == 1 && period.busiest > BUSY_SHARING { self.spare + 1 } else { 0 };
        self.active = 1;
        if self.spare >= PATIENCE {
            (self.spare, self.hold, self.active) = (0, HELP_SHARING, self.workers);
        }
    }

    /// Something took long. During a hold that is no news, only a reason to begin it anew.
    fn hold_after_long(&mut self) {
        let is_first = self.since_long >= FORGOTTEN_AFTER;
        if is_first {
            self.last_hold = AFTER_LONG;
        } else if self.hold == 0 {
            self.last_hold = (self.last_hold * 2).min(AFTER_LONG_MAX);
        }
        self.hold = self.last_hold;
        self.since_long = 0;
    }

    fn fewer(&self) -> usize {
        self.active.div_ceil(2)
    }
}

/// Runs for as long as the server does.
pub async fn run(server: &'static Server) {
    let workers = &server.workers;
    if workers.loads().len() == 1 {
        return;
    }
    let stopwatch = Stopwatch::new();
    let look = || workers.loads().iter().map(|load| load.look(&stopwatch)).collect::<Vec<_>>();
    let mut policy = Policy::new(workers.loads().len());
    let mut before = look();
    let mut begun = stopwatch.raw();
    loop {
        tokio::time::sleep(PERIOD).await;
        let after = look();
        let now = stopwatch.raw();
        let elapsed = Duration::from_nanos(stopwatch.ns_between(begun, now));
        workers.activate(policy.after(&Period::between(
            &before,
            &after,
            elapsed,
            aof::get().is_some_and(Aof::likes_one_worker),
        )));
        (before, begun) = (after, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers, each awake for a third of the time, one or two requests per wake-up.
    const LIGHT: Period = Period {
        awake: 0.6,
        busiest: 0.35,
        wakeups_per_second: 50_000.0,
        reads_per_wakeup: 1.5,
        longest_awake_ns: 50_000,
        shares_syncs: false,
    };

    fn after(policy: &mut Policy, period: Period, periods: u32) -> usize {
        (0..periods).map(|_| policy.after(&period)).last().unwrap_or(policy.active)
    }

    #[test]
    fn light_traffic_is_gathered_in_steps_and_spread_when_it_grows() {
        let mut policy = Policy::new(4);
        assert_eq!(after(&mut policy, LIGHT, PATIENCE - 1), 4, "not at once");
        assert_eq!(after(&mut policy, LIGHT, 1), 2);
        assert_eq!(after(&mut policy, LIGHT, PATIENCE), 1);
        let busy = Period { awake: 0.8, busiest: 0.8, ..LIGHT };
        assert_eq!(after(&mut policy, busy, 1), 2);
        assert_eq!(after(&mut policy, Period { awake: 1.6, ..busy }, 1), 4);
    }

    #[test]
    fn who_shares_syncs_is_gathered_while_one_worker_can_do_the_work() {
        let sharing = Period { awake: 1.4, busiest: 0.98, reads_per_wakeup: 20.0, shares_syncs: true, ..LIGHT };
        let mut policy = Policy::new(2);
        assert_eq!(after(&mut policy, sharing, 1), 1);
        assert_eq!(after(&mut policy, Period { awake: 0.9, busiest: 0.9, ..sharing }, 100), 1);
        let busy = Period { awake: 0.98, busiest: 0.98, ..sharing };
        assert_eq!(after(&mut policy, busy, PATIENCE - 1), 1, "once is not often");
        assert_eq!(after(&mut policy, busy, 1 + HELP_SHARING), 2);
        assert_eq!(after(&mut policy, sharing, 1), 1, "another attempt");
    }

    #[test]
    fn what_one_worker_could_not_do_or_need_not_save_stays_spread() {
        for period in [
            Period { awake: 0.9, busiest: 0.5, ..LIGHT },
            Period { wakeups_per_second: 500.0, ..LIGHT },
            Period { reads_per_wakeup: 20.0, ..LIGHT },
        ] {
            let mut policy = Policy::new(2);
            assert_eq!(after(&mut policy, period, 100), 2, "{period:?}");
        }
    }

    #[test]
    fn after_something_that_took_long_everybody_works_for_a_while() {
        let mut policy = Policy::new(2);
        let long = Period { longest_awake_ns: 20_000_000, ..LIGHT };
        assert_eq!(after(&mut policy, LIGHT, PATIENCE), 1);
        for hold in [1, 2, 4, 8, 16, 20, 20].map(|times| times * AFTER_LONG) {
            assert_eq!(after(&mut policy, long, 1), 2);
            assert_eq!(after(&mut policy, LIGHT, hold - 1 + PATIENCE - 1), 2, "{hold}");
            assert_eq!(after(&mut policy, LIGHT, 1), 1, "{hold}");
        }
        // Long ago is forgotten.
        after(&mut policy, LIGHT, FORGOTTEN_AFTER);
        assert_eq!(after(&mut policy, long, 1), 2);
        assert_eq!(after(&mut policy, LIGHT, AFTER_LONG - 1 + PATIENCE), 1);
    }

    #[test]
    fn a_period_is_the_difference_of_two_looks() {
        let before = [LoadNow { sleeps: 10, reads: 10, slept_ns: 0, longest_awake_ns: 9 }; 2];
        let mut after = before;
        after[0] = LoadNow { sleeps: 110, reads: 160, slept_ns: 75_000_000, longest_awake_ns: 4 };
        after[1].slept_ns = 100_000_000;
        after[1].longest_awake_ns = 0;
        let period = Period::between(&before, &after, Duration::from_millis(100), false);
        assert!((period.awake - 0.25).abs() < 1e-9 && (period.busiest - 0.25).abs() < 1e-9, "{period:?}");
        assert!((period.wakeups_per_second - 1000.0).abs() < 1e-6 && (period.reads_per_wakeup - 1.5).abs() < 1e-9);
        assert_eq!(period.longest_awake_ns, 4);
    }
}
