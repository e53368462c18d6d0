//! Replication under a bad network and restarts of either side, while data of every type is written: at the end both sides
//! hold the same, and every full resync has a reason. The network is a proxy that cuts, stalls and refuses.
//!
//! `RSREDIS_CHAOS_SECONDS` says for how long (ten minutes for the long form); without it some seconds do.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::dataset::Writer;
use support::replication::{assert_same_data, replicaof, wait_for_link};
use support::{Client, Proxy, Reply, Server, wait_until};

const BACKLOG: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "100mb"];

fn duration() -> Duration {
    let seconds = std::env::var("RSREDIS_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// Writes to a port until it is told to stop; a server that is away for a while is waited for.
struct Load {
    stop: Arc<AtomicBool>,
    steps: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, seed: u64) -> Load {
        let (stop, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&steps));
        let run = move || {
            let mut writer = Writer::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                let Ok(mut client) = Client::connect(port) else {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                };
                while !stopped.load(Ordering::Relaxed) && writer.step(&mut client).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        Load { stop, steps, thread: Some(std::thread::spawn(run)) }
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("running").join().expect("no panic");
        self.steps.load(Ordering::Relaxed)
    }
}

fn count(server: &Server, field: &str) -> u64 {
    server.info(field).parse().unwrap_or(0)
}

/// What happened, and so how many full resyncs are explained.
#[derive(Debug, Default)]
struct Events {
    cuts: u64,
    stalls: u64,
    refusals: u64,
    replica_saved: u64,
    replica_killed: u64,
    primary_saved: u64,
    primary_killed: u64,
}

fn chaos(mut primary: Server, proxy: &Proxy, mut replica: Server, seed: u64) {
    let mut dice = Writer::new(seed);
    let mut events = Events::default();
    let mut full_syncs = 0;
    wait_for_link(&replica);
    let load = Load::start(primary.port(), seed + 1);
    let end = Instant::now() + duration();
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(dice.below(300)));
        match dice.below(20) {
            0..8 => {
                proxy.cut_after(dice.below(20_000) + 1);
                events.cuts += 1;
            }
            8..13 => {
                proxy.stall();
                std::thread::sleep(Duration::from_millis(dice.below(300)));
                proxy.resume();
                events.stalls += 1;
            }
            13..16 => {
                proxy.refuse();
                std::thread::sleep(Duration::from_millis(dice.below(500)));
                proxy.admit();
                events.refusals += 1;
            }
            16 => {
                // It saves, and asks to go on from there.
                if replica.client().try_call(&["SHUTDOWN", "SAVE"]).is_err() {
                    replica.await_exit();
                }
                replica.restart();
                events.replica_saved += 1;
            }
            17 => {
                replica.restart();
                events.replica_killed += 1;
            }
            18 => {
                full_syncs += count(&primary, "sync_full");
                if primary.client().try_call(&["SHUTDOWN", "SAVE"]).is_err() {
                    primary.await_exit();
                }
                primary.restart();
                events.primary_saved += 1;
            }
            _ => {
                full_syncs += count(&primary, "sync_full");
                primary.restart();
                events.primary_killed += 1;
            }
        }
    }
    proxy.resume();
    proxy.admit();
    let steps = load.finish();
    assert_same_data(&primary, &replica);
    full_syncs += count(&primary, "sync_full");
    eprintln!("{steps} writes, {full_syncs} full resyncs, {events:?}");
    assert!(steps > 100, "{steps} writes only");
    // The first; one for each side that came back without its memory; and those that were cut while they ran, or asked for by a
    // replica whose saved history is older than its primary's restart.
    let restarts = events.replica_killed + events.replica_saved + events.primary_killed + events.primary_saved;
    let cuts = events.cuts + events.refusals;
    assert!(full_syncs <= 1 + 2 * restarts + cuts / 4, "{full_syncs} full resyncs: {events:?}\n{}", replica.log());
}

fn seed() -> u64 {
    std::process::id().into()
}

fn replica_args(proxy: &Proxy, more: &[&str]) -> Vec<String> {
    let port = proxy.port().to_string();
    let args = [&["--replicaof", "127.0.0.1", &port, "--repl-timeout", "10"], more, &BACKLOG].concat();
    args.into_iter().map(str::to_owned).collect()
}

fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn a_replica_of_a_stock_primary_survives_chaos() {
    let primary = Server::start_stock(&BACKLOG);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&strs(&replica_args(&proxy, &[])));
    chaos(primary, &proxy, replica, seed());
}

#[test]
fn a_stock_replica_of_ours_survives_chaos() {
    let primary = Server::start(&BACKLOG);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start_stock(&strs(&replica_args(&proxy, &[])));
    chaos(primary, &proxy, replica, seed());
}

#[test]
fn two_of_ours_survive_chaos() {
    let primary = Server::start(&BACKLOG);
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&strs(&replica_args(&proxy, &["--repl-diskless-load", "swapdb"])));
    chaos(primary, &proxy, replica, seed());
}

/// Promotes the replica that acknowledged, round after round, each time after the primary's sudden death.
#[test]
fn no_write_that_wait_confirmed_is_lost_in_a_promotion() {
    let rounds = if duration() > Duration::from_secs(60) { 50 } else { 4 };
    for round in 0..rounds {
        let mut primary = Server::start(&BACKLOG);
        let replica = Server::start(&BACKLOG);
        replicaof(&replica, primary.port());
        wait_for_link(&replica);
        let port = primary.port();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                std::thread::spawn(move || {
                    let mut confirmed = Vec::new();
                    let Ok(mut client) = Client::connect(port) else { return confirmed };
                    for n in 0.. {
                        let key = format!("{writer}:{n}");
                        let set = client.try_call(&["SET", &key, "v"]);
                        let wait = client.try_call(&["WAIT", "1", "0"]);
                        match (set, wait) {
                            (Ok(set), Ok(Reply::Integer(1))) if set.is_ok() => confirmed.push(key),
                            _ => break,
                        }
                    }
                    confirmed
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + 50 * round));
        primary.kill();
        assert!(replica.client().call(&["REPLICAOF", "NO", "ONE"]).is_ok());
        let mut client = replica.client();
        let mut total = 0;
        for confirmed in writers.into_iter().map(|writer| writer.join().expect("no panic")) {
            total += confirmed.len();
            let lost = confirmed.iter().filter(|key| client.call(&["EXISTS", key]) == Reply::Integer(0));
            assert_eq!(lost.count(), 0, "of {total}");
        }
        assert!(total > 20, "{total} writes only");
    }
}

/// A chain: the bytes that a replica passes on are its primary's, so all offsets agree, also after the middle was cut off.
#[test]
fn a_chain_has_one_history() {
    let primary = Server::start(&BACKLOG);
    let upper = Proxy::start(primary.port());
    let middle = Server::start(&BACKLOG);
    replicaof(&middle, upper.port());
    wait_for_link(&middle);
    let lower = Proxy::start(middle.port());
    let last = Server::start(&BACKLOG);
    let stock = Server::start_stock(&BACKLOG);
    replicaof(&last, lower.port());
    replicaof(&stock, middle.port());
    wait_for_link(&last);
    wait_for_link(&stock);
    let load = Load::start(primary.port(), seed());
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(150));
        upper.cut();
        std::thread::sleep(Duration::from_millis(50));
        lower.cut();
    }
    load.finish();
    for replica in [&middle, &last, &stock] {
        assert_same_data(&primary, replica);
        assert_eq!(replica.info("master_replid"), primary.info("master_replid"));
    }
    assert_eq!((primary.info("sync_full"), middle.info("sync_full")), ("1".into(), "2".into()), "only the first");
    // Nothing that expires: its deletion would be a change that only the old primary has.
    primary.client().call(&["FLUSHALL"]);
    assert_same_data(&primary, &middle);
    // The middle is promoted: those below it go on in its new history without a full sync.
    assert!(middle.client().call(&["REPLICAOF", "NO", "ONE"]).is_ok());
    assert!(middle.client().call(&["SET", "after", "promotion"]).is_ok());
    for replica in [&last, &stock] {
        assert_same_data(&middle, replica);
        assert_eq!(replica.info("master_replid"), middle.info("master_replid"));
        assert_eq!(replica.info("master_replid2"), primary.info("master_replid"));
    }
    assert_eq!(middle.info("sync_full"), "2");
    // And the old primary, which has seen nothing else, joins them with a partial sync as well.
    replicaof(&primary, middle.port());
    assert_same_data(&middle, &primary);
    assert_eq!(middle.info("sync_full"), "2");
    wait_until("all three are listed", || middle.info("connected_slaves") == "3");
}
