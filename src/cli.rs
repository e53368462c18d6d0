//! The command line: what is asked for besides serving. Options that set directives are `server::config`'s.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::{Arg, Command, value_parser};

use crate::persistence::config_file;
use crate::server::config::{Arguments, Checks, REDIS_VERSION, read_arguments};

/// What the program shall do.
#[derive(Debug)]
pub enum Invocation {
    Serve(Arguments),
    /// Print a text and end.
    Say(Saying),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Saying {
    pub text: String,
    pub is_error: bool,
}

impl Saying {
    /// Prints the text where it belongs; the exit code of the process.
    pub fn say(&self) -> u8 {
        if self.is_error {
            eprint!("{}", self.text);
        } else {
            print!("{}", self.text);
        }
        u8::from(self.is_error)
    }
}

/// Reads the whole command line, the program's name included.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let first = words.first().map(|word| word.as_bytes()).unwrap_or_default();
    if OWN_OPTIONS.iter().any(|option| first == option.as_bytes() || first.starts_with(b"--check-config=")) {
        return Invocation::Say(run_own_option(&words));
    }
    let words: Vec<Vec<u8>> = words.into_iter().map(OsString::into_vec).collect();
    Invocation::Serve(read_arguments(program.as_bytes(), &words))
}

/// As in Redis these count only as the first word; anywhere else they would be directives.
const OWN_OPTIONS: [&str; 7] = ["-h", "--help", "-v", "--version", "--check-config", "--test-memory", "--check-system"];

fn run_own_option(words: &[OsString]) -> Saying {
    let matches = match command().no_binary_name(true).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => return error_text(format!("{error}")),
    };
    if matches.get_flag("help") {
        return Saying { text: usage(), is_error: false };
    }
    if matches.get_flag("version") {
        return Saying { text: version(), is_error: false };
    }
    if let Some(file) = matches.get_one::<PathBuf>("check-config") {
        return check_config(file);
    }
    error_text(
        "rsredis has no memory or system test: memtest86 and the like test a whole machine, this program could not.\n"
            .into(),
    )
}

fn error_text(text: String) -> Saying {
    Saying { text, is_error: true }
}

fn command() -> Command {
    let flag = |name: &'static str, short: char| {
        Arg::new(name).long(name).short(short).action(clap::ArgAction::SetTrue).exclusive(true)
    };
    Command::new("rsredis-server")
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(flag("help", 'h'))
        .arg(flag("version", 'v'))
        .arg(Arg::new("check-config").long("check-config").value_name("FILE").value_parser(value_parser!(PathBuf)))
        .arg(Arg::new("test-memory").long("test-memory").value_name("MEGABYTES").num_args(0..=1))
        .arg(Arg::new("check-system").long("check-system").action(clap::ArgAction::SetTrue))
}

/// All problems of a file at once.
fn check_config(file: &std::path::Path) -> Saying {
    let arguments = Arguments { config_file: Some(file.as_os_str().as_bytes().to_vec()), ..Arguments::default() };
    let problems = config_file::check(&arguments, Checks::default());
    if problems.is_empty() {
        return Saying { text: format!("{}: no problems\n", file.display()), is_error: false };
    }
    error_text(problems.iter().map(|problem| format!("{problem}\n")).collect())
}

/// The first words are those of Redis, since tools look for `v=`.
pub fn version() -> String {
    format!(
        "Redis server v={REDIS_VERSION} sha=00000000:0 malloc=jemalloc-5.3.0 bits={} build=0 rsredis={}\n",
        usize::BITS,
        env!("CARGO_PKG_VERSION")
    )
}

fn usage() -> String {
    "rsredis-server: a drop-in replacement for redis-server

Usage: rsredis-server [FILE] [--DIRECTIVE VALUE...]... [-]
       rsredis-server -                        read the configuration from standard input
       rsredis-server --check-config FILE      report all problems of a configuration file
       rsredis-server -v | --version
       rsredis-server -h | --help

FILE has the syntax of redis.conf, or is TOML if its name ends in .toml; config/redis.conf tells every directive.
Each directive is an option as well and then overrides the file.

Examples:
       rsredis-server                          listen on port 6379 with the default configuration
       rsredis-server --port 7777 --save \"\" --maxmemory 1gb
       rsredis-server --port 7777 --replicaof 127.0.0.1 6379
       rsredis-server /etc/redis/redis.conf --loglevel verbose
       echo 'maxmemory 128mb' | rsredis-server -

Sentinel mode:
       rsredis-server /etc/sentinel.conf --sentinel
"
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(words: &[&str]) -> Saying {
        match parse(words.iter().map(OsString::from)) {
            Invocation::Say(saying) => saying,
            Invocation::Serve(arguments) => panic!("{arguments:?}"),
        }
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn version_and_help() {
        assert!(say(&["redis-server", "--version"]).text.starts_with("Redis server v=7.4.2 sha="));
        assert_eq!(say(&["redis-server", "-v"]), say(&["redis-server", "--version"]));
        assert!(say(&["redis-server", "-h"]).text.contains("--check-config"));
        assert!(say(&["redis-server", "--test-memory", "100"]).is_error);
    }

    #[test]
    fn everything_else_serves() {
        let Invocation::Serve(arguments) = parse(["redis-server", "--port", "7001"].map(OsString::from)) else {
            panic!("not served");
        };
        assert_eq!(arguments.options, b"port \"7001\" ");
    }

    #[test]
    fn a_file_is_checked_as_a_whole() {
        let file = std::env::temp_dir().join(format!("rsredis-cli-{}.conf", std::process::id()));
        std::fs::write(&file, "port x\nhz 1\nbogus 1\n").unwrap();
        let name = file.display().to_string();
        let saying = say(&["redis-server", "--check-config", &name]);
        assert_eq!(
            saying.text,
            format!(
                "{name}:1: 'port x': argument couldn't be parsed into an integer\n{name}:3: 'bogus 1': Bad directive or wrong number of arguments\n"
            )
        );
        std::fs::write(&file, "port 1\n").unwrap();
        assert!(!say(&["redis-server", &format!("--check-config={name}")]).is_error);
        let _ = std::fs::remove_file(&file);
    }
}
