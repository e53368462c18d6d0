//! INFO: every field declared once, in the section's table, with the function that finds its value.
//!
//! ```text
//!   INFO clients memory ─► sections asked for, each once, in the order below ─► View (one look at the server) ─► lines
//! ```

mod clients;
mod cpu;
mod keyspace;
mod memory;
mod persistence;
mod replication;
mod server;
mod stats;
mod tables;
mod tls;
mod view;

pub use memory::{difference, ratio};
pub use view::{MemoryView, View};

use std::fmt::Write;

/// One line of a section.
pub struct Field {
    pub name: &'static str,
    pub value: fn(&View<'_>) -> Figure,
}

impl Field {
    pub const fn new(name: &'static str, value: fn(&View<'_>) -> Figure) -> Self {
        Field { name, value }
    }
}

/// A value as INFO prints it.
pub enum Figure {
    Text(String),
    Int(i64),
    Uint(u64),
    /// Two decimals.
    Ratio(f64),
    /// Six decimals, seconds.
    Seconds(f64),
    Percent(f64),
    /// Bytes for people: `1.02M`.
    Human(u64),
    /// The line is left out.
    Absent,
}

impl From<usize> for Figure {
    fn from(value: usize) -> Self {
        Figure::Uint(value as u64)
    }
}

impl From<u64> for Figure {
    fn from(value: u64) -> Self {
        Figure::Uint(value)
    }
}

impl From<u32> for Figure {
    fn from(value: u32) -> Self {
        Figure::Uint(u64::from(value))
    }
}

impl From<i64> for Figure {
    fn from(value: i64) -> Self {
        Figure::Int(value)
    }
}

impl From<bool> for Figure {
    fn from(value: bool) -> Self {
        Figure::Uint(u64::from(value))
    }
}

impl From<&str> for Figure {
    fn from(value: &str) -> Self {
        Figure::Text(value.to_owned())
    }
}

/// Nothing: the line is left out.
impl<T: Into<Figure>> From<Option<T>> for Figure {
    fn from(value: Option<T>) -> Self {
        value.map_or(Figure::Absent, Into::into)
    }
}

impl From<String> for Figure {
    fn from(value: String) -> Self {
        Figure::Text(value)
    }
}

/// What stands below a section's title.
enum Body {
    Fields(&'static [Field]),
    /// Lines whose names are not known beforehand.
    Lines(fn(&View<'_>, &mut String)),
}

/// In which of INFO's collective names a section is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Default,
    All,
    Everything,
}

struct Section {
    name: &'static str,
    title: &'static str,
    extent: Extent,
    body: Body,
}

impl Section {
    const fn fields(name: &'static str, title: &'static str, fields: &'static [Field]) -> Self {
        Section { name, title, extent: Extent::Default, body: Body::Fields(fields) }
    }

    const fn lines(name: &'static str, title: &'static str, lines: fn(&View<'_>, &mut String)) -> Self {
        Section { name, title, extent: Extent::Default, body: Body::Lines(lines) }
    }

    const fn extent(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }
}

const SECTIONS: &[Section] = &[
    Section::fields("server", "Server", server::FIELDS),
    Section::fields("clients", "Clients", clients::FIELDS),
    Section::fields("memory", "Memory", memory::FIELDS),
    Section::fields("persistence", "Persistence", persistence::FIELDS),
    Section::fields("stats", "Stats", stats::FIELDS),
    Section::lines("replication", "Replication", replication::write),
    Section::fields("cpu", "CPU", cpu::FIELDS),
    // No modules are loaded here, so the section is always empty.
    Section::lines("modules", "Modules", |_, _| {}),
    Section::lines("commandstats", "Commandstats", tables::write_command_stats).extent(Extent::All),
    Section::lines("errorstats", "Errorstats", tables::write_error_stats),
    Section::lines("latencystats", "Latencystats", tables::write_latency_stats).extent(Extent::All),
    Section::fields("cluster", "Cluster", &[Field::new("cluster_enabled", |view| view.config.cluster_enabled.into())]),
    Section::fields("tls", "TLS", tls::FIELDS).extent(Extent::All),
    Section::lines("keyspace", "Keyspace", keyspace::write),
    Section::fields("debug", "Debug", stats::DEBUG_FIELDS).extent(Extent::Everything),
];

/// The text of the sections asked for; no name at all means the default ones. Unknown names count for nothing.
pub fn render<N: AsRef<[u8]>>(view: &View<'_>, names: &[N]) -> String {
    let is_named = |wanted: &str| names.iter().any(|name| name.as_ref().eq_ignore_ascii_case(wanted.as_bytes()));
    let default = names.is_empty() || is_named("default");
    let (all, everything) = (is_named("all"), is_named("everything"));
    let mut text = String::with_capacity(8 * 1024);
    for section in SECTIONS {
        let is_included = match section.extent {
            Extent::Default => default || all || everything,
            Extent::All => all || everything,
            Extent::Everything => false,
        };
        if is_included || is_named(section.name) {
            write_section(view, section, &mut text);
        }
    }
    text
}

fn write_section(view: &View<'_>, section: &Section, text: &mut String) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
    let _ = write!(text, "# {}\r\n", section.title);
    match section.body {
        Body::Fields(fields) => write_fields(view, fields, text),
        Body::Lines(lines) => lines(view, text),
    }
}

/// Writing into a String cannot fail.
fn write_fields(view: &View<'_>, fields: &[Field], text: &mut String) {
    for field in fields {
        let name = field.name;
        let _ = match (field.value)(view) {
            Figure::Text(value) => write!(text, "{name}:{value}\r\n"),
            Figure::Int(value) => write!(text, "{name}:{value}\r\n"),
            Figure::Uint(value) => write!(text, "{name}:{value}\r\n"),
            Figure::Ratio(value) => write!(text, "{name}:{value:.2}\r\n"),
            Figure::Seconds(value) => write!(text, "{name}:{value:.6}\r\n"),
            Figure::Percent(value) => write!(text, "{name}:{value:.2}%\r\n"),
            Figure::Human(bytes) => write!(text, "{name}:{}\r\n", human_bytes(bytes)),
            Figure::Absent => Ok(()),
        };
    }
}

/// `512B`, `1.50K`, `2.00M` …
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or('K');
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = *next;
    }
    format!("{value:.2}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (bytes, text) in [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1 << 20, "1.00M"), (3 << 29, "1.50G")] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names = std::collections::HashSet::new();
        for section in SECTIONS {
            assert!(names.insert(section.name), "{}", section.name);
            if let Body::Fields(fields) = section.body {
                for field in fields {
                    assert!(names.insert(field.name), "{}", field.name);
                }
            }
        }
    }
}
