//! The log: through `tracing`, in Redis's line layout, which tools and tests read, or in JSON; to the system's log as well.
//!
//! ```text
//!   pid:role day month year hh:mm:ss.mmm level message        level: . debug   - verbose   * notice   # warning
//! ```

use crate::server::Server;
use crate::server::config::{Config, LogFormat, LogLevel, SyslogFacility};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

/// Whose role the lines show; none before the server exists.
static SERVER: OnceLock<&'static Server> = OnceLock::new();

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

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
        let role = match SERVER.get() {
            Some(server) if server.config.current().is_sentinel => 'X',
            Some(server) if server.is_replica.load(Ordering::Relaxed) => 'S',
            _ => 'M',
        };
        let now = crate::base::clock::local_time();
        write!(writer, "{}:{role} {now} {mark} ", std::process::id())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// A line for /dev/log: `<priority>ident[pid]: message`.
struct SystemLine {
    ident: String,
    facility: u8,
}

impl<S, N> FormatEvent<S, N> for SystemLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        // Severities of RFC 5424: warning, notice, info, debug.
        let severity = match *event.metadata().level() {
            Level::ERROR | Level::WARN => 4,
            Level::INFO => 5,
            Level::DEBUG => 6,
            Level::TRACE => 7,
        };
        write!(writer, "<{}>{}[{}]: ", self.facility * 8 + severity, self.ident, std::process::id())?;
        context.format_fields(writer.by_ref(), event)
    }
}

/// Opened for every line, so that the file may be moved away under a running server.
struct LogFile(PathBuf);

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        OpenOptions::new().append(true).create(true).open(&self.0)?.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct SystemLog(UnixDatagram);

impl Write for &SystemLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.send(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts logging, to standard output if no file is named.
pub fn start(config: &Config) {
    let (filter, handle) = reload::Layer::new(filter_of(config.loglevel));
    // Both are set once, here; a second start (a test) goes on with the first.
    let _ = LEVEL.set(handle);
    let layers = Registry::default().with(filter).with(main_layer(config)).with(system_layer(config));
    let _ = layers.try_init();
}

/// Lets the lines tell the role of the server, and CONFIG SET change the level.
pub fn follow(server: &'static Server) {
    let _ = SERVER.set(server);
    server.config.on_changed(
        &["loglevel"],
        Box::new(|_, new| {
            if let Some(handle) = LEVEL.get() {
                // Fails only if the subscriber is gone.
                let _ = handle.modify(|filter| *filter = filter_of(new.loglevel));
            }
        }),
    );
}

type AnyLayer<S> = Box<dyn Layer<S> + Send + Sync>;

fn main_layer<S>(config: &Config) -> AnyLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let layer = tracing_subscriber::fmt::layer();
    let is_json = config.log_format == LogFormat::Json;
    if config.logfile.is_empty() {
        return if is_json { layer.json().boxed() } else { layer.event_format(RedisLine).boxed() };
    }
    // The directory changes at start; a relative name is meant from there.
    let file = LogFile(std::path::absolute(&config.logfile).unwrap_or_else(|_| PathBuf::from(&config.logfile)));
    let layer = layer.with_ansi(false).with_writer(std::sync::Arc::new(file));
    if is_json { layer.json().boxed() } else { layer.event_format(RedisLine).boxed() }
}

fn system_layer<S>(config: &Config) -> Option<AnyLayer<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    if !config.syslog_enabled {
        return None;
    }
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(Path::new("/dev/log")).ok()?;
    let line = SystemLine { ident: config.syslog_ident.clone(), facility: facility_code(config.syslog_facility) };
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(line);
    Some(layer.with_writer(std::sync::Arc::new(SystemLog(socket))).boxed())
}

fn facility_code(facility: SyslogFacility) -> u8 {
    match facility {
        SyslogFacility::User => 1,
        SyslogFacility::Local0 => 16,
        SyslogFacility::Local1 => 17,
        SyslogFacility::Local2 => 18,
        SyslogFacility::Local3 => 19,
        SyslogFacility::Local4 => 20,
        SyslogFacility::Local5 => 21,
        SyslogFacility::Local6 => 22,
        SyslogFacility::Local7 => 23,
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::TRACE,
        LogLevel::Verbose => LevelFilter::DEBUG,
        LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Nothing => LevelFilter::OFF,
    }
}
