//! What Sentinel does to a server, again and again: a transaction that changes its role, has the configuration file rewritten and
//! sends everybody away. Whoever comes back, or comes new, is answered at once, however busy the machine is.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::replication::wait_for_link;
use support::{Client, Reply, Server};

/// Role changes of the test; `RSREDIS_PROMOTIONS` says otherwise.
const ROUNDS: u64 = 20;
/// The longest silence that anybody may meet: what Sentinel is told in its drill. Stock Redis and this server stay below a tenth of
/// it; the rest is for machines with more to do.
const SILENCE_MAX: Duration = Duration::from_secs(3);

fn rounds() -> u64 {
    std::env::var("RSREDIS_PROMOTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    over: AtomicBool,
    pongs: AtomicU64,
    /// The longest time between two answers that one thread has met, in microseconds.
    silence_us: AtomicU64,
}

/// Ends the threads, also when the test fails.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// Connects, asks some times and goes, for ever: the longest time without an answer is noted.
fn visit(port: u16, pings_per_visit: usize, shared: &Shared) {
    let mut last = Instant::now();
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(port) else { continue };
        for _ in 0..pings_per_visit {
            match client.try_call(&["PING"]) {
                Ok(Reply::Status(pong)) if pong == "PONG" => {
                    shared.silence_us.fetch_max(last.elapsed().as_micros() as u64, Ordering::Relaxed);
                    shared.pongs.fetch_add(1, Ordering::Relaxed);
                    last = Instant::now();
                }
                // Sent away, as Sentinel wants it.
                _ => break,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sentinel's transaction.
fn change_role(server: &Server, host: &str, port: &str) {
    let mut client = server.client();
    let commands: [&[&str]; 5] = [
        &["MULTI"],
        &["SLAVEOF", host, port],
        &["CONFIG", "REWRITE"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["CLIENT", "KILL", "TYPE", "pubsub"],
    ];
    for command in commands {
        client.call(command);
    }
    let reply = client.call(&["EXEC"]);
    assert!(matches!(reply.items(), [slaveof, rewrite, ..] if slaveof.is_ok() && rewrite.is_ok()), "{reply:?}");
}

#[test]
fn nobody_is_left_waiting_when_the_role_changes() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let dir = std::env::temp_dir().join(format!("rsredis-promotion-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let conf = dir.join("redis.conf");
    std::fs::write(&conf, "repl-diskless-sync-delay 0\n").expect("a file");
    let server = Server::start(&[conf.to_str().expect("text")]);
    let shared = Shared::default();
    std::thread::scope(|scope| {
        let _ending = Ending(&shared);
        for pings_per_visit in [1, 1, 50, 1000] {
            let (shared, port) = (&shared, server.port());
            scope.spawn(move || visit(port, pings_per_visit, shared));
        }
        for _ in 0..2 {
            // Keeps a core busy.
            scope.spawn(|| {
                while !shared.over.load(Ordering::Relaxed) {
                    std::hint::black_box((0..10_000).sum::<u64>());
                }
            });
        }
        let port = primary.port().to_string();
        for _ in 0..rounds() {
            change_role(&server, "127.0.0.1", &port);
            // While it loads, the role stays.
            wait_for_link(&server);
            change_role(&server, "NO", "ONE");
        }
    });
    let silence = Duration::from_micros(shared.silence_us.load(Ordering::Relaxed));
    let pongs = shared.pongs.load(Ordering::Relaxed);
    eprintln!("{} role changes, {pongs} answers, longest silence {} ms", 2 * rounds(), silence.as_millis());
    assert!(pongs > 2 * rounds(), "{pongs} answers only");
    assert!(silence < SILENCE_MAX, "silence for {} ms\n{}", silence.as_millis(), server.log());
    let text = std::fs::read_to_string(&conf).expect("the file");
    assert!(!text.contains("replicaof") && text.contains(&format!("port {}", server.port())), "{text}");
    std::fs::remove_dir_all(&dir).ok();
}
