//! Three stock redis-sentinel processes watch a primary and two replicas of this server: they find all of them, fail over
//! when the primary is killed and when it only stops, and bring the old one back as a replica. A client of redis-py
//! follows, and no write that a replica had acknowledged is lost.

mod support;

use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::server::free_port;
use support::{Client, Reply, Server};

const NAME: &str = "drill";

/// Well above the second that a sentinel may let pass before it connects again: with a limit of one second, one that had just
/// tried to reach the dead primary when it heard of the new one finds that down before it has connected (a sentinel keeps the
/// time of its last try, and what the others said of the old primary).
const DOWN_AFTER_MS: u32 = 3000;

struct Sentinel {
    child: Child,
    port: u16,
    dir: PathBuf,
}

impl Sentinel {
    fn start(primary: u16) -> Sentinel {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("rsredis-sentinel-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let conf = dir.join("sentinel.conf");
        let text = format!(
            "port {port}\ndir {}\nsentinel monitor {NAME} 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {NAME} 8000\nsentinel parallel-syncs {NAME} 2\n",
            dir.display()
        );
        std::fs::write(&conf, text).expect("a file");
        let log = std::fs::File::create(dir.join("log")).expect("a file");
        let child = Command::new("redis-sentinel").arg(&conf).stdin(Stdio::null()).stdout(log).spawn();
        Sentinel { child: child.expect("redis-sentinel"), port, dir }
    }

    /// A field of what this sentinel knows of the primary.
    fn field(&self, name: &str) -> String {
        let Ok(mut client) = Client::connect(self.port) else { return String::new() };
        let reply = client.call(&["SENTINEL", "MASTER", NAME]);
        if let Reply::Error(_) = reply {
            return String::new();
        }
        let fields = reply.items();
        let found = fields.chunks(2).find(|pair| pair[0].text() == name);
        found.map_or_else(String::new, |pair| pair[1].text())
    }

    fn primary(&self) -> u16 {
        self.field("port").parse().unwrap_or(0)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.dir).ok();
        }
    }
}

fn wait(what: &str, limit: Duration, sentinels: &[Sentinel], mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() >= limit {
            let logs: Vec<String> = sentinels.iter().map(Sentinel::log).collect();
            panic!("timed out waiting until {what}\n{}", logs.join("\n-- the next sentinel\n"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

/// A server with a configuration file of its own, which Sentinel has it rewrite.
fn start(primary: Option<u16>) -> (Server, PathBuf) {
    let dir = std::env::temp_dir().join(format!("rsredis-drill-{}-{}", std::process::id(), free_port()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let conf = dir.join("redis.conf");
    let line = primary.map_or_else(String::new, |port| format!("replicaof 127.0.0.1 {port}\n"));
    std::fs::write(&conf, format!("# of the drill\nrepl-diskless-sync-delay 0\n{line}")).expect("a file");
    (Server::start(&[conf.to_str().expect("text")]), conf)
}

/// The client of redis-py, where its environment is installed.
fn follow(sentinels: &[Sentinel]) -> Option<(Child, BufReader<std::process::ChildStdout>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    if !python.exists() {
        eprintln!("no .venv: the client of redis-py is left out");
        return None;
    }
    let mut child = Command::new(python)
        .arg(root.join("scripts/sentinel_client.py"))
        .arg(NAME)
        .args(sentinels.iter().map(|sentinel| sentinel.port.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "writing\n");
    Some((child, output))
}

/// The primary that all sentinels name now.
fn agreed(sentinels: &[Sentinel]) -> Option<u16> {
    let first = sentinels[0].primary();
    (first != 0 && sentinels.iter().all(|sentinel| sentinel.primary() == first)).then_some(first)
}

/// Waits until all agree on a new primary that takes writes; how long that took.
fn await_failover(what: &str, sentinels: &[Sentinel], old: u16) {
    let took = wait("a replica is promoted and takes writes", Duration::from_secs(40), sentinels, || {
        agreed(sentinels).filter(|new| *new != old).is_some_and(|new| {
            Client::connect(new)
                .and_then(|mut client| client.try_call(&["SET", "after", "failover"]))
                .is_ok_and(|reply| reply.is_ok())
        })
    });
    eprintln!(
        "{what}: a new primary takes writes after {:.2} s (down-after {} s)",
        took.as_secs_f64(),
        f64::from(DOWN_AFTER_MS) / 1000.0
    );
}

/// Waits until an old primary follows whomever the sentinels agree on by then (they may fail over again), and its file says so.
fn await_replica(server: &Server, conf: &Path, sentinels: &[Sentinel]) {
    let mut text = String::new();
    let what = "the old primary follows the new one, and its file says so";
    wait(what, Duration::from_secs(60), sentinels, || {
        let Some(primary) = agreed(sentinels) else { return false };
        text = std::fs::read_to_string(conf).expect("the file");
        server.info("role") == "slave"
            && server.info("master_port") == primary.to_string()
            && server.info("master_link_status") == "up"
            && text.contains(&format!("replicaof 127.0.0.1 {primary}\n"))
    });
    assert!(text.starts_with("# of the drill\n"), "{text}");
}

#[test]
fn sentinels_fail_over_a_killed_and_a_stopped_primary() {
    let (first, first_conf) = start(None);
    let mut servers = vec![(first, first_conf)];
    for _ in 0..2 {
        let replica = start(Some(servers[0].0.port()));
        servers.push(replica);
    }
    let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(servers[0].0.port())).collect();
    wait("everybody is found", Duration::from_secs(30), &sentinels, || {
        sentinels.iter().all(|sentinel| {
            sentinel.field("num-slaves") == "2"
                && sentinel.field("num-other-sentinels") == "2"
                && sentinel.field("flags") == "master"
        })
    });
    for (replica, _) in &servers[1..] {
        wait("the replicas are in sync", Duration::from_secs(20), &sentinels, || {
            replica.info("master_link_status") == "up"
        });
    }
    let client = follow(&sentinels);

    // Killed.
    let old = servers[0].0.port();
    servers[0].0.kill();
    await_failover("SIGKILL", &sentinels, old);
    servers[0].0.restart();
    await_replica(&servers[0].0, &servers[0].1, &sentinels);

    // Stopped: alive for the kernel, dead for everybody else. Sentinel leaves it in peace for a while after a failover.
    wait("the last failover is over", Duration::from_secs(40), &sentinels, || {
        agreed(&sentinels).is_some()
            && sentinels
                .iter()
                .all(|sentinel| sentinel.field("flags") == "master" && sentinel.field("num-slaves") == "2")
    });
    let old = sentinels[0].primary();
    let index = servers.iter().position(|(server, _)| server.port() == old).expect("one of ours");
    servers[index].0.signal(Signal::SIGSTOP);
    await_failover("SIGSTOP", &sentinels, old);
    servers[index].0.signal(Signal::SIGCONT);
    await_replica(&servers[index].0, &servers[index].1, &sentinels);

    if let Some((mut child, mut output)) = client {
        std::thread::sleep(Duration::from_secs(1));
        child.stdin.take().expect("piped").write_all(b"stop\n").expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("a line");
        child.wait().expect("its end");
        eprintln!("redis-py: {}", line.trim());
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(matches!(words[..], ["acknowledged", count, "lost", "0", "outage", _] if count != "0"), "{line}");
    }
    assert!(
        sentinels[0].log().contains("+odown") || sentinels.iter().any(|sentinel| sentinel.log().contains("+odown"))
    );
}
