//! Figures per second, from samples that cron takes ten times a second: the mean of the last 16.

use crate::server::state::Server;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// What is sampled.
#[derive(Clone, Copy)]
pub enum Rate {
    Commands,
    InputBytes,
    OutputBytes,
    InputFromPrimary,
    OutputToReplicas,
}

const RATES: usize = 5;
const SAMPLES: usize = 16;

#[derive(Default)]
pub struct Rates(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    last: [u64; RATES],
    last_ms: i64,
    per_second: [[f64; SAMPLES]; RATES],
    next: usize,
}

impl Rates {
    fn sample(&self, totals: [u64; RATES], now_ms: i64) {
        let samples = &mut *self.0.lock();
        let elapsed_ms = now_ms - samples.last_ms;
        if elapsed_ms <= 0 {
            return;
        }
        if samples.last_ms > 0 {
            let at = samples.next % SAMPLES;
            for ((rate, total), last) in samples.per_second.iter_mut().zip(totals).zip(samples.last) {
                // A total that shrank was reset.
                rate[at] = total.saturating_sub(last) as f64 * 1000.0 / elapsed_ms as f64;
            }
            samples.next += 1;
        }
        samples.last = totals;
        samples.last_ms = now_ms;
    }

    pub fn per_second(&self, rate: Rate) -> f64 {
        let samples = self.0.lock();
        samples.per_second[rate as usize].iter().sum::<f64>() / SAMPLES as f64
    }

    pub(super) fn reset(&self) {
        *self.0.lock() = Samples::default();
    }
}

impl Server {
    /// To be called about every 100 ms.
    pub fn sample_rates(&self, now_ms: i64) {
        let totals = [
            self.sum(|stats| stats.commands_processed.value()),
            self.sum(|stats| stats.input_bytes.value()),
            self.sum(|stats| stats.output_bytes.value()),
            self.stats.primary_bytes.load(Ordering::Relaxed),
            self.replicas.output_bytes.load(Ordering::Relaxed),
        ];
        self.stats.rates.sample(totals, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_steady_work_is_its_rate() {
        let rates = Rates::default();
        (0..=16).for_each(|at| rates.sample([at * 50, at * 1024, 0, 0, at * 7], 1000 + at as i64 * 100));
        assert_eq!(rates.per_second(Rate::Commands), 500.0);
        assert_eq!(rates.per_second(Rate::InputBytes), 10240.0);
        assert_eq!(rates.per_second(Rate::OutputToReplicas), 70.0);
        rates.sample([0; RATES], 2700);
        assert!(rates.per_second(Rate::Commands) < 500.0);
    }
}
