//! Replication with real servers, this one as the primary: of a stock redis-server, of a raw connection that plays a replica,
//! and of its own kind where both ends must be ours (FAILOVER).

mod support;

use nix::sys::signal::Signal;
use std::io::Read;
use std::time::{Duration, Instant};
use support::dataset::{self, Writer};
use support::{Client, Proxy, Reply, Server, wait_until};

fn replicaof(replica: &Server, port: u16) {
    let reply = replica.client().call(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    assert!(reply.is_ok(), "{reply:?}");
}

fn wait_for_link(replica: &Server) {
    wait_until("the link is up", || replica.info("master_link_status") == "up");
}

/// Waits until the replica has all of the primary's stream, then compares what both hold.
fn assert_same_data(primary: &Server, replica: &Server) {
    wait_for_link(replica);
    wait_until("the replica has everything", || {
        replica.info("slave_repl_offset") == primary.info("master_repl_offset")
    });
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let (left, right) = (dataset::read(&mut primary.client()), dataset::read(&mut replica.client()));
        if left == right {
            return;
        }
        // A key may expire between the two looks.
        assert!(Instant::now() < deadline, "{:?}", dataset::differences(&left, &right));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn write(client: &mut Client, writer: &mut Writer, steps: usize) {
    for _ in 0..steps {
        writer.step(client).expect("the primary answers");
    }
}

/// Data of every type, some of it too big for packed encodings, and a function.
fn fill(client: &mut Client) {
    write(client, &mut Writer::new(7), 2000);
    for part in 0..20 {
        let mut words = vec!["ZADD".to_owned(), "z:big".to_owned()];
        words.extend((0..200).flat_map(|n| [n.to_string(), format!("member:{part}:{n}")]));
        client.call(&words);
    }
    let library = "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 'yes' end, flags={'no-writes'}}";
    client.call(&["FUNCTION", "LOAD", "REPLACE", library]);
}

fn set(server: &Server, directive: &str, value: &str) {
    let reply = server.client().call(&["CONFIG", "SET", directive, value]);
    assert!(reply.is_ok(), "{directive}: {reply:?}");
}

/// How often a text is in the log.
fn logged(server: &Server, text: &str) -> usize {
    server.log().matches(text).count()
}

/// A connection that plays a replica: what comes is read as it is.
struct Wire {
    client: Client,
    bytes: Vec<u8>,
}

impl Wire {
    fn to(server: &Server) -> Wire {
        Wire { client: server.client(), bytes: Vec::new() }
    }

    fn send(&mut self, line: &str) {
        self.client.write(format!("{line}\r\n").as_bytes()).expect("connected");
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 64 * 1024];
        let count = self.client.stream().read(&mut chunk).expect("something comes in time");
        self.bytes.extend_from_slice(&chunk[..count]);
        count
    }

    /// The next line that is not empty: newlines keep a link alive.
    fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !line.is_empty() {
                    return line;
                }
            } else {
                assert!(self.fill() > 0, "closed");
            }
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.bytes.len() < count {
            assert!(self.fill() > 0, "closed");
        }
        self.bytes.drain(..count).collect()
    }

    /// The snapshot behind its header.
    fn snapshot(&mut self) -> Vec<u8> {
        let header = self.line();
        if let Some(mark) = header.strip_prefix("$EOF:") {
            while !self.bytes.ends_with(mark.as_bytes()) {
                assert!(self.fill() > 0, "closed");
            }
            let len = self.bytes.len() - mark.len();
            let snapshot = self.take(len);
            self.take(mark.len());
            return snapshot;
        }
        let len = header.strip_prefix('$').and_then(|len| len.parse().ok()).expect("a length");
        self.take(len)
    }

    /// The next command of the stream, as words.
    fn command(&mut self) -> String {
        let count: usize = self.line().strip_prefix('*').and_then(|count| count.parse().ok()).expect("a command");
        let word = |wire: &mut Wire| {
            let len: usize = wire.line().strip_prefix('$').and_then(|len| len.parse().ok()).expect("a length");
            let word = wire.take(len + 2);
            String::from_utf8_lossy(&word[..len]).into_owned()
        };
        (0..count).map(|_| word(self)).collect::<Vec<_>>().join(" ")
    }

    /// Commands up to one that is this, PING left out.
    fn commands_until(&mut self, last: &str) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            let command = self.command();
            if command == last {
                return found;
            }
            if !command.eq_ignore_ascii_case("ping") {
                found.push(command);
            }
        }
    }

    /// Attaches with SYNC; the stream comes next.
    fn attach(server: &Server) -> Wire {
        let mut wire = Wire::to(server);
        wire.send("SYNC");
        assert!(wire.snapshot().starts_with(b"REDIS00"));
        wire
    }
}

#[test]
fn a_stock_replica_gets_every_type_and_the_stream() {
    for diskless in ["yes", "no"] {
        let primary = Server::start(&["--repl-diskless-sync", diskless]);
        let mut client = primary.client();
        fill(&mut client);
        let replica = Server::start_stock(&[]);
        replica.client().call(&["SET", "of", "old"]);
        replicaof(&replica, primary.port());
        wait_for_link(&replica);
        write(&mut client, &mut Writer::new(8), 2000);
        assert_same_data(&primary, &replica);
        assert_eq!(replica.client().call(&["FCALL", "f", "0"]).text(), "yes");
        assert_eq!(client.call(&["WAIT", "1", "5000"]), Reply::Integer(1));
        assert_eq!(primary.info("sync_full"), "1");
        assert_eq!(replica.info("master_replid"), primary.info("master_replid"));
        let line = primary.info("slave0");
        assert!(line.starts_with(&format!("ip=127.0.0.1,port={},state=online,offset=", replica.port())), "{line}");
        let list = client.call(&["CLIENT", "LIST", "TYPE", "replica"]).text();
        assert!(list.contains(" flags=S "), "{list}");
    }
}

#[test]
fn cut_links_continue_where_they_were() {
    let primary = Server::start(&[]);
    let proxy = Proxy::start(primary.port());
    let mut client = primary.client();
    fill(&mut client);
    let replica = Server::start_stock(&[]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    let mut writer = Writer::new(3);
    for round in 0..8u64 {
        write(&mut client, &mut writer, 200);
        if round % 2 == 0 {
            proxy.cut()
        } else {
            proxy.cut_after(writer.below(2000) + 1)
        }
        write(&mut client, &mut writer, 200);
        wait_for_link(&replica);
    }
    assert_same_data(&primary, &replica);
    assert_eq!(primary.info("sync_full"), "1", "{}", primary.log());
    assert!(primary.info("sync_partial_ok").parse::<u32>().expect("a number") >= 4);
}

#[test]
fn chains_pass_on_the_same_bytes() {
    let (top, middle, bottom) = (Server::start(&[]), Server::start(&[]), Server::start_stock(&[]));
    replicaof(&middle, top.port());
    wait_for_link(&middle);
    let mut client = top.client();
    fill(&mut client);
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "s:1", "in the third"]);
    wait_until("the middle has it", || middle.info("slave_repl_offset") == top.info("master_repl_offset"));
    // The bottom comes in the middle of a stream that has chosen database 3 already.
    replicaof(&bottom, middle.port());
    wait_for_link(&bottom);
    client.call(&["APPEND", "s:1", " one"]);
    write(&mut client, &mut Writer::new(5), 500);
    assert_same_data(&top, &middle);
    assert_same_data(&top, &bottom);
    assert_eq!(bottom.info("master_replid"), top.info("master_replid"));
}

#[test]
fn replicas_that_come_together_share_a_snapshot() {
    for diskless in ["yes", "no"] {
        let primary = Server::start(&["--repl-diskless-sync", diskless, "--repl-diskless-sync-max-replicas", "2"]);
        let mut client = primary.client();
        fill(&mut client);
        set(&primary, "rdb-key-save-delay", "2000");
        let replicas = [Server::start_stock(&[]), Server::start_stock(&[])];
        replicas.iter().for_each(|replica| replicaof(replica, primary.port()));
        wait_until("the snapshot is made", || primary.info("rdb_bgsave_in_progress") == "1");
        client.call(&["SET", "s:late", "meanwhile"]);
        set(&primary, "rdb-key-save-delay", "0");
        replicas.iter().for_each(|replica| assert_same_data(&primary, replica));
        assert_eq!(logged(&primary, "Starting BGSAVE for SYNC"), 1, "{}", primary.log());
        assert_eq!(primary.info("sync_full"), "2");
    }
}

#[test]
fn the_last_replica_that_leaves_ends_the_snapshot() {
    let primary = Server::start(&["--rdb-key-save-delay", "1000000"]);
    primary.client().call(&["DEBUG", "POPULATE", "1000"]);
    let mut wire = Wire::to(&primary);
    wire.send("REPLCONF capa eof");
    assert_eq!(wire.line(), "+OK");
    wire.send("PSYNC ? -1");
    assert!(wire.line().starts_with("+FULLRESYNC "));
    wait_until("the snapshot is made", || primary.info("rdb_bgsave_in_progress") == "1");
    assert_eq!(primary.info("connected_slaves"), "1");
    drop(wire);
    wait_until("the snapshot is given up", || primary.info("rdb_bgsave_in_progress") == "0");
    assert_eq!(primary.info("connected_slaves"), "0");
    assert!(primary.log().contains("last replica dropped"), "{}", primary.log());
}

#[test]
fn answers_to_psync_are_exact() {
    let primary = Server::start(&["--repl-ping-replica-period", "1000"]);
    let mut client = primary.client();
    client.call(&["SET", "k", "v"]);
    let mut wire = Wire::to(&primary);
    wire.send("REPLCONF capa eof capa psync2 capa unheard-of");
    assert_eq!(wire.line(), "+OK");
    wire.send("PSYNC ? -1");
    let replid = primary.info("master_replid");
    assert_eq!(wire.line(), format!("+FULLRESYNC {} 0", primary.info("master_replid")));
    assert!(wire.snapshot().starts_with(b"REDIS00"));
    client.call(&["SET", "k", "w"]);
    // Nothing of the stream before the first acknowledgement, however long the replica loads.
    std::thread::sleep(Duration::from_millis(500));
    assert!(wire.bytes.is_empty());
    wire.send("REPLCONF ACK 0");
    assert_eq!((wire.command(), wire.command()), ("SELECT 0".into(), "SET k w".into()));
    let replid = if replid == primary.info("master_replid") { replid } else { primary.info("master_replid") };
    let end: u64 = primary.info("master_repl_offset").parse().expect("a number");

    let mut second = Wire::to(&primary);
    second.send("REPLCONF capa psync2");
    assert_eq!(second.line(), "+OK");
    second.send(&format!("PSYNC {replid} {}", end + 1));
    assert_eq!(second.line(), format!("+CONTINUE {replid}"));
    let mut third = Wire::to(&primary);
    third.send(&format!("PSYNC {replid} 1"));
    assert_eq!(third.line(), "+CONTINUE");
    assert_eq!((third.command(), third.command()), ("SELECT 0".into(), "SET k w".into()));
    assert_eq!((primary.info("sync_partial_ok"), primary.info("sync_partial_err")), ("2".into(), "0".into()));

    let mut ahead = Wire::to(&primary);
    ahead.send(&format!("PSYNC {replid} {}", end + 2));
    assert!(ahead.line().starts_with("+FULLRESYNC "));
    let mut stranger = Wire::to(&primary);
    stranger.send(&format!("PSYNC {} 1", "f".repeat(40)));
    assert!(stranger.line().starts_with("+FULLRESYNC "));
    assert_eq!(primary.info("sync_partial_err"), "2");

    let errors = [
        ("PSYNC ? x", "-ERR value is not an integer or out of range"),
        ("REPLCONF capa", "-ERR syntax error"),
        ("REPLCONF unknown 1", "-ERR Unrecognized REPLCONF option: unknown"),
        ("REPLCONF rdb-filter-only keys", "-ERR Unsupported rdb-filter-only option: keys"),
        ("PSYNC x 1 FAILOVER", "-ERR PSYNC FAILOVER can't be sent to a master."),
        ("FAILOVER TO nobody 1", "-ERR FAILOVER target HOST and PORT is not a replica."),
        ("FAILOVER FORCE", "-ERR FAILOVER with force option requires both a timeout and target HOST and IP."),
        ("FAILOVER ABORT", "-ERR No failover in progress."),
    ];
    let mut wire = Wire::to(&primary);
    for (line, error) in errors {
        wire.send(line);
        assert_eq!(wire.line(), error, "{line}");
    }
    wire.send("REPLCONF rdb-filter-only functions");
    assert_eq!(wire.line(), "+OK");
    wire.send("PSYNC ? -1");
    assert_eq!(wire.line(), "-ERR Filtered replica requires EOF capability");
}

/// The same commands leave the same stream here and in a stock server.
#[test]
fn the_stream_is_the_one_that_redis_sends() {
    let lines = [
        "SET a 1 EX 100000 GET",
        "SET a 1 EXAT 9999999999",
        "SET b 2",
        "SETEX a 100 x",
        "GETEX b EXAT 9999999998",
        "GETEX b PERSIST",
        "PSETEX a 99999 x",
        "EXPIRE b 100000",
        "PEXPIREAT b 9999999999000",
        "EXPIRE b -1",
        "SET b 2",
        "GETDEL b",
        "GETDEL b",
        "GETSET a 3",
        "INCRBYFLOAT a 1.5",
        "HSET h f 1 g 2",
        "HINCRBYFLOAT h f 1.5",
        "SADD s a",
        "SPOP s",
        "SADD s a b c",
        "SPOP s 10",
        "SELECT 5",
        "RPUSH l a b c",
        "BLPOP l 1",
        "BLMOVE l m LEFT RIGHT 1",
        "BRPOPLPUSH m l 1",
        "LMPOP 1 l LEFT COUNT 2",
        "DEL l",
        "ZADD z 1 a 2 b 3 c",
        "ZPOPMIN z",
        "BZPOPMAX z 1",
        "ZMPOP 1 z MIN",
        "DEL nothing",
        "SELECT 0",
        "MSET x 1 y 2",
        "MULTI",
        "SET x 2",
        "INCR y",
        "EXEC",
        "MULTI",
        "SET x 3",
        "EXEC",
        "PUBLISH channel message",
        "MOVE x 3",
        "COPY y x DB 2",
        "SWAPDB 1 2",
        "RENAME y yy",
        "RESTORE r 0 \"\\x00\\xc0\\n\\x0b\\x00C\\xf5\\x1d\\x1e\\x9b\\x9d\\xa7\\xb4\"",
        "GEOADD geo 13.36 38.11 p",
        "GEORADIUS geo 13 38 200 km STORE near",
        "EVAL \"return redis.call('set','e','1')\" 0",
        "EVAL \"redis.call('set','e','1') redis.call('incr','e')\" 0",
        "SCRIPT FLUSH",
        "SINTERSTORE dst s s",
        "SORT nothing STORE dst",
        "PFADD hll a",
        "SETRANGE a 3 xyz",
        "UNLINK a",
        "FLUSHDB",
        "FLUSHALL",
    ];
    let stream = |server: &Server| {
        let mut wire = Wire::attach(server);
        let mut client = server.client();
        for line in lines {
            let words = support::cli::split(line).expect("well formed");
            client.call(&words);
        }
        client.call(&["SET", "the", "end"]);
        let commands = wire.commands_until("SET the end");
        commands.iter().map(|command| without_times(command)).collect::<Vec<_>>()
    };
    let (ours, stock) =
        (stream(&Server::start(&[])), stream(&Server::start_stock(&["--repl-diskless-sync-delay", "0"])));
    assert_eq!(ours, stock);
    assert_eq!(ours[0], "SELECT 0");
}

/// Absolute times of now differ from run to run, and case does not matter.
fn without_times(command: &str) -> String {
    let word =
        |word: &str| if word.len() == 13 && word.starts_with("17") { "TIME".into() } else { word.to_uppercase() };
    command.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn expiry_and_eviction_go_to_the_stream() {
    let primary = Server::start(&[]);
    let mut wire = Wire::attach(&primary);
    let mut client = primary.client();
    client.call(&["SET", "short", "1", "PX", "20"]);
    let commands = wire.commands_until("DEL short");
    assert_eq!(commands.len(), 2, "{commands:?}");
    set(&primary, "maxmemory-policy", "allkeys-random");
    client.call(&["SET", "big", "1"]);
    set(&primary, "maxmemory", "1");
    assert_eq!(wire.commands_until("DEL big"), ["SET big 1"]);
}

/// The snapshot for a replica that does not read keeps what is evicted meanwhile. It must not count: else deleting would never
/// help, and the database would be emptied until nothing is left but OOM errors.
#[test]
fn a_snapshot_that_is_not_read_does_not_cause_evictions() {
    let primary =
        Server::start(&["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--rdbcompression", "no"]);
    let mut client = primary.client();
    let value = "v".repeat(2_000);
    for n in 0..20_000 {
        assert!(client.call(&["SET", &format!("old:{n}"), &value]).is_ok());
    }
    let used: usize = primary.info("used_memory").parse().expect("a number");
    set(&primary, "maxmemory-policy", "allkeys-lru");
    let mut silent = Wire::to(&primary);
    silent.send("PSYNC ? -1");
    wait_until("the snapshot runs", || primary.info("rdb_bgsave_in_progress") == "1");
    // Beyond this the socket's and the pipe's buffers are full.
    std::thread::sleep(Duration::from_millis(300));
    set(&primary, "maxmemory", &(used + (1 << 20)).to_string());
    for n in 0..2_000 {
        assert!(client.call(&["SET", &format!("new:{n}"), &value]).is_ok());
    }
    let evicted: usize = primary.info("evicted_keys").parse().expect("a number");
    assert!((500..6_000).contains(&evicted), "{evicted}");
}

#[test]
fn a_replica_does_not_make_its_primary_talk() {
    for (line, log) in
        [("PING", "command 'ping'"), ("GET k", "command 'get'"), ("SLOWLOG GET", "command 'slowlog|get'")]
    {
        let primary = Server::start(&[]);
        let mut wire = Wire::attach(&primary);
        wire.send(line);
        assert_eq!(wire.client.rest().expect("closed"), b"");
        assert!(primary.log().contains(&format!("Replica generated a reply to {log}, disconnecting it: id=")));
        let is_error = line == "GET k";
        assert_eq!(primary.log().contains("Replica can't interact with the keyspace"), is_error);
    }
}

#[test]
fn writes_need_as_many_good_replicas_as_are_set() {
    let primary = Server::start(&["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"]);
    let mut client = primary.client();
    let refused = |reply: Reply| reply.is_error("NOREPLICAS Not enough good replicas to write.");
    assert!(refused(client.call(&["SET", "k", "1"])));
    assert!(client.call(&["MULTI"]).is_ok());
    assert!(refused(client.call(&["SET", "k", "1"])));
    assert!(client.call(&["EXEC"]).is_error("EXECABORT"));
    let script = client.call(&["EVAL", "return redis.call('set', 'k', '1')", "0"]);
    assert!(matches!(&script, Reply::Error(text) if text.contains("Not enough good replicas")), "{script:?}");
    assert_eq!(client.call(&["GET", "k"]), Reply::Nil);
    let replica = Server::start_stock(&[]);
    replicaof(&replica, primary.port());
    wait_until("the replica counts", || primary.info("min_slaves_good_slaves") == "1");
    assert!(client.call(&["SET", "k", "1"]).is_ok());
    replica.signal(Signal::SIGSTOP);
    wait_until("the replica no longer counts", || primary.info("min_slaves_good_slaves") == "0");
    assert!(refused(client.call(&["SET", "k", "1"])));
    replica.signal(Signal::SIGCONT);
}

#[test]
fn wait_counts_acknowledgements() {
    let primary = Server::start(&["--appendonly", "yes"]);
    let replica = Server::start_stock(&[]);
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    let mut client = primary.client();
    client.call(&["SET", "k", "1"]);
    let start = Instant::now();
    assert_eq!(client.line("WAIT 1 5000"), Reply::Integer(1));
    assert!(start.elapsed() < Duration::from_millis(900), "the replica was asked");
    assert_eq!(client.line("WAIT 2 100"), Reply::Integer(1));
    assert_eq!(client.line("WAITAOF 1 0 3000"), Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]));
    assert!(client.line("WAIT 1 -1").is_error("ERR timeout is negative"));
    assert!(client.line("WAITAOF 2 0 0").is_error("ERR value is out of range, value must between 0 and 1"));
    replica.signal(Signal::SIGSTOP);
    // Others' writes are none of this client's business.
    let mut reader = primary.client();
    client.call(&["SET", "k", "2"]);
    assert_eq!(reader.line("WAIT 1 100"), Reply::Integer(1));
    assert_eq!(client.line("WAIT 1 100"), Reply::Integer(0));
    client.send(&["WAIT", "1", "0"]).expect("connected");
    wait_until("the client waits", || primary.info("blocked_clients") == "1");
    replica.signal(Signal::SIGCONT);
    assert_eq!(client.reply().expect("served"), Reply::Integer(1));
    assert_eq!(primary.info("blocked_clients"), "0");
}

#[test]
fn a_shutdown_waits_for_the_replica() {
    let mut primary = Server::start(&[]);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start_stock(&[]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    proxy.stall();
    primary.client().call(&["SET", "last", "words"]);
    primary.signal(Signal::SIGTERM);
    wait_until("the shutdown waits", || !primary.info("shutdown_in_milliseconds").is_empty());
    let mut writer = primary.client();
    writer.send(&["SET", "too", "late"]).expect("connected");
    wait_until("writes wait", || primary.info("blocked_clients") == "1");
    proxy.resume();
    assert!(primary.await_exit().success());
    assert_eq!(logged(&primary, "1 of 1 replicas are in sync when shutting down"), 1, "{}", primary.log());
    wait_until("the replica has it", || replica.client().call(&["GET", "last"]) == Reply::Bulk(b"words".to_vec()));
    assert_eq!(replica.client().call(&["GET", "too"]), Reply::Nil);
}

#[test]
fn a_shutdown_can_be_aborted() {
    let primary = Server::start(&[]);
    let replica = Server::start_stock(&[]);
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    replica.signal(Signal::SIGSTOP);
    let mut client = primary.client();
    client.call(&["INCR", "k"]);
    let mut asker = primary.client();
    asker.send(&["SHUTDOWN"]).expect("connected");
    wait_until("the asker waits", || primary.info("blocked_clients") == "1");
    assert!(client.call(&["SHUTDOWN", "ABORT"]).is_ok());
    assert!(asker.reply().expect("an answer").is_error("ERR Errors trying to SHUTDOWN. Check logs."));
    assert_eq!(client.call(&["INCR", "k"]), Reply::Integer(2));
    assert!(client.call(&["SHUTDOWN", "ABORT"]).is_error("ERR No shutdown in progress."));
    replica.signal(Signal::SIGCONT);
}

#[test]
fn failover_swaps_the_roles_without_a_full_sync() {
    let (first, second) = (Server::start(&[]), Server::start(&[]));
    replicaof(&second, first.port());
    wait_for_link(&second);
    let mut client = first.client();
    client.call(&["SET", "k", "1"]);
    wait_until("the second has it", || second.client().call(&["GET", "k"]) == Reply::Bulk(b"1".to_vec()));
    assert!(client.call(&["FAILOVER", "TO", "127.0.0.1", &second.port().to_string()]).is_ok());
    wait_until("the roles have changed", || second.info("role") == "master" && first.info("role") == "slave");
    wait_until("the failover is over", || first.info("master_failover_state") == "no-failover");
    wait_for_link(&first);
    assert!(client.call(&["SET", "k", "2"]).is_error("READONLY"));
    assert!(second.client().call(&["SET", "k", "3"]).is_ok());
    assert_same_data(&second, &first);
    assert_eq!((second.info("sync_partial_ok"), second.info("sync_full")), ("1".into(), "0".into()));

    // A replica that never catches up: the old state comes back.
    first.signal(Signal::SIGSTOP);
    let mut client = second.client();
    client.call(&["SET", "k", "4"]);
    assert!(client.call(&["FAILOVER", "TIMEOUT", "200"]).is_ok());
    assert_eq!(second.info("master_failover_state"), "waiting-for-sync");
    wait_until("it is given up", || second.info("master_failover_state") == "no-failover");
    assert!(client.call(&["SET", "k", "5"]).is_ok());
    first.signal(Signal::SIGCONT);
    assert_same_data(&second, &first);
}

#[test]
fn a_shutdown_may_hand_the_role_over() {
    let mut primary = Server::start(&["--failover-on-shutdown", "yes"]);
    let replica = Server::start(&[]);
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    primary.client().call(&["SET", "k", "v"]);
    assert!(primary.terminate().success());
    wait_until("the replica has the role", || replica.info("role") == "master");
    assert!(replica.client().call(&["APPEND", "k", "w"]) == Reply::Integer(2));
}

#[test]
fn the_backlog_is_as_long_as_set_and_ends_when_unused() {
    let primary = Server::start(&["--repl-backlog-size", "16kb", "--repl-backlog-ttl", "1"]);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start_stock(&[]);
    assert_eq!(primary.info("repl_backlog_active"), "0");
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    let mut client = primary.client();
    let value = "x".repeat(1000);
    let history = |server: &Server| server.info("repl_backlog_histlen").parse::<u64>().expect("a number");
    for n in 0..200 {
        client.call(&["SET", &format!("s:{n}"), &value]);
    }
    wait_until("the backlog is short again", || (16 << 10..48 << 10).contains(&history(&primary)));
    set(&primary, "repl-backlog-size", "1mb");
    proxy.refuse();
    for n in 0..200 {
        client.call(&["SET", &format!("s:{n}"), &value]);
    }
    proxy.admit();
    assert_same_data(&primary, &replica);
    assert_eq!((primary.info("sync_full"), primary.info("sync_partial_ok")), ("1".into(), "1".into()));
    let replid = primary.info("master_replid");
    drop(replica);
    wait_until("the backlog is freed", || primary.info("repl_backlog_active") == "0");
    assert_ne!(primary.info("master_replid"), replid);
}

#[test]
fn a_replica_over_its_output_limit_is_dropped_and_a_silent_one_too() {
    let limit = "replica 2mb 2mb 60";
    let primary = Server::start(&["--client-output-buffer-limit", limit, "--repl-backlog-size", "16kb"]);
    let mut client = primary.client();
    let mut wire = Wire::attach(&primary);
    let value = "x".repeat(1 << 20);
    wait_until("the replica is dropped", || {
        client.call(&["SET", "k", &value]);
        primary.info("connected_slaves") == "0"
    });
    assert!(primary.log().contains("overcoming of output buffer limits"), "{}", primary.log());
    while wire.fill() > 0 {
        wire.bytes.clear();
    }
    set(&primary, "repl-timeout", "2");
    let mut wire = Wire::to(&primary);
    wire.send("PSYNC ? -1");
    assert!(wire.line().starts_with("+FULLRESYNC "));
    wire.snapshot();
    wait_until("the silent one is dropped", || primary.info("connected_slaves") == "0");
    assert!(primary.log().contains("Disconnecting timedout replica (streaming sync)"), "{}", primary.log());
}
