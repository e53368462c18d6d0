//! LATENCY: the latency monitor, and the histograms of the commands' durations.

use super::help::help_of;
use crate::base::clock;
use crate::commands::error::CommandError;
use crate::commands::spec::Group;
use crate::resp::{Args, Reply};
use crate::server::latency::Event;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};
use crate::server::state::Server;
use crate::server::stats::latency_histogram::bucket_upper_ns;
use crate::server::table::Entry;

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "latency",
    &[
        sub("doctor", 2, doctor).tips(REPORT).summary("Explains the latencies seen.").complexity("O(1)"),
        sub("graph", 3, graph)
            .tips(REPORT)
            .syntax("event")
            .summary("Draws the latencies of an event.")
            .complexity("O(1)"),
        sub("history", 3, history)
            .tips(REPORT)
            .syntax("event")
            .summary("Answers the samples of an event: time and milliseconds.")
            .complexity("O(1)"),
        sub("latest", 2, latest).tips(REPORT).summary("Answers the last sample of every event.").complexity("O(1)"),
        sub("reset", -2, reset)
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .syntax("[event [event ...]]")
            .summary("Forgets the samples of the named events, or of all.")
            .complexity("O(1)"),
        sub("histogram", -2, histogram)
            .since("7.0.0")
            .tips(REPORT)
            .syntax("[command [command ...]]")
            .summary("Answers how long the named commands, or all, took.")
            .complexity("O(N) where N is the number of commands with latency information being retrieved."),
        help_of(Group::Server, "2.8.13"),
    ],
)
.group(Group::Server)
.since("2.8.13")
.summary("A container for latency diagnostics commands.")
.complexity("Depends on subcommand.")];

const REPORT: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];

const fn sub(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Server).since("2.8.13").admin().noscript().loading_stale()
}

fn history(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let event = ctx.worker.server.latency.event(&args[2]).unwrap_or_default();
    ctx.reply.array(event.samples.len());
    for sample in event.samples {
        ctx.reply.array(2);
        ctx.reply.integer(sample.at_s);
        ctx.reply.integer(sample.ms as i64);
    }
    Ok(SessionFlow::Done)
}

fn latest(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let events = ctx.worker.server.latency.events();
    ctx.reply.array(events.len());
    for (name, event) in events {
        let last = event.samples.back().copied();
        ctx.reply.array(4);
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.integer(last.map_or(0, |sample| sample.at_s));
        ctx.reply.integer(last.map_or(0, |sample| sample.ms as i64));
        ctx.reply.integer(event.max_ms as i64);
    }
    Ok(SessionFlow::Done)
}

fn reset(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let monitor = &ctx.worker.server.latency;
    let count = match args.len() {
        2 => monitor.reset(None),
        _ => args.from(2).iter().map(|name| monitor.reset(Some(name))).sum(),
    };
    ctx.reply.count(count);
    Ok(SessionFlow::Done)
}

fn graph(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let Some(event) = ctx.worker.server.latency.event(&args[2]) else {
        return Err(CommandError::joined(&[b"ERR No samples available for event '", &args[2], b"'"]));
    };
    let text = draw(&String::from_utf8_lossy(&args[2]), &event, clock::unix_ms() / 1000);
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}

/// Rows of the picture.
const ROWS: u64 = 4;
/// Half-filled and filled cells of a column, from the lowest.
const CELLS: [char; 3] = ['_', 'o', '#'];

/// A column per sample, as high as its share of the highest; under it, how long ago it was.
fn draw(name: &str, event: &Event, now_s: i64) -> String {
    let low = event.samples.iter().map(|sample| sample.ms).min().unwrap_or(0);
    let high = event.samples.iter().map(|sample| sample.ms).max().unwrap_or(0);
    let mut text = format!("{name} - high {high} ms, low {low} ms (all time high {} ms)\n", event.max_ms);
    text.push_str(&"-".repeat(80));
    text.push('\n');
    let levels = ROWS * CELLS.len() as u64;
    for row in (0..ROWS).rev() {
        for sample in &event.samples {
            let level = (sample.ms - low) * (levels - 1) / (high - low).max(1) + 1;
            let filled = level.saturating_sub(row * CELLS.len() as u64).min(CELLS.len() as u64);
            let cell = filled.checked_sub(1).and_then(|index| CELLS.get(index as usize));
            text.push(cell.copied().unwrap_or(' '));
        }
        text.push('\n');
    }
    text.push('\n');
    let ages: Vec<String> = event.samples.iter().map(|sample| age(now_s - sample.at_s)).collect();
    for line in 0..ages.iter().map(String::len).max().unwrap_or(0) {
        text.extend(ages.iter().map(|age| age.chars().nth(line).unwrap_or(' ')));
        text.push('\n');
    }
    text
}

fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

fn doctor(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let text = report(ctx.worker.server);
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}

fn report(server: &Server) -> String {
    let threshold = server.config.current().latency_monitor_threshold;
    let events = server.latency.events();
    if events.is_empty() {
        return if threshold == 0 {
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n".into()
        } else {
            format!("Nothing took {threshold} ms or more so far.\n")
        };
    }
    let mut text = String::from("Events above the threshold:\n\n");
    for (name, event) in &events {
        let count = event.samples.len().max(1) as u64;
        let mean = event.samples.iter().map(|sample| sample.ms).sum::<u64>() / count;
        text.push_str(&format!(
            "- {name}: {} samples, mean {mean} ms, longest {} ms. {}\n",
            event.samples.len(),
            event.max_ms,
            advice(name)
        ));
    }
    text
}

fn advice(event: &str) -> &'static str {
    match event {
        "command" => "SLOWLOG GET shows which commands; those on many elements are best split up.",
        "fast-command" => "Such commands are quick by nature: look for swapping or a busy machine.",
        "expire-cycle" => "Many keys expire at once, or big ones: spread their expiry, or set lazyfree-lazy-expire.",
        "eviction-cycle" | "eviction-del" => "Memory is at its limit: more of it, or lazyfree-lazy-eviction, helps.",
        _ => "Look at the disk and at other processes of this machine.",
    }
}

fn histogram(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let mut entries: Vec<&Entry> = Vec::new();
    if args.len() == 2 {
        entries.extend(server.table.iter());
    }
    for name in args.from(2).iter() {
        if let Some(entry) = server.table.find_full(name) {
            entries.push(entry);
            entries.extend(entry.subcommands.iter().map(|id| server.table.entry(*id)));
        }
    }
    let mark = ctx.reply.begin();
    let mut pairs = 0;
    for entry in entries {
        let counts = latency_counts(server, entry);
        if counts.iter().any(|count| *count > 0) {
            write_distribution(entry, &counts, ctx.reply);
            pairs += 1;
        }
    }
    ctx.reply.end_map(mark, pairs);
    Ok(SessionFlow::Done)
}

/// One command's histogram, summed over the workers.
pub fn latency_counts(server: &Server, entry: &Entry) -> Vec<u64> {
    let mut counts = Vec::new();
    server.for_each_worker(|stats| {
        if let Some(latency) = stats.commands[entry.id].latency.get() {
            latency.add_to(&mut counts);
        }
    });
    counts
}

/// How many calls took up to 1, 2, 4 … microseconds; steps without further calls are left out.
fn write_distribution(entry: &Entry, counts: &[u64], reply: &mut Reply) {
    let total: u64 = counts.iter().sum();
    let mut steps: Vec<(u64, u64)> = Vec::new();
    let (mut cumulative, mut limit_ns) = (0, 1024);
    for (bucket, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        while bucket_upper_ns(bucket) >= limit_ns {
            limit_ns *= 2;
        }
        cumulative += count;
        match steps.last_mut().filter(|(limit, _)| *limit == limit_ns) {
            Some(step) => step.1 = cumulative,
            None => steps.push((limit_ns, cumulative)),
        }
    }
    reply.bulk(entry.full_name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.integer(total as i64);
    reply.bulk(b"histogram_usec");
    reply.map(steps.len());
    for (limit_ns, cumulative) in steps {
        reply.integer((limit_ns / 1000) as i64);
        reply.integer(cumulative as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::latency::Sample;

    #[test]
    fn a_picture_has_a_column_per_sample() {
        let samples = (0..10).map(|at_s| Sample { at_s, ms: 100 + at_s as u64 * 10 }).collect();
        let text = draw("command", &Event { samples, max_ms: 200 }, 10);
        assert!(text.starts_with("command - high 190 ms, low 100 ms (all time high 200 ms)\n"));
        assert_eq!(text.lines().nth(5).map(|line| line.chars().count()), Some(10));
        assert!(text.contains("#"));
        assert_eq!(age(7200), "2h");
    }
}
