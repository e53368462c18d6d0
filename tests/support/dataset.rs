//! What a server holds, read through ordinary commands, so that servers of different makes can be compared; and a writer
//! that changes data of every type in every way, from a seed.

use super::{Client, Reply};
use std::collections::BTreeMap;

/// Databases that the writer uses.
pub const DATABASES: usize = 4;
/// Commands that it knows.
const KINDS: u64 = 35;

/// Every key with its type, value and expiry, as text.
pub fn read(client: &mut Client) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for db in 0..DATABASES {
        client.call(&["SELECT", &db.to_string()]);
        for key in keys(client) {
            if let Some(value) = describe(client, &key) {
                found.insert(format!("{db}:{}", String::from_utf8_lossy(&key)), value);
            }
        }
    }
    client.call(&["SELECT", "0"]);
    found
}

/// The first differences, for a message.
pub fn differences(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> Vec<String> {
    let keys = left.keys().chain(right.keys());
    let mut differing: Vec<&String> = keys.filter(|key| left.get(*key) != right.get(*key)).collect();
    differing.sort();
    differing.dedup();
    let line = |key: &&String| format!("{key}: {:?} | {:?}", left.get(*key), right.get(*key));
    differing.iter().take(5).map(line).collect()
}

fn keys(client: &mut Client) -> Vec<Vec<u8>> {
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    loop {
        let reply = client.call(&["SCAN", &cursor, "COUNT", "1000"]);
        let [next, found] = reply.items() else { panic!("SCAN: {reply:?}") };
        keys.extend(found.items().iter().map(bytes));
        cursor = next.text();
        if cursor == "0" {
            return keys;
        }
    }
}

fn bytes(reply: &Reply) -> Vec<u8> {
    match reply {
        Reply::Bulk(bytes) => bytes.clone(),
        other => panic!("no bulk: {other:?}"),
    }
}

/// Nothing if the key is gone by now.
fn describe(client: &mut Client, key: &[u8]) -> Option<String> {
    let kind = client.call(&[b"TYPE".as_slice(), key]).text();
    let value = match kind.as_str() {
        "string" => client.call(&[b"GET".as_slice(), key]),
        "list" => client.call(&[b"LRANGE".as_slice(), key, b"0".as_slice(), b"-1".as_slice()]),
        "set" => sorted(client.call(&[b"SMEMBERS".as_slice(), key]), 1),
        "zset" => {
            client.call(&[b"ZRANGE".as_slice(), key, b"0".as_slice(), b"-1".as_slice(), b"WITHSCORES".as_slice()])
        }
        "hash" => sorted(client.call(&[b"HGETALL".as_slice(), key]), 2),
        "stream" => Reply::Array(vec![
            client.call(&[b"XRANGE".as_slice(), key, b"-".as_slice(), b"+".as_slice()]),
            groups(&client.call(&[b"XINFO".as_slice(), b"GROUPS".as_slice(), key])),
        ]),
        _ => return None,
    };
    let expiry = client.call(&[b"PEXPIRETIME".as_slice(), key]).integer();
    (expiry != -2).then(|| format!("{kind} {expiry} {value:?}"))
}

/// The consumer groups without what a stock primary does not tell its replicas: how many entries were read.
fn groups(reply: &Reply) -> Reply {
    let told = |pair: &&[Reply]| !["entries-read", "lag"].contains(&pair[0].text().as_str());
    let group = |group: &Reply| Reply::Array(group.items().chunks(2).filter(told).flatten().cloned().collect());
    Reply::Array(reply.items().iter().map(group).collect())
}

fn sorted(reply: Reply, width: usize) -> Reply {
    let items = reply.items();
    let mut groups: Vec<Vec<Reply>> = items.chunks(width).map(<[Reply]>::to_vec).collect();
    groups.sort_by_key(|group| format!("{group:?}"));
    Reply::Array(groups.concat())
}

/// Writes at random: each call sends one command or transaction.
pub struct Writer {
    state: u64,
}

impl Writer {
    pub fn new(seed: u64) -> Self {
        Writer { state: seed | 1 }
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % bound
    }

    fn key(&mut self, kind: &str) -> String {
        format!("{kind}:{}", self.below(20))
    }

    fn word(&mut self) -> String {
        match self.below(4) {
            0 => self.below(1000).to_string(),
            1 => "x".repeat(self.below(200) as usize + 1),
            _ => format!("word{}", self.below(50)),
        }
    }

    /// One command as words.
    pub fn command(&mut self) -> Vec<String> {
        let (s, l, t, z, h, x) =
            (self.key("s"), self.key("l"), self.key("t"), self.key("z"), self.key("h"), self.key("x"));
        let (word, other, number) = (self.word(), self.word(), self.below(100).to_string());
        let ttl = (self.below(3000) + 20).to_string();
        let line: Vec<&str> = match self.below(KINDS) {
            0 => vec!["SET", &s, &word],
            1 => vec!["SET", &s, &word, "PX", &ttl],
            2 => vec!["APPEND", &s, &word],
            3 => vec!["SETRANGE", &s, &number, &word],
            4 => vec!["INCRBYFLOAT", &s, "1.5"],
            5 => vec!["GETDEL", &s],
            6 => vec!["GETEX", &s, "PX", &ttl],
            7 => vec!["SETBIT", &s, &number, "1"],
            8 => vec!["RPUSH", &l, &word, &other],
            9 => vec!["LPUSH", &l, &word],
            10 => vec!["LPOP", &l],
            11 => vec!["LMOVE", &l, "l:0", "LEFT", "RIGHT"],
            12 => vec!["LTRIM", &l, "0", "20"],
            // A stock server takes a tenth of a second to find that the time is up.
            13 if self.below(10) > 0 => vec!["RPOP", &l, "2"],
            13 => vec!["BLPOP", &l, "0.01"],
            14 => vec!["SADD", &t, &word, &other, &number],
            15 => vec!["SPOP", &t],
            16 => vec!["SREM", &t, &number],
            17 => vec!["SUNIONSTORE", &t, "t:0", "t:1"],
            18 => vec!["ZADD", &z, &number, &word],
            19 => vec!["ZINCRBY", &z, "2.5", &word],
            20 => vec!["ZPOPMIN", &z],
            21 => vec!["ZRANGESTORE", &z, "z:0", "0", "5"],
            22 => vec!["HSET", &h, &word, &other],
            23 => vec!["HINCRBYFLOAT", &h, "float", "0.1"],
            24 => vec!["HDEL", &h, &word],
            25 => vec!["PEXPIRE", &z, &ttl],
            26 => vec!["PERSIST", &z],
            27 => vec![
                "EVAL",
                "redis.call('incr', KEYS[1]) return redis.call('rpush', KEYS[2], ARGV[1])",
                "2",
                "s:n",
                &l,
                &word,
            ],
            28 => vec!["DEL", &s, &l],
            29 => vec!["COPY", &h, "h:0", "REPLACE"],
            30 => vec!["PFADD", "s:hll", &word],
            31 => vec!["XADD", &x, "MAXLEN", "~", "50", "*", "field", &word],
            32 => vec!["XGROUP", "CREATE", &x, "group", "0", "MKSTREAM"],
            33 => vec!["XDEL", &x, "0-1"],
            _ => vec!["XREADGROUP", "GROUP", "group", "consumer", "COUNT", "2", "STREAMS", &x, ">"],
        };
        line.into_iter().map(str::to_owned).collect()
    }

    /// Sends one command, or a transaction of some, to some database. Errors of commands are of no interest.
    pub fn step(&mut self, client: &mut Client) -> std::io::Result<()> {
        if self.below(10) == 0 {
            let db = self.below(DATABASES as u64).to_string();
            client.try_call(&["SELECT", &db])?;
        }
        if self.below(8) > 0 {
            return client.try_call(&self.command()).map(drop);
        }
        client.try_call(&["MULTI"])?;
        for _ in 0..self.below(4) + 1 {
            client.try_call(&self.command())?;
        }
        client.try_call(&["EXEC"]).map(drop)
    }
}
