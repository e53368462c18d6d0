//! DEBUG DIGEST is that of Redis: the same data on both servers has the same fingerprint, whatever the types and encodings.

mod support;

use std::process::{Child, Command, Stdio};
use support::server::free_port;
use support::{Client, Server, wait_until};

/// A stock server, where one is installed.
struct Stock {
    child: Child,
    port: u16,
}

impl Stock {
    fn start() -> Option<Stock> {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        wait_until("the stock server answers", || Client::connect(port).is_ok());
        Some(Stock { child, port })
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn fill(client: &mut Client) {
    for line in [
        "SET string value",
        "SET integer 12345678901",
        "SET volatile v EX 100000",
        "RPUSH list a 1 b -300 c",
        "SADD ints 1 2 3 -70000",
        "SADD words one two 3",
        "ZADD zset 1 a 2.5 b -inf c 0.1 d 1e300 e",
        "HSET hash field value n 17",
        "XADD stream 1-1 f v g w",
        "XADD stream 5-0 f v2",
        "SETBIT bits 7 1",
        "PFADD hll a b c",
    ] {
        client.line(line);
    }
    for number in 0..600 {
        client.call(&["SADD", "big-set", &format!("member:{number}")]);
        client.call(&["ZADD", "big-zset", &(number as f64 / 7.0).to_string(), &format!("member:{number}")]);
        client.call(&["HSET", "big-hash", &format!("field:{number}"), &"v".repeat(number % 90)]);
        client.call(&["RPUSH", "big-list", &format!("element:{number}:{}", "x".repeat(40))]);
    }
    client.line("SELECT 9");
    client.line("SET elsewhere v");
}

#[test]
fn the_same_data_has_the_digest_of_redis() {
    let Some(stock) = Stock::start() else { panic!("no redis-server (scripts/install-deps.sh)") };
    let server = Server::start(&[]);
    let (mut ours, mut theirs) = (server.client(), Client::connect(stock.port).expect("connected"));
    fill(&mut ours);
    fill(&mut theirs);
    for client in [&mut ours, &mut theirs] {
        client.line("SELECT 0");
    }
    let keys = ours.line("KEYS *");
    for key in keys.items() {
        let words = ["DEBUG", "DIGEST-VALUE", &key.text()];
        assert_eq!(ours.call(&words), theirs.call(&words), "{}", key.text());
    }
    assert_eq!(ours.line("DEBUG DIGEST"), theirs.line("DEBUG DIGEST"));
    ours.line("SET string other");
    assert_ne!(ours.line("DEBUG DIGEST"), theirs.line("DEBUG DIGEST"));
}
