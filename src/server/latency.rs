//! The latency monitor: what took longer than `latency-monitor-threshold`, by event.

use super::state::Server;
use crate::base::clock;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};

/// Samples kept of each event, one per second at most.
const SAMPLES_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at_s: i64,
    pub ms: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest ever, until reset.
    pub max_ms: u64,
}

#[derive(Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Event>>);

impl LatencyMonitor {
    fn add(&self, event: &'static str, at_s: i64, ms: u64) {
        let mut events = self.0.lock();
        let event = events.entry(event).or_default();
        event.max_ms = event.max_ms.max(ms);
        match event.samples.back_mut().filter(|last| last.at_s == at_s) {
            Some(last) => last.ms = last.ms.max(ms),
            None => event.samples.push_back(Sample { at_s, ms }),
        }
        if event.samples.len() > SAMPLES_MAX {
            event.samples.pop_front();
        }
    }

    pub fn events(&self) -> Vec<(&'static str, Event)> {
        self.0.lock().iter().map(|(name, event)| (*name, event.clone())).collect()
    }

    pub fn event(&self, name: &[u8]) -> Option<Event> {
        self.0.lock().iter().find(|(known, _)| known.as_bytes() == name).map(|(_, event)| event.clone())
    }

    /// Forgets one event, or all; how many there were.
    pub fn reset(&self, name: Option<&[u8]>) -> usize {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|known, _| name.is_some_and(|name| known.as_bytes() != name));
        before - events.len()
    }
}

impl Server {
    /// Something took that long; counted if the threshold says so.
    pub fn note_latency(&self, event: &'static str, ms: u64) {
        let threshold = self.config.current().latency_monitor_threshold;
        if threshold > 0 && ms >= threshold {
            self.latency.add(event, clock::unix_ms() / 1000, ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_per_second_the_longest() {
        let monitor = LatencyMonitor::default();
        monitor.add("command", 10, 5);
        monitor.add("command", 10, 9);
        monitor.add("command", 11, 7);
        let event = monitor.event(b"command").unwrap();
        assert_eq!(event.max_ms, 9);
        assert_eq!(event.samples, [Sample { at_s: 10, ms: 9 }, Sample { at_s: 11, ms: 7 }]);
        assert_eq!((monitor.reset(Some(b"fork")), monitor.reset(None)), (0, 1));
    }
}
