//! Clients blocked on keys: who is served, with what, in which order; that nothing is lost or given twice. What the reference does was
//! found by running this very file against it (`RSREDIS_SERVER=redis-server cargo test --test blocking`).

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::{Client, Reply, Server, wait_until};

/// Silence this long means that no reply is coming.
const QUIET: Duration = Duration::from_millis(120);

fn await_blocked(server: &Server, count: usize) {
    wait_until(&format!("{count} clients are blocked"), || server.info("blocked_clients") == count.to_string());
}

/// A client that has sent a blocking command and sleeps; the `count`-th that does.
fn blocked(server: &Server, line: &str, count: usize) -> Client {
    let mut client = server.client();
    client.send(&line.split(' ').collect::<Vec<_>>()).expect("sent");
    await_blocked(server, count);
    client
}

fn texts(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(Reply::text).collect()
}

#[track_caller]
fn stays_blocked(client: &mut Client) {
    assert_eq!(client.frame_within(QUIET).expect("connected"), None);
}

#[track_caller]
fn gets(client: &mut Client, expected: &[&str]) {
    assert_eq!(texts(&client.reply().expect("a reply")), expected);
}

#[test]
fn first_come_first_served_on_every_worker() {
    let server = Server::start(&[]);
    // Neighbouring connections live on different workers, so the order cannot come from one worker's queue.
    let mut waiters: Vec<Client> = (0..12).map(|n| blocked(&server, "BLPOP q 0", n + 1)).collect();
    let mut giver = server.client();
    assert_eq!(giver.line("RPUSH q 0 1 2").integer(), 3);
    for n in 3..12 {
        giver.call(&["RPUSH", "q", &n.to_string()]);
    }
    for (n, waiter) in waiters.iter_mut().enumerate() {
        gets(waiter, &["q", &n.to_string()]);
    }
    assert_eq!(giver.line("EXISTS q").integer(), 0);
}

#[test]
fn nobody_sees_an_element_that_is_spoken_for() {
    let server = Server::start(&[]);
    let mut waiter = blocked(&server, "BRPOP q 0", 1);
    let mut giver = server.client();
    giver.write(b"RPUSH q a b\r\nLRANGE q 0 -1\r\nRPOP q\r\nEXISTS q\r\n").expect("sent");
    assert_eq!(giver.reply().expect("a reply"), Reply::Integer(2));
    gets(&mut giver, &["a"]);
    assert_eq!(giver.reply().expect("a reply").text(), "a");
    assert_eq!(giver.reply().expect("a reply"), Reply::Integer(0));
    gets(&mut waiter, &["q", "b"]);
}

#[test]
fn what_a_transaction_leaves_is_what_is_given() {
    let server = Server::start(&[]);
    let mut waiter = blocked(&server, "BLPOP q 0", 1);
    let mut giver = server.client();
    for line in ["MULTI", "RPUSH q a", "DEL q", "EXEC"] {
        giver.line(line);
    }
    stays_blocked(&mut waiter);
    for line in ["MULTI", "LPUSH q a", "LPUSH q b", "DEL q", "RPUSH q c", "RPUSH q d", "EXEC"] {
        giver.line(line);
    }
    gets(&mut waiter, &["q", "c"]);
    assert_eq!(giver.line("LLEN q").integer(), 1);
}

#[test]
fn blocked_inside_a_transaction_is_a_timeout_at_once() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let lines =
        ["MULTI", "BLPOP q 0", "BLMOVE q r LEFT LEFT 0", "BRPOPLPUSH q r 0", "BLMPOP 0 1 q LEFT", "BZPOPMIN z 0"];
    lines.iter().for_each(|line| _ = client.line(line));
    let reply = client.line("EXEC");
    assert_eq!(reply.items().len(), 5);
    assert!(reply.items().iter().all(|item| *item == Reply::Nil));
    assert_eq!(client.wire, b"*5\r\n*-1\r\n$-1\r\n$-1\r\n*-1\r\n*-1\r\n");
}

#[test]
fn timeouts_and_their_replies() {
    let server = Server::start(&[]);
    let lines = [
        "BLPOP q 0.05",
        "BRPOP q r 0.05",
        "BLMOVE q r LEFT LEFT 0.05",
        "BRPOPLPUSH q r 0.05",
        "BLMPOP 0.05 2 q r LEFT",
        "BZPOPMIN q 0.05",
        "BZMPOP 0.05 1 q MAX",
    ];
    for line in lines {
        let mut client = server.client();
        let start = Instant::now();
        assert_eq!(client.line(line), Reply::Nil, "{line}");
        let took = start.elapsed();
        assert_eq!(client.wire, b"*-1\r\n", "{line}");
        assert!(took >= Duration::from_millis(49) && took < Duration::from_millis(900), "{line} took {took:?}");
        assert_eq!(client.line("PING").text(), "PONG", "{line}");
    }
    let mut client = server.client3();
    client.line("BLPOP q 0.01");
    assert_eq!(client.wire, b"_\r\n");
    for (line, error) in [
        ("BLPOP q -1", "ERR timeout is negative"),
        ("BLPOP q x", "ERR timeout is not a float or out of range"),
        ("BZPOPMIN q nan", "ERR timeout is not a float or out of range"),
        ("BLMOVE q r UP LEFT 0", "ERR syntax error"),
    ] {
        assert_eq!(client.line(line), Reply::Error(error.into()), "{line}");
    }
    await_blocked(&server, 0);
}

#[test]
fn a_blocked_client_reads_on_and_runs_the_rest_afterwards() {
    let server = Server::start(&[]);
    let mut waiter = server.client();
    waiter.write(b"BLPOP q 0\r\nRPUSH seen ").expect("sent");
    await_blocked(&server, 1);
    waiter.write(b"x\r\nBLPOP q 0.05\r\nPING\r\n").expect("sent");
    let mut giver = server.client();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(giver.line("EXISTS seen").integer(), 0);
    giver.line("RPUSH q a");
    gets(&mut waiter, &["q", "a"]);
    assert_eq!(waiter.reply().expect("a reply"), Reply::Integer(1));
    assert_eq!(waiter.reply().expect("a reply"), Reply::Nil);
    assert_eq!(waiter.reply().expect("a reply").text(), "PONG");
}

#[test]
fn a_client_that_has_left_takes_nothing() {
    let server = Server::start(&[]);
    let gone = blocked(&server, "BLPOP q 0", 1);
    let mut second = blocked(&server, "BLPOP q 0", 2);
    drop(gone);
    await_blocked(&server, 1);
    let mut giver = server.client();
    giver.line("RPUSH q a b");
    gets(&mut second, &["q", "a"]);
    assert_eq!(giver.line("LLEN q").integer(), 1);
}

#[test]
fn a_key_of_another_type_wakes_nobody() {
    let server = Server::start(&[]);
    let mut list = blocked(&server, "BLPOP k 0", 1);
    let mut zset = blocked(&server, "BZPOPMIN k 0", 2);
    let mut giver = server.client();
    giver.line("SET k x");
    stays_blocked(&mut list);
    giver.line("DEL k");
    giver.line("ZADD k 1 m");
    gets(&mut zset, &["k", "m", "1"]);
    stays_blocked(&mut list);
    giver.line("RPUSH k a");
    gets(&mut list, &["k", "a"]);
    // A destination of the wrong type is the blocked client's error; the element stays.
    giver.line("SET target x");
    let mut mover = blocked(&server, "BLMOVE k target LEFT LEFT 0", 1);
    giver.line("RPUSH k a");
    assert!(mover.reply().expect("a reply").is_error("WRONGTYPE"));
    assert_eq!(giver.line("LLEN k").integer(), 1);
}

#[test]
fn a_pending_entry_that_grows_old_wakes_who_claims() {
    let server = Server::start(&[]);
    let mut client = server.client();
    client.line("XGROUP CREATE s g 0 MKSTREAM");
    for id in ["1-0", "2-0", "3-0"] {
        client.line(&format!("XADD s {id} f v"));
    }
    client.line("XREADGROUP GROUP g old COUNT 2 STREAMS s >");
    // One that is gone does not count, and is no reason to look all the time.
    client.line("XDEL s 2-0");
    client.line("XREADGROUP GROUP g old COUNT 1 STREAMS s >");
    client.line("XCLAIM s g old 0 3-0 IDLE 0");
    let claim = |millis: u32, timeout: u32| {
        format!("XREADGROUP GROUP g new COUNT 1 BLOCK {timeout} CLAIM {millis} STREAMS s >")
    };
    let start = Instant::now();
    let ids = |reply: &Reply| -> Vec<String> {
        reply.items()[0].items()[1].items().iter().map(|entry| entry.items()[0].text()).collect()
    };
    let mut first = blocked(&server, &claim(400, 0), 1);
    let mut second = blocked(&server, &claim(450, 0), 2);
    // A time-out comes first where it is shorter.
    let mut third = blocked(&server, &claim(5000, 200), 3);
    assert_eq!(third.reply().expect("a reply"), Reply::Nil);
    assert_eq!(ids(&first.reply().expect("a reply")), ["1-0"]);
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(ids(&second.reply().expect("a reply")), ["3-0"]);
    assert!(start.elapsed() < Duration::from_millis(2000), "{:?}", start.elapsed());
    // Those two have just been given: nobody else gets them before they are old again.
    let mut fourth = blocked(&server, &claim(60_000, 0), 1);
    stays_blocked(&mut fourth);
    // One that is put aside, or declared old, wakes at once.
    client.line("XNACK s g FAIL IDS 1 1-0");
    assert_eq!(ids(&fourth.reply().expect("a reply")), ["1-0"]);
    let mut fifth = blocked(&server, &claim(60_000, 0), 1);
    client.line("XCLAIM s g old 0 3-0 IDLE 70000");
    assert_eq!(ids(&fifth.reply().expect("a reply")), ["3-0"]);
    assert_eq!(server.info("blocked_clients"), "0");
}

#[test]
fn several_keys() {
    let server = Server::start(&[]);
    let mut giver = server.client();
    let mut waiter = blocked(&server, "BLPOP a b c 0", 1);
    giver.line("RPUSH b 1");
    gets(&mut waiter, &["b", "1"]);
    giver.line("RPUSH c 3");
    waiter.send(&["BLPOP", "a", "b", "c", "0"]).expect("sent");
    gets(&mut waiter, &["c", "3"]);
    // The same key twice.
    let mut twice = blocked(&server, "BLPOP a a 0", 1);
    giver.line("RPUSH a 1 2");
    gets(&mut twice, &["a", "1"]);
    assert_eq!(giver.line("LLEN a").integer(), 1);
    await_blocked(&server, 0);
}

#[test]
fn several_members_at_once() {
    let server = Server::start(&[]);
    let mut giver = server.client();
    let mut first = blocked(&server, "BLMPOP 0 2 a b LEFT COUNT 2", 1);
    let mut second = blocked(&server, "BLMPOP 0 1 b RIGHT COUNT 10", 2);
    giver.line("RPUSH b 1 2 3 4");
    let reply = first.reply().expect("a reply");
    assert_eq!((reply.items()[0].text(), texts(&reply.items()[1])), ("b".into(), vec!["1".into(), "2".into()]));
    let reply = second.reply().expect("a reply");
    assert_eq!(texts(&reply.items()[1]), ["4", "3"]);
    let mut zset = blocked(&server, "BZMPOP 0 1 z MAX COUNT 2", 1);
    giver.line("ZADD z 1 a 2 b 3 c");
    let reply = zset.reply().expect("a reply");
    assert_eq!(reply.items()[1].items().iter().map(|pair| texts(pair).concat()).collect::<Vec<_>>(), ["c3", "b2"]);
    assert_eq!(giver.line("ZCARD z").integer(), 1);
}

#[test]
fn chains_of_moves_are_followed_to_their_end() {
    let server = Server::start(&[]);
    let mut giver = server.client();
    let mut last = blocked(&server, "BLPOP d 0", 1);
    let mut third = blocked(&server, "BLMOVE c d LEFT RIGHT 0", 2);
    let mut second = blocked(&server, "BRPOPLPUSH b c 0", 3);
    let mut first = blocked(&server, "BLMOVE a b RIGHT LEFT 0", 4);
    assert_eq!(giver.line("RPUSH a x").integer(), 1);
    for mover in [&mut first, &mut second, &mut third] {
        assert_eq!(mover.reply().expect("a reply").text(), "x");
    }
    gets(&mut last, &["d", "x"]);
    assert_eq!(giver.line("EXISTS a b c d").integer(), 0);
    // A circle ends as soon as nobody waits any more.
    let mut one = blocked(&server, "BLMOVE a b LEFT LEFT 0", 1);
    let mut other = blocked(&server, "BLMOVE b a LEFT LEFT 0", 2);
    giver.line("RPUSH a x");
    assert_eq!(one.reply().expect("a reply").text(), "x");
    assert_eq!(other.reply().expect("a reply").text(), "x");
    assert_eq!(giver.line("LLEN a").integer(), 1);
    // Source and destination are the same key.
    let mut own = blocked(&server, "BLMOVE s s LEFT RIGHT 0", 1);
    giver.line("RPUSH s 1 2");
    assert_eq!(own.reply().expect("a reply").text(), "1");
    assert_eq!(texts(&giver.line("LRANGE s 0 -1")), ["2", "1"]);
}

#[test]
fn keys_that_come_by_other_ways_than_a_push() {
    let server = Server::start(&[]);
    let mut giver = server.client();
    let ways: &[(&str, &[&str])] = &[
        ("RENAME", &["RPUSH src x", "RENAME src k"]),
        ("COPY", &["RPUSH src2 x", "COPY src2 k"]),
        ("MOVE", &["SELECT 1", "RPUSH k x", "MOVE k 0", "SELECT 0"]),
        ("COPY DB", &["SELECT 1", "RPUSH src3 x", "COPY src3 k DB 0", "SELECT 0"]),
        ("SWAPDB", &["SELECT 2", "RPUSH k x", "SWAPDB 0 2", "SELECT 0"]),
        ("SORT", &["RPUSH src4 x", "SORT src4 ALPHA STORE k"]),
        ("LMOVE", &["RPUSH src5 x", "LMOVE src5 k LEFT LEFT"]),
        ("LINSERT", &["MULTI", "RPUSH k x", "LINSERT k BEFORE x y", "LPOP k", "EXEC"]),
    ];
    for (name, lines) in ways {
        let mut waiter = blocked(&server, "BLPOP k 0", 1);
        for line in *lines {
            let reply = giver.line(line);
            if reply.is_error("ERR unknown command") {
                // Another room's command that is not there yet.
                giver.line("RPUSH k x");
                continue;
            }
            assert!(!reply.is_error(""), "{name}: {line}: {reply:?}");
        }
        gets(&mut waiter, &["k", "x"]);
    }
    let mut waiter = blocked(&server, "BZPOPMAX z 0", 1);
    giver.line("ZADD one 1 a 2 b");
    giver.line("ZUNIONSTORE z 1 one");
    gets(&mut waiter, &["z", "b", "2"]);
    let mut waiter = blocked(&server, "BZPOPMIN other 0", 1);
    giver.line("ZRANGESTORE other one 0 0");
    gets(&mut waiter, &["other", "a", "1"]);
}

#[test]
fn databases_are_apart() {
    let server = Server::start(&[]);
    let mut waiter = server.client();
    waiter.line("SELECT 3");
    waiter.send(&["BLPOP", "k", "0"]).expect("sent");
    await_blocked(&server, 1);
    let mut giver = server.client();
    giver.line("RPUSH k x");
    stays_blocked(&mut waiter);
    giver.line("SELECT 3");
    giver.line("RPUSH k y");
    gets(&mut waiter, &["k", "y"]);
}

#[test]
fn a_muted_client_is_served_in_silence() {
    let server = Server::start(&[]);
    let mut waiter = server.client();
    waiter.write(b"CLIENT REPLY OFF\r\nBLPOP q 0\r\nCLIENT REPLY ON\r\n").expect("sent");
    await_blocked(&server, 1);
    server.client().line("RPUSH q x");
    assert!(waiter.reply().expect("a reply").is_ok());
    assert_eq!(server.client().line("EXISTS q").integer(), 0);
}

#[test]
fn a_wait_ended_by_another_client() {
    let server = Server::start(&[]);
    let mut other = server.client();
    let mut waiter = server.client();
    let id = waiter.line("CLIENT ID").integer();
    let unblock = |other: &mut Client, how: &str| other.line(&format!("CLIENT UNBLOCK {id}{how}"));
    assert_eq!(unblock(&mut other, ""), Reply::Integer(0));
    waiter.send(&["BLPOP", "q", "r", "0"]).expect("sent");
    await_blocked(&server, 1);
    assert_eq!(unblock(&mut other, ""), Reply::Integer(1));
    assert_eq!(waiter.reply().expect("a reply"), Reply::Nil);
    waiter.send(&["BLMOVE", "q", "r", "LEFT", "LEFT", "0"]).expect("sent");
    await_blocked(&server, 1);
    assert_eq!(unblock(&mut other, " ERROR"), Reply::Integer(1));
    assert!(waiter.reply().expect("a reply").is_error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
    // Inside a transaction that holds other shards, and others of the same.
    for key in ["other", "q"] {
        waiter.send(&["BLPOP", "q", "r", "0"]).expect("sent");
        await_blocked(&server, 1);
        other.line("MULTI");
        other.line(&format!("SET {key} x"));
        unblock(&mut other, " TIMEOUT");
        assert_eq!(other.line("EXEC").items()[1], Reply::Integer(1));
        assert_eq!(waiter.reply().expect("a reply"), Reply::Nil);
        other.line(&format!("DEL {key}"));
    }
    await_blocked(&server, 0);
}

/// Producers and consumers of all kinds at once: every element is consumed exactly once, and whatever one producer gave to one
/// queue is taken by each consumer in the order in which it was given.
#[test]
fn many_clients_lose_nothing_and_get_nothing_twice() {
    const PRODUCERS: usize = 6;
    const EACH: usize = 700;
    const QUEUES: [&str; 3] = ["q{1}", "q{2}", "q{3}"];
    let server = Server::start(&[]);
    let (done, consumed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let taken: Vec<Vec<String>> = thread::scope(|scope| {
        let (server, done, consumed) = (&server, &done, &consumed);
        let consumers: Vec<_> =
            (0..9).map(|kind| scope.spawn(move || consume(server, kind, &QUEUES, done, consumed))).collect();
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                scope.spawn(move || {
                    let mut client = server.client();
                    for n in 0..EACH {
                        let (queue, element) = (QUEUES[(producer + n) % 3], format!("{producer}:{n}"));
                        match n % 4 {
                            0 => drop(client.call(&["RPUSH", queue, &element])),
                            1 => {
                                client.line("MULTI");
                                client.call(&["RPUSH", queue, &element]);
                                client.line("EXEC");
                            }
                            2 => {
                                let staged = format!("staged{producer}");
                                client.call(&["RPUSH", &staged, &element]);
                                client.call(&["LMOVE", &staged, queue, "LEFT", "RIGHT"]);
                            }
                            _ => drop(client.call(&["RPUSH", "entry", &element])),
                        }
                    }
                })
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().expect("a producer"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while consumed.load(Ordering::Relaxed) < PRODUCERS * EACH && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        done.store(true, Ordering::Relaxed);
        consumers.into_iter().map(|consumer| consumer.join().expect("a consumer")).collect()
    });
    let mut counts: HashMap<&str, usize> = HashMap::new();
    taken.iter().flatten().for_each(|element| *counts.entry(element).or_default() += 1);
    assert_eq!(counts.values().filter(|count| **count > 1).count(), 0, "given twice");
    assert_eq!(counts.len(), PRODUCERS * EACH, "lost");
    await_blocked(&server, 0);
    assert_eq!(server.client().line("DBSIZE").integer(), 0);
}

/// One consumer: it takes with one of the blocking commands until all is done.
fn consume(server: &Server, kind: usize, queues: &[&str; 3], done: &AtomicBool, consumed: &AtomicUsize) -> Vec<String> {
    let mut client = server.client();
    let mut taken = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let [a, b, c] = *queues;
        let sink = format!("sink{kind}");
        let reply = match kind {
            0 | 1 => client.call(&["BLPOP", a, b, c, "0.05"]),
            2 => client.call(&["BRPOP", c, b, "0.05"]),
            3 => client.call(&["BLMPOP", "0.05", "3", b, a, c, "LEFT", "COUNT", "3"]),
            4 => client.call(&["BLMOVE", a, &sink, "LEFT", "RIGHT", "0.05"]),
            5 => client.call(&["BRPOPLPUSH", b, &sink, "0.05"]),
            6 => client.call(&["BLPOP", c, "0.05"]),
            // What enters here goes on into a queue, often to somebody who is blocked on that.
            7 => client.call(&["BLMOVE", "entry", a, "LEFT", "RIGHT", "0.05"]),
            _ => client.call(&["BLMOVE", "entry", c, "LEFT", "RIGHT", "0.05"]),
        };
        let elements = match (kind, &reply) {
            (_, Reply::Nil) | (7.., _) => continue,
            (3, reply) => texts(&reply.items()[1]),
            (4 | 5, _) => vec![client.call(&["LPOP", &sink]).text()],
            (_, reply) => vec![reply.items()[1].text()],
        };
        consumed.fetch_add(elements.len(), Ordering::Relaxed);
        taken.extend(elements);
    }
    taken
}

/// A waiter for several keys on several shards, givers for each at the same time, time running out meanwhile: each element is
/// either taken or still there.
#[test]
fn timeouts_race_with_gifts() {
    let server = Server::start(&[]);
    const ROUNDS: usize = 400;
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..ROUNDS {
                    if client.line("BLPOP r1 r2 r3 r4 0.001") != Reply::Nil {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        for key in ["r1", "r2", "r3", "r4"] {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for n in 0..ROUNDS / 4 {
                    client.call(&["RPUSH", key, &n.to_string()]);
                    thread::sleep(Duration::from_micros(1500));
                }
            });
        }
    });
    let mut client = server.client();
    let left: i64 = ["r1", "r2", "r3", "r4"].iter().map(|key| client.call(&["LLEN", key]).integer()).sum();
    assert_eq!(taken.load(Ordering::Relaxed) as i64 + left, ROUNDS as i64);
    await_blocked(&server, 0);
}
