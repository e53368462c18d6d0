//! A naive stream with consumer groups, for `tests/model.rs`: what every command on it should answer. It knows no time, so idle times are
//! left out of the comparison.

use super::Reply;
use std::collections::{BTreeMap, BTreeSet};

type Id = (u64, u64);
type Fields = Vec<String>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    entries: BTreeMap<Id, Fields>,
    last_id: Id,
    groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    last_id: Id,
    consumers: BTreeSet<String>,
    /// Owner and number of deliveries.
    pending: BTreeMap<Id, (String, i64)>,
}

/// The shapes of its commands: T a stream's key, N an id, G a group, C a consumer, F a small number.
pub const SHAPES: &[&str] = &[
    "XADD T N f E",
    "XADD T N f E",
    "XADD T P-* f E g E",
    "XADD T P-* f E g E",
    "XADD T NOMKSTREAM P-* f E",
    "XADD T MAXLEN F N f E",
    "XADD T MINID N P-* f E",
    "XLEN T",
    "XRANGE T - + COUNT F",
    "XRANGE T N N",
    "XREVRANGE T N - COUNT F",
    "XDEL T N",
    "XDEL T N N",
    "XTRIM T MAXLEN 9",
    "XTRIM T MINID N",
    "XGROUP CREATE T G N",
    "XGROUP CREATE T G $ MKSTREAM",
    "XGROUP SETID T G N",
    "XGROUP DESTROY T G",
    "XGROUP CREATECONSUMER T G C",
    "XGROUP DELCONSUMER T G C",
    "XREADGROUP GROUP G C COUNT F STREAMS T >",
    "XREADGROUP GROUP G C COUNT F STREAMS T >",
    "XREADGROUP GROUP G C COUNT F NOACK STREAMS T >",
    "XREADGROUP GROUP G C COUNT F STREAMS T N",
    "XREADGROUP GROUP G C COUNT F STREAMS T 0",
    "XREAD COUNT F STREAMS T N",
    "XACK T G N N",
    "XPENDING T G",
    "XPENDING T G - + 100",
    "XPENDING T G - + 100",
    "XPENDING T G N + F C",
    "XCLAIM T G C 0 N N",
    "XCLAIM T G C 0 N JUSTID",
    "XAUTOCLAIM T G C 0 N COUNT F",
    "XAUTOCLAIM T G C 0 N COUNT F JUSTID",
    "XDELEX T R IDS 2 N N",
    "XACKDEL T G R IDS 2 N N",
    "COPY T T REPLACE",
];

pub fn text(id: Id) -> String {
    format!("{}-{}", id.0, id.1)
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn id_reply(id: Id) -> Reply {
    bulk(&text(id))
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn number(count: usize) -> Reply {
    Reply::Integer(count as i64)
}

fn id(word: &str, missing_seq: u64) -> Id {
    match word {
        "-" => (0, 0),
        "+" => (u64::MAX, u64::MAX),
        _ => {
            let (ms, seq) = word.split_once('-').map_or((word, None), |(ms, seq)| (ms, Some(seq)));
            (ms.parse().expect("an id"), seq.map_or(missing_seq, |seq| seq.parse().expect("an id")))
        }
    }
}

fn entry_reply(id: Id, fields: &Fields) -> Reply {
    Reply::Array(vec![id_reply(id), Reply::Array(fields.iter().map(|word| bulk(word)).collect())])
}

/// What is said where a command needs a key, or a group, that is not there.
fn no_group(key: &str, group: &str, behind: &str) -> Reply {
    error(&format!("NOGROUP No such key '{key}' or consumer group '{group}'{behind}"))
}

const NO_KEY: &str = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the \
                      MKSTREAM option to create an empty stream automatically.";

/// The answer of a command whose key does not exist; nothing if the command makes the key.
pub fn without_key(words: &[&str]) -> Option<Reply> {
    Some(match words[0] {
        "XADD" if words[2] == "NOMKSTREAM" => Reply::Nil,
        "XADD" => return None,
        "XLEN" | "XDEL" | "XTRIM" | "XACK" => Reply::Integer(0),
        "XRANGE" | "XREVRANGE" => Reply::Array(Vec::new()),
        "XREAD" => Reply::Nil,
        "XREADGROUP" => no_group(key_of(words), words[2], " in XREADGROUP with GROUP option"),
        "XGROUP" if words.contains(&"MKSTREAM") => return None,
        "XGROUP" => error(NO_KEY),
        "XDELEX" | "XACKDEL" => Reply::Array(vec![Reply::Integer(-1); 2]),
        _ => no_group(words[1], words[2], ""),
    })
}

pub fn key_of<'a>(words: &[&'a str]) -> &'a str {
    match words[0] {
        "XGROUP" => words[2],
        "XREAD" | "XREADGROUP" => words[words.len() - 2],
        _ => words[1],
    }
}

/// An error that the words alone decide, before the key is looked at.
pub fn refused(words: &[&str]) -> Option<Reply> {
    let is_zero =
        words[0] == "XADD" && words.iter().skip(2).take(3).any(|word| *word == "0-0") && !words.contains(&"MINID");
    is_zero.then(|| error("ERR The ID specified in XADD must be greater than 0-0"))
}

impl Stream {
    pub fn run(&mut self, words: &[&str]) -> Reply {
        match words[0] {
            "XADD" => self.add(words),
            "XLEN" => number(self.entries.len()),
            "XRANGE" => self.range(id(words[2], 0), id(words[3], u64::MAX), false, &words[4..]),
            "XREVRANGE" => self.range(id(words[3], 0), id(words[2], u64::MAX), true, &words[4..]),
            "XREAD" => {
                let above = id(words[5], 0);
                let count: usize = words[2].parse().expect("a count");
                let found: Vec<Reply> =
                    self.above(above).take(count).map(|(id, fields)| entry_reply(id, fields)).collect();
                if found.is_empty() { Reply::Nil } else { by_key(words, found) }
            }
            "XDEL" => number(words[2..].iter().filter(|word| self.entries.remove(&id(word, 0)).is_some()).count()),
            "XTRIM" => number(self.trim(words[2], words[3])),
            "XGROUP" => self.group_command(words),
            "XDELEX" => {
                let codes = words[5..].iter().map(|word| Reply::Integer(self.delete(id(word, 0), words[2])));
                Reply::Array(codes.collect())
            }
            "XACKDEL" => {
                let codes = words[6..].iter().map(|word| {
                    let id = id(word, 0);
                    let pending =
                        self.groups.get_mut(words[2]).is_some_and(|group| group.pending.remove(&id).is_some());
                    Reply::Integer(match pending.then(|| self.delete(id, words[3])) {
                        None => -1,
                        Some(2) => 2,
                        Some(_) => 1,
                    })
                });
                Reply::Array(codes.collect())
            }
            "XACK" => {
                let Some(group) = self.groups.get_mut(words[2]) else { return Reply::Integer(0) };
                number(words[3..].iter().filter(|word| group.pending.remove(&id(word, 0)).is_some()).count())
            }
            "XREADGROUP" => self.read_group(words),
            _ => self.pending_command(words),
        }
    }

    fn above(&self, above: Id) -> impl Iterator<Item = (Id, &Fields)> {
        self.entries.iter().filter(move |(id, _)| **id > above).map(|(id, fields)| (*id, fields))
    }

    fn add(&mut self, words: &[&str]) -> Reply {
        let mut at = if words[2] == "NOMKSTREAM" { 3 } else { 2 };
        let trim = ["MAXLEN", "MINID"].contains(&words[at]).then(|| (words[at], words[at + 1]));
        at += if trim.is_some() { 2 } else { 0 };
        let id = match words[at].strip_suffix("-*") {
            Some(ms) => {
                let ms: u64 = ms.parse().expect("a time");
                (ms, if ms == self.last_id.0 { self.last_id.1 + 1 } else { 0 })
            }
            None => id(words[at], 0),
        };
        if id <= self.last_id {
            return error("ERR The ID specified in XADD is equal or smaller than the target stream top item");
        }
        self.last_id = id;
        self.entries.insert(id, words[at + 1..].iter().map(|word| word.to_string()).collect());
        if let Some((how, threshold)) = trim {
            self.trim(how, threshold);
        }
        id_reply(id)
    }

    fn trim(&mut self, how: &str, threshold: &str) -> usize {
        let before = self.entries.len();
        match how {
            "MINID" => self.entries = self.entries.split_off(&id(threshold, 0)),
            _ => {
                let len: usize = threshold.parse().expect("a length");
                while self.entries.len() > len {
                    self.entries.pop_first();
                }
            }
        }
        before - self.entries.len()
    }

    fn range(&self, start: Id, end: Id, reversed: bool, options: &[&str]) -> Reply {
        let count = options.get(1).map_or(usize::MAX, |count| count.parse().expect("a count"));
        let mut found: Vec<(&Id, &Fields)> = self.entries.iter().filter(|(id, _)| (start..=end).contains(id)).collect();
        if reversed {
            found.reverse();
        }
        Reply::Array(found.into_iter().take(count).map(|(id, fields)| entry_reply(*id, fields)).collect())
    }

    fn group_command(&mut self, words: &[&str]) -> Reply {
        let (key, name) = (words[2], words[3]);
        let last_id = self.last_id;
        let missing = error(&format!("NOGROUP No such consumer group '{name}' for key name '{key}'"));
        match words[1] {
            "CREATE" if self.groups.contains_key(name) => error("BUSYGROUP Consumer Group name already exists"),
            "CREATE" => {
                let last_id = if words[4] == "$" { last_id } else { id(words[4], 0) };
                self.groups.insert(name.into(), Group { last_id, ..Group::default() });
                Reply::Status("OK".into())
            }
            "DESTROY" => number(usize::from(self.groups.remove(name).is_some())),
            "SETID" => {
                let Some(group) = self.groups.get_mut(name) else { return missing };
                group.last_id = id(words[4], 0);
                Reply::Status("OK".into())
            }
            "CREATECONSUMER" => {
                let Some(group) = self.groups.get_mut(name) else { return missing };
                number(usize::from(group.consumers.insert(words[4].into())))
            }
            _ => {
                let Some(group) = self.groups.get_mut(name) else { return missing };
                let before = group.pending.len();
                group.consumers.remove(words[4]);
                group.pending.retain(|_, (owner, _)| owner != words[4]);
                number(before - group.pending.len())
            }
        }
    }

    fn is_referenced(&self, id: Id) -> bool {
        self.groups.values().any(|group| group.last_id < id || group.pending.contains_key(&id))
    }

    fn delete(&mut self, id: Id, references: &str) -> i64 {
        match references {
            "ACKED" if self.entries.contains_key(&id) && self.is_referenced(id) => return 2,
            "DELREF" => self.groups.values_mut().for_each(|group| drop(group.pending.remove(&id))),
            _ => {}
        }
        if self.entries.remove(&id).is_some() { 1 } else { -1 }
    }

    fn read_group(&mut self, words: &[&str]) -> Reply {
        let (name, consumer) = (words[2], words[3]);
        let count: usize = words[5].parse().expect("a count");
        let Stream { entries, groups, .. } = self;
        let Some(group) = groups.get_mut(name) else {
            return no_group(key_of(words), name, " in XREADGROUP with GROUP option");
        };
        if words[words.len() - 1] == ">" {
            let fresh: Vec<(&Id, &Fields)> =
                entries.iter().filter(|(id, _)| **id > group.last_id).take(count).collect();
            let Some((last, _)) = fresh.last() else { return Reply::Nil };
            group.last_id = **last;
            group.consumers.insert(consumer.into());
            if !words.contains(&"NOACK") {
                fresh.iter().for_each(|(id, _)| drop(group.pending.insert(**id, (consumer.into(), 1))));
            }
            return by_key(words, fresh.into_iter().map(|(id, fields)| entry_reply(*id, fields)).collect());
        }
        let above = id(words[words.len() - 1], 0);
        group.consumers.insert(consumer.into());
        let own = group.pending.iter_mut().filter(|(id, (owner, _))| **id > above && owner == consumer);
        let found = own.take(count).map(|(id, (_, deliveries))| match entries.get(id) {
            Some(fields) => {
                *deliveries += 1;
                entry_reply(*id, fields)
            }
            None => Reply::Array(vec![id_reply(*id), Reply::Nil]),
        });
        let found = found.collect();
        by_key(words, found)
    }

    fn pending_command(&mut self, words: &[&str]) -> Reply {
        let Stream { entries, groups, .. } = self;
        let Some(group) = groups.get_mut(words[2]) else { return no_group(words[1], words[2], "") };
        match words[0] {
            "XPENDING" if words.len() == 3 => group.summary(),
            "XPENDING" => group.list(words),
            "XCLAIM" => {
                let only_id = words.contains(&"JUSTID");
                let mut found = Vec::new();
                for word in words[5..].iter().filter(|word| **word != "JUSTID") {
                    found.extend(group.claim(entries, words[3], id(word, 0), only_id));
                }
                Reply::Array(found)
            }
            _ => {
                let only_id = words.contains(&"JUSTID");
                let mut left: usize = words[7].parse().expect("a count");
                let mut attempts = left * 10;
                let start = id(words[5], 0);
                let ids: Vec<Id> = group.pending.range(start..).map(|(id, _)| *id).collect();
                let (mut found, mut deleted, mut next) = (Vec::new(), Vec::new(), (0, 0));
                for id in ids {
                    if left == 0 || attempts == 0 {
                        next = id;
                        break;
                    }
                    attempts -= 1;
                    left -= 1;
                    match group.claim(entries, words[3], id, only_id) {
                        Some(reply) => found.push(reply),
                        None => deleted.push(id_reply(id)),
                    }
                }
                Reply::Array(vec![id_reply(next), Reply::Array(found), Reply::Array(deleted)])
            }
        }
    }
}

impl Group {
    fn summary(&self) -> Reply {
        let (Some(first), Some(last)) = (self.pending.first_key_value(), self.pending.last_key_value()) else {
            return Reply::Array(vec![Reply::Integer(0), Reply::Nil, Reply::Nil, Reply::Nil]);
        };
        let of = |name: &String| self.pending.values().filter(|(owner, _)| owner == name).count();
        let consumers = self.consumers.iter().filter(|name| of(name) > 0);
        let lines = consumers.map(|name| Reply::Array(vec![bulk(name), bulk(&of(name).to_string())])).collect();
        Reply::Array(vec![number(self.pending.len()), id_reply(*first.0), id_reply(*last.0), Reply::Array(lines)])
    }

    /// Without the idle times, which `without_times` takes out of the server's answer.
    fn list(&self, words: &[&str]) -> Reply {
        let start = id(words[3], 0);
        let count: usize = words[5].parse().expect("a count");
        let of = |owner: &String| words.get(6).is_none_or(|wanted| owner == wanted);
        let found = self.pending.range(start..).filter(|(_, (owner, _))| of(owner)).take(count);
        let lines = found.map(|(id, (owner, deliveries))| {
            Reply::Array(vec![id_reply(*id), bulk(owner), Reply::Integer(*deliveries)])
        });
        Reply::Array(lines.collect())
    }

    /// Nothing if the entry is not pending, or exists no more: then it is pending no longer.
    fn claim(&mut self, entries: &BTreeMap<Id, Fields>, consumer: &str, id: Id, only_id: bool) -> Option<Reply> {
        let Some(fields) = entries.get(&id) else {
            self.pending.remove(&id);
            return None;
        };
        let (owner, deliveries) = self.pending.get_mut(&id)?;
        *owner = consumer.into();
        self.consumers.insert(consumer.into());
        if only_id {
            return Some(id_reply(id));
        }
        *deliveries += 1;
        Some(entry_reply(id, fields))
    }
}

fn by_key(words: &[&str], entries: Vec<Reply>) -> Reply {
    Reply::Array(vec![Reply::Array(vec![bulk(key_of(words)), Reply::Array(entries)])])
}

/// The answer of XPENDING's long form without the idle times.
pub fn without_times(reply: Reply) -> Reply {
    match reply {
        Reply::Array(lines) => Reply::Array(
            lines
                .into_iter()
                .map(|line| match line {
                    Reply::Array(mut parts) if parts.len() == 4 && matches!(parts[2], Reply::Integer(_)) => {
                        parts.remove(2);
                        Reply::Array(parts)
                    }
                    other => other,
                })
                .collect(),
        ),
        other => other,
    }
}
