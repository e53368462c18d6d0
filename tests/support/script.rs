//! Conformance scripts: parse, run against a server, compare, write back ("bless").
//!
//! ```text
//! # a comment
//! @file arg maxmemory 1mb        of the whole file: start the server with --maxmemory 1mb
//! SET k "v w"                    a line as typed into redis-cli
//! ----                           then the reply as redis-cli prints it …
//! OK
//!                                … up to an empty line
//! HGETALL h
//! ----
//! 1) "f"
//! 2) "v"
//! ---- resp3                     present only where RESP3 prints something else
//! 1# "f" => "v"
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `@file arg NAME VALUE…` | start the server with this option |
//! | `@file resp2`, `@file resp3` | run in this protocol only (default: the file runs in both) |
//! | `@file unblessed` | newer than the reference server: expectations are hand-written, `bless` leaves them |
//! | `@unblessed` | the same for the next command |
//! | `@match` | the reply is a pattern per line: `*`, `?`, `{LOW..HIGH}` for a number in that range |
//! | `@sort [pairs\|scan\|scanpairs]` | order the elements first: top level, by pairs, in the reply's second element |
//! | `@wire` | show the bytes on the wire instead |
//! | `@any` | run, ignore the reply |
//! | `@for LOW..HIGH LINE` | run LINE once per number, put for `{}`; replies must not be errors |
//! | `@client NAME` | go on as this client (opened when first named; the first is A) |
//! | `@send LINE` | send without waiting for the reply |
//! | `@receive` | the next frame for this client, pushes included; has a reply block |
//! | `@quiet MS` | nothing arrives for this client within MS milliseconds |
//! | `@blocked N` | wait until the server counts N blocked clients |
//! | `@sleep MS` | wait |
//! | `@flush` | FLUSHALL |
//!
//! In a command line `{{TEXT*COUNT}}` stands for TEXT repeated COUNT times. An empty line inside a reply is written `|`.

use super::{Client, Reply, Server, cli, server};
use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Order {
    #[default]
    AsSent,
    Sorted,
    SortedPairs,
    SortedScan,
    SortedScanPairs,
}

#[derive(Clone, Debug, Default)]
struct Mode {
    order: Order,
    pattern: bool,
    wire: bool,
    ignored: bool,
    unblessed: bool,
}

#[derive(Clone, Debug)]
enum Action {
    Command(String),
    Receive,
    Send(String),
    For(RangeInclusive<i64>, String),
    Client(String),
    Quiet(u64),
    Blocked(u64),
    Sleep(u64),
}

#[derive(Clone, Debug)]
struct Step {
    line: usize,
    /// The lines of the file from the end of the step before, as written: comments, modes, the action.
    source: Vec<String>,
    action: Action,
    mode: Mode,
    resp2: Option<String>,
    resp3: Option<String>,
}

pub struct Script {
    name: String,
    args: Vec<String>,
    protocols: Vec<Protocol>,
    unblessed: bool,
    steps: Vec<Step>,
    tail: Vec<String>,
}

/// A script ends after this many replies that did not come: each costs seconds.
const SILENCES: u32 = 3;

/// How long a reply may take: PFSELFTEST takes seconds in a debug build, and many of them on a busy machine.
const REPLY_LIMIT: Duration = Duration::from_secs(60);
/// How long a frame may take that others cause.
const RECEIVE_LIMIT: Duration = Duration::from_secs(10);

/// What a run showed for each step: the printed reply where the step has one.
type Shown = Vec<Option<String>>;

impl Step {
    fn has_reply(&self) -> bool {
        matches!(self.action, Action::Command(_) | Action::Receive) && !self.mode.ignored
    }

    fn expected(&self, protocol: Protocol) -> Option<&String> {
        match protocol {
            Protocol::Resp3 => self.resp3.as_ref().or(self.resp2.as_ref()),
            Protocol::Resp2 => self.resp2.as_ref(),
        }
    }

    fn accepts(&self, protocol: Protocol, shown: &str) -> bool {
        self.expected(protocol).is_some_and(|expected| {
            if self.mode.pattern { matches_pattern(expected, shown) } else { expected == shown }
        })
    }
}

impl Script {
    pub fn parse(name: &str, text: &str) -> Result<Script, String> {
        let mut script = Script {
            name: name.into(),
            args: Vec::new(),
            protocols: vec![Protocol::Resp2, Protocol::Resp3],
            unblessed: false,
            steps: Vec::new(),
            tail: Vec::new(),
        };
        let mut source = Vec::new();
        let mut mode = Mode::default();
        let mut lines = text.lines().enumerate().peekable();
        while let Some((index, line)) = lines.next() {
            source.push(line.to_string());
            let fault = |what: &str| format!("{name}:{}: {what}: {line}", index + 1);
            let action = match directive(line) {
                None => continue,
                Some(("file", setting)) => {
                    script.set(setting).ok_or_else(|| fault("unknown file setting"))?;
                    continue;
                }
                Some((word, rest)) if set_mode(&mut mode, word, rest) => continue,
                Some(("flush", _)) => {
                    mode.ignored = true;
                    Action::Command("FLUSHALL".into())
                }
                Some((word, rest)) => action(word, rest).ok_or_else(|| fault("unknown directive"))?,
            };
            let mut step = Step { line: index + 1, source, action, mode, resp2: None, resp3: None };
            (source, mode) = (Vec::new(), Mode::default());
            if step.has_reply() && lines.next_if(|(_, line)| *line == "----").is_some() {
                let (resp2, marker) = block(&mut lines);
                step.resp2 = Some(resp2);
                if marker {
                    step.resp3 = Some(block(&mut lines).0);
                }
            }
            script.steps.push(step);
        }
        script.tail = source;
        Ok(script)
    }

    fn set(&mut self, setting: &str) -> Option<()> {
        match setting.split_once(' ').unwrap_or((setting, "")) {
            ("arg", option) => {
                let mut words = cli::split(option)?.into_iter().filter_map(|word| String::from_utf8(word).ok());
                self.args.push(format!("--{}", words.next()?));
                self.args.extend(words);
            }
            ("resp2", "") => self.protocols = vec![Protocol::Resp2],
            ("resp3", "") => self.protocols = vec![Protocol::Resp3],
            ("unblessed", "") => self.unblessed = true,
            _ => return None,
        }
        Some(())
    }

    /// Runs the script on fresh servers; the differences, ready to print.
    pub fn check(&self) -> Vec<String> {
        let mut differences = Vec::new();
        if server::is_stock() && self.unblessed {
            return differences;
        }
        for &protocol in &self.protocols {
            for (step, shown) in self.steps.iter().zip(self.run(protocol)) {
                let Some(shown) = shown else { continue };
                if step.accepts(protocol, &shown) || (server::is_stock() && step.mode.unblessed) {
                    continue;
                }
                let expected = step.expected(protocol).map_or("(no expectation; bless it)", String::as_str);
                let command = step.source.last().map_or("", String::as_str);
                differences.push(format!(
                    "{}:{} [{protocol:?}] {command}\n  expected:\n{}\n  got:\n{}",
                    self.name,
                    step.line,
                    indented(expected),
                    indented(&shown)
                ));
            }
        }
        differences
    }

    /// The file's text with the replies that the reference server gives now.
    pub fn blessed(&mut self) -> String {
        for &protocol in &self.protocols.clone() {
            let shown = self.run(protocol);
            for (step, shown) in self.steps.iter_mut().zip(shown) {
                let Some(shown) = shown else { continue };
                if self.unblessed || step.mode.unblessed || (step.mode.pattern && step.accepts(protocol, &shown)) {
                    continue;
                }
                if step.mode.pattern && step.expected(protocol).is_some() {
                    eprintln!("{}:{}: the pattern does not fit: {shown}", self.name, step.line);
                    continue;
                }
                match protocol {
                    Protocol::Resp2 => (step.resp2, step.resp3) = (Some(shown), None),
                    Protocol::Resp3 if self.protocols.len() == 1 => step.resp2 = Some(shown),
                    Protocol::Resp3 => step.resp3 = (step.resp2.as_ref() != Some(&shown)).then_some(shown),
                }
            }
        }
        self.text()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            for line in &step.source {
                // Several blank lines before a step carry nothing.
                if !(line.is_empty() && (text.is_empty() || text.ends_with("\n\n"))) {
                    writeln!(text, "{line}").expect("a string");
                }
            }
            if let Some(resp2) = &step.resp2 {
                writeln!(text, "----\n{resp2}").expect("a string");
            }
            if let Some(resp3) = &step.resp3 {
                writeln!(text, "---- resp3\n{resp3}").expect("a string");
            }
            if step.resp2.is_some() {
                text.push('\n');
            }
        }
        text.push_str(
            &self.tail.iter().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect::<String>(),
        );
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    fn run(&self, protocol: Protocol) -> Shown {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut run = Run { server: Server::start(&args), clients: HashMap::new(), current: "A".into(), protocol };
        let mut shown = Vec::new();
        let mut silent = 0;
        for step in &self.steps {
            shown.push(run.step(step).unwrap_or_else(|error| {
                run.clients.remove(&run.current);
                Some(match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                        silent += 1;
                        "(no reply in time)".into()
                    }
                    io::ErrorKind::Other => format!("(bad reply: {error})"),
                    _ => "(connection closed)".into(),
                })
            }));
            if silent == SILENCES {
                shown.push(Some("(too many silent replies; the rest is left out)".into()));
                break;
            }
            if !run.server.is_running() {
                shown.push(Some(format!("(the server ended)\n{}", last_lines(&run.server.log()))));
                break;
            }
        }
        shown
    }
}

struct Run {
    server: Server,
    clients: HashMap<String, Client>,
    current: String,
    protocol: Protocol,
}

impl Run {
    fn client(&mut self) -> io::Result<&mut Client> {
        if !self.clients.contains_key(&self.current) {
            let mut client = Client::connect(self.server.port())?;
            client.read_timeout(REPLY_LIMIT);
            if self.protocol == Protocol::Resp3 {
                client.try_call(&["HELLO", "3"])?;
            }
            self.clients.insert(self.current.clone(), client);
        }
        Ok(self.clients.get_mut(&self.current).expect("just inserted"))
    }

    fn step(&mut self, step: &Step) -> io::Result<Option<String>> {
        let wire = step.mode.wire;
        match &step.action {
            Action::Command(line) => {
                let argv = words(line);
                let client = self.client()?;
                let reply = client.try_call(&argv)?;
                let shown = if wire { cli::quote(&client.wire) } else { printed(reply, step.mode.order) };
                return Ok(step.has_reply().then_some(shown));
            }
            Action::Receive => {
                let client = self.client()?;
                client.read_timeout(RECEIVE_LIMIT);
                let reply = client.frame()?;
                client.read_timeout(REPLY_LIMIT);
                return Ok(Some(if wire { cli::quote(&client.wire) } else { printed(reply, step.mode.order) }));
            }
            Action::Send(line) => self.client()?.send(&words(line))?,
            Action::For(range, line) => return self.repeat(range.clone(), line),
            Action::Client(name) => self.current = name.clone(),
            Action::Quiet(ms) => {
                let frame = self.client()?.frame_within(Duration::from_millis(*ms))?;
                return Ok(frame.map(|frame| format!("(not quiet) {}", cli::print(&frame))));
            }
            Action::Blocked(count) => {
                let deadline = std::time::Instant::now() + REPLY_LIMIT;
                while self.server.info("blocked_clients") != count.to_string() {
                    if std::time::Instant::now() > deadline {
                        return Ok(Some(format!("(there are never {count} blocked clients)")));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Action::Sleep(ms) => std::thread::sleep(Duration::from_millis(*ms)),
        }
        Ok(None)
    }

    fn repeat(&mut self, range: RangeInclusive<i64>, line: &str) -> io::Result<Option<String>> {
        let client = self.client()?;
        let mut failed = None;
        for chunk in range.collect::<Vec<_>>().chunks(500) {
            for number in chunk {
                client.send(&words(&line.replace("{}", &number.to_string())))?;
            }
            for _ in chunk {
                if let Reply::Error(text) = client.reply()? {
                    failed = Some(format!("(error) {text}"));
                }
            }
        }
        Ok(failed)
    }
}

/// A directive's word and the rest of its line; for a command line the word is empty; `None` for blanks and comments.
fn directive(line: &str) -> Option<(&str, &str)> {
    if line.trim().is_empty() || line.starts_with('#') {
        return None;
    }
    Some(match line.strip_prefix('@') {
        Some(rest) => rest.split_once(' ').unwrap_or((rest, "")),
        None => ("", line),
    })
}

fn set_mode(mode: &mut Mode, word: &str, rest: &str) -> bool {
    match (word, rest) {
        ("match", "") => mode.pattern = true,
        ("wire", "") => mode.wire = true,
        ("any", "") => mode.ignored = true,
        ("unblessed", "") => mode.unblessed = true,
        ("sort", "") => mode.order = Order::Sorted,
        ("sort", "pairs") => mode.order = Order::SortedPairs,
        ("sort", "scan") => mode.order = Order::SortedScan,
        ("sort", "scanpairs") => mode.order = Order::SortedScanPairs,
        _ => return false,
    }
    true
}

fn action(word: &str, rest: &str) -> Option<Action> {
    Some(match word {
        "" => Action::Command(rest.into()),
        "receive" => Action::Receive,
        "send" => Action::Send(rest.into()),
        "client" => Action::Client(rest.into()),
        "quiet" => Action::Quiet(rest.parse().ok()?),
        "blocked" => Action::Blocked(rest.parse().ok()?),
        "sleep" => Action::Sleep(rest.parse().ok()?),
        "for" => {
            let (range, line) = rest.split_once(' ')?;
            let (low, high) = range.split_once("..")?;
            Action::For(low.parse().ok()?..=high.parse().ok()?, line.into())
        }
        _ => return None,
    })
}

/// A reply block up to an empty line, or up to `---- resp3` (then true).
fn block<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> (String, bool) {
    let mut block: Vec<&str> = Vec::new();
    for (_, line) in lines {
        match line {
            "" => break,
            "---- resp3" => return (block.join("\n"), true),
            line => block.push(line),
        }
    }
    (block.join("\n"), false)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    cli::split(&expanded(line)).unwrap_or_else(|| panic!("unbalanced quotes: {line}"))
}

fn expanded(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let (inner, behind) = after.split_once("}}").unwrap_or_else(|| panic!("{{{{ without }}}}: {line}"));
        let (unit, count) = inner.rsplit_once('*').unwrap_or_else(|| panic!("no count: {line}"));
        text.push_str(before);
        text.push_str(&unit.repeat(count.parse().unwrap_or_else(|_| panic!("bad count: {line}"))));
        rest = behind;
    }
    text.push_str(rest);
    text
}

fn printed(reply: Reply, order: Order) -> String {
    let text = cli::print(&sorted(reply, order));
    // A blank line would end the block.
    text.lines().map(|line| if line.is_empty() { "|" } else { line }).collect::<Vec<_>>().join("\n")
}

fn sorted(reply: Reply, order: Order) -> Reply {
    let by_text = |items: &mut Vec<Reply>| items.sort_by_key(cli::print);
    match (reply, order) {
        (reply, Order::AsSent) => reply,
        (Reply::Array(mut items), Order::SortedScan | Order::SortedScanPairs) if items.len() == 2 => {
            let inner = if order == Order::SortedScan { Order::Sorted } else { Order::SortedPairs };
            let elements = items.pop().expect("two items");
            items.push(sorted(elements, inner));
            Reply::Array(items)
        }
        (Reply::Array(items), Order::SortedPairs) => {
            let mut pairs: Vec<Vec<Reply>> = items.chunks(2).map(<[Reply]>::to_vec).collect();
            pairs.sort_by_key(|pair| pair.iter().map(cli::print).collect::<Vec<_>>());
            Reply::Array(pairs.concat())
        }
        (Reply::Array(mut items), _) => {
            by_text(&mut items);
            Reply::Array(items)
        }
        (Reply::Set(mut items), _) => {
            by_text(&mut items);
            Reply::Set(items)
        }
        (Reply::Map(mut pairs), _) => {
            pairs.sort_by_key(|(key, _)| cli::print(key));
            Reply::Map(pairs)
        }
        (reply, _) => reply,
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (patterns, lines): (Vec<&str>, Vec<&str>) = (pattern.lines().collect(), text.lines().collect());
    // A last line `*` stands for any further lines.
    if let Some((&"*", start)) = patterns.split_last() {
        return lines.len() >= start.len() && start.iter().zip(&lines).all(|(pattern, line)| line_fits(pattern, line));
    }
    patterns.len() == lines.len() && patterns.iter().zip(&lines).all(|(pattern, line)| line_fits(pattern, line))
}

fn line_fits(pattern: &str, line: &str) -> bool {
    if let Some(after) = pattern.strip_prefix('*') {
        return (0..=line.len()).filter(|&at| line.is_char_boundary(at)).any(|at| line_fits(after, &line[at..]));
    }
    if let Some((range, after)) = pattern.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        && let Some((low, high)) = range.split_once("..")
    {
        let digits = line.find(|c: char| !c.is_ascii_digit() && c != '-' && c != '.').unwrap_or(line.len());
        let number = line[..digits].parse::<f64>().ok();
        let bounds = (low.parse::<f64>().ok(), high.parse::<f64>().ok());
        return match (number, bounds) {
            (Some(number), (Some(low), Some(high))) => {
                number >= low && number <= high && line_fits(after, &line[digits..])
            }
            _ => false,
        };
    }
    match (pattern.chars().next(), line.chars().next()) {
        (None, None) => true,
        (Some('?'), Some(any)) => line_fits(&pattern[1..], &line[any.len_utf8()..]),
        (Some(want), Some(have)) if want == have => line_fits(&pattern[want.len_utf8()..], &line[have.len_utf8()..]),
        _ => false,
    }
}
