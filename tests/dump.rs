//! DUMP and RESTORE against a stock server, both ways: values of every type and encoding keep their content.

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use support::{Client, Reply, Server};

type Text = Vec<u8>;
type Command = Vec<Text>;

/// Values by the commands that make them.
#[derive(Clone, Debug)]
enum Value {
    String(Text),
    List(Vec<Text>),
    Set(Vec<Text>),
    Zset(Vec<(Text, f64)>),
    Hash(Vec<(Text, Text)>),
    Bits(Vec<u16>),
    Hll(Vec<Text>),
    Geo(Vec<(Text, i16, i8)>),
    Stream(Stream),
}

/// What one consumer reads: its name, how many entries, and whether it acknowledges them.
type Read = (Text, u8, bool);

#[derive(Clone, Debug)]
struct Stream {
    /// Step of the id, fields; an entry of the node before is deleted now and then.
    entries: Vec<(u8, Vec<(Text, Text)>)>,
    deleted: Vec<prop::sample::Index>,
    trimmed_to: Option<usize>,
    /// Name, consumers, and how much each reads and acknowledges.
    groups: Vec<(Text, Vec<Read>)>,
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        3 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        3 => (-5000i64..5000).prop_map(|n| n.to_string().into_bytes()),
        6 => prop::collection::vec(any::<u8>(), 0..12),
        2 => "[a-d]{40,90}".prop_map(String::into_bytes),
        1 => (1usize..9000).prop_map(|len| vec![b'z'; len]),
    ]
}

/// Few elements, or more than fit any packed encoding.
fn many<T: std::fmt::Debug>(element: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
    let size = prop_oneof![8 => 1usize..20, 1 => 600usize..700];
    (size, prop::collection::vec(element, 700)).prop_map(|(size, mut all)| {
        all.truncate(size);
        all
    })
}

fn stream() -> impl Strategy<Value = Stream> {
    let fields = prop::collection::vec((text(), text()), 1..4);
    let same = text().prop_map(|value| vec![(b"name".to_vec(), value)]);
    let entry = (any::<u8>(), prop_oneof![4 => same, 1 => fields]);
    let entries =
        prop_oneof![3 => prop::collection::vec(entry.clone(), 0..12), 1 => prop::collection::vec(entry, 150..300)];
    let consumer = (prop::collection::vec(b'a'..b'e', 1..3), 0u8..9, any::<bool>());
    let groups = prop::collection::vec((text(), prop::collection::vec(consumer, 0..4)), 0..3);
    let deleted = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    (entries, deleted, prop::option::weighted(0.2, 0usize..20), groups)
        .prop_map(|(entries, deleted, trimmed_to, groups)| Stream { entries, deleted, trimmed_to, groups })
}

fn value() -> impl Strategy<Value = Value> {
    // Scores that every version prints alike: Redis 7.0 shows others with seventeen digits.
    let score = prop_oneof![any::<i32>().prop_map(f64::from), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.5)];
    prop_oneof![
        text().prop_map(Value::String),
        many(text()).prop_map(Value::List),
        many(text()).prop_map(Value::Set),
        many(any::<i64>().prop_map(|n| n.to_string().into_bytes())).prop_map(Value::Set),
        many((text(), score)).prop_map(Value::Zset),
        many((text(), text())).prop_map(Value::Hash),
        prop::collection::vec(any::<u16>(), 1..20).prop_map(Value::Bits),
        many(text()).prop_map(Value::Hll),
        prop::collection::vec((text(), -180i16..180, -85i8..85), 1..20).prop_map(Value::Geo),
        stream().prop_map(Value::Stream),
        stream().prop_map(Value::Stream),
    ]
}

fn words(parts: &[&[u8]]) -> Command {
    parts.iter().map(|part| part.to_vec()).collect()
}

impl Value {
    fn commands(&self) -> Vec<Command> {
        let key: &[u8] = b"k";
        let with = |verb: &[u8], items: &mut dyn Iterator<Item = Text>| {
            vec![[verb.to_vec(), key.to_vec()].into_iter().chain(items).collect()]
        };
        match self {
            Value::String(value) => vec![words(&[b"SET", key, value])],
            Value::List(items) => with(b"RPUSH", &mut items.iter().cloned()),
            Value::Set(items) => with(b"SADD", &mut items.iter().cloned()),
            Value::Hll(items) => with(b"PFADD", &mut items.iter().cloned()),
            Value::Zset(items) => with(
                b"ZADD",
                &mut items.iter().flat_map(|(member, score)| [format!("{score:e}").into(), member.clone()]),
            ),
            Value::Hash(items) => {
                with(b"HSET", &mut items.iter().flat_map(|(field, value)| [field.clone(), value.clone()]))
            }
            Value::Bits(bits) => {
                bits.iter().map(|bit| words(&[b"SETBIT", key, bit.to_string().as_bytes(), b"1"])).collect()
            }
            Value::Geo(places) => with(
                b"GEOADD",
                &mut places.iter().flat_map(|(member, longitude, latitude)| {
                    [longitude.to_string().into(), latitude.to_string().into(), member.clone()]
                }),
            ),
            Value::Stream(stream) => stream.commands(key),
        }
    }
}

impl Stream {
    fn commands(&self, key: &[u8]) -> Vec<Command> {
        let mut commands = vec![words(&[b"XGROUP", b"CREATE", key, b"first", b"$", b"MKSTREAM"])];
        let mut ms = 1_600_000_000_000u64;
        let mut ids: Vec<Text> = Vec::new();
        for (seq, (step, fields)) in self.entries.iter().enumerate() {
            ms += u64::from(*step);
            ids.push(format!("{ms}-{}", seq + 1).into());
            let mut command = words(&[b"XADD", key, &ids[seq]]);
            command.extend(fields.iter().flat_map(|(field, value)| [field.clone(), value.clone()]));
            commands.push(command);
        }
        for at in self.deleted.iter().filter(|_| !ids.is_empty()) {
            commands.push(words(&[b"XDEL", key, &ids[at.index(ids.len())]]));
        }
        if let Some(len) = self.trimmed_to {
            commands.push(words(&[b"XTRIM", key, b"MAXLEN", len.to_string().as_bytes()]));
        }
        for (group, consumers) in &self.groups {
            commands.push(words(&[b"XGROUP", b"CREATE", key, group, b"0"]));
            for (consumer, count, noack) in consumers {
                commands.push(words(&[b"XGROUP", b"CREATECONSUMER", key, group, consumer]));
                let count = count.to_string();
                let mut command = words(&[b"XREADGROUP", b"GROUP", group, consumer, b"COUNT", count.as_bytes()]);
                if *noack {
                    command.push(b"NOACK".to_vec());
                }
                command.extend(words(&[b"STREAMS", key, b">"]));
                commands.push(command);
            }
        }
        commands
    }
}

fn payload(client: &mut Client, key: &str) -> Text {
    match client.call(&["DUMP", key]) {
        Reply::Bulk(bytes) => bytes,
        other => panic!("DUMP: {other:?}"),
    }
}

/// Everything that can be read of a value; times are left out.
fn content(client: &mut Client, key: &str) -> Vec<Reply> {
    let kind = client.call(&["TYPE", key]).text();
    let mut all = vec![client.call(&["TYPE", key])];
    // That of a string tells how it was made (a HyperLogLog is raw until it is restored), not what it is.
    if kind != "string" {
        all.push(client.call(&["OBJECT", "ENCODING", key]));
    }
    let sort = |reply: Reply, width: usize| {
        let mut parts: Vec<Vec<Reply>> = reply.items().chunks(width).map(<[Reply]>::to_vec).collect();
        parts.sort_by_key(|part| format!("{part:?}"));
        Reply::Array(parts.concat())
    };
    match kind.as_str() {
        "string" => all.push(client.call(&["GET", key])),
        "list" => all.push(client.call(&["LRANGE", key, "0", "-1"])),
        "set" => all.push(sort(client.call(&["SMEMBERS", key]), 1)),
        "zset" => {
            // 7.0 prints 17 digits of a score, later versions as many as it needs: the number counts.
            for pair in client.call(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).items().chunks(2) {
                let score: f64 = pair[1].text().parse().expect("a score");
                all.extend([pair[0].clone(), Reply::Double(score.to_string())]);
            }
        }
        "hash" => all.push(sort(client.call(&["HGETALL", key]), 2)),
        "stream" => {
            all.push(client.call(&["XRANGE", key, "-", "+"]));
            all.push(client.call(&["XREVRANGE", key, "+", "-"]));
            all.push(client.call(&["XINFO", "STREAM", key]));
            let groups = client.call(&["XINFO", "GROUPS", key]);
            for group in groups.items() {
                let Reply::Bulk(name) = &group.items()[1] else { panic!("a name: {group:?}") };
                let pending =
                    client.call(&[b"XPENDING".as_slice(), key.as_bytes(), name, b"-", b"+", b"1000"]).items().to_vec();
                // Id, owner, deliveries; the third is a time.
                all.extend(pending.iter().map(|line| {
                    let parts = line.items();
                    Reply::Array(vec![parts[0].clone(), parts[1].clone(), parts[3].clone()])
                }));
                let consumers = client.call(&[b"XINFO".as_slice(), b"CONSUMERS", key.as_bytes(), name]);
                all.extend(consumers.items().iter().map(|consumer| Reply::Array(consumer.items()[..4].to_vec())));
            }
            all.push(groups);
        }
        other => panic!("a type that nobody made: {other}"),
    }
    all
}

fn restore(client: &mut Client, payload: &[u8]) {
    let reply = client.call(&[b"RESTORE".as_slice(), b"copy", b"0", payload, b"REPLACE"]);
    assert!(reply.is_ok(), "RESTORE: {reply:?}");
}

#[test]
fn payloads_of_every_type_go_both_ways() {
    let (ours, stock) = (Server::start(&[]), Server::start_stock(&[]));
    let clients = RefCell::new([ours.client(), stock.client()]);
    let mut runner = TestRunner::new(Config { cases: 250, failure_persistence: None, ..Config::default() });
    runner
        .run(&value(), |value| {
            let [ours, stock] = &mut *clients.borrow_mut();
            for client in [&mut *ours, &mut *stock] {
                client.call(&["FLUSHALL"]);
                for command in value.commands() {
                    let reply = client.call(&command);
                    prop_assert!(!matches!(reply, Reply::Error(_)) || reply.is_error("BUSYGROUP"), "{reply:?}");
                }
            }
            let expected = content(stock, "k");
            prop_assert_eq!(content(ours, "k"), expected.clone(), "made by the same commands");
            let (from_ours, from_stock) = (payload(ours, "k"), payload(stock, "k"));
            restore(stock, &from_ours);
            restore(ours, &from_stock);
            prop_assert_eq!(content(stock, "copy"), expected.clone(), "ours, restored there");
            prop_assert_eq!(content(ours, "copy"), expected, "theirs, restored here");
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Payloads of streams with one byte changed: refused, or a value that every command can read.
#[test]
fn damaged_streams_are_refused_or_harmless() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for line in ["DEBUG SET-SKIP-CHECKSUM-VALIDATION 1", "XGROUP CREATE k g 0 MKSTREAM"] {
        assert!(!matches!(client.line(line), Reply::Error(_)), "{line}");
    }
    for n in 1..=130 {
        client.call(&["XADD", "k", &format!("{n}-1"), if n % 9 == 0 { "other" } else { "n" }, &n.to_string()]);
    }
    client.line("XREADGROUP GROUP g c COUNT 5 STREAMS k >");
    client.line("XDEL k 3-1 7-1");
    let sound = payload(&mut client, "k");
    let (mut refused, mut taken) = (0, 0);
    for at in 0..sound.len() - 10 {
        for change in [1u8, 0x80, 0xff] {
            let mut damaged = sound.clone();
            damaged[at] ^= change;
            let reply = client.call(&[b"RESTORE".as_slice(), b"copy", b"0", &damaged, b"REPLACE"]);
            if !reply.is_ok() {
                refused += 1;
                continue;
            }
            taken += 1;
            if client.line("TYPE copy").text() != "stream" {
                continue;
            }
            for line in [
                "XLEN copy",
                "XRANGE copy - +",
                "XREVRANGE copy + -",
                "XINFO STREAM copy FULL",
                "XPENDING copy g - + 100",
                "XREADGROUP GROUP g d STREAMS copy >",
                "XAUTOCLAIM copy g e 0 0",
                "XADD copy MAXLEN 60 * f v",
                "XTRIM copy MINID 100",
                "XDEL copy 120-1",
                "DUMP copy",
                "DEL copy",
            ] {
                client.line(line);
            }
        }
    }
    assert!(client.line("PING").text() == "PONG" && refused > 100 && taken > 100, "{refused} refused, {taken} taken");
}

/// As in Redis, payloads follow the setting for files; both forms are read, whatever the setting.
#[test]
fn payloads_are_compressed_as_files_are() {
    let (ours, stock) = (Server::start(&[]), Server::start_stock(&[]));
    let mut clients = [ours.client(), stock.client()];
    let value = "abcdefgh".repeat(200);
    let mut payloads = Vec::new();
    for client in &mut clients {
        client.call(&["SET", "k", &value]);
        client.call(&["RPUSH", "l", &value, &value]);
        client.call(&["CONFIG", "SET", "rdbcompression", "yes"]);
        let packed = [payload(client, "k"), payload(client, "l")];
        client.call(&["CONFIG", "SET", "rdbcompression", "no"]);
        let plain = [payload(client, "k"), payload(client, "l")];
        assert!(packed[0].len() < 100 && packed[1].len() < 200, "{} {}", packed[0].len(), packed[1].len());
        assert!(plain[0].len() > value.len() && plain[1].len() > 2 * value.len());
        payloads.push((packed, plain));
    }
    assert_eq!(payloads[0].1, payloads[1].1, "without compression every byte is the same");
    let [ours, stock] = &mut clients;
    for (packed, plain) in payloads {
        for client in [&mut *ours, &mut *stock] {
            restore(client, &packed[0]);
            assert_eq!(client.line("GET copy").text(), value);
            restore(client, &plain[1]);
            assert_eq!(client.line("LLEN copy").integer(), 2);
        }
    }
}
