//! INFO commandstats, errorstats, latencystats: a line per command or error code, summed over the workers.

use super::View;
use crate::server::stats::latency_histogram::percentile_ns;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One command's figures of all workers.
#[derive(Default)]
struct Sum {
    calls: u64,
    time_ns: u64,
    rejected: u64,
    failed: u64,
}

// In all of these, writing into a String cannot fail.

pub fn write_command_stats(view: &View<'_>, text: &mut String) {
    for entry in view.server.table.iter() {
        let mut sum = Sum::default();
        view.server.for_each_worker(|stats| {
            let stats = &stats.commands[entry.id];
            sum.calls += stats.calls.value();
            sum.time_ns += stats.time_ns.value();
            sum.rejected += stats.rejected.value();
            sum.failed += stats.failed.value();
        });
        if sum.calls == 0 && sum.rejected == 0 && sum.failed == 0 {
            continue;
        }
        let usec = sum.time_ns / 1000;
        let per_call = if sum.calls == 0 { 0.0 } else { sum.time_ns as f64 / 1000.0 / sum.calls as f64 };
        let _ = write!(
            text,
            "cmdstat_{}:calls={},usec={usec},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}\r\n",
            entry.full_name, sum.calls, sum.rejected, sum.failed
        );
    }
}

pub fn write_error_stats(view: &View<'_>, text: &mut String) {
    let mut sum: BTreeMap<String, u64> = BTreeMap::new();
    view.server.for_each_worker(|stats| {
        for (code, count) in stats.errors.lock().iter() {
            *sum.entry(code.clone()).or_default() += count;
        }
    });
    for (code, count) in sum {
        let _ = write!(text, "errorstat_{code}:count={count}\r\n");
    }
}

pub fn write_latency_stats(view: &View<'_>, text: &mut String) {
    for entry in view.server.table.iter() {
        let mut counts = Vec::new();
        view.server.for_each_worker(|stats| {
            if let Some(latency) = stats.commands[entry.id].latency.get() {
                latency.add_to(&mut counts);
            }
        });
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let percentiles: Vec<String> = view
            .config
            .latency_tracking_info_percentiles
            .0
            .iter()
            .map(|percentile| format!("p{percentile}={:.3}", percentile_ns(&counts, *percentile) as f64 / 1000.0))
            .collect();
        let _ = write!(text, "latency_percentiles_usec_{}:{}\r\n", entry.full_name, percentiles.join(","));
    }
}
