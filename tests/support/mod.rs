//! What every integration test shares: the real server as a process, a small blocking client, redis-cli's line
//! splitting and printing, conformance scripts, and a proxy that cuts links.
//!
//! Each test crate uses a part of it, so unused items are no mistake here.
#![allow(dead_code, unused_imports)]

pub mod certs;
pub mod cli;
pub mod client;
pub mod dataset;
pub mod fuzz;
pub mod proxy;
pub mod replication;
pub mod script;
pub mod server;
pub mod stream_model;

pub use certs::Certs;
pub use client::{Client, Reply};
pub use proxy::Proxy;
pub use server::Server;

use std::time::{Duration, Instant};

/// Polls until `condition` holds; panics with `what` when it does not within ten seconds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
