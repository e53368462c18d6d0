//! The walls of the house, as a test: in one package only a test can hold them.
//!
//! Rooms import strictly lower levels (the table in `src/lib.rs`); files keep to the house rules. A rule that some file
//! still breaks is a ratchet: the file is named here, may only shrink, and no other may join it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The level of every room; neighbours on a level do not see each other, except for the wiring at the top.
const LEVELS: &[(&str, u8)] = &[
    ("base", 0),
    ("resp", 1),
    ("engine", 1),
    ("rdb", 2),
    ("net", 2),
    ("commands", 3),
    ("server", 4),
    ("script", 5),
    ("persistence", 5),
    ("replication", 6),
    ("cluster", 7),
    ("sentinel", 7),
    ("front", 8),
    ("boot", 9),
    ("cli", 9),
    ("main", 9),
    ("lib", 9),
];

const WIRING: u8 = 9;
const LONGEST: usize = 800;

/// Files over the limit when the rule came, with the length that they may not exceed.
const LONG_FILES: &[(&str, usize)] = &[];

/// Files that did not open with their purpose when the rule came.
const WITHOUT_PURPOSE: &[&str] =
    &["src/engine/hash/tests.rs", "src/engine/hash_expiry/tests.rs", "src/engine/set/tests.rs"];

/// What a room must not contain: (room, text, why).
const BANNED: &[(&str, &str, &str)] = &[
    ("base", "tokio", "level 0 knows no event loop"),
    ("engine", "tokio", "the engine does no I/O"),
    ("engine", "tracing::", "the engine does no I/O, logging included"),
    ("engine", "std::fs", "the engine does no I/O"),
    ("engine", "std::net", "the engine does no I/O"),
    ("resp", "tokio", "the codec does no I/O"),
    ("rdb", "std::fs", "the RDB format knows bytes, not files"),
    ("commands", "tokio", "handlers are ordinary functions"),
    ("commands", "std::fs", "handlers touch no file"),
    ("commands", "std::net", "handlers touch no socket"),
    ("server", "tokio::", "the shared state does no I/O"),
    ("server", "std::net::Tcp", "the shared state does no I/O"),
];

struct Source {
    path: String,
    text: String,
    /// The text with comments and literals blanked out, and without its test module.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        let inside = self.path.trim_start_matches("src/");
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// How many modules lie between the crate root and this one, itself included.
    fn depth(&self) -> usize {
        let parts = self.path.trim_start_matches("src/").split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].lines().count().max(1)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).expect("a readable source file");
            let path = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            let code = blanked(&text);
            let end = code.find("#[cfg(test)]\nmod ").unwrap_or(code.len());
            Source { path, code: code[..end].to_string(), text }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The text with every comment, string and character literal replaced by spaces; line ends stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            for byte in &mut out[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment or literal that begins at `at`, or `at` itself.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let find = |from: usize, what: &[u8]| {
        rest[from..].windows(what.len()).position(|window| window == what).map_or(bytes.len(), |p| at + from + p)
    };
    if rest.starts_with(b"//") {
        return find(2, b"\n");
    }
    if rest.starts_with(b"/*") {
        return (find(2, b"*/") + 2).min(bytes.len());
    }
    let starts_word = at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if starts_word && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br")) {
        let from = if rest[0] == b'b' { 2 } else { 1 };
        let hashes = rest[from..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(from + hashes) == Some(&b'"') {
            let mut close = vec![b'"'];
            close.resize(1 + hashes, b'#');
            return (find(from + hashes + 1, &close) + close.len()).min(bytes.len());
        }
    }
    match rest {
        [b'"', ..] => quoted_end(bytes, at, b'"'),
        // A lifetime has no closing quote two or more places on.
        [b'\'', b'\\', ..] => quoted_end(bytes, at, b'\''),
        [b'\'', _, b'\'', ..] => at + 3,
        _ => at,
    }
}

fn quoted_end(bytes: &[u8], at: usize, close: u8) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != close {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn level(room: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == room).map(|(_, level)| *level)
}

/// Every room that the source names in a path from the crate root, with the place.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let up = "super::".repeat(source.depth());
    let mut found = Vec::new();
    for prefix in ["crate::", up.as_str()] {
        for (offset, _) in source.code.match_indices(prefix) {
            // A longer chain of `super::`, or the tail of another word, is not this prefix.
            let before = source.code[..offset].chars().next_back().unwrap_or(' ');
            if before.is_alphanumeric() || before == '_' || before == ':' {
                continue;
            }
            for name in names_after(&source.code[offset + prefix.len()..]) {
                found.push((name, offset));
            }
        }
    }
    found
}

/// The first names of a path: one word, or the first word of every item in braces.
fn names_after(path: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(inside) = path.trim_start().strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut item, mut names) = (0, String::new(), Vec::new());
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&std::mem::take(&mut item))),
            _ if depth == 0 => item.push(c),
            _ => {}
        }
    }
    names.push(word(&item));
    names.retain(|name| !name.is_empty());
    names
}

fn assert_none(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

#[test]
fn rooms_import_only_lower_levels() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(own) = level(source.room()) else {
            faults.push(format!("{}: a room that no level names", source.path));
            continue;
        };
        for (room, offset) in imports(&source) {
            let Some(other) = level(&room) else { continue };
            let sideways_wiring = own == WIRING && other == WIRING;
            if room != source.room() && other >= own && !sideways_wiring {
                faults.push(format!("{}:{} sees {room}", source.path, source.line_of(offset)));
            }
        }
    }
    assert_none("a room sees only rooms of a lower level", &faults);
}

#[test]
fn rooms_keep_to_their_matter() {
    let mut faults = Vec::new();
    for source in sources() {
        for (room, text, why) in BANNED.iter().filter(|(room, ..)| *room == source.room()) {
            for (offset, _) in source.code.match_indices(text) {
                faults.push(format!("{}:{} {text} in {room}: {why}", source.path, source.line_of(offset)));
            }
        }
    }
    assert_none("what a room must not contain", &faults);
}

#[test]
fn files_are_short_and_open_with_their_purpose() {
    let long: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        let limit = long.get(source.path.as_str()).copied().unwrap_or(LONGEST);
        if lines > limit {
            faults.push(format!("{}: {lines} lines, the limit is {limit}", source.path));
        }
        if !source.text.starts_with("//!") && !WITHOUT_PURPOSE.contains(&source.path.as_str()) {
            faults.push(format!("{}: does not open with //!", source.path));
        }
    }
    assert_none("file length and purpose", &faults);
}

#[test]
fn nothing_is_left_undone() {
    let mut faults = Vec::new();
    for source in sources() {
        for banned in ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX"] {
            let text = if banned.ends_with('!') { &source.code } else { &source.text };
            for (offset, _) in text.match_indices(banned) {
                faults.push(format!("{}:{} {banned}", source.path, text[..offset].lines().count()));
            }
        }
    }
    assert_none("nothing half-done is committed", &faults);
}

#[test]
fn unsafe_stays_in_the_engine_and_says_why() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, code) in source.code.lines().enumerate() {
            let block = code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn");
            if !block {
                continue;
            }
            if source.room() != "engine" {
                faults.push(format!("{}:{} unsafe outside src/engine", source.path, number + 1));
            }
            // The reason stands in the comment above, attributes and the statement's first lines between.
            let above = &lines[number.saturating_sub(12)..=number];
            if !above.iter().any(|line| line.contains("SAFETY") || line.contains("# Safety")) {
                faults.push(format!("{}:{} unsafe without a SAFETY reason", source.path, number + 1));
            }
        }
    }
    assert_none("unsafe code", &faults);
}

#[test]
fn only_the_clock_reads_the_clock() {
    let mut faults = Vec::new();
    for source in sources() {
        if source.path == "src/base/clock.rs" {
            continue;
        }
        for banned in ["Instant::now", "SystemTime::now", "std::time::Instant", "std::time::SystemTime"] {
            for (offset, _) in source.code.match_indices(banned) {
                faults.push(format!("{}:{} {banned}", source.path, source.line_of(offset)));
            }
        }
    }
    assert_none("time comes from base/clock", &faults);
}

#[test]
fn matches_on_value_have_no_wildcard() {
    let mut faults = Vec::new();
    // In the scripting room `Value` is Lua's, which is not ours to close.
    for source in sources().into_iter().filter(|source| source.room() != "script") {
        for (offset, _) in source.code.match_indices("match ") {
            let Some(open) = source.code[offset..].find('{').map(|place| offset + place) else { continue };
            let arms = arms(&source.code[open + 1..]);
            let on_value = arms.iter().filter(|arm| arm.starts_with("Value::")).count() > 1;
            if on_value && arms.iter().any(|arm| arm.starts_with("_ =>")) {
                faults.push(format!("{}:{}", source.path, source.line_of(offset)));
            }
        }
    }
    assert_none("a match on Value names every type, so that a new one shows every place", &faults);
}

/// The text of each arm of a match body that begins at the start of a line, up to the end of that line.
fn arms(body: &str) -> Vec<&str> {
    let (mut depth, mut arms) = (0i32, Vec::new());
    for line in body.lines() {
        if depth == 0 && !line.trim().is_empty() {
            arms.push(line.trim());
        }
        for c in line.chars() {
            depth += match c {
                '{' | '(' | '[' => 1,
                '}' | ')' | ']' => -1,
                _ => 0,
            };
        }
        if depth < 0 {
            break;
        }
    }
    arms
}

/// The wall itself: a checker that sees nothing would let everything pass.
#[test]
fn the_checker_sees_what_it_must() {
    let source = |path: &str, text: &str| Source { path: path.into(), text: text.into(), code: blanked(text) };
    let rooms =
        |path: &str, text: &str| imports(&source(path, text)).into_iter().map(|(room, _)| room).collect::<Vec<_>>();
    assert_eq!(rooms("src/engine/x.rs", "use crate::base::{a, b};"), ["base"]);
    assert_eq!(rooms("src/engine/x.rs", "use crate::{base::{a, b}, server as s};"), ["base", "server"]);
    assert_eq!(rooms("src/engine/x.rs", "use super::y; use super::super::server::z;"), ["server"]);
    assert_eq!(rooms("src/engine/mod.rs", "use super::server::z;"), ["server"]);
    assert_eq!(
        rooms("src/engine/x.rs", "// crate::server\nlet s = \"crate::server\"; f(crate::net::dial());"),
        ["net"]
    );
    assert_eq!(blanked("a 'x' '\\'' r#\"q\"# b'\"' /* c */ d").split_whitespace().collect::<Vec<_>>(), ["a", "b", "d"]);
    let body = "\n  Value::A => 1,\n  Value::B(_) => {\n  _ => 2\n  }\n  _ => 3,\n}";
    assert_eq!(arms(body).iter().filter(|arm| arm.starts_with("_ =>")).count(), 1);
}
