//! kill -9 at random moments under load: no acknowledged write is missing after the restart, whatever appendfsync says, since what
//! the kernel has survives the process. Rewrites run meanwhile, so that the moment often falls into one.
//!
//! (A power cut, which also takes what the kernel holds, is simulated in `persistence::crash_tests`.)

mod support;

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Client, Reply, Server};

const WRITERS: usize = 4;

/// One writer's list: it pushes 0, 1, 2 … and notes how many were acknowledged.
#[derive(Default)]
struct Log {
    acknowledged: usize,
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
        log.acknowledged += 1;
    }
}

/// One stretch of load that ends with a kill.
fn crash(server: &mut Server, logs: &mut [Log], after: Duration, rewrite: bool) {
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
        stop.store(true, Ordering::Relaxed);
    });
}

/// Compares what a restart has found with what was acknowledged, and takes the lists up as they are.
fn check(server: &Server, logs: &mut [Log]) {
    let mut client = server.client();
    for (index, log) in logs.iter_mut().enumerate() {
        let list = client.call(&["LRANGE", &format!("log:{index}"), "0", "-1"]);
        let found = list.items().len();
        for (number, item) in list.items().iter().enumerate() {
            assert_eq!(*item, Reply::Bulk(number.to_string().into_bytes()), "list {index} has a hole or a double");
        }
        let acknowledged = log.acknowledged;
        assert!(found >= acknowledged, "list {index}: {found} found, {acknowledged} acknowledged\n{}", server.log());
        assert!(found <= log.sent, "list {index}: {found} found, {} sent", log.sent);
        log.sent = found;
        log.acknowledged = found;
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

fn kill_again_and_again(appendfsync: &str, crashes: u64) {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", appendfsync]);
    let mut logs: Vec<Log> = (0..WRITERS).map(|_| Log::default()).collect();
    for (after, rewrite) in moments(crashes) {
        crash(&mut server, &mut logs, after, rewrite);
        server.restart();
        check(&server, &mut logs);
    }
    assert!(logs.iter().all(|log| log.sent > 100), "there was hardly any load");
    let info = server.info("aof_last_write_status");
    assert_eq!(info, "ok");
}

#[test]
fn always_loses_nothing_that_was_acknowledged() {
    kill_again_and_again("always", 60);
}

#[test]
fn everysec_loses_nothing_that_was_acknowledged() {
    kill_again_and_again("everysec", 30);
}

#[test]
fn no_sync_at_all_loses_nothing_that_was_acknowledged() {
    kill_again_and_again("no", 20);
}

/// The process dies while a sync is under way: that is when Redis may not have written yet.
#[test]
fn a_kill_during_a_sync_loses_nothing_that_was_acknowledged() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let mut logs: Vec<Log> = (0..WRITERS).map(|_| Log::default()).collect();
    for n in 0..4 {
        // The first sync comes a second after the start.
        crash(&mut server, &mut logs, Duration::from_millis(995 + 5 * n), false);
        server.restart();
        check(&server, &mut logs);
    }
}

/// Whether the files of commands hold this text now.
fn is_in_file(server: &Server, text: &str) -> bool {
    let entries = std::fs::read_dir(server.dir().join("appendonlydir")).expect("the directory");
    let incr =
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.to_string_lossy().contains(".incr."));
    // One that has become history may be gone meanwhile.
    incr.filter_map(|path| std::fs::read(path).ok()).any(|bytes| {
        let text = text.as_bytes();
        bytes.windows(text.len()).any(|window| window == text)
    })
}

#[test]
fn the_file_holds_a_write_when_its_reply_is_there() {
    for args in [&["--appendfsync", "everysec"], &["--appendfsync", "no"]] {
        let server =
            Server::start(&[args.as_slice(), &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]].concat());
        let await_rewrite =
            || support::wait_until("the rewrite is over", || server.info("aof_rewrite_in_progress") == "0");
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.client();
                    for n in 0..60 {
                        let mark = format!("mark:{worker}:{n}");
                        let script = "return redis.call('set', KEYS[1], ARGV[1])";
                        match n % 4 {
                            0 => drop(client.call(&["SET", "key", &mark])),
                            1 => {
                                client.line("MULTI");
                                client.call(&["RPUSH", "list", &mark]);
                                client.line("INCR counter");
                                client.line("EXEC");
                            }
                            2 => drop(client.call(&["EVAL", script, "1", "key", &mark])),
                            _ => {
                                // A read of what another connection has written, but may not have been answered yet.
                                let mut other = server.client();
                                other.send(&["SET", &format!("seen:{worker}"), &mark]).expect("sent");
                                let seen = Reply::Bulk(mark.clone().into_bytes());
                                while client.call(&["GET", &format!("seen:{worker}")]) != seen {}
                            }
                        }
                        assert!(is_in_file(server, &mark), "{mark} is not in the file");
                    }
                });
            }
        });
        // A blocked client is answered by another's write.
        let mut blocked = server.client();
        blocked.send(&["BLMOVE", "gifts", "taken:by:blmove", "LEFT", "LEFT", "0"]).expect("sent");
        support::wait_until("it is blocked", || server.info("blocked_clients") == "1");
        server.client().line("RPUSH gifts gift");
        assert_eq!(blocked.reply().expect("a reply").text(), "gift");
        assert!(is_in_file(&server, "taken:by:blmove"), "what the blocked client did");
        // Turned off and on again, and while a rewrite goes on.
        let mut client = server.client();
        client.line("CONFIG SET appendonly no");
        client.line("SET key written:while:off");
        assert!(!is_in_file(&server, "written:while:off"));
        assert!(client.line("CONFIG SET appendonly yes").is_ok());
        await_rewrite();
        client.line("SET key written:while:on");
        assert!(is_in_file(&server, "written:while:on"));
        client.line("CONFIG SET rdb-key-save-delay 100000");
        client.line("BGREWRITEAOF");
        client.line("SET key written:during:rewrite");
        assert!(is_in_file(&server, "written:during:rewrite"));
        client.line("CONFIG SET rdb-key-save-delay 0");
        await_rewrite();
        client.line("SET key written:after:rewrite");
        assert!(is_in_file(&server, "written:after:rewrite"));
    }
}

/// A power cut takes what the kernel had not written to the file yet: here its end is cut off, and a page becomes zeros.
#[test]
fn what_a_power_cut_takes_from_the_file_comes_back_from_the_redo_log() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let part = |name: &str| server.dir().join(format!("appendonlydir/appendonly.aof.{name}"));
    let (incr, redo) = (part("1.incr.aof"), part("redo"));
    let len = || std::fs::metadata(&incr).expect("the file").len();
    let mut logs: Vec<Log> = (0..WRITERS).map(|_| Log::default()).collect();
    for round in 0..6 {
        support::wait_until("the redo log", || redo.exists());
        // From here on nothing depends on the file alone.
        server.client().line("SET before now");
        server.client().line("SET before again");
        let sound = len();
        crash(&mut server, &mut logs, Duration::from_millis(100), false);
        let whole = len();
        let file = std::fs::OpenOptions::new().write(true).open(&incr).expect("the file");
        let middle = sound + (whole - sound) / (round + 2);
        file.write_all_at(&vec![0; ((whole - middle) / 2) as usize], middle).expect("room");
        file.set_len(whole - (whole - middle) / 3).expect("room");
        server.restart();
        assert!(len() >= whole, "round {round}");
        check(&server, &mut logs);
        assert!(server.log().contains("brought back from the redo log"), "{}", server.log());
    }
    assert!(logs.iter().all(|log| log.sent > 30), "there was hardly any load");
    assert!(server.terminate().success());
    assert!(!redo.exists(), "a clean shutdown needs no redo log");
}
