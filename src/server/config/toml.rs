//! The TOML twin of redis.conf: the same names as keys. A directive of many words is a text or a list; a directive that may be
//! repeated is a list whose items are the lines.
//!
//! ```toml
//! maxmemory = "1gb"
//! appendonly = true
//! bind = ["127.0.0.1", "-::1"]
//! save = ["3600 1", [300, 100]]
//! user = ["alice on >secret ~* +@all"]
//! ```

use std::collections::BTreeMap;

use ::toml::Spanned;
use serde::Deserialize;

use crate::base::quoting::split_args;

/// Line number and words of a directive.
type Directive = (usize, Vec<Vec<u8>>);

/// The directives of a TOML text, in its order; or the line at which it is not TOML, and why.
pub(super) fn directives(text: &str) -> Result<Vec<Directive>, (usize, String)> {
    let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    let settings: BTreeMap<String, Spanned<Setting>> = ::toml::from_str(text)
        .map_err(|error| (line_at(error.span().map_or(0, |span| span.start)), error.message().to_string()))?;
    let mut settings: Vec<(usize, String, Setting)> =
        settings.into_iter().map(|(name, setting)| (setting.span().start, name, setting.into_inner())).collect();
    settings.sort_by_key(|(start, ..)| *start);

    let mut directives = Vec::new();
    for (start, name, setting) in settings {
        let line = line_at(start);
        for mut words in setting.lines(&name).map_err(|reason| (line, reason))? {
            words.insert(0, name.clone().into_bytes());
            directives.push((line, words));
        }
    }
    Ok(directives)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, true or false, or a list of them")]
enum Setting {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Setting>),
}

impl Setting {
    /// The words of each line that this value stands for.
    fn lines(self, name: &str) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let is_lines = REPEATED.contains(&name);
        match self {
            // No item at all clears a list, as `save ""` does.
            Setting::List(items) if items.is_empty() && !(is_lines && name != "save") => Ok(vec![vec![Vec::new()]]),
            Setting::List(items) if is_lines => items.into_iter().map(|item| item.line(name)).collect(),
            other => Ok(vec![other.line(name)?]),
        }
    }

    fn line(self, name: &str) -> Result<Vec<Vec<u8>>, String> {
        match self {
            Setting::Text(text) if SPLIT.contains(&name) && !text.is_empty() => {
                split_args(text.as_bytes()).ok_or_else(|| "Unbalanced quotes in configuration line".into())
            }
            Setting::List(items) => items.into_iter().map(Setting::word).collect(),
            single => Ok(vec![single.word()?]),
        }
    }

    fn word(self) -> Result<Vec<u8>, String> {
        Ok(match self {
            Setting::Bool(true) => b"yes".to_vec(),
            Setting::Bool(false) => b"no".to_vec(),
            Setting::Integer(number) => number.to_string().into_bytes(),
            Setting::Float(number) => number.to_string().into_bytes(),
            Setting::Text(text) => text.into_bytes(),
            Setting::List(_) => return Err("a list inside a list".into()),
        })
    }
}

/// Directives of which every item of a list is a line of its own.
const REPEATED: [&str; 6] = ["save", "client-output-buffer-limit", "user", "rename-command", "include", "sentinel"];

/// Those whose lines are words even when written as one text. The rest of the many-worded ones is split by the loader.
const SPLIT: [&str; 5] = ["save", "client-output-buffer-limit", "user", "rename-command", "sentinel"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(usize, Vec<String>)> {
        let text_of = |words: Vec<Vec<u8>>| words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
        directives(text).unwrap().into_iter().map(|(line, words)| (line, text_of(words))).collect()
    }

    fn check(text: &str, expected: &[(usize, &[&str])]) {
        let expected: Vec<(usize, Vec<String>)> =
            expected.iter().map(|(line, words)| (*line, words.iter().map(|word| word.to_string()).collect())).collect();
        assert_eq!(words(text), expected);
    }

    #[test]
    fn values_become_the_words_of_lines_in_the_order_of_the_file() {
        check(
            "port = 7001\n# comment\nappendonly = true\nbind = ['127.0.0.1', '-::1']\nmaxmemory = '1gb'\n",
            &[
                (1, &["port", "7001"]),
                (3, &["appendonly", "yes"]),
                (4, &["bind", "127.0.0.1", "-::1"]),
                (5, &["maxmemory", "1gb"]),
            ],
        );
        check(
            "save = ['3600 1', [300, 100]]\nuser = ['alice on', 'bob off']\nlatency-tracking-info-percentiles = [50, 99.9]",
            &[
                (1, &["save", "3600", "1"]),
                (1, &["save", "300", "100"]),
                (2, &["user", "alice", "on"]),
                (2, &["user", "bob", "off"]),
                (3, &["latency-tracking-info-percentiles", "50", "99.9"]),
            ],
        );
        check("save = []\nuser = []\nbind = []", &[(1, &["save", ""]), (3, &["bind", ""])]);
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(directives("port = 1\nport = 2").unwrap_err().0, 2);
        assert_eq!(directives("a = 1\nb = {c = 1}").unwrap_err().0, 2);
        assert_eq!(directives("a = 1\nb = [[[1]]]").unwrap_err(), (2, "a list inside a list".to_string()));
    }
}
