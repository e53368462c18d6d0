//! The command line as Redis reads it: a file, then `--name value...` in any number, turned into lines of redis.conf.
//!
//! ```text
//! redis.conf --port 7001 --save "" --maxmemory 1gb     ─►  port "7001"      what follows a name are its values up to the next `--`
//! --proc-title-template --x--  --loglevel verbose      ─►  the word right after a name is its value even with `--`
//! "--maxmemory 700mb"  loglevel verbose                ─►  name and value in one word; a plain name first
//! -                                                    ─►  more lines from standard input, if first or last
//! ```

use crate::base::quoting::{quote, split_args};

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub config_file: Option<Vec<u8>>,
    pub from_stdin: bool,
    pub is_sentinel: bool,
    /// Lines in the syntax of redis.conf that come after the file and standard input.
    pub options: Vec<u8>,
}

/// Reads the words after the program's name; the name itself may ask for Sentinel mode.
pub fn read_arguments(program: &[u8], words: &[Vec<u8>]) -> Arguments {
    let program = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut arguments = Arguments {
        is_sentinel: contains(program, b"redis-sentinel") || words.iter().any(|word| word == b"--sentinel"),
        ..Arguments::default()
    };
    let mut first = 0;
    if let Some(word) = words.first()
        && !word.starts_with(b"-")
    {
        arguments.config_file = Some(word.clone());
        first = 1;
    }
    // A name takes at least one word, whatever it looks like.
    let mut needs_value = false;
    for (index, word) in words.iter().enumerate().skip(first) {
        let next = words.get(index + 1);
        if word == b"-" && (index == 0 || next.is_none()) {
            arguments.from_stdin = true;
        } else if !needs_value && word.starts_with(b"--") {
            needs_value = begin_option(&mut arguments.options, word, next);
        } else {
            arguments.options.extend(quote(word));
            arguments.options.push(b' ');
            needs_value = false;
        }
    }
    arguments
}

/// Begins a line with the name in `word`; whether the next word is its value in any case.
fn begin_option(options: &mut Vec<u8>, word: &[u8], next: Option<&Vec<u8>>) -> bool {
    if !options.is_empty() {
        options.push(b'\n');
    }
    options.extend(&word[2..]);
    options.push(b' ');
    let is_name_alone = split_args(word).is_some_and(|parts| parts.len() == 1);
    if !is_name_alone {
        return false;
    }
    // `--save` and `--sentinel` may stand alone: scripts build such command lines from empty lists.
    let stands_alone = next.is_none_or(|next| next.starts_with(b"--"));
    if stands_alone && word.eq_ignore_ascii_case(b"--save") {
        options.extend(b"\"\"");
        return false;
    }
    !(stands_alone && word.eq_ignore_ascii_case(b"--sentinel"))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> String {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        String::from_utf8(read_arguments(b"redis-server", &words).options).unwrap()
    }

    #[test]
    fn names_take_words_up_to_the_next_name() {
        assert_eq!(options(&["--port", "6379", "6380"]), r#"port "6379" "6380" "#);
        assert_eq!(options(&["--port", "--bla", "--loglevel", "verbose"]), "port \"--bla\" \nloglevel \"verbose\" ");
        assert_eq!(options(&["--replicaof", "--127.0.0.1", "--abc"]), "replicaof \"--127.0.0.1\" \nabc ");
        assert_eq!(options(&["--maxmemory 700mb", "--hz 5"]), "maxmemory 700mb \nhz 5 ");
        assert_eq!(options(&["x.conf", "loglevel", "verbose", "--hz", "5"]), "\"loglevel\" \"verbose\" \nhz \"5\" ");
    }

    #[test]
    fn save_and_sentinel_may_stand_alone() {
        assert_eq!(options(&["--save", "--loglevel", "verbose"]), "save \"\"\nloglevel \"verbose\" ");
        assert_eq!(options(&["--save"]), "save \"\"");
        assert_eq!(options(&["--save", "", "--hz", "5"]), "save \"\" \nhz \"5\" ");
        assert_eq!(options(&["--sentinel", "--port", "1"]), "sentinel \nport \"1\" ");
        let template = ["--proc-title-template", "--save", "--save", ""];
        assert_eq!(options(&template), "proc-title-template \"--save\" \nsave \"\" ");
    }

    #[test]
    fn file_stdin_and_sentinel() {
        let read = |program: &str, words: &[&str]| {
            let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            read_arguments(program.as_bytes(), &words)
        };
        let arguments = read("/usr/bin/redis-server", &["my.conf", "--hz", "5", "-"]);
        assert_eq!(arguments.config_file.as_deref(), Some(&b"my.conf"[..]));
        assert!(arguments.from_stdin && !arguments.is_sentinel);
        assert!(read("redis-server", &["-"]).from_stdin);
        assert!(read("/usr/bin/redis-sentinel", &["s.conf"]).is_sentinel);
        assert!(read("rsredis-server", &["s.conf", "--sentinel"]).is_sentinel);
    }
}
