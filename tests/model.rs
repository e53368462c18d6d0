//! Random commands against a naive in-memory Redis: what the server answers, the model must answer too.
//!
//! `MODEL_SEED=7 MODEL_STEPS=100000 cargo test --test model` repeats or prolongs a run; a failure prints its seed and the
//! last commands. A bad seed becomes a named test.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use support::stream_model::{self, Stream};
use support::{Client, Reply, Server};

/// xorshift, so that a seed means the same run everywhere.
struct Random {
    state: u64,
    /// Ids of entries are around this one, which moves on, as time does.
    id_ms: u64,
}

impl Random {
    fn new(seed: u64) -> Self {
        Random { state: seed * 2 + 1, id_ms: 0 }
    }

    fn id_ms(&mut self, back: u64) -> u64 {
        self.id_ms += self.below(2);
        self.id_ms.saturating_sub(self.below(back))
    }

    fn id(&mut self) -> String {
        format!("{}-{}", self.id_ms(12), self.below(3))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    fn key(&mut self) -> String {
        format!("k{}", self.below(12))
    }

    /// Few distinct elements, so that commands meet each other; integers and text, short and long.
    fn element(&mut self) -> String {
        match self.below(8) {
            0 => self.below(20).to_string(),
            1 => format!("-{}", self.below(5)),
            2 => "x".repeat(self.below(120) as usize),
            3 => String::new(),
            _ => format!("e{}", self.below(15)),
        }
    }

    fn index(&mut self) -> String {
        (self.below(14) as i64 - 7).to_string()
    }

    fn score(&mut self) -> String {
        self.pick(&["-2", "-1.5", "0", "0.5", "1", "2", "3", "inf"]).into()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    String(Vec<u8>),
    List(Vec<String>),
    Set(BTreeSet<String>),
    Hash(BTreeMap<String, String>),
    Zset(BTreeMap<String, f64>),
    Stream(Stream),
}

#[derive(Default)]
struct Model {
    keys: HashMap<String, Value>,
}

const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

fn ok() -> Reply {
    Reply::Status("OK".into())
}

fn wrong() -> Reply {
    Reply::Error(WRONG_TYPE.into())
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn number(count: usize) -> Reply {
    Reply::Integer(count as i64)
}

fn bulks<'a>(items: impl IntoIterator<Item = &'a String>) -> Reply {
    Reply::Array(items.into_iter().map(|item| bulk(item)).collect())
}

/// Redis's index arithmetic: the run `start..=stop` with negative counted from the end, empty as `None`.
fn span(start: &str, stop: &str, len: usize) -> Option<(usize, usize)> {
    let at = |text: &str| {
        let index: i64 = text.parse().expect("an index");
        if index < 0 { index + len as i64 } else { index }
    };
    let (start, stop) = (at(start).max(0), at(stop).min(len as i64 - 1));
    (start <= stop && len > 0).then_some((start as usize, stop as usize))
}

/// GETRANGE's arithmetic differs: an end before the first byte is taken for the first byte.
fn text_span(start: &str, stop: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last): (i64, i64) = (start.parse().expect("an index"), stop.parse().expect("an index"));
    if first < 0 && last < 0 && first > last {
        return None;
    }
    let at = |index: i64| if index < 0 { (index + len as i64).max(0) } else { index };
    let (first, last) = (at(first), at(last).min(len as i64 - 1));
    (first <= last && len > 0).then_some((first as usize, last as usize))
}

/// Reads a value of one type or answers for the missing key and the wrong type.
macro_rules! typed {
    ($self:ident, $key:expr, $kind:ident, $missing:expr) => {
        match $self.keys.get_mut($key) {
            None => return $missing,
            Some(Value::$kind(value)) => value,
            Some(_) => return wrong(),
        }
    };
}

/// The value of one type, made when missing.
macro_rules! made {
    ($self:ident, $key:expr, $kind:ident) => {
        match $self.keys.entry($key.to_string()).or_insert_with(|| Value::$kind(Default::default())) {
            Value::$kind(value) => value,
            _ => return wrong(),
        }
    };
}

impl Model {
    fn run(&mut self, argv: &[String]) -> Reply {
        let reply = self.run_one(argv);
        // A collection that became empty is gone.
        self.keys.retain(|_, value| match value {
            Value::String(_) => true,
            Value::List(items) => !items.is_empty(),
            Value::Set(members) => !members.is_empty(),
            Value::Hash(fields) => !fields.is_empty(),
            Value::Zset(members) => !members.is_empty(),
            // One without entries still has its groups and its last id.
            Value::Stream(_) => true,
        });
        reply
    }

    fn run_one(&mut self, argv: &[String]) -> Reply {
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words[0] {
            "DEL" | "UNLINK" => number(words[1..].iter().filter(|key| self.keys.remove(**key).is_some()).count()),
            "EXISTS" => number(words[1..].iter().filter(|key| self.keys.contains_key(**key)).count()),
            "TYPE" => Reply::Status(
                match self.keys.get(words[1]) {
                    None => "none",
                    Some(Value::String(_)) => "string",
                    Some(Value::List(_)) => "list",
                    Some(Value::Set(_)) => "set",
                    Some(Value::Hash(_)) => "hash",
                    Some(Value::Zset(_)) => "zset",
                    Some(Value::Stream(_)) => "stream",
                }
                .into(),
            ),
            "RENAME" => match self.keys.remove(words[1]) {
                None => error("ERR no such key"),
                Some(value) => {
                    self.keys.insert(words[2].into(), value);
                    ok()
                }
            },
            "COPY" => match self.keys.get(words[1]).cloned() {
                _ if words[1] == words[2] => error("ERR source and destination objects are the same"),
                Some(value) => {
                    self.keys.insert(words[2].into(), value);
                    Reply::Integer(1)
                }
                None => Reply::Integer(0),
            },
            "DBSIZE" => number(self.keys.len()),
            name if name.starts_with('X') => self.streams(&words),
            _ => self.run_typed(&words),
        }
    }

    fn run_typed(&mut self, words: &[&str]) -> Reply {
        match words[0] {
            "SET" | "GET" | "GETSET" | "GETDEL" | "APPEND" | "STRLEN" | "INCRBY" | "SETRANGE" | "GETRANGE" | "MGET"
            | "SETNX" => self.strings(words),
            "HSET" | "HGET" | "HDEL" | "HGETALL" | "HLEN" | "HEXISTS" | "HMGET" | "HINCRBY" => self.hashes(words),
            "SADD" | "SREM" | "SISMEMBER" | "SCARD" | "SMEMBERS" | "SMOVE" | "SINTER" | "SUNION" | "SDIFF"
            | "SUNIONSTORE" => self.sets(words),
            "ZADD" | "ZREM" | "ZSCORE" | "ZCARD" | "ZRANK" | "ZRANGE" | "ZCOUNT" | "ZPOPMIN" => self.zsets(words),
            _ => self.lists(words),
        }
    }

    fn streams(&mut self, words: &[&str]) -> Reply {
        if let Some(refused) = stream_model::refused(words) {
            return refused;
        }
        let key = stream_model::key_of(words);
        if !self.keys.contains_key(key)
            && let Some(reply) = stream_model::without_key(words)
        {
            return reply;
        }
        made!(self, key, Stream).run(words)
    }

    fn strings(&mut self, words: &[&str]) -> Reply {
        let key = words[1];
        match words[0] {
            "SET" => {
                self.keys.insert(key.into(), Value::String(words[2].into()));
                ok()
            }
            "SETNX" if self.keys.contains_key(key) => Reply::Integer(0),
            "SETNX" => {
                self.keys.insert(key.into(), Value::String(words[2].into()));
                Reply::Integer(1)
            }
            "GET" => Reply::Bulk(typed!(self, key, String, Reply::Nil).clone()),
            "GETDEL" => {
                let value = typed!(self, key, String, Reply::Nil).clone();
                self.keys.remove(key);
                Reply::Bulk(value)
            }
            "GETSET" => {
                let old = match self.keys.get(key) {
                    None => Reply::Nil,
                    Some(Value::String(value)) => Reply::Bulk(value.clone()),
                    Some(_) => return wrong(),
                };
                self.keys.insert(key.into(), Value::String(words[2].into()));
                old
            }
            "MGET" => Reply::Array(
                words[1..]
                    .iter()
                    .map(|key| match self.keys.get(*key) {
                        Some(Value::String(value)) => Reply::Bulk(value.clone()),
                        _ => Reply::Nil,
                    })
                    .collect(),
            ),
            "STRLEN" => number(typed!(self, key, String, Reply::Integer(0)).len()),
            "APPEND" => {
                let value = made!(self, key, String);
                value.extend_from_slice(words[2].as_bytes());
                number(value.len())
            }
            "GETRANGE" => {
                let value = typed!(self, key, String, bulk(""));
                text_span(words[2], words[3], value.len())
                    .map_or(bulk(""), |(start, stop)| Reply::Bulk(value[start..=stop].to_vec()))
            }
            "SETRANGE" => {
                let offset: usize = words[2].parse().expect("an offset");
                if words[3].is_empty() {
                    return number(typed!(self, key, String, Reply::Integer(0)).len());
                }
                let value = made!(self, key, String);
                let end = offset + words[3].len();
                value.resize(value.len().max(end), 0);
                value[offset..end].copy_from_slice(words[3].as_bytes());
                number(value.len())
            }
            _ => {
                let by: i64 = words[2].parse().expect("an increment");
                let old = match self.keys.get(key) {
                    None => 0,
                    Some(Value::String(value)) => match canonical(value) {
                        Some(old) => old,
                        None => return error("ERR value is not an integer or out of range"),
                    },
                    Some(_) => return wrong(),
                };
                self.keys.insert(key.into(), Value::String((old + by).to_string().into_bytes()));
                Reply::Integer(old + by)
            }
        }
    }

    fn hashes(&mut self, words: &[&str]) -> Reply {
        let key = words[1];
        match words[0] {
            "HSET" => number(usize::from(made!(self, key, Hash).insert(words[2].into(), words[3].into()).is_none())),
            "HGET" => typed!(self, key, Hash, Reply::Nil).get(words[2]).map_or(Reply::Nil, |value| bulk(value)),
            "HDEL" => number(usize::from(typed!(self, key, Hash, Reply::Integer(0)).remove(words[2]).is_some())),
            "HEXISTS" => number(usize::from(typed!(self, key, Hash, Reply::Integer(0)).contains_key(words[2]))),
            "HLEN" => number(typed!(self, key, Hash, Reply::Integer(0)).len()),
            "HMGET" => {
                let none = Reply::Array(vec![Reply::Nil; 2]);
                let fields = typed!(self, key, Hash, none);
                Reply::Array(
                    words[2..].iter().map(|f| fields.get(*f).map_or(Reply::Nil, |value| bulk(value))).collect(),
                )
            }
            "HINCRBY" => {
                let by: i64 = words[3].parse().expect("an increment");
                let fields = made!(self, key, Hash);
                let old = match fields.get(words[2]).map(|value| canonical(value.as_bytes())) {
                    None => 0,
                    Some(Some(old)) => old,
                    Some(None) => return error("ERR hash value is not an integer"),
                };
                fields.insert(words[2].into(), (old + by).to_string());
                Reply::Integer(old + by)
            }
            _ => {
                let fields = typed!(self, key, Hash, Reply::Array(Vec::new()));
                Reply::Array(fields.iter().flat_map(|(field, value)| [bulk(field), bulk(value)]).collect())
            }
        }
    }

    fn set(&self, key: &str) -> Result<BTreeSet<String>, Reply> {
        match self.keys.get(key) {
            None => Ok(BTreeSet::new()),
            Some(Value::Set(members)) => Ok(members.clone()),
            Some(_) => Err(wrong()),
        }
    }

    fn sets(&mut self, words: &[&str]) -> Reply {
        let key = words[1];
        match words[0] {
            "SADD" => number(usize::from(made!(self, key, Set).insert(words[2].into()))),
            "SREM" => number(usize::from(typed!(self, key, Set, Reply::Integer(0)).remove(words[2]))),
            "SISMEMBER" => number(usize::from(typed!(self, key, Set, Reply::Integer(0)).contains(words[2]))),
            "SCARD" => number(typed!(self, key, Set, Reply::Integer(0)).len()),
            "SMEMBERS" => bulks(typed!(self, key, Set, Reply::Array(Vec::new())).iter()),
            "SMOVE" => {
                let (from, to) = match (self.set(key), self.set(words[2])) {
                    // A missing source ends it before the target's type is looked at.
                    (Ok(_), _) if !self.keys.contains_key(key) => return Reply::Integer(0),
                    (Ok(from), Ok(to)) => (from, to),
                    (Err(wrong), _) | (_, Err(wrong)) => return wrong,
                };
                if !from.contains(words[3]) {
                    return Reply::Integer(0);
                }
                if key != words[2] {
                    let (mut from, mut to) = (from, to);
                    from.remove(words[3]);
                    to.insert(words[3].into());
                    self.keys.insert(key.into(), Value::Set(from));
                    self.keys.insert(words[2].into(), Value::Set(to));
                }
                Reply::Integer(1)
            }
            "SUNIONSTORE" => match self.combined("SUNION", &words[2..]) {
                Err(wrong) => wrong,
                Ok(members) => {
                    let count = members.len();
                    self.keys.insert(key.into(), Value::Set(members));
                    number(count)
                }
            },
            op => self.combined(op, &words[1..]).map_or_else(|wrong| wrong, |members| bulks(members.iter())),
        }
    }

    fn combined(&self, op: &str, keys: &[&str]) -> Result<BTreeSet<String>, Reply> {
        let sets: Vec<BTreeSet<String>> = keys.iter().map(|key| self.set(key)).collect::<Result<_, _>>()?;
        let (first, others) = sets.split_first().expect("a key");
        Ok(others.iter().fold(first.clone(), |so_far, other| match op {
            "SINTER" => &so_far & other,
            "SDIFF" => &so_far - other,
            _ => &so_far | other,
        }))
    }

    fn zsets(&mut self, words: &[&str]) -> Reply {
        let key = words[1];
        if words[0] == "ZADD" {
            let score: f64 = words[2].parse().expect("a score");
            return number(usize::from(made!(self, key, Zset).insert(words[3].into(), score).is_none()));
        }
        let missing = match words[0] {
            "ZSCORE" | "ZRANK" => Reply::Nil,
            "ZRANGE" | "ZPOPMIN" => Reply::Array(Vec::new()),
            _ => Reply::Integer(0),
        };
        let members = typed!(self, key, Zset, missing);
        let mut ordered: Vec<(String, f64)> = members.iter().map(|(member, score)| (member.clone(), *score)).collect();
        ordered.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)));
        match words[0] {
            "ZREM" => number(usize::from(members.remove(words[2]).is_some())),
            "ZSCORE" => members.get(words[2]).map_or(Reply::Nil, |score| bulk(&score.to_string())),
            "ZCARD" => number(members.len()),
            "ZRANK" => ordered.iter().position(|(member, _)| member == words[2]).map_or(Reply::Nil, number),
            "ZCOUNT" => {
                let (low, high): (f64, f64) = (words[2].parse().expect("a score"), words[3].parse().expect("a score"));
                number(ordered.iter().filter(|(_, score)| *score >= low && *score <= high).count())
            }
            "ZPOPMIN" => {
                let Some((member, score)) = ordered.first() else { return Reply::Array(Vec::new()) };
                members.remove(member);
                Reply::Array(vec![bulk(member), bulk(&score.to_string())])
            }
            _ => span(words[2], words[3], ordered.len()).map_or(Reply::Array(Vec::new()), |(start, stop)| {
                Reply::Array(ordered[start..=stop].iter().map(|(member, _)| bulk(member)).collect())
            }),
        }
    }

    fn lists(&mut self, words: &[&str]) -> Reply {
        let key = words[1];
        match words[0] {
            "RPUSH" => {
                let items = made!(self, key, List);
                items.extend(words[2..].iter().map(|word| word.to_string()));
                number(items.len())
            }
            "LPUSH" => {
                let items = made!(self, key, List);
                words[2..].iter().for_each(|word| items.insert(0, word.to_string()));
                number(items.len())
            }
            "LLEN" => number(typed!(self, key, List, Reply::Integer(0)).len()),
            "LPOP" => bulk(&typed!(self, key, List, Reply::Nil).remove(0)),
            "RPOP" => typed!(self, key, List, Reply::Nil).pop().map_or(Reply::Nil, |item| bulk(&item)),
            "LRANGE" => {
                let items = typed!(self, key, List, Reply::Array(Vec::new()));
                span(words[2], words[3], items.len())
                    .map_or(Reply::Array(Vec::new()), |(start, stop)| bulks(&items[start..=stop]))
            }
            "LINDEX" => {
                let items = typed!(self, key, List, Reply::Nil);
                place(words[2], items.len()).map_or(Reply::Nil, |at| bulk(&items[at]))
            }
            "LSET" => {
                let items = typed!(self, key, List, error("ERR no such key"));
                match place(words[2], items.len()) {
                    None => error("ERR index out of range"),
                    Some(at) => {
                        items[at] = words[3].into();
                        ok()
                    }
                }
            }
            "LTRIM" => {
                let items = typed!(self, key, List, ok());
                *items = span(words[2], words[3], items.len())
                    .map_or(Vec::new(), |(start, stop)| items[start..=stop].to_vec());
                ok()
            }
            "LREM" => {
                let items = typed!(self, key, List, Reply::Integer(0));
                let count: i64 = words[2].parse().expect("a count");
                number(remove(items, count, words[3]))
            }
            "LINSERT" => {
                let items = typed!(self, key, List, Reply::Integer(0));
                let Some(at) = items.iter().position(|item| item == words[3]) else { return Reply::Integer(-1) };
                items.insert(if words[2] == "BEFORE" { at } else { at + 1 }, words[4].into());
                number(items.len())
            }
            "RPOPLPUSH" => {
                let item = match typed!(self, key, List, Reply::Nil).last() {
                    Some(item) => item.clone(),
                    None => return Reply::Nil,
                };
                made!(self, words[2], List);
                let source = made!(self, key, List);
                source.pop();
                made!(self, words[2], List).insert(0, item.clone());
                bulk(&item)
            }
            other => panic!("the model has no {other}"),
        }
    }
}

fn place(index: &str, len: usize) -> Option<usize> {
    let index: i64 = index.parse().expect("an index");
    let at = if index < 0 { index + len as i64 } else { index };
    (at >= 0 && at < len as i64).then_some(at as usize)
}

fn remove(items: &mut Vec<String>, count: i64, element: &str) -> usize {
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let mut places: Vec<usize> = (0..items.len()).filter(|at| items[*at] == element).collect();
    if count < 0 {
        places.reverse();
    }
    places.truncate(limit);
    places.sort_unstable();
    for at in places.iter().rev() {
        items.remove(*at);
    }
    places.len()
}

/// An integer in the one spelling that Redis accepts.
fn canonical(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|number| number.to_string() == text)
}

fn command(random: &mut Random) -> Vec<String> {
    let shapes: &[&str] = &[
        "SET K E",
        "GET K",
        "GETSET K E",
        "GETDEL K",
        "APPEND K E",
        "STRLEN K",
        "INCRBY K I",
        "SETRANGE K O E",
        "GETRANGE K I I",
        "MGET K K K",
        "SETNX K E",
        "HSET K E E",
        "HGET K E",
        "HDEL K E",
        "HGETALL K",
        "HLEN K",
        "HEXISTS K E",
        "HMGET K E E",
        "HINCRBY K E I",
        "SADD K E",
        "SADD K E",
        "SREM K E",
        "SISMEMBER K E",
        "SCARD K",
        "SMEMBERS K",
        "SMOVE K K E",
        "SINTER K K",
        "SUNION K K",
        "SDIFF K K",
        "SUNIONSTORE K K K",
        "ZADD K S E",
        "ZADD K S E",
        "ZREM K E",
        "ZSCORE K E",
        "ZCARD K",
        "ZRANK K E",
        "ZRANGE K I I",
        "ZCOUNT K S S",
        "ZPOPMIN K",
        "RPUSH K E E",
        "LPUSH K E",
        "LLEN K",
        "LPOP K",
        "RPOP K",
        "LRANGE K I I",
        "LINDEX K I",
        "LSET K I E",
        "LTRIM K I I",
        "LREM K I E",
        "LINSERT K B E E",
        "RPOPLPUSH K K",
        "DEL K",
        "UNLINK K K",
        "EXISTS K K",
        "TYPE K",
        "RENAME K K",
        "COPY K K REPLACE",
        "DBSIZE",
    ];
    // A third of all commands are for streams, which need several to get anywhere.
    let shapes = if random.below(3) == 0 { stream_model::SHAPES } else { shapes };
    random
        .pick(shapes)
        .split(' ')
        .map(|word| match word {
            "K" => random.key(),
            "E" => random.element(),
            "I" => random.index(),
            "O" => random.below(30).to_string(),
            "S" => random.score(),
            "T" if random.below(8) == 0 => random.key(),
            "T" => format!("s{}", random.below(2)),
            "N" => random.id(),
            "P-*" => format!("{}-*", random.id_ms(4)),
            "G" => format!("g{}", random.below(2)),
            "C" => format!("c{}", random.below(3)),
            "F" => (1 + random.below(5)).to_string(),
            "R" => random.pick(&["KEEPREF", "DELREF", "ACKED"]).into(),
            "B" => random.pick(&["BEFORE", "AFTER"]).into(),
            other => other.into(),
        })
        .collect()
}

/// Replies without an order of their own are compared sorted.
fn comparable(name: &str, reply: Reply) -> Reply {
    let text = |reply: &Reply| format!("{reply:?}");
    match (name, reply) {
        ("SMEMBERS" | "SINTER" | "SUNION" | "SDIFF", Reply::Array(mut items)) => {
            items.sort_by_key(text);
            Reply::Array(items)
        }
        ("HGETALL", Reply::Array(items)) => {
            let mut pairs: Vec<Vec<Reply>> = items.chunks(2).map(<[Reply]>::to_vec).collect();
            pairs.sort_by_key(|pair| text(&pair[0]));
            Reply::Array(pairs.concat())
        }
        ("XPENDING", reply) => stream_model::without_times(reply),
        (_, reply) => reply,
    }
}

fn history(client: &mut Client, seed: u64, steps: usize) {
    let (mut random, mut model) = (Random::new(seed), Model::default());
    let mut last: Vec<String> = Vec::new();
    assert!(client.line("FLUSHALL").is_ok());
    for step in 0..steps {
        let argv = command(&mut random);
        last.push(argv.iter().map(|word| format!("{word:?} ")).collect());
        let expected = comparable(&argv[0], model.run(&argv));
        let got = comparable(&argv[0], client.call(&argv));
        if got != expected {
            let tail = last[last.len().saturating_sub(30)..].join("\n  ");
            panic!("seed {seed}, step {step}:\n  {tail}\n  model:  {expected:?}\n  server: {got:?}");
        }
    }
    // What is left is equal too, key by key.
    for key in model.keys.keys().cloned().collect::<Vec<_>>() {
        let reading: &[&str] = match model.keys[&key] {
            Value::String(_) => &["GET"],
            Value::List(_) => &["LRANGE", "0", "-1"],
            Value::Set(_) => &["SMEMBERS"],
            Value::Hash(_) => &["HGETALL"],
            Value::Zset(_) => &["ZRANGE", "0", "-1"],
            Value::Stream(_) => &["XRANGE", "-", "+"],
        };
        let argv: Vec<String> =
            [reading[0].to_string(), key].into_iter().chain(reading[1..].iter().map(|w| w.to_string())).collect();
        assert_eq!(
            comparable(&argv[0], client.call(&argv)),
            comparable(&argv[0], model.run(&argv)),
            "seed {seed}: {argv:?}"
        );
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn random_commands_agree_with_the_model() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let steps = setting("MODEL_STEPS").unwrap_or(4000) as usize;
    match setting("MODEL_SEED") {
        Some(seed) => history(&mut client, seed, steps),
        None => (1..=8).for_each(|seed| history(&mut client, seed, steps)),
    }
}

/// Thresholds of a few elements: every encoding and every conversion is met within one history.
#[test]
fn random_commands_agree_with_the_model_in_every_encoding() {
    let server = Server::start(&[
        "--hash-max-listpack-entries",
        "4",
        "--hash-max-listpack-value",
        "8",
        "--set-max-intset-entries",
        "3",
        "--zset-max-listpack-entries",
        "4",
        "--zset-max-listpack-value",
        "8",
        "--list-max-listpack-size",
        "3",
        "--list-compress-depth",
        "1",
        "--stream-node-max-entries",
        "3",
    ]);
    let mut client = server.client();
    let steps = setting("MODEL_STEPS").unwrap_or(4000) as usize;
    (101..=108).for_each(|seed| history(&mut client, seed, steps));
}
