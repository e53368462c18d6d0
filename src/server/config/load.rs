//! Reads directives into a `Config`, line by line, and collects what is wrong instead of stopping at the first fault.
//!
//! The lines come from a file, from standard input and from the command line, in this order; a later line wins. As in Redis the
//! lines of all three are counted through, since tools and people quote these numbers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Config, Flags, Param, REDIS_VERSION, SavePoint, find_param, toml};
use crate::base::quoting::split_args;

/// Where a directive was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// None for the command line and standard input.
    pub file: Option<Arc<str>>,
    pub line: usize,
    pub text: String,
}

/// Something that keeps the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Option<Place>,
    pub reason: String,
}

impl fmt::Display for Problem {
    /// One line, for `--check-config`.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if let Some(place) = &self.place {
            let file = place.file.as_deref().unwrap_or("-");
            write!(f, "{file}:{}: '{}': ", place.line, place.text)?;
        }
        f.write_str(&self.reason)
    }
}

impl Problem {
    /// What is printed when the server refuses to start, in Redis's layout.
    pub fn fatal_text(&self) -> String {
        let mut text = format!("\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n");
        if let Some(place) = &self.place {
            let file = place.file.as_deref().map(|file| format!(" of {file}")).unwrap_or_default();
            text += &format!("Reading the configuration file, at line {}{file}\n>>> '{}'\n", place.line, place.text);
        }
        text + &self.reason + "\n"
    }
}

/// The words of a directive that is kept for another room, without the directive's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    pub words: Vec<Vec<u8>>,
    pub place: Place,
}

/// Tells what is wrong with the words after `user`.
type UserCheck<'a> = &'a dyn Fn(&[Vec<u8>]) -> Result<(), UserFault>;

/// Questions that only other rooms can answer.
#[derive(Clone, Copy)]
pub struct Checks<'a> {
    pub command_exists: &'a dyn Fn(&[u8]) -> bool,
    pub user: UserCheck<'a>,
}

/// Why a user cannot be declared, and which of the words is at fault.
pub struct UserFault {
    pub word: usize,
    pub reason: String,
}

impl Default for Checks<'_> {
    /// Asks nobody: for those who only look at the syntax.
    fn default() -> Self {
        Checks { command_exists: &|_| true, user: &|_| Ok(()) }
    }
}

/// The files of an `include`: names and contents for a pattern and the working directory that counts at that line.
pub type Includes<'a> = &'a dyn Fn(&str, &str) -> Result<Vec<(String, Vec<u8>)>, String>;

/// All that was read.
pub struct Loaded {
    pub config: Config,
    pub users: Vec<Declared>,
    pub renamed_commands: Vec<Declared>,
    /// Directives of Sentinel mode.
    pub sentinel: Vec<Declared>,
    pub problems: Vec<Problem>,
    places: HashMap<&'static str, Place>,
}

impl Loaded {
    /// Where a directive was last set, for faults that show later (a directory that does not exist).
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }
}

pub struct Loader<'a> {
    loaded: Loaded,
    is_sentinel: bool,
    checks: Checks<'a>,
    includes: Includes<'a>,
    include_depth: usize,
    lines_before: usize,
    save_seen: bool,
}

impl<'a> Loader<'a> {
    pub fn new(is_sentinel: bool, checks: Checks<'a>, includes: Includes<'a>) -> Loader<'a> {
        let config = if is_sentinel { Config::for_sentinel() } else { Config::default() };
        let loaded = Loaded {
            config,
            users: Vec::new(),
            renamed_commands: Vec::new(),
            sentinel: Vec::new(),
            problems: Vec::new(),
            places: HashMap::new(),
        };
        Loader { loaded, is_sentinel, checks, includes, include_depth: 0, lines_before: 0, save_seen: false }
    }

    /// Reads a text in the syntax of redis.conf.
    pub fn read(&mut self, file: Option<&str>, text: &[u8]) {
        let file: Option<Arc<str>> = file.map(Arc::from);
        let before = self.lines_before;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let text = String::from_utf8_lossy(line).into_owned();
            let place = Place { file: file.clone(), line: before + index + 1, text };
            match split_args(line) {
                None => self.report(place, "Unbalanced quotes in configuration line"),
                Some(words) => self.read_directive(words, place),
            }
        }
        self.lines_before = before + text.iter().filter(|byte| **byte == b'\n').count();
    }

    /// Reads the directives of the command line, after all else.
    pub fn read_arguments(&mut self, text: &[u8]) {
        // Redis puts one line break between what it has read so far and these.
        self.lines_before += 1;
        self.read(None, text);
    }

    /// Reads the TOML twin of redis.conf.
    pub fn read_toml(&mut self, file: &str, text: &[u8]) {
        let file: Arc<str> = file.into();
        let Ok(text) = std::str::from_utf8(text) else {
            return self.loaded.problems.push(Problem { place: None, reason: format!("{file} is not UTF-8") });
        };
        let line_text = |line: usize| text.lines().nth(line - 1).unwrap_or_default().trim().to_string();
        let place = |line: usize| Place { file: Some(file.clone()), line, text: line_text(line) };
        match toml::directives(text) {
            Ok(directives) => directives.into_iter().for_each(|(line, words)| self.read_directive(words, place(line))),
            Err((line, reason)) => self.report(place(line), reason),
        }
    }

    pub fn finish(mut self) -> Loaded {
        let config = &mut self.loaded.config;
        config.settle();
        if config.cluster_enabled && config.replicaof.is_some() {
            let reason = "replicaof directive not allowed in cluster mode".into();
            self.loaded.problems.push(Problem { place: None, reason });
        }
        self.loaded
    }

    fn report(&mut self, place: Place, reason: impl Into<String>) {
        self.loaded.problems.push(Problem { place: Some(place), reason: reason.into() });
    }

    fn read_directive(&mut self, mut words: Vec<Vec<u8>>, place: Place) {
        if words.is_empty() {
            return;
        }
        let name = String::from_utf8_lossy(&words.remove(0)).to_ascii_lowercase();
        let outcome = match find_param(name.as_bytes()) {
            Some(param) => self.assign(param, words, &place),
            None => self.read_other(&name, words, &place),
        };
        if let Err(reason) = outcome {
            self.report(place, reason);
        }
    }

    fn assign(&mut self, param: &'static Param, mut words: Vec<Vec<u8>>, place: &Place) -> Result<(), String> {
        if !param.is(Flags::MULTI_ARG) && words.len() != 1 {
            return Err("wrong number of arguments".into());
        }
        if let [word] = words.as_slice()
            && param.is(Flags::MULTI_ARG)
            && !word.is_empty()
        {
            words = split_args(word).ok_or("Unbalanced quotes in configuration line")?;
        }
        let earlier = self.earlier_save_points(param);
        let mut config = self.loaded.config.clone();
        param.assign(&mut config, &words)?;
        if param.name == "dir" {
            config.dir = dir_from(&self.loaded.config.dir, &config.dir);
        }
        if !config.save.is_empty() {
            config.save.splice(0..0, earlier);
        }
        self.loaded.config = config;
        self.loaded.places.insert(param.name, place.clone());
        Ok(())
    }

    /// The first `save` replaces the defaults, later ones add to it, an empty one clears all.
    fn earlier_save_points(&mut self, param: &Param) -> Vec<SavePoint> {
        if !param.is(Flags::REPEATED) {
            return Vec::new();
        }
        let seen = std::mem::replace(&mut self.save_seen, true);
        if seen { self.loaded.config.save.clone() } else { Vec::new() }
    }

    fn read_other(&mut self, name: &str, words: Vec<Vec<u8>>, place: &Place) -> Result<(), String> {
        let declared = Declared { words, place: place.clone() };
        match (name, declared.words.as_slice()) {
            ("include", [pattern]) => self.include(&String::from_utf8_lossy(pattern))?,
            ("rename-command", [command, _]) => {
                if !(self.checks.command_exists)(command) {
                    return Err("No such command in rename-command".into());
                }
                self.loaded.renamed_commands.push(declared);
            }
            ("user", [_, ..]) => {
                (self.checks.user)(&declared.words).map_err(|UserFault { word, reason }| {
                    let word = declared.words.get(word).map(|word| String::from_utf8_lossy(word)).unwrap_or_default();
                    format!("Error in user declaration '{word}': {reason}")
                })?;
                if self.loaded.users.iter().any(|user| user.words.first() == declared.words.first()) {
                    let word = String::from_utf8_lossy(&declared.words[0]).into_owned();
                    return Err(format!("Error in user declaration '{word}': {DUPLICATE_USER}"));
                }
                self.loaded.users.push(declared);
            }
            ("loadmodule", [_, ..]) => return Err("modules are not supported by rsredis".into()),
            // The bare word comes from `--sentinel`.
            ("sentinel", []) => {}
            ("sentinel", _) if !self.is_sentinel => {
                return Err("sentinel directive while not in sentinel mode".into());
            }
            ("sentinel", _) => self.loaded.sentinel.push(declared),
            (name, [_]) if FORGOTTEN.contains(&name) => {}
            (name, [_, ..]) if name.contains('.') => {
                return Err("this looks like a setting of a module: modules are not supported by rsredis".into());
            }
            _ => return Err("Bad directive or wrong number of arguments".into()),
        }
        Ok(())
    }

    fn include(&mut self, pattern: &str) -> Result<(), String> {
        if self.include_depth == INCLUDE_DEPTH_MAX {
            return Err("include directives are nested too deep".into());
        }
        let files = (self.includes)(pattern, &self.loaded.config.dir)?;
        let lines_before = std::mem::take(&mut self.lines_before);
        self.include_depth += 1;
        for (file, text) in files {
            self.lines_before = 0;
            if file.ends_with(".toml") { self.read_toml(&file, &text) } else { self.read(Some(&file), &text) }
        }
        self.include_depth -= 1;
        self.lines_before = lines_before;
        Ok(())
    }
}

/// Each `dir` line is entered as it is read, so that a relative one counts from the line before.
fn dir_from(current: &str, dir: &str) -> String {
    if current == "." || dir.starts_with('/') { dir.into() } else { format!("{current}/{dir}") }
}

/// Deep enough for any sane tree of files, and an end to files that include each other.
const INCLUDE_DEPTH_MAX: usize = 16;

const DUPLICATE_USER: &str = "Duplicate user found. A user can only be defined once in config files";

/// Directives that once existed; Redis skips them with a single argument, so that old files still load.
const FORGOTTEN: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(text: &str) -> Loaded {
        let none = |pattern: &str, _: &str| Err(format!("can't open config file '{pattern}'"));
        let mut loader = Loader::new(false, Checks::default(), &none);
        loader.read(Some("redis.conf"), text.as_bytes());
        loader.finish()
    }

    fn reason(line: &str) -> String {
        load(line).problems.first().map(|problem| problem.reason.clone()).unwrap_or_default()
    }

    #[test]
    fn lines_of_every_kind() {
        let loaded = load(
            "# comment\n\n  PORT 7000\r\nbind 127.0.0.1 -::1\nsave 900 1\nsave 300 10 60 100\nrequirepass \"a\\x41 b\"\n\
             client-output-buffer-limit replica 1mb 0 0\nshutdown-on-sigterm \"nosave now\"\nslaveof 10.0.0.1 6379\n\
             user alice on nopass\nrename-command FLUSHALL \"\"\nlua-replicate-commands yes\nlatency-tracking-info-percentiles \"\"\n",
        );
        assert_eq!(loaded.problems, []);
        let config = &loaded.config;
        assert_eq!(config.port, 7000);
        assert_eq!(config.bind.0, ["127.0.0.1", "-::1"]);
        assert_eq!(config.save.iter().map(|point| point.seconds).collect::<Vec<_>>(), [900, 300, 60]);
        assert_eq!(config.requirepass.as_deref(), Some(&b"aA b"[..]));
        assert_eq!(config.client_output_buffer_limit.replica.hard_bytes, 1 << 20);
        assert_eq!(config.client_output_buffer_limit.pubsub.hard_bytes, 32 << 20);
        assert!(config.shutdown_on_sigterm.nosave && config.shutdown_on_sigterm.now);
        assert_eq!(config.replicaof.as_ref().map(|primary| primary.port), Some(6379));
        assert_eq!(loaded.users[0].words[0], b"alice");
        assert_eq!(loaded.renamed_commands[0].words, [b"FLUSHALL".to_vec(), vec![]]);
        assert!(config.latency_tracking_info_percentiles.0.is_empty());
        assert_eq!(loaded.place("port").map(|place| place.line), Some(3));
    }

    #[test]
    fn save_lines_add_up_and_an_empty_one_clears() {
        assert_eq!(load("save \"\"").config.save, []);
        assert_eq!(load("save 1 2\nsave \"\"\nsave 3 4").config.save, [SavePoint { seconds: 3, changes: 4 }]);
        assert_eq!(load("port 1").config.save.len(), 3);
    }

    #[test]
    fn relative_directories_count_from_the_line_before() {
        assert_eq!(load("dir ./a").config.dir, "./a");
        assert_eq!(load("dir /data\ndir b\ndir c").config.dir, "/data/b/c");
        assert_eq!(load("dir a\ndir /b").config.dir, "/b");
    }

    #[test]
    fn faults_have_the_texts_of_redis() {
        for (line, expected) in [
            ("port 1 2", "wrong number of arguments"),
            ("port", "wrong number of arguments"),
            ("port x", "argument couldn't be parsed into an integer"),
            ("port 70000", "argument must be between 0 and 65535 inclusive"),
            ("replicaof localhost abc", "Invalid master port"),
            ("shutdown-on-sigint", "argument(s) must be one of the following: default, save, nosave, now, force"),
            ("nonsense yes", "Bad directive or wrong number of arguments"),
            ("requirepass \"open", "Unbalanced quotes in configuration line"),
            ("sentinel monitor m 127.0.0.1 1 1", "sentinel directive while not in sentinel mode"),
            ("loadmodule x.so", "modules are not supported by rsredis"),
            ("oom-score-adj-values 1 2 3000", "Invalid oom-score-adj-values, elements must be between -2000 and 2000."),
            ("notify-keyspace-events KEq", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
            ("cluster-enabled yes\nreplicaof h 1", "replicaof directive not allowed in cluster mode"),
        ] {
            assert_eq!(reason(line), expected, "{line}");
        }
        let problems = load("user foo\nuser foo").problems;
        assert!(problems[0].reason.starts_with("Error in user declaration 'foo': Duplicate user"), "{problems:?}");
    }

    #[test]
    fn all_faults_are_found_and_told_with_their_lines() {
        let loaded = load("port x\nhz 10\nbogus\n");
        let lines: Vec<usize> =
            loaded.problems.iter().filter_map(|p| p.place.as_ref()).map(|place| place.line).collect();
        assert_eq!(lines, [1, 3]);
        assert_eq!(
            loaded.problems[0].fatal_text(),
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.4.2) ***\nReading the configuration file, at line 1 of redis.conf\n\
             >>> 'port x'\nargument couldn't be parsed into an integer\n"
        );
    }

    #[test]
    fn includes_are_read_in_place_and_cannot_run_away() {
        let files = |pattern: &str, _: &str| match pattern {
            "loop.conf" => Ok(vec![("loop.conf".to_string(), b"include loop.conf".to_vec())]),
            "empty.d/*" => Ok(vec![]),
            _ => Ok(vec![("a.conf".to_string(), b"hz 20\nport y".to_vec())]),
        };
        let mut loader = Loader::new(false, Checks::default(), &files);
        loader.read(None, b"hz 30\ninclude a.conf\ninclude empty.d/*\ninclude loop.conf\nport 1");
        let loaded = loader.finish();
        assert_eq!((loaded.config.hz, loaded.config.port), (20, 1));
        let first = loaded.problems[0].place.as_ref().unwrap();
        assert_eq!((first.file.as_deref(), first.line), (Some("a.conf"), 2));
        assert_eq!(loaded.problems[1].reason, "include directives are nested too deep");
    }

    #[test]
    fn sentinel_mode_has_its_own_defaults_and_directives() {
        let none = |_: &str, _: &str| Ok(vec![]);
        let mut loader = Loader::new(true, Checks::default(), &none);
        loader.read(None, b"sentinel monitor m 127.0.0.1 6379 2\nsentinel");
        let loaded = loader.finish();
        assert_eq!((loaded.config.port, loaded.config.protected_mode), (26379, false));
        assert_eq!(loaded.sentinel[0].words[1], b"m");
        assert_eq!(loaded.problems, []);
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_readers(text in "([a-z-]{0,12}[ \"'\\\\x]{0,3}[0-9a-z%]{0,5}\n?){0,6}", bytes: Vec<u8>) {
            for text in [text.as_bytes(), &bytes] {
                let mut loader = Loader::new(false, Checks::default(), &|_, _| Ok(vec![]));
                loader.read(None, text);
                loader.read_toml("x.toml", text);
                let config = loader.finish().config;
                super::super::rewrite(text, &config, &Default::default(), false);
            }
        }
    }
}
