//! Scripts of the administrator: notifications and the reconfiguration of clients, run in the order of their events.
//!
//! ```text
//!   scheduled ──(at most 16 at once)──► running ── exit 0, or more than 1 ──► gone (-script-error unless 0)
//!       ▲                                 │ exit 1, or a signal (after 60 s: our own SIGKILL)
//!       └── 30 s, 60 s, 2 min … later ────┘ ten times at most
//! ```

use super::action::{Action, Level};
use super::core::Core;
use std::collections::VecDeque;

const QUEUE_MAX: usize = 256;
const RUNNING_MAX: usize = 16;
const TRIES_MAX: u32 = 10;

#[derive(Debug)]
pub struct Job {
    pub number: u64,
    pub words: Vec<Vec<u8>>,
    pub is_running: bool,
    pub pid: u32,
    pub tries: u32,
    /// Running: since when. Otherwise not before when; 0 is at once.
    pub time_ms: i64,
}

#[derive(Debug, Default)]
pub struct Scripts {
    pub queue: VecDeque<Job>,
}

/// How a script has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exit(i32),
    Signal(i32),
    /// It did not even begin: no process was to be had.
    NoProcess,
}

impl Scripts {
    pub fn running(&self) -> usize {
        self.queue.iter().filter(|job| job.is_running).count()
    }

    fn find(&mut self, number: u64) -> Option<&mut Job> {
        self.queue.iter_mut().find(|job| job.number == number)
    }
}

impl Core {
    /// The path of a script and its arguments. In a full queue the oldest that waits makes room.
    pub(super) fn schedule_script(&mut self, words: Vec<Vec<u8>>) {
        let number = self.next_number();
        self.scripts.queue.push_back(Job { number, words, is_running: false, pid: 0, tries: 0, time_ms: 0 });
        if self.scripts.queue.len() > QUEUE_MAX
            && let Some(oldest) = self.scripts.queue.iter().position(|job| !job.is_running)
        {
            self.scripts.queue.remove(oldest);
        }
    }

    pub(super) fn run_scripts(&mut self) {
        let now_ms = self.now_ms;
        let mut room = RUNNING_MAX.saturating_sub(self.scripts.running());
        let (mut to_run, mut late) = (Vec::new(), Vec::new());
        for job in &mut self.scripts.queue {
            if job.is_running {
                if now_ms - job.time_ms > self.periods.script_max_runtime {
                    late.push((job.number, job.pid, job.words.first().cloned().unwrap_or_default()));
                }
            } else if room > 0 && job.time_ms <= now_ms {
                (job.is_running, job.time_ms) = (true, now_ms);
                job.tries += 1;
                room -= 1;
                to_run.push((job.number, job.words.clone()));
            }
        }
        for (job, words) in to_run {
            self.act(Action::RunScript { job, words });
        }
        for (job, pid, path) in late {
            let text = format!("{} {pid}", String::from_utf8_lossy(&path));
            self.event(Level::Warning, "-script-timeout", text);
            self.act(Action::KillScript { job });
        }
    }

    pub fn script_started(&mut self, number: u64, pid: u32) {
        if let Some(job) = self.scripts.find(number) {
            job.pid = pid;
            self.event(Level::Debug, "+script-child", pid.to_string());
        }
    }

    pub fn script_ended(&mut self, now_ms: i64, number: u64, ending: Ending) {
        self.now_ms = now_ms;
        let first_delay_ms = self.periods.script_retry_delay;
        let Some(job) = self.scripts.find(number) else { return };
        let (pid, path) = (job.pid, String::from_utf8_lossy(&job.words[0]).into_owned());
        (job.is_running, job.pid) = (false, 0);
        let (signal, code) = match ending {
            Ending::Exit(code) => (0, code),
            Ending::Signal(signal) => (signal, 0),
            Ending::NoProcess => {
                // The next turn tries again.
                self.event(Level::Warning, "-script-error", format!("{path} 99 0"));
                return;
            }
        };
        let tries = job.tries;
        let is_tried_again = (signal != 0 || code == 1) && tries < TRIES_MAX;
        if is_tried_again {
            job.time_ms = now_ms + (first_delay_ms << (tries - 1));
        } else {
            self.scripts.queue.retain(|job| job.number != number);
        }
        self.event(Level::Debug, "-script-child", format!("{pid} {code} {signal}"));
        if !is_tried_again && (signal, code) != (0, 0) {
            self.event(Level::Warning, "-script-error", format!("{path} {signal} {code}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentinel::address::Names;

    struct Nobody;

    impl Names for Nobody {
        fn resolve(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn core() -> Core {
        Core::new(1, 1, Box::new(Nobody))
    }

    fn runs(core: &mut Core, now_ms: i64) -> Vec<u64> {
        core.now_ms = now_ms;
        core.run_scripts();
        let actions = core.take_actions().into_iter();
        actions.filter_map(|action| if let Action::RunScript { job, .. } = action { Some(job) } else { None }).collect()
    }

    #[test]
    fn sixteen_at_once_in_order() {
        let mut core = core();
        (0..20).for_each(|_| core.schedule_script(vec![b"x".to_vec()]));
        let first = runs(&mut core, 10);
        assert_eq!((first.len(), core.scripts.running()), (16, 16));
        assert!(first.is_sorted());
        assert!(runs(&mut core, 20).is_empty());
        core.script_ended(30, first[3], Ending::Exit(0));
        let next = runs(&mut core, 40);
        assert_eq!(next.len(), 1);
        assert!(next[0] > first[15]);
    }

    #[test]
    fn exit_one_and_signals_are_tried_again_ten_times() {
        let mut core = core();
        core.schedule_script(vec![b"x".to_vec()]);
        let (mut now_ms, mut delay_ms) = (10, 30_000);
        for attempt in 1..=10 {
            let job = runs(&mut core, now_ms)[0];
            core.script_ended(now_ms, job, if attempt % 2 == 0 { Ending::Exit(1) } else { Ending::Signal(9) });
            if attempt < 10 {
                assert!(runs(&mut core, now_ms + delay_ms - 1).is_empty(), "attempt {attempt}");
                now_ms += delay_ms;
                delay_ms *= 2;
            }
        }
        assert!(core.scripts.queue.is_empty());
        let told = core.take_actions();
        assert!(told.contains(&Action::Event {
            level: Level::Warning,
            channel: "-script-error",
            message: "x 0 1".into()
        }));
        core.schedule_script(vec![b"x".to_vec()]);
        let job = runs(&mut core, now_ms)[0];
        core.script_ended(now_ms, job, Ending::Exit(2));
        assert!(core.scripts.queue.is_empty());
    }

    #[test]
    fn the_oldest_that_waits_makes_room_and_the_late_are_killed() {
        let mut core = core();
        (0..QUEUE_MAX + 1).for_each(|_| core.schedule_script(vec![b"x".to_vec()]));
        assert_eq!(core.scripts.queue.len(), QUEUE_MAX);
        assert_eq!(core.scripts.queue[0].number, 2);
        runs(&mut core, 10);
        core.now_ms = 10 + 60_001;
        core.run_scripts();
        let kills = core.take_actions().into_iter().filter(|action| matches!(action, Action::KillScript { .. }));
        assert_eq!(kills.count(), 16);
    }
}
