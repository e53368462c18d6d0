//! The log: through `tracing`, in Redis's line layout, which tools and tests read, or in JSON.
//!
//! ```text
//!   pid:role day month year hh:mm:ss.mmm level message        level: . debug   - verbose   * notice   # warning
//! ```

use crate::server::config::Config;
use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

struct RedisLine;

impl<S, N> FormatEvent<S, N> for RedisLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mark = match *event.metadata().level() {
            Level::ERROR | Level::WARN => '#',
            Level::INFO => '*',
            Level::DEBUG => '-',
            Level::TRACE => '.',
        };
        let now = crate::base::clock::local_time();
        write!(writer, "{}:M {now} {mark} ", std::process::id())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Starts logging to standard output.
pub fn start(_config: &Config) {
    tracing_subscriber::fmt().event_format(RedisLine).with_max_level(Level::INFO).init();
}
