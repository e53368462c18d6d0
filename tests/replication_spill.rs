//! `repl-spill-size`: a replica that falls far behind reads the stream from disk. It is not dropped, the primary's memory stays
//! bounded, and the files are there for as long as somebody needs them.

mod support;

use std::time::Duration;
use support::replication::{assert_same_data, replicaof, wait_for_link};
use support::{Proxy, Server, wait_until};

/// Far more than the replica's limit.
const WRITES: usize = 500;
const VALUE: usize = 100_000;

fn primary(spill_size: &str) -> Server {
    let limit = ["--client-output-buffer-limit", "replica 8mb 0 0", "--repl-backlog-size", "64kb"];
    Server::start(&[&limit, &["--repl-spill-size", spill_size, "--repl-diskless-sync-delay", "0"][..]].concat())
}

/// Writes for as long as it takes the cron to look some times.
fn write(server: &Server) {
    let mut client = server.client();
    for n in 0..WRITES {
        let value = format!("{n}:{}", "x".repeat(VALUE));
        assert!(client.call(&["SET", &format!("key:{}", n % 50), &value]).is_ok());
        if n % 20 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn number(server: &Server, field: &str) -> u64 {
    server.info(field).parse().unwrap_or_else(|_| panic!("{field} is no number"))
}

/// Both ends agree that the link is up.
fn wait_for_both(primary: &Server, replica: &Server) {
    wait_until("the replica is online", || primary.info("slave0").contains("state=online"));
    wait_for_link(replica);
}

/// Files of the stream in the server's directory.
fn files(server: &Server) -> usize {
    let entries = std::fs::read_dir(server.dir()).expect("its directory").flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("repl-spill.")).count()
}

#[test]
fn a_slow_replica_is_fed_from_disk_and_continues_after_a_cut() {
    for start in [Server::start as fn(&[&str]) -> Server, Server::start_stock] {
        let primary = primary("1gb");
        let proxy = Proxy::start(primary.port());
        let replica = start(&[]);
        replicaof(&replica, proxy.port());
        wait_for_link(&replica);
        proxy.stall();
        write(&primary);
        assert!(number(&primary, "repl_spill_bytes") > 20_000_000, "{}", primary.log());
        assert!(files(&primary) > 0);
        wait_until("memory is bounded", || number(&primary, "mem_total_replication_buffers") < 4_000_000);
        assert_eq!(number(&primary, "connected_slaves"), 1);
        proxy.resume();
        assert_same_data(&primary, &replica);
        assert_eq!((number(&primary, "sync_full"), number(&primary, "sync_partial_ok")), (1, 0));
        wait_until("the files are gone", || files(&primary) == 0 && number(&primary, "repl_spill_bytes") == 0);

        // The link is lost while it is behind: it goes on where it was.
        proxy.stall();
        write(&primary);
        assert!(files(&primary) > 0);
        proxy.refuse();
        proxy.resume();
        wait_until("the link is lost", || number(&primary, "connected_slaves") == 0);
        write(&primary);
        proxy.admit();
        assert_same_data(&primary, &replica);
        assert_eq!((number(&primary, "sync_full"), number(&primary, "sync_partial_ok")), (1, 1), "{}", primary.log());
        wait_until("the files are gone", || files(&primary) == 0);
    }
}

#[test]
fn more_than_the_limit_drops_the_replica_and_the_files() {
    let primary = primary("2mb");
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&[]);
    replicaof(&replica, proxy.port());
    wait_for_link(&replica);
    proxy.stall();
    write(&primary);
    wait_until("the replica is dropped", || primary.log().contains("is more than repl-spill-size behind"));
    wait_until("the files are gone", || files(&primary) == 0);
    proxy.resume();
    assert_same_data(&primary, &replica);
    assert_eq!(number(&primary, "sync_full"), 2);
}

#[test]
fn no_end_of_the_process_leaves_files_behind() {
    let mut primary = primary("1gb");
    let proxy = Proxy::start(primary.port());
    let replica = Server::start(&[]);
    replicaof(&replica, proxy.port());
    for ends_well in [false, true] {
        wait_for_both(&primary, &replica);
        proxy.stall();
        write(&primary);
        assert!(files(&primary) > 0);
        if ends_well {
            primary.client().send(&["SHUTDOWN", "NOW"]).expect("it reads");
            primary.await_exit();
        } else {
            primary.restart();
            proxy.resume();
        }
        assert_eq!(files(&primary), 0, "ends well: {ends_well}");
    }
}
