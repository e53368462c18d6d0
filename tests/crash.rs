//! kill -9 at random moments under load: under appendfsync always no acknowledged write is missing after the restart, under
//! everysec at most those of the last two seconds. Rewrites run meanwhile, so that the moment often falls into one.
//!
//! (A power cut, which also takes what the kernel holds, is simulated in `persistence::crash_tests`.)

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Client, Reply, Server};

const WRITERS: usize = 4;

/// One writer's list: it pushes 0, 1, 2 … and notes when each was acknowledged.
#[derive(Default)]
struct Log {
    acknowledged: Vec<Instant>,
    sent: usize,
}

/// Pushes until the server is gone.
fn push(port: u16, key: &str, log: &mut Log, stop: &AtomicBool) {
    let Ok(mut client) = Client::connect(port) else { return };
    while !stop.load(Ordering::Relaxed) {
        let number = log.sent.to_string();
        log.sent += 1;
        // Transactions too: a half of one must never be seen.
        let replies: &[&[&str]] = if log.sent.is_multiple_of(5) {
            &[
                &["MULTI"],
                &["RPUSH", key, &number],
                &["INCR", "transactions"],
                &["INCR", "transactions:again"],
                &["EXEC"],
            ]
        } else {
            &[&["RPUSH", key, &number]]
        };
        for words in replies {
            match client.try_call(words) {
                Ok(Reply::Error(text)) => panic!("{words:?}: {text}"),
                Ok(_) => {}
                Err(_) => return,
            }
        }
        log.acknowledged.push(Instant::now());
    }
}

/// One stretch of load that ends with a kill; returns the moment of it.
fn crash(server: &mut Server, logs: &mut [Log], after: Duration, rewrite: bool) -> Instant {
    let stop = Arc::new(AtomicBool::new(false));
    let port = server.port();
    std::thread::scope(|scope| {
        for (index, log) in logs.iter_mut().enumerate() {
            let stop = Arc::clone(&stop);
            scope.spawn(move || push(port, &format!("log:{index}"), log, &stop));
        }
        std::thread::sleep(after / 2);
        if rewrite {
            server.client().line("BGREWRITEAOF");
        }
        std::thread::sleep(after / 2);
        server.kill();
        let killed = Instant::now();
        stop.store(true, Ordering::Relaxed);
        killed
    })
}

/// Compares what a restart has found with what was acknowledged before `deadline`, and takes the lists up as they are.
fn check(server: &Server, logs: &mut [Log], deadline: Option<Instant>) {
    let mut client = server.client();
    for (index, log) in logs.iter_mut().enumerate() {
        let list = client.call(&["LRANGE", &format!("log:{index}"), "0", "-1"]);
        let found = list.items().len();
        for (number, item) in list.items().iter().enumerate() {
            assert_eq!(*item, Reply::Bulk(number.to_string().into_bytes()), "list {index} has a hole or a double");
        }
        let acknowledged = log.acknowledged.iter().filter(|at| deadline.is_none_or(|deadline| **at < deadline)).count();
        assert!(found >= acknowledged, "list {index}: {found} found, {acknowledged} acknowledged\n{}", server.log());
        assert!(found <= log.sent, "list {index}: {found} found, {} sent", log.sent);
        log.sent = found;
        log.acknowledged.resize(found, Instant::now());
    }
    let (first, second) = (client.line("GET transactions"), client.line("GET transactions:again"));
    assert_eq!(first, second, "half of a transaction");
}

/// Pseudo-random, the same in every run; what varies is where the kill meets the server.
fn moments(count: u64) -> impl Iterator<Item = (Duration, bool)> {
    (1..=count).map(|n| {
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (Duration::from_millis(10 + noise % 120), noise.is_multiple_of(3))
    })
}

#[test]
fn always_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut logs: Vec<Log> = (0..WRITERS).map(|_| Log::default()).collect();
    for (after, rewrite) in moments(60) {
        crash(&mut server, &mut logs, after, rewrite);
        server.restart();
        check(&server, &mut logs, None);
    }
    assert!(logs.iter().all(|log| log.sent > 100), "there was hardly any load");
    let info = server.info("aof_last_write_status");
    assert_eq!(info, "ok");
}

#[test]
fn everysec_loses_at_most_two_seconds() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "everysec"]);
    let mut logs: Vec<Log> = (0..WRITERS).map(|_| Log::default()).collect();
    for (after, rewrite) in moments(8) {
        let killed = crash(&mut server, &mut logs, after + Duration::from_millis(300), rewrite);
        server.restart();
        check(&server, &mut logs, killed.checked_sub(Duration::from_secs(2)));
    }
    // The process's own death takes only what was on its way to the kernel, milliseconds of it.
    let killed = crash(&mut server, &mut logs, Duration::from_millis(500), false);
    server.restart();
    check(&server, &mut logs, killed.checked_sub(Duration::from_millis(250)));
}
