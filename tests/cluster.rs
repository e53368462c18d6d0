//! Redis Cluster: our nodes among themselves and beside stock ones, driven the way operators and cluster clients drive them.

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};
use support::server::free_port;
use support::{Client, Reply, Server};

const SLOTS: u16 = 16384;

/// A node and the port of its bus.
struct Node {
    server: Server,
    bus: u16,
    id: String,
}

fn start(make: impl Fn(&[&str]) -> Server) -> Node {
    let bus = free_port();
    let server = make(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus.to_string(),
        "--cluster-node-timeout",
        "1500",
        "--cluster-replica-validity-factor",
        "0",
        "--repl-diskless-sync-delay",
        "0",
    ]);
    let id = server.client().line("CLUSTER MYID").text();
    Node { server, bus, id }
}

fn ours() -> Node {
    start(Server::start)
}

fn stock() -> Node {
    start(Server::start_stock)
}

/// Waits for something that takes nodes some seconds to find out.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Node {
    fn call(&self, line: &str) -> Reply {
        self.server.client().line(line)
    }

    fn ok(&self, line: &str) {
        let reply = self.call(line);
        assert!(reply.is_ok(), "{line}: {reply:?}\n{}", self.server.log());
    }

    fn info(&self, field: &str) -> String {
        let text = self.call("CLUSTER INFO").text();
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")).map(str::to_owned));
        found.unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    /// The fields of the line of CLUSTER NODES about another.
    fn line_of(&self, id: &str) -> Vec<String> {
        let text = self.call("CLUSTER NODES").text();
        let line = text.lines().find(|line| line.starts_with(id));
        line.map(|line| line.split(' ').map(str::to_owned).collect()).unwrap_or_default()
    }

    fn meets(&self, other: &Node) {
        self.ok(&format!("CLUSTER MEET 127.0.0.1 {} {}", other.server.port(), other.bus));
    }
}

/// Who serves what, as one node sees it; equal for all when they agree.
fn signature(node: &Node) -> String {
    let text = node.call("CLUSTER NODES").text();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("handshake"))
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            format!(
                "{} {} {}",
                fields[0],
                fields[3],
                fields[8..]
                    .iter()
                    .filter(|slot| !slot.starts_with('['))
                    .map(|slot| slot.to_string())
                    .collect::<Vec<_>>()
                    .join(",")
            )
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

fn agree(nodes: &[Node]) -> bool {
    let first = signature(&nodes[0]);
    nodes.iter().all(|node| node.info("cluster_state") == "ok" && signature(node) == first)
        && first.lines().count() == nodes.len()
}

/// Primaries with equal shares, then replicas dealt out.
fn form(nodes: &[Node], primaries: usize) {
    let each = SLOTS / primaries as u16;
    for (index, node) in nodes.iter().enumerate() {
        if index < primaries {
            let first = index as u16 * each;
            let last = if index + 1 == primaries { SLOTS - 1 } else { first + each - 1 };
            node.ok(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        node.ok(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1));
        if index > 0 {
            nodes[0].meets(node);
        }
    }
    let count = nodes.len().to_string();
    wait_until("all have met", || {
        nodes.iter().all(|node| {
            node.info("cluster_known_nodes") == count && !node.call("CLUSTER NODES").text().contains("handshake")
        })
    });
    for (index, node) in nodes.iter().enumerate().skip(primaries) {
        let primary = &nodes[index % primaries].id;
        wait_until("the primary is known", || !node.line_of(primary).is_empty());
        node.ok(&format!("CLUSTER REPLICATE {primary}"));
    }
    wait_until("the cluster stands", || agree(nodes));
    for node in &nodes[primaries..] {
        wait_until("the replica is in sync", || node.server.info("master_link_status") == "up");
    }
}

/// One node with every slot.
fn alone() -> Node {
    let node = ours();
    node.ok("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_until("it serves", || node.info("cluster_state") == "ok");
    node
}

/// A client that goes where it is sent, as cluster clients do.
struct Walker {
    ports: Vec<u16>,
    clients: HashMap<u16, Client>,
}

impl Walker {
    fn new(nodes: &[Node]) -> Walker {
        Walker { ports: nodes.iter().map(|node| node.server.port()).collect(), clients: HashMap::new() }
    }

    fn at(&mut self, port: u16, argv: &[&str]) -> Option<Reply> {
        let mut client = self.clients.remove(&port).or_else(|| Client::connect(port).ok())?;
        let reply = client.try_call(argv);
        if reply.is_ok() {
            self.clients.insert(port, client);
        }
        reply.ok()
    }

    /// Nothing if no node answers now.
    fn call(&mut self, argv: &[&str]) -> Option<Reply> {
        for start in self.ports.clone() {
            let (mut port, mut asking) = (start, false);
            for _ in 0..5 {
                if asking {
                    self.at(port, &["ASKING"])?;
                }
                let Some(reply) = self.at(port, argv) else { break };
                let Reply::Error(text) = &reply else { return Some(reply) };
                let words: Vec<&str> = text.split([' ', ':']).collect();
                match words[0] {
                    "MOVED" | "ASK" => {
                        port = words[words.len() - 1].parse().expect("a port");
                        asking = words[0] == "ASK";
                    }
                    _ => break,
                }
            }
        }
        None
    }
}

#[test]
fn one_node_keeps_the_rules_of_keys_and_slots() {
    let node = alone();
    let mut client = node.server.client();
    assert_eq!(client.line("CLUSTER KEYSLOT foo"), Reply::Integer(12182));
    assert_eq!(client.line("CLUSTER KEYSLOT {foo}bar"), Reply::Integer(12182));
    assert!(client.line("MSET a 1 b 2").is_error("CROSSSLOT Keys in request don't hash to the same slot"));
    assert!(client.line("MSET {t}a 1 {t}b 2").is_ok());
    assert!(client.line("SELECT 1").is_error("ERR SELECT is not allowed in cluster mode"));
    assert!(client.line("SELECT 0").is_ok());
    assert!(client.line("MOVE {t}a 1").is_error("ERR MOVE is not allowed in cluster mode"));
    assert!(client.line("REPLICAOF 127.0.0.1 1").is_error("ERR REPLICAOF not allowed in cluster mode"));
    // A transaction is judged as a whole, and one bad command spoils it.
    assert!(client.line("MULTI").is_ok());
    assert_eq!(client.line("SET a 1").text(), "QUEUED");
    assert_eq!(client.line("SET b 1").text(), "QUEUED");
    assert!(client.line("EXEC").is_error("CROSSSLOT"));
    assert!(client.line("EXEC").is_error("ERR EXEC without MULTI"));
    // Scripts: declared keys, and others.
    assert_eq!(client.call(&["EVAL", "return redis.call('get', KEYS[1])", "1", "{t}a"]).text(), "1");
    let crossing = client.call(&["EVAL", "#!lua\nredis.call('get', 'x') return redis.call('get', 'y')", "0"]);
    assert!(crossing.is_error("ERR Script attempted to access keys that do not hash to the same slot"), "{crossing:?}");
    let allowed = "#!lua flags=allow-cross-slot-keys\nredis.call('get', 'x') return redis.call('set', 'y', '1')";
    assert!(client.call(&["EVAL", allowed, "0"]).is_ok());
    assert!(
        client.call(&["EVAL", "#!lua flags=no-cluster\nreturn 1", "0"]).is_error("ERR Can not run script on cluster")
    );
}

#[test]
fn slots_are_listed_scanned_saved_and_expired() {
    let node = alone();
    let mut client = node.server.client();
    for key in 0..3000 {
        assert!(client.line(&format!("SET key:{key} {key}")).is_ok());
    }
    for key in 0..50 {
        assert!(client.line(&format!("SET {{tag}}{key} v")).is_ok());
        assert!(client.line(&format!("SET short:{key} v PX 30")).is_ok());
    }
    let slot = client.line("CLUSTER KEYSLOT {tag}").integer();
    assert_eq!(client.line(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), Reply::Integer(50));
    let listed = client.line(&format!("CLUSTER GETKEYSINSLOT {slot} 20"));
    assert_eq!(listed.items().len(), 20);
    assert!(listed.items().iter().all(|key| key.text().starts_with("{tag}")));
    wait_until("what has expired is gone", || client.line("DBSIZE") == Reply::Integer(3050));
    let scan = |client: &mut Client| {
        let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
        loop {
            let reply = client.line(&format!("SCAN {cursor} COUNT 100"));
            keys.extend(reply.items()[1].items().iter().map(Reply::text));
            cursor = reply.items()[0].text();
            if cursor == "0" {
                keys.sort();
                return keys;
            }
        }
    };
    let before = scan(&mut client);
    assert_eq!(before.len(), 3050, "SCAN names a key once while nothing changes");
    assert_eq!(client.line("KEYS *").items().len(), 3050);
    let digest = client.line("DEBUG DIGEST").text();
    assert!(client.line("DEBUG RELOAD").is_ok());
    assert_eq!(client.line("DEBUG DIGEST").text(), digest);
    assert_eq!(scan(&mut client), before);
    assert_eq!(client.line(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), Reply::Integer(50));
    assert!(node.server.info("db0").starts_with("keys=3050,"));
    let random = client.line("RANDOMKEY").text();
    assert!(before.contains(&random));
    assert!(client.line("FLUSHALL").is_ok());
    assert_eq!(client.line(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), Reply::Integer(0));
}

#[test]
fn the_words_of_refusals_are_those_of_stock_redis() {
    let (own, other) = (ours(), stock());
    let unknown = "0123456789abcdef0123456789abcdef01234567";
    let lines = [
        "GET a",
        "CLUSTER ADDSLOTS 16384",
        "CLUSTER ADDSLOTS x",
        "CLUSTER ADDSLOTS 1 1",
        "CLUSTER DELSLOTS 1",
        "CLUSTER ADDSLOTSRANGE 5",
        "CLUSTER ADDSLOTSRANGE 5 4",
        "CLUSTER ADDSLOTSRANGE 1 2 3",
        "CLUSTER SETSLOT 1 MIGRATING x",
        "CLUSTER SETSLOT 1 IMPORTING x",
        "CLUSTER SETSLOT 1 NODE x",
        "CLUSTER SETSLOT 1 ELSEWHERE",
        "CLUSTER COUNTKEYSINSLOT 16384",
        "CLUSTER COUNTKEYSINSLOT x",
        "CLUSTER GETKEYSINSLOT 1 -1",
        "CLUSTER MEET x 1",
        "CLUSTER MEET 127.0.0.1 x",
        "CLUSTER MEET 127.0.0.1 1 x",
        "CLUSTER MEET 127.0.0.1 1 2 3",
        "CLUSTER MEET 127.0.0.1 0",
        "CLUSTER FAILOVER",
        "CLUSTER FAILOVER NOW",
        "CLUSTER RESET x",
        "CLUSTER SET-CONFIG-EPOCH -1",
        "CLUSTER SET-CONFIG-EPOCH x",
        "CLUSTER BUMPEPOCH",
        "CLUSTER BUMPEPOCH",
        "CLUSTER SET-CONFIG-EPOCH 3",
        "CLUSTER SAVECONFIG",
        "CLUSTER FLUSHSLOTS",
        "CLUSTER LINKS",
        "CLUSTER SLOTS",
        "READONLY",
        "ASKING",
        "SELECT 3",
        "SWAPDB 0 1",
        "COPY a b DB 1",
        "CLUSTER",
        "CLUSTER NOTHING",
        "CLUSTER ADDSLOTS 1 2 3",
        "CLUSTER ADDSLOTS 2",
    ];
    for line in lines {
        assert_eq!(own.call(line), other.call(line), "{line}");
    }
    for verb in ["FORGET", "REPLICATE", "REPLICAS", "COUNT-FAILURE-REPORTS"] {
        let line = format!("CLUSTER {verb} {unknown}");
        assert_eq!(own.call(&line), other.call(&line), "{line}");
    }
    for verb in ["FORGET", "REPLICATE"] {
        let line = |node: &Node| format!("CLUSTER {verb} {}", node.id);
        assert_eq!(own.call(&line(&own)), other.call(&line(&other)), "{verb} of oneself");
    }
}

#[test]
fn keys_move_with_their_slot_and_no_client_loses_its_way() {
    let nodes = [ours(), stock(), ours()];
    form(&nodes, 3);
    let mut walker = Walker::new(&nodes);
    // Slot 5000 is the first node's.
    let tag = (0..).map(|n| format!("t{n}")).find(|tag| {
        let slot = nodes[0].call(&format!("CLUSTER KEYSLOT {tag}")).integer();
        slot < 5461
    });
    let tag = tag.expect("there is one");
    let slot = nodes[0].call(&format!("CLUSTER KEYSLOT {tag}")).integer();
    for key in 0..20 {
        assert!(walker.call(&["SET", &format!("{{{tag}}}{key}"), "v"]).expect("served").is_ok());
    }
    let moved = nodes[1].call(&format!("GET {{{tag}}}1"));
    assert!(moved.is_error(&format!("MOVED {slot} 127.0.0.1:{}", nodes[0].server.port())), "{moved:?}");
    for (from, to) in [(0, 2), (2, 1), (1, 0)] {
        let (source, target) = (&nodes[from], &nodes[to]);
        target.ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", source.id));
        source.ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", target.id));
        let keys = source.call(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
        let keys: Vec<String> = keys.items().iter().map(Reply::text).collect();
        assert_eq!(keys.len(), 10);
        let port = target.server.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        assert!(source.server.client().call(&migrate).is_ok());
        // One that is gone is asked for over there, and only with ASKING.
        let asked = source.call(&format!("GET {}", keys[0]));
        assert!(asked.is_error(&format!("ASK {slot} 127.0.0.1:{port}")), "{asked:?}");
        assert!(target.call(&format!("GET {}", keys[0])).is_error("MOVED"));
        let mut client = target.server.client();
        assert!(client.line("ASKING").is_ok());
        assert_eq!(client.line(&format!("GET {}", keys[0])).text(), "v");
        assert!(client.line(&format!("GET {}", keys[0])).is_error("MOVED"), "ASKING is for one command");
        let rest = source.call(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
        let rest: Vec<String> = rest.items().iter().map(Reply::text).collect();
        assert!(source.call(&format!("MGET {} {}", keys[0], rest[0])).is_error("TRYAGAIN"));
        let mut client = source.server.client();
        assert!(client.line("MULTI").is_ok());
        assert!(client.line(&format!("SET {} v", keys[0])).is_error("ASK"));
        assert!(client.line("EXEC").is_error("EXECABORT"));
        for key in 0..20 {
            assert_eq!(walker.call(&["GET", &format!("{{{tag}}}{key}")]).expect("served").text(), "v");
        }
        let refused = source.call(&format!("CLUSTER SETSLOT {slot} NODE {}", target.id));
        assert!(refused.is_error("ERR Can't assign hashslot"), "{refused:?}");
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(rest.iter().map(String::as_str));
        assert!(source.server.client().call(&migrate).is_ok());
        target.ok(&format!("CLUSTER SETSLOT {slot} NODE {}", target.id));
        source.ok(&format!("CLUSTER SETSLOT {slot} NODE {}", target.id));
        wait_until("all agree", || agree(&nodes));
        assert!(source.call(&format!("GET {{{tag}}}1")).is_error("MOVED"));
        assert_eq!(target.call(&format!("CLUSTER COUNTKEYSINSLOT {slot}")), Reply::Integer(20));
    }
}

/// Kills primaries, one ours and one stock, while a client writes: what was acknowledged after the replica had it stays.
#[test]
fn replicas_take_over_from_the_dead_in_a_mixed_cluster() {
    // Ours replicate stock primaries and the other way round.
    let mut nodes = [ours(), stock(), ours(), stock(), ours(), stock()];
    form(&nodes, 3);
    let mut walker = Walker::new(&nodes);
    let mut written = Vec::new();
    for round in 0..2 {
        for key in 0..100 {
            let key = format!("k:{round}:{key}");
            assert!(walker.call(&["SET", &key, &key]).expect("served").is_ok());
            written.push(key);
        }
        for node in &nodes[round..3] {
            if node.server.info("connected_slaves") == "1" {
                assert_eq!(node.call("WAIT 1 5000"), Reply::Integer(1));
            }
        }
        nodes[round].server.kill();
        let heir = round + 3;
        wait_until("the replica serves", || nodes[heir].server.info("role") == "master");
        let living: Vec<usize> = (0..6).filter(|index| *index > round).collect();
        wait_until("all serve again", || living.iter().all(|index| nodes[*index].info("cluster_state") == "ok"));
        walker = Walker::new(&nodes);
        for key in &written {
            let mut found = None;
            wait_until("it is served", || {
                found = walker.call(&["GET", key]);
                found.is_some()
            });
            assert_eq!(found.expect("some").text(), *key);
        }
    }
    for node in &mut nodes[..2] {
        node.server.restart();
        wait_until("the old primary follows", || node.server.info("master_link_status") == "up");
    }
    wait_until("all agree", || agree(&nodes));
}

#[test]
fn a_manual_failover_loses_no_write() {
    let nodes = [ours(), ours(), ours(), ours()];
    form(&nodes, 3);
    let key =
        (0..).map(|n| format!("n{n}")).find(|key| nodes[0].call(&format!("CLUSTER KEYSLOT {key}")).integer() < 5461);
    let key = key.expect("there is one");
    let (mut counted, mut walker) = (0, Walker::new(&nodes));
    // There and back. (Primaries vote about one primary at most once in two node timeouts.)
    for round in 0..2 {
        let replica = if round % 2 == 0 { &nodes[3] } else { &nodes[0] };
        replica.ok("CLUSTER FAILOVER");
        wait_until("it has taken over", || {
            counted += 1;
            let reply = walker.call(&["INCR", &key]);
            assert_eq!(reply, Some(Reply::Integer(counted)));
            replica.server.info("role") == "master"
        });
        wait_until("all agree", || agree(&nodes));
        let other = if round % 2 == 0 { &nodes[0] } else { &nodes[3] };
        wait_until("the other follows", || other.server.info("master_link_status") == "up");
    }
}

#[test]
fn messages_cross_the_bus_and_shard_channels_go_with_their_slot() {
    let nodes = [ours(), stock(), ours()];
    form(&nodes, 3);
    let mut listeners: Vec<Client> = nodes.iter().map(|node| node.server.client()).collect();
    for listener in &mut listeners {
        listener.line("SUBSCRIBE news");
    }
    for (index, node) in nodes.iter().enumerate() {
        node.call(&format!("PUBLISH news from:{index}"));
        for listener in &mut listeners {
            assert_eq!(listener.reply().expect("a message").items()[2].text(), format!("from:{index}"));
        }
    }
    let channel = (0..)
        .map(|n| format!("c{n}"))
        .find(|channel| nodes[0].call(&format!("CLUSTER KEYSLOT {channel}")).integer() < 5461);
    let channel = channel.expect("there is one");
    let slot = nodes[0].call(&format!("CLUSTER KEYSLOT {channel}")).integer();
    assert!(nodes[1].call(&format!("SSUBSCRIBE {channel}")).is_error("MOVED"));
    let mut listener = nodes[0].server.client();
    listener.line(&format!("SSUBSCRIBE {channel}"));
    assert_eq!(nodes[0].call(&format!("SPUBLISH {channel} hello")), Reply::Integer(1));
    assert_eq!(listener.reply().expect("a message").items()[2].text(), "hello");
    nodes[2].ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", nodes[0].id));
    nodes[0].ok(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", nodes[2].id));
    nodes[2].ok(&format!("CLUSTER SETSLOT {slot} NODE {}", nodes[2].id));
    nodes[0].ok(&format!("CLUSTER SETSLOT {slot} NODE {}", nodes[2].id));
    let told = listener.reply().expect("the end of the subscription");
    assert_eq!(told.items()[0].text(), "sunsubscribe");
    assert_eq!((told.items()[1].text(), told.items()[2].integer()), (channel, 0));
    // It is no subscriber any more.
    assert_eq!(listener.line("PING").text(), "PONG");
}

#[test]
fn a_blocked_client_is_sent_after_its_slot() {
    let nodes = [ours(), ours(), ours()];
    form(&nodes, 3);
    let key =
        (0..).map(|n| format!("b{n}")).find(|key| nodes[0].call(&format!("CLUSTER KEYSLOT {key}")).integer() < 5461);
    let key = key.expect("there is one");
    let slot = nodes[0].call(&format!("CLUSTER KEYSLOT {key}")).integer();
    let mut client = nodes[0].server.client();
    client.send(&["BLPOP", &key, "0"]).expect("sent");
    wait_until("it waits", || nodes[0].server.info("blocked_clients") == "1");
    nodes[1].ok(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", nodes[0].id));
    nodes[0].ok(&format!("CLUSTER SETSLOT {slot} NODE {}", nodes[1].id));
    let told = client.reply().expect("a reply");
    assert!(told.is_error(&format!("MOVED {slot} 127.0.0.1:{}", nodes[1].server.port())), "{told:?}");
}

#[test]
fn a_node_comes_back_as_what_it_was() {
    let mut nodes = vec![ours(), ours(), ours()];
    form(&nodes, 3);
    let before = signature(&nodes[0]);
    nodes[0].server.restart();
    assert_eq!(nodes[0].call("CLUSTER MYID").text(), nodes[0].id);
    wait_until("all agree", || agree(&nodes));
    assert_eq!(signature(&nodes[0]), before);
    // A second process must not be the same node.
    let config = nodes[0].server.dir().join("nodes.conf");
    let (status, text) = Server::run(
        &[
            "--cluster-enabled",
            "yes",
            "--port",
            &free_port().to_string(),
            "--cluster-port",
            &free_port().to_string(),
            "--cluster-config-file",
            config.to_str().expect("plain"),
        ],
        "",
    );
    assert!(!status.success());
    assert!(text.contains("already used by a different Redis Cluster node"), "{text}");
}

#[test]
fn a_replica_answers_reads_when_it_is_told_to() {
    let nodes = [ours(), ours(), ours(), ours()];
    form(&nodes, 3);
    let key =
        (0..).map(|n| format!("r{n}")).find(|key| nodes[0].call(&format!("CLUSTER KEYSLOT {key}")).integer() < 5461);
    let key = key.expect("there is one");
    assert!(nodes[0].call(&format!("SET {key} v")).is_ok());
    let mut client = nodes[3].server.client();
    assert!(client.line(&format!("GET {key}")).is_error("MOVED"));
    assert!(client.line("READONLY").is_ok());
    wait_until("the replica has it", || client.line(&format!("GET {key}")) == Reply::Bulk(b"v".to_vec()));
    assert!(client.line(&format!("SET {key} w")).is_error("MOVED"));
    assert!(client.line("READWRITE").is_ok());
    assert!(client.line(&format!("GET {key}")).is_error("MOVED"));
    // Nobody but the primary's replica knows what a reset forgets.
    nodes[3].ok("CLUSTER RESET HARD");
    assert_ne!(nodes[3].call("CLUSTER MYID").text(), nodes[3].id);
    assert_eq!(nodes[3].call("DBSIZE"), Reply::Integer(0));
    assert_eq!(nodes[3].info("cluster_known_nodes"), "1");
}
