//! Concurrency as clients see it: what many connections did to one key must fit in one order, transactions are seen whole,
//! and blocking pops hand out every element exactly once.
//!
//! The checker searches for an order (Wing and Gong): an operation may come next if it began before every operation that
//! is still open had ended, and if its reply is the one that the value so far gives.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use support::{Client, Reply, Server};

#[derive(Clone, Debug, PartialEq)]
enum Op {
    Set(String),
    Get,
    GetSet(String),
    SetNx(String),
    Del,
}

#[derive(Clone, Debug)]
struct Event {
    op: Op,
    reply: Reply,
    began: Instant,
    ended: Instant,
}

impl Op {
    fn argv<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        match self {
            Op::Set(value) => vec!["SET", key, value],
            Op::Get => vec!["GET", key],
            Op::GetSet(value) => vec!["GETSET", key, value],
            Op::SetNx(value) => vec!["SETNX", key, value],
            Op::Del => vec!["DEL", key],
        }
    }

    /// What the operation answers on a value, and the value after it.
    fn apply(&self, value: &Option<String>) -> (Reply, Option<String>) {
        let bulk =
            |value: &Option<String>| value.as_ref().map_or(Reply::Nil, |text| Reply::Bulk(text.clone().into_bytes()));
        match self {
            Op::Set(new) => (Reply::Status("OK".into()), Some(new.clone())),
            Op::Get => (bulk(value), value.clone()),
            Op::GetSet(new) => (bulk(value), Some(new.clone())),
            Op::SetNx(new) if value.is_none() => (Reply::Integer(1), Some(new.clone())),
            Op::SetNx(_) => (Reply::Integer(0), value.clone()),
            Op::Del => (Reply::Integer(i64::from(value.is_some())), None),
        }
    }
}

/// The operations of a history that are already in order, as bits, with the value that they leave.
type State = (Vec<u64>, Option<String>);

fn has_an_order(history: &[Event]) -> bool {
    let mut seen: HashSet<State> = HashSet::new();
    let mut open: Vec<State> = vec![(vec![0; history.len().div_ceil(64)], None)];
    while let Some((done, value)) = open.pop() {
        let left: Vec<usize> = (0..history.len()).filter(|at| done[at / 64] >> (at % 64) & 1 == 0).collect();
        let Some(first_end) = left.iter().map(|at| history[*at].ended).min() else { return true };
        for at in left.into_iter().filter(|at| history[*at].began <= first_end) {
            let (reply, after) = history[at].op.apply(&value);
            if reply != history[at].reply {
                continue;
            }
            let mut more = done.clone();
            more[at / 64] |= 1 << (at % 64);
            let state = (more, after);
            if seen.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    false
}

#[test]
fn the_checker_tells_good_from_bad() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let event = |op: Op, reply: Reply, began: u64, ended: u64| Event { op, reply, began: at(began), ended: at(ended) };
    let set = event(Op::Set("a".into()), Reply::Status("OK".into()), 0, 10);
    let sees = |began, ended| event(Op::Get, Reply::Bulk(b"a".to_vec()), began, ended);
    let misses = |began, ended| event(Op::Get, Reply::Nil, began, ended);
    assert!(has_an_order(&[set.clone(), misses(1, 2), sees(3, 4)]));
    assert!(!has_an_order(&[set.clone(), sees(1, 2), misses(3, 4)]));
    assert!(!has_an_order(&[set, misses(11, 12)]));
}

#[test]
fn operations_on_a_key_have_one_order() {
    let server = Server::start(&[]);
    let keys: Vec<String> = (0..12).map(|number| format!("key{number}")).collect();
    let histories: Mutex<BTreeMap<String, Vec<Event>>> = Mutex::default();
    let (clients, rounds) = (6u64, 60);
    let barrier = Barrier::new(clients as usize);
    std::thread::scope(|scope| {
        for id in 0..clients {
            let (server, keys, histories, barrier) = (&server, &keys, &histories, &barrier);
            scope.spawn(move || {
                let mut client = server.client();
                let mut events = Vec::new();
                for round in 0..rounds {
                    // All clients come to the same key at once, so that their operations overlap.
                    for (place, key) in keys.iter().enumerate() {
                        barrier.wait();
                        let value = format!("{id}.{round}.{place}");
                        let op = match (id * 7 + round * 3 + place as u64 * 5) % 7 {
                            0 | 1 => Op::Set(value),
                            2 => Op::GetSet(value),
                            3 => Op::SetNx(value),
                            4 => Op::Del,
                            _ => Op::Get,
                        };
                        let began = Instant::now();
                        let reply = client.call(&op.argv(key));
                        events.push((key.clone(), Event { op, reply, began, ended: Instant::now() }));
                    }
                }
                let mut histories = histories.lock().expect("no panic holds it");
                for (key, event) in events {
                    histories.entry(key).or_default().push(event);
                }
            });
        }
    });
    for (key, mut history) in histories.into_inner().expect("all clients are done") {
        history.sort_by_key(|event| event.began);
        assert!(has_an_order(&history), "no order explains the history of {key}");
    }
}

#[test]
fn increments_are_never_lost() {
    let server = Server::start(&[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..200 {
                    for _ in 0..10 {
                        client.send(&["INCR", "n"]).expect("written");
                    }
                    for _ in 0..10 {
                        client.reply().expect("a reply");
                    }
                }
            });
        }
    });
    assert_eq!(server.client().line("GET n").text(), "16000");
}

/// Money moves between accounts on different shards; nobody ever sees it in neither or both.
#[test]
fn transactions_are_seen_whole() {
    let server = Server::start(&[]);
    let accounts: Vec<String> = (0..8).map(|number| format!("account{number}")).collect();
    let mut setup = server.client();
    for account in &accounts {
        setup.call(&["SET", account, "100"]);
    }
    let stop = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for id in 0..4usize {
            let (server, accounts, stop) = (&server, &accounts, &stop);
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..400usize {
                    let (from, to) = (&accounts[(id + round) % 8], &accounts[(id * 3 + round * 5 + 1) % 8]);
                    client.line("MULTI");
                    client.call(&["DECRBY", from, "7"]);
                    client.call(&["INCRBY", to, "7"]);
                    assert!(matches!(client.line("EXEC"), Reply::Array(_)));
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut client = server.client();
                let mget: Vec<&str> = ["MGET"].into_iter().chain(accounts.iter().map(String::as_str)).collect();
                while !stop.load(Ordering::Relaxed) {
                    let sum: i64 = client
                        .call(&mget)
                        .items()
                        .iter()
                        .map(|item| item.text().parse::<i64>().expect("a number"))
                        .sum();
                    assert_eq!(sum, 800);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{} consistent reads", reads.load(Ordering::Relaxed));
}

/// Several keys on different shards that only transactions write, all to the same value: for everybody they are one register.
/// Transactions, MGET and scripts read it; the history must fit in one order, and never show two values.
#[test]
fn transactions_make_many_keys_one_register() {
    const KEYS: [&str; 4] = ["part:a", "part:b", "part:c", "part:d"];
    let server = Server::start(&["--io-threads", "4"]);
    let history: Mutex<Vec<Event>> = Mutex::default();
    let (clients, rounds) = (6u64, 80u64);
    let barrier = Barrier::new(clients as usize);
    std::thread::scope(|scope| {
        for id in 0..clients {
            let (server, history, barrier) = (&server, &history, &barrier);
            scope.spawn(move || {
                let mut client = server.client();
                let mut events = Vec::new();
                for round in 0..rounds {
                    barrier.wait();
                    let value = format!("{id}.{round}");
                    let op = if (id + round) % 3 == 0 { Op::Set(value.clone()) } else { Op::Get };
                    let began = Instant::now();
                    let reply = match (&op, (id * 5 + round) % 3) {
                        (Op::Set(_), _) => {
                            client.line("MULTI");
                            KEYS.iter().for_each(|key| _ = client.call(&["SET", key, &value]));
                            client.line("EXEC")
                        }
                        (_, 0) => client.call(&[&["MGET"], &KEYS[..]].concat()),
                        (_, 1) => {
                            let script = "return redis.call('MGET', unpack(KEYS))";
                            client.call(&[&["EVAL", script, "4"], &KEYS[..]].concat())
                        }
                        _ => {
                            client.line("MULTI");
                            KEYS.iter().for_each(|key| _ = client.call(&["GET", key]));
                            client.line("EXEC")
                        }
                    };
                    let ended = Instant::now();
                    let parts = reply.items();
                    assert!(parts.iter().all(|part| *part == parts[0]), "torn: {parts:?}");
                    events.push(Event { op, reply: parts[0].clone(), began, ended });
                }
                history.lock().expect("no panic holds it").extend(events);
            });
        }
    });
    let mut history = history.into_inner().expect("all clients are done");
    history.sort_by_key(|event| event.began);
    assert!(has_an_order(&history), "no order explains the history");
}

/// Commands over the whole keyspace see transactions whole as well.
#[test]
fn whole_keyspace_commands_see_transactions_whole() {
    let server = Server::start(&["--io-threads", "4"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = server.client();
            for round in 0..400 {
                client.line("MULTI");
                for key in ["one", "two", "three", "four"] {
                    client.call(&[if round % 2 == 0 { "SET" } else { "GETDEL" }, key, "v"][..3 - round % 2]);
                }
                assert!(matches!(client.line("EXEC"), Reply::Array(_)));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut torn = 0;
        let mut client = server.client();
        while !stop.load(Ordering::Relaxed) && !writer.is_finished() {
            torn += usize::from(!matches!(client.line("DBSIZE").integer(), 0 | 4));
            torn += usize::from(!matches!(client.line("KEYS *").items().len(), 0 | 4));
            torn += usize::from(!matches!(client.line("EXISTS one two three four").integer(), 0 | 4));
        }
        assert_eq!(torn, 0);
    });
}

/// WATCH: of several clients that read, compute and write back, none overwrites another.
#[test]
fn watched_keys_stop_lost_updates() {
    let server = Server::start(&[]);
    server.client().line("SET n 0");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.client();
                let mut done = 0;
                while done < 50 {
                    client.line("WATCH n");
                    let value: i64 = client.line("GET n").text().parse().expect("a number");
                    client.line("MULTI");
                    client.call(&["SET", "n", &(value + 1).to_string()]);
                    if client.line("EXEC") != Reply::Nil {
                        done += 1;
                    }
                }
            });
        }
    });
    assert_eq!(server.client().line("GET n").text(), "200");
}

/// CLIENT PAUSE WRITE: when it has answered, no write of anybody is on its way any more, whatever stands in the batches of other workers,
/// alone or in transactions.
#[test]
fn a_pause_stops_writes_at_once() {
    let server = Server::start(&["--io-threads", "4"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for id in 0..4usize {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..64 {
                        if id % 2 == 0 {
                            client.send(&["INCR", &format!("n{number}")]).expect("written");
                            continue;
                        }
                        for words in [&["MULTI"][..], &["INCR", "n1"], &["INCR", "n2"], &["EXEC"]] {
                            client.send(words).expect("written");
                        }
                    }
                    for _ in 0..(if id % 2 == 0 { 64 } else { 64 * 4 }) {
                        client.reply().expect("a reply");
                    }
                }
            });
        }
        let mut operator = server.client();
        let keys: Vec<String> = (0..64).map(|number| format!("n{number}")).collect();
        let mget: Vec<&str> = ["MGET"].into_iter().chain(keys.iter().map(String::as_str)).collect();
        let mut late = 0;
        for _ in 0..100 {
            operator.line("CLIENT PAUSE 10000 WRITE");
            let first = operator.call(&mget);
            std::thread::sleep(Duration::from_millis(2));
            late += usize::from(operator.call(&mget) != first);
            operator.line("CLIENT UNPAUSE");
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(late, 0, "of 100 pauses");
    });
}

fn pop(client: &mut Client, way: usize) -> Option<String> {
    let words: &[&str] = match way % 3 {
        0 => &["BLPOP", "q1", "q2", "q3", "0.2"],
        1 => &["BLMPOP", "0.2", "3", "q1", "q2", "q3", "LEFT"],
        _ => &["BLMOVE", "q1", "taken", "LEFT", "RIGHT", "0.2"],
    };
    match client.call(words) {
        Reply::Array(items) if way.is_multiple_of(3) => Some(items[1].text()),
        Reply::Array(items) => Some(items[1].items()[0].text()),
        Reply::Bulk(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    }
}

/// Producers and consumers on several lists, with waiters of every kind: nothing is lost, nothing is served twice, and the
/// elements of one producer on one list come out in their order.
#[test]
fn blocking_pops_hand_out_everything_once() {
    let server = Server::start(&[]);
    let (producers, each) = (4usize, 300usize);
    let taken: Mutex<Vec<String>> = Mutex::default();
    let finished = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for way in 0..6 {
            let (server, taken, finished) = (&server, &taken, finished.clone());
            scope.spawn(move || {
                let mut client = server.client();
                let mut own = Vec::new();
                loop {
                    match pop(&mut client, way) {
                        Some(element) => own.push(element),
                        None if finished.load(Ordering::SeqCst) == producers as u64 => break,
                        None => {}
                    }
                }
                // Within one consumer, one producer's elements of one list stay in order.
                for producer in 0..producers {
                    for list in 1..=3 {
                        let prefix = format!("{producer}.{list}.");
                        let numbers: Vec<usize> =
                            own.iter().filter_map(|e| e.strip_prefix(&prefix)?.parse().ok()).collect();
                        assert!(numbers.is_sorted(), "{prefix}: {numbers:?}");
                    }
                }
                taken.lock().expect("no panic holds it").extend(own);
            });
        }
        for producer in 0..producers {
            let (server, finished) = (&server, finished.clone());
            scope.spawn(move || {
                let mut client = server.client();
                for number in 0..each {
                    let list = 1 + (producer + number) % 3;
                    let element = format!("{producer}.{list}.{number}");
                    match number % 3 {
                        0 => client.call(&["RPUSH", &format!("q{list}"), &element]),
                        1 => {
                            client.line("MULTI");
                            client.call(&["RPUSH", &format!("q{list}"), &element]);
                            client.line("EXEC")
                        }
                        _ => client.call(&["LINSERT", "nolist", "BEFORE", "x", "y"]),
                    };
                    if number % 3 == 2 {
                        client.call(&["RPUSH", &format!("q{list}"), &element]);
                    }
                }
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    let mut left = Vec::new();
    for list in ["q1", "q2", "q3"] {
        let reply = server.client().call(&["LRANGE", list, "0", "-1"]);
        left.extend(reply.items().iter().map(Reply::text));
    }
    let mut all = taken.into_inner().expect("all consumers are done");
    let moved = server.client().line("LLEN taken").integer();
    println!("{} taken, {} of them by BLMOVE, {} left", all.len(), moved, left.len());
    all.extend(left);
    let distinct: HashSet<&String> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (producers * each, producers * each), "lost or served twice");
}
