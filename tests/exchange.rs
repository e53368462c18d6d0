//! Files go between rsredis and a stock server in both directions, RDB and append-only, and hold the same data on both
//! sides: every type in every encoding, compared value by value. The stock checkers accept what we write.
//!
//! Without stock servers on the machine there is nobody to exchange with, and the tests say so and pass.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use support::server::{binary, free_port, is_stock};
use support::{Client, Reply, Server, wait_until};

/// A server of either kind on a directory that outlives it.
struct Node {
    child: Child,
    port: u16,
}

impl Node {
    fn start(binary: &Path, dir: &Path, args: &[&str]) -> Node {
        let port = free_port();
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log");
        let child = Command::new(binary)
            .args(["--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes"])
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server");
        let mut node = Node { child, port };
        wait_until("the server answers", || {
            if let Ok(Some(status)) = node.child.try_wait() {
                panic!(
                    "{} ended with {status}: {}",
                    binary.display(),
                    fs::read_to_string(dir.join("log")).expect("log")
                );
            }
            Client::connect(port).is_ok_and(|mut client| {
                client.try_call(&["PING"]).is_ok_and(|reply| reply == Reply::Status("PONG".into()))
            })
        });
        node
    }

    fn client(&self) -> Client {
        Client::connect(self.port).expect("a connection")
    }

    fn stop(mut self) {
        let _ = self.client().try_call(&["SHUTDOWN", "NOSAVE"]);
        self.child.wait().expect("its exit");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn stock() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).map(|dir| dir.join("redis-server")).find(|path| path.is_file());
    if found.is_none() || is_stock() {
        eprintln!("no stock redis-server beside the binary under test: nothing to exchange");
        return None;
    }
    found
}

fn temp_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("rsredis-exchange-{}-{name}", std::process::id()));
    fs::remove_dir_all(&dir).ok();
    fs::create_dir_all(&dir).expect("a temporary directory");
    dir
}

/// Every type in every encoding, at the borders of what a format treats differently.
fn fill(client: &mut Client) {
    let mut call = |words: &[&str]| {
        let reply = client.call(words);
        assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply:?}");
    };
    let long = "compressible ".repeat(5000);
    let noise: String =
        (0..3000u32).map(|n| char::from(33 + (n.wrapping_mul(2_654_435_761) >> 13) as u8 % 90)).collect();
    for (key, value) in [
        ("int:0", "0"),
        ("int:i8", "-128"),
        ("int:i16", "32767"),
        ("int:i32", "-2147483648"),
        ("int:i64", "9223372036854775807"),
        ("int:not", "007"),
        ("empty", ""),
        ("short", "value"),
        ("at63", &"x".repeat(63)),
        ("at64", &"x".repeat(64)),
        ("at16383", &noise.repeat(6)[..16383]),
        ("at16384", &noise.repeat(6)[..16384]),
        ("long", &long),
    ] {
        call(&["SET", key, value]);
    }
    call(&["SETRANGE", "binary", "5", "\u{1}\n\r\u{7f}"]);
    call(&["SETBIT", "bits", "70", "1"]);
    call(&["PFADD", "hll", "a", "b", "c", "d"]);
    call(&["GEOADD", "geo", "13.361389", "38.115556", "Palermo", "15.087269", "37.502669", "Catania"]);
    for n in 0..2000 {
        let (number, text) = (n.to_string(), format!("element:{n}"));
        let big = (n * 7_000_000_000i64).to_string();
        if n < 100 {
            call(&["RPUSH", "list:small", &number, &text]);
            call(&["SADD", "set:int", &number]);
            call(&["SADD", "set:int64", &big]);
            call(&["HSET", "hash:small", &number, &text]);
            call(&["ZADD", "zset:small", &format!("{}.5", n - 50), &text]);
        }
        call(&["RPUSH", "list:big", &text, &number, &big]);
        call(&["SADD", "set:big", &text, &number]);
        call(&["HSET", "hash:big", &text, &number]);
        call(&["ZADD", "zset:big", &format!("{}e-3", n * n - 5000), &text]);
    }
    // Long enough to be written in slices.
    for piece in 0..40 {
        let members: Vec<String> = (0..500).map(|n| format!("member:{}", piece * 500 + n)).collect();
        let with = |command: &str, key: &str, each: &dyn Fn(&str) -> Vec<String>| -> Vec<String> {
            [command.to_owned(), key.to_owned()].into_iter().chain(members.iter().flat_map(|m| each(m))).collect()
        };
        for request in [
            with("SADD", "set:long", &|m| vec![m.to_owned()]),
            with("RPUSH", "list:long", &|m| vec![m.to_owned()]),
            with("HSET", "hash:long", &|m| vec![m.to_owned(), m.to_owned()]),
            with("ZADD", "zset:long", &|m| vec![m.len().to_string(), m.to_owned()]),
        ] {
            call(&request.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    call(&["SET", "string:long", &long.repeat(40)]);
    call(&["RPUSH", "list:plain", "a", &noise.repeat(10), "b", &long]);
    call(&["HSET", "hash:value", "field", &long]);
    call(&["SADD", "set:value", &noise]);
    call(&["ZADD", "zset:limits", "-inf", "low", "inf", "high", "0.1", "tenth", "-1e-300", "tiny", "1e300", "huge"]);
    call(&["CONFIG", "SET", "list-compress-depth", "1"]);
    (0..60).for_each(|n| call(&["RPUSH", "list:squeezed", &format!("{n}{long}")[..4000]]));
    call(&["CONFIG", "SET", "list-compress-depth", "0"]);
    call(&["PEXPIREAT", "at63", "4102444800123"]);
    call(&["PEXPIREAT", "hash:small", "4102444800456"]);
    call(&["PEXPIREAT", "zset:long", "4102444800789"]);
    call(&["FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('answer', function() return 42 end)"]);
    call(&["SELECT", "9"]);
    call(&["SET", "other", "database"]);
    call(&["SADD", "ints", "1", "2", "3"]);
    call(&["SELECT", "0"]);
    if we_have_streams() {
        for n in 1..300 {
            call(&["XADD", "stream", &format!("{n}-1"), "field", &n.to_string(), "more", "x"]);
        }
        call(&["XGROUP", "CREATE", "stream", "group", "0"]);
        call(&["XREADGROUP", "GROUP", "group", "alice", "COUNT", "5", "STREAMS", "stream", ">"]);
        call(&["XDEL", "stream", "7-1"]);
    }
}

/// Whether the binary under test knows them.
fn we_have_streams() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let server = support::Server::start(&[]);
        !matches!(server.client().line("XLEN no-stream"), Reply::Error(_))
    })
}

/// Value and expiry of every key of the databases in use, as text; the function must work too.
fn content(client: &mut Client) -> BTreeMap<String, String> {
    let mut content = BTreeMap::new();
    for db in ["0", "9"] {
        client.call(&["SELECT", db]);
        for key in keys(client) {
            let value = value(client, &key);
            let expiry = client.call(&["PEXPIRETIME", &key]);
            content.insert(format!("{db}:{key}"), format!("{value} until {expiry:?}"));
        }
    }
    client.call(&["SELECT", "0"]);
    assert_eq!(client.call(&["FCALL", "answer", "0"]), Reply::Integer(42), "the function library");
    content
}

fn keys(client: &mut Client) -> Vec<String> {
    client.call(&["KEYS", "*"]).items().iter().map(text).collect()
}

/// A bulk as text; what is no UTF-8 is shown by its bytes.
fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes.clone()).unwrap_or_else(|_| format!("{bytes:?}")),
        other => format!("{other:?}"),
    }
}

/// A value in a form that both servers give: members in order, scores as numbers.
fn value(client: &mut Client, key: &str) -> String {
    let Reply::Status(kind) = client.call(&["TYPE", key]) else { panic!("TYPE {key}") };
    let mut list = |words: &[&str]| -> Vec<String> { client.call(words).items().iter().map(text).collect() };
    let pairs = |flat: Vec<String>| -> Vec<(String, String)> {
        flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
    };
    match kind.as_str() {
        "string" => text(&client.call(&["GET", key])),
        "list" => format!("{:?}", list(&["LRANGE", key, "0", "-1"])),
        "set" => {
            let mut members = list(&["SMEMBERS", key]);
            members.sort();
            format!("{members:?}")
        }
        "hash" => {
            let mut fields = pairs(list(&["HGETALL", key]));
            fields.sort();
            format!("{fields:?}")
        }
        "zset" => {
            let members = pairs(list(&["ZRANGE", key, "0", "-1", "WITHSCORES"]));
            let members: Vec<(String, f64)> =
                members.into_iter().map(|(member, score)| (member, score.parse().expect("a score"))).collect();
            format!("{members:?}")
        }
        "stream" => {
            let entries = client.call(&["XRANGE", key, "-", "+"]);
            let pending = client.call(&["XPENDING", key, "group"]);
            format!("{entries:?} {pending:?}")
        }
        other => panic!("{key} is a {other}"),
    }
}

/// Compares two contents; a difference names its keys only, since values are long.
fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, what: &str) {
    let keys: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    for key in keys {
        let (found, expected) = (found.get(key), expected.get(key));
        let short = |value: Option<&String>| value.map(|text| text.chars().take(200).collect::<String>());
        assert!(found == expected, "{what}: {key} is {:?}, was {:?}", short(found), short(expected));
    }
}

/// Encodings of all keys. Short strings are embstr or raw by their history, which no file tells.
fn encodings(client: &mut Client) -> BTreeMap<String, String> {
    let name =
        |client: &mut Client, key: &str| text(&client.call(&["OBJECT", "ENCODING", key])).replace("embstr", "raw");
    keys(client).into_iter().map(|key| (key.clone(), name(client, &key))).collect()
}

fn wait_for_rewrite(client: &mut Client) {
    wait_until("the rewrite is done", || {
        let (Reply::Bulk(text) | Reply::Verbatim(_, text)) = client.call(&["INFO", "persistence"]) else {
            return false;
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        text.contains("aof_rewrite_in_progress:0") && text.contains("aof_rewrite_scheduled:0")
    });
}

/// The stock checker's verdict on a file.
fn assert_accepted(checker: &str, file: &Path) {
    let output = Command::new(checker).arg(file).stdin(Stdio::null()).output().expect("the checker");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{checker} {}: {text}", file.display());
}

/// One writes an RDB file, the other loads it.
fn exchange_rdb(name: &str, from: &Path, to: &Path, how: &[&str]) {
    let dir = temp_dir(name);
    let writer = Node::start(from, &dir, &[]);
    let mut client = writer.client();
    fill(&mut client);
    assert!(client.call(how).is_ok() || how[0] == "BGSAVE");
    wait_until("the file is there", || dir.join("dump.rdb").exists());
    let (expected, forms) = (content(&mut client), encodings(&mut client));
    assert!(expected.len() > 35, "{}", expected.len());
    writer.stop();
    assert_accepted("redis-check-rdb", &dir.join("dump.rdb"));
    let reader = Node::start(to, &dir, &[]);
    let mut client = reader.client();
    assert_same(&content(&mut client), &expected, name);
    for (key, form) in encodings(&mut client) {
        let same = forms.get(&key) == Some(&form);
        // Small lists and sets have forms of their own from 7.2 on, which a 7.0 server cannot have.
        let newer = key.starts_with("list:") || key.starts_with("set:") || key == "stream";
        assert!(same || newer, "{key} was {:?}, is {form}", forms.get(&key));
    }
    reader.stop();
    fs::remove_dir_all(&dir).ok();
}

/// One writes an append-only file, as a base and with commands behind it, the other loads it.
fn exchange_aof(name: &str, from: &Path, to: &Path, preamble: &str) {
    let dir = temp_dir(name);
    let args = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble, "--aof-timestamp-enabled", "yes"];
    let writer = Node::start(from, &dir, &args);
    let mut client = writer.client();
    fill(&mut client);
    client.call(&["BGREWRITEAOF"]);
    wait_for_rewrite(&mut client);
    for line in [
        "SET after rewrite",
        "SADD set:big after",
        "ZINCRBY zset:big 2.5 element:7",
        "LPUSH list:big after",
        "HINCRBYFLOAT hash:big element:9 0.25",
        "SPOP set:int 3",
        "EXPIRE short 100000",
        "DEL empty",
        "EVAL return{redis.call('incr',KEYS[1]),redis.call('incr',KEYS[1])} 1 scripted",
        "PUBLISH nobody listens",
    ] {
        assert!(!matches!(client.line(line), Reply::Error(_)), "{line}");
    }
    client.call(&["MULTI"]);
    client.line("SET in transaction");
    client.line("INCR int:0");
    client.call(&["EXEC"]);
    let expected = content(&mut client);
    // Everysec: what is acknowledged reaches the file within moments.
    std::thread::sleep(std::time::Duration::from_millis(300));
    writer.stop();
    let manifest = dir.join("appendonlydir/appendonly.aof.manifest");
    assert_accepted("redis-check-aof", &manifest);
    for entry in fs::read_dir(dir.join("appendonlydir")).expect("its files") {
        let text = fs::read(entry.expect("an entry").path()).expect("readable");
        assert!(!text.windows(7).any(|part| part == b"PUBLISH"), "a message in the file");
    }
    let reader = Node::start(to, &dir, &args);
    assert_same(&content(&mut reader.client()), &expected, name);
    reader.stop();
    fs::remove_dir_all(&dir).ok();
}

#[test]
fn stock_reads_our_rdb() {
    if let Some(stock) = stock() {
        exchange_rdb("rdb-out", &binary(), &stock, &["SAVE"]);
        exchange_rdb("rdb-out-bg", &binary(), &stock, &["BGSAVE"]);
    }
}

#[test]
fn we_read_a_stock_rdb() {
    if let Some(stock) = stock() {
        exchange_rdb("rdb-in", &stock, &binary(), &["SAVE"]);
    }
}

#[test]
fn we_read_our_own_rdb() {
    exchange_rdb("rdb-own", &binary(), &binary(), &["BGSAVE"]);
}

#[test]
fn stock_reads_our_append_only_file() {
    if let Some(stock) = stock() {
        exchange_aof("aof-out-rdb", &binary(), &stock, "yes");
        exchange_aof("aof-out-commands", &binary(), &stock, "no");
    }
}

#[test]
fn we_read_a_stock_append_only_file() {
    if let Some(stock) = stock() {
        exchange_aof("aof-in-rdb", &stock, &binary(), "yes");
        exchange_aof("aof-in-commands", &stock, &binary(), "no");
    }
}

#[test]
fn we_read_our_own_append_only_file() {
    exchange_aof("aof-own-rdb", &binary(), &binary(), "yes");
    exchange_aof("aof-own-commands", &binary(), &binary(), "no");
}

/// DEBUG RELOAD and LOADAOF are exchanges with oneself in one process.
#[test]
fn reload_keeps_everything() {
    let dir = temp_dir("reload");
    let node = Node::start(&binary(), &dir, &["--appendonly", "yes"]);
    let mut client = node.client();
    client.read_timeout(std::time::Duration::from_secs(60));
    fill(&mut client);
    let (expected, forms) = (content(&mut client), encodings(&mut client));
    for line in ["DEBUG RELOAD", "DEBUG LOADAOF", "DEBUG RELOAD NOSAVE NOFLUSH MERGE"] {
        assert!(client.line(line).is_ok(), "{line}");
        assert_same(&content(&mut client), &expected, line);
        // The commands of an append-only file build a value anew, in the form of its last size.
        if line.contains("RELOAD") && !line.contains("MERGE") {
            assert_eq!(encodings(&mut client), forms, "{line}");
        }
    }
    let refused = client.line("DEBUG RELOAD NOSAVE NOFLUSH");
    assert!(refused.is_error("ERR Error trying to load the RDB dump"), "{refused:?}");
    assert!(client.line("DEBUG RELOAD MAYBE").is_error("ERR DEBUG RELOAD only supports"));
    node.stop();
    fs::remove_dir_all(&dir).ok();
}

/// A file that is pinned to version 10 loads on 7.0, whatever newer types hold: it has of them what that version knows.
#[test]
fn a_pinned_version_is_kept() {
    let server = Server::start(&["--save", "", "--rdb-version", "10"]);
    let mut client = server.client();
    for n in 0..600 {
        client.line(&format!("HSET big f{n} {n}"));
    }
    for line in [
        "HSET small a 1 b 2 c 3",
        "HPEXPIREAT small 4102444800000 FIELDS 1 a",
        "HPEXPIREAT big 4102444800000 FIELDS 2 f1 f2",
        "XGROUP CREATE s g 0 MKSTREAM",
        "XADD s IDMP p m1 1-0 f v",
        "XADD s 2-0 f v",
        "XADD s 3-0 f v",
        "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
        "XNACK s g FAIL IDS 1 1-0",
        "DEBUG SET-ACTIVE-EXPIRE 0",
        "HSET dead f v",
        "HSET half f v g w",
        "HPEXPIRE dead 1 FIELDS 1 f",
        "HPEXPIRE half 1 FIELDS 1 f",
    ] {
        let reply = client.line(line);
        assert!(!reply.is_error(""), "{line}: {reply:?}");
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(client.line("SAVE").is_ok());
    let file = std::fs::read(server.dir().join("dump.rdb")).expect("saved");
    assert!(file.starts_with(b"REDIS0010"));
    assert!(server.log().contains("rdb-version 10 cannot hold all that is in memory"));
    let mut stock = Server::start_stock(&["--save", ""]);
    stock.terminate();
    std::fs::write(stock.dir().join("dump.rdb"), file).expect("written");
    stock.restart();
    let mut client = stock.client();
    assert_eq!(client.line("HLEN big").integer(), 600);
    assert_eq!((client.line("HGET big f1").text(), client.line("HGET small a").text()), ("1".into(), "1".into()));
    // What had expired has not come to life again.
    assert_eq!((client.line("EXISTS dead").integer(), client.line("HLEN half").integer()), (0, 1));
    assert_eq!(client.line("XLEN s").integer(), 3);
    // The released entry has an owner again, but may be claimed at once.
    let claimed = client.line("XAUTOCLAIM s g c 1000000 0 JUSTID");
    assert_eq!(claimed.items()[1].items().iter().map(Reply::text).collect::<Vec<_>>(), ["1-0"]);
    assert_eq!(client.line("XPENDING s g").items()[0].integer(), 2);
}
