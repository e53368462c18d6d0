//! What stream commands leave in the append-only file, and so send to replicas, is what Redis leaves: the same bytes, but for
//! the times. And a server that has only that file holds the same streams.

mod support;

use std::fs;
use support::{Client, Reply, Server, wait_until};

const ARGS: &[&str] = &["--appendonly", "yes", "--appendfsync", "always", "--stream-node-max-entries", "3"];

/// A line with `B:` is sent by a second client, which blocks.
const LINES: &[&str] = &[
    "XADD s 1-1 f v",
    "XADD s 1-* f v",
    "XADD s 2 f v",
    "XADD s NOMKSTREAM 3-1 f v",
    "XADD nokey NOMKSTREAM 3-1 f v",
    "XADD s 3-2 f v",
    "XADD s 4-1 f v g w",
    "XADD s MAXLEN = 4 5-1 f v",
    "XADD s MAXLEN ~ 2 6-1 f v",
    "XADD s MINID ~ 5 7-1 f v",
    "XADD s MAXLEN ~ 1 LIMIT 3 8-1 f v",
    "XADD s MAXLEN 0 9-1 f v",
    "XADD s MAXLEN ~ 0 10-* f v",
    "XADD t 1-1 n 1",
    "XADD t 2-1 n 2",
    "XADD t 3-1 n 3",
    "XADD t 4-1 n 4",
    "XADD t 5-1 n 5",
    "XADD t 6-1 n 6",
    "XADD t 7-1 n 7",
    "XTRIM t MAXLEN ~ 6",
    "XTRIM t MAXLEN ~ 3",
    "XTRIM t MINID ~ 5",
    "XTRIM t MINID 5",
    "XDEL t 9-9",
    "XDEL t 6-1 9-9",
    "XGROUP CREATE t g 0",
    "XGROUP CREATE u g $ MKSTREAM",
    "XGROUP CREATE u h 5-0 ENTRIESREAD 3",
    "XGROUP CREATECONSUMER u g alice",
    "XGROUP CREATECONSUMER u g alice",
    "XADD u 1-1 n 1",
    "XADD u 2-1 n 2",
    "XADD u 3-1 n 3",
    "XADD u 4-1 n 4",
    "XREADGROUP GROUP g alice COUNT 2 STREAMS u >",
    "XREADGROUP GROUP g bob NOACK COUNT 1 STREAMS u >",
    "XREADGROUP GROUP g bob NOACK COUNT 1 STREAMS u >",
    "XREADGROUP GROUP g bob STREAMS u >",
    "XREADGROUP GROUP g alice STREAMS u 0",
    "XREADGROUP GROUP g carol STREAMS t u > >",
    "XACK u g 1-1 9-9",
    "XACK u g 9-9",
    "XCLAIM u g carol 0 2-1",
    "XCLAIM u g carol 0 2-1 JUSTID",
    "XCLAIM u g dave 0 3-1 4-1 FORCE RETRYCOUNT 7",
    "XCLAIM u g dave 0 9-9 LASTID 20-1",
    "XCLAIM u g dave 100000 2-1",
    "XDEL u 3-1",
    "XCLAIM u g erin 0 3-1",
    "XAUTOCLAIM u g erin 0 0 COUNT 1",
    "XDEL u 4-1",
    "XAUTOCLAIM u g frank 0 0 JUSTID",
    "XGROUP SETID u g 1-1 ENTRIESREAD 1",
    "XGROUP DELCONSUMER u g alice",
    "XGROUP DELCONSUMER u g nobody",
    "XSETID u 30-1",
    "XSETID u 30-2 ENTRIESADDED 40 MAXDELETEDID 5-0",
    "XGROUP DESTROY u h",
    "XGROUP DESTROY u h",
    "B:XREADGROUP GROUP g blocked BLOCK 0 STREAMS empty >",
    "XADD empty 1-1 f v",
    "B:XREADGROUP GROUP g quick NOACK BLOCK 0 STREAMS empty >",
    "XADD empty 2-1 f v",
    "B:XREAD BLOCK 0 STREAMS empty $",
    "XADD empty 3-1 f v",
    "MULTI",
    "XADD m 1-* f v",
    "XGROUP CREATE m g 0",
    "XREADGROUP GROUP g c STREAMS m >",
    "XADD m MAXLEN ~ 5 2-1 f v",
    "EXEC",
    "COPY u copy",
];

fn blocked_clients(server: &Server, count: usize) {
    wait_until("the client is blocked", || server.info("blocked_clients") == count.to_string());
}

/// Runs all lines; what they left in the file.
fn run(server: &Server) -> String {
    let (mut client, mut other) = (server.client(), server.client());
    client.line("XGROUP CREATE empty g $ MKSTREAM");
    let mut is_waiting = false;
    for line in LINES {
        if let Some(line) = line.strip_prefix("B:") {
            other.send(&line.split(' ').collect::<Vec<_>>()).expect("sent");
            blocked_clients(server, 1);
            is_waiting = true;
            continue;
        }
        let reply = client.line(line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
        if std::mem::take(&mut is_waiting) {
            assert!(matches!(other.reply(), Ok(Reply::Array(_))), "{line} serves the other client");
        }
    }
    let file = server.dir().join("appendonlydir/appendonly.aof.1.incr.aof");
    without_times(&String::from_utf8_lossy(&fs::read(file).expect("the incremental file")))
}

/// Milliseconds of today are the only numbers of thirteen digits.
fn without_times(text: &str) -> String {
    let is_time = |line: &str| line.len() == 13 && line.bytes().all(|byte| byte.is_ascii_digit());
    text.split("\r\n").map(|line| if is_time(line) { "TIME" } else { line }).collect::<Vec<_>>().join(" ")
}

/// One command per line, to see where files differ.
fn commands(text: &str) -> Vec<&str> {
    text.split(" *").collect()
}

fn state(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for key in ["s", "t", "u", "m", "empty", "copy"] {
        all.push(format!("{key}: {:?}", client.line(&format!("XRANGE {key} - +"))));
        // All but the number of nodes: deleted entries, which still fill them, are not in a rewritten file.
        let info = client.line(&format!("XINFO STREAM {key}"));
        all.push(format!("{key}: {:?} {:?}", &info.items()[..2], &info.items()[6..]));
        // Name, consumers, pending, last id. How much was read is not in the file: XCLAIM does not say it.
        for group in client.line(&format!("XINFO GROUPS {key}")).items() {
            all.push(format!("{key}: {:?}", &group.items()[..8]));
        }
        for group in ["g", "h"] {
            if let Reply::Array(lines) = client.line(&format!("XPENDING {key} {group} - + 100")) {
                let line = |line: &Reply| {
                    format!("{key} {group} {:?} {:?} {:?}", line.items()[0], line.items()[1], line.items()[3])
                };
                all.extend(lines.iter().map(line));
            }
        }
    }
    all
}

#[test]
fn the_file_is_the_one_that_redis_writes() {
    let (ours, stock) = (Server::start(ARGS), Server::start_stock(ARGS));
    let (here, there) = (run(&ours), run(&stock));
    assert_eq!(commands(&here), commands(&there));
    assert_eq!(state(&mut ours.client()), state(&mut stock.client()));
}

#[test]
fn the_file_alone_brings_the_streams_back() {
    for preamble in ["yes", "no"] {
        let args = [ARGS, &["--aof-use-rdb-preamble", preamble]].concat();
        let mut server = Server::start(&args);
        run(&server);
        let before = state(&mut server.client());
        server.restart();
        assert_eq!(state(&mut server.client()), before, "from the commands as they were sent");
        assert!(!matches!(server.client().line("BGREWRITEAOF"), Reply::Error(_)));
        wait_until("the file is rewritten", || {
            server.info("aof_rewrite_in_progress") == "0" && server.info("aof_rewrite_scheduled") == "0"
        });
        server.restart();
        assert_eq!(state(&mut server.client()), before, "from the rewritten file, preamble {preamble}");
    }
}
