//! Input that means harm: connections by the thousand, lengths and numbers at their limits, line breaks where a reply would carry
//! them. The server stays up, small and quick, and every reply stays one frame.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Reply, Server};

/// Bytes that no client would send.
const GARBAGE: &[&[u8]] = &[
    b"\x00\x01\x02\xff\xfe",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"*3\r\n$3\r\nSET\r\n$1000000\r\nabc",
    b"*1\r\n$-7\r\n",
    b"*1\r\n:5\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\"unbalanced\r\n",
    b"*0\r\n\r\n\r\n*-1\r\n",
];

/// How long an answer may take while others storm; a build without optimisation is slower by an order of magnitude.
const PATIENCE: Duration = if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_millis(100) };

/// How long a thread has been ready to run while the machine ran others, by the kernel's account.
fn waited_for_the_machine(thread: &Path) -> Duration {
    let account = std::fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    Duration::from_nanos(account.split(' ').nth(1).and_then(|wait| wait.parse().ok()).unwrap_or_default())
}

/// The same of every thread of the server, and of this one.
fn waits(server: &Server) -> (BTreeMap<PathBuf, Duration>, Duration) {
    let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("Linux");
    let of_server = threads.flatten().map(|entry| (entry.path(), waited_for_the_machine(&entry.path())));
    (of_server.collect(), waited_for_the_machine(Path::new("/proc/thread-self")))
}

/// The storm's own threads want both cores: an answer that is late because the kernel ran those instead is not the server's fault.
#[test]
fn a_storm_of_connections_does_not_delay_others() {
    const CONNECTIONS: usize = 10_000;
    let server = Server::start(&["--maxclients", "2000"]);
    let (made, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut client = server.client();
    let (mut answers, mut late) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held: Vec<TcpStream> = Vec::new();
                loop {
                    let number = made.fetch_add(1, Ordering::Relaxed);
                    if number >= CONNECTIONS {
                        break over.store(true, Ordering::Relaxed);
                    }
                    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", server.port())) else { continue };
                    // The server may have hung up already; that is what it should do.
                    let _ = stream.write_all(GARBAGE[number % GARBAGE.len()]);
                    held.push(stream);
                    if held.len() >= 100 {
                        held.drain(..50);
                    }
                }
            });
        }
        while !over.load(Ordering::Relaxed) {
            let before = waits(&server);
            let start = Instant::now();
            assert!(client.line("SET k v").is_ok());
            let took = start.elapsed();
            answers.push(took);
            if took > PATIENCE {
                let now = waits(&server);
                let since =
                    |(thread, wait): (&PathBuf, &Duration)| *wait - before.0.get(thread).copied().unwrap_or_default();
                let of_server = now.0.iter().map(since).max().unwrap_or_default();
                late.extend(Some(took.saturating_sub(of_server + now.1 - before.1)).filter(|ours| *ours > PATIENCE));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    println!("{} answers, the slowest after {:?}", answers.len(), answers.iter().max());
    assert!(late.is_empty(), "{} of {} answers took longer than {PATIENCE:?}: {late:?}", late.len(), answers.len());
    support::wait_until("they are all forgotten", || {
        server.info("connected_clients").parse().is_ok_and(|n: i64| n <= 3)
    });
}

#[test]
fn no_length_is_believed_before_it_is_checked() {
    let server = Server::start(&[]);
    let before = server.rss();
    for start in [
        &b"*2147483648\r\n"[..],
        b"*1\r\n$536870913\r\n",
        b"*1\r\n$9223372036854775807\r\n",
        b"*1\r\n$-9223372036854775808\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n$99999999999999999999\r\n",
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream.write_all(start).expect("sent");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("closed");
        assert!(reply.starts_with(b"-ERR Protocol error"), "{:?}: {:?}", start, String::from_utf8_lossy(&reply));
    }
    // Announced and never sent: the room for it must not be taken.
    let waiting: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("it listens");
            stream.write_all(b"*2147483647\r\n$536870912\r\nabc").expect("sent");
            stream
        })
        .collect();
    let mut client = server.client();
    assert!(client.line("SET k v").is_ok());
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for {} unfinished requests", waiting.len());
}

/// Numbers at the edges of their types, wherever a command takes a count, an offset, an index or a time.
#[test]
fn numbers_at_their_limits_break_nothing() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let fill = "RPUSH l a b c|SADD s a b c|ZADD z 1 a 2 b 3 c|HSET h a 1 b 2|SET t text|SETBIT b 7 1|XADD x 1-1 a 1|PFADD p a b";
    for line in fill.split('|') {
        client.line(line);
    }
    let before = server.rss();
    let lines = "SETRANGE t {} x|GETRANGE t {} {}|GETRANGE t 0 {}|SETBIT b {} 1|GETBIT b {}|BITPOS b 1 {} {}|BITCOUNT b {} {}|\
                 BITFIELD b SET u8 {} 1|BITFIELD b INCRBY i64 0 {}|BITFIELD b GET u63 #{}|LRANGE l {} {}|LINDEX l {}|LSET l {} v|\
                 LREM l {} zzz|LTRIM l 0 {}|LPOS l a RANK {}|LPOS l a COUNT {}|LPOS l a MAXLEN {}|LMPOP {} l LEFT|\
                 SINTERCARD 1 s LIMIT {}|SINTERCARD {} s|ZRANGE z {} {}|ZRANGE z {} {} REV|ZRANGEBYSCORE z {} {} LIMIT {} {}|\
                 ZRANGESTORE zz z {} {}|ZMPOP {} z MIN|ZMPOP 1 z MIN COUNT 0|ZINCRBY z {} a|ZUNION {} z|HINCRBY h a {}|\
                 HSCAN h {} COUNT 10|SCAN {} COUNT 10|SSCAN s 0 COUNT {}|INCRBY n {}|DECRBY n {}|EXPIRE t {}|PEXPIRE t {}|\
                 EXPIREAT t {}|PEXPIREAT t {}|SET t text EX {}|SET t text PXAT {}|GETEX t EX {}|XADD x {}-{} a 1|\
                 XRANGE x {} {} COUNT {}|XREAD COUNT {} STREAMS x 0|XTRIM x MAXLEN {}|XTRIM x MINID {}|XADD y MAXLEN ~ {} * a 1|\
                 OBJECT FREQ t|COPY t tt DB {}|MOVE t {}|SELECT {}|SWAPDB {} 0|SLOWLOG GET {}|ACL LOG {}|ACL GENPASS {}|\
                 LATENCY HISTORY {}|MEMORY USAGE l SAMPLES {}|CLIENT UNBLOCK {}|CLIENT PAUSE {}x|WAIT {} 1|EVAL return {} k|\
                 SRANDMEMBER empty {}|HRANDFIELD empty {} WITHVALUES|ZRANDMEMBER empty {}|SPOP empty {}|LPOP empty {}|\
                 GEOSEARCH z FROMLONLAT {} {} BYRADIUS {} m|GEOADD g {} {} m|SORT l LIMIT {} {} ALPHA|RESTORE r {} x|\
                 OBJECT IDLETIME t|DEBUG SLEEP 0|CONFIG SET maxclients {}|CONFIG SET timeout {}|CONFIG SET maxmemory-clients {}";
    for number in [
        "-9223372036854775808",
        "-9223372036854775807",
        "-2147483649",
        "-1",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "99999999999999999999999",
        "nan",
        "inf",
        "-0",
        "",
    ] {
        for line in lines.split('|') {
            let argv: Vec<String> = line.split_whitespace().map(|word| word.replace("{}", number)).collect();
            // Settings with the edge values themselves are not the point here, and would change what follows.
            if argv[0] == "CONFIG" && !number.starts_with('-') && number.len() < 19 {
                continue;
            }
            if let Err(error) = client.try_call(&argv) {
                panic!("{argv:?}: {error}\n{}", server.log());
            }
            client.line("SELECT 0");
        }
    }
    assert_eq!(client.line("PING"), Reply::Status("PONG".into()));
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 700 << 20, "{grown} bytes");
}

/// Whatever a client sends, a reply in one line stays in one line: nobody can make up replies for those behind him.
#[test]
fn replies_carry_no_line_breaks_of_others() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("SET k v");
    let evil = "x\r\n+OK\r\n$-1\r\n";
    let with = |words: &[&str]| words.iter().map(|word| word.replace("{}", evil)).collect::<Vec<String>>();
    for words in [
        &["{}"][..],
        &["GET", "k", "{}"],
        &["NOSUCH", "{}"],
        &["CONFIG", "{}"],
        &["CONFIG", "SET", "{}", "1"],
        &["CONFIG", "SET", "save", "{}"],
        &["CONFIG", "SET", "notify-keyspace-events", "{}"],
        &["CLIENT", "KILL", "TYPE", "{}"],
        &["CLIENT", "KILL", "USER", "{}"],
        &["CLIENT", "LIST", "TYPE", "{}"],
        &["CLIENT", "SETNAME", "{}"],
        &["CLIENT", "TRACKING", "{}"],
        &["CLIENT", "NO-EVICT", "{}"],
        &["ACL", "SETUSER", "u", "{}"],
        &["ACL", "SETUSER", "u", "+{}"],
        &["ACL", "SETUSER", "u", "({}"],
        &["ACL", "CAT", "{}"],
        &["ACL", "DRYRUN", "{}", "get", "k"],
        &["ACL", "DRYRUN", "default", "{}"],
        &["HELLO", "3", "{}"],
        &["COMMAND", "LIST", "FILTERBY", "{}", "x"],
        &["DEBUG", "{}"],
        &["OBJECT", "{}", "k"],
        &["MEMORY", "{}"],
        &["LATENCY", "GRAPH", "{}"],
        &["EVAL", "return redis.error_reply('{}')", "0"],
        &["EVAL", "return redis.status_reply(ARGV[1])", "0", "{}"],
        &["EVAL", "return {ok=ARGV[1]}", "0", "{}"],
        &["EVAL", "return {err=ARGV[1]}", "0", "{}"],
        &["EVAL", "error(ARGV[1])", "0", "{}"],
        &["EVAL", "error({err=ARGV[1]})", "0", "{}"],
        &["EVAL", "return redis.call(ARGV[1])", "0", "{}"],
        &["EVAL", "return redis.pcall('get', 'k', ARGV[1])", "0", "{}"],
        &["EVAL", "syntax {}", "0"],
        &["EVALSHA", "{}", "0"],
        &["FUNCTION", "LOAD", "#!lua name={}\nreturn 1"],
        &["FUNCTION", "LOAD", "{}"],
        &["FUNCTION", "DELETE", "{}"],
        &["FCALL", "{}", "0"],
        &["SCRIPT", "{}"],
        &["XGROUP", "CREATE", "k", "{}", "{}"],
        &["XREADGROUP", "GROUP", "{}", "c", "STREAMS", "nosuch", ">"],
        &["SUBSCRIBE"],
        &["GEODIST", "k", "a", "b", "{}"],
        &["SET", "k", "v", "{}", "1"],
        &["RESTORE", "r", "0", "{}"],
        &["LOLWUT", "VERSION", "{}"],
        &["SLOWLOG", "{}"],
        &["MULTI", "{}"],
    ] {
        let argv = with(words);
        client.send(&argv).expect("sent");
        client.send(&["ECHO", "in step"]).expect("sent");
        let reply = client.reply().unwrap_or_else(|error| panic!("{argv:?}: {error}"));
        if let Reply::Error(text) | Reply::Status(text) = &reply {
            assert!(!text.contains(['\r', '\n']), "{argv:?}: {text:?}");
        }
        let next = client.reply().unwrap_or_else(|error| panic!("{argv:?}: {error}"));
        assert_eq!(next, Reply::Bulk(b"in step".to_vec()), "{argv:?} answered {reply:?} and more");
    }
}

/// Commands whose work grows faster than their arguments say so, or are done in bounded time.
#[test]
fn patterns_and_comparisons_are_bounded() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.read_timeout(Duration::from_secs(20));
    let text = "a".repeat(2000);
    assert!(client.call(&["SET", &text, "v"]).is_ok());
    let start = Instant::now();
    for pattern in ["a*".repeat(500) + "b", "*a".repeat(500) + "b", "[a-z]*".repeat(300) + "Z", "?*".repeat(600) + "!"]
    {
        assert_eq!(client.call(&["KEYS", &pattern]), Reply::Array(Vec::new()));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let _ = Client::connect(server.port()).expect("it still listens");
}
