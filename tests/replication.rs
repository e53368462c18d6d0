//! Replication with real servers: this one as the replica of a stock redis-server, and the drills that need a bad network.

mod support;

use std::time::Duration;
use support::dataset::{self, Writer};
use support::replication::{assert_same_data, replicaof, wait_for_link};
use support::{Client, Proxy, Reply, Server, wait_until};

/// A stock primary that begins full syncs at once.
fn stock_primary(args: &[&str]) -> Server {
    let delay = ["--repl-diskless-sync-delay", "0"];
    Server::start_stock(&[&delay, args].concat())
}

fn write(client: &mut Client, writer: &mut Writer, steps: usize) {
    for _ in 0..steps {
        writer.step(client).expect("the primary answers");
    }
}

/// Data of every type, some of it too big for packed encodings, and a function.
fn fill(client: &mut Client) {
    let mut writer = Writer::new(7);
    write(client, &mut writer, 2000);
    client.call(&["SELECT", "1"]);
    for part in 0..20 {
        let mut words = vec!["ZADD".to_owned(), "z:big".to_owned()];
        words.extend((0..200).flat_map(|n| [n.to_string(), format!("member:{part}:{n}")]));
        client.call(&words);
    }
    client.call(&["SELECT", "0"]);
    let library = "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 'yes' end, flags={'no-writes'}}";
    client.call(&["FUNCTION", "LOAD", "REPLACE", library]);
}

#[test]
fn a_full_sync_brings_every_type_and_the_stream_goes_on() {
    for (diskless_load, diskless_sync) in [("disabled", "yes"), ("disabled", "no"), ("swapdb", "yes"), ("swapdb", "no")]
    {
        let primary = stock_primary(&["--repl-diskless-sync", diskless_sync]);
        let mut client = primary.client();
        fill(&mut client);
        let replica = Server::start(&["--repl-diskless-load", diskless_load]);
        replica.client().call(&["SET", "of", "old"]);
        replicaof(&replica, primary.port());
        wait_for_link(&replica);
        let mut writer = Writer::new(8);
        write(&mut client, &mut writer, 2000);
        assert_same_data(&primary, &replica);
        assert_eq!(replica.client().call(&["FCALL", "f", "0"]).text(), "yes");
        assert_eq!(client.call(&["WAIT", "1", "5000"]), Reply::Integer(1), "acknowledged");
        assert_eq!(primary.info("sync_full"), "1");
        assert_eq!(replica.info("master_replid"), primary.info("master_replid"));
    }
}

#[test]
fn an_empty_replica_may_load_from_the_socket() {
    let primary = stock_primary(&[]);
    fill(&mut primary.client());
    let replica = Server::start(&["--repl-diskless-load", "on-empty-db"]);
    replicaof(&replica, primary.port());
    assert_same_data(&primary, &replica);
    assert!(replica.log().contains("with EOF to parser"), "{}", replica.log());
}

#[test]
fn a_replica_of_the_configuration_file_answers_as_one() {
    let primary = stock_primary(&["--requirepass", "secret"]);
    let port = primary.port().to_string();
    let mut client = primary.client();
    client.call(&["AUTH", "secret"]);
    client.call(&["SET", "k", "v"]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &port, "--masterauth", "secret"]);
    wait_for_link(&replica);
    let mut reader = replica.client();
    assert_eq!(reader.call(&["GET", "k"]).text(), "v");
    assert!(reader.call(&["SET", "k", "w"]).is_error("READONLY You can't write against a read only replica."));
    assert!(reader.call(&["MULTI"]).is_ok());
    assert!(reader.call(&["SET", "k", "w"]).is_error("READONLY"));
    assert!(reader.call(&["EXEC"]).is_error("EXECABORT"));
    let role = reader.call(&["ROLE"]);
    let role: Vec<String> = role
        .items()
        .iter()
        .take(4)
        .map(|item| match item {
            Reply::Integer(number) => number.to_string(),
            other => other.text(),
        })
        .collect();
    assert_eq!(role, ["slave", "127.0.0.1", &port, "connected"]);
    assert_eq!(replica.info("role"), "slave");
    assert_eq!(reader.call(&["CONFIG", "GET", "replicaof"]).items()[1].text(), format!("127.0.0.1 {port}"));
    let again = reader.call(&["REPLICAOF", "127.0.0.1", &port]);
    assert_eq!(again, Reply::Status("OK Already connected to specified master".into()));
    // A writable replica keeps what it writes to itself.
    assert!(reader.call(&["CONFIG", "SET", "replica-read-only", "no"]).is_ok());
    assert!(reader.call(&["SET", "own", "1"]).is_ok());
    assert_eq!(replica.info("slave_repl_offset"), replica.info("master_repl_offset"));
    client.call(&["SET", "k", "x"]);
    wait_until("the stream goes on", || replica.client().call(&["GET", "k"]).text() == "x");
}

#[test]
fn cut_links_continue_where_they_were() {
    let primary = stock_primary(&["--repl-backlog-size", "10mb"]);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&[]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    let mut client = primary.client();
    let mut writer = Writer::new(11);
    for round in 0..10 {
        // In the middle of whatever passes: a command, a transaction, a bulk header.
        proxy.cut_after(500 + 37 * round);
        write(&mut client, &mut writer, 100);
        wait_until("the link was cut and continued", || primary.info("sync_partial_ok") == (round + 1).to_string());
    }
    assert_same_data(&primary, &replica);
    assert_eq!(primary.info("sync_full"), "1", "{}", replica.log());
}

#[test]
fn a_silent_primary_is_given_up_and_found_again() {
    let primary = stock_primary(&["--repl-ping-replica-period", "1", "--repl-timeout", "5"]);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&["--repl-timeout", "2"]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    proxy.stall();
    wait_until("the link is given up", || replica.info("master_link_status") == "down");
    assert!(replica.log().contains("MASTER timeout: no data nor PING received..."), "{}", replica.log());
    primary.client().call(&["SET", "k", "v"]);
    proxy.resume();
    assert_same_data(&primary, &replica);
}

#[test]
fn with_swapdb_the_old_data_outlives_a_primary_that_dies_midway() {
    let primary = stock_primary(&["--rdb-key-save-delay", "100"]);
    let proxy = Proxy::start(primary.port());
    let mut client = primary.client();
    for n in 0..10_000 {
        client.call(&["SET", &format!("key:{n}"), &"x".repeat(100)]);
    }
    let replica = Server::start(&["--repl-diskless-load", "swapdb"]);
    let mut reader = replica.client();
    assert!(reader.call(&["SET", "of", "old"]).is_ok());
    proxy.cut_after(100_000);
    replicaof(&replica, proxy.port());
    wait_until("the load was broken off", || replica.log().contains("Discarding temporary DB in background"));
    proxy.refuse();
    wait_until("loading is over", || !reader.call(&["GET", "of"]).is_error("LOADING"));
    assert_eq!(reader.call(&["GET", "of"]).text(), "old");
    assert_eq!(reader.call(&["DBSIZE"]), Reply::Integer(1));
    client.call(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    proxy.admit();
    assert_same_data(&primary, &replica);
}

#[test]
fn a_snapshot_for_the_disk_that_breaks_off_costs_nothing() {
    let primary = stock_primary(&["--rdb-key-save-delay", "100"]);
    let proxy = Proxy::start(primary.port());
    let mut client = primary.client();
    for n in 0..10_000 {
        client.call(&["SET", &format!("key:{n}"), &"x".repeat(100)]);
    }
    let replica = Server::start(&[]);
    let mut reader = replica.client();
    assert!(reader.call(&["SET", "of", "old"]).is_ok());
    proxy.cut_after(100_000);
    replicaof(&replica, proxy.port());
    wait_until("the transfer was broken off", || replica.log().contains("I/O error trying to sync with MASTER"));
    proxy.refuse();
    assert_eq!(reader.call(&["GET", "of"]).text(), "old");
    let left = std::fs::read_dir(replica.dir()).expect("its directory").flatten();
    assert_eq!(left.filter(|entry| entry.file_name().to_string_lossy().starts_with("temp-")).count(), 0);
    client.call(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    proxy.admit();
    assert_same_data(&primary, &replica);
}

#[test]
fn expired_keys_are_hidden_but_stay_until_the_primary_deletes_them() {
    let primary = stock_primary(&[]);
    let replica = Server::start(&[]);
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    let mut client = primary.client();
    client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    client.call(&["SET", "k", "v", "PX", "100"]);
    wait_until("the key came", || replica.client().call(&["DBSIZE"]) == Reply::Integer(1));
    std::thread::sleep(Duration::from_millis(150));
    let mut reader = replica.client();
    assert_eq!(reader.call(&["GET", "k"]), Reply::Nil);
    assert_eq!(reader.call(&["DBSIZE"]), Reply::Integer(1), "hidden, not deleted");
    client.call(&["DEBUG", "SET-ACTIVE-EXPIRE", "1"]);
    wait_until("the primary's DEL came", || reader.call(&["DBSIZE"]) == Reply::Integer(0));
}

#[test]
fn stale_data_is_refused_where_the_setting_says_so() {
    let primary = stock_primary(&[]);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&["--replica-serve-stale-data", "no"]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    let mut reader = replica.client();
    assert_eq!(reader.call(&["GET", "k"]), Reply::Nil);
    proxy.refuse();
    wait_until("the link is down", || replica.info("master_link_status") == "down");
    let refused = reader.call(&["GET", "k"]);
    assert!(refused.is_error("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."));
    assert!(reader.call(&["MULTI"]).is_ok());
    assert_eq!(reader.call(&["PING"]), refused);
    assert!(reader.call(&["EXEC"]).is_error("EXECABORT"));
    assert!(!reader.call(&["INFO"]).is_error(""));
}

#[test]
fn blocked_clients_are_sent_away_when_the_role_changes() {
    let primary = stock_primary(&[]);
    let replica = Server::start(&[]);
    let mut blocked = replica.client();
    blocked.send(&["BLPOP", "q", "0"]).expect("sent");
    wait_until("it is blocked", || replica.info("blocked_clients") == "1");
    replicaof(&replica, primary.port());
    assert!(blocked.reply().expect("an answer").is_error("UNBLOCKED force unblock from blocking operation"));
    assert_eq!(blocked.rest().expect("closed"), b"");
}

/// What Sentinel sends to reconfigure a server.
#[test]
fn the_role_changes_within_a_transaction_and_is_written_down() {
    let primary = stock_primary(&[]);
    let replica = Server::start(&[]);
    let conf = replica.dir().join("redis.conf");
    std::fs::write(&conf, "# mine\n").expect("a file");
    let replica = Server::start(&[conf.to_str().expect("text")]);
    let mut sentinel = replica.client();
    let mut bystander = replica.client();
    assert!(bystander.call(&["PING"]).text() == "PONG");
    let port = primary.port().to_string();
    let transaction = |sentinel: &mut Client, slaveof: [&str; 3]| {
        sentinel.call(&["MULTI"]);
        sentinel.call(&slaveof);
        sentinel.line("CONFIG REWRITE");
        sentinel.line("CLIENT KILL TYPE normal");
        sentinel.line("CLIENT KILL TYPE pubsub");
        let done = sentinel.call(&["EXEC"]);
        assert!(done.items()[0].is_ok() && done.items()[1].is_ok(), "{done:?}");
    };
    transaction(&mut sentinel, ["SLAVEOF", "127.0.0.1", &port]);
    assert!(bystander.try_call(&["PING"]).is_err(), "normal clients are gone");
    let text = || std::fs::read_to_string(&conf).expect("the file");
    assert!(
        text().starts_with("# mine\n") && text().contains(&format!("\nreplicaof 127.0.0.1 {port}\n")),
        "{}",
        text()
    );
    wait_for_link(&replica);
    transaction(&mut replica.client(), ["SLAVEOF", "NO", "ONE"]);
    assert!(!text().contains("replicaof"), "{}", text());
    assert_eq!(replica.info("role"), "master");
    assert_eq!(replica.info("master_replid2"), primary.info("master_replid"));
    assert!(replica.client().call(&["SET", "k", "v"]).is_ok());
}

/// Restarted, a replica goes on where its RDB file ends, in the history that the file names.
#[test]
fn a_saved_replica_continues_after_a_restart() {
    let primary = stock_primary(&[]);
    let port = primary.port().to_string();
    let mut replica = Server::start(&["--replicaof", "127.0.0.1", &port]);
    wait_for_link(&replica);
    let mut client = primary.client();
    let mut writer = Writer::new(12);
    // Not in the first database: the file must say in which one the stream is.
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "before", "restart"]);
    wait_until("it is there", || primary.info("master_repl_offset") == replica.info("slave_repl_offset"));
    replica.client().try_call(&["SHUTDOWN", "SAVE"]).expect_err("it closes the connection");
    replica.await_exit();
    client.call(&["SET", "after", "restart"]);
    write(&mut client, &mut writer, 200);
    replica.restart();
    assert_same_data(&primary, &replica);
    assert_eq!(
        (primary.info("sync_full"), primary.info("sync_partial_ok")),
        ("1".into(), "1".into()),
        "{}",
        replica.log()
    );
}

/// The append-only file of a replica is its primary's stream, in the right database from its first byte on.
#[test]
fn a_replica_keeps_an_append_only_file() {
    let primary = stock_primary(&[]);
    let port = primary.port().to_string();
    let mut client = primary.client();
    client.call(&["SELECT", "2"]);
    client.call(&["SET", "base", "1"]);
    let mut replica = Server::start(&["--replicaof", "127.0.0.1", &port, "--appendonly", "yes"]);
    wait_for_link(&replica);
    let is_written = |replica: &Server| {
        replica.info("aof_rewrite_in_progress") == "0" && replica.info("aof_rewrite_scheduled") == "0"
    };
    wait_until("the base of the new data is written", || is_written(&replica));
    client.call(&["SET", "tail", "2"]);
    assert_same_data(&primary, &replica);
    assert!(!replica.client().call(&["BGREWRITEAOF"]).is_error(""));
    wait_until("the file is rewritten", || is_written(&replica));
    client.call(&["SET", "end", "3"]);
    client.call(&["PUBLISH", "channel", "not for the file"]);
    assert_same_data(&primary, &replica);
    // The primary is gone, so what comes back is what the file has.
    let expected = dataset::read(&mut primary.client());
    drop(primary);
    std::thread::sleep(Duration::from_millis(1200));
    replica.restart();
    assert_eq!(dataset::read(&mut replica.client()), expected);
    let parts = std::fs::read_dir(replica.dir().join("appendonlydir")).expect("its directory").flatten();
    let text: Vec<u8> = parts.flat_map(|part| std::fs::read(part.path()).unwrap_or_default()).collect();
    assert!(!String::from_utf8_lossy(&text).contains("not for the file"));
}

#[test]
fn a_writable_replica_deletes_what_its_own_clients_made_expire() {
    let primary = stock_primary(&[]);
    let replica = Server::start(&["--replica-read-only", "no"]);
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    let mut client = replica.client();
    assert!(client.call(&["SET", "own", "1", "PX", "100"]).is_ok());
    assert_eq!(replica.info("slave_expires_tracked_keys"), "1");
    wait_until("it is deleted", || replica.client().call(&["DBSIZE"]) == Reply::Integer(0));
    wait_until("and forgotten", || replica.info("slave_expires_tracked_keys") == "0");
}

/// A write that a promoted server takes goes to its replicas in the right database, whatever the old stream had selected.
#[test]
fn a_promoted_replica_begins_its_stream_with_select() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let (middle, last) = (Server::start(&["--repl-diskless-sync-delay", "0"]), Server::start(&[]));
    replicaof(&middle, primary.port());
    wait_for_link(&middle);
    replicaof(&last, middle.port());
    wait_for_link(&last);
    let mut client = primary.client();
    client.call(&["SELECT", "3"]);
    client.call(&["SET", "k", "of three"]);
    assert_same_data(&primary, &last);
    assert!(middle.client().call(&["REPLICAOF", "NO", "ONE"]).is_ok());
    assert!(middle.client().call(&["SET", "k", "of zero"]).is_ok());
    assert_same_data(&middle, &last);
    assert_eq!(middle.info("sync_full"), "1");
}

#[test]
fn a_busy_script_stops_the_stream_but_not_the_link() {
    let primary =
        Server::start(&["--repl-diskless-sync-delay", "0", "--repl-timeout", "2", "--repl-ping-replica-period", "1"]);
    let port = primary.port().to_string();
    let replica =
        Server::start(&["--replicaof", "127.0.0.1", &port, "--repl-timeout", "2", "--busy-reply-threshold", "1"]);
    wait_for_link(&replica);
    let mut client = primary.client();
    let mut script = replica.client();
    script.send(&["EVAL", "while true do end", "0"]).expect("it reads");
    let mut other = replica.client();
    wait_until("the script is busy", || other.call(&["PING"]).is_error("BUSY"));
    let before = primary.info("master_repl_offset").parse::<u64>().expect("a number");
    // Every shard is wanted, inside a transaction and out of it.
    for n in 0..2000 {
        client.call(&["SET", &format!("key:{n}"), "v"]);
    }
    client.call(&["MULTI"]);
    client.call(&["SELECT", "3"]);
    client.call(&["LPUSH", "list", "a", "b"]);
    client.call(&["EXEC"]);
    client.call(&["PUBLISH", "channel", "message"]);
    client.call(&["SELECT", "5"]);
    client.call(&["SET", "key", "v"]);
    // Far longer than repl-timeout: both ends hear of each other all the same.
    std::thread::sleep(Duration::from_secs(5));
    assert!(other.call(&["GET", "key:1"]).is_error("BUSY"));
    let slave = primary.info("slave0");
    let field = |name: &str| slave.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    assert_eq!(field("state"), Some("online"), "{slave}");
    assert!(matches!(field("lag"), Some("0" | "1")), "{slave}");
    assert!(
        field("offset").and_then(|offset| offset.parse::<u64>().ok()).is_some_and(|at| at <= before + 100),
        "{slave}"
    );
    assert!(other.call(&["SCRIPT", "KILL"]).is_ok());
    assert!(script.reply().expect("an answer").is_error("ERR"), "killed");
    assert_same_data(&primary, &replica);
    assert_eq!((primary.info("sync_full").as_str(), primary.info("sync_partial_ok").as_str()), ("1", "0"));
}

#[test]
fn a_full_sync_waits_for_a_busy_script() {
    for (load, library) in [("disabled", false), ("swapdb", true)] {
        let primary = Server::start(&["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16kb"]);
        let port = primary.port().to_string();
        let options = ["--repl-diskless-load", load, "--busy-reply-threshold", "1"];
        let replica = Server::start(&[&["--replicaof", "127.0.0.1", &port][..], &options].concat());
        let mut client = primary.client();
        let function = "#!lua name=lib\nredis.register_function{function_name='f', callback=function() while true do end end, flags={'no-writes'}}";
        assert_eq!(client.call(&["FUNCTION", "LOAD", function]).text(), "lib");
        assert_same_data(&primary, &replica);
        let mut script = replica.client();
        let (start, end): (&[&str], [&str; 2]) = match library {
            true => (&["FCALL_RO", "f", "0"], ["FUNCTION", "KILL"]),
            false => (&["EVAL", "while true do end", "0"], ["SCRIPT", "KILL"]),
        };
        script.send(start).expect("it reads");
        let mut other = replica.client();
        wait_until("the script is busy", || other.call(&["PING"]).is_error("BUSY"));
        client.call(&["MULTI"]);
        client.call(&["CLIENT", "KILL", "TYPE", "replica"]);
        for n in 0..5 {
            client.call(&["SET", &format!("big:{n}"), &"x".repeat(1 << 20)]);
        }
        client.call(&["EXEC"]);
        wait_until("a full sync begins", || primary.info("sync_full") == "2");
        std::thread::sleep(Duration::from_millis(500));
        assert!(other.call(&["PING"]).is_error("BUSY"), "the script runs on");
        assert!(other.call(&end).is_ok());
        assert!(matches!(script.reply().expect("an answer"), Reply::Error(_)), "killed");
        assert_same_data(&primary, &replica);
        assert_eq!(replica.client().call(&["DBSIZE"]), Reply::Integer(5));
    }
}
