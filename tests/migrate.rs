//! MIGRATE between servers: values of every kind arrive, nothing that is written meanwhile is lost, failures keep the keys.

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::server::free_port;
use support::{Client, Reply, Server};

/// A stock redis-server as the target.
struct Stock(Child, u16);

impl Stock {
    fn start() -> Stock {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--dir", "/tmp", "--requirepass", "word"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server");
        let stock = Stock(child, port);
        let end = Instant::now() + Duration::from_secs(10);
        while Client::connect(port).is_err() {
            assert!(Instant::now() < end, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        stock
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn values_move_to_a_stock_server() {
    let (server, stock) = (Server::start(&[]), Stock::start());
    let (mut source, mut target) = (server.client(), Client::connect(stock.1).expect("connected"));
    assert!(target.call(&["AUTH", "word"]).is_ok());
    assert!(target.call(&["SELECT", "3"]).is_ok());
    let lines = [
        "SET s value",
        "RPUSH l a b c",
        "SADD n 1 2 3",
        "HSET h f v",
        "ZADD z 1.5 m",
        "XADD x 1-1 f v",
        "SET t v PX 100000",
    ];
    for line in lines {
        source.line(line);
    }
    let port = stock.1.to_string();
    let refused = source.call(&["MIGRATE", "127.0.0.1", &port, "s", "3", "2000"]);
    assert!(refused.is_error("ERR Target instance replied with error: NOAUTH"), "{refused:?}");
    assert_eq!(source.line("EXISTS s"), Reply::Integer(1));

    let words = ["MIGRATE", "127.0.0.1", &port, "", "3", "2000", "AUTH", "word", "KEYS"];
    let keys = ["s", "l", "n", "h", "z", "x", "t", "absent"];
    let payloads: Vec<Reply> = keys[..6].iter().map(|key| source.call(&["DUMP", key])).collect();
    assert!(source.call(&[words.as_slice(), keys.as_slice()].concat()).is_ok());
    assert_eq!(source.line("DBSIZE"), Reply::Integer(0));
    assert_eq!(target.line("DBSIZE"), Reply::Integer(7));
    for (key, payload) in keys.iter().zip(&payloads) {
        assert_eq!(target.call(&["DUMP", key]), *payload, "{key}");
    }
    assert!((90_000..=100_000).contains(&target.line("PTTL t").integer()));
    assert_eq!(server.info("migrate_cached_sockets"), "1");
    assert_eq!(
        source.call(&words.map(|word| if word == "KEYS" { "COPY" } else { word })),
        Reply::Status("NOKEY".into())
    );
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let (from, to) = (Server::start(&[]), Server::start(&[]));
    let (mut source, mut target) = (from.client(), to.client());
    let port = to.port().to_string();
    source.line("SET k new");
    target.line("SET k old");
    let busy = source.call(&["MIGRATE", "127.0.0.1", &port, "k", "0", "1000"]);
    assert!(busy.is_error("ERR Target instance replied with error: BUSYKEY"), "{busy:?}");
    assert_eq!(target.line("GET k").text(), "old");
    assert!(source.call(&["MIGRATE", "127.0.0.1", &port, "k", "0", "1000", "COPY", "REPLACE"]).is_ok());
    assert_eq!((source.line("GET k").text(), target.line("GET k").text()), ("new".into(), "new".into()));
    let nowhere = source.call(&["MIGRATE", "127.0.0.1", &free_port().to_string(), "k", "0", "1000"]);
    assert!(nowhere.is_error("IOERR error or timeout"), "{nowhere:?}");
    assert_eq!(source.line("EXISTS k"), Reply::Integer(1));
    source.line("MULTI");
    source.call(&["MIGRATE", "127.0.0.1", &port, "k", "0", "1000", "REPLACE"]);
    assert!(source.line("EXEC").items()[0].is_error("ERR MIGRATE is not allowed inside a transaction"));
}

/// A counter that is incremented all the time moves: what the source has counted when it is gone is what the target has.
#[test]
fn writes_meanwhile_are_not_lost() {
    let (from, to) = (Server::start(&[]), Server::start(&[]));
    let port = to.port().to_string();
    let mut mover = from.client();
    for round in 0..20 {
        let key = format!("counter:{round}");
        let writer = std::thread::spawn({
            let (mut client, key) = (from.client(), key.clone());
            move || {
                // Until the key begins anew, which is when it has moved.
                let mut last = 0;
                for _ in 0..100_000 {
                    let now = client.call(&["INCR", &key]).integer();
                    if now <= last {
                        break;
                    }
                    last = now;
                }
                last
            }
        });
        while mover.call(&["EXISTS", &key]).integer() == 0 {
            std::thread::yield_now();
        }
        assert!(mover.call(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]).is_ok());
        let last = writer.join().expect("no panic");
        assert_eq!(to.client().call(&["GET", &key]).text(), last.to_string());
    }
}
