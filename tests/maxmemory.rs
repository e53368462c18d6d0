//! Memory limits: keys go only for what keys and clients really hold, not for what is leaving or on its way to a replica or a file.

mod support;

use std::time::{Duration, Instant};
use support::replication::{replicaof, wait_for_link};
use support::{Client, Reply, Server};

fn figure(server: &Server, field: &str) -> i64 {
    server.info(field).parse().unwrap_or_else(|_| panic!("{field} is no number"))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// With 100 KB to spare, also in a database that nobody has used before, keys must not be crowded out by what holds them.
#[test]
fn a_small_limit_is_for_keys() {
    for policy in ["allkeys-random", "allkeys-lru", "volatile-ttl"] {
        let server = Server::start(&[]);
        let mut client = server.client();
        client.line("SELECT 9");
        let limit = figure(&server, "used_memory") + 100 * 1024;
        client.line(&format!("CONFIG SET maxmemory {limit} maxmemory-policy {policy}"));
        for number in 0..2000 {
            let reply = client.call(&["SETEX", &format!("key:{number}"), "10000", "x"]);
            assert!(reply.is_ok(), "{policy}, key {number}: {reply:?}");
        }
        let keys = client.line("DBSIZE").integer();
        assert!(keys > 400, "{policy}: {keys} keys");
        assert!(figure(&server, "evicted_keys") > 0, "{policy}");
        // The connections that asked for figures count until their worker has noticed that they are gone.
        let above = || figure(&server, "used_memory") - limit;
        support::wait_until(&format!("{policy}: the limit is kept"), || above() < 8192);
    }
}

/// Clients that do not read go before keys do, and what the killed still hold costs no key either.
#[test]
fn clients_go_before_keys() {
    let server = Server::start(&["--io-threads", "2"]);
    let mut control = server.client();
    control.line("CLIENT NO-EVICT ON");
    control.line("CONFIG SET maxmemory 11mb maxmemory-policy allkeys-lru maxmemory-clients 3mb");
    for number in 0..50 {
        control.call(&["SETRANGE", &format!("key:{number}"), "100000", "x"]);
    }
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    let start = Instant::now();
    while figure(&server, "evicted_clients") < 10 {
        assert!(start.elapsed() < Duration::from_secs(20), "clients are not evicted");
        // Whoever was evicted refuses what is sent.
        clients.retain_mut(|client| client.send(&["MGET", "key:1"]).is_ok());
    }
    assert_eq!(figure(&server, "evicted_keys"), 0);
    assert_eq!(control.line("DBSIZE").integer(), 50);
    // Nothing of the dead stays in the sum: newcomers are not evicted for it.
    drop(clients);
    let mut newcomer = server.client();
    for _ in 0..10 {
        assert_eq!(newcomer.call(&["GET", "key:1"]).text().len(), 100_001);
    }
}

/// A replica that does not read makes the primary keep the stream, which is no reason to evict.
#[test]
fn a_stopped_replica_costs_no_keys() {
    let primary = Server::start(&["--repl-backlog-size", "16kb", "--maxmemory-policy", "allkeys-random"]);
    let replica = Server::start(&[]);
    let mut writer = primary.client();
    for number in 0..50 {
        writer.call(&["SETRANGE", &format!("key:{number}"), "100000", "x"]);
    }
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    let limit = figure(&primary, "used_memory") - figure(&primary, "mem_not_counted_for_evict") + 64 * 1024;
    writer.line(&format!("CONFIG SET maxmemory {limit}"));
    replica.signal(nix::sys::signal::Signal::SIGSTOP);
    let value = "A".repeat(1000);
    for _ in 0..20_000 {
        let reply = writer.call(&["SETRANGE", "key:0", "0", &value]);
        assert_eq!(reply, Reply::Integer(100_001));
    }
    assert_eq!(writer.line("DBSIZE").integer(), 50);
    assert!(figure(&primary, "mem_clients_slaves") > 2 << 20);
    assert!(figure(&primary, "mem_not_counted_for_evict") > 2 << 20);
    writer.line("CLIENT KILL TYPE replica");
    assert_eq!(figure(&primary, "mem_clients_slaves"), 0);
    replica.signal(nix::sys::signal::Signal::SIGCONT);
}

/// What the append-only file has yet to take is told, not counted, and gone before the replies: INFO sees it only at the end of the very
/// batch that has written it.
#[test]
fn what_waits_for_the_file_is_told() {
    let server = Server::start(&["--appendonly", "yes"]);
    let mut client = server.client();
    let mut batch = Vec::new();
    for number in 0..300 {
        batch.extend(support::client::request(&["SET", &format!("key:{number}"), &"v".repeat(100)]));
    }
    batch.extend(support::client::request(&["INFO", "everything"]));
    client.write(&batch).expect("sent");
    (0..300).for_each(|_| assert!(client.reply().expect("a reply").is_ok()));
    let told = client.reply().expect("INFO").text();
    for field in ["aof_buffer_length", "mem_aof_buffer", "mem_not_counted_for_evict"] {
        let value = told.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect(field);
        assert!(value.parse::<i64>().is_ok_and(|bytes| bytes > 0), "{field}: {value}");
    }
    assert_eq!(figure(&server, "aof_buffer_length"), 0, "what is answered is in the file");
    client.line("CONFIG SET appendonly no");
    assert_eq!(figure(&server, "mem_aof_buffer"), 0);
}

/// A long command leaves no room behind on the replica that it passes through, and is seen in the rates of both ends.
#[test]
fn a_replica_keeps_the_data_and_no_more() {
    let (primary, replica) = (Server::start(&[]), Server::start(&[]));
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    primary.client().call(&["SET", "big", &"v".repeat(32 << 20)]);
    until("the value arrives", || replica.client().line("DBSIZE").integer() == 1);
    let rate = |server: &Server, field: &str| server.info(field).parse::<f64>().expect("a rate");
    until("both ends tell", || {
        rate(&primary, "instantaneous_output_repl_kbps") > 100.0
            && rate(&replica, "instantaneous_input_repl_kbps") > 100.0
    });
    until("its room is given back", || figure(&replica, "used_memory") < figure(&primary, "used_memory") + (10 << 20));
}

/// What writers save ahead of a slow snapshot waits in memory, as much as the data itself at worst. Deletions go there too: if it
/// counted, they would make room for nothing until no key was left.
#[test]
fn a_slow_snapshot_costs_no_keys() {
    const KEYS: i64 = 2000;
    for rewrite in [false, true] {
        let server = Server::start(&["--maxmemory-policy", "allkeys-random", "--rdbcompression", "no"]);
        let mut client = server.client();
        for number in 0..KEYS {
            client.call(&["SETRANGE", &format!("key:{number}"), "9999", "x"]);
        }
        // Minutes per key: it goes on when that is taken back.
        client.line("CONFIG SET rdb-key-save-delay 1000000000");
        let in_progress = if rewrite { "aof_rewrite_in_progress" } else { "rdb_bgsave_in_progress" };
        client.line(if rewrite { "BGREWRITEAOF" } else { "BGSAVE" });
        until("it runs", || figure(&server, in_progress) == 1);
        let limit = figure(&server, "used_memory") + (2 << 20);
        client.line(&format!("CONFIG SET maxmemory {limit}"));
        for number in 0..KEYS {
            assert_eq!(client.call(&["SETRANGE", &format!("key:{number}"), "0", "y"]), Reply::Integer(10_000));
        }
        assert!(figure(&server, "mem_not_counted_for_evict") > 15 << 20, "nothing was saved ahead");
        assert!(figure(&server, "used_memory") > limit + (10 << 20));
        // The limit itself still stands.
        for number in 0..400 {
            client.call(&["SETRANGE", &format!("more:{number}"), "9999", "x"]);
        }
        let evicted = figure(&server, "evicted_keys");
        assert!((150..400).contains(&evicted), "{evicted} keys evicted for 4 MB where there was room for 2");
        // What is on its way to the file counts as little as what waits.
        client.line("CONFIG SET rdb-key-save-delay 0");
        while figure(&server, in_progress) == 1 {
            client.call(&["SETRANGE", "key:1", "0", "y"]);
        }
        assert!(figure(&server, "evicted_keys") <= evicted + 1, "{} after {evicted}", server.info("evicted_keys"));
        assert!(figure(&server, "mem_not_counted_for_evict") < 1 << 20);
    }
}
