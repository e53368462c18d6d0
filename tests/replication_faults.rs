//! Faults in replication: primaries that fall silent or lie at every stage, disks that refuse, links that end in the wrong moment.
//! Whatever happens, the old data outlives it, the role can be changed, and the replica finds its way back.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::replication::{assert_same_data, replicaof, wait_for_link};
use support::{Client, Proxy, Reply, Server, wait_until};

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";
const MARK: &str = "abcdefghijabcdefghijabcdefghijabcdefghij";

/// Where a primary falls silent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Accepted,
    Greeted,
    Introduced,
    Verdict,
    /// In the middle of a snapshot whose size is known.
    Bulk,
    /// In the middle of one that ends with a mark.
    Marked,
}

const STAGES: [Stage; 6] =
    [Stage::Accepted, Stage::Greeted, Stage::Introduced, Stage::Verdict, Stage::Bulk, Stage::Marked];

/// A primary that goes along as far as it is told to.
struct Script {
    listener: TcpListener,
}

impl Script {
    fn new() -> Self {
        Script { listener: TcpListener::bind("127.0.0.1:0").expect("a free port") }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().expect("bound").port()
    }

    /// The next link of the replica, taken as far as a stage.
    fn accept(&self, stage: Stage) -> BufReader<TcpStream> {
        let (link, _) = self.listener.accept().expect("the replica connects");
        link.set_read_timeout(Some(Duration::from_secs(8))).expect("a timeout above zero");
        let mut link = BufReader::new(link);
        if stage == Stage::Accepted {
            return link;
        }
        assert_eq!(command(&mut link), ["PING"]);
        say(&link, b"+PONG\r\n");
        if stage == Stage::Greeted {
            return link;
        }
        while command(&mut link)[1] != "capa" {
            say(&link, b"+OK\r\n");
        }
        say(&link, b"+OK\r\n");
        if stage == Stage::Introduced {
            return link;
        }
        assert_eq!(command(&mut link)[0], "PSYNC");
        say(&link, format!("+FULLRESYNC {REPLID} 0\r\n").as_bytes());
        match stage {
            Stage::Bulk => say(&link, b"$1000000\r\nREDIS0010"),
            Stage::Marked => say(&link, format!("$EOF:{MARK}\r\nREDIS0010").as_bytes()),
            Stage::Accepted | Stage::Greeted | Stage::Introduced | Stage::Verdict => {}
        }
        link
    }
}

fn say(link: &BufReader<TcpStream>, bytes: &[u8]) {
    link.get_ref().write_all(bytes).expect("the replica reads");
}

/// One command of the replica.
fn command(link: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut line = || {
        let mut line = String::new();
        link.read_line(&mut line).expect("a line of the replica");
        line.trim_end().to_owned()
    };
    let header = line();
    let words = header.strip_prefix('*').and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{header:?}"));
    (0..words)
        .map(|_| {
            line();
            line()
        })
        .collect()
}

/// Waits until the replica has closed a link; what it still says (newlines) does not matter.
fn await_end(mut link: BufReader<TcpStream>) {
    let (mut bytes, deadline) = ([0; 1024], Instant::now() + Duration::from_secs(10));
    loop {
        match link.read(&mut bytes) {
            Ok(0) => return,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Ok(_) => assert!(Instant::now() < deadline, "the replica keeps the link"),
            Err(error) => panic!("the replica keeps the link: {error}"),
        }
    }
}

fn temporary_files(server: &Server) -> usize {
    let entries = fs::read_dir(server.dir()).expect("its directory").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("temp-")).count()
}

#[test]
fn the_role_can_be_changed_at_every_stage_of_a_handshake() {
    for stage in STAGES {
        let script = Script::new();
        let replica = Server::start(&[]);
        let mut client = replica.client();
        client.line("SET of old");
        replicaof(&replica, script.port());
        let link = script.accept(stage);
        if stage == Stage::Bulk || stage == Stage::Marked {
            wait_until("the file has begun", || temporary_files(&replica) == 1);
        }
        let begun = Instant::now();
        assert!(client.line("REPLICAOF NO ONE").is_ok(), "{stage:?}");
        await_end(link);
        assert!(begun.elapsed() < Duration::from_secs(3), "{stage:?}: the link must not outlive the role");
        assert_eq!(replica.info("role"), "master");
        assert!(client.line("SET k v").is_ok());
        assert_eq!(client.line("GET of").text(), "old");
        wait_until("nothing is left behind", || temporary_files(&replica) == 0);
    }
}

#[test]
fn a_primary_that_falls_silent_is_given_up_at_every_stage() {
    std::thread::scope(|scope| {
        for (stage, swapdb) in STAGES.map(|stage| (stage, false)).into_iter().chain([(Stage::Marked, true)]) {
            scope.spawn(move || {
                let script = Script::new();
                let load = if swapdb { "swapdb" } else { "disabled" };
                let replica = Server::start(&["--repl-timeout", "2", "--repl-diskless-load", load]);
                replica.client().line("SET of old");
                replicaof(&replica, script.port());
                await_end(script.accept(stage));
                // And tried again.
                let link = script.accept(Stage::Accepted);
                assert_eq!(replica.info("master_link_status"), "down");
                wait_until(
                    "the old data is served",
                    || matches!(replica.client().line("GET of"), Reply::Bulk(value) if value == b"old"),
                );
                assert_eq!(temporary_files(&replica), 0, "{stage:?}");
                drop(link);
            });
        }
    });
}

#[test]
fn a_password_that_is_wrong_is_reported_and_can_be_corrected() {
    let primary = Server::start_stock(&["--requirepass", "secret", "--repl-diskless-sync-delay", "0"]);
    let replica = Server::start(&["--masterauth", "wrong"]);
    replicaof(&replica, primary.port());
    wait_until("the refusal is logged", || replica.log().contains("Unable to AUTH to MASTER: -WRONGPASS"));
    assert_eq!(replica.info("master_link_status"), "down");
    assert!(replica.client().line("CONFIG SET masterauth secret").is_ok());
    wait_for_link(&replica);
}

/// A snapshot that turns out to be incomplete at its very end changes neither the data nor the functions.
#[test]
fn a_wrong_mark_changes_nothing() {
    let library = |answer: &str| {
        format!(
            "#!lua name=lib\nredis.register_function{{function_name='f', callback=function() return '{answer}' end, flags={{'no-writes'}}}}"
        )
    };
    let source = Server::start(&[]);
    source.client().line("SET k new");
    source.client().call(&["FUNCTION", "LOAD", &library("new")]);
    assert!(source.client().line("SAVE").is_ok());
    let snapshot = fs::read(source.dir().join("dump.rdb")).expect("saved");

    let script = Script::new();
    let replica = Server::start(&["--repl-diskless-load", "swapdb"]);
    let mut client = replica.client();
    client.line("SET k old");
    client.call(&["FUNCTION", "LOAD", &library("old")]);
    replicaof(&replica, script.port());
    let link = script.accept(Stage::Verdict);
    say(&link, format!("$EOF:{MARK}\r\n").as_bytes());
    say(&link, &snapshot);
    say(&link, REPLID.as_bytes());
    wait_until("the mark is missed", || replica.log().contains("Replication stream EOF marker is broken"));
    await_end(link);
    wait_until("loading is over", || !client.line("GET k").is_error("LOADING"));
    assert_eq!(client.line("GET k").text(), "old");
    assert_eq!(client.line("FCALL f 0").text(), "old");
    assert_eq!(replica.info("master_link_status"), "down");
}

/// Who sends a replica away and writes on relies on the backlog's being as long as it is set: the replica may be back before its old
/// connection has let go of what was kept for it.
#[test]
fn a_replica_that_was_sent_away_finds_what_the_backlog_keeps() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::start(&["--repl-diskless-load", "swapdb", "--replica-read-only", "no"]);
    let (mut client, mut reader) = (primary.client(), replica.client());
    client.line("DEBUG POPULATE 500 key 1000");
    replicaof(&replica, primary.port());
    wait_for_link(&replica);
    let rounds = 60;
    for _ in 0..rounds {
        client.line("CONFIG SET repl-backlog-size 1mb");
        assert!(reader.line("SET only here").is_ok());
        client.line("MULTI");
        client.line("CLIENT KILL TYPE replica");
        client.line("CONFIG SET repl-backlog-size 16384");
        for n in 0..10 {
            client.call(&["SET", &format!("big:{n}"), &"A".repeat(16384)]);
        }
        client.line("EXEC");
        wait_until("everything was sent anew", || reader.line("GET only") == Reply::Nil);
        wait_for_link(&replica);
    }
    assert_eq!(primary.info("sync_full"), (rounds + 1).to_string());
    assert_same_data(&primary, &replica);
}

/// Whoever asks is told that the link is down once its primary has left, or somebody has killed it, even if the link's own thread
/// has not got to it yet.
#[test]
fn a_link_that_has_ended_is_not_reported_as_up() {
    let source = Server::start(&[]);
    assert!(source.client().line("SAVE").is_ok());
    let snapshot = fs::read(source.dir().join("dump.rdb")).expect("saved");
    let script = Script::new();
    let replica = Server::start(&[]);
    let mut client = replica.client();
    replicaof(&replica, script.port());
    let link_up = || {
        let link = script.accept(Stage::Verdict);
        say(&link, format!("${}\r\n", snapshot.len()).as_bytes());
        say(&link, &snapshot);
        wait_for_link(&replica);
        link
    };
    let status_within = |client: &mut Client, commands: [&str; 2]| {
        for line in ["MULTI"].into_iter().chain(commands) {
            client.line(line);
        }
        client.send(&["EXEC"]).expect("sent");
    };
    let answer = |client: &mut Client| client.reply().expect("an answer").items()[1].text();
    // Within the transaction the link's thread can do nothing about it.
    let link = link_up();
    status_within(&mut client, ["CLIENT KILL TYPE master", "INFO replication"]);
    let info = answer(&mut client);
    assert!(info.contains("master_link_status:down"), "{info}");
    await_end(link);
    let link = link_up();
    status_within(&mut client, ["DEBUG SLEEP 1", "INFO replication"]);
    std::thread::sleep(Duration::from_millis(200));
    // This is what the thread waits with for the transaction to end.
    say(&link, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    std::thread::sleep(Duration::from_millis(200));
    link.get_ref().shutdown(Shutdown::Write).expect("connected");
    let info = answer(&mut client);
    assert!(info.contains("master_link_status:down"), "{info}");
    wait_until("the last write has come", || client.line("GET k") != Reply::Nil);
}

#[test]
fn nobody_can_be_his_own_primary() {
    let (left, right) = (Server::start(&[]), Server::start(&[]));
    left.client().line("SET k left");
    right.client().line("SET k right");
    replicaof(&left, left.port());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(left.info("master_link_status"), "down");
    assert!(left.log().contains("NOMASTERLINK"), "{}", left.log());
    // And in a circle.
    replicaof(&left, right.port());
    replicaof(&right, left.port());
    std::thread::sleep(Duration::from_millis(1500));
    for (server, data) in [(&left, ["left", "right"]), (&right, ["right", "left"])] {
        let mut client = server.client();
        assert!(client.line("SET k v").is_error("READONLY"));
        assert!(data.contains(&client.line("GET k").text().as_str()));
        assert!(client.line("REPLICAOF NO ONE").is_ok());
        assert!(client.line("SET k v").is_ok());
    }
    assert!(!left.log().contains("CRITICAL") && !right.log().contains("CRITICAL"));
}

#[test]
fn nonsense_in_acknowledgements_is_ignored() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let mut link = primary.client();
    for line in ["REPLCONF listening-port 1", "REPLCONF capa eof capa psync2"] {
        assert!(link.line(line).is_ok());
    }
    link.send(&["PSYNC", "?", "-1"]).expect("sent");
    wait_until("the snapshot was sent", || primary.info("slave0").contains("state=online"));
    for ack in ["abc", "", "-7", "99999999999999999999", "1e3"] {
        link.send(&["REPLCONF", "ACK", ack]).expect("the link lives");
        link.send(&["REPLCONF", "ACK", ack, "FACK", ack]).expect("the link lives");
    }
    link.send(&["REPLCONF", "ACK", "0"]).expect("the link lives");
    let mut client = primary.client();
    client.line("SET behind nonsense");
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !String::from_utf8_lossy(&seen).contains("nonsense") {
        assert!(Instant::now() < deadline, "the stream has ended\n{}", primary.log());
        let mut piece = [0; 4096];
        let len = link.stream().read(&mut piece).expect("the link lives");
        assert!(len > 0, "the link was closed\n{}", primary.log());
        seen.extend_from_slice(&piece[..len]);
    }
    assert_eq!(client.line("WAIT 1 100"), Reply::Integer(0), "nothing was acknowledged");
    assert!(!primary.log().contains("CRITICAL"), "{}", primary.log());
}

#[test]
fn an_old_primary_with_writes_of_its_own_needs_everything() {
    for diverges in [true, false] {
        let quiet = ["--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"];
        let (old, new) = (Server::start(&quiet), Server::start(&quiet));
        let proxy = Proxy::start(old.port());
        old.client().line("SET shared 1");
        replicaof(&new, proxy.port());
        assert_same_data(&old, &new);
        proxy.refuse();
        wait_until("the link is down", || new.info("master_link_status") == "down");
        if diverges {
            old.client().line("SET only:old 1");
        }
        assert!(new.client().line("REPLICAOF NO ONE").is_ok());
        new.client().line("SET only:new 1");
        replicaof(&old, new.port());
        assert_same_data(&new, &old);
        let counts = (new.info("sync_full"), new.info("sync_partial_ok"));
        let expected = if diverges { ("1", "0") } else { ("0", "1") };
        assert_eq!((counts.0.as_str(), counts.1.as_str()), expected, "{}", new.log());
        assert_eq!(old.client().line("GET only:old"), Reply::Nil);
        assert_eq!(old.client().line("GET only:new").text(), "1");
    }
}

#[test]
fn an_output_limit_that_is_hit_during_a_full_sync_ends_it() {
    let primary = Server::start(&[
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "16kb",
        "--client-output-buffer-limit",
        "replica 2mb 0 0",
        "--rdb-key-save-delay",
        "2000",
    ]);
    let mut client = primary.client();
    client.line("DEBUG POPULATE 2000 key 100");
    let replica = Server::start(&[]);
    replica.client().line("SET of old");
    replicaof(&replica, primary.port());
    wait_until("the snapshot has begun", || primary.log().contains("Background RDB transfer started"));
    for n in 0..100 {
        client.call(&["SET", &format!("big:{n}"), &"x".repeat(100_000)]);
    }
    wait_until("the replica is dropped", || primary.log().contains("overcoming of output buffer limits"));
    assert_eq!(replica.client().line("GET of").text(), "old");
    client.line("CONFIG SET rdb-key-save-delay 0");
    assert_same_data(&primary, &replica);
    assert_eq!(temporary_files(&replica), 0);
}

#[test]
fn a_disk_that_refuses_the_snapshot_costs_nothing() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    primary.client().line("DEBUG POPULATE 1000 key 100");
    let replica = Server::start(&[]);
    replica.client().line("SET of old");
    // In the way of the file, whoever runs the test.
    let obstacle = replica.dir().join("dump.rdb");
    fs::create_dir(&obstacle).expect("a directory");
    replicaof(&replica, primary.port());
    wait_until("the failure is logged", || replica.log().contains("Failed trying to rename the temp DB into dump.rdb"));
    assert_eq!(replica.client().line("GET of").text(), "old");
    assert_eq!(replica.info("master_link_status"), "down");
    fs::remove_dir(&obstacle).expect("empty");
    assert_same_data(&primary, &replica);
    assert_eq!(temporary_files(&replica), 0);
}

#[test]
fn a_snapshot_that_cannot_be_kept_is_asked_for_ever_more_rarely() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    primary.client().line("SET k v");
    let replica = Server::start(&[]);
    // The name of the file is taken by something that no file can replace.
    let obstacle = replica.dir().join("dump.rdb");
    fs::create_dir(&obstacle).expect("an empty directory");
    replicaof(&replica, primary.port());
    let failures = || replica.log().matches("Failed trying to rename the temp DB").count();
    let begun = Instant::now();
    wait_until("it has failed three times", || failures() >= 3);
    assert!(begun.elapsed() > Duration::from_secs(2), "a pause of one second, then one of two");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(failures(), 3, "the next pause is one of four");
    fs::remove_dir(&obstacle).expect("it is empty");
    assert_same_data(&primary, &replica);
    // What went well is forgotten: a link that is lost comes back at once.
    let begun = Instant::now();
    primary.client().line("CLIENT KILL TYPE replica");
    assert_same_data(&primary, &replica);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
