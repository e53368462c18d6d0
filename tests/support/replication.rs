//! What tests of replication ask of two servers, whatever their make.

use super::{Server, dataset};
use std::time::{Duration, Instant};

pub fn replicaof(replica: &Server, port: u16) {
    let reply = replica.client().call(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    assert!(reply.is_ok(), "{reply:?}");
}

pub fn wait_for_link(replica: &Server) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while replica.info("master_link_status") != "up" {
        assert!(Instant::now() < deadline, "the link does not come up\n{}", replica.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the replica has all of the primary's stream, then compares what both hold.
pub fn assert_same_data(primary: &Server, replica: &Server) {
    wait_for_link(replica);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let sent = primary.info("master_repl_offset");
        if replica.info("slave_repl_offset") == sent && primary.info("master_repl_offset") == sent {
            break;
        }
        assert!(Instant::now() < deadline, "the replica lags behind\n{}", replica.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    // A key may expire between the two looks, and its deletion be on its way.
    loop {
        let (left, right) = (dataset::read(&mut primary.client()), dataset::read(&mut replica.client()));
        if left == right {
            return;
        }
        if Instant::now() > deadline {
            assert_eq!(dataset::differences(&left, &right), Vec::<String>::new(), "{}", replica.log());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
